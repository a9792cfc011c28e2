"""Projected evaluation: the sweeps are those of the definition, means are right, errors proved, contraction where promised."""

import itertools

import numpy as np
import pytest
from banach.mdp import MDP, FiniteHorizon, Law, OutcomeMDP, instances, strategies
from banach.mdp import law_sweeps as sweeps
from banach.mdp.law_distance import cramer, wasserstein, wasserstein_sup
from banach.mdp.law_projection import quantile_projection
from banach.solvers import SolveError, projected_evaluation, return_laws, solve
from banach.solvers.projected_laws import Categorical, Quantiles
from hypothesis import given, settings
from hypothesis import strategies as st

from . import projected_witness as slow

FAST = settings(deadline=None, max_examples=15)
MODELS = strategies.discounted_mdps(
    max_states=3, max_actions=1, discounts=st.sampled_from([0.5, 0.8]), rewards=st.sampled_from([0.0, 1.0, -2.0, 0.3]), tiny=0.1
)
PROJECTIONS = st.sampled_from([Categorical(2), Categorical(6), Categorical(21), Quantiles(1), Quantiles(4), Quantiles(17)])


@st.composite
def evaluations(draw):
    """A model whose outcomes earn apart, with terminal states and discounts near zero and one, and a policy."""
    problem = draw(
        strategies.discounted_mdps(
            max_states=5, max_successors=4, discounts=st.sampled_from([0.5, 0.05, 0.3, 0.9, 0.97]),
            rewards=st.sampled_from([0.0, 1.0, -2.0, 0.3, 7.5]), tiny=0.1,
        )
    )  # fmt: skip
    gain = draw(
        st.lists(st.sampled_from([0.0, 0.0, 1.0, -0.7]), min_size=problem.n_transitions, max_size=problem.n_transitions)
    )
    pick = draw(st.integers(0, 10**6))
    policy = np.array([pick % max(1, count) for count in np.diff(problem.state_ptr)])
    return OutcomeMDP(problem, np.array(gain)), policy


def ends_of(model):
    low, high = model.returns_within()
    return (low, high) if high - low > 1e-3 else (low - 1, high + 1)


def as_laws(model, projection, ends, table):
    atoms, weights = projection.laws(ends, table)
    found = []
    for s in range(model.n_states):
        x, p = (each if each.ndim == 1 else each[s] for each in (atoms, weights))
        found.append(Law.point(float(model.problem.terminal_value[s])) if model.problem.terminal[s] else Law.of(x, p))
    return found


@settings(deadline=None, max_examples=200)
@given(evaluations(), PROJECTIONS)
def test_a_sweep_is_that_of_the_definition(given_, projection):
    model, policy = given_
    ends = ends_of(model)
    rows = sweeps.policy_rows(model, policy)
    table, laws = projection.begin(model, ends), slow.begin(model, projection, ends)
    out, scale = table.copy(), ends[1] - ends[0]
    for _ in range(4):
        change = projection.sweep(rows, ends, table, out)
        table, out = out, table
        laws, wanted = slow.swept(model, policy, projection, ends, laws)
        found = as_laws(model, projection, ends, table)
        assert change**2 == pytest.approx(wanted**2, abs=1e-12 * scale**2)
        for one, two in zip(found, laws, strict=True):
            assert wasserstein(one, two) <= 1e-12 * scale
        near = projection.residual(rows, ends, table)
        assert near == pytest.approx(slow.residual(model, policy, laws), abs=1e-12 * scale)
        if isinstance(projection, Categorical):
            assert ((table >= 0) & (table <= 1 + 1e-12)).all()


@FAST
@given(evaluations(), PROJECTIONS)
def test_evaluation_is_that_of_the_definition(given_, projection):
    model, policy = given_
    ends, tol = ends_of(model), 1e-4
    found = projected_evaluation(model, policy, projection, tol)
    laws, error, taken = slow.evaluated(model, policy, projection, ends, tol)
    scale = ends[1] - ends[0]
    if found.sweeps == taken:  # else the last change was within rounding of what is enough
        assert found.error == pytest.approx(error, abs=1e-10 * scale)
    else:
        assert abs(found.sweeps - taken) == 1
    distance = cramer if isinstance(projection, Categorical) else wasserstein_sup
    for s in range(model.n_states):
        assert distance(found.law(s), laws[s]) <= (1e-6 * scale if found.sweeps == taken else 2 * tol)
        assert found.mean[s] == pytest.approx(found.law(s).mean, abs=1e-10 * scale)


def test_the_sweeps_do_not_depend_on_how_the_states_are_shared(monkeypatch):
    problem = instances.garnet(states=90, actions=2, successors=7, discount=0.9)
    policy = np.arange(90) % 2
    alone = [projected_evaluation(problem, policy, each) for each in (Categorical(33), Quantiles(20))]
    monkeypatch.setattr(sweeps, "WORTH_SHARING", 0)
    monkeypatch.setattr(sweeps, "n_threads", lambda: 3)
    shared = [projected_evaluation(problem, policy, each) for each in (Categorical(33), Quantiles(20))]
    for one, two in zip(alone, shared, strict=True):
        assert (one.error, one.sweeps) == (two.error, two.sweeps)
        np.testing.assert_array_equal(one.weights, two.weights)
        np.testing.assert_array_equal(one.atoms, two.atoms)


