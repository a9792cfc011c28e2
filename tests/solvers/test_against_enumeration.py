"""Undiscounted problems against every deterministic policy, each evaluated in exact rationals.

The witness shares nothing with the solvers: a chain's states that cannot reach a terminal state or that earn for ever are
found by closure, the others by Gaussian elimination in Fractions. Rows are weights, normalised exactly.
"""

import itertools
from fractions import Fraction

import numpy as np
import pytest
from banach.mdp import strategies
from banach.solvers import InfiniteValue, IntervalIteration, OptimisticValueIteration, PolicyIteration, check, solve
from hypothesis import assume, given, settings

from .rational_gain import best_gains, rational_rows

INFINITE = Fraction(10**30)
"""Stands for infinity; no finite total of the drawn models comes near."""


def policies(problem):
    """Every deterministic policy, as the pair of each state, -1 in terminal states."""
    choices = [range(first, last) or [-1] for first, last in itertools.pairwise(problem.state_ptr.tolist())]
    return itertools.product(*choices)


def closure(chain, sources):
    """States from which some source can be reached."""
    found, grown = set(sources), True
    while grown:
        grown = False
        for state, row in enumerate(chain):
            if state not in found and found & row.keys():
                found.add(state)
                grown = True
    return found


def recurrent_classes(chain, terminal):
    """The closed classes of states that are not terminal."""
    reach = [closure(chain, {state}) for state in range(len(chain))]
    after = [{t for t in range(len(chain)) if s in reach[t]} for s in range(len(chain))]
    return {frozenset(after[s]) for s in range(len(chain)) if not terminal[s] and all(s in after[t] for t in after[s])}


def solved(system):
    """Solution of a square system of Fractions with the right-hand side as last column."""
    n = len(system)
    for column in range(n):
        pivot = next(row for row in range(column, n) if system[row][column])
        system[column], system[pivot] = system[pivot], system[column]
        scale = system[column][column]
        system[column] = [x / scale for x in system[column]]
        for row in range(n):
            if row != column and system[row][column]:
                factor = system[row][column]
                system[row] = [x - factor * y for x, y in zip(system[row], system[column], strict=True)]
    return [row[-1] for row in system]


def total_of(problem, pairs, rows):
    """Exact expected total of a policy, +-INFINITE, or None where it is undefined."""
    n = problem.n_states
    reward = [Fraction(float(problem.reward[k])) if k >= 0 else Fraction(0) for k in pairs]
    chain = [rows[k] if k >= 0 else {s: Fraction(1)} for s, k in enumerate(pairs)]
    endless = {}
    for members in recurrent_classes(chain, problem.terminal):
        signs = {(reward[s] > 0) - (reward[s] < 0) for s in members}
        if {1, -1} <= signs:
            return None
        for state in members:
            endless[state] = max(signs, key=abs)
    value = [None] * n
    lost = {state: sign for state, sign in endless.items() if sign}
    for sign in (1, -1):
        for state in closure(chain, {s for s, of in lost.items() if of == sign}):
            if value[state] is not None and value[state] != sign * INFINITE:
                return None
            value[state] = sign * INFINITE
    for state in range(n):
        if problem.terminal[state]:
            value[state] = Fraction(float(problem.terminal_value[state]))
        elif state in endless and value[state] is None:
            value[state] = Fraction(0)
    open_states = [s for s in range(n) if value[s] is None]
    system = []
    for s in open_states:
        known = sum((p * value[t] for t, p in chain[s].items() if t not in open_states), Fraction(0))
        system.append([Fraction(s == t) - chain[s].get(t, Fraction(0)) for t in open_states] + [reward[s] + known])
    for s, number in zip(open_states, solved(system), strict=True):
        value[s] = number
    return value


def best_totals(problem):
    """The best exact total of each state over all deterministic policies; None where one of them is undefined."""
    maximal = problem.negated() if problem.criterion.minimize else problem
    rows, best = rational_rows(maximal), None
    for pairs in policies(maximal):
        value = total_of(maximal, pairs, rows)
        if value is None:
            return None
        best = value if best is None else [max(a, b) for a, b in zip(best, value, strict=True)]
    return [-x for x in best] if problem.criterion.minimize else best


def contained(certificate, exact):
    return all(Fraction(float(low)) <= x <= Fraction(float(high)) for low, x, high in zip(
        certificate.lower, exact, certificate.upper, strict=True
    ))  # fmt: skip


def few_policies(problem):
    return np.prod(np.maximum(np.diff(problem.state_ptr), 1).astype(float)) <= 60


@given(strategies.total_reward_mdps(max_states=4, max_actions=3))
@settings(deadline=None, max_examples=120)
def test_a_total_is_bracketed_or_infinite_as_enumeration_says(problem):
    assume(few_policies(problem))
    exact = best_totals(problem)
    assume(exact is not None)
    if max(map(abs, exact)) >= INFINITE:
        with pytest.raises(InfiniteValue, match="state"):
            solve(problem)
        return
    solution = solve(problem, eps=1e-6)
    assert contained(solution.certificate, exact)
    assert solution.certificate.width <= 1e-6
    assert check(problem, solution.certificate)


@given(strategies.reachability_mdps(max_states=5, max_actions=3))
@settings(deadline=None, max_examples=80)
@pytest.mark.parametrize("method", [None, IntervalIteration(), OptimisticValueIteration(), PolicyIteration()], ids=str)
def test_a_probability_of_reaching_is_bracketed_by_every_method(method, problem):
    assume(few_policies(problem))
    exact = best_totals(problem)
    solution = solve(problem, method, eps=1e-6)
    assert contained(solution.certificate, exact)
    assert check(problem, solution.certificate)


@given(strategies.total_reward_mdps(max_states=4, max_actions=2, kind="proper"))
@settings(deadline=None, max_examples=60)
def test_the_returned_policys_own_total_is_in_the_bracket(problem):
    solution = solve(problem, eps=1e-6)
    maximal = problem.negated() if problem.criterion.minimize else problem
    pairs = [int(first + a) if a >= 0 else -1 for first, a in zip(maximal.state_ptr[:-1], solution.policy, strict=True)]
    own = total_of(maximal, pairs, rational_rows(maximal))
    assume(own is not None)
    assert contained(solution.certificate, [-x for x in own] if problem.criterion.minimize else own)


@given(strategies.average_reward_mdps(max_states=4, max_actions=3))
@settings(deadline=None, max_examples=100)
def test_a_gain_is_bracketed_whatever_the_chain_structure(problem):
    assume(few_policies(problem))
    maximal = problem.negated() if problem.criterion.minimize else problem
    exact = best_gains(maximal)
    solution = solve(problem, eps=1e-6)
    assert contained(solution.certificate, [-x for x in exact] if problem.criterion.minimize else exact)
    assert check(problem, solution.certificate)
