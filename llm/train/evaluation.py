"""How often a policy is right on problems that it was not trained on, with an interval.

The interval is Wilson's at 95 % (Wilson 1927, JASA 22): it stays within [0, 1] and is honest at both ends.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from ..environments.problem import Sample, Task
from ..environments.reward import Reward
from ..policy.causal import Policy
from ..rollout.rollout import sample
from ..rollout.sampling import Sampling
from .supply import environment

Z = 1.959963984540054
GREEDY = 1e-9
"""A nucleus of this mass holds the likeliest token alone."""


@dataclass(frozen=True)
class Accuracy:
    """right: problems answered rightly. total: of how many."""

    right: int
    total: int

    @property
    def share(self) -> float:
        """right / total."""
        return self.right / self.total

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's 95 % interval."""
        n, p = self.total, self.share
        centre, half = p + Z**2 / (2 * n), Z * math.sqrt(p * (1 - p) / n + Z**2 / (4 * n * n))
        return max(0.0, (centre - half) / (1 + Z**2 / n)), min(1.0, (centre + half) / (1 + Z**2 / n))


def evaluate_policy(
    policy: Policy, task: Task, problems: range, sampling: Sampling, *, greedy: bool = True, seed: int = 0, at_once: int = 64
) -> Accuracy:
    """One answer to each of these problems of a task: the likeliest token at each step, or sampled as `sampling` says.

    Right is a score of 1. at_once: answers that are written at the same time.
    """
    drawn = replace(sampling, top_p=GREEDY) if greedy else sampling
    reward, right = Reward.of(task), 0
    for start in range(problems.start, problems.stop, at_once):
        posed = [task.problem(i) for i in range(start, min(start + at_once, problems.stop))]
        prompts = [policy.tokenizer.encode(problem.prompt) for problem in posed]
        keys = [(seed, 11, problem.index) for problem in posed]
        rollout = sample(policy, prompts, 1, drawn, keys, environment(task, policy))
        texts = [policy.tokenizer.decode(tokens) for tokens in rollout.answers()]
        rewarded = reward([Sample(problem, text) for problem, text in zip(posed, texts, strict=True)])
        right += int((rewarded.reward_B >= 1).sum())
    return Accuracy(right, len(problems))
