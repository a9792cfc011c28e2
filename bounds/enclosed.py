r"""Enclosed evidence: a large problem in float vectors that enclose the exact ones.

An `Enclosure` is a pair lower <= x <= upper; sums and differences of floats are rounded outwards by one `nextafter`, T x is
enclosed by [T lower, T upper] (monotone), each computed with its rounding bound by `Operator.enclose`. v* and v_p are
brackets of certificates, accepted by the exact checker, of the problem and of the problem with p's actions only.

Gauss-Seidel sweeps (with self-loops solved) are enclosed by a kernel of their own: a row of n entries is summed with error at
most 2 (n + 2) u times its absolute terms (Higham, Accuracy and Stability, 2002, section 3.1), the denominator 1 - g p_ss with
error at most 4 u.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numba
import numpy as np
import scipy.sparse
from flint import arb, fmpq

from ..mdp.criterion import Discounted
from ..mdp.model import MDP
from ..mdp.sweeps import TINY, UNIT_ROUNDOFF
from ..solvers.check import check
from ..solvers.errors import NotConverged
from ..solvers.policy_iteration import evaluate
from ..solvers.solve import solve
from .errors import BoundError
from .number import ONE, Number, between, exact

_WIDTHS = (2.0**-36, 2.0**-28, 2.0**-20)
"""Bracket widths to ask for, relative to the largest value there can be."""

_MIXING_WORK = 3e8
"""Additions above which comparing all rows with all is refused."""


@dataclass(frozen=True, eq=False)
class Enclosure:
    """A vector known to lie between two float vectors, each (n,)."""

    lower: np.ndarray
    upper: np.ndarray

    def __add__(self, other: Enclosure) -> Enclosure:
        return Enclosure(_down(self.lower + other.lower), _up(self.upper + other.upper))

    def __sub__(self, other: Enclosure) -> Enclosure:
        return Enclosure(_down(self.lower - other.upper), _up(self.upper - other.lower))


def _down(total: np.ndarray) -> np.ndarray:
    """Below the exact sum or difference of two floats; one that comes out zero is exact."""
    return np.where(total == 0, 0.0, np.nextafter(total, -np.inf))


def _up(total: np.ndarray) -> np.ndarray:
    return np.where(total == 0, 0.0, np.nextafter(total, np.inf))


class Readings:
    """What is read off an enclosure, as balls."""

    def sup(self, value: Enclosure) -> arb:
        """Largest absolute entry."""
        sure = np.maximum(np.maximum(value.lower, -value.upper), 0.0)
        return between(sure.max(), np.maximum(np.abs(value.lower), np.abs(value.upper)).max())

    def largest(self, value: Enclosure) -> arb:
        """Largest entry."""
        return between(value.lower.max(), value.upper.max())

    def least(self, value: Enclosure) -> arb:
        """Smallest entry."""
        return between(value.lower.min(), value.upper.min())

    def span(self, value: Enclosure) -> arb:
        """Largest entry less the smallest."""
        return self.largest(value) - self.least(value)


class EnclosedEvidence(Readings):
    """See `banach.bounds.evidence.Evidence`. Raises BoundError unless the problem is discounted."""

    def __init__(self, problem: MDP) -> None:
        if not isinstance(problem.criterion, Discounted):
            raise BoundError(f"{problem.criterion} has no brackets of discounted values; give a discounted problem")
        self.problem = problem.negated() if problem.criterion.minimize else problem
        self.discount: fmpq = exact(problem.discount)
        self._operator = self.problem.operator
        self._restricted: dict[bytes, EnclosedEvidence] = {}

    def zero(self) -> Enclosure:
        """Zero, and the terminal value in terminal states, (n,)."""
        value = np.array(self.problem.terminal_value)
        return Enclosure(value, value)

    def middle(self, value: Enclosure) -> Enclosure:
        """A float vector between the two ends, (n,)."""
        middle = value.lower + (value.upper - value.lower) / 2
        return Enclosure(middle, middle)

    def moved(self, value: Enclosure, direction: np.ndarray, step: Number = 1) -> Enclosure:
        """The floats nearest to value + step * direction, except in terminal states, without width; (n,)."""
        moved = value.lower + np.where(self.problem.terminal, 0.0, float(exact(step)) * direction)
        return Enclosure(moved, moved)

    def apply(self, value: Enclosure) -> Enclosure:
        """T value, (n,)."""
        return _both_ends(value, self._enclose)

    def _enclose(self, value: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        lower, upper = np.empty_like(value), np.empty_like(value)
        self._operator.enclose(value, np.empty(len(value), dtype=np.int32), lower, upper)
        return lower, upper

    def sweep(self, value: Enclosure) -> Enclosure:
        """One Gauss-Seidel sweep in the order of the states, self-loops solved, (n,)."""
        model = self.problem
        lower, upper = value.lower.copy(), value.upper.copy()
        kernel: Any = enclose_sweep
        kernel(
            model.state_ptr, model.row_ptr, model.successor, model.probability, model.reward, model.discount, lower, upper
        )  # fmt: skip
        return Enclosure(lower, upper)

    def apply_policy(self, policy: np.ndarray, value: Enclosure) -> Enclosure:
        """T_policy value, (n,)."""
        return self.restricted(policy).apply(value)

    def greedy(self, value: Enclosure) -> np.ndarray:
        """The policy that is greedy for the middle of value, rounding apart, int32 (n,)."""
        middle = self.middle(value).lower
        policy = np.empty(len(middle), dtype=np.int32)
        self._operator.apply(middle, np.empty_like(middle), policy)
        return policy

    def optimal(self) -> Enclosure:
        """A proved bracket of v*, (n,). Raises NotConverged where rounding allows none worth having."""
        return self._optimal

    @cached_property
    def _optimal(self) -> Enclosure:
        size = 1 + float(np.abs(self.problem.terminal_value).max())
        size += float(np.abs(self.problem.reward).max(initial=0.0)) / (1 - self.problem.discount)
        for share in _WIDTHS:
            try:
                certificate = solve(self.problem, eps=share * size).certificate
            except NotConverged:
                continue
            check(self.problem, certificate)
            return Enclosure(certificate.lower, certificate.upper)
        raise NotConverged(f"no bracket narrower than {_WIDTHS[-1] * size:.3g} was proved; a smaller discount would allow one")

    def policy_value(self, policy: np.ndarray) -> Enclosure:
        """A proved bracket of v_policy, (n,)."""
        return self.restricted(policy).optimal()

    def howard(self) -> list[np.ndarray]:
        """Policies of Howard's iteration in floats, a switch needing an advantage beyond rounding, each int32 (n,)."""
        policies = [np.where(self.problem.terminal, -1, 0).astype(np.int32)]
        while True:
            following = self._improved(policies[-1])[0]
            if np.array_equal(following, policies[-1]):
                return policies
            policies.append(following)

    def _improved(self, policy: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The policy after switching wherever that is better beyond rounding, and the advantages, (n,)."""
        value = evaluate(self._operator, policy)
        applied, greedy = np.empty_like(value), np.empty_like(policy)
        self._operator.apply(value, applied, greedy)
        gain = applied - value
        beyond = 1e-12 * (1 + float(np.abs(value).max())) / (1 - self.problem.discount)
        return np.where(gain > beyond, greedy, policy), gain

    def simplex(self) -> float:
        """Switches of one action of largest advantage each, counted in floats, until no advantage is beyond rounding."""
        policy, switches = np.where(self.problem.terminal, -1, 0).astype(np.int32), 0.0
        while True:
            following, gain = self._improved(policy)
            changed = following != policy
            if not changed.any():
                return switches
            state = int(np.argmax(np.where(changed, gain, -np.inf)))
            policy[state], switches = following[state], switches + 1

    def restricted(self, policy: np.ndarray) -> EnclosedEvidence:
        """The problem with the actions only of a policy (n_states,)."""
        key = policy.tobytes()
        if key not in self._restricted:
            self._restricted[key] = EnclosedEvidence(restrict(self.problem, policy))
        return self._restricted[key]

    def like(self, problem: MDP) -> EnclosedEvidence:
        """Enclosed evidence of another problem."""
        return EnclosedEvidence(problem)

    def distance(self, other: EnclosedEvidence) -> tuple[arb, arb]:
        """Largest |r - r'| and largest total variation between rows."""
        rewards = np.abs(self.problem.reward - other.problem.reward).max(initial=0.0)
        difference = abs(_rows(self.problem) - _rows(other.problem))
        sums = np.asarray(difference.sum(axis=1)).ravel() / 2
        entries = int(np.diff(difference.indptr).max(initial=0))
        error = 4 * (entries + 2) * UNIT_ROUNDOFF
        far = float(sums.max(initial=0.0))
        return between(float(_down(rewards)), float(_up(rewards))), between(max(0.0, far - error), far + error)

    def mixing(self) -> Number:
        """Largest total variation between two rows; one with terminal states. Raises BoundError for too many rows."""
        model = self.problem
        if model.terminal.any():
            return ONE
        if float(model.n_pairs) ** 2 * model.n_states > _MIXING_WORK:
            raise BoundError(f"comparing {model.n_pairs} rows with each other takes too long; give a smaller problem")
        rows = _rows(model).toarray()
        common = min(float(np.minimum(rows[i:], row).sum(axis=1).min()) for i, row in enumerate(rows))
        error = 4 * (model.n_states + 2) * UNIT_ROUNDOFF
        return between(max(0.0, 1 - common - error), 1 - common + error)

    def mean(self, value: Enclosure) -> arb:
        """Mean of value over the initial distribution, uniform when there is none."""
        n_states = self.problem.n_states
        weights = np.full(n_states, 1 / n_states) if self.problem.initial is None else self.problem.initial
        size = float(weights @ np.maximum(np.abs(value.lower), np.abs(value.upper)))
        margin = 4 * (n_states + 2) * UNIT_ROUNDOFF * size
        return between(float(weights @ value.lower - margin), float(weights @ value.upper + margin))

    def discounted_mean(self, policy: np.ndarray, value: Enclosure) -> arb:
        """Mean of value, zero in terminal states, over the policy's discounted occupancy: of what the policy is worth when
        value is what each state pays; policy int32 (n,)."""
        ends = [EnclosedEvidence(_paying(self.restricted(policy).problem, end)).optimal() for end in (value.lower, value.upper)]
        return (1 - self.discount) * self.mean(Enclosure(ends[0].lower, ends[1].upper))

    def reward_size(self) -> fmpq:
        """Largest |r|, a terminal value c counting as (1-g)|c|."""
        worth = (1 - self.discount) * exact(float(np.abs(self.problem.terminal_value).max()))
        return max(exact(float(np.abs(self.problem.reward).max(initial=0.0))), worth)


def restrict(problem: MDP, policy: np.ndarray) -> MDP:
    """The problem with one action a state, that of policy, int32 (n,); the floats of its rows unchanged."""
    acting = ~problem.terminal
    pairs = (problem.state_ptr[:-1] + policy)[acting]
    lengths = np.diff(problem.row_ptr)[pairs]
    row_ptr = np.concatenate(([0], np.cumsum(lengths)))
    entries = np.arange(row_ptr[-1]) + np.repeat(problem.row_ptr[pairs] - row_ptr[:-1], lengths)
    return dataclasses.replace(
        problem,
        state_ptr=np.concatenate(([0], np.cumsum(acting))),
        row_ptr=row_ptr,
        successor=problem.successor[entries],
        probability=problem.probability[entries],
        reward=problem.reward[pairs],
        action_names=None,
    )


def _paying(chain: MDP, pay: np.ndarray) -> MDP:
    """A problem without choice whose acting states pay what `pay` (n,) says."""
    return chain.replace(reward=pay[~chain.terminal], terminal_value=np.zeros(chain.n_states))


def _rows(problem: MDP) -> scipy.sparse.csr_array:
    shape = (problem.n_pairs, problem.n_states)
    return scipy.sparse.csr_array((problem.probability, problem.successor, problem.row_ptr), shape=shape)


def _both_ends(value: Enclosure, enclose: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]) -> Enclosure:
    lower, upper = enclose(value.lower)
    if value.lower is not value.upper:
        upper = enclose(value.upper)[1]
    return Enclosure(lower, upper)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def enclose_sweep(state_ptr, row_ptr, successor, probability, reward, discount, lower, upper):
    """One in-place Gauss-Seidel sweep of both ends, (n,) each, rounded outwards; terminal states stay."""
    for state in range(len(lower)):
        first, last = state_ptr[state], state_ptr[state + 1]
        if first == last:
            continue
        least, most = -np.inf, -np.inf
        for pair in range(first, last):
            low, high, size, loop = 0.0, 0.0, 0.0, 0.0
            for entry in range(row_ptr[pair], row_ptr[pair + 1]):
                p, neighbour = probability[entry], successor[entry]
                if neighbour == state:
                    loop += p
                else:
                    low += p * lower[neighbour]
                    high += p * upper[neighbour]
                    size += p * max(abs(lower[neighbour]), abs(upper[neighbour]))
            length = row_ptr[pair + 1] - row_ptr[pair]
            size = abs(reward[pair]) + discount * size
            margin = 2.0 * (length + 2) * UNIT_ROUNDOFF * size + TINY
            low = np.nextafter(reward[pair] + discount * low - margin, -np.inf)
            high = np.nextafter(reward[pair] + discount * high + margin, np.inf)
            rest, slack = 1.0 - discount * loop, 2.0 * (length + 2) * UNIT_ROUNDOFF
            low = np.nextafter(low / (rest + slack if low > 0.0 else rest - slack), -np.inf)
            high = np.nextafter(high / (rest - slack if high > 0.0 else rest + slack), np.inf)
            least, most = max(least, low), max(most, high)
        lower[state], upper[state] = least, most
