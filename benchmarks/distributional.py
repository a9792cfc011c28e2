r"""Laws of returns: how fast they are found, beside the memory they move: `python -m benchmarks.distributional`.

Each row runs in a process of its own; compilation and making the model are not in it. Wall and processor seconds are medians.

Sweeps are of a Garnet model's one policy (5 successors, discount 0.9, rewards of pairs), categorical, in float64. A sweep of n
laws of m atoms has to read them and write them once, 16 n m bytes (`least`); where successors are spread over an array that no
cache holds, every outcome's law comes from memory, and the old one for the distance between them, (5 + 2) 8 n m bytes
(`moved`). Both over the bandwidth of a triad, bytes over its processor seconds between the sweeps of each row, are times; x is
the sweep's processor seconds on one thread over the second. The target is x <= 2. The first two rows fit into caches: there
arithmetic decides, 5 multiplications an atom to mix, about 4 and two indexed additions to project, some 5 ns. With a bus of 40
GB/s to itself x would be 3 or 4 on one thread, and the target missed.

The peer is scipy.sparse: P @ laws, then the projection of all states as one sparse matrix with two entries a column, both made
before (24 bytes an atom); it does not measure how far the laws moved, ours does.

Quantile sweeps of the same models merge the successors' atoms. The peer is numpy: all of them sorted, row by row.

Exact laws: every pair of a Garnet model (5 successors) earns 0, 1 or 2, and the laws of the sums of 50 rewards are found on the
integers, between two distribution functions that differ by what sums of floats round, backward, all 51 stages kept.

Control: `cvar_bracket` at level 0.1, a proved bracket on the best CVaR from state 0 of all policies with memory, on a Garnet
model of 3 actions and 5 successors, discount 0.9. The lattice holds at most 200 stocks; its spacing, a power of two, makes them
fewer. The target is a minute of wall time for 100,000 states.

Wall times depend on what else runs: go by processor seconds, which two threads add up.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from banach.mdp import FiniteHorizon, instances
from banach.mdp.law_sweeps import policy_rows
from banach.mdp.outcome import OutcomeMDP
from banach.solvers import Categorical, Quantiles, cvar_bracket, return_laws
from scipy.sparse import csc_array, csr_array

from . import cells, machine
from .apart import measured
from .bandwidth import stream
from .storage import write_json, write_page

_HERE = Path(__file__).parent
_TIMEOUT = 900.0
_ENOUGH = 20.0
"""Seconds of work after which it is not repeated."""
_SCIPY_MOST = 30_000_000
"""Atoms up to which scipy's projection is made: it takes 24 bytes an atom, and more while it is made."""
_ATOMS = 5_000_000
"""Atoms that are swept between two looks at the clock."""
_TRIAD = 2**24
SUCCESSORS, DISCOUNT = 5, 0.9
LEVEL, STOCKS = 0.1, 200

ROWS: dict[str, tuple[tuple[int, int], ...]] = {
    "sweep": ((1_000, 51), (20_000, 51), (100_000, 51), (100_000, 201), (1_000_000, 51)),
    "quantiles": ((1_000, 51), (20_000, 51)),
    "exact": ((1_000, 101), (10_000, 101)),
    "control": ((2_000, STOCKS), (20_000, STOCKS), (100_000, STOCKS)),
}


