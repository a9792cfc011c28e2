r"""Lite PPO: group mean, batch deviation, token mean, the clipped surrogate, and nothing else.

    A_{n,k} = (r_{n,k} - mean_k r_{n,.}) / std({r}),      loss = - sum M min(rho A, clip(rho) A) / sum M,

the deviation over the raw rewards of the whole rollout batch. With W the mean variance of rewards within prompts and B the
variance of the prompts' means, mean(A^2) = W / (W + B) <= 1: prompts of unlike difficulty shrink the step. With the deviation
frozen at c, E[A grad log pi] = ((K - 1)/K) (1/c) grad J: the direction of plain success, which GRPO's deviation by prompt
turns into that of 2 arcsin(sqrt(p)).

Z. Liu et al. 2025, arXiv 2508.08221.
"""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Literal

import numpy as np

from ..advantage import GroupAdvantage
from ..aggregation import Aggregation
from ..catalogue import Objective, objective, register
from ..objective import ObjectiveSpec
from ..ratio import Ratio
from ..surrogate import ClippedRatio
from .system import Reduction, System, add

if TYPE_CHECKING:
    from ..testbeds.comparison import Comparison


def lite_ppo(
    low: float = 0.2,
    high: float = 0.2,
    ddof: Literal[0, 1] = 1,
    epsilon: float = 0.0,
    std_of: Literal["raw", "centred"] = "raw",
    group_size: int | None = None,
    unusual_clip: bool = False,
) -> ObjectiveSpec:
    """Group mean, batch deviation, token mean. std_of: the deviation of raw rewards, as written, or of centred ones.

    low, high: clip. ddof, epsilon: of the deviation; an epsilon bounds the rare wrong answer's advantage where a batch is
    nearly all right.
    """
    return ObjectiveSpec(
        "lite_ppo",
        GroupAdvantage("group-mean", "batch-std", ddof, epsilon, std_of, group_size),
        ClippedRatio(low, high),
        Ratio("token"),
        Aggregation("token-mean"),
        unusual_clip=unusual_clip,
    )


register(
    Objective(
        "lite_ppo",
        lite_ppo,
        "Liu et al. 2025, arXiv 2508.08221",
        reward_degree=0,
        shift_invariant=True,
        variants={"of centred rewards": {"std_of": "centred", "ddof": 0}},
    )
)


_BASELINES = {"group-mean": "group mean", "batch-mean": "batch mean", "none": "no baseline"}
_SCALES = {"group-std": "group deviation", "batch-std": "batch deviation", "none": "no deviation"}
_AGGREGATIONS = {"sequence-mean-token-mean": "sequences", "token-mean": "tokens"}
_KNOWN = {
    ("group-mean", "group-std", "sequence-mean-token-mean"): "GRPO",
    ("group-mean", "batch-std", "token-mean"): "Lite PPO",
    ("batch-mean", "batch-std", "token-mean"): "REINFORCE++",
}


def cells() -> dict[str, ObjectiveSpec]:
    """The 18 combinations of a baseline, a deviation and a mean that the experiment compares, by what they are made of."""
    found = {}
    for baseline, scale, kind in product(_BASELINES, _SCALES, _AGGREGATIONS):
        known = _KNOWN.get((baseline, scale, kind))
        made_of = f"{_BASELINES[baseline]}, {_SCALES[scale]}, {_AGGREGATIONS[kind]}"
        advantage = GroupAdvantage(baseline, scale, None if scale == "none" else 1)  # pyright: ignore[reportArgumentType]
        spec = objective("lite_ppo", advantage=advantage, aggregation=Aggregation(kind))
        found[f"{known}: {made_of}" if known else made_of] = spec
    return found


