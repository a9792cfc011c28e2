"""The robust sections of the report: updates of single states, interval models, large problems, published timings."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from .cells import count, fastest, lead, number, of, seconds, table, times
from .ours import NAME
from .robust import BESIDE_STORM

UPDATES = {("l1", "pairs"): 1000.0, ("l1", "transitions"): 100.0, ("kl", ""): 50.0, ("chi2", ""): 200.0}
"""Targets against the fastest general solver, by distance and by what rewards depend on."""
INTERVALS = 10.0
MINUTE = 60.0
_CORRECT = ("correct", "certified")
_LARGE = 9_000


def sections(runs: Sequence[dict[str, Any]]) -> list[str]:
    """Headings and tables of what was measured; none where nothing was."""
    rows = [(run, row) for run in runs for row in run["rows"]]
    updates = [row for _, row in rows if row.get("kind") == "updates"]
    models = [(run, row) for run, row in rows if row.get("kind") == "robust"]
    raced = [(run, row) for run, row in models if row["spelling"].partition(":")[0] in BESIDE_STORM]
    alone = [(run, row) for run, row in models if row["spelling"].partition(":")[0] not in BESIDE_STORM]
    searches = [row for _, row in rows if row.get("kind") == "search"]
    published = [row for _, row in rows if row.get("kind") == "published"]
    parts = []
    if updates:
        parts += [_UPDATES, table(_UPDATE_COLUMNS, map(_update, updates, [None, *updates]))]
    if raced:
        parts += [_INTERVALS, table(_INTERVAL_COLUMNS, (_interval(run, row) for run, row in raced))]
    if alone:
        parts += [_ALONE, table(_ALONE_COLUMNS, (_alone(run, row) for run, row in alone))]
    if searches:
        parts += [_SEARCHES, table(_SEARCH_COLUMNS, map(_search, searches))]
    if published:
        parts += [_PUBLISHED, table("task|published s|hardware|ours s", (line for row in published for line in _lines(row)))]
    return parts


_UPDATES = """## Robust: one state's s-rectangular update

Processor microseconds an update, five actions, one thread. Ours: sweeps of the operator over all states, and `proved` sweeps
that enclose every value, rounding included; general solvers solve the same states one by one, warm, from arrays or with a
program compiled once. Rewards of pairs leave one value vector for all actions, whose order one sort finds; rewards of
transitions do not. Growth: our time over that of the row before, in units of the growth of n log n. Targets: how many times
as fast.
"""
_UPDATE_COLUMNS = "update|ours|proved|fastest general solver|ratio|target|growth"
_INTERVALS = f"""## Robust: interval models

Seconds (processor seconds) to 1e-6; ours proves its bracket, Storm's engine has no bounds. Target from 1e4 states up:
{INTERVALS:.0f} times as fast. Sweep: milliseconds of a robust Bellman sweep, and the floor of the nominal one at the measured
bandwidth. Build: the model from arrays.
"""
_INTERVAL_COLUMNS = (
    "instance|states|transitions|ours|storm|ratio|verdict on storm|sweep ms|nominal sweep ms|floor ms|build s|storm's build s"
)
_ALONE = f"""## Robust: large problems

Certified to 1e-4, rounding included. Target: a million states in under {MINUTE:.0f} s.
"""
_ALONE_COLUMNS = "instance|states|transitions|seconds|width|passes|nominal s|sweep ms|nominal sweep ms|floor ms|peak RSS GB"
_SEARCHES = """## Robust: incremental worst-case search

Rows of nature's set that are solved, enclosures included, until the value at the start is certain to 1e-6; in brackets
milliseconds. The search asks about one policy a round and solves problems over the rows found, `known`, besides; published: how
the search of the paper ends. Value and policy iteration prove all states.
"""
_SEARCH_COLUMNS = "problem|pairs|rounds|search|known rows|published|value iteration|policy iteration"
_PUBLISHED = """## Robust: published timings

