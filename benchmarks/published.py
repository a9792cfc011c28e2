r"""Timings that papers print, beside ours on this machine, processor seconds of one thread: a row in a process of its own.

sweep        one Bellman sweep of 200 states, 200 actions and dense rows (Petrik's tutorial on robust decisions; its inventory
             is of that size, the rows here are Dirichlet), radius 0.25, or a budget of 0.25 a state
inventory    the s-rectangular inventory of Ho, Petrik and Wiesemann 2021, 3 m + 1 states, discount 0.995, budget 1.2, to 1e-3
projection   one row of n successors pushed to a level in Kullback-Leibler: here the worst row of a ball, whose one-dimensional
             search is the same and goes a step further
update       one s-rectangular update of S = A states and actions, Kullback-Leibler or chi-square
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from banach.mdp import MDP, Discounted, RobustMDP, instances
from banach.mdp.ambiguity import KL, L1, ChiSquare, SRectangular, WeightedL1
from banach.solvers import ValueIteration, solve

from .storage import write_json

TUTORIAL = "not stated (Petrik, tutorial)"
PARTIAL = "not stated (Ho, Petrik and Wiesemann, JMLR 2021)"
I9 = "Intel i9 3.6 GHz, one thread (Ho, Petrik and Wiesemann, NeurIPS 2022)"

Task = tuple[str, str, str, Callable[[], Any]]
"""What is done, what was printed, on which hardware, and the doing."""


def run(spelling: str, peers: list[str], repeat: int, out: Path) -> None:
    """Measure the tasks of a spelling, sweep, inventory, projection or update, and write them to `out` as JSON."""
    os.environ["BANACH_THREADS"] = "1"
    found: dict[str, Any] = {"spelling": spelling, "tasks": []}
    for task, published, hardware, act in _TASKS[spelling]():
        act()  # compiled
        seconds = [_seconds(act) for _ in range(repeat)]
        found["tasks"].append(
            {"task": task, "published": published, "hardware": hardware, "seconds": statistics.median(seconds)}
        )
        write_json(out, found)


def _seconds(act: Callable[[], Any]) -> float:
    began = time.process_time()
    act()
    return time.process_time() - began


def _sweeps() -> Iterator[Task]:
    rng, n, actions = np.random.default_rng(2), 200, 200
    rows = rng.dirichlet(np.ones(n), size=n * actions)
    model = MDP(
        np.arange(n + 1) * actions, np.arange(n * actions + 1) * n, np.tile(np.arange(n, dtype=np.int32), n * actions),
        rows.ravel(), rng.uniform(size=n * actions), Discounted(0.95),
    )  # fmt: skip
    weighted = WeightedL1(0.25, rng.uniform(0.5, 2.0, size=n))
    printed: tuple[tuple[str, str, Any], ...] = (
        ("nominal", ".04", None),
        ("L1, each row", ".6 (linear program 66)", L1(0.25)),
        ("weighted L1, each row", ".8 (linear program 72)", weighted),
        ("L1, s-rectangular", ".7 (linear program 1002)", SRectangular(L1(0.25))),
        ("weighted L1, s-rectangular", "1.2 (linear program 804)", SRectangular(weighted)),
    )
    value, out = rng.uniform(size=n), np.empty(n)
    for name, seconds, ambiguity in printed:
        operator: Any = model.operator if ambiguity is None else RobustMDP(model, ambiguity).operator
        policy = operator.blank_policy()
        yield f"sweep, 200 x 200 x 200: {name}", seconds, TUTORIAL, lambda o=operator, p=policy: o.apply(value, out, p)


def _inventories() -> Iterator[Task]:
    for states, *printed in ((12, ".00", ".00"), (72, ".01", ".13"), (144, ".05", ".60"), (288, ".27", "2.46")):
        m = states // 3
        model = instances.backlog_inventory(order=m, mean=float(m), discount=0.995)
        problem = RobustMDP(model, SRectangular(L1(1.2)))
        methods = (("partial policy iteration", "ours the default"), None), (("value iteration", "ours too"), ValueIteration())
        for ((theirs, ours), method), seconds in zip(methods, printed, strict=True):
            yield (
                f"s-rectangular inventory, {states} states (ours {model.n_states}): {theirs}, {ours}", seconds, PARTIAL,
                lambda p=problem, method=method: solve(RobustMDP(p.problem, p.ambiguity), method, eps=1e-3),
            )  # fmt: skip


def _projections() -> Iterator[Task]:
    rng = np.random.default_rng(3)
    for n, printed in ((100, ".00002 (MOSEK .0075)"), (1000, ".00024 (.049)"), (4000, ".00094 (.235)")):
        row, z = rng.dirichlet(np.ones(n)), rng.uniform(size=n)
        yield f"KL, one row, n = {n}", printed, I9, lambda row=row, z=z: KL(0.1).worst(row, z)


def _updates() -> Iterator[Task]:
    rng = np.random.default_rng(4)
    printed = {
        100: (".025 (first order, 3 iterations, .183; MOSEK .638)", ".003"),
        400: (".343 (first order 2.82; MOSEK 24.3)", ".048"),
        700: ("1.085 (first order 8.52; MOSEK 63.3)", ".148"),
    }
    for n, (kl, chi) in printed.items():
        rows, z = rng.dirichlet(np.ones(n), size=n), rng.uniform(size=(n, n))
        for name, ball, seconds in (("KL", KL(0.1 * n), kl), ("chi-square", ChiSquare(0.1 * n), chi)):
            yield (
                f"{name}, s-rectangular update, S = A = {n}", seconds, I9,
                lambda ball=ball, rows=rows, z=z: SRectangular(ball).worst(rows, z),
            )  # fmt: skip


_TASKS: dict[str, Callable[[], Iterator[Task]]] = {
    "sweep": _sweeps, "inventory": _inventories, "projection": _projections, "update": _updates,
}  # fmt: skip
