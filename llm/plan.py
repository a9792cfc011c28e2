# ruff: noqa: N815 - names carry their shapes
r"""A plan: everything of an objective that couples sequences, computed once on the whole batch.

The loss of an objective is a sum over tokens,

    loss = - sum c_{i,t} phi(r_{i,t}, l_{i,t}, A_{i,t}) + beta sum c'_{i,t} k_{i,t} - eta sum c'_{i,t} H_{i,t},

and what couples sequences, the advantages A, the filters and the normalisers in c and c', depends on rewards, masks, groups
and the old policy only, not on the policy that is trained. So it is computed before the update, and the loss of any selection
of rows is additive: over microbatches, gradient accumulation or shards the parts sum to the loss and the gradient of the
whole.

c is the aggregation's coefficient on the tokens that are kept, times the weight that corrects for the sampler; c' lacks that
weight.

Shape suffixes: B sequences, T token positions, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from .aggregation import Aggregation
from .batch import TokenBatch
from .critic import old_value
from .diagnostics import of_batch, of_tokens
from .divergence import full_derivative, tables
from .errors import BatchError
from .evaluation import Evaluation
from .mask import effective_mask
from .outcome import Outcome, outcome
from .ratio import Ratios, masked

if TYPE_CHECKING:
    from .objective import ObjectiveSpec


@dataclass(frozen=True, eq=False)
class Plan:
    """A batch ready to be evaluated, in whole or in parts.

    advantage_BT: (B, T), 0 off the mask.
    mask_BT: (B, T), bool: policy tokens that passed the filters.
    coefficient_BT: (B, T), c above; 0 where nothing is learnt.
    regulariser_BT: (B, T), c' above.
    target_BT, critic_BT: (B, T), targets of the critic and their coefficients; None without a critic.
    statistics: diagnostics of the whole batch.
    """

    spec: ObjectiveSpec
    batch: TokenBatch
    advantage_BT: Tensor
    mask_BT: Tensor
    coefficient_BT: Tensor
    regulariser_BT: Tensor
    target_BT: Tensor | None
    critic_BT: Tensor | None
    statistics: dict[str, float]

    def select(self, rows: Any) -> Plan:
        """The plan of some sequences (a slice or an index tensor) with their coefficients of the whole batch."""
        names = ("advantage_BT", "mask_BT", "coefficient_BT", "regulariser_BT", "target_BT", "critic_BT")
        parts = {name: None if (x := getattr(self, name)) is None else x[rows] for name in names}
        return replace(self, batch=self.batch.select(rows), **parts)

    def evaluate(
        self,
        logp_BT: Tensor | None = None,
        *,
        entropy_BT: Tensor | None = None,
        value_BT: Tensor | None = None,
        log_policy_BTV: Tensor | None = None,
    ) -> Evaluation:
        """Loss, score weights and diagnostics of these sequences, with fresh tensors of the policy where they are given.

        logp_BT, entropy_BT, value_BT: (B, T); log_policy_BTV: (B, T, V). Raises BatchError if one of them does not fit.
        """
        batch = self.batch.renewed(logp_BT=logp_BT, entropy_BT=entropy_BT, value_BT=value_BT, log_policy_BTV=log_policy_BTV)
        fresh_BT = masked(batch.logp_BT, batch.mask_BT)
        fresh_BT = fresh_BT.to(torch.promote_types(fresh_BT.dtype, torch.float32))
        ratios = self.spec.ratio(fresh_BT, batch)
        loss = -(self.coefficient_BT * self._terms(fresh_BT, ratios)).sum()
        weight_BT = self.coefficient_BT * self._slope(fresh_BT.detach(), ratios)
        more: dict[str, Any] = {}
        if (divergence := self.spec.loss_divergence) is not None:
            scaled_BT = divergence.coefficient * self.regulariser_BT
            own = self.spec.token_ratio(fresh_BT, batch) if divergence.importance else ratios
            loss = loss + (scaled_BT * divergence.value(fresh_BT, own.ratio_BT, batch)).sum()
            slope_BT = divergence.weight(fresh_BT.detach(), own.ratio_BT.detach(), own.live_BT, batch)
            weight_BT = weight_BT - scaled_BT * slope_BT
            if divergence.estimator == "full":
                more["weight_BTV"] = -scaled_BT[..., None] * full_derivative(*(table.detach() for table in tables(batch)))
        if self.spec.entropy:
            scaled_BT = self.spec.entropy * self.regulariser_BT
            loss = loss - (scaled_BT * masked(_present(batch, "entropy_BT"), batch.mask_BT)).sum()
            more["weight_entropy_BT"] = scaled_BT
        more |= self._critic(batch)
        diagnostics = self.statistics | of_tokens(self, batch, fresh_BT.detach(), ratios, weight_BT)
        return Evaluation(loss, weight_BT, diagnostics, **more)

    def _terms(self, logp_BT: Tensor, ratios: Ratios) -> Tensor:
        """phi a token, shape (B, T), its value counted once a unit of the ratio, its gradient whole at each token."""
        term_BT = self.spec.surrogate.value(ratios.ratio_BT, logp_BT, self.advantage_BT)
        if ratios.share_BT is None:
            return term_BT
        return ratios.share_BT * term_BT.detach() + (term_BT - term_BT.detach())

    def _slope(self, logp_BT: Tensor, ratios: Ratios) -> Tensor:
        """Derivative of phi by the token's log-probability, shape (B, T)."""
        slope_BT = self.spec.surrogate.weight(ratios.ratio_BT.detach(), logp_BT, self.advantage_BT)
        return torch.where(ratios.live_BT, slope_BT, 0.0) if self.spec.surrogate.through_ratio else slope_BT

    def _critic(self, batch: TokenBatch) -> dict[str, Tensor]:
        if self.spec.critic is None or self.target_BT is None or self.critic_BT is None:
            return {}
        value_BT = masked(_present(batch, "value_BT"), batch.mask_BT)
        old_BT = old_value(batch).to(value_BT.dtype)
        loss_BT = self.spec.critic.value(value_BT, old_BT, self.target_BT)
        weight_BT = self.critic_BT * self.spec.critic.weight(value_BT.detach(), old_BT, self.target_BT)
        return {"value_loss": (self.critic_BT * loss_BT).sum(), "weight_value_BT": weight_BT}


