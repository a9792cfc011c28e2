# ruff: noqa: N815 - names carry their shapes
"""Our batches in the order in which a trainer wants them: groups side by side, a pair as two rows of tokens.

Shapes: B sequences, G a group's size, T tokens; R = 2 B rows of B pairs, chosen first.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from .errors import PeerRefusal


@dataclass(frozen=True)
class GroupRows:
    """Sequences sorted so that the `group_size` members of a group are neighbours.

    logp_BT, logp_old_BT, logp_ref_BT (or None): log-probabilities; mask_BT: policy tokens; reward_B: rewards;
    length_B: tokens up to the last policy token, at least one.
    """

    logp_BT: torch.Tensor
    logp_old_BT: torch.Tensor
    logp_ref_BT: torch.Tensor | None
    mask_BT: torch.Tensor
    reward_B: torch.Tensor
    length_B: torch.Tensor
    group_size: int

    @property
    def n_sequences(self) -> int:
        """Sequences in the batch."""
        return self.mask_BT.size(0)

    @property
    def has_holes(self) -> bool:
        """Whether a token before the last policy token is not the policy's."""
        return bool((self.mask_BT.sum(1) != self.length_B).any())


def group_rows(
    logp_BT: torch.Tensor,
    logp_old_BT: torch.Tensor,
    logp_ref_BT: torch.Tensor | None,
    mask_BT: torch.Tensor,
    reward_B: torch.Tensor,
    group_B: torch.Tensor,
) -> GroupRows:
    """The batch with groups side by side. Raises PeerRefusal when they differ in size."""
    order_B = torch.argsort(group_B, stable=True)
    sizes = torch.unique_consecutive(group_B[order_B], return_counts=True)[1]
    if bool((sizes != sizes[0]).any()):
        raise PeerRefusal(f"groups have {sizes.min()} to {sizes.max()} sequences; this library wants equal groups")
    mask_BT = mask_BT[order_B].bool()
    position_T = torch.arange(1, mask_BT.size(1) + 1)
    return GroupRows(
        logp_BT[order_B],
        logp_old_BT[order_B],
        None if logp_ref_BT is None else logp_ref_BT[order_B],
        mask_BT,
        reward_B[order_B],
        (mask_BT * position_T).amax(1).clamp(min=1),
        int(sizes[0]),
    )


@dataclass(frozen=True)
class PairRows:
    """Pairs as rows of tokens, the chosen first; a sequence of n tokens has n equal log-probabilities, then padding.

    logp_RT, ref_RT: log-probabilities of policy and reference; mask_RT: which are tokens.
    """

    logp_RT: torch.Tensor
    ref_RT: torch.Tensor
    mask_RT: torch.Tensor

    @property
    def n_pairs(self) -> int:
        """Pairs in the batch."""
        return self.mask_RT.size(0) // 2


def pair_rows(
    logp_chosen_B: torch.Tensor,
    logp_rejected_B: torch.Tensor,
    ref_chosen_B: torch.Tensor,
    ref_rejected_B: torch.Tensor,
    length_chosen_B: torch.Tensor,
    length_rejected_B: torch.Tensor,
) -> PairRows:
    """The pairs spread over their tokens. Raises PeerRefusal when a length is not positive."""
    length_R = torch.cat((length_chosen_B, length_rejected_B)).long()
    if bool((length_R < 1).any()):
        raise PeerRefusal("a response has no token; this library averages over tokens and would divide by zero")
    mask_RT = torch.arange(int(length_R.max())) < length_R[:, None]

    def spread(chosen_B: torch.Tensor, rejected_B: torch.Tensor) -> torch.Tensor:
        per_token_R = torch.cat((chosen_B, rejected_B)) / length_R
        return torch.where(mask_RT, per_token_R[:, None], torch.zeros_like(per_token_R[:, None]))

    return PairRows(spread(logp_chosen_B, logp_rejected_B), spread(ref_chosen_B, ref_rejected_B), mask_RT)
