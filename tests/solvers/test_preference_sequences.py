"""Preferences between whole sequences: what is best over sequences is a product of token policies, found by soft planning."""

import numpy as np
import pytest
from banach.mdp import token_policy
from banach.mdp.instances_token import tiny_enum
from banach.mdp.preference import PreferenceGame, PreferenceOracle
from banach.solvers.gibbs import gibbs
from banach.solvers.preference_losses import DPO, IPO
from banach.solvers.preference_optimum import population_optimum
from banach.solvers.regularised_nash import best_response, regularised_nash
from hypothesis import given, settings
from hypothesis import strategies as st

PROBLEM = tiny_enum()
BETA = 0.7


def sequences(prompt):
    """Tokens of each sequence of a prompt, without padding, and which rows of the problem they are."""
    rows = np.flatnonzero(PROBLEM.prompt == prompt)
    return rows, [tuple(int(t) for t in PROBLEM.token[row] if t >= 0) for row in rows]


def soft_values(words, reference, reward):
    """V of each prefix by the recursion V = beta log sum_a q(a) e^(Q(a)/beta), and the token policies q e^((Q-V)/beta)."""
    weight = dict(zip(words, reference, strict=True))
    worth = dict(zip(words, reward, strict=True))

    def mass(prefix):
        return sum(q for word, q in weight.items() if word[: len(prefix)] == prefix)

    def value(prefix):
        if prefix in worth:
            return worth[prefix]
        ahead = {word[: len(prefix) + 1] for word in words if word[: len(prefix)] == prefix}
        shares = [mass(a) / mass(prefix) * np.exp(value(a) / BETA) for a in sorted(ahead)]
        return BETA * np.log(sum(shares))

    def product(word):
        total = 1.0
        for length in range(len(word)):
            before, after = word[:length], word[: length + 1]
            total *= mass(after) / mass(before) * np.exp((value(after) - value(before)) / BETA)
        return total

    return value(()), np.array([product(word) for word in words])


@settings(deadline=None, max_examples=8)
@given(st.integers(0, 10_000), st.sampled_from([0, 1]))
def test_the_gibbs_policy_of_sequences_is_the_product_of_soft_token_policies(seed, prompt):
    rng = np.random.default_rng(seed)
    rows, words = sequences(prompt)
    reference = token_policy.sequence_probability(PROBLEM, rng.normal(size=(PROBLEM.n_nodes, PROBLEM.vocabulary_size)))[rows]
    reward = PROBLEM.reward[rows] + rng.normal(size=len(rows))
    start, product = soft_values(words, reference, reward)
    assert product == pytest.approx(gibbs(reference, reward / BETA), abs=1e-14)
    assert start == pytest.approx(BETA * np.log(reference @ np.exp(reward / BETA)))
    oracle = PreferenceOracle.bradley_terry(reward)
    assert population_optimum(oracle, None, reference, DPO(BETA)).policy == pytest.approx(product, abs=1e-8)


@pytest.mark.parametrize("prompt", [0, 1])
def test_a_cyclic_judge_of_sequences_has_a_nash_policy_at_which_ipo_rests(prompt):
    rng = np.random.default_rng(prompt)
    rows, words = sequences(prompt)
    logits = rng.normal(size=(PROBLEM.n_nodes, PROBLEM.vocabulary_size))
    reference = token_policy.sequence_probability(PROBLEM, logits)[rows]
    lengths = np.array([len(word) for word in words])
    judges = np.array([PROBLEM.reward[rows], -lengths, [sum(word) % 3 for word in words]], dtype=float)
    game = PreferenceGame(PreferenceOracle.population(3 * judges), reference, 0.1)
    optimum = regularised_nash(game).policy
    fitted = population_optimum(game.oracle, np.outer(optimum, optimum), reference, IPO(0.1)).policy
    assert fitted == pytest.approx(optimum, abs=1e-8)
    assert best_response(game, optimum) == pytest.approx(optimum, abs=1e-9)
