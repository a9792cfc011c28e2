"""What is wrong with a run that does not learn, told from its numbers.

Means over the last `window` steps are compared with what a run that learns shows; each finding names the number and a remedy.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any


def diagnose(lines: Sequence[dict[str, Any]], window: int = 10) -> list[str]:
    """Findings about the last steps of a run, its metrics in order; none for a run in good health or without steps."""
    recent = lines[-window:]
    if not recent:
        return []

    def mean(name: str, of: Sequence[dict[str, Any]] = recent) -> float:
        values = [line[name] for line in of if line.get(name) is not None]
        return math.fsum(values) / len(values) if values else math.nan

    findings = []

    def say(true: bool, text: str) -> None:
        if true:
            findings.append(text)

    alike, reward = mean("zero_variance_share"), mean("reward_mean")
    say(
        alike > 0.9 and reward <= 0.05,
        f"no signal: {alike:.0%} of groups have equal rewards and the mean reward is {reward:.2g}: the task is too hard for "
        "the policy; take an easier one, larger groups, a warm start, or partial credit",
    )
    say(
        alike > 0.9 and reward >= 0.95,
        f"solved: {alike:.0%} of groups have equal rewards and the mean reward is {reward:.2g}; take a harder task",
    )
    say(
        alike > 0.9 and 0.05 < reward < 0.95,
        f"no comparison: {alike:.0%} of groups have equal rewards at a mean of {reward:.2g}: answers hardly differ within a "
        "group; raise the temperature or the group size",
    )
    pools = [line["pool_pairs"] for line in recent if line.get("pool_pairs") is not None]
    say(
        bool(pools) and pools[-1] == 0,
        f"no pairs: no two answers of the last pool differ in reward (mean {mean('pool_reward_mean'):.2g}); older pairs stay",
    )
    unparsed = mean("unparsed_share")
    say(unparsed > 0.5, f"form: {unparsed:.0%} of answers have none of the task's form; show examples, or start warm")
    cut = mean("truncated_share")
    say(cut > 0.5, f"length: {cut:.0%} of answers are cut by the limit; raise max_tokens")
    entropy, first = mean("entropy_sampled"), mean("entropy_sampled", lines[:window])
    say(
        entropy < 0.05 and entropy < 0.2 * first,
        f"collapse: entropy fell from {first:.2g} to {entropy:.2g} nats a token; lower the rate, widen the upper clip, or pay "
        "for entropy",
    )
    clipped = mean("clip_share")
    say(clipped > 0.3, f"steps too large: {clipped:.0%} of tokens are clipped; lower the rate, epochs or minibatches")
    gap = mean("sampler_gap_mean")
    say(
        gap > 0.1,
        f"mismatch: sampler and trainer differ by {gap:.2g} nats a token; correct for it (behaviour=TruncatedImportance()), or "
        "sample without a nucleus in the trainer's precision",
    )
    failures = sum(line.get("reward_failures") or 0 for line in recent)
    say(failures > 0, f"reward: it failed on {failures:.0f} answers of the last {len(recent)} steps; see failures.jsonl")
    broken = [line["step"] for line in recent if "gradient_norm" in line and line["gradient_norm"] is None]
    say(bool(broken), f"numbers: the gradient was not finite at step {broken[0] if broken else 0}; that step was not taken")
    still = [line for line in recent if line.get("gradient_norm") == 0]
    say(
        len(still) == len(recent) and alike <= 0.9,
        "still: every gradient is zero although rewards differ; is the objective's filter or clip leaving anything?",
    )
    return findings
