r"""RiskPO: bundles of answers, paid by the mixed value at risk of their summed rewards.

The advantage is that of `banach.llm.bundles`, the ratio the geometric mean of a sequence. `risk_po` is the paper's objective,
`risk_po_released` the released code's:

    A = [ m * (-(Q_a - R)^+) / a + (clip(R, Q_a, Q_b) - Q_a [+ Q_a - Q_b]) / (b - a) ] / ((m + 1) std(R)),

that is the mixed value at risk with 1 + w = m (b - a)/a (m = 1.5: 4.5, not the paper's 1.5), scaled, over the standard
deviation of a set's bundles, with token ratios; the bracketed constant is in its script for easy data alone. Quantiles are
tracked there, but the advantage is computed before they are handed on, and always takes those of the set's own G bundles.

For w = 0 and log pi rising with R, R - A = (R - Q_b)^+ + Q_b rises too, and entropy falls more slowly than under the mean
reward; for w > 0, w (Q_a - R)^+ is added, which falls: R in {0, 1} with p = (.15, .85), a = .2, b = .8, w = .5 has
Cov(log pi, A) = .33 > Cov(log pi, R) = .22.

For w >= 0 the functional is convex in the outcome's distribution: no mixture of policies beats the better one, unregularised
optima are deterministic, and what entropy it keeps it keeps on the way. In a tabular softmax step eta,
dH/d eta = -Cov(log pi, A).

Ren et al. 2025, arXiv 2510.00911.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor

from ..aggregation import Aggregation
from ..batch import TokenBatch
from ..bundles import MixedRisk, QuantileTracker, bundle_scores, bundled, followed
from ..catalogue import Objective, Probe, objective, register
from ..errors import SpecError
from ..objective import ObjectiveSpec
from ..outcome import outcome
from ..ratio import Ratio
from ..surrogate import ClippedRatio
from .system import Reduction, System, add

if TYPE_CHECKING:
    from ..testbeds.comparison import Comparison


def risk_po(
    low: float = 0.2,
    high: float = 0.8,
    weight: float = 0.5,
    quantiles: tuple[float, float] | None = None,
    clip_low: float = 3e-4,
    clip_high: float = 4e-4,
    unusual_clip: bool = False,
) -> ObjectiveSpec:
    """The paper's objective. low, high, weight: of the mixed value at risk. quantiles: tracked, or None for the batch's own.

    clip_low, clip_high: of the ratio; no value is printed, GSPO's stand here.
    """
    return ObjectiveSpec(
        "risk_po",
        MixedRisk(low, high, weight, quantiles),
        ClippedRatio(clip_low, clip_high),
        Ratio("sequence-geometric"),
        Aggregation("sequence-mean-token-mean"),
        unusual_clip=unusual_clip,
    )


def risk_po_released(
    low: float = 0.2,
    high: float = 0.8,
    mix: float = 1.5,
    quantiles: tuple[float, float] | None = None,
    credit: Literal["uniform", "std", "sum-mean", "score"] = "sum-mean",
    constant: bool = False,
    clip: float = 0.2,
) -> ObjectiveSpec:
    """The released code's objective, as its script for hard data sets it; that for easy data has high=0.9, credit="std",
    constant=True.

    mix: weight of the tail's mean beside the range's. quantiles: tracked, or None for those of each set of prompts, which is
    what the code computes whatever its settings say. credit, constant: of `MixedRisk`. Token ratios, token mean, the sample
    deviation of a set's bundles; but for 1e-6 in three denominators. Raises SpecError for settings out of range.
    """
    if not (0 < low < high and 0 <= mix < math.inf):
        raise SpecError(f"low={low}, high={high}, mix={mix}: give 0 < low < high <= 1 and a weight of at least 0")
    scale = 1 / ((high - low) * (mix + 1))
    risk = MixedRisk(low, high, mix * (high - low) / low - 1, quantiles, "bundle-std", scale, credit, "set", constant)
    return ObjectiveSpec("risk_po_released", risk, ClippedRatio(clip, clip), Ratio("token"), Aggregation("token-mean"))


def _with_partners(batch: TokenBatch) -> TokenBatch:
    """A second prompt whose answers stand still, right in every other place; each shares a bundle with one of the batch."""
    rows = len(batch.reward_B)
    both = batch.select(torch.arange(rows).repeat(2))
    partner = (torch.arange(rows) % 2 == 0).to(batch.reward_B)
    return replace(
        both,
        logp_BT=torch.cat([batch.logp_BT, batch.logp_old_BT.detach()]),
        reward_B=torch.cat([batch.reward_B, partner]),
        group_B=torch.cat([batch.group_B, batch.group_B + batch.group_B.max() + 1]),
        bundle_B=torch.arange(rows).repeat(2),
    )


_PARTNERS = Probe(("bundle_B",), "each answer is paid with that of another prompt, right in every other place", _with_partners)

register(
    Objective(
        "risk_po",
        risk_po,
        "Ren et al. 2025, arXiv 2510.00911",
        reward_degree=1,
        shift_invariant=True,
        variants={"lower tail alone": {"low": 0.4, "high": 0.5, "weight": 2.0}, "wide": {"clip_low": 0.04, "clip_high": 0.05}},
        probe=_PARTNERS,
    )
)
register(
    Objective(
        "risk_po_released",
        risk_po_released,
        "code of Ren et al. 2025, arXiv 2510.00911",
        variants={
            "easy data": {"high": 0.9, "credit": "std", "constant": True},
            "by score": {"credit": "score"},
            "uniform": {"credit": "uniform", "constant": True},
            "tracked": {"quantiles": (0.5, 1.5)},
        },
        probe=_PARTNERS,
    )
)


@dataclass(frozen=True)
class BelowBest:
    """The reward less the batch's largest: what the mixed value at risk makes of single answers with levels 0 and 1, w = 0."""

    def __call__(self, reward_B: Tensor, batch: TokenBatch) -> Tensor:
        return reward_B - reward_B[batch.mask_BT.any(1)].max()


