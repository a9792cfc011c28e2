"""What objectives do in expectation, by enumeration of every group of sequences of a token problem."""

import dataclasses

import numpy as np
import pytest
import torch
from banach.llm.advantage import Given, GroupAdvantage
from banach.llm.aggregation import Aggregation
from banach.llm.catalogue import objective
from banach.llm.critic import GeneralisedAdvantage
from banach.llm.divergence import Divergence, estimate
from banach.llm.errors import ObjectiveWarning
from banach.llm.objective import ObjectiveSpec, evaluate
from banach.llm.outcome import outcome
from banach.llm.ratio import Ratio
from banach.llm.surrogate import ImportanceWeighted, PolicyGradient
from banach.mdp import token_policy
from banach.mdp.instances_token import softmax_bandit, tiny_enum, tool_turns
from banach.mdp.token_strategies import token_problems
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from .exact_gradient import expected_gradient, gradient_of, log_probability, probability, rows, success

TINY, TOOL, BANDIT = tiny_enum(), tool_turns(horizon=3), softmax_bandit(arms=4)
SUM = Aggregation("sequence-mean-token-sum")
seeds = st.integers(0, 10**6)
few = settings(max_examples=8, deadline=None)


def logits_of(problem, seed, spread=1.0):
    return spread * np.random.default_rng(seed).normal(size=(problem.n_nodes, problem.vocabulary_size))


def agree(a, b, tolerance=1e-10):
    return np.allclose(a, b, rtol=tolerance, atol=tolerance)


@given(problem=token_problems(), seed=seeds)
@few
def test_reinforce_is_the_policy_gradient(problem, seed):
    logits = logits_of(problem, seed)
    exact = token_policy.expected_reward_gradient(problem, logits)
    assert agree(expected_gradient(objective("reinforce"), problem, logits), exact, 1e-9 * (1 + abs(problem.reward).max()))


@pytest.mark.parametrize("size", [2, 3])
@given(seed=seeds)
@settings(max_examples=3, deadline=None)
def test_leave_one_out_is_unbiased_and_the_group_mean_shrinks_by_its_own_share(size, seed):
    problem = TINY if size == 2 else BANDIT
    logits = logits_of(problem, seed)
    exact = token_policy.expected_reward_gradient(problem, logits)
    assert agree(expected_gradient(objective("rloo"), problem, logits, size=size), exact)
    centred = objective("dr_grpo", budget=5)
    assert agree(5 * expected_gradient(centred, problem, logits, size=size), (size - 1) / size * exact)


@given(seed=seeds)
@few
def test_tokens_of_the_environment_are_masked_without_bias(seed):
    logits = logits_of(TOOL, seed)
    assert not TOOL.mask[TOOL.token >= 0].all()
    assert agree(
        expected_gradient(objective("rloo"), TOOL, logits, size=2), token_policy.expected_reward_gradient(TOOL, logits)
    )


@given(seed=seeds)
@few
def test_whole_sequence_ratios_correct_for_the_old_policy_and_token_ratios_do_not(seed):
    logits, old = logits_of(TINY, seed), logits_of(TINY, seed + 1)
    exact = token_policy.expected_reward_gradient(TINY, logits)
    corrected = objective("reinforce", surrogate=ImportanceWeighted(), ratio=Ratio("sequence"))
    assert agree(expected_gradient(corrected, TINY, logits, old), exact)
    by_token = dataclasses.replace(corrected, ratio=Ratio("token"))
    assert not agree(expected_gradient(by_token, TINY, logits, old), exact, 1e-4)
    arm, old_arm = logits_of(BANDIT, seed), logits_of(BANDIT, seed + 1)
    assert agree(expected_gradient(by_token, BANDIT, arm, old_arm), token_policy.expected_reward_gradient(BANDIT, arm))


@given(seed=seeds)
@few
def test_the_mean_over_the_old_policy_of_the_corrected_value_is_the_expected_reward(seed):
    logits, old = logits_of(TINY, seed), logits_of(TINY, seed + 1)
    corrected = objective("reinforce", surrogate=ImportanceWeighted(), ratio=Ratio("sequence"))
    batch = rows(TINY, range(TINY.n_sequences), range(TINY.n_sequences), torch.tensor(logits), old)
    weight = TINY.prompt_probability[TINY.prompt] * token_policy.sequence_probability(TINY, old)
    losses = [float(evaluate(corrected, batch.select(slice(i, i + 1))).loss) for i in range(TINY.n_sequences)]
    assert -weight @ losses == pytest.approx(token_policy.expected_reward(TINY, logits), abs=1e-12)


