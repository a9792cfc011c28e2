r"""Incremental worst-case search beside dynamic programming: how many of nature's inner problems each of them solves.

A spelling is `NATURE=NUMBER:NOMINAL`: `l1`, `kl` balls of that radius; `wasserstein`, of that radius in the distance of state
numbers; `scenarios`, that many rows for every pair, drawn as Garnet draws them; `winds`, that many winds of the windy walk, one
for every pair. The search asks nature about one policy a round; sweeps ask her about every pair. What is counted is rows of
her set solved, enclosures included; the search's own problems, over the rows found so far, are counted apart.
"""

from __future__ import annotations

import importlib
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from banach.mdp import MDP, RobustMDP, instances
from banach.mdp.ambiguity import KL, L1, Scenarios, Wasserstein
from banach.mdp.dense import spread
from banach.mdp.robust_operator import RobustOperator
from banach.solvers import ValueIteration, solve

from . import models
from .storage import write_json

iwocs = importlib.import_module("banach.solvers.iwocs")
EPS = 1e-6


def run(spelling: str, peers: list[str], repeat: int, out: Path) -> None:
    """Measure the row and write it to `out` as JSON."""
    nature = problem(spelling)
    start = int(np.argmax(nature.problem.initial))
    ways: dict[str, Callable[[], Any]] = {
        "search": lambda: iwocs.iwocs(nature, start, eps=EPS),
        "published search": lambda: iwocs.iwocs(nature, start, eps=EPS, repaired=False),
        "value iteration": lambda: solve(fresh(nature), ValueIteration(), eps=EPS),
        "policy iteration": lambda: solve(fresh(nature), eps=EPS),
    }
    found: dict[str, Any] = {"spelling": spelling, "states": nature.n_states, "pairs": nature.n_pairs}
    for way, act in ways.items():
        act()  # compiled
        seconds = [_seconds(act) for _ in range(repeat)]
        with counted() as rows:
            answer = act()
        found[way] = {"seconds": float(np.median(seconds)), "rows": rows["nature"], "known_rows": rows["known"]}
        if isinstance(answer, iwocs.WorstCaseSearch):
            found[way] |= {
                "rounds": len(answer.rounds), "status": answer.status.name, "lower": answer.lower, "upper": answer.upper
            }  # fmt: skip
        else:
            bounds = answer.certificate
            found[way] |= {"lower": float(bounds.lower[start]), "upper": float(bounds.upper[start])}
        write_json(out, found)


def problem(spelling: str) -> RobustMDP:
    """The robust problem of a spelling."""
    kind, _, name = spelling.partition(":")
    kind, _, amount = kind.partition("=")
    if kind == "winds":
        walks = [spread(instances.windy_walk(alpha)) for alpha in np.linspace(0.0, 0.5, int(amount))]
        return RobustMDP(walks[0], _scenarios(walks))
    model = models.make(name)
    model = model.negated() if model.criterion.minimize else model
    if kind == "scenarios":
        others = [models.make(f"{name},seed={1 + k}").replace(reward=model.reward) for k in range(int(amount) - 1)]
        return RobustMDP(spread(model), _scenarios([spread(one) for one in (model, *others)]))
    if kind == "wasserstein":
        places = np.arange(model.n_states, dtype=float)
        return RobustMDP(model, Wasserstein(float(amount), np.abs(places[:, None] - places)))
    return RobustMDP(model, {"l1": L1, "kl": KL}[kind](float(amount)))


def fresh(nature: RobustMDP) -> RobustMDP:
    """The problem with nothing kept from an earlier solve."""
    return RobustMDP(nature.problem, nature.ambiguity)


@contextmanager
def counted() -> Iterator[Counter[str]]:
    """Counts rows solved within it: of nature's set, and of the search's own problems over `known` rows."""
    rows, where = Counter(), ["nature"]
    worths, enclose, hull, least = RobustOperator._worths, RobustOperator.enclose, iwocs._hull, iwocs._least_of_all

    def count_some(operator: RobustOperator, pairs: np.ndarray, *rest: Any) -> Any:
        rows[where[-1]] += len(pairs)
        return worths(operator, pairs, *rest)

    def count_all(operator: RobustOperator, *rest: Any) -> Any:
        rows[where[-1]] += operator.model.n_pairs
        return enclose(operator, *rest)

    def apart(act: Callable[..., Any]) -> Callable[..., Any]:
        def within(*arguments: Any) -> Any:
            where.append("known")
            try:
                return act(*arguments)
            finally:
                where.pop()

        return within

    with ExitStack() as stack:
        for owner, name, act in (
            (RobustOperator, "_worths", count_some), (RobustOperator, "enclose", count_all),
            (iwocs, "_hull", apart(hull)), (iwocs, "_least_of_all", apart(least)),
        ):  # fmt: skip
            stack.enter_context(patch.object(owner, name, act))
        yield rows


def _seconds(act: Callable[[], Any]) -> float:
    began = time.perf_counter()
    act()
    return time.perf_counter() - began


def _scenarios(tables: list[MDP]) -> list[Scenarios]:
    n = tables[0].n_states
    return [Scenarios(rows) for rows in np.stack([one.probability.reshape(-1, n) for one in tables], axis=1)]
