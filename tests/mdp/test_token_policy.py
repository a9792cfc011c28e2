"""Values, gradients, occupancies, entropies, divergences of tabular policies, against Fractions, finite differences, autograd.

Policies are in proportion to whole numbers, so that the witness is exact; the logits are their logarithms, rounded once.
"""

import math
from collections import defaultdict
from fractions import Fraction

import numpy as np
import pytest
from banach.mdp import ModelError, TokenProblem
from banach.mdp import token_policy as tp
from banach.mdp.instances_token import tiny_enum, tool_turns
from banach.mdp.token_strategies import policy_weights, token_problems
from hypothesis import given, settings
from hypothesis import strategies as st

from .token_witness import Witness

PLAIN = settings(deadline=None, max_examples=80)
PROBLEMS = token_problems()


@st.composite
def with_weights(draw, problems=PROBLEMS, policies=1):
    """A problem and the weights of some policies."""
    problem = draw(problems)
    return problem, *(draw(policy_weights(problem)) for _ in range(policies))


def scale(problem):
    """The largest reward, at least one: what errors are measured by."""
    return 1 + np.abs(problem.step_reward).sum(axis=1).max()


def logarithm(number):
    """Of a Fraction whose parts may be large."""
    return math.log(number.numerator) - math.log(number.denominator)


@PLAIN
@given(with_weights())
def test_probabilities_and_rewards_are_those_of_the_exact_recursion(drawn):
    problem, weights = drawn
    witness, logits = Witness(problem, weights), np.log(weights)
    exact = list(witness.sequences())
    assert [problem.text(s)[1] for s in range(problem.n_sequences)] == [tokens for (_, tokens), *_ in exact]
    np.testing.assert_allclose(tp.sequence_probability(problem, logits), [float(p) for _, p, _, _ in exact], rtol=1e-12)
    np.testing.assert_allclose(problem.reward, [float(r) for _, _, r, _ in exact], rtol=1e-14, atol=1e-13 * scale(problem))
    np.testing.assert_allclose(
        tp.expected_reward(problem, logits), float(witness.expected_reward()), atol=1e-12 * scale(problem)
    )
    by_prompt = [float(witness.value((prompt, ()))) for prompt in range(problem.n_prompts)]
    np.testing.assert_allclose(tp.prompt_reward(problem, logits), by_prompt, atol=1e-12 * scale(problem))


@PLAIN
@given(with_weights())
def test_probabilities_of_a_prompt_sum_to_one(drawn):
    problem, weights = drawn
    total = np.bincount(problem.prompt, tp.sequence_probability(problem, np.log(weights)))
    np.testing.assert_allclose(total, 1, rtol=1e-12)


@PLAIN
@given(with_weights())
def test_values_are_those_of_the_exact_recursion(drawn):
    problem, weights = drawn
    witness, logits = Witness(problem, weights), np.log(weights)
    value, action_value, advantage = (f(problem, logits) for f in (tp.value, tp.action_value, tp.advantage))
    for prefix, step in witness.steps.items():
        if step.of_policy:
            exact = [float(witness.action_value(prefix, a)) for a in range(problem.vocabulary_size)]
            np.testing.assert_allclose(value[step.node], float(witness.value(prefix)), atol=1e-12 * scale(problem))
            np.testing.assert_allclose(action_value[step.node], exact, atol=1e-12 * scale(problem))
            np.testing.assert_allclose(advantage[step.node], exact - value[step.node], atol=1e-12 * scale(problem))


@PLAIN
@given(with_weights())
def test_the_gradient_is_the_exact_score_function_sum(drawn):
    problem, weights = drawn
    exact = Witness(problem, weights).gradient()
    gradient = tp.expected_reward_gradient(problem, np.log(weights))
    expected = [[float(exact[n, a]) for a in range(problem.vocabulary_size)] for n in range(problem.n_nodes)]
    np.testing.assert_allclose(gradient, expected, atol=1e-12 * scale(problem))


@PLAIN
@given(with_weights(token_problems(max_horizon=2)))
def test_the_gradient_is_the_finite_difference_of_the_expected_reward(drawn):
    problem, weights = drawn
    logits, gradient = np.log(weights), tp.expected_reward_gradient(problem, np.log(weights))
    for index in np.ndindex(logits.shape):
        step = np.zeros_like(logits)
        step[index] = 1e-4
        rise = tp.expected_reward(problem, logits + step) - tp.expected_reward(problem, logits - step)
        assert abs(rise / 2e-4 - gradient[index]) <= 1e-7 * scale(problem)


