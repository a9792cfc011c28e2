r"""Policy iteration in exact rational arithmetic.

Floats are dyadic rationals, so a discounted problem is an exact one. With a common power of two 2^e that makes the numbers of
state s integers, R_k = 2^e r_k, M_kj = 2^e g p_kj, the value of a policy solves an integer system

    2^e v_s - sum_j M_kj v_j = R_k,          k the policy's pair of s,

by p-adic lifting (Dixon 1982, in FLINT), v_s = N_s / D with one common D > 0. Then pair k of s is better than the policy
exactly if R_k D + sum_j M_kj N_j - 2^e N_s > 0. Starting from the policy of the float iteration one or two rounds are usual.
When no pair is better, N / D is the optimal value and the pairs with equality are all the optimal actions (Howard 1960).

Rounded to floats, v* is not inductive any more: rounding errors of d can cost a shift by b d / (1 - b), b < 1 the largest row
mass (see `banach.solvers.bracket`). Exact arithmetic finds the smallest shift, to a factor of two, that will do.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import Any

import flint
import numpy as np

from ..mdp.criterion import Discounted
from ..mdp.model import MDP
from ..mdp.operator import Operator
from .errors import NotConverged, SolveError
from .exact import row_signs, row_sum_at_least
from .method import model_of
from .policy_iteration import evaluate
from .watch import Watch

MAX_STATES = 400
"""States above which exact evaluation is refused; its time grows with their cube, its numbers to tens of thousands of bits."""


@dataclass(frozen=True)
class RationalPolicyIteration:
    """Howard's iteration with nothing rounded. On a table of at most `MAX_STATES` states.

    max_rounds: exact evaluations before giving up with `NotConverged`.
    """

    max_rounds: int = 1_000

    def run(self, operator: Operator, value: np.ndarray, eps: float, watch: Watch) -> np.ndarray:
        """The floats nearest to the optimal value, (n_states,). Raises SolveError without a table or for too many states."""
        exact = _iterate(model_of(operator, self), value, self.max_rounds, watch)
        return _floats(exact.value)

    def prove(self, problem: MDP, start: np.ndarray, eps: float, watch: Watch) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(lower, upper, policy) of a maximisation problem: inductive floats as near to the optimal value as floats can be.

        Raises SolveError for more than `MAX_STATES` states, NotConverged where floats cannot be as near as eps.
        """
        exact = _iterate(problem, start, self.max_rounds, watch)
        policy = exact.policy()
        lower, upper = exact.inductive(-1, policy), exact.inductive(1, policy)
        width = float(np.max(upper - lower))
        if width > eps:
            raise NotConverged(
                f"the exact optimum is known, but an inductive bracket of floats around it is {width:.3g} wide (asked for "
                f"{eps:.3g}); ask for a wider eps, or for exact_value(problem)",
                reached=width,
            )
        return lower, upper, policy


def exact_value(problem: MDP) -> tuple[list[Fraction], np.ndarray]:
    """The optimal value of a discounted problem as exact fractions, and the first optimal action of each state.

    Returns n_states fractions and int32 (n_states,), -1 in terminal states. The model's floats are taken as exact numbers.
    Raises SolveError for another criterion or more than `MAX_STATES` states, NotConverged where discount times row sum >= 1.
    """
    exact, sign = _solve(problem)
    return [sign * number for number in exact.value], exact.policy()


def exact_policies(problem: MDP) -> list[list[int]]:
    """All optimal actions of each state, ascending; none in terminal states. Ties are exact.

    Raises SolveError and NotConverged as `exact_value` does.
    """
    return _solve(problem)[0].best


def _solve(problem: MDP) -> tuple[_Optimum, int]:
    if not isinstance(problem, MDP) or not isinstance(problem.criterion, Discounted):
        raise SolveError(f"exact values are for discounted problems; this one has {problem.criterion}")
    maximal = problem.negated() if problem.criterion.minimize else problem
    return _iterate(maximal, maximal.terminal_value, 1_000, Watch()), -1 if problem.criterion.minimize else 1


