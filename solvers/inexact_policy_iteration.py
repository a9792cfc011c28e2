r"""Inexact policy iteration: improve with sweeps of T, evaluate only as far as it pays.

Two ways of evaluating the greedy policy p, chosen by what the model does:

- Jacobi. v <- T_p v, until the span of the change is a tenth of what the last sweep of T left. The error of a model that
  mixes fast turns into a constant, which the MacQueen-Porteus bracket removes.
- Gauss-Seidel. When the Jacobi span shrinks slowly (a grid, a queue, a chain; or there are terminal states, so that no constant
  can be removed), improvement and evaluation are alternating forward and backward Gauss-Seidel sweeps; and when even these
  would need hundreds, the policy's linear system is solved by BiCGSTAB preconditioned with them (`krylov`).

The policy's rows are packed once for many sweeps. Bracketing sweeps of T stop the iteration; nothing else is believed.

Puterman and Shin 1978 (modified policy iteration); Gargiani et al. 2024, arXiv:2211.04299 (inexact policy iteration with Krylov
methods).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ..mdp.operator import AffineOperator, Operator
from ..mdp.packed import PackedPolicy
from ..mdp.sweeps import UNIT_ROUNDOFF
from .bracket import macqueen_porteus
from .errors import NotConverged, SolveError
from .krylov import VECTORS, correct
from .watch import Watch

_LONGEST = 64
"""Gauss-Seidel rounds without a bracket."""
_DRAGGING = 2.0**14
"""Units of rounding below which a change that `_LONGEST` rounds could not halve will not shrink any more."""
_DEEPEST = 1e-4
"""Share of the change that a solve for a settled policy leaves at least."""


@dataclass(frozen=True)
class InexactPolicyIteration:
    """Adaptive evaluation between improvements.

    forcing: share of the improvement's change that evaluation leaves, in (0, 1).
    slow: Jacobi span ratio a sweep above which Gauss-Seidel takes over.
    patience: Gauss-Seidel sweeps that would still be needed, above which the linear system is solved instead.
    settled: share of states whose action may still change when the policy is worth a Jacobi evaluation.
    max_rounds: improvements before giving up with `NotConverged`.
    """

    forcing: float = 0.05
    slow: float = 0.8
    patience: int = 300
    settled: float = 0.1
    max_rounds: int = 20_000

    def run(self, operator: Operator, value: np.ndarray, eps: float, watch: Watch) -> np.ndarray:
        """A vector (n_states,) whose bracket is at most eps wide. Raises SolveError where policies are not affine maps."""
        if not isinstance(operator, AffineOperator):
            raise SolveError("InexactPolicyIteration() needs policies that are affine maps; use ModifiedPolicyIteration()")
        return _Run(self, operator, value.copy(), eps, watch).result()


class _Run:
    """State of one run: the vector, a second vector, the greedy policy, the latest bracket."""

    def __init__(
        self, method: InexactPolicyIteration, operator: AffineOperator, value: np.ndarray, eps: float, watch: Watch
    ) -> None:
        self.method, self.operator, self.eps, self.watch = method, operator, eps, watch
        self.value, self.spare = value, np.empty_like(value)
        self.policy = np.full(operator.n_states, -2, dtype=np.int32)  # no policy yet: everything changes at first
        self.shift, self.width, self.sweeps, self.rounds = 0.0, np.inf, 0.0, 0
        self.moved = 1.0
        self.last: PackedPolicy | None = None
        self.packed_policy = np.empty_like(self.policy)
        self.per_policy = 1.0 / max(1.0, operator.actions_per_state)

    def result(self) -> np.ndarray:
        if not self.jacobi():
            self.gauss_seidel()
        return self.value if self.operator.terminal.any() else self.value + self.shift

    def improve(self) -> tuple[float, float]:
        """A bracketing sweep of T into `spare`; `value` is left as it is."""
        self.rounds += 1
        if self.rounds > self.method.max_rounds:
            raise NotConverged(
                f"the bracket is still {self.width:.3g} wide after {self.rounds} improvements (asked for {self.eps:.3g}); "
                "raise max_rounds, or eps if rounding stops it",
                reached=self.width,
            )
        low, high = self.operator.apply(self.value, self.spare, self.policy)
        below, above = macqueen_porteus(low, high, self.operator.mass)
        self.shift, self.width = (below + above) / 2, above - below
        self.watch(self.value, self.width, 1 + self.sweeps)
        self.sweeps = 0.0
        return low, high

    def jacobi(self) -> bool:
        """Jacobi evaluation while spans shrink fast; True when the bracket is narrow enough."""
        before, narrowest, stalled = self.policy.copy(), math.inf, 0
        while True:
            low, high = self.improve()
            if self.width <= self.eps or self.rounded(high - low):
                return True
            self.value, self.spare = self.spare, self.value
            stalled = stalled + 1 if high - low > self.method.slow * narrowest else 0
            narrowest = min(narrowest, high - low)
            if stalled >= 2 or self.operator.mass[0] <= 0:
                return False
            settled = np.count_nonzero(before != self.policy) <= self.method.settled * len(before)
            before[:] = self.policy
            if settled and not self.evaluate(high - low):
                return False

    def evaluate(self, first: float) -> bool:
        """Jacobi sweeps of the packed policy from a change of span `first`; False when its spans shrink slowly."""
        packed, span, count = self.packed(loops=False), first, 0
        target = max(self.method.forcing * first, 0.3 * self.eps * (1 - self.operator.modulus))
        while span > target:
            low, high = packed.apply(self.value, self.spare)
            self.value, self.spare = self.spare, self.value
            span, count = high - low, count + 1
            self.sweeps += self.per_policy
            if count >= 3 and span > first * self.method.slow**count:
                return False
        return True

    def gauss_seidel(self) -> None:
        """Gauss-Seidel and Krylov evaluation until the bracket is narrow enough, or rounding stops it."""
        narrow = self.eps * (1 - self.operator.modulus) / 2
        target, backward, work, since = np.inf, True, None, 0
        while True:
            low, high = self.operator.sweep(self.value, self.policy, backward)
            self.sweeps += 1
            change, since = max(high, -low), since + 1
            if change <= target or since >= _LONGEST:
                before, dragging = self.width, since >= _LONGEST
                low, high = self.improve()
                change, since = max(high, -low), 0
                if self.width <= self.eps or self.rounded(change, dragging and self.width > before / 2):
                    return
                self.value, self.spare = self.spare, self.value
                target = max(change / 30, min(narrow, change / 2))
            packed = None  # so that the old rows are freed before new ones are gathered
            packed = self.packed(loops=True)
            rate = self.relax(packed, change, backward)
            if _sweeps_left(change / narrow, rate) > self.method.patience:
                work = np.empty((VECTORS, self.operator.n_states)) if work is None else work
                share = self.method.forcing if self.moved > 0 else max(_DEEPEST, min(self.method.forcing, narrow / change))
                _, sweeps = correct(packed, self.value, share, 4 * self.method.patience, work)
                self.sweeps += sweeps * self.per_policy
            backward = not backward

    def rounded(self, change: float, dragging: bool = False) -> bool:
        """Whether a change is no more than what rounding does to a value; `dragging` changes are suspected earlier."""
        return change <= (_DRAGGING if dragging else 8) * UNIT_ROUNDOFF * float(np.abs(self.value).max())

    def packed(self, loops: bool) -> PackedPolicy:
        """The greedy policy, packed; of the last packing only the rows that have changed are gathered anew."""
        if self.last is not None and self.last.loops == loops:
            changed = np.flatnonzero(self.packed_policy != self.policy)
            self.moved = len(changed) / len(self.policy)
            if self.moved <= 0.5 and self.operator.repack(self.last, self.policy, changed):
                self.packed_policy[changed] = self.policy[changed]
                return self.last
        self.last = None  # frees the old rows before the new ones are gathered
        self.last = self.operator.pack(self.policy, loops)
        self.packed_policy[:] = self.policy
        return self.last

    def relax(self, packed: PackedPolicy, change: float, backward: bool) -> float:
        """A few sweeps of the packed policy; the ratio a sweep by which their changes shrank."""
        first = last = change
        count = 0
        while count < 6 and last > self.method.forcing * change:
            backward = not backward
            low, high = packed.sweep(self.value, backward)
            last, count = max(high, -low), count + 1
            if count == 1:
                first = last
        self.sweeps += count * self.per_policy
        return (last / first) ** (1 / (count - 1)) if count > 1 and first > 0 else 0.0


def _sweeps_left(ratio: float, rate: float) -> float:
    """Sweeps that shrink a change by `ratio` when each shrinks it by `rate`."""
    if ratio <= 1 or rate <= 0:
        return 0.0
    return math.log(ratio) / -math.log(rate) if rate < 1 else math.inf