class Tracked:
    """RiskPO along a run: bundles drawn for each batch, quantiles tracked, or those of each batch.

    size: prompts a bundle. plain: the objective. tracked: whether quantiles are tracked. rate: of the tracker.
    `fields` and `spec` are hooks of `banach.llm.testbeds.train`.
    """

    def __init__(self, size: int, plain: ObjectiveSpec, tracked: bool = True, rate: float = 0.1) -> None:
        self.size, self.plain, self.tracked, self.rate = size, plain, tracked, rate
        self.tracker: QuantileTracker | None = None

    def spec(self, step: Any) -> ObjectiveSpec:
        """The objective of a step, whose scores move the tracker first."""
        self.bundle_B = bundled(torch.tensor(np.asarray(step.groups, dtype=np.int64)), self.size, step.rng)
        if not self.tracked:
            return self.plain
        from ..testbeds.rollout import batch_of

        batch = batch_of(step.problem, step.sequences, step.groups, step.old_NV, step.old_NV, bundle_B=self.bundle_B)
        risk, scores = self.plain.advantage, bundle_scores(outcome(batch))
        assert isinstance(risk, MixedRisk)
        risk, self.tracker = followed(risk, self.tracker, scores, self.rate)
        return replace(self.plain, advantage=risk)

    def fields(self, step: Any) -> dict[str, Any]:
        """The bundles of a step."""
        return {"bundle_B": self.bundle_B}


