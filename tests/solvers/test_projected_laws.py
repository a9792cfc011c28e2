"""Projected evaluation: right means, proved errors, contraction in its own distance and not in W1."""

import itertools

import numpy as np
import pytest
from banach.mdp import FiniteHorizon, Law, OutcomeMDP, instances, strategies
from banach.mdp.law_distance import cramer, wasserstein, wasserstein_sup
from banach.mdp.law_projection import quantile_projection
from banach.solvers import SolveError, projected_evaluation, return_laws, solve
from banach.solvers.projected_laws import Categorical, Quantiles
from hypothesis import given, settings
from hypothesis import strategies as st

FAST = settings(deadline=None, max_examples=15)
MODELS = strategies.discounted_mdps(
    max_states=3, max_actions=1, discounts=st.sampled_from([0.5, 0.8]), rewards=st.sampled_from([0.0, 1.0, -2.0, 0.3]), tiny=0.1
)


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
        assert found.laws[state].mean == pytest.approx(value[state], abs=1e-5 * max(1, high - low))
        near = wasserstein(found.laws[state], laws.lower(state).approximate())
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
        near = wasserstein(found.laws[state], laws.upper(state).approximate())
        assert near <= found.error + laws.certificate.width + 1e-9


def test_projected_sweeps_contract_in_their_own_distance():
    problem, gain = instances.with_outcomes("machine_ten", discount=0.8)
    model, policy = OutcomeMDP(problem, gain), np.zeros(10, dtype=int)
    ends = model.returns_within()
    for projection, distance in ((Categorical(21), cramer), (Quantiles(9), wasserstein_sup)):
        laws = [[Law.point(end)] * 10 for end in ends]
        gaps = []
        for _ in range(4):
            gaps.append(max(distance(a, b) for a, b in zip(*laws, strict=True)))
            laws = [_swept(model, policy, each, projection, ends) for each in laws]
        assert all(b <= projection.factor(0.8) * a + 1e-9 for a, b in itertools.pairwise(gaps))
        assert projected_evaluation(model, policy, projection, tol=1e-3).sweeps > 1


def _swept(model, policy, laws, projection, ends):
    found = []
    for state in range(10):
        rows = model.outcomes(state, int(policy[state]))
        atoms = [
            (float(r) + 0.8 * x, float(p) * q) for p, r, j in rows for x, q in zip(laws[j].atoms, laws[j].weights, strict=True)
        ]
        found.append(projection.project(Law.of(*zip(*atoms, strict=True)), ends))
    return found


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
    ],
)
def test_what_makes_no_sense_is_refused(ask, match):
    with pytest.raises(SolveError, match=match):
        ask(instances.riverswim())
