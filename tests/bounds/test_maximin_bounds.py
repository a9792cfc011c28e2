"""What the maximin policy promises holds on drawn games and needs each of its terms; falsehoods about it are broken."""

import dataclasses

import cvxpy as cp
import numpy as np
import pytest
from banach.bounds import evidence_of, falsify, judge, verify
from banach.bounds.games import rewarded_games
from banach.bounds.number import approximate
from banach.bounds.preference_maximin import BETA, CATALOGUE, COVERAGE, ETA, NO_GAP, SAMPLED, beta, cover, eta, nats, sharp
from banach.mdp import preference_strategies as drawn
from banach.mdp.preference import PreferenceGame, PreferenceOracle
from hypothesis import given, settings
from scipy.optimize import minimize
from scipy.special import expit
from scipy.stats import binom


@pytest.mark.parametrize("bound", CATALOGUE, ids=lambda bound: bound.key)
@settings(deadline=None, max_examples=10)
@given(game=drawn.games(max_responses=4, bradley_terry=True))
def test_a_theorem_holds_on_drawn_games(bound, game):
    reward, found = game.oracle.reward, list(bound.measure(evidence_of(game)))
    assert bool(found) == bool(np.ptp(reward))
    for measurement in found:
        judgement = judge(bound, measurement)
        assert judgement.holds, (judgement, measurement)


@pytest.mark.parametrize("bound", CATALOGUE, ids=lambda bound: bound.key)
def test_a_theorem_holds_on_its_named_games(bound):
    report = verify(bound)
    assert report.holds, str(report)
    assert [row.instance for row in report.rows] == ["three rewards", "six rewards"]
    assert all(row.measured > 0 for row in report.rows)


@pytest.mark.parametrize(
    "missing", [beta * nats, cover * eta / (8 * sharp**2)], ids=["the comparator's nats", "what the labels do not cover"]
)
def test_without_either_term_it_is_false(missing):
    less = dataclasses.replace(COVERAGE, name="one term less", statement=COVERAGE.statement - missing)
    assert falsify(less, budget=60).broken


@pytest.mark.parametrize("name", ["three rewards", "six rewards"])
def test_what_it_measures_is_what_a_conic_program_and_least_squares_find(name):
    game = rewarded_games()[name]
    reward, q, n = game.oracle.reward - game.oracle.reward.min(), game.reference, game.n_responses
    joins = {
        "a chain": lambda i, j: abs(i - j) == 1,
        "a star": lambda i, j: i != j and 0 in (i, j),
        "every pair": lambda i, j: i != j,
    }
    best, top = int(reward.argmax()), float(reward.max())
    for measurement in COVERAGE.measure(evidence_of(game)):
        shown = np.array([[float(joins[measurement.parameters["pairs"]](i, j)) for j in range(n)] for i in range(n)])
        shown /= np.triu(shown).sum()
        r = cp.Variable(n)
        soft = game.temperature * cp.log_sum_exp(np.log(q) + r / game.temperature) - cp.sum(r) / n
        believed = sum(
            shown[i, j] / (1 + np.exp(reward[j] - reward[i])) * cp.logistic(r[j] - r[i])
            for i in range(n) for j in range(n) if shown[i, j]
        )  # fmt: skip
        program = cp.Problem(cp.Minimize(ETA * soft + believed), [r >= 0, r <= top])
        program.solve(solver="CLARABEL", tol_gap_abs=1e-11, tol_gap_rel=1e-11, tol_feas=1e-11)
        policy = q * np.exp((r.value - r.value.max()) / game.temperature)
        policy /= policy.sum()
        assert approximate(measurement.measured) == pytest.approx(reward[best] - policy @ reward, abs=1e-4)
        apart = np.eye(n)[best] - 1 / n
        spread = np.linalg.lstsq(np.diag(shown.sum(1)) - shown, apart, rcond=None)[0]
        assert approximate(measurement.values[cover]) == pytest.approx(apart @ spread, rel=1e-9)
        assert approximate(measurement.values[sharp]) == pytest.approx(np.exp(top) / (1 + np.exp(top)) ** 2, rel=1e-12)
        assert approximate(measurement.values[nats]) == pytest.approx(-np.log(q[best]), rel=1e-12)


@pytest.mark.parametrize("name", ["three rewards", "six rewards"])
def test_the_quantile_over_drawn_labels_and_what_theorem_5_3_promises_of_it(name):
    """Every count of labels in turn, its program solved by scipy and weighed by scipy's binomial law; the promise by hand."""
    game = rewarded_games()[name]
    reward = game.oracle.reward
    top, ends = float(np.ptp(reward)), [int(reward.argmin()), int(reward.argmax())]
    q = game.reference[ends] / game.reference[ends].sum()
    seen, quantiles = [], []
    for measurement in SAMPLED.measure(evidence_of(game)):
        labels = measurement.parameters["labels"]
        seen.append(labels)
        intervals = np.ceil(top * 6 * (1 + np.exp(top)) * labels / 2)
        iota = np.sqrt(np.log(intervals**2 / 0.1))
        strict, price = np.sqrt(24 / labels) * iota / (1 + np.exp(top)) ** 2, labels**-0.5
        lacking = []
        for won in range(labels + 1):

            def worth(r, won=won, strict=strict, price=price, labels=labels):
                soft = price * np.logaddexp(*(np.log(q) + r / price)) - r.mean()
                return (
                    strict * soft
                    + (won * np.logaddexp(0, r[0] - r[1]) + (labels - won) * np.logaddexp(0, r[1] - r[0])) / labels
                )

            starts = ([0.0, top], [top / 2, top / 3])
            found = [
                minimize(worth, x, method="L-BFGS-B", bounds=[(0, top)] * 2, options={"ftol": 1e-15, "gtol": 1e-12})
                for x in starts
            ]
            r = min(found, key=lambda x: x.fun).x
            lacking.append(top * expit(np.log(q[0] / q[1]) + (r[0] - r[1]) / price))
        chance = binom.pmf(np.arange(labels + 1), labels, expit(top))
        order = np.argsort(lacking)
        quantile = np.array(lacking)[order][np.searchsorted(np.cumsum(chance[order]), 0.9)]
        quantiles.append(quantile)
        assert approximate(measurement.measured) == pytest.approx(quantile, rel=1e-3, abs=1e-7)
        promised = np.sqrt(6) * (1 + np.exp(top)) ** 2 * 1.25 * iota - 4 * np.log(q[1])
        assert SAMPLED.evaluate(measurement.values) == pytest.approx(promised / (4 * np.sqrt(labels)), rel=1e-6)
    assert seen == [4, 12, 36]
    assert quantiles[2] < quantiles[0] / 1000  # at a given reward, much faster than the root of nine


@pytest.mark.parametrize("reward", [[0.0], [1.5, 1.5]], ids=["one response", "all alike"])
def test_nothing_is_promised_where_nothing_can_be_lacking(reward):
    game = PreferenceGame(PreferenceOracle.bradley_terry(np.array(reward)), np.full(len(reward), 1 / len(reward)), 0.5)
    assert not list(COVERAGE.measure(evidence_of(game)))


@pytest.mark.parametrize(("bound", "responses"), [(NO_GAP, 2), (BETA, 3)], ids=str)
def test_a_false_statement_is_broken_by_a_small_game(bound, responses):
    found = falsify(bound, budget=200)
    assert found.broken
    assert found.proof == "certified brackets"
    assert found.instance.n_responses == responses
