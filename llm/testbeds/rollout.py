r"""Sampling from a token problem, and the batch of what was sampled.

Every sequence is listed, so drawing one is drawing its index with its exact probability: no token is generated twice, and a
sampled run can be compared with its expectation.

Shape suffixes: S all sequences, B sampled ones, T token positions, N nodes, V vocabulary.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...mdp.token import TokenProblem
from ..batch import TokenBatch


def token_table(problem: TokenProblem, log_policy_NV: Tensor, rows: Any = slice(None)) -> Tensor:
    """log pi of the policy's tokens of some sequences, (B, T), 0 elsewhere; log_policy_NV: (N, V), may carry a gradient."""
    index = torch.tensor(problem.policy_index[rows])
    flat = torch.cat([log_policy_NV.reshape(-1), log_policy_NV.new_zeros(1)])
    return flat[index]


def draw(problem: TokenProblem, log_policy_NV: Tensor, prompts: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """One sequence for each entry of `prompts`, int64 (B,), by the policy log_policy_NV, (N, V), and the environment."""
    table = np.append(log_policy_NV.detach().double().numpy().reshape(-1), 0.0)
    chance = problem.environment_probability * np.exp(table[problem.policy_index].sum(axis=1))
    total = np.concatenate([[0.0], np.cumsum(chance)])
    first = np.searchsorted(problem.prompt, np.arange(problem.n_prompts + 1))
    low, high = total[first[prompts]], total[first[prompts + 1]]
    at = np.searchsorted(total, low + (high - low) * rng.random(len(prompts)), side="right") - 1
    return np.clip(at, first[prompts], first[prompts + 1] - 1)


def batch_of(
    problem: TokenProblem, sequences: np.ndarray, groups: np.ndarray, log_policy_NV: Tensor, old_NV: Tensor, **more: Tensor
) -> TokenBatch:
    """The batch of these sequences, indices (B,), in these groups, (B,), under tables (N, V) of the trained and the old policy.

    more: further fields of the batch.
    """
    return TokenBatch(
        logp_BT=token_table(problem, log_policy_NV, sequences),
        logp_old_BT=token_table(problem, old_NV.detach(), sequences),
        mask_BT=torch.tensor(problem.mask[sequences]),
        reward_B=torch.tensor(problem.reward[sequences]),
        group_B=torch.from_numpy(np.asarray(groups, dtype=np.int64)),
        turn_BT=torch.from_numpy(problem.turn[sequences].astype(np.int64)),
        token_BT=torch.from_numpy(np.maximum(problem.token[sequences], 0).astype(np.int64)),
        **more,
    )
