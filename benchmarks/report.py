"""The results as Markdown: the race, what our own time and memory went into, targets missed, and every competitor in full."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from . import report_robust
from .cells import count, fastest, lead, named, number, of, seconds, table, times
from .ours import NAME

FASTER = 2.5
"""Target against the fastest peer with a correct answer, certified or not, from 1e4 states up."""
FASTER_CERTIFIED = 10.0
"""Target against the fastest certified peer, on fast-mixing models from 1e4 states up."""
SHARE = 0.2
MEMORY = 1.3
SWEEP = 2.0
_LARGE = 9_000
"""States from which the targets hold: the grids of about 1e4 states have a few less."""
_MEASURABLE = 8_000_000
"""Bytes of a model below which the peak memory of a process says nothing, and a cache holds what a sweep reads."""

_HEAD = """# Speed, beside other people's solvers

Time to a verified sup-norm error of 1e-6. Ours returns a proved bracket at most 2e-6 wide, and its time includes the proof;
every answer is compared with a reference that is proved to 1e-8 where rounding allows. All competitors run in one process in
turn, A B C A B C ...; what is shown are medians, compilation excluded, building the model apart (last table). Who has used 5
seconds is not run again.

- `certified`: the solver's own bounds contain the optimum and are at most 2e-6 apart
- `correct`: within 1e-6, without such bounds
- `missed`: further away than 1e-6; `wrong bounds`: they exclude the optimum; `unverified`: no reference decides

Written by `python -m benchmarks`; it replaces the families that it runs and keeps the others.
"""


def markdown(runs: Sequence[dict[str, Any]]) -> str:
    """The whole report of the families' results."""
    rows = [(run, row) for run in runs for row in run["rows"] if row.get("kind", "model") == "model"]
    parts = [
        _HEAD,
        _machine(runs),
        "## The race\n\nSeconds (processor seconds); ratio: how many times as long as ours the fastest peer takes.\n",
        table(
            "instance|states|transitions|ours|fastest correct peer|ratio|fastest certified peer|ratio",
            (_race(row) for _, row in rows),
        ),
        "## Our own time and memory\n\nCertificate: its share of the solve. Sweep: one Bellman sweep over all actions; floor: "
        "its bytes at the measured bandwidth, which a sweep that a cache serves may undercut. Memory: peak over an idle "
        "process, in the model's own arrays plus eight vectors, for models of 8 MB and more.\n",
        table(
            "instance|threads|method|passes|certificate|sweep ms|floor ms|ratio|peak memory|peak RSS GB",
            (_inside(run, row) for run, row in rows),
        ),
        _targets(rows),
        *report_robust.sections(runs),
        "## Every competitor\n",
        table(
            "instance|competitor|verdict|solve s|fastest s|processor s|build s|error|width of bounds",
            (line for run in runs for row in run["rows"] for line in _everybody(row)),
        ),
    ]
    return "\n".join(parts)


def _machine(runs: Sequence[dict[str, Any]]) -> str:
    lines = []
    for run in runs:
        machine = run["machine"]
        versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items() if version)
        settings = ", ".join(
            f"{key}={machine[key] or 'unset'}" for key in ("BANACH_THREADS", "OMP_NUM_THREADS", "NUMBA_NUM_THREADS")
        )
        text = (
            f"{machine['processor']}, {machine['processors']} processors, {machine['memory_gb']} GB, {machine['system']}, "
            f"Python {machine['python']}; {versions}; ours runs on {machine['threads']} threads where a model has 400 000 "
            f"transitions or more and on one below, peers on one ({settings})."
        )
        when = (
            f"{run['family']}: `{run['command']}`, {run['date'][:16]}, commit {machine['commit']}, load {run['load']:.1f}, "
            f"triad {run['bandwidth'] / 1e9:.1f} GB/s"
        )
        lines.append((text, when))
    texts = list(dict.fromkeys(text for text, _ in lines))
    return "\n".join(line for text in texts for line in (text, "", *(f"- {when}" for own, when in lines if own == text), ""))


def _race(row: dict[str, Any]) -> list[str]:
    ours, peer, certified = of(row, NAME), fastest(row, NAME, ("correct", "certified")), fastest(row, NAME, ("certified",))
    ratio, certified_ratio = lead(peer, ours), lead(certified, ours)
    missed = _large(row) and ratio is not None and ratio < FASTER
    missed_certified = _large(row) and row.get("mixes") and certified_ratio is not None and certified_ratio < FASTER_CERTIFIED
    return [
        row["spelling"],
        count(row.get("states")),
        count(row.get("transitions")),
        row.get("failure") or seconds(ours),
        named(peer),
        times(ratio) + (f" (target {FASTER})" if missed else ""),
        named(certified),
        times(certified_ratio) + (f" (target {FASTER_CERTIFIED:.0f})" if missed_certified else ""),
    ]


