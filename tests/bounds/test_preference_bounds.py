"""What is promised of preference games holds on drawn ones, is attained where it should be, and falsehoods are broken."""

import dataclasses

import numpy as np
import pytest
from banach.bounds import BoundError, evidence_of, falsify, judge, verify
from banach.bounds.extremal import loop
from banach.bounds.number import approximate
from banach.bounds.preference import (
    CATALOGUE,
    CONTRACTION,
    GAP_DISTANCE,
    INPO_LAST,
    IPO_SPAN,
    NASH_MD,
    NORMALISER,
    SPPO_AVERAGE,
)
from banach.bounds.preference_draft import PreferenceDraft
from banach.bounds.preference_evidence import PreferenceEvidence
from banach.bounds.preference_falsehoods import BEATEN_BY_NONE, CLOSER, IPO_SAMPLING
from banach.bounds.residual import RESIDUAL
from banach.mdp import preference_strategies as drawn
from banach.mdp.preference import PreferenceGame, PreferenceOracle
from banach.solvers.gibbs import divergence
from banach.solvers.preference_iterations import INPO, NashMD, SPPOIteration, iterate
from banach.solvers.preference_losses import IPO
from banach.solvers.preference_optimum import population_optimum
from banach.solvers.regularised_nash import best_response, regularised_nash
from hypothesis import given, settings
from hypothesis import strategies as st

ROCK = PreferenceGame(PreferenceOracle.cyclic(3, 0.9), np.array([0.5, 0.3, 0.2]), 0.1)


@pytest.mark.parametrize("bound", CATALOGUE, ids=lambda bound: bound.key)
@settings(deadline=None, max_examples=10)
@given(game=drawn.games(max_responses=4, certain=True) | drawn.games(max_responses=4, bradley_terry=True))
def test_a_theorem_holds_on_drawn_games(bound, game):
    for measurement in bound.measure(evidence_of(game)):
        judgement = judge(bound, measurement)
        assert judgement.holds, (judgement, measurement)


@pytest.mark.parametrize("bound", CATALOGUE, ids=lambda bound: bound.key)
def test_a_theorem_holds_on_its_named_games(bound):
    report = verify(bound)
    assert len(report.rows) == 8
    assert report.holds, str(report)
    row = next(row for row in report.rows if row.instance == "six rewards")
    assert (row.states, row.pairs) == (6, 15)


def test_ipo_reaches_its_span_on_a_chain_of_certain_preferences():
    [row] = verify(IPO_SPAN, {"order": _order(5)}).rows
    assert (row.tightness, row.proof, row.measured) == (1.0, "exact rationals", 4 / (2 * 0.25))


def _order(n):
    matrix = 0.5 + np.triu(np.full((n, n), 0.5), 1) - np.tril(np.full((n, n), 0.5), -1)
    return PreferenceGame(PreferenceOracle(matrix), np.full(n, 1 / n), 0.25)


def test_the_contraction_is_nearly_attained_by_two_groups_that_beat_each_other_for_sure():
    """Near a uniform best response, two opponents that differ in whom they lose to: the factor 1/(2 t) is the right one."""
    matrix = np.array([[0.5, 0.5, 1.0, 0.0], [0.5, 0.5, 0.0, 1.0], [0.0, 1.0, 0.5, 0.5], [1.0, 0.0, 0.5, 0.5]])
    reference = np.array([0.4999, 0.4999, 0.0001, 0.0001])
    [row] = verify(CONTRACTION, {"groups": PreferenceGame(PreferenceOracle(matrix), reference, 10.0)}).rows
    assert 0.9 < row.tightness <= 1


