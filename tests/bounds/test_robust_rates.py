"""Rates of robust methods, factors against rows, and promises made from data, in exact rationals and certified brackets."""

from itertools import pairwise

import numpy as np
import pytest
from banach.bounds import evidence_of, judge, verify
from banach.bounds.nature import RobustEvidence, boxes, mixed, variation
from banach.bounds.number import exact
from banach.bounds.rational import rationals
from banach.bounds.robust_rates import CARELESS, CATALOGUE, FACTORS, NATURE, PARTIAL, PROMISE
from banach.mdp import LinearRobustMDP, RobustMDP, instances
from banach.mdp.ambiguity import TotalVariation
from banach.mdp.criterion import Discounted
from banach.mdp.instances.rows import from_lists
from banach.solvers import solve
from flint import fmpq
from hypothesis import given, settings

from .dyadic import dyadic_models


def test_the_theorems_hold_exactly_on_the_named_models():
    report = verify(CATALOGUE)
    assert report
    assert {row.proof for row in report.rows} == {"exact rationals"}
    assert {row.bound for row in report.rows} == {bound.name for bound in CATALOGUE}


@settings(deadline=None, max_examples=25)
@given(dyadic_models())
def test_the_rates_hold_on_drawn_models(problem):
    evidence = evidence_of(problem)
    for bound in (NATURE, PARTIAL, FACTORS):
        assert all(judge(bound, measurement).holds for measurement in bound.measure(evidence))


@settings(deadline=None, max_examples=25)
@given(dyadic_models())
def test_nature_never_goes_back(problem):
    problem = problem.negated() if problem.criterion.minimize else problem
    evidence = evidence_of(problem)
    policy = np.where(evidence.terminal, -1, 0).astype(np.int32)
    robust = RobustEvidence(evidence, variation(evidence, fmpq(1, 4)))
    rounds = list(robust.natures_rounds(policy))
    assert all((after <= before).all() for before, after in pairwise(rounds))
    alone = evidence.restricted(policy)
    settled = RobustEvidence(alone, variation(alone, fmpq(1, 4))).apply(rounds[-1])
    assert (settled == rounds[-1]).all()


@settings(deadline=None, max_examples=20)
@given(dyadic_models())
def test_boxes_are_the_interval_model(problem):
    problem = problem.negated() if problem.criterion.minimize else problem
    evidence = evidence_of(problem)
    if not problem.n_pairs:
        return
    lower, upper = problem.probability / 2, np.minimum(problem.probability * 2, 1.0)
    certificate = solve(RobustMDP.intervals(problem, lower, upper), eps=1e-6).certificate
    ends = []
    for k in range(problem.n_pairs):
        row = slice(*problem.row_ptr[k : k + 2].tolist())
        low, high = ([fmpq(0)] * problem.n_states for _ in range(2))
        for j, a, b in zip(problem.successor[row].tolist(), rationals(lower[row]), rationals(upper[row]), strict=True):
            low[j], high[j] = low[j] + a, high[j] + b
        ends.append((low, high))
    value = RobustEvidence(evidence, boxes(ends)).optimal()
    assert all(exact(a) <= v <= exact(b) for a, v, b in zip(certificate.lower, value, certificate.upper, strict=True))


def test_mixed_factors_are_the_linear_problem():
    table = np.array([[0.5, 0.25, 0.25], [0.0, 0.5, 0.5], [0.25, 0.75, 0.0]])
    features = np.array([[0.5, 0.5, 0.0], [0.0, 0.5, 0.5], [0.5, 0.0, 0.5]])
    problem = LinearRobustMDP(
        [0, 1, 2, 3], features, table, [1.0, 0.0, 2.0], Discounted(0.5), TotalVariation(0.25, support="all")
    )
    rows = evidence_of(from_lists([[(0.0, dict(enumerate(row)))] for row in table.tolist()], Discounted(0.5)))
    shares = {k: [(i, exact(x)) for i, x in enumerate(phi) if x] for k, phi in enumerate(features.tolist())}
    nature = mixed(shares, variation(rows, fmpq(1, 4), everywhere=True))
    value = RobustEvidence(evidence_of(problem.problem), nature).optimal()
    certificate = solve(problem, eps=1e-9).certificate
    assert all(exact(a) <= v <= exact(b) for a, v, b in zip(certificate.lower, value, certificate.upper, strict=True))


def test_factors_leave_strictly_more_than_rows_somewhere():
    measured = [(m.measured, m.values) for m in FACTORS.measure(evidence_of(instances.forest()))]
    assert any(value > next(iter(values.values())) for value, values in measured)


def test_promises_are_broken_sometimes_and_seldom_enough():
    [row] = verify(PROMISE, {"riverswim": instances.riverswim()}).rows
    assert 0 < row.measured <= row.promised
    chain = from_lists([[(1.0, {0: 0.5, 1: 0.5})], [(0.0, {1: 1.0})]], Discounted(0.5))
    broken = {m.parameters["delta"]: m.measured for m in PROMISE.measure(evidence_of(chain))}
    assert broken[0.1] < broken[0.5]
    assert broken[0.5] == fmpq(7, 64)  # five or six stays of six: the interval then begins above one half


def test_shrinking_tolerances_are_what_keeps_the_rate():
    model = from_lists([[(1.0, {1: 1.0})], [(0.0, {1: 1.0}), (0.0, {0: 1.0})]], Discounted(0.5))
    careless = [judge(CARELESS, m) for m in CARELESS.measure(evidence_of(model))]
    assert any(judgement.refutes for judgement in careless)
    assert all(judge(PARTIAL, m).holds for m in PARTIAL.measure(evidence_of(model)))


@pytest.mark.parametrize("bound", [NATURE, PARTIAL, FACTORS, PROMISE], ids=lambda bound: bound.key)
def test_large_problems_are_refused(bound):
    with pytest.raises(ValueError, match="rational arithmetic"):
        verify(bound, instances.gridworld(side=6))
