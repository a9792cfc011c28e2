r"""From a batch to a new policy.

The objective is planned on the whole batch. Its loss is a sum over answers, so the gradient is added up over microbatches of
whole groups, each prompt passing through the model once, and over processes. An answer whose tokens have no weight (its group
has no spread, a filter dropped it) is not passed through the model at all: its gradient is exactly zero.

Shape suffixes: B answers, T answer positions.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from ..batch import TokenBatch
from ..bundles import MixedRisk, bundle_scores, followed
from ..objective import ObjectiveSpec
from ..outcome import outcome
from ..plan import Plan, plan
from ..policy.sharding import clip_norm, in_parts
from ..rollout.score import mismatch, score
from ..surrogate import ClippedRatio, ClippedWeight, ImportanceWeighted, PolicyGradient
from .experience import Experience
from .parallel import widened
from .run import Run

LINEAR = (PolicyGradient, ImportanceWeighted, ClippedRatio, ClippedWeight)
"""Surrogates whose gradient is a multiple of the advantage."""


def update(run: Run, experience: Experience) -> dict[str, float]:
    """Take the optimiser steps of one batch. Returns numbers of the first pass over it."""
    own = run.settings
    spec, numbers = tracked(run, experience.batch)
    planned = plan(spec, experience.batch)
    alive_B = alive(planned)
    norms, seen = [], Seen(planned)
    for epoch in range(own.epochs):
        for part in minibatches(run, epoch):
            rows = (torch.isin(experience.batch.group_B, part.to(alive_B.device)) & alive_B).nonzero()[:, 0]
            run.optimiser.zero_grad(set_to_none=True)
            accumulate(run, planned, experience, rows, own.minibatches, seen if epoch == 0 else None)
            norms.append(descend(run) if len(rows) else 0.0)
    numbers |= seen.numbers(run)
    sampler_BT = experience.batch.logp_sampler_BT
    if own.objective != "sft" and sampler_BT is not None and alive_B.any():
        numbers |= mismatch(seen.logp_BT, sampler_BT, planned.batch.mask_BT & alive_B[:, None])
    return numbers | {"gradient_norm": max(norms), "alive_share": float(alive_B.double().mean())}


def tracked(run: Run, batch: TokenBatch) -> tuple[ObjectiveSpec, dict[str, float]]:
    """The step's objective, and what is worth recording of it: quantiles that are not given follow the bundles' scores."""
    spec, rate = run.spec, run.settings.quantile_rate
    assert isinstance(spec, ObjectiveSpec)
    risk = spec.advantage
    if not isinstance(risk, MixedRisk) or risk.quantiles is not None or risk.pool == "set" or rate == 0:
        return spec, {}
    risk, run.quantiles = followed(risk, run.quantiles, bundle_scores(outcome(batch)), rate)
    if risk.quantiles is None:
        return spec, {}
    return replace(spec, advantage=risk), {"quantile_low": risk.quantiles[0], "quantile_high": risk.quantiles[1]}


def alive(planned: Plan) -> Tensor:
    """Where an answer can have a gradient, (B,), bool."""
    spec = planned.spec
    weighed_BT = planned.coefficient_BT != 0
    if isinstance(spec.surrogate, LINEAR):
        weighed_BT = weighed_BT & (planned.advantage_BT != 0)
    if spec.loss_divergence is not None or spec.entropy:
        weighed_BT = weighed_BT | (planned.regulariser_BT != 0)
    if planned.critic_BT is not None:
        weighed_BT = weighed_BT | (planned.critic_BT != 0)
    return (weighed_BT & planned.batch.mask_BT).any(1)


def minibatches(run: Run, epoch: int) -> list[Tensor]:
    """The groups of each minibatch of a pass: a permutation that belongs to seed, step and epoch, cut in equal parts."""
    own = run.settings
    if own.minibatches == 1:
        return [torch.arange(own.prompts)]
    shuffle = torch.Generator().manual_seed(int(np.random.SeedSequence((own.seed, run.step, epoch)).generate_state(1)[0]))
    return list(torch.randperm(own.prompts, generator=shuffle).tensor_split(own.minibatches))


class Seen:
    """What the first pass over a batch found at each token: log-probabilities and entropies, (B, T); the old ones elsewhere."""

    def __init__(self, planned: Plan) -> None:
        self.planned = planned
        old_BT = planned.batch.logp_old_BT
        self.logp_BT, self.entropy_BT = old_BT.clone(), torch.zeros_like(old_BT)
        self.top_BT = torch.zeros_like(old_BT)
        self.found_B = torch.zeros(len(old_BT), dtype=torch.bool, device=old_BT.device)

    def numbers(self, run: Run) -> dict[str, float]:
        """Diagnostics of the objective on the whole batch, and means over the tokens that were passed through the model."""
        self._exchange(run)
        with torch.no_grad():
            fresh = {"entropy_BT": self.entropy_BT} if self.planned.batch.entropy_BT is not None else {}
            found = self.planned.evaluate(logp_BT=self.logp_BT, **fresh)
        numbers = {"loss": float(found.loss), **found.diagnostics}
        if found.value_loss is not None:
            numbers["value_loss"] = float(found.value_loss)
        token_BT = self.planned.batch.mask_BT & self.found_B[:, None]
        if token_BT.any():
            numbers |= {
                "entropy_mean": float(self.entropy_BT[token_BT].mean()),
                "top_mass": float(self.top_BT[token_BT].mean()),
            }
        return numbers

    def _exchange(self, run: Run) -> None:
        """Every process's rows, in every process."""
        if run.processes.size == 1:
            return
        mine_B = self.found_B.clone()
        counted = self.found_B.long()
        run.processes.add([counted])
        self.found_B = counted > 0
        old_BT = self.planned.batch.logp_old_BT
        for name in ("logp_BT", "entropy_BT", "top_BT"):
            total = torch.where(mine_B[:, None], getattr(self, name), 0.0)
            run.processes.add([total])
            setattr(self, name, torch.where(self.found_B[:, None], total, old_BT if name == "logp_BT" else 0.0))


