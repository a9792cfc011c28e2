"""The exact arithmetic of shared budgets, against programs and rows; the float filter, against the exact arithmetic."""

import dataclasses
import warnings
from fractions import Fraction

import cvxpy as cp
import numpy as np
import pytest
from banach.mdp.ambiguity import L1, Burg, TotalVariation
from banach.solvers.exact_ambiguity import rational, sigma
from banach.solvers.exact_budget import priced, spent, weights_of, worth
from banach.solvers.filter_s_rectangular import budgets, worth_at_least, worth_at_most
from flint import fmpq
from hypothesis import given, settings
from hypothesis import strategies as st

from .s_rectangular_witness import BALLS, distance_of, maximising, problems, random_weights

every_ball = pytest.mark.parametrize("name", BALLS)
positive = st.floats(0.05, 4.0)


@st.composite
def rows(draw, max_successors=5):
    """A positive nominal row of floats and values with ties, both (n,)."""
    n = draw(st.integers(1, max_successors))
    counts = np.array(draw(st.lists(st.integers(1, 6), min_size=n, max_size=n)), dtype=float)
    entries = st.one_of(st.integers(-3, 3).map(float), st.floats(-3, 3, width=32))
    return counts / counts.sum(), np.array(draw(st.lists(entries, min_size=n, max_size=n)))


def exactly(numbers):
    return [rational(float(x)) for x in numbers]


def weighted(ball, n):
    return weights_of(ball, ball.entries(np.ones(n) / n), n)


@every_ball
@settings(deadline=None, max_examples=25)
@given(row=rows(), decision=positive, price=positive, seed=st.integers(0, 999))
def test_no_row_is_cheaper_than_its_price_says(name, row, decision, price, seed):
    nominal, z = row
    ball = BALLS[name](1.0, len(z), "nominal")
    bound = priced(ball, rational(decision), rational(price), exactly(nominal), exactly(z), weighted(ball, len(z)), 64)
    for p in (nominal, *np.random.default_rng(seed).dirichlet(np.ones(len(z)), size=8)):
        assert float(bound) <= decision * p @ z + price * distance_of(ball, nominal, p) + 1e-12


@every_ball
@settings(deadline=None, max_examples=20)
@given(row=rows(), decision=positive, price=positive)
def test_the_cheapest_row_costs_what_the_price_says(name, row, decision, price):
    nominal, z = row
    ball = BALLS[name](1.0, len(z), "nominal")
    bound = priced(ball, rational(decision), rational(price), exactly(nominal), exactly(z), weighted(ball, len(z)), 64)
    p = cp.Variable(len(z), nonneg=True)
    program = cp.Problem(cp.Minimize(decision * p @ z + price * distance_of(ball, nominal, p)), [cp.sum(p) == nominal.sum()])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        program.solve(solver="CLARABEL")
    assert float(bound) == pytest.approx(program.value, abs=1e-5)


@settings(deadline=None, max_examples=40)
@given(row=rows(), goal=st.floats(-3, 3), weights=st.booleans())
def test_the_least_distance_to_a_worth_is_that_of_the_program(row, goal, weights):
    nominal, z = row
    ball = BALLS["WeightedL1" if weights else "TotalVariation"](1.0, len(z), "nominal")
    found = spent(rational(goal), exactly(nominal), exactly(z), weighted(ball, len(z)))
    if found is None:
        assert z.min() * nominal.sum() > goal - 1e-15
        return
    p = cp.Variable(len(z), nonneg=True)
    away = distance_of(ball, nominal, p)
    program = cp.Problem(cp.Minimize(away), [cp.sum(p) == nominal.sum(), p @ z <= goal])
    program.solve(solver="CLARABEL")
    assert float(found) == pytest.approx(program.value, abs=1e-6)


@settings(deadline=None, max_examples=40)
@given(first=rows(), second=rows(), shares=st.tuples(st.integers(0, 3), st.integers(1, 3)), radius=st.floats(0.01, 2.0))
def test_the_exact_worth_of_a_decision_is_that_of_the_program(first, second, shares, radius):
    parts, decision = (first, second), np.array(shares) / sum(shares)
    ball = TotalVariation(radius)
    exact = worth(
        rational(radius), exactly(decision), [exactly(nominal) for nominal, _ in parts], [exactly(z) for _, z in parts],
        [weighted(ball, len(z)) for _, z in parts],
    )  # fmt: skip
    variables = [cp.Variable(len(z), nonneg=True) for _, z in parts]
    spending = sum(distance_of(ball, nominal, p) for p, (nominal, _) in zip(variables, parts, strict=True))
    constraints = [spending <= radius, *(cp.sum(p) == n.sum() for p, (n, _) in zip(variables, parts, strict=True))]
    program = cp.Problem(
        cp.Minimize(sum(d * p @ z for d, p, (_, z) in zip(decision, variables, parts, strict=True))), constraints
    )
    program.solve(solver="CLARABEL")
    assert float(exact) == pytest.approx(program.value, abs=1e-6)


