"""What is promised of objectives holds on drawn token problems and named ones; what is false is broken by a readable one."""

import dataclasses
from itertools import product

import numpy as np
import pytest
from banach.bounds import BoundError, evidence_of, falsify, judge, statements, verify
from banach.bounds.extremal import loop
from banach.bounds.group_objectives import (
    GROUP_MEAN,
    PROMPT_WEIGHT,
    SMALL_GROUPS,
    prompt_weight,
    right_or_wrong,
    standardised,
)
from banach.bounds.objective_divergences import (
    ENTROPY,
    K2_TOKENS,
    PINSKER,
    divergence,
    divergence_slope,
    even,
    token_loss_slope,
)
from banach.bounds.objective_falsehoods import FALSEHOODS, K2_SEQUENCE, SUCCESS_RATE, TOKEN_RATIO
from banach.bounds.objective_optima import BEST_OF_N, best_of, gibbs, ipo_scores, soft_optimum
from banach.bounds.policy_gradients import POLICY_GRADIENT, SURROGATE, gae, squared_scores
from banach.bounds.token_draft import TokenDraft
from banach.bounds.token_evidence import TokenEvidence
from banach.mdp import PreferenceOracle, TokenProblem, token_policy
from banach.mdp.instances_token import digit_chain, softmax_bandit, tiny_enum, tool_turns
from banach.mdp.token_strategies import token_problems
from banach.solvers.preference_losses import IPO
from banach.solvers.preference_optimum import population_optimum
from banach.solvers.token_optimum import regularised_optimum
from flint import arb, fmpq
from hypothesis import given, settings
from hypothesis import strategies as st

CATALOGUE = statements("objectives")
SMALL = {"max_tokens": 3, "max_horizon": 2, "max_prompts": 2}
NAMED = [tiny_enum(), tool_turns(horizon=3), softmax_bandit(3, 2)]


def floats(table):
    return np.array([[float(x.mid()) if hasattr(x, "mid") else float(x) for x in row] for row in table])


def logits(policy):
    return np.log(floats(policy))


@pytest.mark.parametrize("bound", CATALOGUE, ids=lambda bound: bound.key)
@settings(deadline=None, max_examples=8)
@given(problem=token_problems(**SMALL))
def test_a_theorem_holds_on_drawn_problems(bound, problem):
    for measurement in bound.measure(evidence_of(problem)):
        judgement = judge(bound, measurement)
        assert judgement.holds, (judgement, measurement)
        balls = [x for x in (measurement.measured, *measurement.values.values()) if isinstance(x, arb)]
        assert all(x.rad() < 1e-30 for x in balls)  # wide balls agree with anything


def test_every_theorem_holds_on_the_named_problems():
    report = verify(CATALOGUE)
    assert report.holds, str([row for row in report.rows if not row.holds])
    assert {row.key for row in report.rows} == {bound.key for bound in CATALOGUE}
    assert all(row.measured == pytest.approx(row.promised, rel=1e-13) for row in report.rows if row.sense == "equal to")
    assert {row.instance for row in report.rows} >= {"tiny enum", "one tool call", "four arms"}
    gradients = [row for row in report.rows if row.key in {"leave-one-out-groups-give-the-gradient", POLICY_GRADIENT.key}]
    assert {row.proof for row in gradients} == {"exact rationals"}