def main(arguments: list[str] | None = None) -> int:
    """Measure the rows of the kinds, write the JSON, then the page of all that is there; 0 when every row was measured."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.distributional", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("kinds", nargs="*", metavar="kind", help=f"{', '.join(ROWS)}; the others are kept (all)")
    parser.add_argument("--repeat", type=int, default=5, metavar="N", help="repetitions, of which medians are shown (5)")
    parser.add_argument("--quick", action="store_true", help="only the smallest row of each kind")
    parser.add_argument("--out", type=Path, default=_HERE / "results", help="folder of the JSON file (benchmarks/results)")
    parser.add_argument("--row", nargs=4, metavar=("KIND", "STATES", "SIZE", "OUT"), help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.row:
        kind, states, size, out = options.row
        write_json(Path(out), measure(kind, int(states), int(size), options.repeat))
        return 0
    for kind in options.kinds:
        if kind not in ROWS:
            parser.error(f"there is no kind {kind!r}; there are {', '.join(ROWS)}")
    path = options.out / "distributional.json"
    found = json.loads(path.read_text()) if path.exists() else {}
    said = ["python -m benchmarks.distributional", *options.kinds, f"--repeat {options.repeat}", *(["--quick"] * options.quick)]
    options.out.mkdir(parents=True, exist_ok=True)
    for kind in options.kinds or ROWS:
        found[kind] = {
            "command": " ".join(said),
            "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "machine": machine.description(),
            "load": os.getloadavg()[0],
            "rows": [
                {"states": states, "size": size}
                | measured("distributional", [kind, str(states), str(size)], options.repeat, _TIMEOUT)
                for states, size in (ROWS[kind][:1] if options.quick else ROWS[kind])
            ],
        }
        write_json(path, found)
    write_page(options.out.parent / "DISTRIBUTIONAL.md", page(found))
    return int(any("failure" in row for kind in found for row in found[kind]["rows"]))


def measure(kind: str, states: int, size: int, repeat: int) -> dict[str, Any]:
    """What a row of a kind says: states, size (atoms, integers or stocks), and medians of times."""
    work = {"sweep": _sweep, "quantiles": _quantiles, "exact": _exact, "control": _control}[kind]
    return {"states": states, "size": size} | work(states, size, repeat)


def _sweep(states: int, size: int, repeat: int) -> dict[str, Any]:
    ours = OurSweeps(states, Categorical(size))
    works: dict[str, Callable[[], None]] = {"one": lambda: ours.sweep(1), "two": lambda: ours.sweep(2)}
    differ = None
    if states * size <= _SCIPY_MOST:
        theirs = ScipySweeps(ours.model, size, ours.ends)
        works["scipy"] = theirs.sweep
        for _ in range(3):
            ours.sweep(1)
            theirs.sweep()
        differ = float(np.abs(theirs.masses.cumsum(axis=1) - ours.table).max())
    ours.sweep(1)
    many = max(1, _ATOMS // (states * size))
    vectors = [np.full(_TRIAD, float(k)) for k in range(3)]
    streams, spent = [], {name: [] for name in works}
    for _ in range(repeat):
        streams.append(_clocked(lambda: stream(0, _TRIAD, *vectors)))
        for name, work in works.items():
            spent[name].append(_clocked(work, many))
    found: dict[str, Any] = {"bandwidth": 24 * _TRIAD / _median(streams[1:] or streams)["processor"], "differ": differ}
    found |= {"least": 16 * states * size, "moved": 8 * (SUCCESSORS + 2) * states * size}
    return found | {name: _median(each) for name, each in spent.items()}


def _quantiles(states: int, size: int, repeat: int) -> dict[str, Any]:
    ours = OurSweeps(states, Quantiles(size))
    theirs = NumpyQuantiles(ours.model, ours.table.copy())
    for _ in range(3):
        ours.sweep(1)
        theirs.sweep()
    differ = float(np.abs(theirs.atoms - ours.table).max())
    many = max(1, _ATOMS // (20 * states * size))
    spent = [(_clocked(lambda: ours.sweep(1), many), _clocked(theirs.sweep, many)) for _ in range(repeat)]
    one, numpy = (_median(list(each)) for each in zip(*spent, strict=True))
    return {"differ": differ, "one": one, "numpy": numpy}


class OurSweeps:
    """Sweeps of a Garnet model's one policy from the middle of the returns."""

    def __init__(self, states: int, projection: Categorical | Quantiles) -> None:
        problem = instances.garnet(states=states, actions=1, successors=SUCCESSORS, discount=DISCOUNT)
        self.model, self.projection = OutcomeMDP(problem), projection
        self.rows, self.ends = policy_rows(self.model, np.zeros(states, dtype=np.int32)), self.model.returns_within()
        self.table = projection.begin(self.model, self.ends)
        self.out = self.table.copy()

    def sweep(self, threads: int) -> None:
        """One, on so many threads."""
        os.environ["BANACH_THREADS"] = str(threads)
        self.projection.sweep(self.rows, self.ends, self.table, self.out)
        self.table, self.out = self.out, self.table


