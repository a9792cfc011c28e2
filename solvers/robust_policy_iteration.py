r"""Policy iteration against nature, guarded.

At v, T v names a policy p and nature's rows q for it. Frozen, the two make an ordinary chain, whose value u is had by plain
sweeps or linear algebra: one round of Newton's method for v = T v. For a minimax equation that method may cycle (van der Wal
1978, of Pollatschek and Avi-Itzhak 1969), so u is kept only where the residual says so:

    span(T u - u) <= max(g, 1/2) span(T v - v)         else          v <- T^k v,

which keeps the worst case of value iteration and nearly always the speed of Newton's method. The frozen chain is evaluated only
as far as pays: to a share of the current bracket. The start is the nominal optimum, which costs next to nothing.

Ho, Petrik and Wiesemann 2021 (JMLR 22(275), partial policy iteration); Badger, Huang and Petrik 2026 (arXiv:2508.06661,
residual-conditioned policy iteration).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..mdp.operator import Operator
from .bracket import macqueen_porteus
from .errors import NotConverged, SolveError
from .inexact_policy_iteration import InexactPolicyIteration
from .watch import Watch


@dataclass(frozen=True)
class RobustPolicyIteration:
    """Freeze policy and nature, evaluate, test.

    forcing: share of the bracket's width to which the frozen chain is evaluated, in (0, 1).
    sweeps: sweeps of T, k less one, after a step that was not kept.
    max_rounds: improvements before giving up with `NotConverged`.
    """

    forcing: float = 0.05
    sweeps: int = 5
    max_rounds: int = 10_000

    def run(self, operator: Operator, value: np.ndarray, eps: float, watch: Watch) -> np.ndarray:
        """A vector (n_states,) whose bracket is at most eps wide. Raises SolveError for an operator without nature."""
        frozen = getattr(operator, "frozen", None)
        if frozen is None:
            raise SolveError("RobustPolicyIteration() is for robust problems; use PolicyIteration() or no method at all")
        nominal = operator.model.problem.operator  # pyright: ignore[reportAttributeAccessIssue]
        value = _evaluated(nominal, value.copy(), max(eps, 1e-3 * _spread(nominal, value)))
        image, policy = np.empty_like(value), operator.blank_policy()
        kept, before, span = None, np.inf, np.inf
        for _ in range(self.max_rounds):
            low, high = operator.apply(value, image, policy)
            below, above = macqueen_porteus(low, high, operator.mass)
            span = above - below
            watch(value, span)
            if span <= eps:
                return value if operator.terminal.any() else value + (below + above) / 2
            if kept is not None and span > max(operator.modulus, 0.5) * before:
                value, kept = kept, None
                for _ in range(self.sweeps):
                    operator.apply(value, image, policy)
                    value, image = image, value
                continue
            before, kept = span, image.copy()
            chain = frozen(policy, value)
            value = _evaluated(chain.operator, image.copy(), max(self.forcing * span, 0.2 * eps))
        raise NotConverged(
            f"the bracket is still {span:.3g} wide after {self.max_rounds} rounds (asked for {eps:.3g}); raise max_rounds, or "
            "use ValueIteration()",
            reached=span,
        )


def _evaluated(operator: Operator, start: np.ndarray, eps: float) -> np.ndarray:
    """A vector (n,) whose bracket is at most eps wide, or the start (n,) where rounding allows none."""
    try:
        return InexactPolicyIteration().run(operator, start, eps, Watch(modulus=operator.modulus))
    except NotConverged:
        return start


def _spread(operator: Operator, value: np.ndarray) -> float:
    """Width of the bracket that one sweep of T proves from a vector (n,)."""
    low, high = operator.apply(value, np.empty_like(value), operator.blank_policy())
    below, above = macqueen_porteus(low, high, operator.mass)
    return above - below