def _inside(run: dict[str, Any], row: dict[str, Any]) -> list[str]:
    share, sweep, floor, memory = _share(row), row.get("sweep_seconds"), _floor(run, row), _memory(row)
    method = str(row.get("method", "")).partition("(")[0]
    return [
        row["spelling"],
        str(row.get("threads", "")),
        method,
        "" if row.get("sweeps") is None else f"{row['sweeps']:.0f}",
        "" if share is None else f"{100 * share:.0f} %",
        "" if sweep is None else f"{1e3 * sweep:.3g}",
        "" if floor is None else f"{1e3 * floor:.3g}",
        "" if sweep is None or floor is None else f"{sweep / floor:.1f}",
        "" if memory is None else f"{memory:.2f}",
        f"{row['peak_rss_bytes'] / 1e9:.2f}" if "peak_rss_bytes" in row else "",
    ]


def _targets(rows: Sequence[tuple[dict[str, Any], dict[str, Any]]]) -> str:
    """The targets, and each row that misses one."""
    missed = []
    for run, row in rows:
        if "failure" in row:
            missed.append(f"- {row['spelling']}: {row['failure']}")
            continue
        ours, floor, sweep = of(row, NAME), _floor(run, row), row.get("sweep_seconds")
        ratio = lead(fastest(row, NAME, ("correct", "certified")), ours)
        certified_ratio, share, memory = lead(fastest(row, NAME, ("certified",)), ours), _share(row), _memory(row)
        if ours is not None and ours["verdict"] != "certified":
            missed.append(f"- {row['spelling']}: our own answer is {ours['verdict']}")
        if not _large(row):
            continue
        if ratio is not None and ratio < FASTER:
            missed.append(f"- {row['spelling']}: {ratio:.2f} times as fast as the fastest peer, target {FASTER}")
        if row.get("mixes") and certified_ratio is not None and certified_ratio < FASTER_CERTIFIED:
            missed.append(
                f"- {row['spelling']}: {certified_ratio:.1f} times as fast as the fastest certified peer, target "
                f"{FASTER_CERTIFIED:.0f}"
            )
        if share is not None and share > SHARE:
            missed.append(
                f"- {row['spelling']}: the certificate takes {100 * share:.0f} % of the solve, target {100 * SHARE:.0f} %"
            )
        if memory is not None and memory > MEMORY:
            missed.append(f"- {row['spelling']}: peak memory {memory:.2f} times arrays plus eight vectors, target {MEMORY}")
        if row.get("local") and sweep and floor and row.get("own_bytes", 0) >= _MEASURABLE and sweep > SWEEP * floor:
            missed.append(f"- {row['spelling']}: a sweep takes {sweep / floor:.1f} times the floor, target {SWEEP:.0f}")
    head = (
        f"## Targets missed\n\nFrom 1e4 states up: {FASTER} times as fast as the fastest peer; {FASTER_CERTIFIED:.0f} times as "
        f"fast as the fastest certified one on fast-mixing models; certificate under {100 * SHARE:.0f} % of the solve; peak "
        f"memory under {MEMORY} times the model's arrays plus eight vectors; a sweep within {SWEEP:.0f} times the bandwidth's "
        "floor on models with locality that no cache holds.\n\n"
    )
    return head + ("\n".join(missed) if missed else "None.") + "\n"


def _everybody(row: dict[str, Any]) -> Iterator[list[str]]:
    for record in row.get("competitors", []):
        taken = record["seconds"]
        yield [
            row["spelling"],
            record["name"],
            record["failure"] or record["verdict"],
            number(record["median_seconds"]),
            number(min(taken)) if taken else "",
            number(record["median_processor"]),
            number(record["build_seconds"]),
            "" if record["error"] is None else f"{record['error']:.1e}",
            "" if record["width"] is None else f"{record['width']:.1e}",
        ]


def _large(row: dict[str, Any]) -> bool:
    return row.get("states", 0) >= _LARGE


def _share(row: dict[str, Any]) -> float | None:
    return row.get("certificate_share")


def _floor(run: dict[str, Any], row: dict[str, Any]) -> float | None:
    return row["sweep_bytes"] / run["bandwidth"] if "sweep_bytes" in row else None


def _memory(row: dict[str, Any]) -> float | None:
    own = row.get("own_bytes", 0)
    return row["peak_bytes"] / own if own >= _MEASURABLE else None
