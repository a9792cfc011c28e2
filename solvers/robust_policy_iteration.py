r"""Policy iteration against nature, guarded.

At v, T v names a policy p and nature's rows q for it. Frozen, the two make an ordinary chain, whose value u is had by plain
sweeps or linear algebra: one round of Newton's method for v = T v. For a minimax equation that method may cycle (van der Wal
1978, of Pollatschek and Avi-Itzhak 1969), so u is kept only where the residual says so, against the least one kept so far:

    span(T u - u) <= max(g, 1/2) least        else        v <- v_p, by nature's policy iteration from u.

That is a step of partial policy iteration, which converges by itself and starts with u anyway; near v* Newton's steps pass. The
frozen chain is evaluated only as far as pays: to a share of the current bracket. The start is the nominal optimum, which costs
next to nothing.

Ho, Petrik and Wiesemann 2021 (JMLR 22(275), partial policy iteration); Badger, Huang and Petrik 2026 (arXiv:2508.06661,
residual-conditioned policy iteration).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..mdp.operator import Operator
from .bracket import macqueen_porteus
from .errors import NotConverged, SolveError
from .robust_evaluation import against_nature, chain_value, nominal_value
from .watch import Watch


@dataclass(frozen=True)
class RobustPolicyIteration:
    """Freeze policy and nature, evaluate, test.

    forcing: share of the bracket's width to which the frozen chain is evaluated, in (0, 1).
    rate: the allowance of evaluations against nature shrinks by this share of the modulus, in (0, 1).
    max_rounds: improvements before giving up with `NotConverged`.
    """

    forcing: float = 0.05
    rate: float = 0.5
    max_rounds: int = 10_000

    def run(self, operator: Operator, value: np.ndarray, eps: float, watch: Watch) -> np.ndarray:
        """A vector (n_states,) whose bracket is at most eps wide. Raises SolveError for an operator without nature."""
        if not hasattr(operator, "tangent"):
            raise SolveError("RobustPolicyIteration() is for robust problems; use PolicyIteration() or no method at all")
        model = operator.model  # pyright: ignore[reportAttributeAccessIssue]
        nominal = model.problem.operator
        value = nominal_value(nominal, value.copy(), max(eps, 1e-3 * _spread(nominal, value)), watch)
        image, policy, tried = np.empty_like(value), operator.blank_policy(), operator.blank_policy()
        newton, least, allowed, span = False, np.inf, np.inf, np.inf
        before = np.inf
        for _ in range(self.max_rounds):
            low, high = operator.apply(value, image, policy)
            below, above = macqueen_porteus(low, high, operator.mass)
            span = above - below
            watch(value, span)
            if span <= eps:
                return value if operator.terminal.any() else value + (below + above) / 2
            if newton and span > max(operator.modulus, 0.5) * least:
                allowed = max(self.rate * operator.modulus * min(allowed, before), 0.2 * eps)
                value, newton = against_nature(operator, tried, value, allowed, self.forcing, watch), False
                continue
            newton, before, least = True, span, min(span, least)
            tried[:] = policy
            chain = operator.tangent(policy, value)  # pyright: ignore[reportAttributeAccessIssue]
            value = chain_value(chain, image.copy(), max(self.forcing * span, 0.2 * eps), model, watch)
        raise NotConverged(
            f"the bracket is still {span:.3g} wide after {self.max_rounds} rounds (asked for {eps:.3g}); raise max_rounds, or "
            "use ValueIteration()",
            reached=span,
        )


def _spread(operator: Operator, value: np.ndarray) -> float:
    """Width of the bracket that one sweep of T proves from a vector (n,)."""
    low, high = operator.apply(value, np.empty_like(value), operator.blank_policy())
    below, above = macqueen_porteus(low, high, operator.mass)
    return above - below