@settings(deadline=None, max_examples=20)
@given(problem=token_problems(), name=st.sampled_from(["uniform", "rising", "mixed", "sharp"]))
def test_exact_evidence_is_what_the_enumerator_finds_in_floats(problem, name):
    evidence = TokenEvidence(problem)
    policy = evidence.policies[name]
    table, other = logits(policy), logits(evidence.policies["uniform"])
    by_scores = evidence.ascent(policy, [p * a.reward for p, a in zip(evidence.chances(policy), evidence.answers, strict=True)])
    assert evidence.gradient(policy) == by_scores
    scale = max(1.0, np.abs(problem.reward).max())
    gradient = token_policy.expected_reward_gradient(problem, table)
    assert floats(by_scores) == pytest.approx(gradient, abs=1e-12 * scale)
    assert floats([evidence.values(policy)[0]])[0] == pytest.approx(token_policy.value(problem, table), abs=1e-12 * scale)
    assert floats(evidence.advantages(policy)) == pytest.approx(token_policy.advantage(problem, table), abs=1e-12 * scale)
    assert floats([evidence.occupancy(policy)])[0] == pytest.approx(token_policy.occupancy(problem, table), abs=1e-12)
    assert float(evidence.expected_reward(policy)) == pytest.approx(
        token_policy.expected_reward(problem, table), abs=1e-12 * scale
    )
    found = divergence(evidence, policy, evidence.policies["uniform"])
    assert float(found.mid()) == pytest.approx(token_policy.divergence(problem, table, other), abs=1e-12)
    best, value = soft_optimum(evidence, policy, fmpq(1, 2))
    solved = regularised_optimum(problem, table, 0.5)
    assert float(value.mid()) == pytest.approx(solved.value, rel=1e-12, abs=1e-12)
    assert floats(best) == pytest.approx(np.exp(solved.logits), abs=1e-9)


@pytest.mark.parametrize("problem", NAMED, ids=["words", "turns", "bandit"])
def test_the_divergences_slope_is_the_enumerators_by_differences(problem):
    evidence = TokenEvidence(problem)
    policy, reference = evidence.policies["rising"], evidence.policies["mixed"]
    found, table, other, step = divergence_slope(evidence, policy, reference), logits(policy), logits(reference), 1e-5
    for node, token in [(0, 0), (problem.n_nodes - 1, 1)]:
        move = np.zeros_like(table)
        move[node, token] = step
        ends = [token_policy.divergence(problem, table + sign * move, other) for sign in (1, -1)]
        assert float(found[node][token].mid()) == pytest.approx((ends[0] - ends[1]) / (2 * step), abs=1e-8)


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("problem", [tiny_enum(), digit_chain(1, 2)], ids=["tiny", "digits"])
def test_groups_of_kinds_are_the_groups_of_answers(problem, size):
    """The witness lists every group of sequences, in floats, and knows nothing of kinds."""
    evidence = TokenEvidence(problem)
    policy = evidence.policies["rising"]
    found = evidence.ascent(policy, evidence.groups(policy, size, standardised, right_or_wrong(evidence))[0])
    probability = token_policy.sequence_probability(problem, logits(policy))
    weight = np.zeros(problem.n_sequences)
    for prompt in range(problem.n_prompts):
        for group in product(np.flatnonzero(problem.prompt == prompt), repeat=size):
            reward = problem.reward[list(group)]
            if reward.std() > 0:
                chance = problem.prompt_probability[prompt] * probability[list(group)].prod()
                np.add.at(weight, list(group), chance * (reward - reward.mean()) / reward.std() / size)
    expected = np.zeros((problem.n_nodes, problem.vocabulary_size))
    for row in range(problem.n_sequences):
        for node, token in zip(problem.node[row], problem.token[row], strict=True):
            if node >= 0:
                expected[node, token] += weight[row]
                expected[node] -= weight[row] * floats(policy)[node]
    assert floats(found) == pytest.approx(expected, abs=1e-13)


@pytest.mark.parametrize("size", [2, 3, 4])
def test_the_weight_of_a_prompt_is_that_of_its_groups(size):
    evidence = TokenEvidence(TokenProblem.bandit(np.array([1.0, 0.0, 0.0])))
    policy = evidence.policies["rising"]
    chance = evidence.success(policy)[0]
    found = evidence.ascent(policy, evidence.groups(policy, size, standardised, right_or_wrong(evidence))[0])
    slope = policy[0][0] * (1 - policy[0][0])
    assert float((found[0][0] / slope).mid()) == pytest.approx(float(prompt_weight(chance, size).mid()), abs=1e-14)


