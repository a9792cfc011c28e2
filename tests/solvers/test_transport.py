"""Kantorovich's distance against HiGHS, against sorting on the line, and its bracket for answers that are wrong."""

import numpy as np
import pytest
from banach.solvers import Entropic, SolveError, kantorovich
from banach.solvers import transport_kernels as kernels
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog


def by_linear_programming(p, q, cost):
    k, n = cost.shape
    rows = np.kron(np.eye(k), np.ones(n))
    cols = np.kron(np.ones(k), np.eye(n))
    right = np.concatenate((p / p.sum(), q / q.sum()))
    return linprog(cost.ravel(), A_eq=np.vstack((rows, cols)), b_eq=right, method="highs").fun


@st.composite
def problems(draw):
    k, n = draw(st.integers(1, 7)), draw(st.integers(1, 7))
    weight = st.sampled_from([0.0, 1.0, 1.0, 2.0, 0.1, 1e-9])
    p, q = (np.array(draw(st.lists(weight, min_size=size, max_size=size))) for size in (k, n))
    p[0] += 1.0
    q[-1] += 1.0
    entry = st.sampled_from([0.0, 1.0, 2.0, 0.3, 7.0])
    cost = np.array(draw(st.lists(entry, min_size=k * n, max_size=k * n))).reshape(k, n)
    return p, q, cost


@given(problems())
@settings(max_examples=150, deadline=None)
def test_the_network_simplex_finds_the_optimum_of_the_linear_program(problem):
    found, optimum = kantorovich(*problem), by_linear_programming(*problem)
    assert found.lower - 1e-7 <= optimum <= found.upper + 1e-7
    assert found.upper - found.lower <= 1e-12


@given(problems(), st.sampled_from([1.0, 0.05]), st.integers(1, 40))
@settings(max_examples=80, deadline=None)
def test_entropic_transport_brackets_the_optimum_however_few_its_sweeps(problem, regularisation, sweeps):
    found, exact = kantorovich(*problem, Entropic(regularisation, sweeps)), kantorovich(*problem)
    assert found.lower <= exact.upper
    assert exact.lower <= found.upper


@given(problems())
@settings(max_examples=60, deadline=None)
def test_plan_and_dual_are_what_they_claim(problem):
    p, q, cost = problem
    for found in (kantorovich(p, q, cost), kantorovich(p, q, cost, Entropic(0.3, 20))):
        assert found.plan.min() >= 0
        assert found.plan.sum(axis=1) == pytest.approx(p / p.sum(), abs=1e-12)
        assert found.plan.sum(axis=0) == pytest.approx(q / q.sum(), abs=1e-12)
        assert (found.plan * cost).sum() == pytest.approx(found.upper, abs=1e-12)
        cols = q > 0
        f = (cost[:, cols] - found.dual[cols]).min(axis=1)
        assert f @ p / p.sum() + found.dual @ q / q.sum() == pytest.approx(found.lower, abs=1e-12)


@given(problems(), st.integers(0, 2**32 - 1))
@settings(max_examples=80, deadline=None)
def test_the_bracket_holds_for_any_plan_and_any_dual(problem, seed):
    """Even for nonsense: what is proved does not depend on who found it."""
    p, q, cost = problem
    p, q, random = p[p > 0] / p.sum(), q[q > 0] / q.sum(), np.random.default_rng(seed)
    cost = np.ascontiguousarray(cost[: len(p), : len(q)])
    plan, dual = random.random(cost.shape) * random.choice([0.0, 0.1, 3.0]), random.standard_normal(len(q))
    below, above = kernels.bracket(p, q, cost, plan, dual)
    optimum = by_linear_programming(p, q, cost)
    assert below <= optimum + 1e-7
    assert optimum <= above + 1e-7


def test_on_the_line_it_is_the_area_between_the_distribution_functions():
    random = np.random.default_rng(3)
    for _ in range(20):
        x = np.sort(random.random(30))
        p, q = random.random(30), random.random(30)
        area = np.abs(np.cumsum(p / p.sum() - q / q.sum()))[:-1] @ np.diff(x)
        found = kantorovich(p, q, np.abs(x[:, None] - x))
        assert found.lower <= area + 1e-12
        assert area <= found.upper + 1e-12


def test_less_regularisation_gives_a_narrower_bracket():
    random = np.random.default_rng(7)
    p, q, cost = random.random(6), random.random(6), random.random((6, 6))
    widths = [found.upper - found.lower for found in (kantorovich(p, q, cost, Entropic(e, 5000)) for e in (1.0, 0.1, 0.01))]
    assert widths[0] > widths[1] > widths[2]
    assert widths[2] < 0.03


@pytest.mark.parametrize(
    ("p", "q", "cost", "message"),
    [
        ([1, 1], [1], [[0.0]], "do not fit"),
        ([1, -1], [1], [[0.0], [0.0]], "weights >= 0"),
        ([0, 0], [1], [[0.0], [0.0]], "positive sum"),
        ([1], [1], [[np.inf]], "not finite"),
    ],
)
def test_impossible_problems_are_refused(p, q, cost, message):
    with pytest.raises(SolveError, match=message):
        kantorovich(np.array(p), np.array(q), np.array(cost))


def test_impossible_settings_are_refused():
    with pytest.raises(SolveError, match="positive and finite"):
        Entropic(0.0)