@dataclass(frozen=True)
class _Optimum:
    """The optimal value of a maximisation problem, with all optimal actions."""

    problem: MDP
    value: list[Fraction]
    best: list[list[int]]

    def policy(self) -> np.ndarray:
        return np.array([actions[0] if actions else -1 for actions in self.best], dtype=np.int32)

    def inductive(self, side: int, policy: np.ndarray) -> np.ndarray:
        """Floats below (side -1) or above (side 1) the value that the operator proves to be so. Raises NotConverged."""
        problem = self.problem
        pairs = (problem.state_ptr[:-1] + policy)[~problem.terminal] if side < 0 else np.arange(problem.n_pairs)
        heaviest, shift = _heaviest(problem), Fraction(0)
        finest = Fraction(float(np.spacing(np.abs(_floats(self.value))).max())) / 64
        while shift <= 2**20 * finest / (1 - heaviest):
            moved = np.array([_beyond(number + side * shift, side) for number in self.value])
            moved[problem.terminal] = problem.terminal_value[problem.terminal]
            signs, _ = row_signs(problem, pairs, moved, [moved], weights=False)
            if not np.any(signs == side):
                return moved
            shift = 2 * shift or heaviest * finest / (1 - heaviest)
        raise NotConverged("the exact optimum is known, but no floats near it prove a bracket; use exact_value(problem)")


