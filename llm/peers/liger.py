r"""Liger's chunked losses, on hidden states that stand for given log-probabilities.

Liger's losses take hidden states and the head's weight and compute the gradient in their own forward pass. The head here is
the identity on a vocabulary of two, so that a hidden state is a row of logits, and `two_token_logits` chooses it such that
Liger finds exactly the wanted log-probability, with derivative one (proof there). It computes in float32 whatever it is given.

What a trainer adds is added here, and nothing else:

* Liger's GRPO takes advantages. Given are those of the trainer whose loss it implements (TRL's default),
  A_i = (R_i - mean R) / (std R + 1e-4) over the group, std with Bessel's correction.
* Liger's KTO takes the reference point: max(0, mean over the batch of log pi / pi_ref), as TRL's collator and trainer form it.
  `use_ref_model` is False in Liger's KTO and True in its DPO; a reference is given to both.
* `accumulation` micro-batches are averaged, as a trainer does that divides its loss by the accumulation steps. The global token
  count that dapo, cispo and vespo take as `num_items_in_batch` is not given: it is no default.
* `compiled` is off: the same functions, not sent through torch.compile.
* dr_grpo has no default length; given is TRL's, 512.

At masked positions the log-probability is what the batch holds there, or that of 1/2, with no gradient, where it holds none.

Written against liger-kernel 0.8.5. Shapes: B sequences, T tokens; pairs: B pairs, R = 2 B rows.
"""

from __future__ import annotations

import functools
import importlib.metadata
import json
from dataclasses import dataclass
from typing import Any

import torch

from .batch import GroupRows, PairRows, group_rows, pair_rows
from .errors import PeerMissing, PeerRefusal
from .table import SAMPLED, two_token_logits

GROUP_LOSSES = ("grpo", "dr_grpo", "dapo", "bnpo", "cispo", "sapo", "luspo", "vespo")
PAIR_LOSSES = (
    "sigmoid", "hinge", "exo_pair", "nca_pair", "robust", "bco_pair", "sppo_hard", "apo_zero", "apo_down", "discopop",
)  # fmt: skip
IGNORED = -100


def version() -> str:
    """The installed release of Liger. Raises PeerMissing without one."""
    try:
        return importlib.metadata.version("liger-kernel")
    except importlib.metadata.PackageNotFoundError:
        raise PeerMissing(
            "liger-kernel is not installed; install the tested release with: pip install liger-kernel==0.8.5"
        ) from None


def group_advantage(reward_B: torch.Tensor, group_size: int) -> torch.Tensor:
    """(R - mean R) / (std R + 1e-4) over groups of neighbours, Bessel's std, as trl 1.16.0 scales by default; (B,)."""
    reward_PG = reward_B.view(-1, group_size)
    return ((reward_PG - reward_PG.mean(1, keepdim=True)) / (reward_PG.std(1, keepdim=True) + 1e-4)).flatten()


@dataclass(frozen=True)
class LigerGroupLoss:
    """LigerFusedLinearGRPOLoss; `settings` are arguments of its constructor, as JSON."""

    settings: str
    accumulation: int = 1

    @property
    def name(self) -> str:
        """What a report calls it."""
        return f"Liger {json.loads(self.settings)['loss_type']}"

    def __call__(
        self,
        logp: torch.Tensor,
        logp_old: torch.Tensor,
        logp_ref: torch.Tensor | None,
        mask: torch.Tensor,
        rewards: torch.Tensor,
        groups: torch.Tensor,
    ) -> torch.Tensor:
        """Liger's scalar for a batch; log-probabilities and mask (B, T), rewards and groups (B,).

        Raises PeerRefusal when groups differ in size, the batch does not split into `accumulation` parts, or there is no
        reference and its coefficient is not zero.
        """
        rows = group_rows(logp, logp_old, logp_ref, mask, rewards, groups)
        loss = _module("GRPO", self.settings)
        if rows.logp_ref_BT is None and loss.beta != 0:
            raise PeerRefusal(f"Liger's GRPO with beta = {loss.beta:g} needs log-probabilities of the reference policy")
        loss.use_ref_model = rows.logp_ref_BT is not None
        advantage_B = group_advantage(rows.reward_B, rows.group_size).detach()
        return _averaged(rows.n_sequences, self.accumulation, lambda part: _group_part(loss, rows, advantage_B, part))


def _group_part(loss: Any, rows: GroupRows, advantage_B: torch.Tensor, part: torch.Tensor) -> torch.Tensor:
    mask_BT = rows.mask_BT[part]
    reference = None if rows.logp_ref_BT is None else rows.logp_ref_BT[part].detach()
    logits_BTV = two_token_logits(rows.logp_BT[part], mask_BT)
    chosen_BT = torch.full_like(mask_BT, SAMPLED, dtype=torch.long)
    return loss(
        logits_BTV,
        _identity(logits_BTV),
        chosen_BT,
        mask_BT.long(),
        advantage_B[part],
        ref_per_token_logps=reference,
        old_per_token_logps=rows.logp_old_BT[part].detach(),
    )[0]


