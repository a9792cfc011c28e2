"""Theorems hold: on drawn models, on named ones, and with equality where they are attained."""

from fractions import Fraction

import numpy as np
import pytest
from banach.bounds import CATALOGUE, evidence_of, judge, verify
from banach.bounds.average import GAIN_ABOVE, GREEDY_GAIN, VANISHING_DISCOUNT
from banach.bounds.brackets import LOWER_END, NESTED, UPPER_END, WIDTH
from banach.bounds.contraction import GAUSS_SEIDEL, GEOMETRIC_DECAY, SPAN_DECAY, SPAN_STEP
from banach.bounds.extremal import extremal
from banach.bounds.gains import GainEvidence
from banach.bounds.horizon import DISCOUNT_CHANGE, TRUNCATION
from banach.bounds.models import CERTAINTY_EQUIVALENCE, OPTIMAL_VALUE, SIMULATION
from banach.bounds.policies import CONSERVATIVE, DIFFERENCE, GREEDY_LOSS, IMPROVEMENT, RESIDUAL_LOSS, SPAN_LOSS
from banach.bounds.rates import HOWARD, MODIFIED_LOSS, SIMPLEX, WITH_ERRORS
from banach.bounds.residual import AFTER_A_SWEEP, AT_LEAST, RESIDUAL
from banach.mdp import MDP, AverageReward, instances, strategies
from banach.mdp.criterion import Discounted
from banach.mdp.instances.rows import from_lists
from hypothesis import given, settings
from hypothesis import strategies as st

from ..witness import policy_value, rows, worth
from .dyadic import dyadic_models

GAINS = (GAIN_ABOVE, GREEDY_GAIN, VANISHING_DISCOUNT)
DISCOUNTED = [bound for bound in CATALOGUE if bound.about is MDP and bound not in GAINS]

ATTAINED = [
    (GEOMETRIC_DECAY, "loop"),
    (GAUSS_SEIDEL, "cycle"),
    (SPAN_STEP, "shuffle"),
    (SPAN_DECAY, "shuffle"),
    (RESIDUAL, "loop"),
    (AFTER_A_SWEEP, "loop"),
    (AT_LEAST, "ring of two"),
    (UPPER_END, "loop"),
    (LOWER_END, "loop"),
    (NESTED, "loop"),
    (WIDTH, "leak"),
    (GREEDY_LOSS, "temptation"),
    (SPAN_LOSS, "temptation"),
    (RESIDUAL_LOSS, "temptation"),
    (MODIFIED_LOSS, "temptation"),
    (IMPROVEMENT, "temptation"),
    (DIFFERENCE, "temptation"),
    (WITH_ERRORS, "loop"),
    (TRUNCATION, "loop"),
    (DISCOUNT_CHANGE, "loop"),
    (SIMULATION, "leak"),
    (OPTIMAL_VALUE, "leak"),
    (CERTAINTY_EQUIVALENCE, "close call"),
]


@pytest.mark.parametrize("bound", DISCOUNTED, ids=lambda bound: bound.key)
@settings(deadline=None, max_examples=25)
@given(problem=strategies.discounted_mdps(max_states=4, max_actions=3, tiny=1e-6))
def test_a_theorem_holds_on_drawn_models(bound, problem):
    for measurement in bound.measure(evidence_of(problem)):
        judgement = judge(bound, measurement)
        assert judgement.holds, (judgement, measurement)
        assert judgement.tightness <= 1 or bound.sense == "equal to"


@pytest.mark.parametrize("bound", GAINS[:2], ids=lambda bound: bound.key)
@pytest.mark.parametrize("structure", ["unichain", "multichain"])
@settings(deadline=None, max_examples=15)
@given(data=st.data())
def test_a_bound_on_the_gain_holds_on_drawn_models(bound, structure, data):
    problem = data.draw(strategies.average_reward_mdps(structure=structure, max_states=4, tiny=0.1))
    for measurement in bound.measure(evidence_of(problem)):
        assert judge(bound, measurement).holds


@settings(deadline=None, max_examples=15)
@given(strategies.average_reward_mdps(structure="unichain", max_states=4, tiny=0.1))
def test_discounted_values_of_drawn_models_approach_the_gain(problem):
    for measurement in VANISHING_DISCOUNT.measure(evidence_of(problem)):
        assert judge(VANISHING_DISCOUNT, measurement).holds


