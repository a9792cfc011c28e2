"""Oracles are checked at the door, mean exact numbers, and the named ones have the cycles that their names promise."""

from fractions import Fraction

import numpy as np
import pytest
from banach.mdp import ModelError, preference_strategies
from banach.mdp.errors import FileFormatError
from banach.mdp.preference import PreferenceGame, PreferenceOracle, distribution
from hypothesis import given
from hypothesis import strategies as st


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        ([[0.5, 1.2], [-0.2, 0.5]], r"P\[0, 1\] = 1.2 is not a probability"),
        ([[0.5, float("nan")], [0.2, 0.5]], r"P\[0, 1\] = nan is not a probability"),
        ([[0.5, 0.7, 0.5], [0.3, 0.5, 0.6], [0.5, 0.6, 0.5]], r"P\[1, 2\] \+ P\[2, 1\] = 0.6 \+ 0.6 is not one"),
        ([[0.5, 0.7], [0.3, 0.4]], r"P\[1, 1\] = 0.4; a response ties with itself"),
        ([[0.5, 0.5]], "not square"),
        ("cycle", "no array of real numbers"),
        (np.empty((0, 0)), "not square"),
    ],
)
def test_what_is_no_oracle_is_refused_by_the_pair_that_is_wrong(matrix, message):
    with pytest.raises(ModelError, match=message):
        PreferenceOracle(matrix)


@given(preference_strategies.oracles(certain=True))
def test_the_fractions_of_an_oracle_sum_to_one_and_round_to_its_floats(oracle):
    exact = oracle.rational()
    n = oracle.n_responses
    assert all(exact[i][j] + exact[j][i] == 1 for i in range(n) for j in range(n))
    assert [[float(p) for p in row] for row in exact] == oracle.matrix.tolist()
    assert all(exact[i][i] == Fraction(1, 2) for i in range(n))


def test_a_tiny_probability_keeps_its_digits():
    oracle = PreferenceOracle.bradley_terry([0.0, 60.0])
    assert oracle.matrix[0, 1] == pytest.approx(np.exp(-60), rel=1e-12)
    assert oracle.rational()[0][1] == Fraction(oracle.matrix[0, 1])
    assert oracle.rational()[1][0] == 1 - oracle.rational()[0][1] < 1


@pytest.mark.parametrize("matrix", [[[0.5, 0.9], [0.1, 0.5]], [[0.5, 0.1], [0.9, 0.5]], [[0.5, 0.9 + 1e-10], [0.1, 0.5]]])
def test_of_a_pair_the_smaller_number_is_the_model(matrix):
    oracle = PreferenceOracle(matrix)
    table = oracle.rational()
    assert sorted([table[0][1], table[1][0]]) == [Fraction(0.1), 1 - Fraction(0.1)]
    assert sorted([oracle.matrix[0, 1], oracle.matrix[1, 0]]) == [0.1, 1 - 0.1]


def test_every_number_of_a_game_is_in_its_fingerprint():
    reward, reference = np.array([0.0, 1.0]), np.array([0.5, 0.5])
    rewarded = PreferenceOracle.bradley_terry(reward)
    games = [
        PreferenceGame(rewarded, reference, 0.5),
        PreferenceGame(rewarded, reference, 0.25),
        PreferenceGame(rewarded, np.array([0.25, 0.75]), 0.5),
        PreferenceGame(PreferenceOracle(rewarded.matrix), reference, 0.5),
        PreferenceGame(PreferenceOracle.bradley_terry(reward + 1), reference, 0.5),
        PreferenceGame(PreferenceOracle.bradley_terry(2 * reward), reference, 0.5),
    ]
    assert len({game.fingerprint for game in games}) == len(games)


@given(preference_strategies.bradley_terry_oracles())
def test_log_odds_of_a_bradley_terry_oracle_are_differences_of_rewards(oracle):
    odds = np.log(oracle.matrix / oracle.matrix.T)
    assert odds == pytest.approx(oracle.reward[:, None] - oracle.reward[None, :], abs=1e-12)


@given(preference_strategies.oracles(), st.data())
def test_the_win_rate_is_the_mean_over_opponents_and_a_policy_ties_with_itself(oracle, data):
    policy = data.draw(preference_strategies.policies(oracle.n_responses, zeros=True))
    rates = oracle.win_rate(policy)
    exact = [sum(p * Fraction(float(x)) for p, x in zip(row, policy, strict=True)) for row in oracle.rational()]
    assert rates == pytest.approx([float(rate) for rate in exact], abs=1e-14)
    assert policy @ rates == pytest.approx(0.5, abs=1e-14)


