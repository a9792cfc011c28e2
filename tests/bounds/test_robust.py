"""Exact robust evidence against certified brackets, and where the robust bounds are attained."""

import numpy as np
import pytest
from banach.bounds import evidence_of, judge, verify
from banach.bounds.extremal import extremal
from banach.bounds.nature import RobustEvidence, contamination, listed, variation
from banach.bounds.number import exact
from banach.bounds.robust import (
    CATALOGUE,
    CONTAMINATION,
    CONTRACTION,
    COVERAGE,
    DETERMINISTIC,
    HALF_RADIUS,
    NOMINAL_SUFFICES,
    PRICE,
    SENSITIVITY,
    SHRINKAGE,
    SIMULATION,
)
from banach.mdp import RobustMDP, instances, strategies
from banach.mdp.ambiguity import Contamination, TotalVariation
from banach.mdp.criterion import Discounted
from banach.mdp.instances.rows import from_lists
from banach.solvers import check, solve
from hypothesis import given, settings
from hypothesis import strategies as st

from .dyadic import dyadic_models

RADII = st.sampled_from([0.0, 0.0625, 0.25, 0.5, 1.0])


@settings(deadline=None, max_examples=40)
@given(dyadic_models(), RADII, st.sampled_from(["nominal", "all"]))
def test_the_exact_robust_value_is_in_the_certified_bracket(problem, radius, support):
    if problem.criterion.minimize:
        problem = problem.negated()
    evidence = evidence_of(problem)
    value = RobustEvidence(evidence, variation(evidence, exact(radius), everywhere=support == "all")).optimal()
    robust = RobustMDP(problem, TotalVariation(radius, support=support))
    solution = solve(robust, eps=1e-6)
    assert check(robust, solution.certificate)
    for low, v, high in zip(solution.certificate.lower, value, solution.certificate.upper, strict=True):
        assert exact(low) <= v <= exact(high)


@settings(deadline=None, max_examples=20)
@given(dyadic_models(), RADII)
def test_exact_contamination_is_in_the_certified_bracket(problem, radius):
    if problem.criterion.minimize:
        problem = problem.negated()
    evidence = evidence_of(problem)
    value = RobustEvidence(evidence, contamination(evidence, exact(radius))).optimal()
    certificate = solve(RobustMDP(problem, Contamination(radius, support="all")), eps=1e-6).certificate
    for low, v, high in zip(certificate.lower, value, certificate.upper, strict=True):
        assert exact(low) <= v <= exact(high)


@settings(deadline=None, max_examples=20)
@given(strategies.discounted_mdps(max_states=3, max_actions=2), RADII)
def test_nature_who_helps_and_nature_who_hinders_bracket_the_policys_value(problem, radius):
    evidence = evidence_of(problem)
    policy = np.where(evidence.terminal, -1, 0).astype(np.int32)
    worst = RobustEvidence(evidence, variation(evidence, exact(radius))).policy_value(policy)
    best = RobustEvidence(evidence, variation(evidence, exact(radius), helps=True)).policy_value(policy)
    assert all(low <= v <= high for low, v, high in zip(worst, evidence.policy_value(policy), best, strict=True))


@pytest.mark.parametrize(
    ("bound", "model"),
    [(CONTRACTION, "loop"), (SIMULATION, "shuffle"), (PRICE, "shuffle"), (SENSITIVITY, "shuffle")],
    ids=lambda thing: getattr(thing, "key", thing),
)
def test_a_robust_bound_is_attained(bound, model):
    found = [judge(bound, m) for m in bound.measure(evidence_of(extremal()[model]))]
    assert max(judgement.tightness for judgement in found) == 1
    assert all(judgement.holds for judgement in found)


def test_shrinkage_is_attained_by_two_loops_at_every_sweep():
    model = from_lists([[(1.0, {0: 1.0})], [(0.0, {1: 1.0})]], Discounted(0.875))
    assert all(judge(SHRINKAGE, m).tightness == 1 for m in SHRINKAGE.measure(evidence_of(model)))


def test_contamination_is_measured_in_every_state():
    measurements = list(CONTAMINATION.measure(evidence_of(instances.riverswim())))
    assert {m.parameters["state"] for m in measurements} == set(range(6))
    assert all(judge(CONTAMINATION, m).holds for m in measurements)


def test_coverage_weighs_all_samples_and_none_too_much():
    [row] = verify(COVERAGE, {"riverswim": instances.riverswim()}).rows
    assert row.holds
    assert 0 < row.measured <= row.promised
    assert row.measurements == 8  # two rows, two sets, two deltas


def test_all_robust_theorems_hold_exactly_on_the_named_models():
    report = verify(CATALOGUE)
    assert report
    assert {row.proof for row in report.rows} == {"exact rationals"}
    assert {"riverswim", "machine_replacement", "forest"} <= {row.instance for row in report.rows}


def test_large_problems_are_refused():
    with pytest.raises(ValueError, match="rational arithmetic"):
        verify(PRICE, instances.gridworld(side=6))


def test_half_and_half_guarantees_more_than_any_deterministic_choice_when_rows_are_exchanged():
    """One choice between a loop worth 1 a step and ruin, rewards alike; nature exchanges the two rows."""
    model = from_lists([[(1.0, {0: 1.0}), (1.0, {1: 1.0})], [(0.0, {1: 1.0}), (0.0, {1: 1.0})]], Discounted(0.5))
    [mixed, _] = DETERMINISTIC.measure(evidence_of(model))
    judgement = judge(DETERMINISTIC, mixed)
    assert judgement.refutes
    assert (judgement.measured, judgement.promised) == (pytest.approx(4 / 3), 1.0)


def test_a_nature_with_a_list_takes_the_worst_row():
    evidence = evidence_of(from_lists([[(0.0, {0: 0.5, 1: 0.5})], 4.0], Discounted(0.5)))
    rows = [[[exact(0.5), exact(0.5)], [exact(0.75), exact(0.25)]]]
    value = RobustEvidence(evidence, listed(rows)).optimal()
    assert value[0] == exact(0.5) * exact(0.25) * 4 / (1 - exact(0.5) * exact(0.75))


@pytest.mark.parametrize("bound", [HALF_RADIUS, NOMINAL_SUFFICES], ids=lambda bound: bound.key)
def test_what_is_false_of_robust_values_is_broken_by_named_models(bound):
    assert not verify(bound)
