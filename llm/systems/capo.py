r"""CAPO: before a step is taken, the tokens are masked out whose own step would move objective or policy too far.

A mask stage in front of GRPO (or Dr. GRPO, or REINFORCE); the predicted shifts are those of `banach.llm.curvature`. The mean
over a sequence is over the tokens that are kept; a sequence that is emptied counts as a term of zero.

The printed guarantee, that steps with m_H >= omega + M r^2 / 2 improve the objective by omega - C sqrt(delta_F), fails for
large steps already for two arms: see the catalogue's findings. What does hold: where M bounds the Hessian on the ball of radius
r, m_H >= omega + M r^2 implies an improvement of omega, without any surrogate, for the true gain is at least
<g, D> - M r^2 / 2 and m_H at most <g, D> + M r^2 / 2.

Melo, Abate and Gal 2025, arXiv 2510.00819.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import torch

from ..advantage import GroupAdvantage
from ..aggregation import Aggregation
from ..batch import TokenBatch
from ..catalogue import Objective, Probe, objective, register
from ..curvature import AdamStep, CurvatureFilter, Moments, SGDStep, StepModel, last_layer_gradient, quantiles, shifts
from ..errors import SpecError
from ..objective import ObjectiveSpec
from ..outcome import outcome
from ..plan import Plan
from ..ratio import Ratio
from ..surrogate import ClippedRatio
from .system import Reduction, System, add

if TYPE_CHECKING:
    from ..testbeds.comparison import Comparison


def capo(
    step: StepModel,
    curvature: float = 1e-2,
    shift: float = 1e-4,
    base: Literal["grpo", "dr_grpo", "reinforce"] = "grpo",
    budget: int | None = None,
    least: float | None = None,
    low: float = 0.2,
    high: float = 0.2,
    ddof: Literal[0, 1] = 1,
    epsilon: float = 0.0,
    group_size: int | None = None,
) -> ObjectiveSpec:
    """The clipped surrogate with a curvature mask. step: model of the optimiser. curvature, shift, least: of `CurvatureFilter`.

    base: grpo (published as CAPO), dr_grpo (Dr.CAPO, needs the budget of tokens) or reinforce (ReinCAPO, rewards as they are).
    Raises SpecError for an unknown base or a budget that is missing.
    """
    if base not in ("grpo", "dr_grpo", "reinforce"):
        raise SpecError(f"base={base!r}; give grpo, dr_grpo or reinforce")
    aggregation = Aggregation("sequence-mean-token-mean", over="kept-tokens")
    advantage = GroupAdvantage("none") if base == "reinforce" else GroupAdvantage("group-mean", group_size=group_size)
    if base == "grpo":
        advantage = GroupAdvantage("group-mean", "group-std", ddof, epsilon, group_size=group_size)
    if base == "dr_grpo":
        if budget is None:
            raise SpecError("base='dr_grpo' divides by the generation budget: give budget, in tokens, fixed for the whole run")
        aggregation = Aggregation("sequence-mean-token-sum-constant", constant=budget, over="policy")
    return ObjectiveSpec(
        "capo",
        advantage,
        ClippedRatio(low, high),
        Ratio("token"),
        aggregation,
        filters=(CurvatureFilter(step, curvature, shift, least),),
    )


_OPEN: dict[str, Any] = {"curvature": float("inf"), "shift": float("inf")}
_COARSE: dict[str, Any] = {"curvature": 0.3, "shift": 0.05}


def _short_states(batch: TokenBatch) -> TokenBatch:
    return replace(batch, hidden_BTD=batch.logp_old_BT.new_full((*batch.logp_old_BT.shape, 1), 0.1**0.5))


register(
    Objective(
        "capo",
        capo,
        "Melo, Abate and Gal 2025, arXiv 2510.00819",
        shift_invariant=True,
        example={"step": SGDStep(0.2)},
        variants={
            "coarse": _COARSE,
            "Dr. GRPO": {"base": "dr_grpo", "budget": 4, **_COARSE},
            "bounded below": {"least": 0.0, **_COARSE},
        },
        probe=Probe(("hidden_BTD",), "hidden states have a squared length of 1/10", _short_states),
    )
)


class Calibrated:
    """CAPO along a run: thresholds at a quantile of the first steps' shifts, Adam's moments moved by what is kept.

    rate: of the optimiser. level: the share of tokens to keep, taken over the first `warm` steps that have advantages, which
    mask nothing. `plan` is a hook of `banach.llm.testbeds.train`; `kept` counts tokens that were kept and seen.
    """

    def __init__(self, rate: float, level: float = 0.9, warm: int = 5, **settings: float) -> None:
        self.moments, self.level, self.warm, self.settings = Moments(), level, warm, settings
        self.step = AdamStep(rate, self.moments)
        self.seen: list[tuple[float, float]] = []
        self.kept, self.total = 0, 0

    def spec(self) -> ObjectiveSpec:
        """The objective of the next step."""
        if len(self.seen) < self.warm:
            return capo(self.step, **_OPEN)
        found = [sum(x) / len(x) for x in zip(*self.seen, strict=True)]
        return capo(self.step, found[0], found[1])

    def plan(self, planned: Plan) -> Plan:
        """Take note of a plan: shifts while calibrating, moments always."""
        live = planned.advantage_BT != 0
        if len(self.seen) < self.warm and self.step.ready() and live.any():
            self.seen.append(quantiles(self.step, outcome(planned.batch), planned.advantage_BT, self.level))
        self.kept += int((planned.mask_BT & live).sum())
        self.total += int((planned.batch.mask_BT & live).sum())
        if planned.mask_BT.any():
            self.moments.update(last_layer_gradient(planned))
        return planned


def experiment(seeds: int = 5, tokens: int = 8_000) -> Comparison:
    """Rates 1x, 5x and 20x, batches whole and an eighth: who collapses, and how far does the worst step go? A transformer on
    DigitChain, Adam. Of GRPO and CAPO also the rank correlation of predicted and realised shifts.
    """
    from ..testbeds.bench import DIGITS, digit_policies, side_by_side, stability_run
    from ..testbeds.comparison import compare

    policies = digit_policies(seeds, right=0.7)
    corners = {"1x": (1e-3, 8), "5x": (5e-3, 8), "20x": (2e-2, 8), "20x, small": (2e-2, 1)}

    def plain(spec: ObjectiveSpec, epochs: int = 1):
        def at(rate: float, prompts: int):
            more = {"rate": rate, "prompts": prompts, "epochs": epochs}
            return lambda seed: stability_run(policies, spec, tokens, _anchored(policies, seed), **more)(seed)

        runs = {where: at(rate, n) for where, (rate, n) in corners.items()}
        return side_by_side(runs, ("reward", "area", "collapsed", "spike"))

    def predicting(masks: bool):
        def at(rate: float, prompts: int):
            return lambda seed: _capo_run(policies, rate, prompts, tokens, seed, masks)

        runs = {where: at(rate, n) for where, (rate, n) in corners.items()}
        return side_by_side(runs, ("reward", "area", "collapsed", "spike", "rank", *(("rejected",) if masks else ())))

    methods = {
        "GRPO": predicting(masks=False),
        "GRPO, clip 0.02, 2 epochs": plain(objective("grpo", beta=0.0, low=0.02, high=0.02), 2),
        **{f"GRPO, KL to the start {beta:g}": plain(objective("grpo", beta=beta)) for beta in (0.01, 1.0)},
        "CAPO": predicting(masks=True),
    }
    return compare(
        "CAPO against GRPO at large rates and small batches, equal sampled tokens",
        methods,
        "GRPO",
        seeds,
        "python -m banach.llm.systems capo",
        {"tokens": tokens, "rates": "1e-3, 5e-3, 2e-2, 2e-2", "prompts a step": "8, 8, 8, 1", "level": 0.9, **DIGITS},
    )


def _anchored(policies: Callable[[int], Any], seed: int) -> Callable[[Any], dict[str, torch.Tensor]]:
    """Log-probabilities under the initial policy, for objectives that keep near it."""
    from ..testbeds.rollout import token_table

    start = policies(seed).log_policy().detach()
    return lambda step: {"logp_ref_BT": token_table(step.problem, start, step.sequences)}


def _capo_run(policies, rate: float, prompts: int, tokens: int, seed: int, masks: bool) -> dict[str, float]:
    """A run of CAPO, or of GRPO with CAPO's predictions beside it."""
    from ..testbeds.bench import ShiftWatch, curvature_fields, stability_run

    run, watch = Calibrated(rate), ShiftWatch()

    def replan(step: Any, planned: Plan) -> Plan:
        live_BT = planned.mask_BT & (planned.advantage_BT != 0)
        if run.step.ready() and live_BT.any():
            _, m_F = shifts(run.step, outcome(planned.batch), planned.advantage_BT)
            nodes = step.problem.node[step.sequences][live_BT.numpy()]
            watch.predict(nodes, m_F[live_BT[planned.batch.mask_BT]].numpy())
        return run.plan(planned)

    found = stability_run(
        policies,
        (lambda _: run.spec()) if masks else objective("grpo", beta=0.0),
        tokens,
        dress=curvature_fields,
        replan=replan,
        watch=lambda: watch,
        rate=rate,
        prompts=prompts,
    )(seed)
    return dict(found) | {"rejected": 1 - run.kept / max(run.total, 1)}


