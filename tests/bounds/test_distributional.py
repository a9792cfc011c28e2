"""What is promised of laws of returns holds on drawn and named models, is attained where it can be, and the folklore breaks."""

from fractions import Fraction

import numpy as np
import pytest
from banach.bounds import evidence_of, falsify, judge, verify
from banach.bounds.distributional import (
    CATALOGUE,
    CATEGORICAL_CRAMER,
    CATEGORICAL_WASSERSTEIN,
    CRAMER_CONTRACTION,
    FIXED_CRAMER,
    QUANTILE_EXPANDS,
    QUANTILE_STEP,
    SUP_CONTRACTION,
    UTILITY_ERROR,
)
from banach.bounds.extremal import extremal
from banach.bounds.return_laws import ReturnEvidence
from banach.mdp import MDP, Discounted, instances
from banach.mdp.law import Law, cdf_at
from banach.mdp.law_projection import categorical
from hypothesis import given, settings

from .dyadic import dyadic_models


def test_every_promise_holds_on_the_named_models():
    report = verify("distributional")
    assert report, str(report)
    assert {row.key for row in report.rows} == {bound.key for bound in CATALOGUE}
    assert all(row.proof_checked for row in report.rows)


@pytest.mark.parametrize("bound", [SUP_CONTRACTION, CRAMER_CONTRACTION, UTILITY_ERROR], ids=lambda bound: bound.key)
def test_a_loop_attains_it(bound):
    found = [judge(bound, measurement) for measurement in bound.measure(evidence_of(extremal()["loop"]))]
    assert max(judgement.tightness for judgement in found) == 1


def midway(discount=0.5):
    """A step earns 3/4 and ends, where the only other state earns 1 for ever: on three points 3/4 is half way."""
    return MDP.from_dense(
        np.array([[[0.0, 1.0, 0.0]], [[0.0, 0.0, 0.0]], [[0.0, 0.0, 1.0]]]),
        np.array([[0.5], [0.0], [1.0]]),
        discount,
        layout="sas",
        terminal=[1],
    )


@pytest.mark.parametrize("bound", [CATEGORICAL_CRAMER, CATEGORICAL_WASSERSTEIN], ids=lambda bound: bound.key)
def test_an_atom_half_way_attains_what_one_projection_may_move(bound):
    found = {m.parameters["points"]: judge(bound, m) for m in bound.measure(evidence_of(midway()))}
    assert found[3].tightness == 1


@settings(deadline=None, max_examples=15)
@given(dyadic_models(max_states=3))
def test_the_categorical_fixed_point_is_one_and_lies_at_its_distance(problem):
    if problem.discount == 0:
        return
    returns = ReturnEvidence(evidence_of(problem))
    laws, grid = returns.categorical_fixed_point(5), returns.grid(5)
    again = returns.apply(laws, lambda law: categorical(law, grid))
    points = np.array(grid, dtype=object)
    for state in returns.acting:
        assert (cdf_at(laws[state], points) == cdf_at(again[state], points)).all()


def test_the_distance_to_a_known_law_is_enclosed():
    """A fair coin a step at discount 1/2 pays a uniform return; a loop pays a certain one."""
    returns = ReturnEvidence(evidence_of(extremal()["loop"]))
    apart = returns.distance([Law.point(Fraction(6))], square=False)
    assert apart.contains(2)  # the loop is worth 8
    assert float(apart.rad()) < 0.5
    assert returns.variance() == [0]


def test_the_variance_solves_its_equation():
    returns = ReturnEvidence(evidence_of(extremal()["shuffle"]))
    laws = returns.constant(Law.point(Fraction(0)))
    for _ in range(10):
        laws = returns.apply(laws)
    for law, exact in zip(laws, returns.variance(), strict=True):
        assert float(law.variance) == pytest.approx(float(exact), rel=0.2)
        assert float(law.variance) < float(exact)


def test_the_folklore_breaks_and_what_breaks_it_is_small():
    found = falsify(QUANTILE_EXPANDS, seed=0)
    assert found
    assert found.proof == "exact rationals"
    assert found.instance.n_states <= 3


def test_nothing_is_measured_without_a_discount():
    problem = instances.riverswim().replace(criterion=Discounted(0.0))
    assert [list(bound.measure(evidence_of(problem))) for bound in (FIXED_CRAMER, QUANTILE_STEP)] == [[], []]
