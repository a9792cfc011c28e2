"""Quantiles in place of means, over successors and over models, and the mean of the worst models."""

from fractions import Fraction

import numpy as np
import pytest
from banach.mdp import ModelError, RobustMDP, instances
from banach.mdp.ambiguity import ModelCVaR, ModelVaR, NestedVaR, Scenarios
from banach.mdp.ambiguity.exact_sum import share_sign
from banach.solvers import (
    ModifiedPolicyIteration,
    PartialPolicyIteration,
    RobustPolicyIteration,
    ValueIteration,
    check,
    solve,
)
from banach.solvers.exact_ambiguity import exact_sigma
from banach.solvers.filter_robust import enclosed_rows
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from .ambiguity_witness import fractions

levels = st.one_of(st.sampled_from([1.0, 0.5, 0.25, 0.1, 0.3, 0.2 + 0.1, 1e-15]), st.floats(0.01, 1))


@st.composite
def rows(draw, max_entries=7):
    """A row with zeros and ties, its values with ties, and a level that sums of probabilities often hit."""
    counts = draw(st.lists(st.integers(0, 4), min_size=1, max_size=max_entries).filter(any))
    value = draw(st.lists(st.one_of(st.integers(-2, 2), st.floats(-5, 5)), min_size=len(counts), max_size=len(counts)))
    return np.array(counts) / sum(counts), np.array(value, dtype=float), draw(levels)


@st.composite
def models(draw):
    """Up to five models of a row, with weights, values and a level."""
    k, n = draw(st.integers(1, 5)), draw(st.integers(1, 4))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    found = rng.dirichlet(np.full(n, 0.5), k)
    weights = np.array(draw(st.lists(st.integers(0, 4), min_size=k, max_size=k).filter(any)), dtype=float)
    weights = weights / draw(st.sampled_from([1.0, weights.sum(), 3.0]))
    return found / found.sum(axis=1, keepdims=True), weights, rng.normal(size=n), draw(levels)


def slow_quantile(weight, value, level):
    goal = Fraction(level) * sum(fractions(weight))
    for t in sorted({v for v, w in zip(value, weight, strict=True) if w > 0}):
        if sum(Fraction(w) for v, w in zip(value, weight, strict=True) if v <= t) >= goal:
            return t
    raise AssertionError("a distribution has quantiles")


@settings(deadline=None, max_examples=200)
@given(row=rows())
def test_nested_var_is_the_quantile_wherever_the_probabilities_hit_the_level(row):
    nominal, value, level = row
    found = NestedVaR(level).worst(nominal, value)
    known = slow_quantile(nominal.tolist(), value.tolist(), level)
    mass = sum(fractions(nominal))
    assert found.value == pytest.approx(known, abs=1e-14 * (1 + abs(known)))
    assert Fraction(found.lower) <= mass * Fraction(known) <= Fraction(found.upper)
    assert found.upper - found.lower <= 1e-13 * (1 + np.abs(value).max())
    assert exact_sigma(NestedVaR(level), nominal, fractions(value)) == (mass * Fraction(known),) * 2
    assert found.row @ value == pytest.approx(found.value)
    assert NestedVaR(level).contains(nominal, found.row)


def test_a_sum_that_only_rounding_brings_to_the_level_does_not_count():
    """Ten floats 0.1 sum to just above 1 exactly, and to just below in floats; three of them pass 0.3 either way."""
    nominal, value = np.full(10, 0.1), np.arange(10.0)
    at, beyond = 0.30000000000000004, np.nextafter(0.30000000000000004, 1)
    for level in (0.3, at, beyond):
        assert NestedVaR(level).worst(nominal, value).value == slow_quantile(nominal.tolist(), value.tolist(), level)


def test_tiny_probabilities_widen_the_enclosure_and_do_not_break_it():
    nominal, value = np.array([0.5, 1e-290, 0.5 - 2.0**-54]), np.array([0.0, 1.0, 2.0])
    for level in (0.5, 0.25, 1.0):
        found = NestedVaR(level).worst(nominal, value)
        known = slow_quantile(nominal.tolist(), value.tolist(), level)
        assert found.lower <= known <= found.upper


