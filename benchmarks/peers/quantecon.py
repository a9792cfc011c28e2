"""QuantEcon.py's DiscreteDP from state-action pairs in scipy CSR: modified policy iteration, stopped by its span test.

Its value is within epsilon / 2 where the span test has ended the run; max_iter, 250 by default, ends it silently otherwise.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import scipy.sparse
from banach.mdp import MDP
from banach.mdp.criterion import Discounted

from ..competitor import ERROR, Competitor, Result
from .closed import closed

_MAX_ITERATIONS = 10_000_000


def competitor(model: MDP, method: str) -> Competitor | None:
    """Method mpi and its evaluation sweeps, such as mpi20; discounted models only."""
    sweeps = int(method.removeprefix("mpi"))
    if not isinstance(model.criterion, Discounted):
        return None
    return Competitor(f"quantecon:{method}", lambda: _build(model, sweeps))


def _build(model: MDP, sweeps: int) -> Callable[[], Result]:
    from quantecon.markov import DiscreteDP

    rows, sign = closed(model), -1.0 if model.criterion.minimize else 1.0
    shape = (len(rows.reward), rows.n_states)
    matrix = scipy.sparse.csr_matrix((rows.probability, rows.successor, rows.row_ptr), shape=shape)
    owner = rows.pair_state
    action = np.arange(len(owner)) - rows.state_ptr[owner]
    problem = DiscreteDP(sign * rows.reward, matrix, model.discount, owner, action)

    def solve() -> Result:
        result = problem.solve("mpi", epsilon=2 * ERROR, max_iter=_MAX_ITERATIONS, k=sweeps)
        return Result(sign * result.v)

    return solve