def test_the_rows_of_a_policy_are_its_outcomes():
    problem, gain = instances.with_outcomes("machine_ten", discount=0.8)
    model, policy = OutcomeMDP(problem, gain), np.zeros(10, dtype=int)
    rows = sweeps.policy_rows(model, policy)
    for s in range(10):
        own = slice(rows.first[s], rows.first[s + 1])
        found = sorted(zip(rows.probability[own], rows.reward[own], rows.successor[own], strict=True))
        wanted = sorted((float(p), float(r), j) for p, r, j in model.outcomes(s, 0))
        np.testing.assert_allclose(found, wanted, rtol=1e-15)
        assert (np.diff(rows.reward[rows.first[s] : rows.ending[s]]) >= 0).all()


@FAST
@given(MODELS, st.sampled_from([5, 21]))
def test_the_categorical_fixed_point_has_the_right_mean_and_error(problem, points):
    policy = np.zeros(problem.n_states, dtype=int)
    found = projected_evaluation(problem, policy, Categorical(points))
    low, high = OutcomeMDP(problem).returns_within()
    spacing = (high - low) / (points - 1)
    value = solve(problem, eps=1e-8).value
    laws = return_laws(problem, policy, atoms=600)
    for state in np.flatnonzero(~problem.terminal):
        assert found.law(state).mean == pytest.approx(value[state], abs=1e-5 * max(1, high - low))
        near = wasserstein(found.law(state), laws.lower(state).approximate())
        assert near <= found.error + laws.certificate.width + 1e-9
    assert found.error <= max(spacing, 1e-9) / (2 * (1 - problem.discount)) * 1.01 + 1e-4


@FAST
@given(MODELS, st.sampled_from([1, 4, 16]))
def test_the_error_of_quantiles_is_proved_too(problem, atoms):
    policy = np.zeros(problem.n_states, dtype=int)
    found = projected_evaluation(problem, policy, Quantiles(atoms))
    laws = return_laws(problem, policy, atoms=600)
    low, high = OutcomeMDP(problem).returns_within()
    assert found.error <= (high - low) / (2 * atoms * (1 - problem.discount)) + 1e-4
    for state in np.flatnonzero(~problem.terminal):
        near = wasserstein(found.law(state), laws.upper(state).approximate())
        assert near <= found.error + laws.certificate.width + 1e-9


def test_means_of_many_categorical_laws_are_the_values():
    problem = instances.garnet(states=2000, actions=1, discount=0.9)
    found = projected_evaluation(problem, np.zeros(2000, dtype=int), Categorical(31))
    np.testing.assert_allclose(found.mean, solve(problem, eps=1e-9).value, rtol=0, atol=1e-4)


@pytest.mark.parametrize("reward", [0.3, 1.0, -1e6])
def test_a_return_that_is_certain_but_no_float_has_a_law(reward):
    problem = MDP.from_dense(np.ones((1, 1, 1)), np.array([[reward]]), 0.8, layout="sas")
    low, high = OutcomeMDP(problem).returns_within()
    assert low < high < low + 1e-9 * abs(low)
    for projection in (Categorical(51), Categorical(4), Quantiles(3)):
        found = projected_evaluation(problem, np.zeros(1, dtype=int), projection)
        assert found.mean[0] == pytest.approx(reward / (1 - 0.8), rel=1e-6)


def test_projected_sweeps_contract_in_their_own_distance():
    problem, gain = instances.with_outcomes("machine_ten", discount=0.8)
    model, policy = OutcomeMDP(problem, gain), np.zeros(10, dtype=int)
    ends = model.returns_within()
    for projection, distance in ((Categorical(21), cramer), (Quantiles(9), wasserstein_sup)):
        laws = [[Law.point(end)] * 10 for end in ends]
        gaps = []
        for _ in range(4):
            gaps.append(max(distance(a, b) for a, b in zip(*laws, strict=True)))
            laws = [slow.swept(model, policy, projection, ends, each)[0] for each in laws]
        assert all(b <= projection.factor(0.8) * a + 1e-9 for a, b in itertools.pairwise(gaps))
        assert projected_evaluation(model, policy, projection, tol=1e-3).sweeps > 1


def test_two_laws_that_the_quantile_projection_drives_apart():
    one, two = Law.of([0.0, 1.0], [0.51, 0.49]), Law.of([0.0, 1.0], [0.49, 0.51])
    assert wasserstein(one, two) == pytest.approx(0.02)
    assert wasserstein(quantile_projection(one, 1), quantile_projection(two, 1)) == 1
    assert wasserstein_sup(quantile_projection(one, 1), quantile_projection(two, 1)) <= wasserstein_sup(one, two)


@pytest.mark.parametrize(
    ("ask", "match"),
    [
        (lambda m: projected_evaluation(m.replace(criterion=FiniteHorizon(3)), np.zeros(6, dtype=int)), "return_laws"),
        (lambda m: projected_evaluation(m, np.zeros(5, dtype=int)), "an action of each state"),
        (lambda m: projected_evaluation(m, np.full(6, 9)), "state 0: the policy's action 9"),
        (lambda m: projected_evaluation(m, np.zeros(6, dtype=int), tol=0.0), "> 0"),
        (lambda m: projected_evaluation(m, np.zeros(6, dtype=int), 51), "give Categorical"),
        (lambda m: projected_evaluation(m, np.zeros(6, dtype=int)).law(6), "no state 6"),
        (lambda m: Categorical(1), "points is 1; give a whole number >= 2"),
        (lambda m: Quantiles(0), "atoms is 0; give a whole number >= 1"),
    ],
)
def test_what_makes_no_sense_is_refused(ask, match):
    with pytest.raises(SolveError, match=match):
        ask(instances.riverswim())