@given(seed=seeds)
@few
def test_normalising_by_the_population_deviation_maximises_the_arcsine_of_the_root_of_success(seed):
    logits = logits_of(TINY, seed)
    p = success(TINY, torch.tensor(logits)).numpy()[TINY.prompt]
    advantage = np.repeat(((TINY.reward - p) / np.sqrt(p * (1 - p)))[:, None], TINY.horizon, 1)
    spec = ObjectiveSpec("limit", Given(), PolicyGradient(), aggregation=SUM)
    found = expected_gradient(spec, TINY, logits, advantage_BT=np.tile(advantage, 1))
    rho = torch.tensor(TINY.prompt_probability)
    assert agree(found, gradient_of(lambda z: rho @ (2 * success(TINY, z).sqrt().arcsin()), logits))


@given(seed=seeds)
@few
def test_with_two_answers_and_binary_rewards_the_population_deviation_is_plain_policy_gradient(seed):
    """(R - R')/2 over abs(R - R')/2 is R - R' when rewards are 0 and 1: the arcsine is a limit, not the law of small groups."""
    logits = logits_of(TINY, seed)
    spec = objective("grpo", beta=0.0, ddof=0, aggregation=SUM)
    assert agree(expected_gradient(spec, TINY, logits, size=2), token_policy.expected_reward_gradient(TINY, logits))


@given(seed=seeds, baseline=st.floats(-2, 2))
@few
def test_dividing_by_the_length_maximises_the_reward_a_token(seed, baseline):
    logits = logits_of(TINY, seed)
    shifted = TINY.replace(step_reward=TINY.step_reward - _at_the_end(TINY, baseline))
    spec = objective("reinforce", aggregation=Aggregation("sequence-mean-token-mean"))
    rho, length = torch.tensor(TINY.prompt_probability[TINY.prompt]), torch.tensor(TINY.length)
    worth = rho * torch.tensor(TINY.reward - baseline) / length
    assert agree(expected_gradient(spec, shifted, logits), gradient_of(lambda z: worth @ probability(TINY, z), logits))


def _at_the_end(problem, number):
    last = (problem.token >= 0).sum(1) - 1
    return number * (np.arange(problem.horizon) == last[:, None])


@given(seed=seeds)
@few
def test_a_constant_reward_moves_the_length_normalised_gradient_and_not_the_sum(seed):
    logits = logits_of(TINY, seed)
    more = TINY.replace(step_reward=TINY.step_reward + _at_the_end(TINY, 1.0))
    for kind, moves in (("sequence-mean-token-mean", True), ("sequence-mean-token-sum", False)):
        spec = objective("reinforce", aggregation=Aggregation(kind))
        assert agree(expected_gradient(spec, more, logits), expected_gradient(spec, TINY, logits)) != moves


def penalty(estimator, **settings):
    """A divergence and nothing else."""
    return ObjectiveSpec(
        "penalty", Given(), PolicyGradient(), aggregation=SUM, divergence=Divergence(1.0, estimator, **settings)
    )


def kl(p, q):
    return (p.exp() * (p - q)).sum()


@given(seed=seeds)
@few
def test_what_each_estimator_in_the_loss_descends(seed):
    logits, reference = logits_of(BANDIT, seed), logits_of(BANDIT, seed + 1)
    q = torch.tensor(reference).log_softmax(-1)
    backward = gradient_of(lambda z: -kl(z.log_softmax(-1), q), logits)
    forward = gradient_of(lambda z: -kl(q, z.log_softmax(-1)), logits)
    zero = np.zeros((4, 1))
    descends = {"k1": 0 * backward, "k2": backward, "k3": forward, "k3+": backward}
    for name, gradient in descends.items():
        assert agree(expected_gradient(penalty(name), BANDIT, logits, reference=reference, advantage_BT=zero), gradient), name
    assert not agree(forward, backward, 1e-3)


@given(seed=seeds)
@few
def test_an_estimator_weighted_by_the_ratio_descends_the_divergence_off_the_policy(seed):
    logits, old, reference = (logits_of(BANDIT, seed + k) for k in range(3))
    q = torch.tensor(reference).log_softmax(-1)
    backward = gradient_of(lambda z: -kl(z.log_softmax(-1), q), logits)
    for name in ("k1", "k3"):
        spec = penalty(name, importance=True)
        assert agree(expected_gradient(spec, BANDIT, logits, old, reference, advantage_BT=np.zeros((4, 1))), backward), name


