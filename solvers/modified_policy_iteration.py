r"""Modified policy iteration.

One sweep of T finds the greedy policy p and the bracket; then `sweeps` sweeps of T_p, which read one row a state instead of
all, bring the vector near v_p (Puterman and Shin 1978; Puterman 2005, section 6.5). With sweeps = 0 it is value iteration,
with sweeps -> infinity policy iteration. Between, the constant that the bracket's centre is off is added at once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..mdp.operator import Operator
from .bracket import macqueen_porteus
from .errors import NotConverged
from .watch import Watch


@dataclass(frozen=True)
class ModifiedPolicyIteration:
    """Jacobi sweeps of the greedy policy between sweeps of T.

    sweeps: policy sweeps after each sweep of T. max_rounds: sweeps of T before `NotConverged`.
    """

    sweeps: int = 20
    max_rounds: int = 100_000

    def run(self, operator: Operator, value: np.ndarray, eps: float, watch: Watch) -> np.ndarray:
        """A vector (n_states,) whose bracket is at most eps wide: its centre, unless terminal values hold some entries fast."""
        value, following = value.copy(), np.empty_like(value)
        policy = operator.blank_policy()
        width = np.inf
        for _ in range(self.max_rounds):
            below, above = macqueen_porteus(*operator.apply(value, following, policy), operator.mass)
            width = above - below
            watch(value, width, 1 + self.sweeps)
            if width <= eps:
                return value if operator.terminal.any() else value + (below + above) / 2
            for _ in range(self.sweeps):
                operator.apply_policy(policy, following, value)
                value, following = following, value
            value, following = following, value
        raise NotConverged(
            f"the bracket is still {width:.3g} wide after {self.max_rounds} rounds (asked for {eps:.3g}); raise max_rounds "
            "or sweeps, or use PolicyIteration()",
            reached=width,
        )
