r"""ASPO: where a model may call tools, earlier calls are preferred among right answers, by shaping the advantage.

The part is `banach.llm.shaping.EarlyCalls`; everything else is the base method, with the tools' tokens masked. Its theory is
about supports, and compares the tool model p with one particular text model q, which takes the same decisions and guesses the m
bits that the tool would have read out:

    q(y) = 2^-m p(y) for y with one call,    so that    y in supp_e(p), y not in supp_e(q)    for 2^-m p(y) < e <= p(y).

Another text model may do better: one that guesses at once, without spending 1 - p on anything else, has 2^-m. And for one fixed
tool model text is not contained: what it spends on calls it lacks elsewhere. It is over all policies of a class,

    union supp_e = {y : some policy of the class has P(y) >= e} = {y of allowed tokens : e(y) >= e},

e(y) the environment's probability of its own tokens, for the policy that always walks along y has P(y) = e(y).

Lin and Xu 2025, arXiv 2508.19201.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ...mdp import token_policy
from ...mdp.errors import ModelError
from ...mdp.token_support import support
from ..advantage import GroupAdvantage
from ..aggregation import Aggregation
from ..batch import TokenBatch
from ..catalogue import Objective, Probe, objective, register
from ..errors import SpecError
from ..mask import DynamicSampling
from ..objective import ObjectiveSpec
from ..plan import Plan
from ..ratio import Ratio
from ..shaping import PRESETS, EarlyCalls, Preset, RewardedCalls, first_calls
from ..surrogate import ClippedRatio
from .system import Reduction, System, add

if TYPE_CHECKING:
    from ...mdp.token import TokenProblem
    from ..testbeds.comparison import Comparison


def aspo(
    preset: Preset = "conservative",
    strength: float | None = None,
    share: float | None = None,
    threshold: float = 1.0,
    low: float = 0.2,
    high: float = 0.28,
    ddof: int = 1,
) -> ObjectiveSpec:
    """DAPO's advantages (no overlong shaping), shaped towards early tool calls. preset: strength and share as printed.

    strength, share: instead of the preset's. threshold: smallest reward of a right answer. low, high: clip. ddof: of the
    group's deviation, 0 or 1. Raises SpecError for a preset that there is not and for numbers out of range.
    """
    if preset not in tuple(PRESETS):
        raise SpecError(f"preset={preset!r}; there are {', '.join(map(repr, PRESETS))}, or say strength and share themselves")
    if not abs(threshold) < float("inf"):
        raise SpecError(f"threshold={threshold}: no reward reaches it, or all do; give the smallest reward of a right answer")
    own = PRESETS[preset]
    base = GroupAdvantage("group-mean", "group-std", ddof)  # pyright: ignore[reportArgumentType]
    shaped = EarlyCalls(base, own[0] if strength is None else strength, own[1] if share is None else share, threshold)
    return ObjectiveSpec(
        "aspo", shaped, ClippedRatio(low, high), Ratio("token"), Aggregation("token-mean"), filters=(DynamicSampling(),)
    )


def union_support(problem: TokenProblem, allowed: np.ndarray, epsilon: float) -> np.ndarray:
    """Sequences with P(y | x) >= epsilon under some policy that emits only the tokens `allowed`, bool (S,).

    allowed: bool (N, V). epsilon: in (0, 1]. Raises ModelError for tokens of another type or shape, and another epsilon.
    """
    if not 0 < epsilon <= 1:
        raise ModelError(f"epsilon is {epsilon}; a probability that shows lies in (0, 1]")
    return support(problem, allowed) & (problem.environment_probability >= epsilon * (1 - 1e-12))


def _late_calls(batch: TokenBatch) -> TokenBatch:
    return replace(batch, first_call_B=batch.length_B - 1)


register(
    Objective(
        "aspo",
        aspo,
        "Lin and Xu 2025, arXiv 2508.19201",
        variants={"aggressive": {"preset": "aggressive"}, "late": {"strength": 3.0, "share": 0.5, "threshold": 0.5}},
        probe=Probe(("first_call_B",), "an answer calls its tool before its last token", _late_calls),
    )
)


class _Watched:
    """Counts right answers with a negative advantage along a run."""

    def __init__(self) -> None:
        self.right, self.pushed_down = 0, 0

    def plan(self, _: Any, planned: Plan) -> Plan:
        right_B = planned.batch.reward_B >= 1
        self.right += int(right_B.sum())
        self.pushed_down += int((right_B & (planned.advantage_BT < 0).any(1)).sum())
        return planned


def _calls(step: Any) -> dict[str, torch.Tensor]:
    turn = torch.tensor(step.problem.turn[step.sequences].astype(np.int64))
    return {"first_call_B": first_calls(torch.tensor(step.problem.mask[step.sequences]), turn)}


def _read_before(problem: Any) -> np.ndarray:
    """The last answer that the tool read out before each token, (S, T), -1 where there is none."""
    found = np.full(problem.token.shape, -1)
    for t in range(1, problem.horizon):
        read = ~problem.mask[:, t - 1] & (problem.token[:, t - 1] >= 0) & (problem.token[:, t - 1] < 3)
        found[:, t] = np.where(read, problem.token[:, t - 1], found[:, t - 1])
    return found


def _oracle_start(problem: TokenProblem) -> np.ndarray:
    """Logits for `oracle_call`: they think first, and know what a reading is for."""
    start = np.tile(np.array([-2.0, -2.0, -2.0, 1.0, 2.0, -4.0, -4.0]), (problem.n_nodes, 1))
    for node, token, before in zip(problem.node.ravel(), problem.turn.ravel(), _read_before(problem).ravel(), strict=True):
        if node >= 0 and token > 0 and before >= 0:
            start[node] = np.where(np.arange(7) == before, 3.0, -1.0)
    return start


def _free_start(problem: TokenProblem) -> np.ndarray:
    """Logits for `free_call`: three guesses in ten, and the others think for long."""
    start = np.tile(np.log([0.1, 0.1, 0.8]), (problem.n_nodes, 1))
    start[problem.node[:, 0]] = np.log([0.3, 0.07, 0.63])
    return start


@dataclass(frozen=True, eq=False)
class _Bed:
    """A problem with a tool, logits to begin with (N, V), the rate of the optimiser, the numbers of attempts to report."""

    problem: TokenProblem
    start: np.ndarray
    rate: float
    attempts: tuple[int, ...] = ()

    def run(self, spec: ObjectiveSpec, seed: int, tokens: int) -> dict[str, float]:
        """What became of a policy that was trained for so many tokens."""
        from ..testbeds.policies import TablePolicy
        from ..testbeds.training import Recipe, train

        policy, watched, seen = TablePolicy(self.problem, self.start), _Watched(), []
        recipe = Recipe(tokens=tokens, prompts=4, group=8, rate=self.rate)

        def look(step: Any, _: float) -> None:
            seen.append(self.style(step.old_NV.numpy())["first call"])

        found = train(self.problem, policy, spec, recipe, seed, _calls, look, watched.plan)
        when = {"first call, start": seen[0], "first call, middle": seen[len(seen) // 2]}
        down = {"right but pushed down": watched.pushed_down / max(watched.right, 1)}
        learnt = policy.logits.detach().numpy()
        kept = {k: found[k] for k in ("reward", "area", "entropy")}
        return kept | self.style(learnt) | when | down | self.passed(learnt)

    def style(self, logits: np.ndarray) -> dict[str, float]:
        """By enumeration: share of answers with a call, mean position of the first, calls an answer."""
        turn = self.problem.turn
        call = first_calls(torch.tensor(self.problem.mask), torch.tensor(turn.astype(np.int64))).numpy()
        chance = token_policy.sequence_probability(self.problem, logits)
        chance = chance * self.problem.prompt_probability[self.problem.prompt]
        called = chance[call >= 0].sum()
        first = float(chance[call >= 0] @ call[call >= 0] / max(called, 1e-12))
        return {"calls": float(called), "first call": first, "calls an answer": float(chance @ turn.max(axis=1))}

    def passed(self, logits: np.ndarray) -> dict[str, float]:
        """Success at k attempts."""
        return {f"pass@{k}": token_policy.pass_at_k(self.problem, logits, k) for k in self.attempts}


def _named(bed: str, numbers: Mapping[str, float]) -> dict[str, float]:
    return {f"{bed}: {measure}": number for measure, number in numbers.items()}


def experiment(seeds: int = 5, tokens: int = 12_000) -> Comparison:
    """Three tools, tabular policies that begin by thinking: DAPO, reward shaping at several strengths, ASPO.

    The plain measures are of `oracle_call`, whose horizon cuts late calls; "free" of `free_call`, where the position is free of
    reward; "thinking helps" where a thought before the call adds to what it is worth.
    """
    from ...mdp.instances_testbeds import free_call, oracle_call
    from ..testbeds.comparison import compare

    oracle, free, helps = oracle_call(), free_call(), free_call(reliability=0.6, thinking=0.05)
    beds = {
        "": _Bed(oracle, _oracle_start(oracle), 0.02),
        "free": _Bed(free, _free_start(free), 0.05, (1, 4, 16, 64, 256)),
        "thinking helps": _Bed(helps, _free_start(helps), 0.05),
    }

    def method(spec: ObjectiveSpec, on: tuple[str, ...] = tuple(beds)):
        def run(seed: int) -> dict[str, float]:
            found: dict[str, float] = {}
            for bed in on:
                own = beds[bed].run(spec, seed, tokens)
                found |= _named(bed, own) if bed else own
            return found

        return run

    def before(text: bool):
        """The policies before training; with text alone they guess."""
        logits = beds["free"].start.copy()
        if text:
            logits[free.node[:, 0], 1:] = -800.0
        return lambda _seed: _named("free", beds["free"].style(logits) | beds["free"].passed(logits))

    base = objective("dapo", overlong=None)
    shaped = {strength: replace(base, rewards=(RewardedCalls(-strength),)) for strength in (0.02, 0.2, 1.0)}
    apart = ("free", "thinking helps")
    methods = {
        "DAPO": method(base),
        "DAPO, reward shaping": method(shaped[0.2]),
        "DAPO, reward shaping 0.02": method(shaped[0.02], apart),
        "DAPO, reward shaping 1": method(shaped[1.0], apart),
        "ASPO, conservative": method(aspo()),
        "ASPO, aggressive": method(aspo("aggressive")),
        "all groups: DAPO": method(replace(base, filters=()), apart),
        "all groups: DAPO, reward shaping 0.02": method(replace(shaped[0.02], filters=()), apart),
        "all groups: DAPO, reward shaping": method(replace(shaped[0.2], filters=()), apart),
        "all groups: DAPO, reward shaping 1": method(replace(shaped[1.0], filters=()), apart),
        "untrained, text alone": before(text=True),
        "untrained, with the tool": before(text=False),
    }
    return compare(
        "ASPO against reward shaping on tools that may be called early or late, equal sampled tokens",
        methods,
        "DAPO",
        seeds,
        "python -m banach.llm.systems aspo",
        {
            "tokens": tokens,
            "testbed": "oracle_call(3, 6)",
            "free": "free_call()",
            "thinking helps": "free_call(reliability=0.6, thinking=0.05)",
            "policy": "table",
            "prompts": 4,
            "group": 8,
            "rate": 0.02,
            "rate, free and thinking helps": 0.05,
            "reward shaping": "strength 0.2 unless named",
            "all groups": "without DynamicSampling, which drops groups that are all right",
        },
    )


ASPO = add(
    System(
        name="aspo",
        title="Understanding Tool-Integrated Reasoning",
        authors="Lin, Xu",
        year=2025,
        arxiv="2508.19201",
        summary="a clipped bias on the advantage of right answers makes tool calls come early, and the reward stays as it is",
        optimizes="no scalar, by the audit: where nobody calls it is DAPO, 12 % of whose Jacobian is antisymmetric, nearest J "
        "(cosine 0.992); where calls differ 11 %, nearest J too (cosine 0.987). It adds a preference for early calls among "
        "right answers of mixed groups, of at most the share k of their advantage; nothing in groups that are all right",
        objective="aspo",
        parts=("aspo", "EarlyCalls", "RewardedCalls", "first_calls"),
        reductions=(
            Reduction("strength 0", "dapo", aspo(strength=0.0), objective("dapo", overlong=None)),
            Reduction("share 0", "dapo", aspo(share=0.0), objective("dapo", overlong=None)),
            Reduction("no tool is called", "dapo", aspo(), objective("dapo", overlong=None), ("no call",)),
        ),
        findings=(
            "The support theorem's proof is for {P > 0} and not for {P >= e}: with text of probability e exactly and any share "
            "c > 0 of calls the tool model gives it (1 - c) e < e. Inclusion holds at (1 - c) e, and for unions over policies.",
            "The support theorem compares the tool model with text that takes its decisions and guesses the m bits: 2^-m p. "
            "Inclusion is strict exactly for 2^-m p < e <= p; at 2^-m p it fails, for the wrong guesses are text's alone. Text "
            "that guesses at once has 2^-m, which may be in the band: 0.25 >= e for m = 2, p = 0.4, e = 0.2.",
            "The support theorem at e = 0 says nothing of a softmax, which gives every sequence a positive probability: it "
            "tells models apart only by the tokens that they may emit at all.",
            "What a budget of all tokens allows depends on which answers count as one: a program that adds numbers of three "
            "digits costs less than running sums for 10 numbers, not for 3, and more than the answer alone for both.",
            "The printed clip(b, -k A, k A) has its ends reversed where a right answer has A < 0; |A| is meant.",
            "Text and figures disagree on the strengths: -2.0 and -2.5 against 1.5 and 2.",
            "Reward shaping in an all-right group does not depend on its strength: normalisation cancels it, and about half of "
            "the right answers are pushed down. Dynamic sampling by the rewards before shaping drops these groups.",
        ),
        published=(
            "Qwen3-8B, 10,000 problems of DAPO's, 3 epochs, 96 prompts of 8 answers, 16,384 tokens, temperature 1",
            "AIME25 avg@16 unchanged; first call from about 4000 tokens to 1000, code rounds 1.3 to 3.3, code ratio near 100 %",
            "pass@k with the tool above text up to k = 256 on AIME24, AIME25 and Omni-MATH-512, without a crossing",
            "reward shaping collapses training",
        ),
        measured="Where the position of the call is free of reward (free_call) DAPO leaves it where it was: 4.56 tokens, 4.58 "
        "± 0.34 after training. ASPO halves it: 3.01 midway, 2.38 ± 0.32 at the end, 2.19 with the aggressive preset; "
        "accuracy is 0.890 against 0.886, no right answer is pushed down. Reward shaping at 0.2 does the same (2.12, "
        "accuracy 0.890) and pushes 21 % of the right answers down; at 1 it ends at 1.03. If all-right groups count, "
        "0.02 does as much: 1.84, against 3.66 without them. Accuracy does not fall, with them or without: no "
        "collapse. Calls an answer stay at 1.1. Where each thought is worth five points, accuracy is what the "
        "position leaves, under either shaping: DAPO 0.853, ASPO 0.757 and 0.714, reward shaping 0.849 at 0.02 (0.810 "
        "with all-right groups), 0.747 at 0.2, 0.602 at 1. pass@k of text alone is 0.08 to 0.67 for k = 1 to 256; "
        "with the tool, untrained, 0.65, and 1.00 from k = 16 on. On oracle_call, whose horizon cuts late calls, "
        "reward alone takes the first call from 2.07 to 1.06, 1 being the least, and accuracy to 0.989 under each "
        "method: reward shaping ends at 1.04, ASPO at 1.05.",
        bounds=(
            "spending a share on tools keeps text within that share",
            "text that guesses what a tool reads out has an exponentially small share of its probability",
            "a regularised optimum leaves no answer out",
            "preferring early calls moves the gradient within a share",
        ),
        experiment=experiment,
    )
)