@settings(PLAIN, max_examples=40)
@given(with_weights(policies=2))
def test_gradient_entropy_and_divergence_agree_with_autograd(drawn):
    torch = pytest.importorskip("torch")
    problem, weights, other_weights = drawn
    logits_NV = torch.tensor(np.log(weights), requires_grad=True)
    logp_NV, other_NV = logits_NV.log_softmax(-1), torch.tensor(np.log(other_weights)).log_softmax(-1)

    def along(table_NV):
        flat = table_NV[torch.tensor(problem.node).clamp(min=0).long(), torch.tensor(problem.token).clamp(min=0).long()]
        return (flat * torch.tensor(problem.mask)).sum(1)

    weight_S = torch.tensor(problem.prompt_probability[problem.prompt] * problem.environment_probability) * along(logp_NV).exp()
    reward = (weight_S * torch.tensor(problem.reward)).sum()
    (gradient_NV,) = torch.autograd.grad(reward, logits_NV, retain_graph=True)
    logits = np.log(weights)
    np.testing.assert_allclose(tp.expected_reward_gradient(problem, logits), gradient_NV, atol=1e-12 * scale(problem))
    np.testing.assert_allclose(tp.entropy(problem, logits), -(weight_S * along(logp_NV)).sum().item(), atol=1e-12)
    divergence = (weight_S * (along(logp_NV) - along(other_NV))).sum().item()
    np.testing.assert_allclose(tp.divergence(problem, logits, np.log(other_weights)), divergence, atol=1e-12)


@PLAIN
@given(with_weights())
def test_a_constant_added_to_every_outcome_leaves_the_gradient(drawn):
    problem, weights = drawn
    last = problem.token.shape[1] - 1 - (problem.token[:, ::-1] >= 0).argmax(axis=1)
    reward = problem.step_reward.copy()
    reward[np.arange(problem.n_sequences), last] += 1
    shifted = problem.replace(step_reward=reward)
    first, second = (tp.expected_reward_gradient(p, np.log(weights)) for p in (problem, shifted))
    np.testing.assert_allclose(first, second, atol=1e-12 * scale(problem))
    np.testing.assert_allclose(first.sum(axis=1), 0, atol=1e-12 * scale(problem))


@PLAIN
@given(with_weights())
def test_occupancy_is_the_probability_of_passing(drawn):
    problem, weights = drawn
    exact, logits = Witness(problem, weights).occupancy(), np.log(weights)
    passed = tp.occupancy(problem, logits)
    np.testing.assert_allclose(passed, [float(exact[n]) for n in range(problem.n_nodes)], rtol=1e-12)
    expected = passed[:, None] * np.exp(tp.log_policy(problem, logits))
    np.testing.assert_allclose(tp.token_occupancy(problem, logits), expected, rtol=1e-12)
    np.testing.assert_allclose(tp.expected_length(problem, logits), passed.sum(), rtol=1e-12)


@PLAIN
@given(with_weights())
def test_entropy_is_minus_the_expected_log_probability_of_the_policys_tokens(drawn):
    problem, weights = drawn
    witness, logits, entropy, length = Witness(problem, weights), np.log(weights), 0.0, Fraction(0)
    for (prompt, tokens), probability, _, nodes in witness.sequences():
        chosen = [a for t, a in enumerate(tokens) if witness.steps[prompt, tokens[:t]].of_policy]
        likelihood = math.prod((witness.policy[n][a] for n, a in zip(nodes, chosen, strict=True)), start=Fraction(1))
        entropy -= float(witness.rho[prompt] * probability) * logarithm(likelihood)
        length += witness.rho[prompt] * probability * len(nodes)
    np.testing.assert_allclose(tp.entropy(problem, logits), entropy, atol=1e-12)
    np.testing.assert_allclose(tp.mean_token_entropy(problem, logits), entropy / float(length), atol=1e-12)


