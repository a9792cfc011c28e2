"""What is promised of objectives on token problems holds on drawn ones, and is attained where it should be."""

import pytest
from banach.bounds import BoundError, evidence_of, falsify, judge, statements, verify
from banach.bounds.extremal import loop
from banach.mdp.token import TokenProblem
from banach.mdp.token_strategies import token_problems
from hypothesis import given, settings

CATALOGUE = [bound for bound in statements("rlvr") if bound.about is TokenProblem]
REST = [bound for bound in statements("rlvr") if bound.about is not TokenProblem]


@pytest.mark.parametrize("bound", CATALOGUE, ids=lambda bound: bound.key)
@settings(deadline=None, max_examples=8)
@given(problem=token_problems(max_tokens=3, max_horizon=2, binary=True))
def test_a_theorem_holds_on_drawn_problems(bound, problem):
    for measurement in bound.measure(evidence_of(problem)):
        judgement = judge(bound, measurement)
        assert judgement.holds, (judgement, measurement)


@pytest.mark.parametrize("bound", [*CATALOGUE, *REST], ids=lambda bound: bound.key)
def test_a_theorem_holds_on_its_named_problems_and_is_not_idle_there(bound):
    report = verify(bound)
    assert report.holds, str(report)
    assert len(report.rows) >= 3
    assert any(row.tightness > (0.2 if bound in CATALOGUE else 0.01) for row in report.rows), str(report)


@pytest.mark.parametrize("bound", [*CATALOGUE, *REST], ids=lambda bound: bound.key)
def test_a_search_measures_models_of_its_kind_and_breaks_no_theorem(bound):
    found = falsify(bound, budget=20)
    assert isinstance(found.instance, bound.about)
    assert not found.broken, str(found)


def test_statements_about_tokens_speak_of_token_problems():
    with pytest.raises(BoundError, match="speaks of TokenProblem, not of MDP"):
        verify(CATALOGUE[0], loop())
    with pytest.raises(BoundError, match="give a TokenProblem"):
        list(CATALOGUE[0].measure(evidence_of(loop())))
