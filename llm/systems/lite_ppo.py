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
from math import comb
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
    from ..testbeds.comparison import Comparison, Run


def lite_ppo(
    low: float = 0.2,
    high: float = 0.2,
    ddof: Literal[0, 1] = 1,
    epsilon: float = 0.0,
    std_of: Literal["raw", "centred"] = "raw",
    group_size: int | None = None,
    unusual_clip: bool = False,
    deviation: float | None = None,
) -> ObjectiveSpec:
    """Group mean, batch deviation, token mean. std_of: the deviation of raw rewards, as written, or of centred ones.

    low, high: clip. ddof, epsilon: of the deviation; an epsilon (usual: 1e-6, here 0) bounds the rare wrong answer's advantage
    where a batch is nearly all right. deviation: frozen, in place of the batch's. Raises SpecError for settings out of range.
    """
    return ObjectiveSpec(
        "lite_ppo",
        GroupAdvantage("group-mean", "batch-std", ddof, epsilon, std_of, group_size, deviation),
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


GRPO = "GRPO: group mean, group deviation, sequences"
LITE = "Lite PPO: group mean, batch deviation, tokens"
DATA = {"easy data": 0.95, "medium data": 0.5, "hard data": 0.05}
"""With what probability the start was taught to answer every prompt rightly."""

_ON_DATA = (
    GRPO,
    LITE,
    "group mean, group deviation, tokens",
    "group mean, no deviation, tokens",
    "REINFORCE++: batch mean, batch deviation, tokens",
    "DAPO",
)
_REPEATED = (GRPO, LITE, "DAPO")
_OFF_POLICY = (LITE, "Lite PPO, upper clip 0.28", "DAPO")


def experiment(seeds: int = 10, tokens: int = 12_000, repeats: int = 6) -> Comparison:
    """The factorial and DAPO on DigitChain with mixed difficulty, a transformer, Adam, from a base-like and a tuned start.

    Of some methods more: `repeats` further runs a seed from the base-like start; prompts of one success rate, on `one_answer`;
    eight minibatches a batch, so that ratios leave 1 and clips bind.
    """
    from ..testbeds.bench import DIGITS, digit_policies, digit_run, fitted_policies, odds, side_by_side
    from ..testbeds.comparison import compare

    starts = {"base": digit_policies(seeds, right=0.6), "tuned": digit_policies(seeds, right=0.85)}
    data = {name: fitted_policies(odds(), lambda _, p=p: p, seeds, 60) for name, p in DATA.items()}
    specs = cells() | {
        "DAPO": objective("dapo", overlong=None),
        "Lite PPO, upper clip 0.28": lite_ppo(high=0.28),
    }

    def runs_of(name: str, spec: ObjectiveSpec) -> Run:
        on_policy = {start: digit_run(policies, spec, tokens, rate=2e-3) for start, policies in starts.items()}
        parts = []
        if name in cells() or name == "DAPO":
            parts.append(side_by_side(on_policy, ("reward", "entropy", "length", "gradient tail")))
        if name in _REPEATED:
            more = {"base, repeated": _mean_of(on_policy["base"], seeds, repeats)}
            parts.append(side_by_side(more, ("reward", "area")))
        if name in _ON_DATA:
            on_data = {k: digit_run(p, spec, 8_000, rate=1e-3, problem=odds()) for k, p in data.items()}
            parts.append(side_by_side(on_data, ("reward", "area", "gradient tail")))
        if name in _OFF_POLICY:
            off = {f"{k}, 8 minibatches": digit_run(p, spec, 8_000, rate=2e-3, minibatches=8) for k, p in starts.items()}
            parts.append(side_by_side(off, ("reward", "area", "entropy")))
        return lambda seed: {measure: number for part in parts for measure, number in part(seed).items()}

    return compare(
        "Lite PPO's choices on DigitChain, all 18 cells and DAPO, equal sampled tokens",
        {name: runs_of(name, spec) for name, spec in specs.items()},
        GRPO,
        seeds,
        "python -m banach.llm.systems lite-ppo",
        {
            "tokens": tokens, "rate": 2e-3, "repeats": repeats, **DIGITS,
            "testbed": "digit_mixture(3, 2); one_answer() (data)",
            "data": "success at the start .95, .5, .05; 8000 tokens, rate 1e-3", "8 minibatches": "8000 tokens",
        },
    )  # fmt: skip


def _mean_of(run: Run, seeds: int, times: int) -> Run:
    """The mean of so many runs of one start, whose samples no other run shares."""

    def mean(seed: int) -> dict[str, float]:
        found = [run(seed + seeds * more) for more in range(1, times + 1)]
        return {name: float(np.mean([one[name] for one in found])) for name in found[0]}

    return mean


def implicit_step(within: np.ndarray, means: np.ndarray) -> float:
    """W / (W + B), the mean square of Lite PPO's advantages in a large batch, from each prompt's variance and mean, (P,)
    each.
    """
    inside, between = float(np.mean(within)), float(np.var(means))
    return inside / (inside + between) if inside + between > 0 else 0.0


def prompt_weights(success: np.ndarray, answers: int, ddof: Literal[0, 1] = 0) -> np.ndarray:
    """The expected gradient of each prompt of a batch over that of its success rate, (P,), with the batch's own deviation.

    success: the prompts' rates in (0, 1), (P,), one group of `answers` each, rewards 0 and 1. By summing over all counts of
    right answers; in large batches (1 - 1/answers) / std alike.
    """
    n, found = len(success) * answers, []
    counts = np.arange(answers + 1)
    for own, p in enumerate(success):
        others = np.ones(1)
        for rate in np.delete(success, own):
            others = np.convolve(others, _counts_law(answers, rate))
        right = counts[:, None] + np.arange(len(others))
        deviation = np.sqrt(right * (n - right) / n / (n - ddof))
        over = (1 / np.where(deviation > 0, deviation, np.inf)) @ others
        ascent = counts * (answers - counts) / answers**2  # mean of A (R - p), times the deviation
        found.append(_counts_law(answers, p) * ascent @ over / (p * (1 - p)))
    return np.array(found)


def _counts_law(answers: int, p: float) -> np.ndarray:
    """The chance of 0 ... answers right ones, (answers + 1,)."""
    return np.array([comb(answers, k) * p**k * (1 - p) ** (answers - k) for k in range(answers + 1)])


def group_tail(success: float, answers: int, scale: Literal["group-std", "batch-std"]) -> float:
    """E g^4 / (E g^2)^2 of the gradient g that a group of `answers` makes on its prompt's logit; of the batch in the limit.

    With u the share of right answers, g is sqrt(u (1 - u)) over the group's deviation and u (1 - u) over the batch's. As
    log E X^s is convex in s, the tail of X^2 is at least that of X: a group's own deviation never makes the heavier tail.
    """
    counts = np.arange(answers + 1)
    chance, variance = _counts_law(answers, success), counts / answers * (1 - counts / answers)
    g = np.sqrt(variance) if scale == "group-std" else variance
    return float(chance @ g**4 / (chance @ g**2) ** 2)


LITE_PPO = add(
    System(
        name="lite-ppo",
        title="Part I: Tricks or Traps? A Deep Dive into RL for LLM Reasoning",
        authors="Z. Liu et al.",
        year=2025,
        arxiv="2508.08221",
        summary="PPO's clip without a critic, group mean and batch deviation, mean over all tokens of the batch",
        optimizes="with the batch deviation frozen, the success rate, up to the token mean's weighting of lengths (groups of "
        "two, one prompt a batch, on the audit's problem: cosine 0.994 to grad J); the deviation of a small batch leans on "
        "its own rewards, and prompts are then weighed slightly unlike; one prompt a batch is GRPO",
        objective="lite_ppo",
        parts=("lite_ppo", "GroupAdvantage('group-mean', 'batch-std')", "Aggregation('token-mean')"),
        reductions=(
            Reduction(
                "one prompt a batch and the sequence mean",
                "grpo",
                objective("lite_ppo", aggregation=Aggregation("sequence-mean-token-mean")),
                objective("grpo", beta=0.0),
                ("one group",),
            ),
            Reduction(
                "answers of one length, one prompt",
                "grpo",
                lite_ppo(),
                objective("grpo", beta=0.0),
                ("one group", "equal lengths"),
            ),
            Reduction(
                "no clip, its advantages and the token mean",
                "reinforce",
                lite_ppo(),
                objective("reinforce", advantage=lite_ppo().advantage, aggregation=Aggregation("token-mean")),
                ("on the policy",),
            ),
            Reduction(
                "a deviation frozen at 1/2, tokens over a constant",
                "dr_grpo",
                objective("lite_ppo", deviation=0.5, aggregation=Aggregation("sequence-mean-token-sum-constant", constant=4)),
                objective("dr_grpo", budget=4),
                factor=2.0,
            ),
        ),
        findings=(
            "The direction holds as derived: for prompts of success .02, .5 and .98, large groups and a frozen deviation, the "
            "expected gradient's cosine to that of success is 1; with GRPO's deviation of groups, which ascends 2 arcsin sqrt "
            "p, 0.965. With one prompt a batch the two are one objective.",
            "A batch's own deviation is not free: with N = 2 prompts of success .1 and .5 and K = 2 answers the expected "
            "gradient is 1.077 and 1.127 times p(1 - p) with the population's deviation, 0.933 and 0.976 with Bessel's, the "
            "default here, not the same number twice; with a frozen deviation of .4 (deviation=0.4) it is 1.25 twice.",
            "The bias goes as 1/N, but not at once: with N = 2, 4, 8, 16 and 32 prompts, half of them at .1 and half at .5, "
            "the second kind's weight is 1.046, 1.075, 1.047, 1.024 and 1.012 times the first's.",
            "mean(A^2) = W / (W + B) <= 1 is the population deviation's; Bessel's makes it (1 - 1/(N K)) of that. A usual "
            "epsilon is 1e-6, the default here is 0.",
            "Lite PPO amplifies too where the whole batch is easy: with one wrong answer among N K the advantage grows like "
            "-(1 - 1/K) / std_batch, beyond GRPO's sqrt(K - 1) in a large batch; only epsilon bounds it.",
            "Heavy gradient tails on easy data are the data's and no group deviation's: a group's E g^4 / (E g^2)^2 with "
            "binary rewards is never larger under its own deviation than under the batch's (K = 8, success .98 or .02: 6.9 "
            "and 8.1), and both go as 1 / (K min(p, 1 - p)).",
            "Takeaway 1 cannot be the formula's: rewards {0, 1} and {-1, 1} make equal advantages under either normalisation "
            "(r -> a r + b, epsilon 0); only what is not normalised feels a scale.",
        ),
        published=(
            "non-aligned 4B and 8B: learning curves above GRPO and DAPO, no table (arXiv v3)",
            "Qwen3-8B aligned, easy data, average of six: 62.17 (DAPO 60.66), MATH-500 91.43 (90.57), AMC23 81.88 (79.69), by "
            "a note on the ICLR version, as all below",
            "the same on hard data: 66.96 (DAPO 64.17), AIME25 46.67 (38.34); on AIME24 DAPO is 2.92 ahead",
            "Llama-3-8B: 25.53 (GRPO 22.63, DAPO 23.67), MATH-500 27.3 (19.8)",
            "LiveCodeBench-v5 25.08 (GRPO 22.94), GPQA 46.63 (GRPO 42.49)",
        ),
        measured="On reward Lite PPO is not told apart from GRPO or from DAPO. DigitChain, a two-layer transformer, ten "
        "seeds, base-like start, six runs each: Lite PPO ends at 0.734, GRPO at 0.728, DAPO at 0.750; Lite PPO less GRPO is "
        "0.005 +- 0.028 (95 %, paired by start), so that of the 1 to 5 points expected more than 3.3 are excluded here and "
        "fewer are not; DAPO less GRPO 0.021 +- 0.020, Lite PPO less DAPO -0.016 +- 0.025. One run each from the tuned start: "
        "0.010 +- 0.042 over GRPO. Of the 17 other cells in two starts one differs from GRPO beyond the interval of one "
        "comparison, which is what chance gives. By data of one success rate at the start: Lite PPO less GRPO is 0.001 +- "
        "0.001 on easy (.95), 0.001 +- 0.008 on medium (.5), 0.001 +- 0.003 on hard (.05) data; without a deviation easy data "
        "are 0.000 +- 0.001 from Lite PPO's. Gradient tails (99 % quantile over median) on easy data are 4.4 for both, on "
        "hard data 2.0 against GRPO's 2.2: no heavy tail of the group deviation on easy data; and the batch mean "
        "(REINFORCE++) is not unstable on hard data, 2.1. With eight minibatches, so that clips bind, the upper clip 0.28 in "
        "place of 0.2 changes reward by -0.063 +- 0.144 (base) and -0.025 +- 0.134 (tuned), tuned entropy by 0.052 +- 0.056: "
        "nothing resolved. Tokens in place of sequences change GRPO's reward by 0.021 +- 0.103 and -0.008 +- 0.020. What does "
        "show is the baseline: without one, with the mean of sequences and no deviation of groups, entropy ends at 0.02 to "
        "0.03 against 0.11 or more, answers at the shortest length, and the gradient tail is 15 to 21 against 3 to 9; a mean "
        "over tokens prevents it.",
        bounds=("prompts of unlike difficulty shrink Lite PPO's step", "a frozen batch deviation keeps the direction"),
        experiment=experiment,
    )
)
