"""The cancer domain against its sentences, patient by patient in plain Python."""

import math
from fractions import Fraction

import numpy as np
import pytest
from banach.mdp import ModelError, RobustMDP, instances
from banach.mdp.ambiguity import L1
from banach.mdp.dense import spread
from banach.mdp.instances.cancer import LIMIT, START, _drawn, month
from banach.solvers import check, solve
from hypothesis import given, settings
from hypothesis import strategies as st

AMOUNT = st.floats(0, 200, allow_nan=False)


def later(patient, dose, penalty, slip):
    """A month in exact rationals."""
    c, p, q, d = map(Fraction, patient)
    k, gamma = Fraction("0.24"), Fraction("0.729")
    before = p + q + d
    c = (1 - k) * (Fraction(1 if c + dose != 0 else 0) if slip else c + dose)
    p = p + Fraction("0.121") * p * (1 - before / 100) + Fraction("0.0031") * d - Fraction("0.0295") * p - gamma * c * k * p
    q = q + Fraction("0.0295") * p - gamma * c * k * q
    d = d + gamma * c * k * q - Fraction("0.0031") * d - Fraction("0.00867") * d
    return (c, p, q, d), before - (p + q + d) - Fraction(penalty) * c


@given(st.tuples(AMOUNT, AMOUNT, AMOUNT, AMOUNT), st.sampled_from([0, 1]), st.booleans())
@settings(max_examples=60, deadline=None)
def test_a_month_is_that_of_the_equations(patient, dose, slip):
    found, reward = month(np.array([patient]), np.array([float(dose)]), 1.6, slip)
    wanted, worth = later(patient, dose, 1.6, slip)
    size = 1 + sum(patient) ** 2
    assert np.allclose(found[0], [float(x) for x in wanted], rtol=0, atol=1e-13 * size)
    assert math.isclose(reward[0], float(worth), rel_tol=0, abs_tol=1e-13 * size)


def test_the_slip_counts_every_dose_alike():
    twice = np.array([[0.76, 7.0, 40.0, 0.0]])
    assert month(twice, np.ones(1), 0.0, False)[0][0, 0] == pytest.approx(0.76 * 1.76)
    assert month(twice, np.ones(1), 0.0, True)[0][0, 0] == pytest.approx(0.76)
    assert month(twice, np.zeros(1), 0.0, True)[0][0, 0] == pytest.approx(0.76)


def test_a_row_is_the_share_of_noises_after_which_each_patient_is_nearest():
    states, draws = 30, 40
    model = instances.cancer(states=states, draws=draws, seed=3)
    patients, luck = _drawn(states, draws, 0.2, 1.6, False, 3)
    assert tuple(patients[0]) == START
    full = spread(model)
    table, reward = (
        full.probability.reshape(-1, states + 1)[:-1].reshape(states, 2, states + 1),
        model.reward[:-1].reshape(-1, 2),
    )
    for state in range(states):
        for dose in (0, 1):
            (c, p, q, d), worth = later(patients[state], dose, 1.6, False)
            row = np.zeros(states + 1)
            for draw in luck:
                there = np.array([float(c), float(p), float(q), float(d)]) * draw
                end = (abs(there) >= LIMIT).any()
                row[states if end else int(((patients - there) ** 2).sum(1).argmin())] += 1 / draws
            assert np.allclose(table[state, dose], row, atol=1e-12)
            assert reward[state, dose] == pytest.approx(float(worth))
    assert len(np.unique(patients, axis=0)) == states


def test_noise_has_mean_one_and_the_deviation_asked_for():
    """Of 4 x 20000 gamma noises; a false alarm has a chance below 1e-8 (six standard errors)."""
    luck = _drawn(2, 20_000, 0.3, 1.6, False, 0)[1].ravel()
    n = luck.size
    assert abs(luck.mean() - 1) < 6 * 0.3 / math.sqrt(n)
    assert abs(luck.std() - 0.3) < 6 * 0.3 / math.sqrt(n)


def test_treating_is_worth_it_and_a_hostile_nature_takes_some_of_it():
    model = instances.cancer(states=60, draws=50)
    plain = solve(model)
    never = solve(instances.cancer(states=60, draws=50, penalty=100.0))
    assert plain.value[0] > never.value[0] + 1
    assert set(np.unique(plain.policy[:60])) == {0, 1}
    hostile = RobustMDP(model, L1(0.2))
    robust = solve(hostile)
    assert check(hostile, robust.certificate)
    assert robust.value[0] < plain.value[0]


@pytest.mark.parametrize(
    ("settings_of", "said"),
    [({"states": 1}, "states=1"), ({"noise": 0.0}, "noise=0.0"), ({"slip": "some"}, "slip='some'"), ({"draws": 0}, "draws=0")],
)
def test_settings_out_of_range_are_refused(settings_of, said):
    with pytest.raises(ModelError, match=said):
        instances.cancer(**settings_of)