@dataclass(frozen=True)
class LigerPairLoss:
    """A chunked loss of pairs: `kind` is DPO, CPO, SimPO, ORPO or KTO, `settings` are its constructor's arguments as JSON."""

    kind: str
    settings: str
    accumulation: int = 1

    @property
    def name(self) -> str:
        """What a report calls it."""
        return f"Liger {self.kind} {json.loads(self.settings).get('loss_type', '')}".strip()

    def __call__(
        self,
        logp_chosen: torch.Tensor,
        logp_rejected: torch.Tensor,
        ref_chosen: torch.Tensor,
        ref_rejected: torch.Tensor,
        length_chosen: torch.Tensor,
        length_rejected: torch.Tensor,
    ) -> torch.Tensor:
        """Liger's scalar for a batch of pairs; all arguments (B,), lengths in tokens.

        A sequence of n tokens is fed as n tokens of log-probability logp / n. Raises PeerRefusal when the pairs do not split
        into `accumulation` parts or a length is not positive.
        """
        rows = pair_rows(logp_chosen, logp_rejected, ref_chosen, ref_rejected, length_chosen, length_rejected)
        loss = _module(self.kind, self.settings)
        return _averaged(rows.n_pairs, self.accumulation, lambda part: _pair_part(self.kind, loss, rows, part))


def _pair_part(kind: str, loss: Any, rows: PairRows, part: torch.Tensor) -> torch.Tensor:
    row = torch.cat((part, part + rows.n_pairs))
    mask_RT = rows.mask_RT[row]
    logits_RTV = two_token_logits(rows.logp_RT[row], mask_RT)
    target_RT = torch.full_like(mask_RT, SAMPLED, dtype=torch.long).masked_fill(~mask_RT, IGNORED)
    head = _identity(logits_RTV)
    reference: dict[str, Any] = {}
    if kind in ("DPO", "KTO"):
        ref_RT = rows.ref_RT[row].detach()
        reference = {"ref_input": two_token_logits(ref_RT, mask_RT), "ref_weight": head}
        loss.use_ref_model = True
    if kind == "KTO":
        point = (rows.logp_RT[row] - rows.ref_RT[row]).sum(1).mean().clamp(min=0).detach()
        desirable_R = torch.arange(len(row)) < len(part)
        return loss(logits_RTV, head, target_RT, preference_labels=desirable_R, kl=point, **reference)[0]
    return loss(head, logits_RTV, target_RT, **reference)[0]


def grpo(loss_type: str = "dapo", *, accumulation: int = 1, **settings: Any) -> LigerGroupLoss:
    """Liger's GRPO family; `loss_type` one of GROUP_LOSSES, `settings` of LigerFusedLinearGRPOLoss. Raises PeerRefusal."""
    if loss_type not in GROUP_LOSSES:
        raise PeerRefusal(f"Liger's GRPO has no loss {loss_type!r}; it has {', '.join(GROUP_LOSSES)}")
    given = {"max_completion_length": 512} if loss_type == "dr_grpo" else {}
    return LigerGroupLoss(_spelled({"loss_type": loss_type} | given | settings), accumulation)


def dpo(loss_type: str = "sigmoid", *, accumulation: int = 1, **settings: Any) -> LigerPairLoss:
    """Liger's DPO family; `loss_type` one of PAIR_LOSSES, `settings` of LigerFusedLinearDPOLoss. Raises PeerRefusal."""
    if loss_type not in PAIR_LOSSES:
        raise PeerRefusal(f"Liger's DPO has no loss {loss_type!r}; it has {', '.join(PAIR_LOSSES)}")
    return LigerPairLoss("DPO", _spelled({"loss_type": loss_type} | settings), accumulation)


def cpo(*, accumulation: int = 1, **settings: Any) -> LigerPairLoss:
    """LigerFusedLinearCPOLoss with its constructor's `settings`. Raises PeerMissing."""
    return LigerPairLoss("CPO", _spelled(settings), accumulation)


def simpo(*, accumulation: int = 1, **settings: Any) -> LigerPairLoss:
    """LigerFusedLinearSimPOLoss with its constructor's `settings`; adds the chosen's NLL by default. Raises PeerMissing."""
    return LigerPairLoss("SimPO", _spelled(settings), accumulation)


def orpo(*, accumulation: int = 1, **settings: Any) -> LigerPairLoss:
    """LigerFusedLinearORPOLoss with its constructor's `settings`. Raises PeerMissing."""
    return LigerPairLoss("ORPO", _spelled(settings), accumulation)


def kto(*, accumulation: int = 1, **settings: Any) -> LigerPairLoss:
    """LigerFusedLinearKTOLoss on the chosen as desirable, the rejected as undesirable. Raises PeerMissing."""
    return LigerPairLoss("KTO", _spelled(settings), accumulation)


def _spelled(settings: dict[str, Any]) -> str:
    version()
    return json.dumps({"compiled": False} | settings, sort_keys=True)


def _averaged(n_rows: int, accumulation: int, part_loss: Any) -> torch.Tensor:
    """Mean of `part_loss(indices)` over micro-batches of neighbours, a scalar. Raises PeerRefusal when they do not split."""
    if n_rows % accumulation:
        raise PeerRefusal(f"{n_rows} rows do not split into {accumulation} micro-batches of equal size")
    parts = torch.arange(n_rows).split(n_rows // accumulation)
    return torch.stack([part_loss(part) for part in parts]).mean()


@functools.lru_cache(maxsize=64)
def _module(kind: str, settings: str) -> Any:
    """Liger's module of that kind. Raises PeerMissing without Liger, PeerRefusal when it refuses the settings."""
    try:
        from liger_kernel import chunked_loss
    except ImportError as fault:
        raise PeerMissing(f"liger-kernel cannot be imported ({fault}); it needs torch and triton") from fault
    try:
        return getattr(chunked_loss, f"LigerFusedLinear{kind}Loss")(**json.loads(settings))
    except (TypeError, ValueError) as fault:
        raise PeerRefusal(f"Liger refuses {kind} with {settings}: {fault}") from fault


def _identity(logits: torch.Tensor) -> torch.Tensor:
    return torch.eye(logits.size(-1), dtype=logits.dtype)