@settings(deadline=None, max_examples=15)
@given(drawn.games(max_responses=4), st.data())
def test_what_is_known_in_balls_is_what_the_solvers_find_in_floats(game, data):
    evidence = PreferenceEvidence(game)
    policy = data.draw(drawn.policies(game.n_responses))
    p = next(iter([*evidence.policies()]))[1]
    assert [float(x.mid()) for x in evidence.nash] == pytest.approx(regularised_nash(game).policy, abs=1e-9)
    assert [float(x.mid()) for x in evidence.best_response(p)] == pytest.approx(best_response(game, game.reference), abs=1e-14)
    assert float(evidence.divergence(evidence.reference, evidence.uniform).mid()) == pytest.approx(
        divergence(game.reference, np.full(game.n_responses, 1 / game.n_responses)), abs=1e-14
    )
    rate = 0.5 / game.temperature
    step = evidence.nash_md(p, evidence.temperature**-1 / 2)
    assert [float(x.mid()) for x in step] == pytest.approx(iterate(game, NashMD(rate), 1).last, abs=1e-13)
    step = evidence.inpo(p, evidence.temperature * 3)
    assert [float(x.mid()) for x in step] == pytest.approx(iterate(game, INPO(3 * game.temperature), 1).last, abs=1e-13)
    weights = np.outer(policy, policy)
    shown = [[type(evidence.temperature)(*float(w).as_integer_ratio()) for w in row] for row in weights]
    for y in range(game.n_responses):
        shown[y][y] *= 0
    scores = [approximate(x) for x in evidence.ipo_scores(shown, evidence.temperature)]
    found = np.log(population_optimum(game.oracle, weights, game.reference, IPO(game.temperature)).policy / game.reference)
    assert np.array(scores) == pytest.approx(found - found[0], abs=1e-8)


@pytest.mark.parametrize(
    ("bound", "method", "name"),
    [(NASH_MD, NashMD(1.0), "1/10"), (INPO_LAST, INPO.decaying(0.1), None)],
    ids=["Nash-MD", "INPO"],
)
def test_curves_are_those_of_the_iterations(bound, method, name):
    evidence = evidence_of(ROCK)
    path, optimum = iterate(ROCK, method, 34), regularised_nash(ROCK).policy
    measured = [m for m in bound.measure(evidence) if name in (None, m.parameters.get("rate times temperature"))]
    assert len(measured) == 8
    for measurement in measured:
        found = divergence(optimum, path.policies[measurement.parameters["steps"]])
        assert float(measurement.measured.mid()) == pytest.approx(found, abs=1e-9)


def test_sppos_average_is_that_of_the_iteration():
    game = PreferenceGame(ROCK.oracle, np.full(3, 1 / 3), 0.1)
    skewed = PreferenceOracle(np.array([[0.5, 0.9, 0.2], [0.1, 0.5, 0.6], [0.8, 0.4, 0.5]]))
    game = dataclasses.replace(game, oracle=skewed)
    for measurement in SPPO_AVERAGE.measure(evidence_of(game)):
        steps = measurement.parameters["steps"]
        average = iterate(game, SPPOIteration(np.sqrt(8 * np.log(3) / steps)), steps).average
        assert float(measurement.measured.mid()) == pytest.approx((skewed.matrix @ average).max() - 0.5, abs=1e-12)


@pytest.mark.parametrize(("bound", "responses"), [(IPO_SAMPLING, 3), (BEATEN_BY_NONE, 2), (CLOSER, 3)], ids=str)
def test_a_false_statement_is_broken_by_a_small_game(bound, responses):
    found = falsify(bound, budget=200)
    assert found.broken
    assert found.proof == "certified brackets"
    assert found.instance.n_responses == responses
    assert f"{responses} responses" in str(found)
    assert "reference" in found.to_dict()["instance"]


def test_a_true_bound_is_not_broken_by_the_search():
    found = falsify(GAP_DISTANCE, budget=30)
    assert not found.broken
    assert found.tightness > 0.9


def test_a_smaller_constant_is_broken():
    tight = dataclasses.replace(NORMALISER, name="an eighth of Hoeffding", statement=NORMALISER.statement / 8)
    assert falsify(tight, budget=100).broken


@settings(max_examples=25)
@given(drawn.games(max_responses=4, certain=True) | drawn.games(max_responses=4, bradley_terry=True))
def test_a_draft_is_its_game(game):
    again = PreferenceDraft.of(game).model()
    assert again.oracle.matrix == pytest.approx(game.oracle.matrix, abs=1e-15)
    assert again.reference == pytest.approx(game.reference, abs=1e-15)
    rng = np.random.default_rng(0)
    draft = PreferenceDraft.of(game)
    for _ in range(10):
        draft = draft.changed(rng)
        assert draft.model().n_responses == game.n_responses
    assert any(simple.size < draft.size for simple in draft.simpler()) or draft.size[1] == 0


def test_statements_speak_of_their_own_kind_of_problem():
    with pytest.raises(BoundError, match="speaks of PreferenceGame, not of MDP"):
        verify("preference", loop())
    with pytest.raises(BoundError, match="speaks of MDP, not of PreferenceGame"):
        verify(RESIDUAL, ROCK)
    with pytest.raises(BoundError, match="give a PreferenceGame"):
        list(NASH_MD.measure(evidence_of(loop())))