@PLAIN
@given(with_weights(policies=2))
def test_divergences_are_those_of_the_listed_sequences(drawn):
    problem, weights, other = drawn
    one, two = np.log(weights), np.log(other)
    kullback_leibler, variation, squares = 0.0, Fraction(0), Fraction(0)
    pairs = zip(Witness(problem, weights).sequences(), Witness(problem, other).sequences(), strict=True)
    for ((prompt, _), p, _, _), (_, q, _, _) in pairs:
        rho = Fraction(float(problem.prompt_probability[prompt]))
        kullback_leibler += float(rho * p) * logarithm(p / q)
        variation += rho * abs(p - q) / 2
        squares += rho * q * (p / q - 1) ** 2
    np.testing.assert_allclose(tp.divergence(problem, one, two), kullback_leibler, atol=1e-11)
    np.testing.assert_allclose(tp.total_variation(problem, one, two), float(variation), atol=1e-12)
    np.testing.assert_allclose(tp.chi_square(problem, one, two), float(squares), rtol=1e-9, atol=1e-12)
    assert tp.divergence(problem, one, two) >= 2 * tp.total_variation(problem, one, two) ** 2 - 1e-12  # Pinsker


@PLAIN
@given(with_weights(), st.sampled_from([1e-2, 1e-5, 1e-9]))
def test_the_divergence_of_near_policies_keeps_its_digits(drawn, distance):
    problem, weights = drawn
    logits = np.log(weights)
    step = np.resize([1.0, -1.0, 0.5], logits.shape) * distance
    policy = np.exp(tp.log_policy(problem, logits))
    mean = (policy * step).sum(axis=1, keepdims=True)
    quadratic = tp.occupancy(problem, logits) @ (policy * (step - mean) ** 2).sum(axis=1) / 2
    assert abs(tp.divergence(problem, logits, logits + step) - quadratic) <= 2 * distance * quadratic + 1e-15 * distance
    assert tp.divergence(problem, logits, logits) == 0


@PLAIN
@given(with_weights(token_problems(binary=True, step_rewards=False)), st.integers(1, 6))
def test_success_at_k_is_the_exact_complement_of_k_failures(drawn, k):
    problem, weights = drawn
    witness, logits = Witness(problem, weights), np.log(weights)
    chance = defaultdict(Fraction)
    for (prompt, _), probability, reward, _ in witness.sequences():
        chance[prompt] += probability * (reward >= 1)
    success = tp.success_probability(problem, logits)
    np.testing.assert_allclose(success, [float(chance[x]) for x in range(problem.n_prompts)], rtol=1e-9, atol=1e-15)
    exact = sum(rho * (1 - (1 - min(chance[x], 1)) ** k) for x, rho in enumerate(witness.rho))
    np.testing.assert_allclose(tp.pass_at_k(problem, logits, k), float(exact), rtol=1e-9, atol=1e-15)


@PLAIN
@given(st.integers(1, 9), st.fractions(0, 1, max_denominator=20), st.data())
def test_the_estimator_of_success_at_k_is_unbiased(attempts, p, data):
    k = data.draw(st.integers(1, attempts))
    successes = np.arange(attempts + 1)
    estimates = tp.pass_at_k_estimate(attempts, successes, k)
    by_counting = [1 - Fraction(math.comb(attempts - int(c), k), math.comb(attempts, k)) for c in successes]
    np.testing.assert_allclose(estimates, [float(e) for e in by_counting], rtol=1e-13, atol=1e-15)
    binomial = [math.comb(attempts, int(c)) * p ** int(c) * (1 - p) ** (attempts - int(c)) for c in successes]
    assert sum(b * e for b, e in zip(binomial, by_counting, strict=True)) == 1 - (1 - p) ** k
    expectation = np.array([float(b) for b in binomial]) @ estimates
    np.testing.assert_allclose(expectation, float(1 - (1 - p) ** k), atol=1e-12)


@pytest.mark.parametrize(("threshold", "chance"), [(0.25, 1.0), (0.5, 0.75), (0.75, 0.5), (1.0, 0.5), (1.5, 0.0)])
def test_success_is_a_reward_of_at_least_the_threshold(threshold, chance):
    problem = TokenProblem.bandit([0.25, 0.5, 1.0, 1.0])
    np.testing.assert_allclose(tp.success_probability(problem, np.zeros((1, 4)), threshold), [chance], rtol=1e-14)


