"""Rational evidence equals Fractions done by hand; enclosed evidence contains rational evidence."""

from fractions import Fraction

import numpy as np
import pytest
from banach.bounds import BoundError, evidence_of
from banach.bounds.enclosed import EnclosedEvidence
from banach.bounds.extremal import shuffle
from banach.bounds.number import ball, exact
from banach.bounds.probes import mistaken
from banach.bounds.rational import RationalEvidence
from banach.mdp import MDP, AverageReward, FiniteHorizon, instances, strategies
from hypothesis import given, settings
from hypothesis import strategies as st

from ..witness import best_of_all_policies, policies, policy_value, rows, worth
from .dyadic import dyadic_models

ONCE_COMPILED = settings(deadline=None, max_examples=30)


def fractions(vector: np.ndarray) -> list[Fraction]:
    return [Fraction(int(x.p), int(x.q)) for x in vector]


def some_vector(problem: MDP) -> np.ndarray:
    direction = np.linspace(-2.0, 3.0, problem.n_states)
    return np.where(problem.terminal, problem.terminal_value, direction)


def both(problem: MDP) -> tuple[RationalEvidence, EnclosedEvidence]:
    return RationalEvidence.of(problem), EnclosedEvidence(problem)


def contains(enclosure, vector) -> bool:
    return all(
        exact(low) <= entry <= exact(high) for low, entry, high in zip(enclosure.lower, vector, enclosure.upper, strict=True)
    )


@ONCE_COMPILED
@given(dyadic_models())
def test_the_rational_optimum_is_the_best_of_all_policies(problem):
    assert fractions(RationalEvidence.of(problem).optimal()) == best_of_all_policies(problem)


@ONCE_COMPILED
@given(dyadic_models())
def test_a_rational_policy_value_solves_its_linear_system(problem):
    evidence = RationalEvidence.of(problem)
    for policy in list(policies(problem))[:4]:
        assert fractions(evidence.policy_value(policy)) == policy_value(problem, policy)


@ONCE_COMPILED
@given(dyadic_models())
def test_a_rational_sweep_is_the_bellman_operator_of_the_stored_numbers(problem):
    evidence, table = RationalEvidence.of(problem), rows(problem)
    value = evidence.moved(evidence.zero(), some_vector(problem))
    before, discount = fractions(value), Fraction(problem.discount)
    after = [max((worth(row, discount, before) for row in acts), default=before[s]) for s, acts in enumerate(table)]
    assert fractions(evidence.apply(value)) == after


@ONCE_COMPILED
@given(dyadic_models())
def test_gauss_seidel_sweeps_converge_to_the_rational_optimum(problem):
    evidence = RationalEvidence.of(problem)
    value = evidence.optimal()
    assert list(evidence.sweep(value)) == list(value)
    moved = evidence.moved(value, some_vector(problem))
    assert evidence.sup(evidence.sweep(moved) - value) <= evidence.discount * evidence.sup(moved - value)


@ONCE_COMPILED
@given(dyadic_models())
def test_simplex_iteration_ends_in_an_optimal_policy_after_at_least_as_many_switches_as_it_says(problem):
    evidence = RationalEvidence.of(problem)
    wrong = sum(bool(a != b) for a, b in zip(evidence.howard()[0], evidence.howard()[-1], strict=True))
    best = evidence.optimal()
    must = [s for s in evidence.acting if evidence.action_values(best)[evidence.state_ptr[s]] < best[s]]
    assert len(must) <= evidence.simplex()
    assert (evidence.simplex() == 0) == (wrong == 0)


@ONCE_COMPILED
@given(dyadic_models(), st.data())
def test_enclosed_vectors_contain_the_rational_ones(problem, data):
    rational, enclosed = both(problem)
    policy = data.draw(st.sampled_from(list(policies(problem))))
    assert contains(enclosed.optimal(), rational.optimal())
    assert contains(enclosed.policy_value(policy), rational.policy_value(policy))
    start = some_vector(problem)
    here, there = enclosed.moved(enclosed.zero(), start), rational.moved(rational.zero(), start)
    for _ in range(3):
        here, there = enclosed.apply(here), rational.apply(there)
        assert contains(here, there)
    for _ in range(3):
        here, there = enclosed.sweep(here), rational.sweep(there)
        assert contains(here, there)
    here, there = enclosed.apply_policy(policy, here), rational.apply_policy(policy, there)
    assert contains(here, there)
    assert contains(here - enclosed.optimal(), there - rational.optimal())
    assert contains(here + enclosed.optimal(), there + rational.optimal())


