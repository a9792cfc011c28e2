r"""Pairs of a group of answers: all of them, by which a loss of pairs becomes a loss of groups, or the best with the worst.

Among the k answers to a prompt each of the k (k - 1) / 2 pairs counts 1/(k - 1), so that a group weighs as much as it has
answers. For squared differences that is the variance:

    1/(k - 1) sum_{i<j} (r_i - r_j)^2 = sum_i (r_i - mean r)^2 k/(k - 1) = k var(r),        var with k - 1 in its denominator,

so the contrastive policy gradient of a group is the mean over answers of var(R - b log pi/q) / b, and its score weights are
2/(b K)-fold R_b,i - mean of the others', K answers in the batch: leave-one-out advantages, under whatever law they were drawn.

Or a group is matched: the best answer with the worst, the second best with the second worst, and so on while they differ.

Flet-Berliac et al. 2024, arXiv 2406.19185 (pairs); k answers after Cohere 2025, Command A, arXiv 2504.00698.
"""

import torch
from torch import Tensor

from .errors import BatchError
from .pair_batch import PairBatch, Sequences


def group_pairs(sequences: Sequences, group_B: Tensor) -> PairBatch:
    """All unordered pairs within groups, with weights 1/(k - 1) for a group of k; the gradient passes through.

    sequences: B of them. group_B: (B,), whole numbers; sequences with one prompt share a group.
    Raises BatchError for groups of another shape or type, and for a sequence that is alone in its group.
    """
    if group_B.shape != sequences.logp_B.shape or group_B.is_floating_point() or group_B.dtype == torch.bool:
        raise BatchError(
            f"group_B of shape {tuple(group_B.shape)} and {group_B.dtype}: give a whole number for each of the "
            f"{len(sequences.logp_B)} sequences"
        )
    together_BB = group_B[:, None] == group_B[None, :]
    size_B = together_BB.sum(1)
    if (alone := size_B < 2).any():
        row = int(alone.nonzero()[0])
        raise BatchError(f"sequence {row} is alone in its group {int(group_B[row])}: a contrast needs two answers to a prompt")
    first, second = together_BB.triu(1).nonzero(as_tuple=True)
    weight = 1 / (size_B[first] - 1).to(sequences.logp_B.dtype)
    return PairBatch(sequences.rows(first), sequences.rows(second), weight_B=weight)


def matched(reward_A: Tensor, kept_A: Tensor, group_size: int) -> Tensor:
    """Numbers of the better and the worse answer of each pair, (pairs, 2), of rewards (A,) in groups of one size."""
    pairs = []
    for start in range(0, len(reward_A), group_size):
        mine = [i for i in range(start, start + group_size) if kept_A[i]]
        order = sorted(mine, key=lambda i: -float(reward_A[i]))
        best = order[: len(order) // 2]
        worst = order[::-1][: len(order) // 2]
        pairs += [(b, w) for b, w in zip(best, worst, strict=True) if reward_A[b] > reward_A[w]]
    return torch.tensor(pairs, dtype=torch.int64).reshape(-1, 2)


def wins(reward_A: Tensor, kept_A: Tensor, group_size: int) -> Tensor:
    """(A,): share of the other answers of its group that an answer beats, of rewards (A,), ties counting half."""
    reward_GS, kept_GS = reward_A.reshape(-1, group_size), kept_A.reshape(-1, group_size).double()
    gap_GSS = reward_GS[:, :, None] - reward_GS[:, None, :]
    beats_GSS = (gap_GSS > 0).double() + 0.5 * (gap_GSS == 0).double()
    others_GSS = kept_GS[:, None, :] * (1 - torch.eye(group_size, dtype=torch.float64))
    return ((beats_GSS * others_GSS).sum(-1) / others_GSS.sum(-1).clamp(min=1)).reshape(-1)