def test_a_square_of_a_score_is_its_entries_squares():
    evidence = TokenEvidence(tiny_enum())
    policy = evidence.policies["mixed"]
    for row, size in enumerate(squared_scores(evidence, policy)):
        one = evidence.ascent(policy, [fmpq(int(r == row)) for r in range(len(evidence.answers))])
        assert sum(x * x for entries in one for x in entries) == size


def test_generalised_advantages_with_lambda_one_are_rewards_to_go():
    evidence = TokenEvidence(tool_turns(horizon=3))
    policy = evidence.policies["rising"]
    nothing = [fmpq(0)] * evidence.n_nodes
    chance = evidence.chances(policy)
    found = evidence.scores(policy, lambda row, t: chance[row] * sum(evidence.answers[row].earned[t:], fmpq(0)))
    assert gae(evidence, policy, nothing, fmpq(1)) == found


@settings(deadline=None, max_examples=15)
@given(problem=token_problems(turns=False))
def test_gibbs_law_is_a_law_for_each_prompt(problem):
    evidence = TokenEvidence(problem)
    law = gibbs(evidence, evidence.policies["rising"], fmpq(1, 2))
    for rows, rho in zip(evidence.by_prompt, evidence.prompt_chance, strict=True):
        assert (sum((law[row] for row in rows), arb(0)) - rho).contains(0)


def test_the_closed_form_of_ipo_is_the_solvers_optimum():
    reward, tau = np.array([0.0, 1.0, 2.5, -1.0]), 0.25
    evidence = TokenEvidence(TokenProblem.bandit(reward))
    sampler, reference = evidence.policies["rising"], evidence.policies["uniform"]
    score = floats(ipo_scores(evidence, sampler, fmpq(1, 4)))[0]
    weights = np.outer(floats(sampler)[0], floats(sampler)[0])
    found = population_optimum(PreferenceOracle.bradley_terry(reward), weights, floats(reference)[0], IPO(tau)).policy
    policy = np.exp(score - score.max())
    assert policy / policy.sum() == pytest.approx(found, abs=1e-9)


@settings(deadline=None, max_examples=15)
@given(problem=token_problems(max_horizon=2), size=st.integers(1, 5))
def test_the_best_of_n_is_the_largest_reward_of_n_draws(problem, size):
    """Its reward's distribution is the n-th power: P(best <= r) = P(R <= r)^n, prompt by prompt."""
    evidence = TokenEvidence(problem)
    law, chance = best_of(evidence, evidence.policies["mixed"], size), evidence.chances(evidence.policies["mixed"])
    for rows, rho in zip(evidence.by_prompt, evidence.prompt_chance, strict=True):
        for r in {evidence.answers[row].reward for row in rows}:
            below = [row for row in rows if evidence.answers[row].reward <= r]
            assert (
                sum((law[row] for row in below), fmpq(0)) / rho == (sum((chance[row] for row in below), fmpq(0)) / rho) ** size
            )


def test_bounds_that_are_attained_are_tight():
    assert [row.tightness for row in verify(ENTROPY).rows] == pytest.approx([1.0] * 7)
    assert max(row.tightness for row in verify(PROMPT_WEIGHT).rows) > 0.999
    assert max(row.tightness for row in verify(BEST_OF_N).rows) > 0.98
    assert max(row.tightness for row in verify(PINSKER).rows) > 0.9
    assert max(row.tightness for row in verify(SURROGATE).rows) > 0.3


def test_the_even_policy_makes_all_answers_equally_likely():
    evidence = TokenEvidence(tiny_enum())
    assert set(evidence.chances(even(evidence))) == {fmpq(1, 30)}


