r"""Bisimulation minimisation beside Storm's and BisPy's, and reduce-then-solve beside solve: `python -m benchmarks.quotients`.

Each row runs in a process of its own. What is timed is from a model in memory to classes and merged model; compilation and the
building of each library's own model are not in it. Storm minimises sparse MDPs with all labels and rewards, on one thread;
BisPy, pure Python, refines graphs without probabilities (Paige and Tarjan), which on these models gives the same classes. Every
answer is compared with the number of classes that is known. Our own partition is proved a bisimulation in the same row, apart.

The slope is that of log seconds over log(z log2 n), least squares, over a family's rows of at least 1e5 transitions: 1 is what
O(z log n) promises, caches apart.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.util
import math
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from banach.mdp import MDP, quotient
from banach.mdp.storage import atomic_file
from banach.solvers import coarsest_bisimulation, solve, stability

from . import machine
from .apart import measured
from .quotient_models import MODELS
from .storage import write_json

_HERE = Path(__file__).parent
_TIMEOUT = 900.0
_STORM_MOST = 12_000_000
_BISPY_MOST = 300_000
_ENOUGH = 5.0

ROWS: dict[str, tuple[int, ...]] = {
    "product": (6, 8, 10, 11, 12),
    "square": (31, 101, 301, 501, 911),
    "copies": (40, 400, 4_000, 16_000, 40_000),
}
REDUCED = (("irrelevant", 8), ("irrelevant", 13), ("square", 101), ("square", 501), ("product", 10), ("copies", 4_000))


def main(arguments: list[str] | None = None) -> int:
    """Measure all rows and write the table; 0 when every count is right."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quotients", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repeat", type=int, default=3, metavar="N", help="repetitions, of which medians are shown (3)")
    parser.add_argument("--quick", action="store_true", help="only the smallest row of each family")
    parser.add_argument("--out", type=Path, default=_HERE / "results", help="folder of the JSON file (benchmarks/results)")
    parser.add_argument("--row", nargs=3, metavar=("KIND", "SIZE", "OUT"), help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.row:
        kind, size, out = options.row
        _measure(kind, int(size), options.repeat, Path(out))
        return 0
    rows = {kind: sizes[:1] if options.quick else sizes for kind, sizes in ROWS.items()}
    reduced = REDUCED[:1] if options.quick else REDUCED
    run = {
        "command": " ".join(["python -m benchmarks.quotients", f"--repeat {options.repeat}", *(["--quick"] * options.quick)]),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "machine": machine.description(),
        "load": os.getloadavg()[0],
        "rows": [_apart(kind, size, options.repeat) for kind, sizes in rows.items() for size in sizes],
        "reduced": [_apart(f"solve:{kind}", size, options.repeat) for kind, size in reduced],
    }
    options.out.mkdir(parents=True, exist_ok=True)
    write_json(options.out / "quotients.json", run)
    with atomic_file(options.out.parent / "QUOTIENTS.md") as temporary:
        Path(temporary).write_text(_markdown(run))
    return int(any("failure" in row or not row.get("right", True) for row in (*run["rows"], *run["reduced"])))


def _apart(kind: str, size: int, repeat: int) -> dict[str, Any]:
    """The row, measured in a process of its own."""
    return {"kind": kind, "size": size} | measured("quotients", [kind, str(size)], repeat, _TIMEOUT)


def _measure(kind: str, size: int, repeat: int, out: Path) -> None:
    solving = kind.startswith("solve:")
    model, classes = MODELS[kind.removeprefix("solve:")](size)
    found: dict[str, Any] = {"kind": kind, "size": size, "classes": classes}
    found |= {"states": model.n_states, "pairs": model.n_pairs, "transitions": model.n_transitions}
    if solving:
        found |= _reduce_then_solve(model, repeat)
        write_json(out, found)
        return
    small, _ = MODELS[kind](ROWS[kind][0])
    _ours(small)  # compiled
    found["ours"] = _timed(lambda: _ours(model), repeat)
    found["right"] = found["ours"]["classes"] == classes
    partition = coarsest_bisimulation(model, actions="any")
    began = time.perf_counter()
    found["stable"], found["proof_seconds"] = bool(stability(model, partition)), time.perf_counter() - began
    write_json(out, found)
    for name, package, most, build in (("bispy", "bispy", _BISPY_MOST, _bispy), ("storm", "stormpy", _STORM_MOST, _storm)):
        if model.n_transitions <= most and importlib.util.find_spec(package):
            began = time.perf_counter()
            work = build(model)
            built = time.perf_counter() - began
            found[name] = {"build_seconds": built, **_timed(work, repeat)}
            write_json(out, found)


def _timed(work: Callable[[], int], repeat: int) -> dict[str, Any]:
    """Medians of wall and processor seconds, and what the work found."""
    seconds, processor, classes = [], [], -1
    while len(seconds) < repeat and sum(seconds) < _ENOUGH:
        began, used = time.perf_counter(), time.process_time()
        classes = work()
        seconds.append(time.perf_counter() - began)
        processor.append(time.process_time() - used)
    return {"seconds": statistics.median(seconds), "processor": statistics.median(processor), "classes": classes}


def _ours(model: MDP) -> int:
    return quotient(model, coarsest_bisimulation(model, actions="any")).model.n_states


def _storm(model: MDP) -> Callable[[], int]:
    from stormpy.transformations import perform_bisimulation

    from .peers.closed import closed
    from .peers.storm import _Question, _sparse_mdp

    mdp: Any = _sparse_mdp(_Question(closed(model), "", np.flatnonzero(model.terminal)))
    return lambda: perform_bisimulation(mdp, []).nr_states


def _bispy(model: MDP) -> Callable[[], int]:
    """States and pairs are nodes; pairs start in blocks of equal reward."""
    import bispy
    import networkx

    n = model.n_states
    graph = networkx.DiGraph()
    graph.add_nodes_from(range(n + model.n_pairs))
    graph.add_edges_from(zip(model.pair_state.tolist(), range(n, n + model.n_pairs), strict=True))
    owner = n + np.repeat(np.arange(model.n_pairs), np.diff(model.row_ptr))
    graph.add_edges_from(zip(owner.tolist(), model.successor.tolist(), strict=True))
    _, kind = np.unique(model.reward, return_inverse=True)
    labels = np.concatenate((np.where(model.terminal, 1, 0), 2 + kind))
    blocks = [np.flatnonzero(labels == label).tolist() for label in np.unique(labels)]

    def work() -> int:
        found = bispy.compute_maximum_bisimulation(graph, blocks)
        return sum(block[0] < n for block in found)

    return work


def _reduce_then_solve(model: MDP, repeat: int) -> dict[str, Any]:
    """Wall seconds of both, certificates of 1e-6 for the original included."""
    solve(MODELS["irrelevant"](2)[0], reduce=0)
    solve(MODELS["irrelevant"](2)[0])
    found: dict[str, Any] = {}
    for name, reduce in (("direct", None), ("reduced", 0.0)):
        widths = []

        def work(reduce: float | None = reduce, widths: list[float] = widths) -> int:
            widths.append(solve(model.replace(), eps=1e-6, reduce=reduce).certificate.width)
            return 0

        found[name] = _timed(work, repeat) | {"width": max(widths)}
    return found


def _markdown(run: dict[str, Any]) -> str:
    where = run["machine"]
    versions = ", ".join(f"{name} {where['versions'][name]}" for name in ("banach", "numpy", "numba", "stormpy"))
    lines = [
        "# Bisimulation, beside other people's",
        "",
        "\n".join((__doc__ or "").splitlines()[2:]).strip(),
        "",
        f"`{run['command']}`, {run['date']}, commit {where['commit']}, load {run['load']:.1f}; {where['processor']}, "
        f"{where['processors']} processors; {versions}.",
        "",
        "## Minimisation",
        "",
        "Seconds (processor seconds). ratio: Storm's processor seconds over ours; above 1 ours is the faster.",
        "",
        "| model | states | transitions | classes | ours | proof | Storm | BisPy | ratio |",
        "|-|-|-|-|-|-|-|-|-|",
        *(_line(row) for row in run["rows"]),
        "",
        "Slope against z log2 n: " + ", ".join(f"{kind} {slope:.2f}" for kind, slope in _slopes(run["rows"]).items()) + ".",
        "",
        "## Reduce, then solve",
        "",
        "Seconds to a certificate of width 1e-6 for the model itself, the quotient's time included.",
        "",
        "| model | states | transitions | classes | solve | solve(reduce=0) | ratio |",
        "|-|-|-|-|-|-|-|",
        *(_solved(row) for row in run["reduced"]),
        "",
    ]
    return "\n".join(lines)


def _line(row: dict[str, Any]) -> str:
    ours, storm = row.get("ours"), row.get("storm")
    ratio = f"{storm['processor'] / ours['processor']:.1f}" if ours and storm else ""
    cells = [
        f"{row['kind']} {row['size']}",
        _count(row.get("states")),
        _count(row.get("transitions")),
        _count(row.get("classes")),
    ]
    cells += [_cell(ours, row), "" if "proof_seconds" not in row else f"{row['proof_seconds']:.3g}", _cell(storm, row)]
    return "| " + " | ".join([*cells, _cell(row.get("bispy"), row), ratio]) + " |"


def _cell(found: dict[str, Any] | None, row: dict[str, Any]) -> str:
    if found is None:
        return row.get("failure", "") if "ours" not in row else ""
    wrong = "" if found["classes"] == row["classes"] else f", {found['classes']} classes"
    return f"{found['seconds']:.3g} ({found['processor']:.3g}){wrong}"


def _solved(row: dict[str, Any]) -> str:
    cells = [f"{row['kind'].removeprefix('solve:')} {row['size']}", _count(row.get("states")), _count(row.get("transitions"))]
    cells.append(_count(row.get("classes")))
    if "reduced" not in row:
        return "| " + " | ".join([*cells, row.get("failure", ""), "", ""]) + " |"
    both = [f"{row[name]['seconds']:.3g} ({row[name]['processor']:.3g})" for name in ("direct", "reduced")]
    return "| " + " | ".join([*cells, *both, f"{row['direct']['seconds'] / row['reduced']['seconds']:.2f}"]) + " |"


def _slopes(rows: list[dict[str, Any]]) -> dict[str, float]:
    slopes = {}
    for kind in dict.fromkeys(row["kind"] for row in rows):
        own = [row for row in rows if row["kind"] == kind and "ours" in row and row["transitions"] >= 100_000]
        if len(own) > 1:
            work = [math.log(row["transitions"] * math.log2(row["states"])) for row in own]
            slopes[kind] = float(np.polyfit(work, [math.log(row["ours"]["processor"]) for row in own], 1)[0])
    return slopes


def _count(number: int | None) -> str:
    return "" if number is None else f"{number:,}".replace(",", " ")


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main())
