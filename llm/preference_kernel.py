r"""The one kernel of every preference objective.

For a spec (a sum of terms, see `preference_spec`) and a batch, `evaluate_preference` returns

    loss       minimised; differentiable in the log-probabilities of the batch
    weights    of each sequence, w(y) = -d loss / d log pi(y) in closed form, so that grad(-loss) = sum_y w(y) grad log pi(y)

The weights come from the slopes f' written out by hand, the loss from the values f: two routes to one gradient, which the tests
hold together. A loss depends on the tokens of a sequence through their sum only, so each token of y carries the weight w(y).

Diagnostics are means over the pairs (of a slice of a plan: its part of the mean of the whole batch):

    accuracy              how often the margin has the sign of the label (a tie counts half)
    margin                m in the label's direction
    chosen_logp, rejected_logp                mean log pi
    chosen_log_ratio, rejected_log_ratio      mean log pi/q, where the batch has a reference
    saturated             share of pairs where f is flat: its slope is under one per cent of the steepest, both ways
    chosen_raised         share of pairs whose own weight on the chosen sequence is positive
    net_weight            sum of all weights: 0 for a pure contrast of sums, which leaves the common level of a pair to chance
    centre                KTO's z

Margins and saturation are those of the first pairwise term, or of the first term where there is none.
For single sequences accuracy and margin read the centred score as the margin; chosen and rejected are the desirable and the
undesirable ones. Whether log pi(chosen) rises at all depends on the model: see `likelihood_displacement`.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from .errors import BatchError, SpecError
from .evaluation import Evaluation
from .pair_batch import PairBatch, PreferenceBatch, Sequences
from .preference_plan import PreferencePlan, TermPlan, plan_preference, score
from .preference_spec import GradientTerm, PairTerm, PointTerm, PreferenceSpec, Term

SATURATED = 0.01
"""A pair is saturated where the slope of its link is below this share of the steepest."""


def evaluate_preference(spec: PreferenceSpec, batch: PreferenceBatch, plan: PreferencePlan | None = None) -> Evaluation:
    """Loss, score weights and diagnostics of `spec` on `batch`.

    plan: the rows of a plan of a larger batch that `batch` is a slice of; None: the batch is whole and is planned here.
    The loss has shape (); weight_chosen_B and weight_rejected_B have shape (B,), for a `SingleBatch` all weights are
    weight_chosen_B and weight_rejected_B is None; spread them over tokens with `per_token`.
    Raises BatchError when the batch does not fit the spec (see `plan_preference`) or the plan is of another spec or size.
    """
    plan = plan_preference(spec, batch) if plan is None else plan
    if plan.spec != spec or plan.share_B.shape != batch.sides[0].logp_B.shape:
        raise BatchError(
            f"the plan is of {plan.spec.name} on {len(plan.share_B)} rows, the request of {spec.name} on "
            f"{len(batch.sides[0].logp_B)}; cut the plan and the batch with the same rows"
        )
    parts = [_evaluate_term(term, constants, batch) for term, constants in zip(spec.terms, plan.terms, strict=True)]
    loss = torch.stack([part[0] for part in parts]).sum()
    weights = [torch.stack(of_side).sum(0) for of_side in zip(*(part[1] for part in parts), strict=True)]
    return Evaluation(
        loss=loss,
        weight_chosen_B=weights[0],
        weight_rejected_B=weights[1] if len(weights) == 2 else None,
        diagnostics=_diagnostics(spec, batch, plan, weights),
    )


def per_token(weight_B: Tensor, mask_BT: Tensor) -> Tensor:
    """The score weight of each token, (B, T): w(y) on the tokens of y that mask_BT, (B, T) bool, marks, and 0 elsewhere."""
    return weight_B[:, None] * mask_BT


def as_preference_loss(
    spec: PreferenceSpec, rewards: tuple[float, float] | None = None
) -> Callable[[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]:
    """`loss(logp_chosen_B, logp_rejected_B, ref_chosen_B, ref_rejected_B, length_chosen_B, length_rejected_B) -> ()`.

    Labels are hard. The signature knows one reference, which stands for the previous iterate too, as when self-play begins.
    rewards: of every chosen and every rejected sequence, for a spec that regresses on rewards.
    Raises SpecError when the spec uses rewards that are not given, win rates or mismatched sequences, which the signature does
    not carry.
    """
    lacking = spec.uses & ({"win", "mismatched"} | ({"reward"} if rewards is None else set()))
    if lacking:
        raise SpecError(f"{spec.name} uses {sorted(lacking)}, which pairs of log-probabilities do not carry; use a PairBatch")

    def loss(
        logp_chosen_B: Tensor,
        logp_rejected_B: Tensor,
        ref_chosen_B: Tensor,
        ref_rejected_B: Tensor,
        length_chosen_B: Tensor,
        length_rejected_B: Tensor,
    ) -> Tensor:
        paid = [None, None] if rewards is None else [torch.full_like(ref_chosen_B, reward) for reward in rewards]
        chosen = Sequences(logp_chosen_B, length_chosen_B, ref_chosen_B, ref_chosen_B, reward_B=paid[0])
        rejected = Sequences(logp_rejected_B, length_rejected_B, ref_rejected_B, ref_rejected_B, reward_B=paid[1])
        return evaluate_preference(spec, PairBatch(chosen, rejected)).loss

    return loss


def _evaluate_term(term: Term, plan: TermPlan, batch: PreferenceBatch) -> tuple[Tensor, tuple[Tensor, ...]]:
    """The loss of the slice, of shape (), and for each side the score weights, (B,)."""
    if isinstance(term, GradientTerm):
        return _evaluate_gradient(term, plan, batch)
    scores = [score(term.score, side) for side in batch.sides]
    if isinstance(term, PairTerm):
        (first_B, first_slope_B), (second_B, second_slope_B) = scores
        loss, pull_B = _pull(term, plan, 0, first_B - second_B)
        return loss, (pull_B * first_slope_B, -pull_B * second_slope_B)
    centred = [score_B if plan.centre is None else score_B - plan.centre for score_B, _ in scores]
    parts = [_pull(term, plan, k, u_B) for k, u_B in enumerate(centred)]
    loss = torch.stack([part[0] for part in parts]).sum()
    return loss, tuple(pull_B * slope_B for (_, pull_B), (_, slope_B) in zip(parts, scores, strict=True))


def _pull(term: PairTerm | PointTerm, plan: TermPlan, k: int, u_B: Tensor) -> tuple[Tensor, Tensor]:
    """sum toward f(u) + away f(-u) and, (B,), minus its derivative by u."""
    toward_B, away_B, target_B, link = plan.toward[k], plan.away[k], plan.target[k], term.link
    loss_B = toward_B * link.value(u_B, target_B) + away_B * link.value(-u_B, target_B)
    u_B = u_B.detach()
    pull_B = away_B * link.slope(-u_B, target_B) - toward_B * link.slope(u_B, target_B)
    return loss_B.sum(), pull_B


def _evaluate_gradient(term: GradientTerm, plan: TermPlan, batch: PreferenceBatch) -> tuple[Tensor, tuple[Tensor, ...]]:
    first = batch.sides[0]
    (excess_B,) = plan.target
    assert excess_B is not None
    advantage_B = excess_B - term.temperature * score(term.score, first)[0].detach()
    weight_B = plan.toward[0] * advantage_B
    return -(weight_B * first.logp_B).sum(), (weight_B, torch.zeros_like(weight_B))


def _diagnostics(spec: PreferenceSpec, batch: PreferenceBatch, plan: PreferencePlan, weights: list[Tensor]) -> dict[str, float]:
    main = next((k for k, term in enumerate(spec.terms) if isinstance(term, PairTerm)), 0)
    term, constants, share_B = spec.terms[main], plan.terms[main], plan.share_B
    with torch.no_grad():
        scores = [score(term.score, side)[0] for side in batch.sides]
        centred = scores if constants.centre is None else [score_B - constants.centre for score_B in scores]
        margin_B = scores[0] - scores[1] if len(scores) == 2 else centred[0]
        signed_B = (2 * batch.verdicts[0] - 1) * share_B
        found = {
            "accuracy": 0.5 * (share_B + signed_B * margin_B.sign()).sum(),
            "margin": (signed_B * margin_B).sum(),
            "chosen_raised": (share_B * (weights[0] > 0)).sum(),
            "net_weight": torch.stack([weight_B.sum() for weight_B in weights]).sum(),
        }
        for name, side, part_B in zip(("chosen", "rejected"), (batch.sides[0], batch.sides[-1]), plan.roles, strict=True):
            found[f"{name}_logp"] = (part_B * side.logp_B).sum()
            if side.ref_B is not None:
                found[f"{name}_log_ratio"] = (part_B * (side.logp_B - side.ref_B)).sum()
        if not isinstance(term, GradientTerm):
            found["saturated"] = _saturated(term, constants, [margin_B] if isinstance(term, PairTerm) else centred, share_B)
        if constants.centre is not None:
            found["centre"] = constants.centre
        return dict(zip(found, torch.stack(list(found.values())).tolist(), strict=True))  # one transfer for all


def _saturated(term: PairTerm | PointTerm, plan: TermPlan, of: list[Tensor], share_B: Tensor) -> Tensor:
    """The part of the batch, of shape (), where the link is flat in every direction that the label asks for."""
    link = term.link
    if math.isinf(link.reach):
        return torch.zeros_like(share_B.sum())
    flat = []
    for toward_B, away_B, u_B in zip(plan.toward, plan.away, of, strict=True):
        pull_B = toward_B.abs() * link.slope(u_B).abs() + away_B.abs() * link.slope(-u_B).abs()
        flat.append((share_B * (pull_B < SATURATED * link.reach * torch.maximum(toward_B.abs(), away_B.abs()))).sum())
    return torch.stack(flat).mean()