@pytest.mark.parametrize(
    ("bound", "statement"),
    [
        (GROUP_MEAN, GROUP_MEAN.statement * 1.01),
        (SMALL_GROUPS, SMALL_GROUPS.statement * 1.01),
        (PROMPT_WEIGHT, PROMPT_WEIGHT.statement * 0.999),
        (BEST_OF_N, BEST_OF_N.statement * 0.9),
        (PINSKER, PINSKER.statement * 0.9),
        (SURROGATE, SURROGATE.statement * 0.2),
        (K2_TOKENS, K2_TOKENS.statement * 1.01),
    ],
    ids=lambda thing: getattr(thing, "key", ""),
)
def test_a_statement_with_another_constant_is_refuted(bound, statement):
    assert not verify(dataclasses.replace(bound, statement=statement)).holds


@pytest.mark.parametrize("bound", FALSEHOODS, ids=lambda bound: bound.key)
def test_a_false_statement_is_broken_by_few_answers(bound):
    found = falsify(bound, budget=300)
    assert found.broken
    assert found.instance.n_sequences <= 7
    assert "prompt 0" in str(found)
    assert "reward" in found.to_dict()["instance"]


def test_what_takes_two_tokens_is_not_broken_by_one():
    bandits = token_problems(max_tokens=3, max_horizon=1, max_prompts=1, turns=False)
    for bound in (K2_SEQUENCE, TOKEN_RATIO):
        assert not falsify(bound, bandits, budget=40).broken


def test_pairs_and_threes_weigh_prompts_alike_and_fours_do_not():
    assert (prompt_weight(fmpq(1, 3), 2) - 1).contains(0)
    assert (prompt_weight(fmpq(1, 3), 3) - prompt_weight(fmpq(1, 7), 3)).contains(0)
    assert prompt_weight(fmpq(1, 3), 4) - prompt_weight(fmpq(1, 2), 4) > 0
    assert falsify(SUCCESS_RATE, budget=50).proof == "certified brackets"


def test_k3_and_k2_of_tokens_pull_in_different_directions():
    evidence = TokenEvidence(softmax_bandit(3))
    pair = (evidence.policies["rising"], evidence.policies["uniform"])
    k2, k3 = (floats(token_loss_slope(evidence, *pair, name)) for name in ("k2", "k3"))
    assert np.abs(k2 - k3).max() > 1e-2


@settings(deadline=None, max_examples=30)
@given(problem=token_problems())
def test_a_draft_is_its_problem(problem):
    draft = TokenDraft.of(problem)
    again = draft.model()
    assert (again.token == problem.token).all()
    assert (again.mask == problem.mask).all()
    assert again.token_probability == pytest.approx(problem.token_probability)
    assert again.reward == pytest.approx(problem.reward)
    rng = np.random.default_rng(0)
    for _ in range(8):
        draft = draft.changed(rng)
        assert draft.model().vocabulary_size == problem.vocabulary_size
    assert TokenDraft.of(draft.model()).size[:2] == draft.size[:2]


def test_a_draft_prints_the_environments_tokens_with_their_probabilities():
    text = str(TokenDraft.of(tool_turns(horizon=3)))
    assert "prompt 1, drawn with probability 1/2" in text
    assert "2 [1 with 1/2] 3: reward -1/10" in text


def test_shrinking_takes_prompts_sequences_and_turns_away():
    draft = TokenDraft.of(tool_turns(horizon=3))
    smaller = [one for one in draft.simpler() if one.size < draft.size]
    assert {len(one.trees) for one in smaller} == {1, 2}
    turns = [str(one).count("[") for one in smaller if len(one.trees) == 2]
    assert min(turns) < str(draft).count("[")
    assert len(str(min(smaller, key=lambda one: one.size)).splitlines()) < len(str(draft).splitlines()) / 2 + 2


def test_statements_speak_of_token_problems():
    with pytest.raises(BoundError, match="speaks of TokenProblem, not of MDP"):
        verify("objectives", loop())
    with pytest.raises(BoundError, match="give a TokenProblem"):
        list(POLICY_GRADIENT.measure(evidence_of(loop())))
