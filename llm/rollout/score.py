# ruff: noqa: N815 - names carry their shapes
r"""The trained policy's word on sampled answers, and how far it is from the sampler's.

`score` computes log-probabilities again with the policy as it is trained (its precision, its temperature, no nucleus),
differentiably. `mismatch` measures, over policy tokens, with d = logp - logp_sampler,

    gap_mean = mean |d|,    gap_max = max |d|,    k1 = -mean d,    k3 = mean(exp(d) - 1 - d),    weight_max = exp(max d),

k1 and k3 estimates of KL(sampler, policy) a token (Schulman 2020). Two engines of one model differ by their rounding; a nucleus
shows as d = log of the kept mass, which is negative. `TruncatedImportance` of the objective corrects for it.

Measured with SmolLM2-135M, 277 tokens of 20 answers to four-shot chain_sum, sampled in float32 (nats a token):

| scored by | gap_mean | gap_max | k3 |
|---|---|---|---|
| float32 again, all answers at once | 7e-6 | 2e-5 | 4e-11 |
| mixed precision (bfloat16 products) | 0.013 | 0.26 | 0.0004 |
| bfloat16 throughout | 0.019 | 0.19 | 0.0006 |
| llama.cpp 0.3.36, the 4-bit weights (`llama_log_probs`) | 0.047 | 0.42 | 0.0035 |

Shape suffixes: B answers, T answer positions, D hidden width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..policy.causal import Policy
from .rollout import Rollout


@dataclass(frozen=True, eq=False)
class Scores:
    """What the policy says of each policy token; 0 off the mask, None where it was not asked for.

    logp_BT, entropy_BT, top_mass_BT, value_BT: (B, T). hidden_BTD: (B, T, D), detached. log_policy_BTV: (B, T, V).
    """

    logp_BT: Tensor
    entropy_BT: Tensor | None = None
    top_mass_BT: Tensor | None = None
    value_BT: Tensor | None = None
    hidden_BTD: Tensor | None = None
    log_policy_BTV: Tensor | None = None


def score(
    policy: Policy,
    rollout: Rollout,
    *,
    entropy: bool = True,
    top: int = 0,
    critic: Callable[[Tensor], Tensor] | None = None,
    hidden: bool = False,
    table: bool = False,
) -> Scores:
    """Scores (B, T) of a rollout's answers, differentiable in the policy and the critic.

    entropy, top, hidden, table: what is wanted beside log-probabilities; top is the k of the top mass. critic: from hidden
    states (B, T, D) to values (B, T). Only policy tokens reach the head; `table` alone forms whole distributions.
    """
    hidden_BTD = policy.hidden_states(rollout.prompts, rollout.group_B, rollout.token_BT, rollout.real_BT)
    mask_BT, temperature = rollout.mask_BT, rollout.sampling.temperature
    picked_ND = hidden_BTD[mask_BT]
    values = policy.head(picked_ND, rollout.token_BT[mask_BT], temperature=temperature, entropy=entropy, top=top)

    def spread(x_N: Tensor | None) -> Tensor | None:
        return None if x_N is None else x_N.new_zeros(mask_BT.shape + x_N.shape[1:]).masked_scatter(_like(mask_BT, x_N), x_N)

    logp_BT = spread(values.logp_N)
    assert logp_BT is not None
    value_BT = None if critic is None else torch.where(mask_BT, critic(hidden_BTD), 0.0)
    return Scores(
        logp_BT,
        spread(values.entropy_N),
        spread(values.top_mass_N),
        value_BT,
        torch.where(mask_BT[..., None], hidden_BTD.detach(), 0.0) if hidden else None,
        spread((policy.logits(picked_ND) / temperature).log_softmax(-1)) if table else None,
    )


def mismatch(logp_BT: Tensor, logp_sampler_BT: Tensor, mask_BT: Tensor) -> dict[str, float]:
    """The measures above, of log-probabilities (B, T) on policy tokens, mask_BT (B, T) bool; 0 without any."""
    gap_N = (logp_BT.detach().double() - logp_sampler_BT.double())[mask_BT]
    if not len(gap_N):
        gap_N = gap_N.new_zeros(1)
    numbers = {
        "gap_mean": gap_N.abs().mean(),
        "gap_max": gap_N.abs().max(),
        "k1": -gap_N.mean(),
        "k3": (gap_N.exp() - 1 - gap_N).mean(),
        "weight_max": gap_N.max().exp(),
    }
    return {f"sampler_{name}": float(x) for name, x in numbers.items()}


def _like(mask_BT: Tensor, x_N: Tensor) -> Tensor:
    return mask_BT if x_N.ndim == 1 else mask_BT[..., None].expand(*mask_BT.shape, x_N.shape[1])