def exact_bounds(problem, state, decision, price, share, x):
    """(below, above) in rationals: what a price and shares prove of the least worth, on nature's side; above of each action."""
    model, turned = problem.problem, -1 if problem.optimistic else 1
    ball, below, above = problem.set_of(int(model.state_ptr[state])), fmpq(0), []
    for k in range(model.state_ptr[state], model.state_ptr[state + 1]):
        row = slice(int(model.row_ptr[k]), int(model.row_ptr[k + 1]))
        z = [turned * rational(model.discount) * rational(float(v)) for v in x[model.successor[row]]]
        if problem.transition_reward is not None:
            z = [v + turned * rational(float(t)) for v, t in zip(z, problem.transition_reward[row], strict=True)]
        nominal, reward = exactly(model.probability[row]), turned * rational(float(model.reward[k]))
        entries, d = problem.entries_of(k), rational(float(decision[k]))
        if d > 0:
            found = priced(ball, d, rational(float(price)), nominal, z, weights_of(ball, entries, len(z)), 512)
            below += d * reward + found
        part = TotalVariation(share[k]) if isinstance(ball, L1) else dataclasses.replace(ball, radius=share[k])
        above.append((d, reward + sigma(part, nominal, z, entries, 64)[0]))
    return below, above


@every_ball
@settings(deadline=None, max_examples=12)
@given(data=st.data(), scale=st.sampled_from([1.0, 1e-9, 1e9]), tightness=st.sampled_from([1.0, 0.01, 100.0]))
def test_the_filter_claims_no_more_than_prices_and_shares_prove(name, data, scale, tightness):
    problem = maximising(data.draw(problems(name)))
    seed = data.draw(st.integers(0, 2**32 - 1))
    decision, rng = random_weights(problem, seed), np.random.default_rng(seed)
    x = scale * np.array(data.draw(st.lists(st.floats(-5, 5), min_size=problem.n_states, max_size=problem.n_states)))
    price = tightness * scale * rng.random(problem.n_states) * (rng.random(problem.n_states) < 0.9)
    budget, state = budgets(problem), problem.problem.pair_state
    share = budget[state] * rng.random(problem.n_pairs)
    share /= np.maximum(1.0, np.bincount(state, share, problem.n_states)[state] / np.maximum(budget[state], 1e-300))
    low = worth_at_least(problem, decision, price, x)
    committed = problem.restricted(decision)
    high, mean = worth_at_most(problem, decision, share, x), worth_at_most(committed, decision, share, x)
    ptr = problem.problem.state_ptr
    for s in np.flatnonzero(~problem.terminal):
        below, above = exact_bounds(problem, s, decision, price[s], share, x)
        if budget[s] == 0:  # the rows are the nominal ones, whatever the price
            below = sum((d * value for d, value in above), fmpq(0))
        else:
            below -= rational(float(price[s])) * rational(float(budget[s]))
        norm = sum(exactly(decision[ptr[s] : ptr[s + 1]]), fmpq(0))
        assert Fraction(float(low[s])) * fraction(norm) <= fraction(below)
        assert fraction(max(value for _, value in above)) <= high[s]
        assert fraction(sum((d * value for d, value in above), fmpq(0))) <= Fraction(float(mean[s])) * fraction(norm)


def fraction(number):
    return Fraction(int(number.p), int(number.q))


def test_a_gap_that_floats_cannot_hold_still_proves_a_bound():
    """All of Burg's nominal mass lies off the least entry: the best gap is zero."""
    nominal, z = exactly([0.0, 1.0]), exactly([0.0, 1.0])
    bound = priced(Burg(1.0, support="all"), fmpq(1), fmpq(1, 100), nominal, z, weights_of(Burg(1.0), np.empty((0, 2)), 2), 64)
    assert float(bound) == pytest.approx((1 + np.log(100)) / 100, rel=1e-9)
