r"""One state's s-rectangular update, beside general solvers: a row in a process of its own.

A spelling is `l1:successors=50,rewards=pairs`: five actions whose rows, Dirichlet(1) over n successors, share a budget. With
rewards=pairs the actions differ in a reward beside one value vector, so that one order of it serves all; with
rewards=transitions every successor of every action has a worth of its own. A general solver is timed on some of the states,
ours on a sweep over n of them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from banach.mdp import ambiguity
from banach.mdp.ambiguity import SRectangular

from .competitor import Competitor, Result
from .ours import NAME
from .peers import updates
from .race import Record, Reference, race
from .storage import write_json

ACTIONS = 5
BALLS = {"l1": ambiguity.L1(0.5), "kl": ambiguity.KL(0.2), "chi2": ambiguity.ChiSquare(0.2)}
"""Budgets at which nature moves about a twentieth of each row's mass."""
_PEERS_SOLVE = 6
"""States on which a general solver is timed."""


def run(spelling: str, peers: list[str], repeat: int, out: Path) -> None:
    """Measure the row and write it to `out` as JSON."""
    distance, settings = parse(spelling)
    n = int(settings["successors"])
    nominal, value = states(n, settings["rewards"])
    ball = BALLS[distance]
    found: dict[str, Any] = {"spelling": spelling, "kind": "updates", "successors": n, "actions": ACTIONS}

    def finished(records: list[Record]) -> None:
        write_json(out, found | {"competitors": [record.as_json() for record in records]})

    some = nominal[:_PEERS_SOLVE], value[:_PEERS_SOLVE]
    competitors = [ours(ball, nominal, value), *(updates.competitor(distance, *some, ball.radius, name) for name in peers)]
    for competitor in competitors:
        competitor.build()()  # compiled, imported
    race(competitors, truth(ball, *some), repeat, finished)


def parse(spelling: str) -> tuple[str, dict[str, str]]:
    """The distance and the settings."""
    distance, _, rest = spelling.partition(":")
    return distance, dict(item.split("=") for item in rest.split(","))


def states(n: int, rewards: str, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Nominal rows and worths of n states, (n, A, n)."""
    rng = np.random.default_rng(seed)
    nominal = rng.dirichlet(np.ones(n), size=(n, ACTIONS))
    reward = rng.uniform(size=(n, ACTIONS, n if rewards == "transitions" else 1))
    return nominal, reward + 0.95 * rng.uniform(0.0, 5.0, size=n)


def ours(ball: ambiguity.Ball, nominal: np.ndarray, value: np.ndarray) -> Competitor:
    """Every state in turn, with its decision, its worst rows and its proved bracket."""
    inner = SRectangular(ball)

    def run() -> Result:
        found = [inner.worst(*state) for state in zip(nominal, value, strict=True)][:_PEERS_SOLVE]
        bounds = np.array([one.lower for one in found]), np.array([one.upper for one in found])
        return Result(np.array([one.value for one in found]), *bounds)

    return Competitor(NAME, lambda: run, updates=len(nominal))


def truth(ball: ambiguity.Ball, nominal: np.ndarray, value: np.ndarray) -> Reference:
    """Proved brackets of the states' values."""
    found = [SRectangular(ball).worst(*state) for state in zip(nominal, value, strict=True)]
    return Reference(np.array([one.lower for one in found]), np.array([one.upper for one in found]))
