r"""Aggregation: how terms of tokens become one number, sum c_{i,t} x_{i,t}. A rule is a coefficient a token.

With M the mask, N sequences that have a token in it, n_i tokens of sequence i in it,

| kind | c_{i,t} on the mask | used by |
|---|---|---|
| token-mean | 1 / sum n_i | DAPO, CISPO, Lite PPO |
| sequence-mean-token-mean | 1 / (N n_i) | GRPO, GSPO |
| sequence-mean-token-sum | 1 / N | REINFORCE, RLOO: the policy gradient |
| sequence-mean-token-sum-constant | 1 / (N L) | Dr. GRPO: L is the generation budget, never the padded length |
| sequence-mean-turn-mean | 1 / (N u_i), u_i the turns of i | LOOP with ratios of turns, each a term |

Normalisers are those of the whole batch; a microbatch takes its tokens' coefficients along, so that microbatches and shards
*sum* to the batch. (A mean over microbatches of their own means is another objective.) With scope `group` the rule is applied
within each group and averaged over groups.

Multiplying terms by 1/n_i makes answers below the baseline cheaper when they are longer: on the policy, with a frozen
baseline b, it is the gradient of E[(R - b) / n] and not of E[R] (Liu et al. 2025, arXiv 2503.20783).

Shape suffixes: B sequences, T token positions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from .errors import BatchError, SpecError
from .outcome import Outcome

KINDS = (
    "token-mean",
    "sequence-mean-token-mean",
    "sequence-mean-token-sum",
    "sequence-mean-token-sum-constant",
    "sequence-mean-turn-mean",
)


@dataclass(frozen=True)
class Aggregation:
    """A rule of aggregation. Raises SpecError for an unknown kind, or a constant that is missing or out of place.

    kind: one of the table above. constant: L > 0, tokens, for sequence-mean-token-sum-constant.
    scope: batch | group.
    over: what the normalisers count: kept (tokens that passed the filters), policy (all policy tokens), or kept-tokens (n_i
        those that passed, N all sequences, so that one that is emptied still counts as a term of zero).
    """

    kind: str = "token-mean"
    constant: float | None = None
    scope: Literal["batch", "group"] = "batch"
    over: Literal["kept", "policy", "kept-tokens"] = "kept"

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise SpecError(f"aggregation {self.kind!r}; give one of {', '.join(KINDS)}")
        if self.scope not in ("batch", "group") or self.over not in ("kept", "policy", "kept-tokens"):
            raise SpecError(f"scope={self.scope!r}, over={self.over!r}; give batch or group, kept, policy or kept-tokens")
        if self.kind.endswith("constant"):
            if self.constant is None or not 0 < self.constant < float("inf"):
                raise SpecError(
                    f"constant={self.constant} for {self.kind}: give the generation budget in tokens, fixed for the whole run"
                )
        elif self.constant is not None:
            raise SpecError(f"constant={self.constant} is not read by {self.kind}; leave it out, or use {KINDS[3]}")

    @property
    def needs(self) -> tuple[str, ...]:
        """Fields of the batch that are read beyond the obligatory ones."""
        return ("turn_BT",) if self.kind == "sequence-mean-turn-mean" else ()

    def coefficients(self, out: Outcome, mask_BT: Tensor) -> Tensor:
        """c, shape (B, T), float64, 0 off `mask_BT` of shape (B, T). Raises BatchError where turns are counted and there are
        none."""
        counted_BT = out.batch.mask_BT if self.over == "policy" else mask_BT
        length_B = counted_BT.sum(1).double()
        row_B = (length_B > 0).double() if self.over != "kept-tokens" else out.row_B.double()
        if self.scope == "batch":
            tokens_B, rows_B, groups = length_B.sum(), row_B.sum(), 1.0
        else:
            tokens_B, rows_B = out.group_sum(length_B), out.group_sum(row_B)
            groups = _count_groups(out, row_B).clamp(min=1)
        if self.kind == "token-mean":
            per_row_B = 1 / tokens_B.clamp(min=1).expand_as(length_B)
        elif self.kind == "sequence-mean-turn-mean":
            per_row_B = 1 / (rows_B.clamp(min=1) * _count_turns(out, counted_BT).clamp(min=1))
        elif self.kind == "sequence-mean-token-mean":
            per_row_B = 1 / (rows_B.clamp(min=1) * length_B.clamp(min=1))
        else:
            per_row_B = (1 / (rows_B.clamp(min=1) * (self.constant or 1.0))).expand_as(length_B)
        return torch.where(mask_BT, (per_row_B / groups)[:, None], 0.0)


def _count_groups(out: Outcome, row_B: Tensor) -> Tensor:
    """Number of groups with a row that counts."""
    present = row_B.new_zeros(out.n_groups + 1).index_add(0, out.group_B, row_B)[: out.n_groups]
    return (present > 0).sum()


def _count_turns(out: Outcome, mask_BT: Tensor) -> Tensor:
    """Number of turns with a token on the mask, (B,), float64. Raises BatchError where the batch says no turns."""
    if out.batch.turn_BT is None:
        raise BatchError("sequence-mean-turn-mean reads turn_BT, which the batch lacks")
    turn_BT = torch.where(mask_BT, out.batch.turn_BT, -1).sort(1).values
    fresh_BT = (turn_BT[:, 1:] != turn_BT[:, :-1]) & (turn_BT[:, 1:] >= 0)
    first_B = (turn_BT[:, :1] >= 0).any(1)
    return (fresh_BT.sum(1) + first_B).double()
