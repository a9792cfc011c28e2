r"""Numbers that say how an update goes.

Of the whole batch, at planning time: sequences, groups, tokens, tokens_kept, reward_mean, reward_std (population),
zero_variance_share (groups whose shaped rewards are all equal: no comparison, no gradient), truncated_share.

Of the tokens that are evaluated: clip_share and ratio_mean over the tokens kept; old_kl_k1, old_kl_k3 over policy tokens,
estimates of KL(old, policy) from the old policy's samples, log(old/new) and exp(-k1) + k1 - 1; effective_sample_size, (sum
w)^2 / sum w^2 of sequence weights w over the number of sequences, in (0, 1]; clamped, how many log-ratios met the clamp and
lost their gradient. A loss of 0 is normal while the ratio is 1 and advantages are centred; gradient_scale, the sum of
abs(weight), is not 0 then.

Shape suffixes: B sequences, T token positions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .batch import TokenBatch
from .outcome import Outcome, raw_reward
from .ratio import Ratios, masked

if TYPE_CHECKING:
    from .plan import Plan


def of_batch(out: Outcome, mask_BT: Tensor) -> dict[str, float]:
    """Diagnostics of a whole batch with the effective mask, shape (B, T)."""
    row_B, reward_B = out.row_B.double(), raw_reward(out)
    rows = row_B.sum().clamp(min=1)
    mean = reward_B.sum() / rows
    uniform_B = out.uniform(out.reward_B) & out.row_B
    truncated_B = out.batch.truncated_B
    numbers = {
        "sequences": row_B.sum(),
        "tokens": out.batch.mask_BT.sum(),
        "tokens_kept": mask_BT.sum(),
        "reward_mean": mean,
        "reward_std": (torch.where(out.row_B, reward_B - mean, 0.0).square().sum() / rows).sqrt(),
        "zero_variance_share": (uniform_B.double() / out.group_size_B.clamp(min=1)).sum() / max(out.n_groups, 1),
    }
    if truncated_B is not None:
        numbers["truncated_share"] = (truncated_B & out.row_B).sum() / rows
    return _read(numbers) | {"groups": float(out.n_groups)}


def of_tokens(plan: Plan, batch: TokenBatch, logp_BT: Tensor, ratios: Ratios, weight_BT: Tensor) -> dict[str, float]:
    """Diagnostics of evaluated tokens; log-probabilities and weights of shape (B, T), detached, 0 off the mask."""
    kept, tokens = plan.mask_BT.double().sum().clamp(min=1), batch.mask_BT.double().sum().clamp(min=1)
    ratio_BT = ratios.ratio_BT.detach()
    gap_BT = logp_BT.double() - masked(batch.logp_old_BT, batch.mask_BT).detach().double()
    clipped_BT = plan.spec.surrogate.clipped(ratio_BT, plan.advantage_BT) & plan.mask_BT
    clamp = plan.spec.ratio.clamp
    weight_B = torch.where(batch.mask_BT.any(1), gap_BT.sum(1).clamp(-clamp, clamp).exp(), 0.0)
    rows = batch.mask_BT.any(1).sum().clamp(min=1)
    numbers = {
        "clip_share": clipped_BT.sum() / kept,
        "ratio_mean": torch.where(plan.mask_BT, ratio_BT, 0.0).sum() / kept,
        "clamped": (~ratios.live_BT & batch.mask_BT).sum(),
        "old_kl_k1": -gap_BT.sum() / tokens,
        "old_kl_k3": (gap_BT.clamp(max=clamp).exp() - gap_BT - 1).sum() / tokens,
        "effective_sample_size": weight_B.sum().square() / (weight_B.square().sum() * rows).clamp(min=1e-300),
        "gradient_scale": weight_BT.abs().sum(),
    }
    if (divergence := plan.spec.divergence) is not None:
        numbers["divergence_clamped"] = divergence.clamped(logp_BT, batch).sum()
        if divergence.where == "loss":
            value_BT = divergence.value(logp_BT, torch.ones_like(logp_BT), batch).detach()
            numbers["divergence_mean"] = masked(value_BT, batch.mask_BT).sum() / tokens
    if batch.entropy_BT is not None:
        numbers["entropy_mean"] = masked(batch.entropy_BT.detach(), batch.mask_BT).sum() / tokens
    return _read(numbers)


def _read(numbers: dict[str, Tensor]) -> dict[str, float]:
    """The numbers, fetched from the device at once."""
    return dict(zip(numbers, torch.stack([x.detach().double() for x in numbers.values()]).tolist(), strict=True))