def experiment(seeds: int = 10, tokens: int = 60_000) -> Comparison:
    """GRPO, Dr. GRPO, RiskPO of paper and code, bundles of 1 to 10, at equal samples and where rewards are equal.

    On twenty prompts that are right with probability .02 ... .98 at the start (`odds`), and on DigitChain (`digits`).
    """
    from ..testbeds.bench import DIGITS, digit_policies, digit_run, digits, odds, odds_policies, side_by_side
    from ..testbeds.comparison import compare

    testbeds = {"odds": (odds(), odds_policies(seeds), 0.75), "digits": (digits(), digit_policies(seeds), 0.6)}
    shared = {"prompts": 30, "group": 5, "rate": 1e-3}

    def both(make: Callable[[], tuple[Any, Any]], **more: Any) -> Callable[[int], Mapping[str, float]]:
        """make: of each run, the objective and the fields that it reads."""

        def on(name: str) -> Callable[[int], Mapping[str, float]]:
            problem, policies, level = testbeds[name]

            def run(seed: int) -> Mapping[str, float]:
                spec, fields = make()
                settings = shared | more
                found = digit_run(policies, spec, tokens, fields, problem=problem, level=level, **settings)(seed)
                return {key.replace(f" at {level:g}", " where equal"): x for key, x in found.items()}

            return run

        shown = ("reward", "pass@16", "entropy", "worst", "area")
        equal = ("entropy where equal", "worst where equal", "pass@16 where equal", "reached")
        return side_by_side({name: on(name) for name in testbeds}, (*shown, *equal))

    def risk(size: int, plain: ObjectiveSpec, tracked: bool = True, **more: Any) -> Callable[[int], Mapping[str, float]]:
        def make() -> tuple[Any, Any]:
            hooks = Tracked(size, plain, tracked)
            return hooks.spec, hooks.fields

        return both(make, **more)

    grpo, dr_grpo, dapo = objective("grpo", beta=0.0), objective("dr_grpo", budget=4), objective("dapo")
    paper, hard, easy = risk_po(), risk_po_released(), risk_po_released(high=0.9, credit="std", constant=True)
    sums = replace(paper, surrogate=ClippedRatio(0.2, 0.2), ratio=Ratio("token"), aggregation=dr_grpo.aggregation)
    parts: dict[str, Any] = {"minibatches": 4}
    methods = {
        "GRPO": both(lambda: (grpo, None)),
        "Dr. GRPO": both(lambda: (dr_grpo, None)),
        "DAPO": both(lambda: (dapo, None)),
    }
    methods |= {f"RiskPO, paper, B = {size}": risk(size, paper) for size in (1, 3, 5, 10)}
    methods |= {f"RiskPO, sums of tokens, B = {size}": risk(size, sums) for size in (1, 5)}
    methods |= {f"RiskPO, released, B = {size}": risk(size, hard, tracked=False) for size in (1, 5, 10)}
    methods |= {
        "RiskPO, released, easy data, B = 5": risk(5, easy, tracked=False),
        "GRPO, 4 minibatches": both(lambda: (grpo, None), **parts),
        "RiskPO, paper, B = 5, 4 minibatches": risk(5, paper, **parts),
    }
    return compare(
        "RiskPO against GRPO, equal sampled tokens, and where the reward first reaches 0.75 (odds) and 0.6 (digits)",
        methods,
        "GRPO",
        seeds,
        "python -m banach.llm.systems riskpo",
        {"tokens": tokens, **DIGITS, "testbed": "one_answer() (odds), digit_mixture(3, 2) (digits)", **shared},
    )


