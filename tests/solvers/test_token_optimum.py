"""The regularised optimum against Gibbs, first-order conditions, rivals and an interior-point solver; the plain one, certified,
against every deterministic policy."""

import itertools
import math
from fractions import Fraction

import cvxpy as cp
import numpy as np
import pytest
from banach.mdp import FiniteHorizon, ModelError, TokenProblem
from banach.mdp import token_policy as tp
from banach.mdp.instances_token import digit_chain, softmax_bandit, tiny_enum, tool_turns
from banach.mdp.token_strategies import policy_weights, token_problems
from banach.solvers import SolveError, check, solve
from banach.solvers.token_optimum import regularised_optimum
from hypothesis import assume, given, settings
from hypothesis import strategies as st

PLAIN = settings(deadline=None, max_examples=60)
BETAS = st.sampled_from([1.0, 0.1, 10.0, 0.7])


@st.composite
def with_references(draw, **sizes):
    problem = draw(token_problems(**sizes))
    return problem, np.log(draw(policy_weights(problem))), draw(BETAS)


def regularised(problem, logits, reference, beta):
    """What the optimum maximises, by enumeration."""
    return tp.expected_reward(problem, logits) - beta * tp.divergence(problem, logits, reference)


def scale(problem, beta=0.0):
    return 1 + np.abs(problem.step_reward).sum(axis=1).max() + beta


@PLAIN
@given(with_references())
def test_the_value_is_the_regularised_reward_of_the_policy(drawn):
    problem, reference, beta = drawn
    optimum = regularised_optimum(problem, reference, beta)
    np.testing.assert_allclose(np.exp(optimum.logits).sum(axis=1), 1, rtol=1e-12)
    attained = regularised(problem, optimum.logits, reference, beta)
    np.testing.assert_allclose(optimum.value, attained, atol=1e-11 * scale(problem, beta))


@PLAIN
@given(with_references(turns=False))
def test_without_environment_the_optimum_is_gibbs_on_whole_sequences(drawn):
    problem, reference, beta = drawn
    optimum = regularised_optimum(problem, reference, beta)
    energy = tp.sequence_log_probability(problem, reference) + problem.reward / beta
    for prompt in range(problem.n_prompts):
        mine = problem.prompt == prompt
        log_total = energy[mine].max() + math.log(np.exp(energy[mine] - energy[mine].max()).sum())
        np.testing.assert_allclose(optimum.prompt_value[prompt], beta * log_total, atol=1e-11 * scale(problem, beta))
        found = tp.sequence_log_probability(problem, optimum.logits)[mine]
        np.testing.assert_allclose(found, energy[mine] - log_total, atol=1e-11 * (1 + scale(problem) / beta))


def gibbs_value(problem, reference, beta):
    """beta log Z of whole sequences, the prompts drawn; the environment's tokens tilted with the policy's."""
    log_chance = np.log(problem.environment_probability)
    energy = log_chance + tp.sequence_log_probability(problem, reference) + problem.reward / beta
    totals = [np.logaddexp.reduce(energy[problem.prompt == prompt]) for prompt in range(problem.n_prompts)]
    return beta * problem.prompt_probability @ totals


@PLAIN
@given(with_references(turns=True))
def test_with_an_environment_the_formula_of_gibbs_never_promises_less(drawn):
    problem, reference, beta = drawn
    promised = gibbs_value(problem, reference, beta)
    assert regularised_optimum(problem, reference, beta).value <= promised + 1e-11 * scale(problem, beta)


@pytest.mark.parametrize("beta", [0.2, 1.0])
def test_with_an_environment_that_tosses_for_the_reward_the_formula_of_gibbs_promises_too_much(beta):
    problem = TokenProblem.build(2, 2, 1, lambda _, y: y[1], environment=lambda _, y: [0.5, 0.5] if y else None)
    reference = np.zeros((1, 2))
    np.testing.assert_allclose(regularised_optimum(problem, reference, beta).value, 0.5, rtol=1e-14)
    promised = beta * math.log((1 + math.exp(1 / beta)) / 2)
    np.testing.assert_allclose(gibbs_value(problem, reference, beta), promised, rtol=1e-14)
    assert promised > 0.6