@dataclass(frozen=True)
class _Integers:
    """The rows of a problem times a power of two for each state.

    unit: 2^e of each state, or the denominator of its terminal value. reward: R_k. row: (j, M_kj) of each pair.
    """

    unit: list[int]
    reward: list[int]
    row: list[list[tuple[int, int]]]

    @classmethod
    def of(cls, problem: MDP) -> _Integers:
        top, bottom = problem.discount.as_integer_ratio()
        probability = [(top * p, bottom * q) for p, q in map(float.as_integer_ratio, problem.probability.tolist())]
        reward = list(map(float.as_integer_ratio, problem.reward.tolist()))
        successor, row_ptr, unit = problem.successor.tolist(), problem.row_ptr.tolist(), []
        integers, rows = [], []
        for state, worth in enumerate(problem.terminal_value.tolist()):
            pairs = range(*problem.state_ptr[state : state + 2].tolist())
            entries = [range(row_ptr[pair], row_ptr[pair + 1]) for pair in pairs]
            common = max(
                [reward[pair][1] for pair in pairs] + [probability[entry][1] for row in entries for entry in row] + [1]
            )
            unit.append(common if pairs else worth.as_integer_ratio()[1])
            integers += [reward[pair][0] * (common // reward[pair][1]) for pair in pairs]
            rows += [[(successor[e], probability[e][0] * (common // probability[e][1])) for e in row] for row in entries]
        return cls(unit, integers, rows)


def _iterate(problem: MDP, start: np.ndarray, max_rounds: int, watch: Watch) -> _Optimum:
    if problem.n_states > MAX_STATES:
        raise SolveError(
            f"exact rational arithmetic is offered up to {MAX_STATES} states; this model has {problem.n_states}: use a float "
            "method, whose bracket is rigorous too"
        )
    for pair in range(problem.n_pairs if problem.operator.modulus >= 1 else 0):
        if row_sum_at_least(problem, pair, problem.discount):
            state = int(problem.pair_state[pair])
            where = f"state {problem.state_of(state)}, action {problem.action_of(state, pair - int(problem.state_ptr[state]))}"
            raise NotConverged(f"{where}: the discount times the sum of the row is at least one; the value may be infinite")
    integers, policy, heaviest = _Integers.of(problem), _float_policy(problem, start), _heaviest(problem)
    for _ in range(max_rounds):
        numerators, denominator = _evaluate(problem, integers, policy)
        advantages = _advantages(problem, integers, numerators, denominator)
        gain = max(
            (max(row) * Fraction(1, unit) for row, unit in zip(advantages, integers.unit, strict=True) if row), default=0
        )
        value = [Fraction(numerator, denominator) for numerator in numerators]
        watch(_floats(value), float(gain / denominator / (1 - heaviest)))
        if gain <= 0:
            return _Optimum(problem, value, [[k for k, a in enumerate(row) if a == 0] for row in advantages])
        for state, row in enumerate(advantages):
            if row and max(row) > 0:
                policy[state] = row.index(max(row))
    raise NotConverged(f"a policy was still improved after {max_rounds} exact evaluations; raise max_rounds")


def _float_policy(problem: MDP, start: np.ndarray) -> np.ndarray:
    """The policy at which Howard's iteration in floats stops, or about to cycle between ties."""
    operator, value = problem.operator, start
    policy, following = np.where(problem.terminal, np.int32(-1), np.int32(0)), np.empty_like(start)
    for _ in range(50):
        improved = np.empty_like(policy)
        operator.apply(value, following, improved)
        if np.array_equal(policy, improved) or not np.isfinite(following).all():
            break
        policy = improved
        try:
            value = evaluate(operator, policy)
        except NotConverged:
            break
    return policy


def _evaluate(problem: MDP, integers: _Integers, policy: np.ndarray) -> tuple[list[int], int]:
    """Numerators and the common positive denominator of a policy's exact value."""
    n_states = problem.n_states
    matrix, constant = [[0] * n_states for _ in range(n_states)], []
    for state, (first, action) in enumerate(zip(problem.state_ptr.tolist(), policy.tolist(), strict=False)):
        matrix[state][state] = integers.unit[state]
        if action < 0:
            constant.append([float(problem.terminal_value[state]).as_integer_ratio()[0]])
            continue
        for successor, weight in integers.row[first + action]:
            matrix[state][successor] -= weight
        constant.append([integers.reward[first + action]])
    system: Any = flint.fmpz_mat(matrix)
    solution, denominator = system.solve(flint.fmpz_mat(constant)).numer_denom()
    sign = 1 if denominator > 0 else -1
    return [sign * int(solution[state, 0]) for state in range(n_states)], sign * int(denominator)


def _advantages(problem: MDP, integers: _Integers, numerators: Sequence[int], denominator: int) -> list[list[int]]:
    """unit_s D (q_k - v_s) for the pairs k of each state s, exactly."""
    advantages = []
    for state, (first, last) in enumerate(pairwise(problem.state_ptr.tolist())):
        own = integers.unit[state] * numerators[state]
        totals = [sum(weight * numerators[j] for j, weight in integers.row[pair]) for pair in range(first, last)]
        advantages.append([integers.reward[first + k] * denominator + total - own for k, total in enumerate(totals)])
    return advantages


def _heaviest(problem: MDP) -> Fraction:
    """An upper bound, below one, on discount times row sum."""
    modulus = problem.operator.modulus
    if modulus < 1:
        return Fraction(modulus)
    ends = problem.row_ptr.tolist()
    rows = (problem.probability[first:last].tolist() for first, last in pairwise(ends))
    return Fraction(problem.discount) * max(sum(map(Fraction, row)) for row in rows)


def _beyond(number: Fraction, side: int) -> float:
    """The nearest float that is not below (side 1) or not above (side -1) the number."""
    near = float(number)
    return near if (Fraction(near) - number) * side >= 0 else math.nextafter(near, side * math.inf)


def _floats(numbers: Sequence[Fraction]) -> np.ndarray:
    """The nearest floats. Raises NotConverged where a number exceeds the largest float."""
    try:
        return np.array([float(number) for number in numbers])
    except OverflowError:
        raise NotConverged("the optimal value exceeds the largest float; scale the rewards down") from None