def accumulate(run: Run, planned: Plan, experience: Experience, rows: Tensor, scale: float, seen: Seen | None) -> None:
    """Add `scale` times the gradient of these rows' part of the loss to the parameters' own, a microbatch at a time.

    rows: (any number,), int64, of the whole batch; those of other processes are left to them.
    """
    own, spec = run.settings, planned.spec
    batch, width = planned.batch, planned.batch.mask_BT.shape[1]
    last = experience.first + len(experience.answer_N)
    rows = rows[(rows >= experience.first) & (rows < last)]
    parts = torch.unique(batch.group_B[rows]).split(own.microbatch) if len(rows) else ()
    more = idle_passes(run, len(parts))
    full = spec.loss_divergence is not None and spec.loss_divergence.estimator == "full"
    for groups in parts:
        part = rows[torch.isin(batch.group_B[rows], groups)]
        answers, back = torch.unique(experience.answer_N[part - experience.first], return_inverse=True)
        back = back if len(answers) < len(part) else None
        scores = score(run.policy, experience.rollout.select(answers), top=own.top, critic=run.critic, table=full)
        logp_BT, entropy_BT, top_BT, value_BT, log_policy_BTV = (
            None if x is None else _of_rows(x, width, back)
            for x in (scores.logp_BT, scores.entropy_BT, scores.top_mass_BT, scores.value_BT, scores.log_policy_BTV)
        )
        assert logp_BT is not None
        found = planned.select(part).evaluate(
            logp_BT=logp_BT,
            entropy_BT=entropy_BT if spec.entropy else None,
            value_BT=value_BT,
            log_policy_BTV=log_policy_BTV,
        )
        loss = found.loss if found.value_loss is None else found.loss + found.value_loss
        (scale * loss).backward()
        if seen is not None:
            seen.found_B[part] = True
            seen.logp_BT[part] = logp_BT.detach().to(seen.logp_BT.dtype)
            assert entropy_BT is not None
            seen.entropy_BT[part] = entropy_BT.detach().to(seen.logp_BT.dtype)
            if top_BT is not None:
                seen.top_BT[part] = top_BT.to(seen.logp_BT.dtype)
    for _ in range(more):
        run.policy.idle()


def _of_rows(x_BT: Tensor, width: int, back: Tensor | None) -> Tensor:
    """(rows, width, ...): what was found of the answers, of whom `back` says which each row is of; None, one row each."""
    wide_BT = widened(x_BT, width)
    return wide_BT if back is None else wide_BT[back]


def idle_passes(run: Run, passes: int) -> int:
    """Passes that other processes make beside the `passes` of this one, and that it must keep them company in.

    To be asked before the first of them; 0 where the policy is not in parts.
    """
    return 0 if run.policy.parts is None else run.processes.most(passes) - passes


def descend(run: Run) -> float:
    """One optimiser step with the gradient summed over processes; its norm before clipping."""
    own, groups = run.settings, run.optimiser.param_groups
    parameters = [p for group in groups for p in group["params"]]
    if run.processes.size > 1:
        for p in parameters:
            p.grad = torch.zeros_like(p) if p.grad is None else p.grad
        run.processes.add([p.grad for p in parameters if not in_parts(p)])
    clip = torch.nn.utils.clip_grad_norm_ if run.policy.parts is None else clip_norm
    norm = float(clip(groups[0]["params"], own.clip_norm or math.inf))
    progress = min(1.0, (run.step + 1) / own.warmup) if own.warmup else 1.0
    for group, rate in zip(groups, (own.rate, own.value_rate), strict=False):
        group["lr"] = progress * rate
    if math.isfinite(norm):
        run.optimiser.step()
    return norm