@ONCE_COMPILED
@given(dyadic_models(), st.data())
def test_enclosed_readings_contain_the_rational_ones(problem, data):
    rational, enclosed = both(problem)
    policy = data.draw(st.sampled_from(list(policies(problem))))
    here, there = enclosed.optimal() - enclosed.zero(), rational.optimal() - rational.zero()
    for reading in ("sup", "span", "largest", "least"):
        assert ball(getattr(enclosed, reading)(here)).contains(getattr(rational, reading)(there))
    assert ball(enclosed.mixing()).contains(rational.mixing())
    assert enclosed.reward_size() == rational.reward_size()
    wrong = mistaken(problem, 0.125, 0.25)
    for found, true in zip(enclosed.distance(enclosed.like(wrong)), rational.distance(rational.like(wrong)), strict=True):
        assert ball(found).contains(true)
    inner, outer = rational.apply(rational.zero()) - rational.zero(), enclosed.apply(enclosed.zero()) - enclosed.zero()
    assert enclosed.discounted_mean(policy, outer).overlaps(ball(rational.discounted_mean(policy, inner)))


@settings(deadline=None, max_examples=10)
@given(dyadic_models(max_states=3))
def test_the_discounted_mean_is_the_power_series_of_the_chain(problem):
    evidence = RationalEvidence.of(problem)
    policy = evidence.howard()[0]
    pay = evidence.moved(evidence.zero() - evidence.zero(), some_vector(problem))
    pay = np.where(problem.terminal, exact(0), pay)
    matrix, _ = problem.operator.policy_system(policy)
    weights = np.full(problem.n_states, 1 / problem.n_states)
    series = 0.0
    for _ in range(3000):
        series += (1 - problem.discount) * float(weights @ pay.astype(float))
        weights = matrix.T @ weights
    assert float(evidence.discounted_mean(policy, pay)) == pytest.approx(series, abs=1e-9)


def test_dobrushins_coefficient_of_two_rows_is_their_total_variation():
    assert RationalEvidence.of(shuffle()).mixing() == exact(0.5)


@settings(deadline=None, max_examples=30)
@given(strategies.reachability_mdps(max_states=5, max_actions=2, tiny=0.1, minimize=st.just(False)))
def test_the_reachability_optimum_is_the_least_fixed_point_that_value_iteration_from_below_approaches(problem):
    evidence = RationalEvidence.of(problem)
    optimal = evidence.optimal()
    assert list(evidence.apply(optimal)) == list(optimal)
    value, following = np.array(problem.terminal_value), np.empty(problem.n_states)
    policy = np.empty(problem.n_states, dtype=np.int32)
    for _ in range(3_000):
        problem.operator.apply(value, following, policy)
        value, following = following, value
    assert optimal.astype(float) == pytest.approx(value, abs=1e-6)


@pytest.mark.parametrize("n", [2, 5, 20])
def test_haddad_and_monmeges_chain_reaches_its_goal_with_the_probability_of_its_first_step(n):
    problem = instances.haddad_monmege(n=n)
    middle = int(np.argmax(problem.initial))
    [reached] = fractions(RationalEvidence.of(problem).optimal()[[middle]])
    assert abs(reached - Fraction(7, 10)) < Fraction(1, 10**15)


def test_total_rewards_other_than_reachability_are_refused():
    with pytest.raises(BoundError, match="rewards of zero"):
        RationalEvidence.of(instances.ssp_grid(side=3)).optimal()


@pytest.mark.parametrize("criterion", [FiniteHorizon(3), AverageReward()])
def test_a_criterion_without_rational_evidence_is_refused(criterion):
    with pytest.raises(BoundError, match="no rational evidence"):
        RationalEvidence.of(instances.forest().replace(criterion=criterion))


def test_too_many_states_are_refused_with_the_limit():
    with pytest.raises(BoundError, match="at most 120"):
        RationalEvidence.of(instances.gridworld(side=12))


def test_small_models_get_rational_and_large_ones_enclosed_evidence():
    assert isinstance(evidence_of(instances.forest()), RationalEvidence)
    assert isinstance(evidence_of(instances.gridworld(side=6)), EnclosedEvidence)


def test_costs_are_turned_into_rewards():
    problem = instances.machine_replacement(states=4)
    assert problem.criterion.minimize
    assert fractions(RationalEvidence.of(problem).optimal()) == [-v for v in best_of_all_policies(problem)]
