r"""Exact evidence: a small problem in rational arithmetic.

Rows are weights, p_kj = w_kj / sum_j w_kj. A policy's value solves (I - g P_p) v = r_p, terminal states fixed; Howard's
iteration with exact advantages ends in v* (Howard 1960). For the greatest probability of reaching terminal states worth
something (`TotalReward`, no rewards) the states that cannot reach them are worth 0; from a policy that heads for them, strict
improvement never makes a policy that stays away for ever, so that every system it meets has one solution.

    Proof of the last point. If the improved policy q had a class of states that it never leaves, v <= P_q v there, v the old
    value, with equality throughout since v is summable against the class's stationary distribution. No action of the class
    was changed then, so the old policy stayed there for ever as well.

Vectors are object arrays of `fmpq`, shape (n,).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
from flint import fmpq, fmpq_mat

from ..mdp.criterion import Discounted, TotalReward
from ..mdp.model import MDP
from .errors import BoundError
from .number import Number, exact

MAX_STATES = 120
"""States above which exact linear systems take too long for a measurement."""

ONE, NOTHING = fmpq(1), fmpq(0)


def rationals(numbers: Any) -> np.ndarray:
    """Object array (len,) of the exact rationals that the numbers are."""
    return np.array([exact(number) for number in numbers], dtype=object)


class RationalEvidence:
    """See `banach.bounds.evidence.Evidence`.

    problem: a maximisation. state_ptr: (n + 1,). matrix: (m, n) of exact probabilities. reward: (m,), rational. The pairs may
    be fewer than the problem's, or mixtures of them.
    """

    def __init__(
        self,
        problem: MDP,
        state_ptr: np.ndarray,
        matrix: fmpq_mat,
        reward: np.ndarray,
        discount: fmpq,
    ) -> None:
        self.problem, self.state_ptr, self.matrix, self.reward, self.discount = problem, state_ptr, matrix, reward, discount
        self.terminal = np.asarray(problem.terminal)
        self.terminal_value = rationals(problem.terminal_value)
        self.acting = np.flatnonzero(~self.terminal)
        self.pair_state = np.repeat(np.arange(len(self.terminal)), np.diff(state_ptr))

    @classmethod
    def of(cls, problem: MDP) -> RationalEvidence:
        """Evidence of a discounted or total-reward problem. Raises BoundError for another criterion or too many states."""
        if not isinstance(problem.criterion, (Discounted, TotalReward)):
            raise BoundError(f"{problem.criterion} has no rational evidence; give a discounted or a reachability problem")
        if problem.n_states > MAX_STATES:
            raise BoundError(f"{problem.n_states} states are too many for rational evidence; give at most {MAX_STATES}")
        problem = problem.negated() if problem.criterion.minimize else problem
        matrix = fmpq_mat(problem.n_pairs, problem.n_states)
        for pair, (first, last) in enumerate(pairwise(problem.row_ptr.tolist())):
            weights = rationals(problem.probability[first:last])
            total = sum(weights, NOTHING)
            for successor, weight in zip(problem.successor[first:last].tolist(), weights, strict=True):
                matrix[pair, successor] += weight / total
        return cls(problem, problem.state_ptr, matrix, rationals(problem.reward), exact(problem.discount))

    def zero(self) -> np.ndarray:
        """Zero, and the terminal value in terminal states, (n,)."""
        return self.terminal_value.copy()

    def middle(self, value: np.ndarray) -> np.ndarray:
        """The vector itself, (n,)."""
        return value

    def moved(self, value: np.ndarray, direction: np.ndarray, step: Number = 1) -> np.ndarray:
        """value + step * direction, except in terminal states, (n,)."""
        return value + np.where(self.terminal, NOTHING, exact(step) * rationals(direction))  # pyright: ignore[reportCallIssue, reportArgumentType]

    def action_values(self, value: np.ndarray) -> np.ndarray:
        """r + g P value of each pair, (m,)."""
        if not len(self.reward):
            return self.reward
        successors = self.matrix * fmpq_mat(len(value), 1, list(value))
        return self.reward + self.discount * np.array(successors.entries(), dtype=object)

    def apply(self, value: np.ndarray) -> np.ndarray:
        """T value, (n,)."""
        out = self.terminal_value.copy()
        if len(self.acting):
            out[self.acting] = np.maximum.reduceat(self.action_values(value), self.state_ptr[:-1][self.acting])
        return out

    def sweep(self, value: np.ndarray) -> np.ndarray:
        """One Gauss-Seidel sweep in the order of the states, self-loops solved, (n,)."""
        value = value.copy()
        for state in self.acting:
            best = None
            for pair in range(self.state_ptr[state], self.state_ptr[state + 1]):
                row = [self.matrix[pair, j] for j in range(len(value))]
                loop, row[state] = row[state], NOTHING
                others = sum((p * v for p, v in zip(row, value, strict=True)), NOTHING)
                worth = (self.reward[pair] + self.discount * others) / (1 - self.discount * loop)
                best = worth if best is None else max(best, worth)
            value[state] = best
        return value

    def pairs_of(self, policy: np.ndarray) -> np.ndarray:
        """The policy's pair in each acting state."""
        return (self.state_ptr[:-1] + policy)[self.acting]

    def apply_policy(self, policy: np.ndarray, value: np.ndarray) -> np.ndarray:
        """T_policy value, (n,)."""
        out = self.terminal_value.copy()
        out[self.acting] = self.action_values(value)[self.pairs_of(policy)]
        return out

    def _choose(self, best: Callable[[list[int]], int]) -> np.ndarray:
        policy = np.full(len(self.terminal), -1, dtype=np.int32)
        for state in self.acting:
            first, last = int(self.state_ptr[state]), int(self.state_ptr[state + 1])
            policy[state] = best(list(range(first, last))) - first
        return policy

    def greedy(self, value: np.ndarray) -> np.ndarray:
        """Of the greedy policies of value the one that is worst at v*, int32 (n,)."""
        return self.worst_best(self.action_values(value), self._optimal_action_values)

    def worst_best(self, worth: np.ndarray, other: np.ndarray) -> np.ndarray:
        """Of the policies that are greedy for action values (m,) the one of the least other values (m,), int32 (n,)."""
        return self._choose(lambda pairs: min(_largest(worth, pairs), key=lambda pair: other[pair]))

    @cached_property
    def _optimal_action_values(self) -> np.ndarray:
        return self.action_values(self.optimal())

    def optimal(self) -> np.ndarray:
        """v*, (n,). Raises BoundError for total rewards other than reachability."""
        return self._optimal

    @cached_property
    def _optimal(self) -> np.ndarray:
        if isinstance(self.problem.criterion, TotalReward):
            return self._reachability()
        return self.policy_value(self.howard()[-1])

    def howard(self) -> list[np.ndarray]:
        """Policies of Howard's iteration from the first actions to the first optimal one, each int32 (n,)."""
        policies = [np.where(self.terminal, -1, 0).astype(np.int32)]
        while True:
            following = self._improved(policies[-1], self.policy_value(policies[-1]))
            if np.array_equal(following, policies[-1]):
                return policies
            policies.append(following)

    def _improved(self, policy: np.ndarray, value: np.ndarray) -> np.ndarray:
        worth = self.action_values(value)
        kept = dict(zip(self.acting.tolist(), self.pairs_of(policy).tolist(), strict=True))

        def best(pairs: list[int]) -> int:
            old = kept[int(self.pair_state[pairs[0]])]
            ties = _largest(worth, pairs)
            return old if worth[old] == worth[ties[0]] else ties[0]

        return self._choose(best)

    def simplex(self) -> int:
        """Switches of one action of largest advantage each until the policy is optimal."""
        policy, switches = np.where(self.terminal, -1, 0).astype(np.int32), 0
        while True:
            value = self.policy_value(policy)
            gain = self.apply(value) - value
            state = max(self.acting.tolist(), key=lambda s: gain[s], default=None)
            if state is None or gain[state] <= 0:
                return switches
            policy[state], switches = self._improved(policy, value)[state], switches + 1

    def policy_value(self, policy: np.ndarray) -> np.ndarray:
        """v_policy, (n,)."""
        return self._solve(policy, np.zeros(len(policy), dtype=bool))

    def _solve(self, policy: np.ndarray, worthless: np.ndarray) -> np.ndarray:
        n_states = len(policy)
        system, constant = fmpq_mat(n_states, n_states), self.terminal_value.copy()
        for state in range(n_states):
            system[state, state] = ONE
        for state, pair in zip(self.acting.tolist(), self.pairs_of(policy).tolist(), strict=True):
            if worthless[state]:
                continue
            constant[state] = self.reward[pair]
            for successor in range(n_states):
                system[state, successor] -= self.discount * self.matrix[pair, successor]
        return np.array(system.solve(fmpq_mat(n_states, 1, list(constant))).entries(), dtype=object)

    def _reachability(self) -> np.ndarray:
        if any(r != 0 for r in self.reward) or any(value < 0 for value in self.terminal_value):
            raise BoundError("rational evidence of total reward needs rewards of zero and terminal values of zero or more")
        reached = np.array([value > 0 for value in self.terminal_value])
        policy = np.where(self.terminal, -1, 0).astype(np.int32)
        frontier = True
        while frontier:
            frontier = {}
            for state in self.acting[~reached[self.acting]]:
                for pair in range(self.state_ptr[state], self.state_ptr[state + 1]):
                    if any(self.matrix[pair, int(j)] > 0 for j in np.flatnonzero(reached)):
                        frontier.setdefault(state, pair - self.state_ptr[state])
            for state, action in frontier.items():
                reached[state], policy[state] = True, action
        while True:
            value = self._solve(policy, ~reached)
            following = self._improved(policy, value)
            if np.array_equal(following, policy):
                return value
            policy = following

    def restricted(self, policy: np.ndarray) -> RationalEvidence:
        """The problem with the policy's actions only."""
        return self.mixture(policy, policy, ONE)

    def mixture(self, policy: np.ndarray, other: np.ndarray, share: Number) -> RationalEvidence:
        """The problem whose only action is `other` with probability `share`, else that of `policy`; both int32 (n,)."""
        here, there, share = self.pairs_of(policy), self.pairs_of(other), exact(share)
        rows = self.matrix.table()
        mixed = [
            [(1 - share) * p + share * q for p, q in zip(rows[a], rows[b], strict=True)]
            for a, b in zip(here.tolist(), there.tolist(), strict=True)
        ]
        pointers = np.concatenate(([0], np.cumsum(~self.terminal)))
        matrix = fmpq_mat(len(mixed), len(self.terminal), [p for row in mixed for p in row])
        reward = (1 - share) * self.reward[here] + share * self.reward[there]
        return RationalEvidence(self.problem, pointers, matrix, reward, self.discount)

    def like(self, problem: MDP) -> RationalEvidence:
        """Rational evidence of another problem."""
        return RationalEvidence.of(problem)

    def distance(self, other: RationalEvidence) -> tuple[fmpq, fmpq]:
        """Largest |r - r'| and largest total variation between rows."""
        if not len(self.reward):
            return NOTHING, NOTHING
        rows = zip(self.matrix.table(), other.matrix.table(), strict=True)
        return max(abs(self.reward - other.reward)), max(_total_variation(p, q) for p, q in rows)

    def mixing(self) -> fmpq:
        """Largest total variation between two rows; one with terminal states."""
        rows = self.matrix.table()
        if self.terminal.any():
            return ONE
        return max((_total_variation(p, q) for i, p in enumerate(rows) for q in rows[:i]), default=NOTHING)

    def occupancy(self, policy: np.ndarray) -> np.ndarray:
        """Discounted occupancy from the initial distribution, (n,); it misses one by what ends in terminal states."""
        n_states = len(policy)
        system = fmpq_mat(n_states, n_states)
        for state in range(n_states):
            system[state, state] = ONE
        for state, pair in zip(self.acting.tolist(), self.pairs_of(policy).tolist(), strict=True):
            for successor in range(n_states):
                system[successor, state] -= self.discount * self.matrix[pair, successor]
        begin = (1 - self.discount) * self._initial()
        return np.array(system.solve(fmpq_mat(n_states, 1, list(begin))).entries(), dtype=object)

    def _initial(self) -> np.ndarray:
        weights = np.ones(len(self.terminal)) if self.problem.initial is None else self.problem.initial
        initial = rationals(weights)
        return initial / sum(initial, NOTHING)

    def mean(self, value: np.ndarray) -> fmpq:
        """Mean of value over the initial distribution, uniform when there is none."""
        return sum(self._initial() * value, NOTHING)

    def discounted_mean(self, policy: np.ndarray, value: np.ndarray) -> fmpq:
        """Mean of value, zero in terminal states, over the policy's discounted occupancy; policy int32 (n,)."""
        return sum(self.occupancy(policy) * value, NOTHING)

    def reward_size(self) -> fmpq:
        """Largest |r|, a terminal value c counting as (1-g)|c|."""
        return max([*abs(self.reward), *((1 - self.discount) * abs(self.terminal_value))])  # pyright: ignore[reportOperatorIssue]

    def sup(self, value: np.ndarray) -> fmpq:
        """Largest absolute entry."""
        return max(abs(value))

    def span(self, value: np.ndarray) -> fmpq:
        """Largest entry less the smallest."""
        return max(value) - min(value)

    def largest(self, value: np.ndarray) -> fmpq:
        """Largest entry."""
        return max(value)

    def least(self, value: np.ndarray) -> fmpq:
        """Smallest entry."""
        return min(value)


def rational(evidence: Any, bound: str) -> RationalEvidence:
    """The evidence, for a bound that needs exact numbers. Raises BoundError where it is not rational."""
    if not isinstance(evidence, RationalEvidence):
        raise BoundError(f"{bound} is measured in rational arithmetic; give a problem of at most ten states")
    return evidence


def _largest(worth: np.ndarray, pairs: list[int]) -> list[int]:
    best = max(worth[pair] for pair in pairs)
    return [pair for pair in pairs if worth[pair] == best]


def _total_variation(p: list[fmpq], q: list[fmpq]) -> fmpq:
    return sum((abs(a - b) for a, b in zip(p, q, strict=True)), NOTHING) / 2
