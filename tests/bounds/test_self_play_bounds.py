"""What is promised of INPO's steps, spans and averages holds on drawn games, and is attained where it should be."""

import dataclasses

import pytest
from banach.bounds import evidence_of, falsify, judge, verify
from banach.bounds.preference_self_play import AVERAGE, CATALOGUE, ONE_STEP, SPAN
from banach.mdp import preference_strategies as drawn
from banach.solvers.preference_iterations import INPO, iterate
from banach.solvers.regularised_nash import duality_gap
from hypothesis import given, settings

from .test_preference_bounds import ROCK


@pytest.mark.parametrize("bound", CATALOGUE, ids=lambda bound: bound.key)
@settings(deadline=None, max_examples=8)
@given(game=drawn.games(max_responses=4, certain=True) | drawn.games(max_responses=4, bradley_terry=True))
def test_a_theorem_holds_on_drawn_games(bound, game):
    for measurement in bound.measure(evidence_of(game)):
        judgement = judge(bound, measurement)
        assert judgement.holds, (judgement, measurement)


@pytest.mark.parametrize(("bound", "least"), [(ONE_STEP, 0.99), (SPAN, 0.5), (AVERAGE, 0.05)], ids=lambda x: str(x)[:20])
def test_a_theorem_holds_on_its_named_games_and_is_not_idle_there(bound, least):
    report = verify(bound)
    assert report.holds, str(report)
    assert len(report.rows) == 8
    assert max(row.tightness for row in report.rows) > least


def test_averages_are_those_of_the_iteration():
    seen = 0
    for measurement in AVERAGE.measure(evidence_of(ROCK)):
        steps, ratio = measurement.parameters["steps"], measurement.parameters["inverse step over temperature"]
        average = iterate(ROCK, INPO(0.1 * ratio), steps).average
        assert float(measurement.measured.mid()) == pytest.approx(duality_gap(ROCK, average), abs=1e-9)
        seen += 1
    assert seen == 18


@pytest.mark.parametrize("bound", [ONE_STEP, SPAN], ids=["step", "span"])
def test_a_smaller_constant_is_broken(bound):
    tighter = dataclasses.replace(bound, name="half of it", statement=bound.statement / 2)
    assert falsify(tighter, budget=100).broken
