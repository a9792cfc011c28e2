r"""Relative value iteration for the average reward.

For any vector v, with T the undiscounted operator,

    min (T v - v)  <=  gain of the greedy policy  <=  best gain  <=  max (T v - v)                       (Odoni 1969).

v <- v + (1 - kappa)(T v - v) - constant brings the two together when the best gain does not depend on the state, which is so
when the model is weakly communicating (Puterman 2005, sections 8.5 and 9.5; kappa > 0 removes periodicity: Schweitzer 1971).
Between two sweeps of T, sweeps of the greedy policy alone do most of the work at a fraction of the price (van der Wal 1981;
Puterman 2005, section 8.7); they are halved in number whenever they stop helping, so that in the end what is proved to
converge runs.

When the gain does depend on the state, this is done in every maximal end component at once, each with its own bracket: see
`banach.solvers.end_component_iteration`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np

from ..mdp.increments import normalised
from ..mdp.model import MDP
from ..mdp.packed import pack
from .errors import NotConverged
from .gain_bracket import Estimate
from .watch import Watch

_PATIENCE = 25
"""Sweeps of T without a narrower bracket after which the sweeps of a fixed policy are halved."""


@dataclass(frozen=True)
class RelativeValueIteration:
    """Sweeps of T, damped, with sweeps of the greedy policy between them, until Odoni's bracket is narrower than eps.

    kappa: share of every state's own weight, in [0, 1); zero only for models that are aperiodic.
    sweeps: policy sweeps after each sweep of T, at first. max_rounds: sweeps of T before `NotConverged`.
    """

    kappa: float = 0.1
    sweeps: int = 20
    max_rounds: int = 100_000

    def estimate(self, problem: MDP, eps: float, start: np.ndarray | None, watch: Watch) -> Estimate:
        """A policy and a bias, (n_states,), with one bracket of width <= eps for all states. Raises NotConverged."""
        everywhere = np.zeros(problem.n_states, dtype=np.int32)
        policy, bias = self.in_blocks(problem, everywhere, 1, eps, start, watch)
        return Estimate(policy, bias, everywhere, everywhere)

    def in_blocks(
        self, problem: MDP, block: np.ndarray, n_blocks: int, eps: float, start: np.ndarray | None, watch: Watch
    ) -> tuple[np.ndarray, np.ndarray]:
        """(policy, bias) of blocks (n,) that no pair leaves, each with a bracket of its own of width <= eps."""
        policy, bias, width = self.sweep(problem, block, n_blocks, eps, start, watch)
        if width <= eps:
            return policy, bias
        raise NotConverged(
            f"the gain's bracket is still {width:.3g} wide after {self.max_rounds} sweeps of T (asked for {eps:.3g}); raise "
            "max_rounds, use MultichainPolicyIteration(), or, when the gain depends on the state, no method at all",
            reached=width,
        )

    def sweep(
        self, problem: MDP, block: np.ndarray, n_blocks: int, eps: float, start: np.ndarray | None, watch: Watch
    ) -> tuple[np.ndarray, np.ndarray, float]:
        """As `in_blocks`, with the width of the widest bracket, whatever it is after max_rounds > 0.

        start: (n_states,) or None.
        """
        operator = normalised(problem).operator
        step = 1.0 - self.kappa
        value = np.zeros(problem.n_states) if start is None else start.copy()
        image, policy = np.empty_like(value), np.empty(problem.n_states, dtype=np.int32)
        low, high = np.empty(n_blocks), np.empty(n_blocks)
        sweeps, narrowest, stalled, width = self.sweeps, np.inf, 0, np.inf
        for left in reversed(range(self.max_rounds)):
            extremes = operator.apply(value, image, policy)
            if n_blocks == 1:
                low[0], high[0] = extremes
            else:
                _ranges(value, image, block, low, high)
            width = float(np.max(high - low))
            watch(value, width, 1 + sweeps)
            if width <= eps or not left:
                break
            stalled = 0 if width < 0.99 * narrowest else stalled + 1
            narrowest = min(narrowest, width)
            if stalled > _PATIENCE:
                sweeps, stalled, narrowest = sweeps // 2, 0, width
            shift = step * (low / 2 + high / 2)
            _relax(value, image, block, step, shift)
            if sweeps:
                packed = pack(operator.model, 1.0, policy, loops=False)
                for _ in range(sweeps):
                    packed.apply(value, image)
                    _relax(value, image, block, step, shift)
        return policy, value, width


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _relax(value, image, block, step, shift):
    """value += step (image - value) - shift of the block."""
    for state in range(len(value)):
        value[state] += step * (image[state] - value[state]) - shift[block[state]]


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _ranges(value, image, block, low, high):
    """Least and greatest entry of image - value in each block."""
    low[:], high[:] = np.inf, -np.inf
    for state in range(len(value)):
        change, here = image[state] - value[state], block[state]
        low[here] = min(low[here], change)
        high[here] = max(high[here], change)