@given(seed=seeds)
@few
def test_in_sequences_an_estimator_in_the_loss_descends_prefix_by_prefix_with_the_occupancy_frozen(seed):
    logits, reference = logits_of(TINY, seed), logits_of(TINY, seed + 1)
    d, q = torch.tensor(token_policy.occupancy(TINY, logits)), torch.tensor(reference).log_softmax(-1)
    zero = np.zeros((TINY.n_sequences, TINY.horizon))
    a_prefix = {
        "k2": lambda p: (d[:, None] * p.exp() * (p - q)).sum(),
        "k3": lambda p: (d[:, None] * q.exp() * (q - p)).sum(),
    }
    for name, function in a_prefix.items():
        found = expected_gradient(penalty(name), TINY, logits, reference=reference, advantage_BT=zero)
        assert agree(found, gradient_of(lambda z, f=function: -f(z.log_softmax(-1)), logits)), name


@given(seed=seeds, beta=st.floats(0.01, 2))
@few
def test_k1_charged_to_the_reward_descends_the_divergence_of_whole_sequences(seed, beta):
    logits, reference = logits_of(TINY, seed), logits_of(TINY, seed + 1)
    rho = torch.tensor(TINY.prompt_probability[TINY.prompt])
    q = log_probability(TINY, torch.tensor(reference)).sum(1)

    def regularised(z):
        p = log_probability(TINY, z).sum(1)
        return (rho * p.exp() * (torch.tensor(TINY.reward) - beta * (p - q))).sum()

    spec = objective("rloo", beta=beta)
    assert agree(expected_gradient(spec, TINY, logits, reference=reference, size=2), gradient_of(regularised, logits))


@given(seed=seeds)
@few
def test_expectations_of_the_estimators(seed):
    logits, reference = logits_of(BANDIT, seed), logits_of(BANDIT, seed + 1)
    p, q = (torch.tensor(x).log_softmax(-1)[0] for x in (logits, reference))
    exact = float(kl(p, q))
    for name in ("k1", "k3", "k3+"):
        assert float((p.exp() * estimate(name, p, q)).sum()) == pytest.approx(exact, abs=1e-12)
    assert abs(float((p.exp() * estimate("k2", p, q)).sum()) - exact) > 1e-4


@given(seed=seeds, trace=st.floats(0, 1))
@few
def test_with_the_exact_critic_generalised_advantages_are_the_advantage_on_average_for_every_trace(seed, trace):
    logits = logits_of(TOOL, seed)
    value = token_policy.value(TOOL, logits)[np.maximum(TOOL.node, 0)]
    batch = _with_values(TOOL, logits, value)
    found = GeneralisedAdvantage(1.0, trace)(outcome(batch)).numpy()
    weight = TOOL.prompt_probability[TOOL.prompt] * token_policy.sequence_probability(TOOL, logits)
    total, mass = np.zeros((2, TOOL.n_nodes, TOOL.vocabulary_size))
    s, t = np.nonzero(TOOL.mask)
    np.add.at(total, (TOOL.node[s, t], TOOL.token[s, t]), weight[s] * found[s, t])
    np.add.at(mass, (TOOL.node[s, t], TOOL.token[s, t]), weight[s])
    assert agree(total / mass, token_policy.advantage(TOOL, logits))


def _with_values(problem, logits, value):
    return rows(
        problem,
        range(problem.n_sequences),
        problem.prompt.astype(np.int64),
        torch.tensor(logits),
        logits,
        value_BT=value,
        step_reward_BT=problem.step_reward,
    )


@given(seed=seeds)
@few
def test_the_ends_of_the_trace_are_the_return_and_the_one_step_error(seed):
    rng = np.random.default_rng(seed)
    logits, value = logits_of(TOOL, seed), rng.normal(size=TOOL.token.shape)
    batch = _with_values(TOOL, logits, value)
    whole, one = (GeneralisedAdvantage(1.0, trace)(outcome(batch)).numpy() for trace in (1.0, 0.0))
    for i in range(TOOL.n_sequences):
        places = np.flatnonzero(TOOL.mask[i])
        for k, t in enumerate(places):
            assert whole[i, t] == pytest.approx(TOOL.step_reward[i, t:].sum() - value[i, t], abs=1e-12)
            after = places[k + 1] if k + 1 < len(places) else TOOL.horizon
            following = value[i, after] if k + 1 < len(places) else 0.0
            assert one[i, t] == pytest.approx(TOOL.step_reward[i, t:after].sum() + following - value[i, t], abs=1e-12)


