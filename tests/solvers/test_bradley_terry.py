"""The maximum-likelihood reward meets its moments where it exists, and says who stands apart or above where it does not."""

import numpy as np
import pytest
from banach.mdp import preference_strategies as drawn
from banach.solvers import bradley_terry
from banach.solvers.bradley_terry import moments
from banach.solvers.errors import SolveError
from banach.solvers.preference_result import Existence
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.special import expit


@st.composite
def tables(draw, connected=True):
    """Wins of two to five responses, any scale, some of them against themselves."""
    n = draw(st.integers(2, 5))
    wins = draw(drawn.pair_weights(n, connected=connected)) * draw(st.sampled_from([1.0, 100.0, 1e-3]))
    wins[0, 1] += 1e-3
    return wins + np.diag(np.full(n, draw(st.sampled_from([0.0, 7.0]))))


def apart_from_themselves(wins):
    shares = wins - np.diag(np.diag(wins))
    return shares / shares.sum()


def components(edges):
    """Of each response the responses that can be reached from it, (n, n) bool, by powers."""
    n = len(edges)
    return np.linalg.matrix_power(np.eye(n) + edges, n) > 0


@settings(deadline=None, max_examples=60)
@given(tables() | tables(connected=False))
def test_a_fit_exists_exactly_where_every_chain_of_comparisons_has_a_chain_of_wins(wins):
    fit, shares = bradley_terry(wins), apart_from_themselves(wins)
    compared, beaten = components(shares + shares.T > 0), components(shares > 0)
    assert (fit.status is Existence.UNBOUNDED) == (compared != beaten).any()
    if fit.status is not Existence.UNBOUNDED:
        assert (fit.status is Existence.UNIQUE) == compared.all()
        assert fit.undefeated is None
        return
    assert fit.reward is None
    above, below = fit.undefeated, ~fit.undefeated
    assert shares[np.ix_(above, below)].any()
    assert not shares[np.ix_(below, above)].any()


@settings(deadline=None, max_examples=60)
@given(tables() | tables(connected=False))
def test_expected_wins_are_observed_wins_and_rewards_have_mean_zero_in_each_component(wins):
    fit, shares = bradley_terry(wins), apart_from_themselves(wins)
    if fit.reward is None:
        return
    shown, margin = shares + shares.T, fit.reward[:, None] - fit.reward[None, :]
    assert (shown * expit(margin)).sum(axis=1) == pytest.approx(shares.sum(axis=1), abs=1e-9)
    assert fit.residual <= 1e-9
    assert fit.value == pytest.approx((shares * np.log1p(np.exp(-margin))).sum(), rel=1e-9)
    for inside in components(shown > 0):
        assert fit.reward[inside].sum() == pytest.approx(0, abs=1e-9)


@settings(deadline=None, max_examples=15)
@given(tables())
def test_no_reward_is_likelier_than_the_fit_or_than_its_infimum(wins):
    fit, shares = bradley_terry(wins), apart_from_themselves(wins)

    def unlikelihood(reward):
        return (shares * np.logaddexp(0, reward[None, :] - reward[:, None])).sum()

    found = minimize(unlikelihood, np.zeros(len(wins)), options={"gtol": 1e-10, "maxiter": 2000}).fun
    assert fit.value <= found + 1e-9
    if fit.status is Existence.UNIQUE:
        assert fit.value == pytest.approx(found, abs=1e-7)


def test_the_residual_is_what_the_moments_miss():
    assert moments(np.array([[0.0, 0.75], [0.25, 0.0]]), np.zeros(2)) == 0.25


@pytest.mark.parametrize(
    ("wins", "message"),
    [
        ([[0, 1]], r"wins of shape \(1, 2\)"),
        ([[0, -1], [1, 0]], "numbers >= 0"),
        ([[0, np.nan], [1, 0]], "finite numbers"),
        (np.eye(3), "nobody was compared with anybody"),
    ],
)
def test_what_is_no_table_of_wins_is_refused(wins, message):
    with pytest.raises(SolveError, match=message):
        bradley_terry(wins)