@settings(deadline=None, max_examples=100)
@given(row=rows(), step=st.lists(st.floats(0, 3), min_size=7, max_size=7), shift=st.floats(-9, 9))
def test_the_quantile_is_monotone_and_moves_with_constants(row, step, shift):
    nominal, value, level = row
    chosen = NestedVaR(level)
    here = chosen.worst(nominal, value).value
    assert chosen.worst(nominal, value + np.array(step[: len(value)])).value >= here - 1e-12
    assert chosen.worst(nominal, value + shift).value == pytest.approx(here + shift, abs=1e-12)


def test_the_quantile_is_not_concave_so_it_is_no_set():
    half = np.array([0.5, 0.5])
    chosen = NestedVaR(1.0)
    at = [chosen.worst(half, np.array(z)).value for z in ([0.0, 2.0], [2.0, 0.0], [1.0, 1.0])]
    assert at == [2.0, 2.0, 1.0]


@settings(deadline=None, max_examples=120)
@given(drawn=models())
def test_models_kernels_enclose_the_exact_value(drawn):
    found_rows, weights, value, level = drawn
    nominal = np.full(len(value), 1 / len(value))
    for kind in (ModelVaR, ModelCVaR):
        chosen = kind(found_rows, weights, level)
        found, (low, high) = chosen.worst(nominal, value), exact_sigma(chosen, nominal, fractions(value))
        assert low == high
        assert Fraction(found.lower) <= low <= Fraction(found.upper)
        assert found.upper - found.lower <= 1e-12
        assert found.row @ value == pytest.approx(found.value, abs=1e-12)
        assert chosen.contains(nominal, found.row)


@settings(deadline=None, max_examples=60)
@given(drawn=models())
def test_the_worst_mean_is_a_linear_program_and_the_quantile_is_counted(drawn):
    found_rows, weights, value, level = drawn
    nominal, worth = np.full(len(value), 1 / len(value)), found_rows @ value
    share = weights / weights.sum()
    program = linprog(worth, A_eq=np.ones((1, len(worth))), b_eq=[1.0], bounds=[(0, min(w / level, 1.0)) for w in share])
    assert ModelCVaR(found_rows, weights, level).worst(nominal, value).value == pytest.approx(program.fun, abs=1e-9)
    counted = slow_quantile(weights.tolist(), worth.tolist(), level)
    assert ModelVaR(found_rows, weights, level).worst(nominal, value).value == pytest.approx(counted, abs=1e-12)


@settings(deadline=None, max_examples=60)
@given(drawn=models())
def test_models_lie_between_their_worst_and_their_mean(drawn):
    found_rows, weights, value, level = drawn
    nominal, used = np.full(len(value), 1 / len(value)), found_rows[weights > 0]
    tail = ModelCVaR(found_rows, weights, level).worst(nominal, value).value
    quantile = ModelVaR(found_rows, weights, level).worst(nominal, value).value
    mean = weights @ (found_rows @ value) / weights.sum()
    assert Scenarios(used).worst(nominal, value).value - 1e-12 <= tail <= min(quantile, mean) + 1e-12
    assert ModelCVaR(found_rows, weights, 1.0).worst(nominal, value).value == pytest.approx(mean, abs=1e-12)


def test_a_mixture_outside_the_caps_is_not_contained():
    chosen = ModelCVaR(np.eye(2), np.array([0.5, 0.5]), 0.75)
    half = np.array([0.5, 0.5])
    assert chosen.violation(half, np.array([2 / 3, 1 / 3])) < 1e-9
    assert chosen.violation(half, np.array([1.0, 0.0])) == pytest.approx(1 / 3)
    assert not NestedVaR(0.5).contains(half, half)
    assert ModelVaR(np.eye(2), np.array([0.0, 1.0]), 0.5).violation(half, np.array([1.0, 0.0])) == 1.0


def posterior(kind, level, problem=None):
    model = problem or instances.riverswim()
    rng = np.random.default_rng(3)
    sets = []
    for k in range(model.n_pairs):
        row = model.probability[slice(*model.row_ptr[k : k + 2].tolist())]
        sets.append(kind(rng.dirichlet(20 * row, 9) if len(row) > 1 else np.ones((9, 1)), np.arange(1.0, 10.0), level))
    return RobustMDP(model, sets)


