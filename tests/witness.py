r"""Slow, independent references for tests. Nothing here is shared with the library: it reads a model's arrays and no more.

For discounted problems, with the stored floats taken as exact numbers (q is the value of an action):

    q(s, a) = r(s, a) + g sum_j p(j | s, a) v(j),        v(s) = terminal value where s is terminal.

- `policy_value`, `optimal_value`: Gaussian elimination and Howard's iteration in Fractions.
- `policies`, `best_of_all_policies`: enumeration of every deterministic policy.
- `linear_programs`: the primal and the dual, written down densely, each solved for itself.
- `finite_horizon_value`: backward induction in Fractions.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from fractions import Fraction

import numpy as np
from banach.mdp import MDP
from scipy.optimize import linprog

Row = tuple[Fraction, dict[int, Fraction]]


def rows(problem: MDP) -> list[list[Row]]:
    """For each state its actions, as (reward, successor -> probability). Terminal states have none."""
    return [[_row(problem, k) for k in range(*problem.state_ptr[s : s + 2])] for s in range(problem.n_states)]


def _row(problem: MDP, k: int) -> Row:
    row: dict[int, Fraction] = {}
    for e in range(problem.row_ptr[k], problem.row_ptr[k + 1]):
        j = int(problem.successor[e])
        row[j] = row.get(j, Fraction(0)) + Fraction(float(problem.probability[e]))
    return Fraction(float(problem.reward[k])), row


def worth(row: Row, discount: Fraction, value: Sequence[Fraction]) -> Fraction:
    """q of one action."""
    reward, successors = row
    return reward + discount * sum((p * value[j] for j, p in successors.items()), Fraction(0))


def policy_value(problem: MDP, policy: Sequence[int]) -> list[Fraction]:
    """Exact discounted value of a policy, by Gaussian elimination in Fractions."""
    table, n = rows(problem), problem.n_states
    discount = Fraction(problem.criterion.discount)
    system = [[Fraction(int(i == j)) for j in range(n)] + [Fraction(float(problem.terminal_value[i]))] for i in range(n)]
    for state in range(n):
        if table[state]:
            reward, successors = table[state][int(policy[state])]
            system[state][n] = reward
            for j, p in successors.items():
                system[state][j] -= discount * p
    return _solved(system)


def _solved(system: list[list[Fraction]]) -> list[Fraction]:
    n = len(system)
    for column in range(n):
        pivot = next(i for i in range(column, n) if system[i][column] != 0)
        system[column], system[pivot] = system[pivot], system[column]
        scale = system[column][column]
        system[column] = [x / scale for x in system[column]]
        for i in range(n):
            factor = system[i][column]
            if i != column and factor:
                system[i] = [x - factor * y for x, y in zip(system[i], system[column], strict=True)]
    return [line[n] for line in system]


def optimal_value(problem: MDP) -> tuple[list[Fraction], list[list[int]]]:
    """Exact optimal discounted value, and all optimal actions of each state; minimisation where the criterion says so."""
    table, sign = rows(problem), -1 if problem.criterion.minimize else 1
    discount = Fraction(problem.criterion.discount)
    policy = [0 if actions else -1 for actions in table]
    while True:
        value = policy_value(problem, policy)
        gains = [[sign * (worth(row, discount, value) - value[s]) for row in actions] for s, actions in enumerate(table)]
        if all(max(gain, default=0) <= 0 for gain in gains):
            return value, [[a for a, g in enumerate(gain) if g == 0] for gain in gains]
        for state, gain in enumerate(gains):
            if gain and max(gain) > 0:
                policy[state] = gain.index(max(gain))


def policies(problem: MDP) -> Iterator[np.ndarray]:
    """Every deterministic policy, int32 (n_states,), -1 in terminal states."""
    counts = np.diff(problem.state_ptr)
    for choice in itertools.product(*(range(c) if c else (-1,) for c in counts)):
        yield np.array(choice, dtype=np.int32)


def best_of_all_policies(problem: MDP) -> list[Fraction]:
    """The best discounted value of each state over all deterministic policies."""
    best = min if problem.criterion.minimize else max
    values = [policy_value(problem, policy) for policy in policies(problem)]
    return [best(value[s] for value in values) for s in range(problem.n_states)]


def linear_programs(problem: MDP, weights: np.ndarray) -> tuple[float, float, np.ndarray]:
    """(primal optimum, dual optimum, dual solution x over pairs) of a discounted maximisation without terminal states."""
    n, m, g = problem.n_states, problem.n_pairs, problem.criterion.discount
    own, transition = np.zeros((m, n)), np.zeros((m, n))
    for s, actions in enumerate(rows(problem)):
        for k, (_, successors) in enumerate(actions, start=int(problem.state_ptr[s])):
            own[k, s] = 1
            for j, p in successors.items():
                transition[k, j] = float(p)
    primal = linprog(weights, A_ub=g * transition - own, b_ub=-problem.reward, bounds=(None, None), method="highs-ds")
    dual = linprog(-problem.reward, A_eq=(own - g * transition).T, b_eq=weights, bounds=(0, None), method="highs-ipm")
    return primal.fun, -dual.fun, dual.x


def finite_horizon_value(problem: MDP) -> list[list[Fraction]]:
    """Exact best value with horizon - t decisions left, for t = 0..horizon; by backward induction."""
    best = min if problem.criterion.minimize else max
    table, discount = rows(problem), Fraction(problem.criterion.discount)
    final = [Fraction(float(x)) for x in problem.terminal_value]
    stages = [final]
    for _ in range(problem.criterion.horizon):
        later = stages[0]
        stages.insert(0, [best((worth(r, discount, later) for r in acts), default=final[s]) for s, acts in enumerate(table)])
    return stages