CAPO = add(
    System(
        name="capo",
        title="Stabilizing Policy Gradients for Sample-Efficient Reinforcement Learning in LLM Reasoning",
        authors="Melo, Abate, Gal",
        year=2025,
        arxiv="2510.00819",
        summary="masks the tokens whose own predicted step would change objective or policy too much",
        optimizes="what its base optimizes, on the tokens that are kept; a mask that looks at the advantage is a bias: a "
        "sequence's score weights move by twice its rejected share times |A|, in sum, for those that are kept grow by what is "
        "lost (once with base dr_grpo, or where nothing is kept)",
        objective="capo",
        parts=("capo", "CurvatureFilter", "SGDStep", "AdamStep", "Moments"),
        reductions=(
            Reduction("thresholds at infinity", "grpo", capo(SGDStep(0.2), **_OPEN), objective("grpo", beta=0.0)),
            Reduction(
                "thresholds at infinity, base dr_grpo",
                "dr_grpo",
                capo(SGDStep(0.2), base="dr_grpo", budget=7, **_OPEN),
                objective("dr_grpo", budget=7),
            ),
            Reduction(
                "thresholds at infinity, base reinforce",
                "reinforce",
                capo(SGDStep(0.2), base="reinforce", **_OPEN),
                objective(
                    "reinforce",
                    surrogate=ClippedRatio(0.2, 0.2),
                    ratio=Ratio("token"),
                    aggregation=Aggregation("sequence-mean-token-mean"),
                ),
            ),
        ),
        findings=(
            "The printed monotonicity theorem (5.1) fails with Taylor models and large steps: J = sigmoid(x) at x = ln(2 "
            "- sqrt 3), "
            "M = 1/(6 sqrt 3), a step of 10: m_H = 6.478 = omega + M r^2/2 with omega = 1.667, true gain 0.7885 < omega. With "
            "delta_H = omega + M r^2 it holds.",
            "The model Hessian is block diagonal: reward 1 iff two independent actions are right has cross second "
            "derivative 1/16 "
            "at zero logits; the model's is 0.",
            "Averaging kept steps loses up to M r^2/2 of m_H: g = 0, H = M I, steps D and -D.",
        ),
        published=(
            "Qwen2.5-Math-7B, MATH: 30 times fewer completions than conservative GRPO, 8 % of tokens rejected at the peak, "
            "under 3 % overhead",
        ),
        measured="GRPO does collapse here at 20 times the rate, in one run of five, in two with one prompt a step; at 1 and 5 "
        "times nobody does. Masking the tenth of the tokens with the largest shifts (thresholds at the 90 % quantile of the "
        "first five steps, 1 to 9 % rejected) does not prevent it: one and two of five again. A KL penalty of 0.01 to the "
        "start leaves none and one of five, one of 1 one and none. None of these counts differs from GRPO's beyond the "
        "interval of five seeds. Within a step the shifts that the model predicts and those that are found are correlated in "
        "rank, 0.35 to 0.6; yet the largest KL of a step is no smaller (7.8 against 8.9 nats at 20 times, within the noise). "
        "The published benefit is not seen at this size.",
        bounds=(
            "a divergence is half a variance up to a third of its order",
            "a step certificate from curvature on a ball",
            "performance differs by a surrogate less a root of a divergence",
        ),
        experiment=experiment,
    )
)
