# ruff: noqa: N815 - names carry their shapes
r"""Everything about a preference loss that couples the pairs of a batch, computed once on the whole batch.

A loss is a mean, so each pair's share depends on the whole batch; so do KTO's centre z and the token count of a mean over
tokens. `plan_preference` computes them, and with them every coefficient of

    sum_i  toward_i f(u_i) + away_i f(-u_i),        u the margin of a pair or the centred score of a sequence.

Given the plan the loss is a plain sum over pairs: the losses, score weights and diagnostics of the slices of a plan add up to
those of the whole, whichever way the batch is cut into microbatches or shards.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .errors import BatchError
from .pair_batch import PairBatch, PreferenceBatch, Sequences, refuse
from .preference_spec import PairTerm, PointTerm, PreferenceSpec, Score, Term

ROUNDING = 1e-4
"""Log-probabilities above zero by no more than this many nats are rounding; more is an error of the caller."""


@dataclass(frozen=True, eq=False)
class TermPlan:
    """The constants of one term, tensors of shape (B,): one entry of each tuple for each `u` of the term.

    toward, away: coefficients of f(u) and of f(-u). target: what replaces the link's target, or None. centre: z, of shape (),
        or None.
    """

    toward: tuple[Tensor, ...]
    away: tuple[Tensor, ...]
    target: tuple[Tensor | None, ...]
    centre: Tensor | None = None

    def rows(self, index: Tensor | slice) -> "TermPlan":
        """The constants of the pairs that `index` picks, a slice or an integer tensor of shape (any number of,)."""
        return replace(
            self,
            toward=tuple(value[index] for value in self.toward),
            away=tuple(value[index] for value in self.away),
            target=tuple(None if value is None else value[index] for value in self.target),
        )


@dataclass(frozen=True, eq=False)
class PreferencePlan:
    """The constants of a whole batch under a spec, tensors of shape (B,).

    share_B: how much each pair counts; adds up to 1. terms: one `TermPlan` a term. roles: the same shares among the chosen and
    among the rejected; for single sequences, among the desirable and the undesirable ones.
    """

    spec: PreferenceSpec
    share_B: Tensor
    terms: tuple[TermPlan, ...]
    roles: tuple[Tensor, Tensor]

    def rows(self, index: Tensor | slice) -> "PreferencePlan":
        """The plan of the pairs that `index` picks, a slice or an integer tensor of shape (any number of,)."""
        return PreferencePlan(
            spec=self.spec,
            share_B=self.share_B[index],
            terms=tuple(term.rows(index) for term in self.terms),
            roles=(self.roles[0][index], self.roles[1][index]),
        )


def plan_preference(spec: PreferenceSpec, batch: PreferenceBatch) -> PreferencePlan:
    """The constants of `batch`, of shape (B,) each, detached from the graph.

    Raises BatchError when the batch lacks what the spec uses, a log-probability is positive, a sequence that should become
    less likely has probability one under log-odds, pairs are needed and there are none, or no pair counts.
    """
    _require_fields(spec, batch)
    weight_B = torch.ones_like(batch.sides[0].logp_B.detach()) if batch.weight_B is None else batch.weight_B
    total = weight_B.sum()
    if not total > 0:
        raise BatchError("every weight of the batch is zero, and a mean over nothing does not exist")
    share_B = weight_B / total
    terms = tuple(_plan_term(term, batch, share_B) for term in spec.terms)
    if isinstance(batch, PairBatch):
        return PreferencePlan(spec, share_B, terms, (share_B, share_B))
    desirable_B = share_B * batch.desirable_B
    return PreferencePlan(spec, share_B, terms, (_shares(desirable_B), _shares(share_B - desirable_B)))


def score(setting: Score, side: Sequences) -> tuple[Tensor, Tensor]:
    """s(y) and its derivative by the summed log pi(y), each (B,); the derivative is detached.

    Log-odds treat a probability within machine precision of one as that precision below one: the value is then finite, and the
    score weight of a chosen sequence tends to its finite limit.
    """
    score_B = side.logp_B
    if setting.reference:
        score_B = score_B - setting.reference * _held(side.ref_B)
    if setting.previous:
        score_B = score_B - setting.previous * _held(side.previous_B)
    slope_B = torch.ones_like(score_B.detach())
    if setting.normalised:
        score_B, slope_B = score_B / _held(side.length_B), slope_B / _held(side.length_B)
    if setting.odds:
        edge_B = score_B.detach().clamp(max=-torch.finfo(score_B.dtype).eps)
        score_B = edge_B + (score_B - score_B.detach())
        slope_B = slope_B / -torch.expm1(edge_B)
        score_B = score_B - log1mexp(score_B)
    return score_B, slope_B


def log1mexp(x: Tensor) -> Tensor:
    """log(1 - e^x) for x < 0, any shape, to full precision on both sides of -log 2 (Maechler 2012)."""
    near = x > -0.6931471805599453
    # each branch sees only arguments on which it and its derivative are finite
    close, far = torch.where(near, x, -1.0), torch.where(near, -1.0, x)
    return torch.where(near, torch.log(-torch.expm1(close)), torch.log1p(-torch.exp(far)))


def _shares(weight_B: Tensor) -> Tensor:
    total = weight_B.sum()
    return weight_B / torch.where(total > 0, total, 1)


def _plan_term(term: Term, batch: PreferenceBatch, share_B: Tensor) -> TermPlan:
    if isinstance(term, PairTerm):
        return _plan_pairs(term, batch, share_B)
    if isinstance(term, PointTerm):
        return _plan_points(term, batch, share_B)
    first = term.weight * share_B
    return TermPlan((first,), (torch.zeros_like(first),), (batch.verdicts[0] - 0.5,))


def _plan_pairs(term: PairTerm, batch: PreferenceBatch, share_B: Tensor) -> TermPlan:
    label_B, target_B, noise = batch.verdicts[0], None, term.noise
    better_B = (label_B - noise) / (1 - 2 * noise) if term.unflip else (1 - 2 * noise) * label_B + noise
    worse_B = 1 - better_B
    if term.regress is not None:
        first, second = (_held(side.reward_B) for side in batch.sides)
        target_B = (first - second) / term.regress
        better_B, worse_B = torch.ones_like(label_B), torch.zeros_like(label_B)
    return TermPlan((term.weight * share_B * better_B,), (term.weight * share_B * worse_B,), (target_B,))


def _plan_points(term: PointTerm, batch: PreferenceBatch, share_B: Tensor) -> TermPlan:
    count = len(batch.sides)
    toward = [term.desirable * verdict_B for verdict_B in batch.verdicts]
    away = [term.undesirable * (1 - verdict_B) for verdict_B in batch.verdicts]
    target: tuple[Tensor | None, ...] = (None,) * count
    if term.regress is not None:
        target = tuple(term.regress * (_held(side.win_B) - 0.5) for side in batch.sides)
        toward, away = [torch.ones_like(share_B)] * count, [torch.zeros_like(share_B)] * count
    unit = [term.weight * share_B] * count
    if term.average == "sequences":
        unit = [unit_B / count for unit_B in unit]
    if term.average == "tokens":
        length = [_held(side.length_B) for side in batch.sides]
        counts = [v * (term.desirable > 0) + (1 - v) * (term.undesirable > 0) for v in batch.verdicts]
        tokens = torch.stack([(share_B * n * c).sum() for n, c in zip(length, counts, strict=True)]).sum()
        unit = [unit_B * n / torch.where(tokens > 0, tokens, 1) for unit_B, n in zip(unit, length, strict=True)]
    centre = None if term.centre == "zero" else _centre(term, batch, share_B)
    return TermPlan(
        tuple(unit_B * t for unit_B, t in zip(unit, toward, strict=True)),
        tuple(unit_B * a for unit_B, a in zip(unit, away, strict=True)),
        target,
        centre,
    )


def _centre(term: PointTerm, batch: PreferenceBatch, share_B: Tensor) -> Tensor:
    if term.centre == "mismatched":
        return _held(batch.log_ratio_mismatched_M).mean().clamp(min=0)
    scores = [score(term.score, side)[0].detach() for side in batch.sides]
    return torch.stack([(share_B * score_B).sum() for score_B in scores]).mean().clamp(min=0)


def _held(value: Tensor | None) -> Tensor:
    """`value`, which `_require_fields` has found in the batch."""
    assert value is not None
    return value


FIELD = {"reference": "ref_B", "previous": "previous_B", "length": "length_B", "win": "win_B", "reward": "reward_B"}


def _require_fields(spec: PreferenceSpec, batch: PreferenceBatch) -> None:
    for use in sorted(spec.uses):
        if use == "mismatched":
            if batch.log_ratio_mismatched_M is None:
                raise BatchError(
                    f"{spec.name} centres on mismatched sequences, and log_ratio_mismatched_M is missing; give it, or "
                    'take centre="batch"'
                )
        elif any(getattr(side, FIELD[use]) is None for side in batch.sides):
            raise BatchError(f"{spec.name} uses the {use}, and {FIELD[use]} is missing from the batch")
    for term in spec.terms:
        if not isinstance(term, PointTerm) and not isinstance(batch, PairBatch):
            raise BatchError(f"{spec.name} compares the two sequences of a pair; give a PairBatch, not single sequences")
        if not term.score.learned:
            for side in batch.sides:
                refuse("logp_B", side.logp_B, side.logp_B > ROUNDING, "a log-probability is at most 0; was a loss passed?")
        if term.score.odds:
            _require_odds(batch, term.score)


def _require_odds(batch: PreferenceBatch, setting: Score) -> None:
    for side, verdict_B in zip(batch.sides, batch.verdicts, strict=True):
        raw_B = side.logp_B.detach() / (_held(side.length_B) if setting.normalised else 1)
        certain_B = (raw_B > -torch.finfo(raw_B.dtype).eps) & (verdict_B < 1)
        refuse(
            "logp_B", raw_B, certain_B, "a sequence of probability one that should lose has infinite log-odds; remove the pair"
        )