@given(seed=seeds)
@few
def test_ppo_with_the_exact_critic_is_the_policy_gradient_on_the_policy(seed):
    logits = logits_of(TOOL, seed)
    value = token_policy.value(TOOL, logits)[np.maximum(TOOL.node, 0)]
    spec = objective("ppo", aggregation=SUM, trace=0.7)
    more = {"value_BT": value, "step_reward_BT": TOOL.step_reward}
    assert agree(expected_gradient(spec, TOOL, logits, **more), token_policy.expected_reward_gradient(TOOL, logits))


@given(seed=seeds)
@few
def test_rejection_fine_tuning_climbs_success_over_the_sampled_and_its_logarithm_over_the_accepted(seed):
    logits = logits_of(TINY, seed)
    rho = torch.tensor(TINY.prompt_probability)
    sampled = expected_gradient(objective("rft", average="sampled"), TINY, logits)
    assert agree(sampled, gradient_of(lambda z: rho @ success(TINY, z), logits))
    accepted = expected_gradient(objective("rft", aggregation=SUM), TINY, logits, kept=True)
    assert agree(accepted, gradient_of(lambda z: (rho @ success(TINY, z)).log(), logits))


@given(seed=seeds)
@few
def test_maximum_likelihood_on_data_of_a_policy_is_stationary_there_and_nowhere_near(seed):
    spec, best = objective("sft", aggregation=SUM), logits_of(TINY, seed)
    assert agree(expected_gradient(spec, TINY, best), 0)
    other = logits_of(TINY, seed + 1)
    towards = gradient_of(
        lambda z: (
            torch.tensor(TINY.prompt_probability[TINY.prompt])
            * probability(TINY, torch.tensor(best))
            * log_probability(TINY, z).sum(1)
        ).sum(),
        other,
    )
    assert agree(expected_gradient(spec, TINY, other, best), towards)
    assert np.abs(towards).max() > 1e-3


@given(seed=seeds)
@few
def test_dynamic_sampling_only_rescales_unless_a_divergence_stands_in_the_loss(seed):
    logits, reference = logits_of(TINY, seed), logits_of(TINY, seed + 1)
    plain = objective("dapo", overlong=None, dynamic_sampling=False)
    filtered = objective("dapo", overlong=None)
    p = success(TINY, torch.tensor(logits)).numpy()
    keep = TINY.prompt_probability @ (1 - p**2 - (1 - p) ** 2)
    for divergence, same in ((None, True), (Divergence(0.5, "k3"), False)):
        every, some = (
            expected_gradient(dataclasses.replace(spec, divergence=divergence), TINY, logits, None, reference, 2, kept)
            for spec, kept in ((plain, False), (filtered, True))
        )
        assert agree(some, every / keep) == same


def test_groups_side_by_side_are_the_groups_one_by_one():
    """The expectation's own witness: one batch of all groups, or one batch a group."""
    from .exact_gradient import tuples

    logits, old = logits_of(BANDIT, 1), logits_of(BANDIT, 2, 0.1)
    spec = objective("grpo", beta=0.0)
    leaf = torch.tensor(logits, requires_grad=True)
    loss = sum(
        probability * evaluate(spec, rows(BANDIT, group, [0] * 3, leaf, old)).loss
        for group, probability in tuples(BANDIT, old, 3)
    )
    by_loop = -torch.autograd.grad(loss, leaf)[0].numpy()
    assert agree(expected_gradient(spec, BANDIT, logits, old, size=3), by_loop)


def test_a_group_of_one_warns_and_has_no_advantage():
    batch = rows(BANDIT, [0, 1], [0, 1], torch.zeros((1, 4), dtype=torch.float64), np.zeros((1, 4)))
    with pytest.warns(ObjectiveWarning, match=r"one sequence 0.*is group_B the prompt's number"):
        found = evaluate(ObjectiveSpec("centred", GroupAdvantage(), PolicyGradient(), aggregation=SUM), batch)
    assert not found.weight_BT.any()


@given(seed=seeds)
@few
def test_a_problem_whose_rewards_never_differ_teaches_nothing(seed):
    problem = TINY.replace(step_reward=_at_the_end(TINY, 0.1))
    assume(len(set(problem.reward)) == 1)
    assert not expected_gradient(objective("grpo", beta=0.0), problem, logits_of(problem, seed), size=2).any()
