"""False statements are broken, confirmed exactly, and shrunk to what can be read; true ones stand."""

import dataclasses
from fractions import Fraction

import numpy as np
import pytest
from banach.bounds import CATALOGUE, FALSEHOODS, BoundError, Measurement, evidence_of, falsify, judge
from banach.bounds.draft import Draft
from banach.bounds.falsehoods import BARE_RESIDUAL, EARLY_POLICY, FEW_IMPROVEMENTS, HALF_GREEDY_LOSS, RESIDUAL_STOP
from banach.bounds.policies import GREEDY_LOSS
from banach.bounds.rates import MODIFIED
from banach.mdp import MDP, ModelError, strategies
from hypothesis import given, settings
from hypothesis import strategies as st

from ..witness import best_of_all_policies, policies, policy_value, rows, worth

FOUND = {}


def found(bound):
    """The search's result with seed 0; searched once."""
    if bound.key not in FOUND:
        FOUND[bound.key] = falsify(bound, seed=0)
    return FOUND[bound.key]


@pytest.mark.parametrize("bound", FALSEHOODS, ids=lambda bound: bound.key)
def test_a_false_statement_is_broken_in_exact_arithmetic(bound):
    result = found(bound)
    assert result
    assert result.proof == "exact rationals" or (bound.about is not MDP and result.proof == "certified brackets")
    assert result.measured > result.promised


@pytest.mark.parametrize(
    ("bound", "states", "pairs"),
    [(RESIDUAL_STOP, 2, 1), (HALF_GREEDY_LOSS, 2, 3), (BARE_RESIDUAL, 1, 1), (EARLY_POLICY, 3, 4), (FEW_IMPROVEMENTS, 2, 5)],
    ids=lambda thing: getattr(thing, "key", thing),
)
def test_the_counterexample_is_small(bound, states, pairs):
    instance = found(bound).instance
    assert instance.n_states <= states
    assert instance.n_pairs <= pairs


@pytest.mark.parametrize("bound", FALSEHOODS, ids=lambda bound: bound.key)
def test_a_saved_counterexample_still_breaks_the_bound(bound, tmp_path):
    found(bound).instance.save(tmp_path / "counterexample.npz")
    loaded = bound.about.load(tmp_path / "counterexample.npz")
    assert any(judge(bound, measurement).refutes for measurement in bound.measure(evidence_of(loaded)))


@pytest.mark.parametrize("bound", [HALF_GREEDY_LOSS, RESIDUAL_STOP], ids=lambda bound: bound.key)
def test_the_same_seed_finds_the_same_model(bound):
    again = falsify(bound, seed=0)
    assert str(again) == str(found(bound))
    assert again.instance.fingerprint == found(bound).instance.fingerprint


def test_another_seed_searches_elsewhere():
    assert falsify(HALF_GREEDY_LOSS, seed=1).models != found(HALF_GREEDY_LOSS).models


def test_fractions_confirm_that_a_greedy_policy_loses_more_than_half_the_bound():
    """Some v at the measured distance e has a greedy policy that loses more than g e / (1-g)."""
    model = found(HALF_GREEDY_LOSS).instance
    table, g = rows(model), Fraction(model.discount)
    optimal = best_of_all_policies(model)
    promised = Fraction(found(HALF_GREEDY_LOSS).promised)
    distance = promised * (1 - g) / g
    lost = []
    for signs in np.ndindex(*(2,) * model.n_states):
        value = [v + distance * (1 - 2 * int(s)) for v, s in zip(optimal, signs, strict=True)]
        value = [Fraction(float(model.terminal_value[s])) if model.terminal[s] else v for s, v in enumerate(value)]
        for policy in policies(model):
            worths = [[worth(row, g, value) for row in actions] for actions in table]
            if all(not w or w[policy[s]] == max(w) for s, w in enumerate(worths)):
                lost.append(max(a - b for a, b in zip(optimal, policy_value(model, policy), strict=True)))
    assert max(lost) > promised
    assert max(lost) <= 2 * promised


def test_fractions_confirm_that_howard_improves_more_often_than_there_are_states():
    model = found(FEW_IMPROVEMENTS).instance
    table, g, policy, improvements = rows(model), Fraction(model.discount), [0] * model.n_states, 0
    while True:
        value = policy_value(model, policy)
        gains = [[worth(row, g, value) - value[s] for row in actions] for s, actions in enumerate(table)]
        if all(max(gain) <= 0 for gain in gains):
            break
        policy = [gain.index(max(gain)) if max(gain) > 0 else policy[s] for s, gain in enumerate(gains)]
        improvements += 1
    assert improvements > model.n_states


