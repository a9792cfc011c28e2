r"""One state's s-rectangular update, beside general solvers: a row in a process of its own.

A spelling is `l1:successors=50,rewards=pairs`: five actions whose rows, Dirichlet(1) over n successors, share a budget. With
rewards=pairs the actions differ in a reward beside one value vector, so that one order of it serves all; with
rewards=transitions every successor of every action has a worth of its own. A general solver is timed on some of the states,
ours on sweeps over n of them.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from banach.mdp import MDP, Discounted, RobustMDP, ambiguity
from banach.mdp.ambiguity import SRectangular

from .competitor import Competitor, Result
from .ours import NAME
from .peers import updates
from .race import Record, Reference, race
from .storage import write_json

ACTIONS = 5
DISCOUNT = 0.95
BALLS = {"l1": ambiguity.L1(0.5), "kl": ambiguity.KL(0.2), "chi2": ambiguity.ChiSquare(0.2)}
"""Budgets at which nature moves about a twentieth of each row's mass."""
_PEERS_SOLVE = 4
"""States on which a general solver is timed."""
_OURS_SOLVE = 4_000
"""Updates of ours that are timed together: as many sweeps as that takes, at least one."""


def run(spelling: str, peers: list[str], repeat: int, out: Path) -> None:
    """Measure the row and write it to `out` as JSON."""
    os.environ["BANACH_THREADS"] = "1"
    distance, settings = parse(spelling)
    n = int(settings["successors"])
    nominal, reward, ahead = states(n, settings["rewards"])
    ball, value = BALLS[distance], reward + DISCOUNT * ahead
    found: dict[str, Any] = {"spelling": spelling, "kind": "updates", "successors": n, "actions": ACTIONS}

    def finished(records: list[Record]) -> None:
        write_json(out, found | {"competitors": [record.as_json() for record in records]})

    some = nominal[:_PEERS_SOLVE], np.broadcast_to(value, nominal.shape)[:_PEERS_SOLVE]
    competitors = [ours(ball, nominal, reward, ahead, proved) for proved in (False, True)]
    competitors += [updates.competitor(distance, *some, ball.radius, name) for name in peers]
    for competitor in competitors:
        competitor.build()()  # compiled, imported
    race(competitors, truth(ball, *some), repeat, finished)


def parse(spelling: str) -> tuple[str, dict[str, str]]:
    """The distance and the settings."""
    distance, _, rest = spelling.partition(":")
    return distance, dict(item.split("=") for item in rest.split(","))


def states(n: int, rewards: str, seed: int = 1) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Nominal rows (n, A, n), rewards (n, A, 1) or (n, A, n), and a value vector (n,), of n states."""
    rng = np.random.default_rng(seed)
    nominal = rng.dirichlet(np.ones(n), size=(n, ACTIONS))
    reward = rng.uniform(size=(n, ACTIONS, n if rewards == "transitions" else 1))
    return nominal, reward, rng.uniform(0.0, 5.0, size=n)


def ours(ball: ambiguity.Ball, nominal: np.ndarray, reward: np.ndarray, ahead: np.ndarray, proved: bool) -> Competitor:
    """A sweep of the operator, or one that encloses every value. ahead: the value vector (n,)."""
    n = len(ahead)
    pairs = n * ACTIONS
    per_pair = reward.shape[2] == 1
    model = MDP(
        np.arange(n + 1) * ACTIONS, np.arange(pairs + 1) * n, np.tile(np.arange(n, dtype=np.int32), pairs), nominal.ravel(),
        reward.ravel() if per_pair else np.zeros(pairs), Discounted(DISCOUNT),
    )  # fmt: skip
    operator = RobustMDP(model, SRectangular(ball), transition_reward=None if per_pair else reward.ravel()).operator
    policy, value, lower, upper = operator.blank_policy(), np.empty(n), np.empty(n), np.empty(n)

    times = max(1, _OURS_SOLVE // n)

    def sweep() -> Result:
        for _ in range(times):
            operator.apply(ahead, value, policy)
        return Result(value[:_PEERS_SOLVE].copy())

    def enclose() -> Result:
        for _ in range(times):
            operator.enclose(ahead, policy, lower, upper)
        bounds = lower[:_PEERS_SOLVE].copy(), upper[:_PEERS_SOLVE].copy()
        return Result(bounds[0] / 2 + bounds[1] / 2, *bounds)

    return Competitor(f"{NAME}:proved" if proved else NAME, lambda: enclose if proved else sweep, updates=n * times)


def truth(ball: ambiguity.Ball, nominal: np.ndarray, value: np.ndarray) -> Reference:
    """Proved brackets of the states' values."""
    found = [SRectangular(ball).worst(*state) for state in zip(nominal, value, strict=True)]
    return Reference(np.array([one.lower for one in found]), np.array([one.upper for one in found]))