def experiment(seeds: int = 10, tokens: int = 20_000) -> Comparison:
    """The whole factorial on DigitChain with mixed difficulty, a transformer, Adam, from a base-like and from a tuned start."""
    from ..testbeds.bench import DIGITS, digit_policies, digit_run, side_by_side
    from ..testbeds.comparison import compare

    starts = {"base": digit_policies(seeds, right=0.6), "tuned": digit_policies(seeds, right=0.85)}
    methods = {
        name: side_by_side(
            {start: digit_run(policies, spec, tokens, rate=2e-3) for start, policies in starts.items()},
            ("reward", "entropy", "length", "gradient tail"),
        )
        for name, spec in cells().items()
    }
    return compare(
        "Lite PPO's choices on DigitChain, all 18 cells, equal sampled tokens",
        methods,
        "GRPO: group mean, group deviation, sequences",
        seeds,
        "python -m banach.llm.systems lite-ppo",
        {"tokens": tokens, "rate": 2e-3, **DIGITS},
    )


def implicit_step(within: np.ndarray, means: np.ndarray) -> float:
    """W / (W + B), the mean square of Lite PPO's advantages in a large batch, from each prompt's variance and mean, (P,)
    each.
    """
    inside, between = float(np.mean(within)), float(np.var(means))
    return inside / (inside + between) if inside + between > 0 else 0.0


LITE_PPO = add(
    System(
        name="lite-ppo",
        title="Part I: Tricks or Traps? A Deep Dive into RL for LLM Reasoning",
        authors="Z. Liu et al.",
        year=2025,
        arxiv="2508.08221",
        summary="PPO's clip without a critic, group mean and batch deviation, mean over all tokens of the batch",
        optimizes="with the batch deviation frozen, the success rate, up to the token mean's weighting of lengths (groups "
        "of two on the "
        "audit's problem: cosine 0.994 to grad J); the deviation of a small batch leans on its own rewards, and prompts "
        "are then "
        "weighed slightly unlike",
        objective="lite_ppo",
        parts=("lite_ppo", "GroupAdvantage('group-mean', 'batch-std')", "Aggregation('token-mean')"),
        reductions=(
            Reduction(
                "one prompt a batch and the sequence mean",
                "grpo",
                lite_ppo(),
                objective("grpo", beta=0.0, aggregation=Aggregation("token-mean")),
                ("one group",),
            ),
            Reduction(
                "answers of one length, one prompt",
                "grpo",
                lite_ppo(),
                objective("grpo", beta=0.0),
                ("one group", "equal lengths"),
            ),
        ),
        findings=(
            "A batch's own deviation is not free: with N = 2 prompts of success .1 and .5 and K = 2 answers the expected "
            "gradient "
            "is 1.077 and 1.127 times p(1 - p), not the same number twice; with a frozen deviation of .4 it is 1.25 twice.",
            "Lite PPO amplifies too where the whole batch is easy: with one wrong answer among N K the advantage grows like "
            "-(1 - 1/K) / std_batch; only epsilon bounds it.",
        ),
        published=(
            "Qwen3-8B aligned, easy data, average of six: 62.17 (DAPO 60.66); hard data 66.96 (DAPO 64.17), by a note on the "
            "ICLR version",
            "non-aligned 4B and 8B: learning curves above GRPO and DAPO, no table (arXiv v3)",
        ),
        measured="On reward a null result: on DigitChain with a two-layer transformer, of the 17 other cells in two starts, "
        "ten seeds each, two differ from GRPO beyond a 95 % interval of one comparison, which is what chance gives; Lite PPO "
        "ends at 0.760 and 0.810 against 0.760 and 0.823. What does show is the baseline: without one, with the mean of "
        "sequences and no deviation of groups, entropy ends at 0.012 against 0.1, answers at the shortest length, and the "
        "gradient norm's 99 % quantile is 36 to 46 medians against 4 to 13; a mean over tokens prevents it. Group and batch "
        "deviations are not told apart by these tails.",
        bounds=("prompts of unlike difficulty shrink Lite PPO's step", "a frozen batch deviation keeps the direction"),
        experiment=experiment,
    )
)