def plan(spec: ObjectiveSpec, batch: TokenBatch) -> Plan:
    """The plan of an objective on a whole batch. Raises BatchError where the batch lacks what the objective reads."""
    for name in spec.needs:
        if getattr(batch, name) is None:
            raise BatchError(
                f"the objective {spec.name!r} reads {name}, which the batch lacks; it reads {', '.join(spec.needs)}"
            )
    divergence = spec.reward_divergence
    out = outcome(batch, spec.rewards, None if divergence is None else divergence.charge(batch))
    advantage_BT = _advantages(spec, out)
    mask_BT = effective_mask(out, advantage_BT, spec.filters)
    regulariser_BT = coefficient_BT = spec.aggregation.coefficients(out, mask_BT)
    statistics = of_batch(out, mask_BT)
    if spec.behaviour is not None:
        sampler_BT, capped_BT = spec.behaviour(batch)
        coefficient_BT = coefficient_BT * sampler_BT
        tokens = batch.mask_BT.sum().clamp(min=1)
        statistics["sampler_weight_mean"] = float(masked(sampler_BT, batch.mask_BT).sum() / tokens)
        statistics["sampler_capped_share"] = float((capped_BT & batch.mask_BT).sum() / tokens)
    target_BT = critic_BT = None
    dtype = torch.promote_types(batch.logp_BT.dtype, torch.float32)
    if spec.critic is not None:
        target_BT = spec.critic.targets(out).to(dtype)
        critic_BT = Aggregation("token-mean").coefficients(out, spec.critic.learns(batch)).to(dtype)
    return Plan(
        spec,
        batch,
        masked(advantage_BT, batch.mask_BT).to(dtype),
        mask_BT,
        coefficient_BT.to(dtype),
        regulariser_BT.to(dtype),
        target_BT,
        critic_BT,
        statistics,
    )


def _advantages(spec: ObjectiveSpec, out: Outcome) -> Tensor:
    advantage_BT = spec.advantage(out)
    mask_BT = out.batch.mask_BT
    if advantage_BT.shape != mask_BT.shape or not torch.isfinite(advantage_BT[mask_BT]).all():
        raise BatchError(
            f"the advantage part of {spec.name!r} returned shape {tuple(advantage_BT.shape)} or numbers that are not finite; "
            f"it must return finite numbers of shape {tuple(mask_BT.shape)}"
        )
    return advantage_BT.detach()


def _present(batch: TokenBatch, name: str) -> Tensor:
    tensor = getattr(batch, name)
    if tensor is None:
        raise BatchError(f"the objective reads {name}, which the batch lacks")
    return tensor