@PLAIN
@given(with_references(), st.data())
def test_no_other_policy_does_better(drawn, data):
    problem, reference, beta = drawn
    optimum = regularised_optimum(problem, reference, beta)
    rival = np.log(data.draw(policy_weights(problem)))
    for logits in (reference, rival, optimum.logits + 0.1 * rival, optimum.logits - 0.1 * rival):
        assert regularised(problem, logits, reference, beta) <= optimum.value + 1e-11 * scale(problem, beta)


@PLAIN
@given(with_references(max_horizon=2))
def test_the_derivative_vanishes_at_the_optimum(drawn):
    problem, reference, beta = drawn
    logits = regularised_optimum(problem, reference, beta).logits
    for index in np.ndindex(logits.shape):
        step = np.zeros_like(logits)
        step[index] = 1e-4
        ahead, behind = (regularised(problem, logits + sign * step, reference, beta) for sign in (1, -1))
        assert abs(ahead - behind) / 2e-4 <= 1e-7 * scale(problem, beta)


@pytest.mark.parametrize("problem", [tiny_enum(), tool_turns()], ids=["tiny_enum", "tool_turns"])
@pytest.mark.parametrize("beta", [0.3, 2.0])
def test_a_convex_program_over_occupancies_finds_the_same_value(problem, beta):
    mdp, n, size = problem.mdp(), problem.n_nodes, problem.vocabulary_size
    generator = np.random.default_rng(7)
    reference = generator.normal(size=(n, size))
    log_reference = tp.log_policy(problem, reference)
    flow = np.zeros((mdp.n_states, mdp.n_pairs))
    flow[mdp.pair_state, np.arange(mdp.n_pairs)] += 1
    for pair in range(mdp.n_pairs):
        for entry in range(*mdp.row_ptr[pair : pair + 2]):
            flow[mdp.successor[entry], pair] -= mdp.probability[entry]
    occupancy = cp.Variable(mdp.n_pairs, nonneg=True)
    mine = cp.reshape(occupancy[: n * size], (n, size), order="C")
    passed = cp.sum(mine, axis=1, keepdims=True) @ np.ones((1, size))
    divergence = cp.sum(cp.rel_entr(mine, passed)) - cp.sum(cp.multiply(mine, log_reference))
    program = cp.Problem(cp.Maximize(mdp.reward @ occupancy - beta * divergence), [(flow @ occupancy)[:-1] == mdp.initial[:-1]])
    program.solve(solver=cp.CLARABEL)
    assert abs(regularised_optimum(problem, reference, beta).value - program.value) <= 1e-6


@PLAIN
@given(with_references())
def test_prices_lead_from_the_best_policy_to_the_reference(drawn):
    problem, reference, _ = drawn
    dear = regularised_optimum(problem, reference, 1e9)
    np.testing.assert_allclose(dear.logits, tp.log_policy(problem, reference), atol=1e-6)
    np.testing.assert_allclose(dear.value, tp.expected_reward(problem, reference), atol=1e-4)
    values = [regularised_optimum(problem, reference, beta).value for beta in (0.01, 0.1, 1.0, 10.0)]
    assert all(a >= b - 1e-10 * scale(problem, 10) for a, b in itertools.pairwise(values))
    best = solve(problem.mdp()).certificate
    assert values[0] <= problem.mdp().initial @ best.upper + 1e-10 * scale(problem)
    # the reference gives every sequence at least (1 / 3000)^3, so a price of 0.01 costs less than 0.01 * 3 log 3000
    assert values[0] >= problem.mdp().initial @ best.lower - 0.01 * 3 * math.log(3000) - 1e-10 * scale(problem)


