r"""Optimistic value iteration: come from below, guess a bound above, let the operator confirm it.

Gauss-Seidel sweeps raise l from a lower bound until they change little. Then u = l + eps is guessed and swept a while: as soon
as T u <= u everywhere, u is an upper bound; when u falls below l, or time runs out, the guess was too low, and the sweeps from
below go on to half the change (Hartmanns and Kaminski, CAV 2020, arXiv:1910.01100).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from .collapse import Quotient
from .errors import NotConverged
from .interval_iteration import bound_below


@dataclass(frozen=True)
class OptimisticValueIteration:
    """Total reward and reachability from below, with guessed upper bounds that are confirmed; then proved.

    max_sweeps: sweeps of one vector before giving up with `NotConverged`.
    """

    max_sweeps: int = 1_000_000

    def run_quotient(self, quotient: Quotient, eps: float, watch: Any) -> tuple[np.ndarray, np.ndarray]:
        """(value (N,), greedy policy (N,)): the middle of an interval at most eps wide. Raises NotConverged."""
        operator = quotient.model.operator
        lower = bound_below(quotient)
        policy, following = np.empty(len(lower), dtype=np.int32), np.empty_like(lower)
        change, sweeps = eps, 0
        while True:
            while sweeps < self.max_sweeps:
                low, high = operator.sweep(lower, policy)
                sweeps += 1
                watch(lower, max(high, -low))
                if max(high, -low) <= change:
                    break
            upper = np.where(operator.terminal, lower, lower + eps)
            for _ in range(min(round(1 / change) + 1, self.max_sweeps - sweeps)):
                operator.apply(upper, following, policy)
                sweeps += 1
                if (following <= upper).all():
                    watch(lower, eps)
                    return lower + (upper - lower) / 2, policy
                if (following < lower).any() or (following >= upper).all():
                    break
                np.minimum(upper, following, out=upper)
                operator.sweep(lower, policy)
            if sweeps >= self.max_sweeps:
                raise NotConverged(
                    f"no upper bound {eps:.3g} above was confirmed in {sweeps} sweeps; raise max_sweeps, or use "
                    "PolicyIteration() where the process takes many steps"
                )
            change /= 2
            if change < 2.0**-54 * float(np.abs(lower).max()) or change < 2.0**-1000:
                return lower, policy  # rounding ends the guessing; the proof goes on from here