RISK_PO = add(
    System(
        name="riskpo",
        title="RiskPO: Risk-based Policy Optimization via Verifiable Reward for LLM Post-Training",
        authors="Ren, Jiang et al.",
        year=2025,
        arxiv="2510.00911",
        summary="bundles of answers, paid by a risk measure of their summed rewards that weighs the lower tail and "
        "ignores the top",
        optimizes="where answers are equally long and the quantiles right, the mixed value at risk of the bundles' summed "
        "rewards; else, by the audit, no scalar (20 % of the Jacobian antisymmetric): a mean over tokens weighs "
        "advantages that are at most zero by 1/|y|. Answers of bundles above the upper quantile teach nothing",
        objective="risk_po",
        parts=("risk_po", "risk_po_released", "MixedRisk", "QuantileTracker", "bundled"),
        reductions=(
            Reduction(
                "bundles of one answer, levels 0 and 1, w = 0: the reward less the largest",
                "reinforce",
                risk_po(low=1e-6, high=1.0, weight=0.0, clip_low=0.04, clip_high=0.05),
                objective(
                    "reinforce",
                    surrogate=ClippedRatio(0.04, 0.05),
                    ratio=Ratio("sequence-geometric"),
                    aggregation=Aggregation("sequence-mean-token-mean"),
                    rewards=(BelowBest(),),
                ),
                ("singleton bundles",),
            ),
        ),
        findings=(
            "The released code is not the paper: its w_mix = 1.5 is a weight 1 + w = 4.5 on the lower tail, over the "
            "sample deviation of a set's bundles, with token ratios; its script for hard data leaves the constant out and"
            " shares a bundle's advantage by reward less mean, which can push a right answer down 16-fold and a wrong one"
            " up.",
            "The quantiles that its script tracks never reach its advantage: it is computed before they are handed on, "
            "and takes the interpolated quantiles of the set's own G bundles (code at commit 65ec40c).",
            "For w >= 0 every advantage is at most zero; a constant added to it leaves the gradient of sums over tokens, "
            "and turns that of means over tokens, the published kind, wherever lengths differ.",
            "The functional is convex: mixing two policies never beats the better one, so the entropy that it keeps is "
            "transient.",
            "More entropy at equal samples is less reward: where rewards are equal, the paper's bundles have less entropy"
            " than GRPO (0.46 against 0.65 nats on DigitChain at reward 0.6), and no better worst prompts; so have its "
            "single answers (0.50), and not its sums over tokens.",
            "Theorem 2 holds for w = 0 where log pi rises with the reward; at the published w = .5 that is not enough "
            "(rewards 0, 1 with chances .15, .85: Cov(log pi, A) = .33 > .22; with five outcomes it fails for every drawn"
            " law), and answers in the tails that are likelier than average are. Where log pi falls it is reversed every "
            "time.",
            "Without bundles a hard question teaches nothing where all questions of the batch are that hard: rewards 0 "
            "and 1 with p < 1 - b have Q_a = Q_b = 0. Quantiles of a mixed batch hide it: there single answers learn as "
            "fast as GRPO.",
        ),
        published=(
            "DeepSeek-R1-Distill-Qwen-1.5B, six hard benchmarks: 46.65 (DAPO 43.87, GRPO 40.41), AIME24 33.3 (26.6)",
            "easy average 68.25 (67.55, 66.55); B = 1: 65.80, B = 10: 66.65; levels (.1, .8) 66.90, (.2, .9) 66.95; "
            "risk-seeking instead: MATH 54 (56)",
            "LiveCodeBench 26.8, Geometry3K 54.5; settings a = .2, b = .8, w = .5, B = 5, tracker's rate .1, learning "
            "rate 1e-6",
        ),
        measured="Bundles under the paper's objective learn more slowly, the larger the more, and the entropy they keep is "
        "that of having learnt less. At equal samples, on twenty prompts of odds .02 to .98 and on DigitChain, bundles of "
        "ten keep 0.05 and 0.39 nats (GRPO 0.02 and 0.15) and end at reward 0.90 and 0.65 (0.96 and 0.82); pass@16 is "
        "higher on DigitChain alone (0.96 against 0.84). Where rewards are equal (at 0.75 and 0.6, on the way; 1 and 2 "
        "of 10 runs of bundles of five and ten on DigitChain never come there, and are taken at their end) bundles of "
        "five have 0.25 and 0.46 nats, GRPO 0.28 and 0.65; single answers have 0.50 on DigitChain, too: it is the mean "
        "over tokens, and with sums the differences there are within their intervals. The worst fifth and pass@16 are "
        "nowhere better. Against the published order single answers learn faster than bundles. Four minibatches a batch"
        " change none of this on DigitChain; on the twenty prompts GRPO loses .06 by them and bundles of five nothing. "
        "The released code for hard data, B = 5, is within its intervals of GRPO (0.96 and 0.76), with B = 1 it loses "
        ".23 on DigitChain; that for easy data ends at 0.90 and 0.62. DAPO is as GRPO. No setting exceeds GRPO's "
        "reward; the published gain is not seen.",
        bounds=(
            "the mixed value at risk of a mixture is at most the mixture's",
            "bundling makes groups without signal rarer",
            "entropy falls more slowly where the likely answers are the better ones",
            "entropy falls more slowly where answers in the tails of the reward are likelier than average",
        ),
        experiment=experiment,
    )
)