def test_fractions_confirm_that_the_residual_stop_is_unsafe():
    """One state that stays with probability q: value iteration from 0 is off by q^k when it changes by (1-q) q^(k-1)."""
    model, result = found(RESIDUAL_STOP).instance, found(RESIDUAL_STOP)
    [(_, row)] = next(actions for actions in rows(model) if actions)
    state = int(np.flatnonzero(~model.terminal)[0])
    stay, sweeps = row[state] / sum(row.values()), result.parameters["sweeps"]
    assert stay**sweeps * (1 - stay) < Fraction(result.parameters["eps"])
    assert float(stay**sweeps) == pytest.approx(result.measured, rel=1e-9)
    assert stay**sweeps > Fraction(result.parameters["eps"])


def test_a_true_bound_is_not_broken_and_the_search_finds_where_it_is_attained():
    result = falsify(GREEDY_LOSS, budget=500, seed=0)
    assert not result
    assert result.tightness == 1.0
    assert result.proof == "exact rationals"


def test_a_bound_that_is_not_attained_by_simple_models_gets_its_tightest_one():
    result = falsify(MODIFIED, strategies.markov_chains(max_states=2, max_terminal=0), budget=40, seed=0)
    assert not result
    assert 0 < result.tightness <= 1


def test_the_search_stays_within_twice_its_budget():
    counted = []

    def measure(evidence):
        counted.append(evidence)
        return GREEDY_LOSS.measure(evidence)

    result = falsify(dataclasses.replace(GREEDY_LOSS, measure=measure), budget=30, seed=0)
    assert 30 <= len(counted) <= result.models <= 60 + 2


def test_a_float_that_seems_to_break_a_bound_does_not_refute_it():
    noisy = dataclasses.replace(
        GREEDY_LOSS, statement=1, symbols={}, measure=lambda evidence: [Measurement(1.5, {}), Measurement(0, {})]
    )
    result = falsify(noisy, budget=20)
    assert not result.broken
    assert result.proof == "within rounding"


def test_a_bound_that_no_model_fits_says_so():
    result = falsify(dataclasses.replace(GREEDY_LOSS, measure=lambda evidence: []), budget=10)
    assert result.instance is None
    assert "models could be measured" in str(result)


def test_the_result_prints_as_a_model_and_as_plain_data():
    result = found(BARE_RESIDUAL)
    assert "state 0, action 0: reward" in str(result)
    assert str(Draft.of(result.instance)) == result.to_dict()["instance"]
    assert result.to_dict()["broken"] is True


@pytest.mark.parametrize("budget", [0, -1, 1.5, True])
def test_an_impossible_budget_is_refused(budget):
    with pytest.raises(BoundError, match="whole number >= 1"):
        falsify(GREEDY_LOSS, budget=budget)


def test_progress_is_reported():
    seen = []
    falsify(BARE_RESIDUAL, budget=5, report=lambda models, tightness: seen.append((models, tightness)))
    assert [models for models, _ in seen] == list(range(1, len(seen) + 1))
    assert seen[-1][1] > 1


def test_a_users_strategy_is_where_the_search_begins():
    result = falsify(GREEDY_LOSS, st.just(found(HALF_GREEDY_LOSS).instance), budget=3)
    assert result.models >= 1
    assert result.instance.n_states <= 2


def test_an_error_in_the_users_measurement_is_not_swallowed():
    def measure(evidence):
        raise ZeroDivisionError("a slip of the user's")

    with pytest.raises(ZeroDivisionError, match="a slip"):
        falsify(dataclasses.replace(GREEDY_LOSS, measure=measure), budget=3)


def test_a_model_that_is_none_is_skipped():
    def measure(evidence):
        raise ModelError("no such problem")

    assert falsify(dataclasses.replace(GREEDY_LOSS, measure=measure), budget=3).instance is None


@pytest.mark.parametrize("bound", [*CATALOGUE, *FALSEHOODS], ids=lambda bound: bound.key)
@settings(max_examples=1, deadline=None)
@given(data=st.data())
def test_a_statement_is_searched_on_models_of_the_kind_it_speaks_of(bound, data):
    assert isinstance(data.draw(bound.drawn()), bound.about)