@pytest.mark.parametrize("beta", [0.0, -1.0, np.nan, np.inf, True, "1"])
def test_an_impossible_price_is_named(beta):
    with pytest.raises(SolveError, match="beta is"):
        regularised_optimum(tiny_enum(), np.zeros((14, 3)), beta)


def test_a_price_that_overflows_and_a_table_that_is_no_policy_are_named():
    with pytest.raises(SolveError, match="so small, or so large"):
        regularised_optimum(tiny_enum(), np.zeros((14, 3)), 5e-324)
    with pytest.raises(ModelError, match="logits has shape"):
        regularised_optimum(tiny_enum(), np.zeros((3, 3)), 1.0)


def deterministic_policies(problem):
    """Every choice of one token a node."""
    return itertools.product(range(problem.vocabulary_size), repeat=problem.n_nodes)


def exact_reward(problem, choice):
    """J of a deterministic policy in Fractions: the sequences whose every token of the policy is the chosen one."""
    total = Fraction(0)
    for s in range(problem.n_sequences):
        if all(choice[n] == a for n, a in zip(problem.node[s], problem.token[s], strict=True) if n >= 0):
            chance = math.prod(Fraction(float(p)) for p in problem.token_probability[s])
            reward = sum((Fraction(float(r)) for r in problem.step_reward[s]), Fraction(0))
            total += Fraction(float(problem.prompt_probability[problem.prompt[s]])) * chance * reward
    return total


@settings(PLAIN, max_examples=100)
@given(token_problems(max_tokens=3, max_horizon=2))
def test_the_certified_optimum_is_the_best_of_all_deterministic_policies(problem):
    assume(problem.vocabulary_size**problem.n_nodes <= 300)
    best = max(exact_reward(problem, choice) for choice in deterministic_policies(problem))
    for criterion in ({}, {"criterion": FiniteHorizon(problem.horizon)}):
        mdp = problem.mdp(**criterion)
        solution = solve(mdp, eps=1e-9 * scale(problem))
        assert check(mdp, solution.certificate)
        lower, upper, policy = (
            array[0] if array.ndim == 2 else array
            for array in (solution.certificate.lower, solution.certificate.upper, solution.policy)
        )
        slack = 1e-14 * scale(problem)  # of the dot product alone
        assert mdp.initial @ lower - slack <= float(best) <= mdp.initial @ upper + slack
        if not criterion:
            assert abs(float(exact_reward(problem, policy[: problem.n_nodes]) - best)) <= 1.1e-9 * scale(problem)


@pytest.mark.parametrize(
    ("problem", "best"),
    [
        (tiny_enum(), 1.0),
        (softmax_bandit(5, 3), 1.0),
        (tool_turns(), 0.65),
        (digit_chain(), 1.0),
        (tool_turns(3, 0.7, 0.1, 0.2), 0.55),
    ],
    ids=["tiny_enum", "softmax_bandit", "tool_turns", "digit_chain", "tool_turns of three"],
)
def test_named_problems_have_the_best_reward_that_they_say(problem, best):
    mdp = problem.mdp()
    assert abs(mdp.initial @ solve(mdp, eps=1e-9).value - best) <= 1e-9


def test_a_second_read_is_worth_its_price():
    cheap, dear = 0.01, 0.6
    once, twice = (solve(tool_turns(2, 0.7, cheap, dear, horizon).mdp(), eps=1e-9).value[0] for horizon in (4, 8))
    assert abs(once - (0.7 - cheap)) <= 1e-9
    # three reads: the majority is right with q^3 + 3 q^2 (1 - q); the third is only asked for when two disagree
    majority, third = 0.7**3 + 3 * 0.7**2 * 0.3, 2 * 0.7 * 0.3
    assert abs(twice - (majority - 2 * cheap - third * cheap)) <= 1e-9


def test_a_bandit_of_one_arm_has_nothing_to_choose():
    problem = TokenProblem.bandit([3.0])
    optimum = regularised_optimum(problem, np.zeros((1, 1)), 0.5)
    assert (optimum.value, optimum.logits.tolist()) == (3.0, [[0.0]])
