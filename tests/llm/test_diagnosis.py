"""A dead run is told why; a sound one is left alone. Accuracy comes with its interval."""

import pytest
import torch
from banach.llm.environments import DigitChain
from banach.llm.policy import CharacterTokenizer, tiny_policy
from banach.llm.rollout import Sampling, sample
from banach.llm.train import Accuracy, diagnose, evaluate_policy
from scipy.stats import binomtest

SOUND = {
    "zero_variance_share": 0.3,
    "reward_mean": 0.5,
    "unparsed_share": 0.02,
    "truncated_share": 0.01,
    "entropy_sampled": 0.8,
    "clip_share": 0.02,
    "sampler_gap_mean": 1e-6,
    "reward_failures": 0.0,
    "gradient_norm": 0.4,
}


def run_of(n=30, **changes):
    return [{"step": i + 1, **SOUND, **changes} for i in range(n)]


def test_a_sound_run_has_no_findings():
    assert diagnose(run_of()) == []
    assert diagnose(run_of(pool_pairs=3.0)) == []
    assert diagnose([]) == []


@pytest.mark.parametrize(
    ("changes", "finding"),
    [
        ({"zero_variance_share": 1.0, "reward_mean": 0.0}, "no signal: 100% of groups"),
        ({"zero_variance_share": 0.95, "reward_mean": 1.0}, "solved: 95% of groups"),
        ({"zero_variance_share": 0.95, "reward_mean": 0.5}, "no comparison: 95% of groups"),
        ({"pool_pairs": 0.0, "pool_reward_mean": 1.0}, "no pairs: no two answers of the last pool differ in reward (mean 1)"),
        ({"unparsed_share": 0.8}, "form: 80% of answers"),
        ({"truncated_share": 0.7}, "length: 70% of answers"),
        ({"clip_share": 0.5}, "steps too large: 50% of tokens"),
        ({"sampler_gap_mean": 0.2}, "mismatch: sampler and trainer differ by 0.2 nats"),
        ({"reward_failures": 2.0}, "reward: it failed on 20 answers of the last 10 steps"),
        ({"gradient_norm": None}, "numbers: the gradient was not finite at step 21"),
        ({"gradient_norm": 0.0}, "still: every gradient is zero"),
    ],
)
def test_a_dead_run_is_told_by_its_one_fault(changes, finding):
    (found,) = diagnose(run_of(**changes))
    assert found.startswith(finding)


def test_a_collapse_is_told_by_where_it_came_from():
    (found,) = diagnose(run_of(20) + run_of(10, entropy_sampled=0.01))
    assert found.startswith("collapse: entropy fell from 0.8 to 0.01")
    assert diagnose(run_of(30, entropy_sampled=0.01)) == []


def test_one_step_that_stood_still_and_an_empty_pool_that_was_filled_again_are_no_faults():
    assert diagnose(run_of(29) + run_of(1, gradient_norm=0.0)) == []
    assert diagnose(run_of(25, pool_pairs=0.0) + run_of(5, pool_pairs=4.0)) == []
    (found,) = diagnose(run_of(25, pool_pairs=4.0) + run_of(5, pool_pairs=0.0, pool_reward_mean=0.0))
    assert found.startswith("no pairs")


@pytest.mark.parametrize(("right", "total"), [(0, 10), (3, 10), (10, 10), (200, 301)])
def test_the_interval_is_wilsons(right, total):
    wanted = binomtest(right, total).proportion_ci(0.95, method="wilson")
    assert Accuracy(right, total).interval == pytest.approx((wanted.low, wanted.high))
    assert Accuracy(right, total).share == right / total


def test_accuracy_counts_the_likeliest_answers_that_are_right():
    pytest.importorskip("transformers")
    policy, task = tiny_policy(0, width=16, tokenizer=CharacterTokenizer("01=\n")), DigitChain(1, 2, base=2)
    policy.model.double()
    sampling = Sampling(2, stop=policy.tokenizer.tokens_with("\n"))
    right = 0
    for i in range(12):
        problem = task.problem(i)
        prompt, tokens = policy.tokenizer.encode(problem.prompt), []
        while len(tokens) < 2 and not set(tokens) & {3, 4}:
            tokens.append(int(policy.model(input_ids=torch.tensor([[*prompt, *tokens]])).logits[0, -1].argmax()))
        answer = task.parse(policy.tokenizer.decode(tokens))
        right += answer is not None and task.score(problem, answer) == 1
    assert evaluate_policy(policy, task, range(12), sampling, at_once=5) == Accuracy(right, 12)
    drawn = evaluate_policy(policy, task, range(12), sampling, greedy=False, seed=3)
    prompts = [policy.tokenizer.encode(task.problem(i).prompt) for i in range(12)]
    rollouts = [sample(policy, [prompts[i]], 1, sampling, [(3, 11, i)]).answers()[0] for i in range(12)]
    texts = [task.parse(policy.tokenizer.decode(tokens)) for tokens in rollouts]
    wanted = sum(text is not None and task.score(task.problem(i), text) == 1 for i, text in enumerate(texts))
    assert drawn == Accuracy(wanted, 12)
