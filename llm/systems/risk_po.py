r"""RiskPO: bundles of answers, paid by the mixed value at risk of their summed rewards.

The advantage is that of `banach.llm.bundles`, the ratio the geometric mean of a sequence. `risk_po` is the paper's objective,
`risk_po_released` the released code's:

    A = [ m * (-(Q_a - R)^+) / a + (clip(R, Q_a, Q_b) - Q_b) / (b - a) ] / ((m + 1) std(R)),

that is the mixed value at risk with 1 + w = m (b - a)/a (m = 1.5: 4.5, not the paper's 1.5), scaled, over the bundles' standard
deviation, with token ratios.

For w >= 0 the functional is convex in the outcome's distribution: no mixture of policies beats the better one, unregularised
optima are deterministic, and what entropy it keeps it keeps on the way. In a tabular softmax step eta,
dH/d eta = -Cov(log pi, A).

Ren et al. 2025, arXiv 2510.00911.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor

from ..aggregation import Aggregation
from ..batch import TokenBatch
from ..bundles import MixedRisk, QuantileTracker, bundle_scores, bundled
from ..catalogue import Objective, Probe, objective, register
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
    clip: float = 0.2,
) -> ObjectiveSpec:
    """The released code's objective. mix: weight of the tail's mean beside the range's. credit: of `MixedRisk` (`std` in the
    script for easy data). Token ratios, the deviation of bundles, token mean.
    """
    scale = 1 / ((high - low) * (mix + 1))
    return ObjectiveSpec(
        "risk_po_released",
        MixedRisk(low, high, mix * (high - low) / low - 1, quantiles, "bundle-std", scale, credit),
        ClippedRatio(clip, clip),
        Ratio("token"),
        Aggregation("token-mean"),
    )


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
            "easy data": {"credit": "std"},
            "by score": {"credit": "score"},
            "uniform": {"credit": "uniform"},
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

    size: prompts a bundle. tracked: whether quantiles are tracked. released: the released code's objective.
    `fields` and `spec` are hooks of `banach.llm.testbeds.train`.
    """

    def __init__(self, size: int, tracked: bool = True, released: bool = False, rate: float = 0.1, **settings: Any) -> None:
        self.size, self.tracked, self.settings, self.rate = size, tracked, settings, rate
        self.make = risk_po_released if released else risk_po
        self.levels = (settings.get("low", 0.2), settings.get("high", 0.8))
        self.tracker: QuantileTracker | None = None

    def spec(self, step: Any) -> ObjectiveSpec:
        """The objective of a step, whose scores move the tracker first."""
        self.bundle_B = bundled(torch.tensor(np.asarray(step.groups, dtype=np.int64)), self.size, step.rng)
        if not self.tracked:
            return self.make(**self.settings)
        from ..testbeds.rollout import batch_of

        batch = batch_of(step.problem, step.sequences, step.groups, step.old_NV, step.old_NV, bundle_B=self.bundle_B)
        scores = bundle_scores(outcome(batch))
        known = QuantileTracker.started(self.levels, scores, self.rate) if self.tracker is None else self.tracker
        self.tracker = known.updated(scores)
        low, high = self.tracker.values
        return self.make(quantiles=(min(low, high), high), **self.settings)

    def fields(self, step: Any) -> dict[str, Any]:
        """The bundles of a step."""
        return {"bundle_B": self.bundle_B}


def experiment(seeds: int = 5, tokens: int = 12_000) -> Comparison:
    """GRPO, Dr. GRPO, RiskPO of paper and code, bundles of 1 and 5, on DigitChain at equal sampled tokens."""
    from ..testbeds.bench import DIGITS, digit_policies, digit_run
    from ..testbeds.comparison import compare

    policies = digit_policies(seeds, right=0.7)

    def risk(size: int, **settings: Any):
        def run(seed: int):
            hooks = Tracked(size, **settings)
            return digit_run(policies, hooks.spec, tokens, hooks.fields, prompts=10, rate=2e-3)(seed)

        return run

    methods = {
        "GRPO": digit_run(policies, objective("grpo", beta=0.0), tokens, prompts=10, rate=2e-3),
        "Dr. GRPO": digit_run(policies, objective("dr_grpo", budget=4), tokens, prompts=10, rate=2e-3),
        "RiskPO, paper, B = 1": risk(1),
        "RiskPO, paper, B = 5": risk(5),
        "RiskPO, released, B = 1": risk(1, released=True, credit="uniform"),
        "RiskPO, released, B = 5": risk(5, released=True, credit="uniform"),
        "RiskPO, released, B = 5, sum-mean": risk(5, released=True),
    }
    return compare(
        "RiskPO against GRPO on DigitChain, equal sampled tokens",
        methods,
        "GRPO",
        seeds,
        "python -m banach.llm.systems riskpo",
        {"tokens": tokens, "rate": 2e-3, **DIGITS, "prompts": 10},
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
        optimizes="the mixed value at risk of the bundles' summed rewards where the quantiles are right; never a success "
        "rate: its "
        "advantages are at most zero, and answers of bundles above the upper quantile teach nothing",
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
            "The released code is not the paper: its w_mix = 1.5 is a weight 1 + w = 4.5 on the lower tail, over the bundles' "
            "deviation, with token ratios.",
            "Every advantage is at most zero for w >= 0; a constant added to it leaves the exact gradient and changes the "
            "clipped "
            "loss.",
            "The functional is convex: mixing two policies never beats the better one, so the entropy that it keeps is "
            "transient.",
            "Theorem 2 needs log pi to rise with the reward: where it falls, Cov(log pi, A) is larger than the mean's, "
            "every time.",
            "Without bundles a hard question teaches nothing: rewards 0 and 1 with p < 1 - b have Q_a = Q_b = 0.",
        ),
        published=(
            "DeepSeek-R1-Distill-Qwen-1.5B, six hard benchmarks: 46.65 (DAPO 43.87, GRPO 40.41)",
            "easy average 68.25 (67.55, 66.55); B = 1: 65.80, B = 10: 66.65",
        ),
        measured="Bundles of five keep entropy (0.45 against 0.20 nats), raise pass@16 to 0.998 and the worst fifth of "
        "the prompts "
        "from 0.01 to 0.32, and cost 20 points of reward at equal samples: they slow learning. Single answers learn as fast as "
        "GRPO; sum-mean credit loses both. The published gain in reward is not seen.",
        bounds=(
            "the mixed value at risk of a mixture is at most the mixture's",
            "bundling makes groups without signal rarer",
            "entropy falls more slowly where the likely answers are the better ones",
        ),
        experiment=experiment,
    )
)
