"""mdpsolver's modified policy iteration, one thread, standard or Gauss-Seidel updates.

Its value is within the tolerance. It reads nested Python lists, so large models are left out; it starts from its last value,
so it is built anew every time.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
from banach.mdp import MDP
from banach.mdp.criterion import Discounted

from ..competitor import ERROR, Competitor, Result
from .closed import closed

MAX_TRANSITIONS = 1_100_000
_UPDATES = {"mpi": "standard", "mpi-gs": "gs"}


def competitor(model: MDP, method: str) -> Competitor | None:
    """Method mpi (standard updates) or mpi-gs (Gauss-Seidel); discounted models of moderate size only."""
    update = _UPDATES[method]
    if not isinstance(model.criterion, Discounted) or model.discount == 0 or model.n_transitions > MAX_TRANSITIONS:
        return None
    return Competitor(f"mdpsolver:{method}", lambda: _build(model, update), fresh=True)


def _build(model: MDP, update: str) -> Callable[[], Result]:
    import mdpsolver

    rows, sign = closed(model), -1.0 if model.criterion.minimize else 1.0
    problem = mdpsolver.model()
    problem.mdp(
        discount=model.discount,
        rewards=_nested((sign * rows.reward).tolist(), rows.state_ptr),
        tranMatProbs=_nested(_nested(rows.probability.tolist(), rows.row_ptr), rows.state_ptr),
        tranMatColumns=_nested(_nested(rows.successor.tolist(), rows.row_ptr), rows.state_ptr),
    )

    def solve() -> Result:
        problem.solve(algorithm="mpi", tolerance=ERROR, update=update, parallel=False)
        return Result(sign * np.array(problem.getValueVector()))

    return solve


def _nested(flat: list, pointers: np.ndarray) -> list[list]:
    cuts = pointers.tolist()
    return [flat[start:stop] for start, stop in itertools.pairwise(cuts)]