def test_success_at_k_is_accurate_for_rare_success():
    problem = TokenProblem.bandit([0.0, 1.0])
    logits = np.array([[0.0, math.log(1e-12)]])
    np.testing.assert_allclose(tp.pass_at_k(problem, logits, 100), 1e-10, rtol=1e-9)
    assert tp.pass_at_k(TokenProblem.bandit([1.0, 1.0]), logits, 5) == 1.0


@PLAIN
@given(with_weights())
def test_the_mdp_gives_the_policy_the_same_values(drawn):
    problem, weights = drawn
    mdp, n, size = problem.mdp(), problem.n_nodes, problem.vocabulary_size
    policy = np.exp(tp.log_policy(problem, np.log(weights)))
    pair_weight = np.concatenate([policy.ravel(), np.ones(mdp.n_pairs - n * size)])
    transition, reward = np.zeros((mdp.n_states, mdp.n_states)), np.zeros(mdp.n_states)
    for pair, state in enumerate(mdp.pair_state):
        reward[state] += pair_weight[pair] * mdp.reward[pair]
        for entry in range(*mdp.row_ptr[pair : pair + 2]):
            transition[state, mdp.successor[entry]] += pair_weight[pair] * mdp.probability[entry]
    solved = np.linalg.solve(np.eye(mdp.n_states) - transition, reward)
    np.testing.assert_allclose(solved[:n], tp.value(problem, np.log(weights)), atol=1e-11 * scale(problem))
    np.testing.assert_allclose(mdp.initial @ solved, tp.expected_reward(problem, np.log(weights)), atol=1e-11 * scale(problem))


def test_extreme_logits_give_certain_policies_and_no_nan():
    problem = tiny_enum()
    logits = np.zeros((14, 3))
    logits[:, 1] = 1e5
    assert tp.prompt_reward(problem, logits).tolist() == [1.0, 0.0]
    assert tp.entropy(problem, logits) == 0
    assert not tp.expected_reward_gradient(problem, logits).any()
    assert np.isfinite(tp.divergence(problem, logits, -logits))
    assert tp.chi_square(problem, logits, -logits) == np.inf


@pytest.mark.parametrize(
    ("logits", "words"),
    [
        (np.zeros((3, 14)), r"logits has shape \(3, 14\); it must be \(nodes, tokens\) = \(14, 3\)"),
        (np.full((14, 3), np.nan), "logits of node 0: token 0 has nan"),
        (np.where(np.arange(42).reshape(14, 3) == 5, -np.inf, 0.0), "logits of node 1: token 2 has -inf"),
        (np.where(np.arange(42).reshape(14, 3) == 5, -1e305, 0.0), "logits of node 1: token 2 has -1e.305; give finite ones"),
        (np.where(np.arange(42).reshape(14, 3) % 2, 1e300, -1e300), "logits of node 0: .* give finite ones, at most 1e.300"),
        ("policy", "logits is no array"),
    ],
)
def test_a_table_that_is_no_policy_is_named(logits, words):
    with pytest.raises(ModelError, match=words):
        tp.expected_reward(tiny_enum(), logits)


@pytest.mark.parametrize(
    ("attempts", "successes", "k", "words"),
    [
        (3, 1, 0, "k is 0"),
        (3, 1, 4, "k is 4 and there are 3"),
        (3, 4, 1, "whole numbers in 0..3"),
        (3, [0.5], 1, "whole numbers"),
    ],
)
def test_an_impossible_number_of_attempts_is_named(attempts, successes, k, words):
    with pytest.raises(ModelError, match=words):
        tp.pass_at_k_estimate(attempts, successes, k)


def test_reading_with_a_tool_is_worth_its_price_where_it_is_cheap():
    problem = tool_turns()
    best = np.zeros((problem.n_nodes, 4))
    for s, t in np.argwhere(problem.mask):
        _, tokens = problem.text(s)
        read = tokens[t - 1] if t and tokens[t - 1] < 2 else 3
        asks = t == 0 and problem.prompts[problem.prompt[s]] == "cheap"
        answers = t == 0 or tokens[t - 2 : t - 1] == (2,)
        best[problem.node[s, t], 2 if asks else (0 if t == 0 else read) if answers else 3] = 1e4
    np.testing.assert_allclose(tp.prompt_reward(problem, best), [0.9 - 0.1, 0.5], rtol=1e-12)
