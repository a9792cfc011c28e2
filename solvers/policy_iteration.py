r"""Howard's policy iteration.

Evaluate the policy, v = (I - g P_p)^{-1} r_p, by a sparse LU factorisation with iterative refinement; take the greedy policy
of v; stop when the bracket says that no policy is better by more than eps. From a fixed discount g the number of rounds is
at most of the order of m / (1 - g) log(1 / (1 - g)) for m pairs (Howard 1960; Ye 2011; Scherrer 2013, arXiv:1306.0386).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse
from scipy.sparse.linalg import splu

from ..mdp.operator import Operator
from .bracket import macqueen_porteus
from .errors import NotConverged
from .watch import Watch


@dataclass(frozen=True)
class PolicyIteration:
    """Exact evaluation, then improvement in every state at once.

    max_rounds: evaluations before giving up with `NotConverged`.
    """

    max_rounds: int = 1_000

    def run(self, operator: Operator, value: np.ndarray, eps: float, watch: Watch) -> np.ndarray:
        """The value of the first policy whose bracket is at most eps wide, shape (n_states,)."""
        following, policy = np.empty_like(value), np.empty(operator.n_states, dtype=np.int32)
        operator.apply(value, following, policy)
        width, narrowest, stalled = np.inf, np.inf, 0
        for _ in range(self.max_rounds):
            value = evaluate(operator, policy)
            below, above = macqueen_porteus(*operator.apply(value, following, policy), operator.mass)
            width = above - below
            watch(value, width)
            if width <= eps:
                return value
            stalled = stalled + 1 if width >= narrowest else 0
            narrowest = min(narrowest, width)
            if stalled > 50:
                break
        raise NotConverged(
            f"the bracket is {narrowest:.3g} wide after policy iteration (asked for {eps:.3g}); rounding allows no less: "
            "ask for a wider eps, or use RationalPolicyIteration() on a small model",
            reached=narrowest,
        )


def evaluate(operator: Operator, policy: np.ndarray, refinements: int = 2) -> np.ndarray:
    """Value (n_states,) of a policy: sparse LU of I - P_policy, refined. Raises NotConverged where the system is singular."""
    matrix, constant = operator.policy_system(policy)
    system = scipy.sparse.csc_array(scipy.sparse.eye_array(operator.n_states, format="csr") - matrix)
    try:
        factors = splu(system)
    except RuntimeError as fault:
        raise NotConverged(f"a policy's linear system is singular ({fault}); it never leaves some loop") from None
    value = factors.solve(constant)
    with np.errstate(over="ignore", invalid="ignore"):
        for _ in range(refinements):
            value += factors.solve(constant - value + matrix @ value)
    return np.where(operator.terminal, constant, value)
