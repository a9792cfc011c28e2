r"""Backward induction, with rounding enclosed.

    v_H = terminal value,      v_t = T_t v_{t+1},      p_t greedy at v_{t+1}.

One pass a stage bounds both sides. Let l <= v_{t+1} <= u be the bounds of stage t+1, w = max(u - l), and b the most that T_t
moves a constant. The pass at l gives lo <= T_p l and T_t l <= hi, rounding included, with p greedy at l; and since u <= l + w,

    lower_t = lo <= T_p l,      upper_t = hi + b w >= T_t (l + w) >= T_t u.

The width grows by the rounding of one sweep a stage. Puterman, Markov Decision Processes, Wiley 2005, section 4.5.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..mdp.operator import Operator
from ..mdp.sweeps import UNIT_ROUNDOFF
from .errors import InfiniteValue
from .watch import Watch


@dataclass(frozen=True)
class BackwardInduction:
    """From the last decision to the first, one sweep each."""

    def induce(
        self, operators: Sequence[Operator], last: np.ndarray, guard: float, watch: Watch
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(lower, upper, policy), (H + 1, n), (H + 1, n), (H, n) or (H, m), inductive stage by stage in exact arithmetic.

        operators: T_0, ..., T_{H-1}. last: (n,), value after the last decision.
        guard: at least 4; multiple of the unit roundoff, relative to the largest values of two stages, given away a side.
        Raises InfiniteValue when a value leaves the range of floating point.
        """
        horizon, n_states = len(operators), len(last)
        lower, upper = np.empty((horizon + 1, n_states)), np.empty((horizon + 1, n_states))
        policy = [operator.blank_policy() for operator in operators]
        lower[horizon] = upper[horizon] = last
        width, largest = 0.0, float(np.abs(last).max())
        for stage in reversed(range(horizon)):
            operator, low, high = operators[stage], lower[stage], upper[stage]
            operator.enclose(lower[stage + 1], policy[stage], low, high)
            held = np.flatnonzero(operator.terminal)
            worth = low[held]
            high += np.nextafter(operator.modulus * width, np.inf)
            before, largest = largest, max(float(high.max()), -float(low.min()))
            slack = guard * UNIT_ROUNDOFF * (before + largest) + 2.0**-900
            low -= slack
            high += slack
            low[held] = high[held] = worth
            width = float(np.max(high - low)) * (1 + 4 * UNIT_ROUNDOFF)
            if not np.isfinite(width):
                raise InfiniteValue(f"stage {stage}: a value leaves the range of floating point; scale the rewards down")
            watch(low, width)
        return lower, upper, np.stack(policy) if policy else np.empty((0, n_states), dtype=np.int32)
