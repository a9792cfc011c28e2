r"""Evidence of an average-reward problem: its gains, bracketed by a certificate that the exact checker has accepted.

Undiscounted rows are weights, p_kj = w_kj / sum_j w_kj. A sweep over the stored floats is off by what their sums are off:
with |sum_j w_kj - 1| <= d, sum_j w_kj v_j and the exact expectation differ by at most d / (1 - d) (1 + d) sup |v|.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np

from ..mdp.criterion import AverageReward, Discounted
from ..mdp.model import MDP
from ..solvers.certificate import Certificate
from ..solvers.check import check
from ..solvers.solve import solve
from .enclosed import EnclosedEvidence, Enclosure, Readings, restrict
from .errors import BoundError

_WIDTH = 2.0**-30
"""Bracket width to ask for, relative to the largest reward."""


class GainEvidence(Readings):
    """An average-reward problem of n states, turned into a maximisation. Raises BoundError for another criterion."""

    def __init__(self, problem: MDP) -> None:
        if not isinstance(problem.criterion, AverageReward):
            raise BoundError(f"{problem.criterion} has no gains; give an average-reward problem")
        self.problem = problem.negated() if problem.criterion.minimize else problem

    def zero(self) -> Enclosure:
        """The zero vector, (n,)."""
        return Enclosure(np.zeros(self.problem.n_states), np.zeros(self.problem.n_states))

    def gains(self) -> Enclosure:
        """A proved bracket of the best gain of each state, (n,)."""
        return Enclosure(self._certificate.lower, self._certificate.upper)

    def bias(self) -> Enclosure:
        """A vector h, (n,), with T h <= upper + h for the upper ends of `gains`, in exact arithmetic."""
        bias = self._certificate.witness["upper_bias"]
        return Enclosure(bias, bias)

    @cached_property
    def _certificate(self) -> Certificate:
        certificate = solve(self.problem, eps=_WIDTH * (1 + float(np.abs(self.problem.reward).max()))).certificate
        check(self.problem, certificate)
        return certificate

    def policy_gains(self, policy: np.ndarray) -> Enclosure:
        """A proved bracket of the gains of a policy, int32 (n,)."""
        return GainEvidence(restrict(self.problem, policy)).gains()

    def apply(self, value: Enclosure) -> tuple[Enclosure, np.ndarray]:
        """T value = max_a (r + P value) and its greedy policy as computed, (n,) both."""
        operator = self.problem.operator
        policy = np.empty(self.problem.n_states, dtype=np.int32)
        ends = []
        for end in (value.upper, value.lower):
            lower, upper = np.empty_like(end), np.empty_like(end)
            operator.enclose(end, policy, lower, upper)
            ends.append((lower, upper))
        low, high = operator.mass
        off = max(high - 1.0, 1.0 - low)
        margin = 2 * off * float(max(np.abs(value.lower).max(), np.abs(value.upper).max()))
        return Enclosure(np.nextafter(ends[1][0] - margin, -np.inf), np.nextafter(ends[0][1] + margin, np.inf)), policy

    def discounted(self, discount: float) -> EnclosedEvidence:
        """The same model with a discount in [0, 1)."""
        return EnclosedEvidence(self.problem.replace(criterion=Discounted(discount)))
