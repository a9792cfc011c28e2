"""Five objectives train one transformer of random weights on chains of digits, measured on held-out problems over seeds.

The policy is fitted to a corpus in which six answers of ten are of another problem; each run then makes 60 steps of 8 prompts
and 8 answers. What is held is the direction: the mean gain over five seeds exceeds its 95 % half-width.
"""

import numpy as np
import pytest
from banach.llm.environments import task
from banach.llm.rollout import Sampling
from banach.llm.train import Settings, evaluate_policy, train
from scipy.stats import t as student

pytest.importorskip("transformers")

SEEDS = range(5)
COMMON = {
    "task_settings": {"base": 3, "shortest": 1, "longest": 2},
    "model_settings": {"layers": 2, "width": 32},
    "steps": 60,
    "rate": 3e-3,
    "max_tokens": 4,
    "warm_start": 80,
    "warm_rate": 5e-3,
    "noise": 0.6,
    "checkpoint_every": 0,
    "pool": 64,
}
METHODS = {
    "grpo": {"objective_settings": {"beta": 0.0}},
    "dr_grpo": {},
    "risk_po": {},
    "nft": {},
    "dpo": {"refresh": 10, "rate": 1e-3},
}


def held_out(method, seed, folder, **changes):
    """Share of right answers, sampled as in training, to 200 problems of another seed."""
    made = train(Settings(**(COMMON | {"objective": method, "seed": seed, **METHODS.get(method, {})} | changes)), folder)
    posed = task("digit_chain", seed=seed + 1000, **COMMON["task_settings"])
    sampling = Sampling(COMMON["max_tokens"], stop=made.policy.tokenizer.tokens_with(posed.stop))
    return evaluate_policy(made.policy, posed, range(200), sampling, greedy=False).share


@pytest.fixture(scope="module")
def beginning(tmp_path_factory):
    return np.array([held_out("dr_grpo", seed, tmp_path_factory.mktemp("warm") / "run", steps=0) for seed in SEEDS])


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_held_out_accuracy_rises(method, beginning, tmp_path):
    gain = np.array([held_out(method, seed, tmp_path / str(seed)) for seed in SEEDS]) - beginning
    half = student.ppf(0.975, len(gain) - 1) * gain.std(ddof=1) / np.sqrt(len(gain))
    print(f"{method}: from {beginning.mean():.3f}, gain {gain.mean():.3f} +- {half:.3f}")
    assert gain.mean() > half