class NumpyQuantiles:
    """The same sweeps on atoms (n, m), by sorting; one action, and as many outcomes, in every state."""

    def __init__(self, model: OutcomeMDP, atoms: np.ndarray) -> None:
        problem, (n, m) = model.problem, atoms.shape
        self.model, self.atoms = model, atoms
        self.successor = problem.successor.reshape(n, -1)
        self.weights = np.repeat(problem.probability.reshape(n, -1) / m, m, axis=1)

    def sweep(self) -> None:
        """One. In whole numbers: how many levels (2 i + 1)/(2 m) each atom reaches, a row's beyond those of the rows before."""
        n, m = self.atoms.shape
        moved = self.model.problem.reward[:, None] + self.model.discount * self.atoms[self.successor].reshape(n, -1)
        order = moved.argsort(axis=1)
        levels = np.take_along_axis(self.weights, order, axis=1).cumsum(axis=1)
        offset = np.arange(n)[:, None] * (m + 1)
        reached = np.minimum(((levels + 1e-12) * m + 0.5).astype(np.int64), m)
        reached[:, -1] = m
        at = np.searchsorted((reached + offset).ravel(), (np.arange(1, m + 1) + offset).ravel()).reshape(n, m)
        self.atoms = np.take_along_axis(moved, order, axis=1).ravel()[at]