@pytest.mark.parametrize("n", [3, 5, 7, 4])
def test_in_a_ring_every_response_wins_and_loses_as_often(n):
    matrix = PreferenceOracle.cyclic(n, 0.9).matrix
    assert ((matrix > 0.5).sum(axis=1) == (n - 1) // 2).all()
    assert (matrix > 0.5).sum(axis=1).tolist() == (matrix < 0.5).sum(axis=1).tolist()
    assert matrix[0, 1] == matrix[n - 1, 0] == 0.9
    assert matrix[1, 0] == pytest.approx(0.1)


def test_three_transitive_annotators_make_a_cycle():
    oracle = PreferenceOracle.population(5.0 * np.array([[2, 1, 0], [0, 2, 1], [1, 0, 2]]))
    assert oracle.matrix[0, 1] > 0.5
    assert oracle.matrix[1, 2] > 0.5
    assert oracle.matrix[2, 0] > 0.5
    shares = np.array([0.2, 0.3, 0.5])
    mixed = PreferenceOracle.population(np.array([[0.0, 1.0], [2.0, 0.0], [0.0, 0.0]]), shares).matrix[0, 1]
    assert mixed == pytest.approx(0.2 / (1 + np.e) + 0.3 / (1 + np.exp(-2)) + 0.25)


def test_counts_become_frequencies_and_weights():
    oracle, weights = PreferenceOracle.of_counts([[7, 3, 0], [1, 0, 0], [0, 0, 0]])
    assert oracle.matrix.tolist() == [[0.5, 0.75, 0.5], [0.25, 0.5, 0.5], [0.5, 0.5, 0.5]]
    assert weights.tolist() == [[0, 2, 0], [2, 0, 0], [0, 0, 0]]
    with pytest.raises(ModelError, match="counts >= 0"):
        PreferenceOracle.of_counts([[0, -1], [0, 0]])


def test_a_learned_matrix_is_repaired_and_its_violation_reported():
    oracle, violation = PreferenceOracle.symmetrised([[0.5, 0.9], [0.2, 0.5]])
    assert oracle.matrix[0, 1] == pytest.approx(0.85)
    assert violation == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: PreferenceOracle.cyclic(2), "the shortest has 3"),
        (lambda: PreferenceOracle.cyclic(3, 0.4), "strength 0.4"),
        (lambda: PreferenceOracle.bradley_terry([0.0, np.inf]), "finite"),
        (lambda: PreferenceOracle([[0.5, 0.7], [0.3, 0.5]], [0.0, 1.0]), "not the Bradley-Terry matrix"),
        (lambda: PreferenceOracle.population([[0.0, 1.0]], [0.4]), "share sums to 0.4"),
        (lambda: PreferenceGame(PreferenceOracle.cyclic(3), [0.5, 0.5, 0.0], 1.0), r"reference\[2\] is 0.0"),
        (lambda: PreferenceGame(PreferenceOracle.cyclic(3), [0.5, 0.5], 1.0), r"give shape \(3,\)"),
        (lambda: PreferenceGame(PreferenceOracle.cyclic(3), [0.2, 0.3, 0.5], 0.0), "temperature 0.0 is not > 0"),
        (lambda: distribution([0.7, 0.7], 2, "policy"), "policy sums to 1.4"),
    ],
)
def test_what_is_wrong_is_said(build, message):
    with pytest.raises(ModelError, match=message):
        build()


@given(preference_strategies.games(), preference_strategies.games(bradley_terry=True))
def test_a_saved_game_is_read_back_the_same(tmp_path_factory, general, rewarded):
    path = tmp_path_factory.mktemp("games") / "game.npz"
    for game in (general, rewarded):
        game.save(path)
        assert PreferenceGame.load(path).fingerprint == game.fingerprint


def test_another_file_is_no_game(tmp_path):
    (tmp_path / "note.npz").write_text("no")
    with pytest.raises(FileFormatError, match="preference game"):
        PreferenceGame.load(tmp_path / "note.npz")


@given(preference_strategies.oracles(n=4), st.data())
def test_drawn_weights_join_all_responses_where_they_should(oracle, data):
    weights = data.draw(preference_strategies.pair_weights(oracle.n_responses))
    reach = np.linalg.matrix_power(np.eye(4) + weights + weights.T, 4)
    assert (reach > 0).all()
    assert (np.diag(weights) == 0).all()
