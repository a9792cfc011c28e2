r"""Value iteration.

v_{k+1} = T v_k for a monotone operator T that moves constants by a factor g < 1. With d = T v - v,

    T v + g/(1-g) min d  <=  v*  <=  T v + g/(1-g) max d,

and the bracket shrinks by at least g a sweep (MacQueen 1966; Porteus 1971; Puterman 2005, section 6.6). Gauss-Seidel sweeps
use each new entry at once; they keep the fixed point, contract at least as fast, and are bracketed by a plain sweep now
and then.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..mdp.operator import Operator
from .bracket import macqueen_porteus
from .errors import NotConverged
from .watch import Watch


@dataclass(frozen=True)
class ValueIteration:
    """Jacobi sweeps until the MacQueen-Porteus bracket is narrower than eps.

    max_sweeps: applications of T before giving up with `NotConverged`.
    """

    max_sweeps: int = 1_000_000

    def run(self, operator: Operator, value: np.ndarray, eps: float, watch: Watch) -> np.ndarray:
        """Centre of a bracket of width <= eps, shape (n_states,)."""
        value, following = value.copy(), np.empty_like(value)
        policy = operator.blank_policy()
        width = np.inf
        for _ in range(self.max_sweeps):
            below, above = macqueen_porteus(*operator.apply(value, following, policy), operator.mass)
            width = above - below
            watch(value, width)
            if width <= eps:
                return _shifted(operator, value, (below + above) / 2)
            value, following = following, value
        raise _out_of_sweeps(width, self.max_sweeps, eps)


@dataclass(frozen=True)
class GaussSeidel:
    """Gauss-Seidel sweeps of T, in the operator's order and back, with a bracketing Jacobi sweep when they have slowed enough.

    max_sweeps: sweeps before giving up with `NotConverged`.
    """

    max_sweeps: int = 1_000_000

    def run(self, operator: Operator, value: np.ndarray, eps: float, watch: Watch) -> np.ndarray:
        """Centre of a bracket of width <= eps, shape (n_states,)."""
        value, following = value.copy(), np.empty_like(value)
        policy = operator.blank_policy()
        width, sweeps, target = np.inf, 0, np.inf
        while sweeps < self.max_sweeps:
            low, high = operator.sweep(value, policy, backward=bool(sweeps % 2))
            sweeps += 1
            if max(high, -low) > target:
                continue
            below, above = macqueen_porteus(*operator.apply(value, following, policy), operator.mass)
            width = above - below
            sweeps += 1
            watch(value, width, 2)
            if width <= eps:
                return _shifted(operator, value, (below + above) / 2)
            value, following = following, value
            target = max(high, -low) / 4
        raise _out_of_sweeps(width, self.max_sweeps, eps)


def _shifted(operator: Operator, value: np.ndarray, shift: float) -> np.ndarray:
    """The bracket's centre; but beside terminal values, which stay, a shift would widen the bracket by 1 / (1 - g) of it."""
    return value if operator.terminal.any() else value + shift


def _out_of_sweeps(width: float, sweeps: int, eps: float) -> NotConverged:
    return NotConverged(
        f"the bracket is still {width:.3g} wide after {sweeps} sweeps (asked for {eps:.3g}); raise max_sweeps, "
        "or use PolicyIteration() when the discount is close to one",
        reached=width,
    )