class ScipySweeps:
    """The same sweeps on masses (n, m), by two products with sparse matrices; rewards are of pairs, one a state."""

    def __init__(self, model: OutcomeMDP, points: int, ends: tuple[float, float]) -> None:
        problem, n = model.problem, model.n_states
        self.transition = csr_array((problem.probability, problem.successor, problem.row_ptr), shape=(n, n))
        spacing = (ends[1] - ends[0]) / (points - 1)
        place = (problem.reward[:, None] + model.discount * np.linspace(*ends, points) - ends[0]) / spacing
        cell = np.clip(place.astype(np.int32), 0, points - 2)
        upper = np.clip(place - cell, 0.0, 1.0)
        cell += np.arange(n, dtype=np.int32)[:, None] * points
        shares, at = np.stack([1 - upper, upper], axis=-1).ravel(), np.stack([cell, cell + 1], axis=-1).ravel()
        pointers = np.arange(0, 2 * n * points + 1, 2, dtype=np.int32)
        self.projection = csc_array((shares, at, pointers), shape=(n * points, n * points))
        middle = (points - 1) / 2
        self.masses = np.zeros((n, points))
        self.masses[:, int(middle)] = 1 - middle % 1
        self.masses[:, -int(-middle // 1)] += middle % 1

    def sweep(self) -> None:
        """One."""
        self.masses = (self.projection @ (self.transition @ self.masses).ravel()).reshape(self.masses.shape)


def _exact(states: int, size: int, repeat: int) -> dict[str, Any]:
    """Rewards 0..2 over H decisions: size = 2 H + 1 atoms a state."""
    horizon = (size - 1) // 2
    drawn = instances.garnet(states=states, actions=1, successors=SUCCESSORS, discount=DISCOUNT)
    reward = np.random.default_rng(1).integers(0, 3, states).astype(float)
    problem = drawn.replace(reward=reward, criterion=FiniteHorizon(horizon))
    policy = np.zeros(states, dtype=np.int32)
    return_laws(problem.replace(criterion=FiniteHorizon(1)), policy, size + 2)
    spent = []
    for _ in range(repeat):
        if sum(wall for wall, _ in spent) < _ENOUGH:
            spent.append(_clocked(lambda: return_laws(problem, policy, size + 2)))
    found = return_laws(problem, policy, size + 2).certificate
    return {"horizon": horizon, "atoms": states * found.lattice.points, "width": found.width, "ours": _median(spent)}


def _control(states: int, size: int, repeat: int) -> dict[str, Any]:
    small, problem = (instances.garnet(states=n, actions=3, successors=SUCCESSORS, discount=DISCOUNT) for n in (50, states))
    cvar_bracket(small, LEVEL, points=size)
    found: dict[str, Any] = {}
    spent = []

    def work() -> None:
        bracket = cvar_bracket(problem, LEVEL, points=size)
        found.update(lower=bracket.lower, upper=bracket.upper, sweeps=bracket.stock.sweeps)
        found.update(stocks=bracket.stock.certificate.lattice.points)

    for _ in range(repeat):
        if sum(wall for wall, _ in spent) < _ENOUGH:
            spent.append(_clocked(work))
    return found | {"ours": _median(spent)}


def _clocked(work: Callable[[], object], many: int = 1) -> tuple[float, float]:
    """Wall and processor seconds of one of many."""
    began, used = time.perf_counter(), time.process_time()
    for _ in range(many):
        work()
    return (time.perf_counter() - began) / many, (time.process_time() - used) / many


def _median(spent: list[tuple[float, float]]) -> dict[str, float]:
    wall, processor = zip(*spent, strict=True)
    return {"seconds": statistics.median(wall), "processor": statistics.median(processor), "repeated": len(spent)}


def page(run: dict[str, Any]) -> str:
    """DISTRIBUTIONAL.md."""
    tables = {
        "sweep": (
            "Categorical sweeps",
            "Milliseconds a sweep: wall (processor). differ: the largest difference of the distribution functions after three.",
            "states|atoms|GB/s|least|moved|one thread|x|two threads|scipy|scipy over ours|differ",
            _swept,
        ),
        "quantiles": (
            "Quantile sweeps",
            "Milliseconds a sweep: wall (processor), one thread. differ: the largest difference of atoms after three.",
            "states|atoms|ours|numpy|numpy over ours|differ",
            _merged,
        ),
        "exact": (
            "Exact laws on the integers",
            "Seconds: wall (processor), one thread. width: W_1 between the two laws that are proved.",
            "states|decisions|atoms a stage|seconds|width",
            _exactly,
        ),
        "control": (
            "Control with a stock",
            "Seconds: wall (processor), both processors, both sides of the bracket.",
            "states|stocks|sweeps|seconds|bracket",
            _controlled,
        ),
    }
    parts = []
    for kind, (title, units, head, line) in tables.items():
        if kind in run:
            rows = cells.table(head, (line(row) for row in run[kind]["rows"]))
            parts += [f"## {title}", "", units, "", _where(run[kind]), "", rows]
    return "\n".join(
        [
            "# Laws of returns, beside the memory they move",
            "",
            "\n".join((__doc__ or "").splitlines()[2:]).strip(),
            "",
            *parts,
        ]
    )


def _where(run: dict[str, Any]) -> str:
    where = run["machine"]
    versions = ", ".join(f"{name} {where['versions'][name]}" for name in ("banach", "numpy", "scipy", "numba"))
    return (
        f"`{run['command']}`, {run['date']}, commit {where['commit']}, load {run['load']:.1f}; {where['processor']}, "
        f"{where['processors']} processors; {versions}."
    )


def _swept(row: dict[str, Any]) -> list[str]:
    if "one" not in row:
        return [cells.count(row["states"]), str(row["size"]), row.get("failure", "")] + [""] * 8
    floors = [row[name] / row["bandwidth"] for name in ("least", "moved")]
    one, scipy = row["one"]["processor"], row.get("scipy")
    return [
        cells.count(row["states"]),
        str(row["size"]),
        f"{row['bandwidth'] / 1e9:.1f}",
        *(f"{1e3 * floor:.3g}" for floor in floors),
        _both(row["one"], 1e3),
        f"{one / floors[1]:.2f}",
        _both(row["two"], 1e3),
        _both(scipy, 1e3) if scipy else "",
        f"{scipy['processor'] / one:.1f}" if scipy else "",
        f"{row['differ']:.1g}" if scipy else "",
    ]


def _merged(row: dict[str, Any]) -> list[str]:
    if "one" not in row:
        return [cells.count(row["states"]), str(row["size"]), row.get("failure", ""), "", "", ""]
    ratio = row["numpy"]["processor"] / row["one"]["processor"]
    both = [_both(row[name], 1e3) for name in ("one", "numpy")]
    return [cells.count(row["states"]), str(row["size"]), *both, f"{ratio:.1f}", f"{row['differ']:.1g}"]


def _exactly(row: dict[str, Any]) -> list[str]:
    if "ours" not in row:
        return [cells.count(row["states"]), "", "", row.get("failure", ""), ""]
    atoms = cells.count(row["atoms"])
    return [cells.count(row["states"]), str(row["horizon"]), atoms, _both(row["ours"], 1.0), f"{row['width']:.1g}"]


def _controlled(row: dict[str, Any]) -> list[str]:
    if "ours" not in row:
        return [cells.count(row["states"]), "", "", row.get("failure", ""), ""]
    bracket = f"[{row['lower']:.4g}, {row['upper']:.4g}]"
    return [cells.count(row["states"]), str(row["stocks"]), str(row["sweeps"]), _both(row["ours"], 1.0), bracket]


def _both(clock: dict[str, float], scale: float) -> str:
    return f"{scale * clock['seconds']:.3g} ({scale * clock['processor']:.3g})"


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main())
