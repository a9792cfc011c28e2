"""What merging costs and what metrics promise: attained where it is said so, and broken where it is false."""

from fractions import Fraction

import numpy as np
import pytest
from banach.bounds import evidence_of, falsify, judge, verify
from banach.bounds import metrics as metric_shelf
from banach.bounds import quotients as shelf
from banach.mdp import instances
from hypothesis import given, settings

from .. import witness
from .dyadic import dyadic_models

SHELF = (*shelf.CATALOGUE, *metric_shelf.CATALOGUE)
FALSE = (*shelf.FALSEHOODS, *metric_shelf.FALSEHOODS)


@pytest.mark.parametrize("bound", SHELF, ids=lambda bound: bound.key)
def test_a_theorem_holds_on_the_named_models_decided_exactly(bound):
    report = verify(bound)
    assert report
    assert {row.proof for row in report.rows} == {"exact rationals"}
    assert len(report.rows) >= 6


@pytest.mark.parametrize("bound", FALSE, ids=lambda bound: bound.key)
def test_a_false_statement_is_broken_by_a_named_model(bound):
    assert any(not row.holds and row.proof_checked for row in verify(bound).rows)


@pytest.mark.parametrize(
    ("bound", "least"),
    [
        (shelf.AGGREGATION, 1.0),
        (metric_shelf.FERNS, 1 - 1e-4),
        (metric_shelf.LAX, 1 - 1e-4),
        (metric_shelf.ON_POLICY, 1 - 1e-4),
    ],
    ids=lambda thing: getattr(thing, "key", ""),
)
def test_two_loops_attain_it(bound, least):
    found = [judge(bound, m) for m in bound.measure(evidence_of(shelf.problems("two loops")["two loops"]))]
    assert max(judgement.tightness for judgement in found) >= least


@pytest.mark.parametrize("bound", [metric_shelf.ON_POLICY_BELOW, shelf.BARE_AGGREGATION], ids=lambda bound: bound.key)
def test_the_search_breaks_a_false_statement(bound):
    found = falsify(bound, budget=150)
    assert found
    assert found.proof == "exact rationals"


@given(dyadic_models())
@settings(max_examples=25, deadline=None)
def test_the_exact_quotient_has_the_value_that_elimination_finds(problem):
    """The evidence of a merged problem against the same means taken in Fractions."""
    problem = problem.negated() if problem.criterion.minimize else problem
    evidence = evidence_of(problem)
    table = [row for rows in witness.rows(problem) for row in rows]
    for _, merged in shelf._partitions(evidence):
        small = shelf._merged(evidence, merged)
        for k in range(merged.model.n_pairs):
            own = np.flatnonzero(merged.quotient_pair == k)
            mean = sum(table[pair][0] for pair in own) / len(own)
            assert Fraction(int(small.reward[k].p), int(small.reward[k].q)) == mean
            for c in range(merged.model.n_states):
                mass = [sum(p for j, p in table[pair][1].items() if merged.partition.states[j] == c) for pair in own]
                entry = small.matrix[k, c]
                total = [sum(table[pair][1].values()) for pair in own]
                expected = sum(m / t for m, t in zip(mass, total, strict=True)) / len(own)
                assert Fraction(int(entry.p), int(entry.q)) == expected


def test_large_problems_are_refused():
    with pytest.raises(ValueError, match="rational arithmetic"):
        verify(metric_shelf.FERNS, instances.gridworld(side=6))
