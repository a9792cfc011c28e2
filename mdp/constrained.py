r"""Discounted problems with bounds on further discounted costs.

    max_p E_mu sum_t g^t r(s_t, a_t)      subject to      E_mu sum_t g^t c_k(s_t, a_t) <= C_k,      k = 1..K,

with mu the initial distribution and p over all, also randomised, policies. The costs are costs whatever the sense of the
objective: a bound says "at most". A terminal state costs nothing.

Altman, Constrained Markov Decision Processes, Chapman & Hall 1999.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from .criterion import Discounted
from .errors import ModelError
from .model import MDP
from .over_table import OverTable


@dataclass(frozen=True, eq=False)
class ConstrainedMDP(OverTable):
    """A discounted problem, its costs and their bounds. m pairs, K costs.

    problem: an MDP with criterion `Discounted` and an initial distribution.
    costs: float64 (K, m), expected one-step cost of each pair; one cost may be given as (m,).
    bounds: float64 (K,), the greatest expected discounted cost allowed from the initial distribution.

    Raises ModelError for another criterion, a missing initial distribution, no actions, shapes or numbers that do not fit.
    """

    problem: MDP
    costs: np.ndarray
    bounds: np.ndarray

    def __post_init__(self) -> None:
        if not isinstance(self.problem.criterion, Discounted):
            raise ModelError(f"constraints are for discounted problems; the criterion is {self.problem.criterion}")
        if self.problem.initial is None:
            raise ModelError("constraints bound the cost from an initial distribution; give the problem initial=...")
        if not self.problem.n_pairs:
            raise ModelError("every state is terminal: there is no action that could cost anything")
        costs = np.array(self.costs, dtype=np.float64, ndmin=2)
        bounds = np.array(self.bounds, dtype=np.float64, ndmin=1)
        if bounds.ndim != 1 or not len(bounds) or costs.shape != (len(bounds), self.problem.n_pairs):
            raise ModelError(
                f"costs have shape {costs.shape} and bounds {bounds.shape}; they must be (K, {self.problem.n_pairs}) and (K,)"
            )
        for cost, pair in np.argwhere(~np.isfinite(costs))[:1]:
            state = int(self.problem.pair_state[pair])
            action = self.problem.action_of(state, int(pair) - int(self.problem.state_ptr[state]))
            where = f"state {self.problem.state_of(state)}, action {action}"
            raise ModelError(f"{where}: cost {cost} is {costs[cost, pair]}; it must be finite")
        for cost in np.flatnonzero(~np.isfinite(bounds))[:1]:
            raise ModelError(f"bound {cost} is {bounds[cost]}; it must be finite (leave an unbounded cost out)")
        for name, array in (("costs", costs), ("bounds", bounds)):
            array.setflags(write=False)
            object.__setattr__(self, name, array)

    @property
    def initial(self) -> np.ndarray:
        """Initial distribution, float64 (n,)."""
        return self.problem.initial  # pyright: ignore[reportReturnType]

    @property
    def n_costs(self) -> int:
        """Number of constraints, K."""
        return len(self.bounds)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of every number that the value depends on, as hexadecimal."""
        digest = hashlib.sha256(self.problem.fingerprint.encode())
        for array in (self.initial, self.costs, self.bounds):
            digest.update(f"{array.shape}".encode())
            digest.update(array.tobytes())
        return digest.hexdigest()

    def negated(self) -> ConstrainedMDP:
        """The same problem with the objective's sign and sense turned round; the costs and bounds stay. Exact."""
        return ConstrainedMDP(self.problem.negated(), self.costs, self.bounds)
