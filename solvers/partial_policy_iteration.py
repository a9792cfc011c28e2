r"""Partial policy iteration: improve, then evaluate against nature as far as a shrinking allowance asks.

At v the greedy policy p is evaluated until the bracket of T_p is at most e_k wide, e_{k+1} = rate g e_k < g e_k; then v_k -> v*
at the rate g at least (Ho, Petrik and Wiesemann, JMLR 22(275), 2021, theorem 4.5). How nature answers p is told in
`banach.solvers.robust_evaluation`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..mdp.operator import Operator
from .bracket import macqueen_porteus
from .errors import NotConverged, SolveError
from .robust_evaluation import against_nature
from .watch import Watch


@dataclass(frozen=True)
class PartialPolicyIteration:
    """Improvement, and nature's policy iteration between improvements.

    rate: the allowance shrinks by this share of the modulus, in (0, 1).
    forcing: share of nature's bracket to which a chain is evaluated, in (0, 1).
    max_rounds: improvements before giving up with `NotConverged`.
    """

    rate: float = 0.5
    forcing: float = 0.1
    max_rounds: int = 10_000

    def run(self, operator: Operator, value: np.ndarray, eps: float, watch: Watch) -> np.ndarray:
        """A vector (n_states,) whose bracket is at most eps wide. Raises SolveError for an operator without nature."""
        if not hasattr(operator, "frozen"):
            raise SolveError("PartialPolicyIteration() is for robust problems; use PolicyIteration() or no method at all")
        value, image, policy = value.copy(), np.empty_like(value), operator.blank_policy()
        width, allowed = np.inf, np.inf
        for _ in range(self.max_rounds):
            below, above = macqueen_porteus(*operator.apply(value, image, policy), operator.mass)
            width = above - below
            watch(value, width)
            if width <= eps:
                return value if operator.terminal.any() else value + (below + above) / 2
            allowed = max(self.rate * operator.modulus * min(allowed, width), 0.2 * eps)
            value = against_nature(operator, policy, image, allowed, self.forcing, watch)
        raise NotConverged(
            f"the bracket is still {width:.3g} wide after {self.max_rounds} rounds (asked for {eps:.3g}); raise max_rounds, or "
            "use ValueIteration()",
            reached=width,
        )