@pytest.mark.parametrize("level", [0.2, 0.5])
@pytest.mark.parametrize("kind", [ModelVaR, ModelCVaR])
def test_problems_of_models_are_solved_and_proved(kind, level):
    problem = posterior(kind, level)
    answers = [solve(problem, method, eps=1e-6) for method in (None, ValueIteration(), ModifiedPolicyIteration(5))]
    for answer in answers:
        assert check(problem, answer.certificate)
        np.testing.assert_allclose(answer.value, answers[0].value, atol=1e-6)


def test_a_quantile_of_outcomes_is_solved_and_proved_by_every_method():
    problem = RobustMDP(instances.riverswim(), NestedVaR(0.35))
    model = problem.problem
    for method in (RobustPolicyIteration(), PartialPolicyIteration(), ValueIteration(), ModifiedPolicyIteration(5)):
        answer = solve(problem, method, eps=1e-7)
        assert check(problem, answer.certificate)
        worth = []
        for k in range(model.n_pairs):
            row = slice(*model.row_ptr[k : k + 2].tolist())
            ahead = answer.value[model.successor[row]]
            worth.append(
                model.reward[k] + model.discount * slow_quantile(model.probability[row].tolist(), ahead.tolist(), 0.35)
            )
        np.testing.assert_allclose(answer.value, np.maximum.reduceat(worth, model.state_ptr[:-1]), atol=1e-6)


def test_a_level_or_weights_that_are_none_are_refused():
    rows = np.eye(2)
    for level in (0.0, -0.1, 1.5, np.nan, True, "x"):
        with pytest.raises(ModelError, match="level"):
            NestedVaR(level)
    with pytest.raises(ModelError, match="2 rows and 1 weights"):
        ModelCVaR(rows, np.array([1.0]), 0.5)
    for weights in ([-1.0, 2.0], [0.0, 0.0], [1.0, 2.0**501]):
        with pytest.raises(ModelError, match="no probabilities up to scale"):
            ModelVaR(rows, np.array(weights), 0.5)
    with pytest.raises(ModelError, match="2 entries and the nominal row 3"):
        ModelVaR(rows, np.ones(2), 0.5).worst(np.array([0.5, 0.25, 0.25]), np.zeros(3))


@settings(deadline=None, max_examples=60)
@given(level=levels, seed=st.integers(0, 2**32 - 1), optimistic=st.booleans())
def test_the_checkers_filter_encloses_the_exact_rows(level, seed, optimistic):
    value = np.random.default_rng(seed).integers(-3, 4, 6) * 1.0
    for problem in (
        RobustMDP(instances.riverswim(), NestedVaR(level), optimistic=optimistic),
        posterior(ModelVaR, level),
        posterior(ModelCVaR, level),
    ):
        model, side = problem.problem, -1 if problem.optimistic else 1
        low, high = enclosed_rows(problem, np.arange(model.n_pairs), value)
        for k in range(model.n_pairs):
            row = slice(*model.row_ptr[k : k + 2].tolist())
            z = [side * Fraction(model.discount) * Fraction(value[j]) for j in model.successor[row]]
            exact, _ = exact_sigma(problem.set_of(k), model.probability[row], z)
            exact = Fraction(float(model.reward[k])) + side * exact
            assert Fraction(low[k]) <= exact <= Fraction(high[k])
            assert high[k] - low[k] <= 1e-9 or not isinstance(problem.set_of(k), ModelCVaR)


@settings(deadline=None, max_examples=300)
@given(level=st.floats(0.01, 0.99), rest=st.floats(0.01, 1), steps=st.integers(-2, 2))
def test_the_sign_of_a_share_is_exact_within_a_unit_of_the_last_place(level, rest, steps):
    weight = np.array([level * rest / (1 - level), rest])
    weight[0] += steps * np.spacing(weight[0])
    exact = Fraction(weight[0]) - Fraction(level) * sum(fractions(weight))
    assert share_sign(np.array([0]), 1, weight, level) == (exact > 0) - (exact < 0)