Printed in the papers named, on the hardware named, beside ours on this machine, processor seconds of one thread.
"""


def _update(row: dict[str, Any], before: dict[str, Any] | None) -> list[str]:
    ours, proved, peer = of(row, NAME), of(row, f"{NAME}:proved"), fastest(row, NAME, _CORRECT)
    distance, _, rewards = row["spelling"].partition(":")
    target = UPDATES.get((distance, rewards.partition("rewards=")[2]), UPDATES.get((distance, "")))
    found = lead(peer, ours, "median_processor")
    verdict = "" if target is None else f"{target:.0f}" + ("" if found is None or found >= target else " missed")
    return [
        row["spelling"], _micro(ours), _micro(proved), "none" if peer is None else f"{peer['name']} {_micro(peer)}",
        times(found), verdict, _growth(row, before),
    ]  # fmt: skip


def _growth(row: dict[str, Any], before: dict[str, Any] | None) -> str:
    """Time over the time of the row before, divided by the same for n log n."""
    if before is None or row["spelling"].split(":")[0] != before["spelling"].split(":")[0]:
        return ""
    now, then = of(row, NAME), of(before, NAME)
    n, m = row["successors"], before["successors"]
    if now is None or then is None or n <= m:
        return ""
    return f"{now['median_processor'] / then['median_processor'] / (n * math.log(n) / (m * math.log(m))):.2f}"


def _interval(run: dict[str, Any], row: dict[str, Any]) -> list[str]:
    ours, peer = of(row, NAME), of(row, "storm:robust_vi")
    found, verdict = lead(peer, ours), next((r for r in row.get("competitors", []) if r["name"] != NAME), None)
    missed = found is not None and found < INTERVALS and row["states"] >= _LARGE
    return [
        row["spelling"], count(row.get("states")), count(row.get("transitions")),
        row.get("failure") or seconds(ours), "none" if peer is None else seconds(peer),
        times(found) + (f" (target {INTERVALS:.0f})" if missed else ""),
        "" if verdict is None else verdict["failure"] or verdict["verdict"], *_sweeps(run, row),
        number(row.get("build_seconds")), number(None if peer is None else peer["build_seconds"]),
    ]  # fmt: skip


def _alone(run: dict[str, Any], row: dict[str, Any]) -> list[str]:
    ours = of(row, NAME)
    late = ours is not None and ours["median_seconds"] > MINUTE
    return [
        row["spelling"], count(row.get("states")), count(row.get("transitions")),
        (row.get("failure") or seconds(ours)) + (f" (target {MINUTE:.0f} s)" if late else ""),
        "" if ours is None else f"{ours['width']:.1e}", number(row.get("sweeps")), number(row.get("nominal_seconds")),
        *_sweeps(run, row), f"{row['peak_rss_bytes'] / 1e9:.1f}" if "peak_rss_bytes" in row else "",
    ]  # fmt: skip


def _sweeps(run: dict[str, Any], row: dict[str, Any]) -> list[str]:
    if "sweep_seconds" not in row:
        return ["", "", ""]
    floor = row["sweep_bytes"] / run["bandwidth"]
    return [f"{1e3 * one:.3g}" for one in (row["sweep_seconds"], row["nominal_sweep_seconds"], floor)]


def _search(row: dict[str, Any]) -> list[str]:
    def told(way: str) -> str:
        return f"{row[way]['rows']} ({1e3 * row[way]['seconds']:.2g})" if way in row else row.get("failure", "")

    return [
        row["spelling"], count(row.get("pairs")), str(row.get("search", {}).get("rounds", "")), told("search"),
        str(row.get("search", {}).get("known_rows", "")), row.get("published search", {}).get("status", "").lower(),
        told("value iteration"), told("policy iteration"),
    ]  # fmt: skip


def _lines(row: dict[str, Any]) -> list[list[str]]:
    return [[one["task"], one["published"], one["hardware"], number(one["seconds"])] for one in row.get("tasks", [])]


def _micro(record: dict[str, Any] | None) -> str:
    return "" if record is None else f"{1e6 * record['median_processor']:.3g}"
