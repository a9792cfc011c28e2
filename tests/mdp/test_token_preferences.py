"""Games between the answers to a prompt, and what solves them as a token policy."""

import numpy as np
import pytest
from banach.mdp import ModelError, PreferenceOracle
from banach.mdp import token_policy as tp
from banach.mdp.instances_token import tiny_enum, tool_turns
from banach.mdp.token_preferences import policy_of_law, preference_game
from banach.mdp.token_strategies import policy_weights, token_problems
from banach.solvers import nash, regularised_nash, regularised_optimum
from hypothesis import given, settings
from hypothesis import strategies as st

TINY = tiny_enum()
NOWHERE = np.zeros((TINY.n_nodes, TINY.vocabulary_size))


@settings(deadline=None, max_examples=40)
@given(st.data())
def test_the_law_of_a_policy_is_that_policy(data):
    problem = data.draw(token_problems(turns=False))
    logits = np.log(data.draw(policy_weights(problem)))
    found = policy_of_law(problem, tp.sequence_probability(problem, logits))
    np.testing.assert_allclose(found, tp.log_policy(problem, logits), atol=1e-9)


def judges(prompt):
    """Three annotators of the tiny problem's answers, who like rewards, brevity and low sums: preferences go in circles."""
    rows = np.flatnonzero(TINY.prompt == prompt)
    words = [[int(t) for t in TINY.token[row] if t >= 0] for row in rows]
    likes = np.array([TINY.reward[rows], [-len(word) for word in words], [sum(word) % 3 for word in words]], dtype=float)
    return PreferenceOracle.population(3 * likes)


@pytest.mark.parametrize("cyclic", [False, True])
def test_the_regularised_nash_policy_of_answers_is_a_soft_optimal_token_policy(cyclic):
    """Backward induction over tokens, with an answer's win rate against the Nash law as its reward, finds the same policy."""
    reference = np.random.default_rng(0).normal(size=NOWHERE.shape)
    law, win = np.empty(TINY.n_sequences), np.zeros_like(TINY.step_reward)
    for prompt in range(TINY.n_prompts):
        rows = np.flatnonzero(TINY.prompt == prompt)
        game = preference_game(TINY, prompt, reference, 0.3, judges(prompt) if cyclic else None)
        law[rows] = regularised_nash(game).policy
        last = (TINY.token[rows] >= 0).sum(axis=1) - 1
        win[rows, last] = game.oracle.win_rate(law[rows])
    planned = regularised_optimum(TINY.replace(step_reward=win), reference, 0.3)
    np.testing.assert_allclose(policy_of_law(TINY, law), planned.logits, atol=1e-8)


def test_without_a_reference_the_cyclic_judges_are_beaten_by_no_answer_to_the_nash_law():
    game = preference_game(TINY, 0, NOWHERE, 0.3, judges(0))
    found = nash(game.oracle)
    assert game.oracle.win_rate(found.policy).max() <= 0.5 + 1e-9


def test_rewards_stand_behind_the_oracle_where_none_is_given():
    game = preference_game(TINY, 1, NOWHERE, 0.5)
    rows = np.flatnonzero(TINY.prompt == 1)
    np.testing.assert_array_equal(game.oracle.reward, TINY.reward[rows])
    np.testing.assert_allclose(game.reference, tp.sequence_probability(TINY, NOWHERE)[rows])


LAW = tp.sequence_probability(TINY, NOWHERE)


@pytest.mark.parametrize(
    ("ask", "words"),
    [
        (lambda: preference_game(TINY, 2, NOWHERE, 0.5), r"prompt 2 is not there; prompts are 0\.\.1"),
        (lambda: preference_game(TINY, 0, NOWHERE, 0.5, PreferenceOracle.cyclic(3)), "compares 3 responses; prompt 0 has 15"),
        (lambda: preference_game(TINY, 0, NOWHERE, 0.0), "temperature 0.0 is not > 0"),
        (lambda: preference_game(tool_turns(), 0, np.zeros((50, 4)), 0.5), "is the environment's"),
        (lambda: policy_of_law(tool_turns(), np.ones(170)), "is the environment's"),
        (lambda: policy_of_law(TINY, LAW[1:]), r"law has shape \(29,\)"),
        (lambda: policy_of_law(TINY, np.where(np.arange(30) == 4, 0, LAW)), r"law\[4\] is 0.0; finite logits"),
        (lambda: policy_of_law(TINY, LAW / 2), "sums to 0.5.* prompt 0"),
    ],
)
def test_what_makes_no_sense_is_refused(ask, words):
    with pytest.raises(ModelError, match=words):
        ask()