@pytest.mark.parametrize(("bound", "name"), ATTAINED, ids=lambda thing: getattr(thing, "key", thing))
def test_a_bound_is_attained_exactly(bound, name):
    judgements = [judge(bound, measurement) for measurement in bound.measure(evidence_of(extremal()[name]))]
    tightest = max(judgements, key=lambda judgement: judgement.tightness)
    assert (tightest.tightness, tightest.proof) == (1.0, "exact rationals")
    assert tightest.measured == tightest.promised != 0


@pytest.mark.parametrize("bound", [*DISCOUNTED, *GAINS], ids=lambda bound: bound.key)
def test_a_theorem_holds_on_its_small_named_models(bound):
    few = {name: problem for name, problem in bound.problems().items() if problem.n_states <= 110}
    report = verify(bound, few)
    assert len(report.rows) >= min(5, len(few) - 2)
    assert all(row.holds for row in report.rows), str(report)


@settings(deadline=None, max_examples=25)
@given(dyadic_models(), st.data())
def test_the_performance_difference_is_an_identity_in_fractions(problem, data):
    evidence = evidence_of(problem)
    first, last = evidence.howard()[0], (np.diff(problem.state_ptr) - 1).astype(np.int32)
    before, after = policy_value(problem, first), policy_value(problem, last)
    table, discount = rows(problem), Fraction(problem.discount)
    advantage = [worth(acts[last[s]], discount, before) - before[s] if acts else Fraction(0) for s, acts in enumerate(table)]
    paying = np.array([evidence.discount * 0 + type(evidence.discount)(a.numerator, a.denominator) for a in advantage])
    mean = evidence.discounted_mean(last, paying)
    found = Fraction(int(mean.p), int(mean.q)) / (1 - discount)
    uniform = Fraction(float(1 / problem.n_states)) if problem.initial is not None else Fraction(1, problem.n_states)
    assert found == sum((a - b) * uniform for a, b in zip(after, before, strict=True))


@settings(deadline=None, max_examples=25)
@given(dyadic_models())
def test_the_mixture_of_two_policies_is_worth_what_its_mixed_rows_say(problem):
    evidence = evidence_of(problem)
    first, last = evidence.howard()[0], (np.diff(problem.state_ptr) - 1).astype(np.int32)
    mixture = evidence.mixture(first, last, 0.25)
    value = mixture.optimal()
    own = 0.75 * evidence.apply_policy(first, value).astype(float) + 0.25 * evidence.apply_policy(last, value).astype(float)
    assert own == pytest.approx(value.astype(float), rel=1e-12, abs=1e-12)


def test_mixtures_need_rational_evidence():
    with pytest.raises(ValueError, match="rational arithmetic"):
        verify(CONSERVATIVE, instances.gridworld(side=6))


@pytest.mark.parametrize("bound", [HOWARD, SIMPLEX], ids=lambda bound: bound.key)
def test_the_iteration_bounds_count_the_improvements_that_were_made(bound):
    """Three states, each of which must switch once: three switches of one action, at most three of all."""
    states = [[(0.0, {s: 1.0}), (1.0, {s: 1.0})] for s in range(3)]
    [measurement] = bound.measure(evidence_of(from_lists(states, Discounted(0.5))))
    assert measurement.measured == (1 if bound is HOWARD else 3)
    promised = {HOWARD: 3 * 2, SIMPLEX: 3 * 11}[bound]
    assert bound.evaluate(measurement.values) == promised


def test_the_gain_of_a_two_state_cycle_is_its_mean_reward():
    problem = from_lists([[(1.0, {1: 1.0})], [(4.0, {0: 1.0})]], AverageReward())
    evidence = GainEvidence(problem)
    assert evidence.largest(evidence.gains()).contains(2.5)
    assert float(evidence.span(evidence.gains()).abs_upper()) < 1e-6


def test_one_sweep_bounds_the_gains_of_a_multichain_problem_in_every_state():
    problem = from_lists([[(1.0, {0: 1.0})], [(4.0, {1: 1.0}), (0.0, {0: 1.0})]], AverageReward())
    for bound, measured in ((GAIN_ABOVE, 4.0), (GREEDY_GAIN, 1.0)):
        first = next(iter(bound.measure(GainEvidence(problem))))
        assert judge(bound, first).measured == pytest.approx(measured)
        assert judge(bound, first).promised == pytest.approx(measured)
