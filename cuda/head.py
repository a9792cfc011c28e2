# ruff: noqa: N815 - names carry their shapes
r"""The head of a language model fused with what a loss reads of it.

With hidden states h_n, unembedding W and temperature tau, z_n = W h_n / tau and p_n = softmax(z_n),

    logp_n = z_n[y_n] - log sum_v exp z_n[v],    entropy_n = - sum_v p_n[v] log p_n[v],    top_mass_n = the k largest p_n added.

The logits, N x V numbers, are never held: they are formed a piece at a time, and formed again in the backward pass,

    d z_n[v] = g_n (1[v = y_n] - p_n[v]) - e_n p_n[v] (log p_n[v] + entropy_n),      g, e the gradients that come from above,

so every objective that is a function of log-probabilities and entropies needs no other kernel. A row whose g and e are both
zero (masked, clipped, of a group without spread) has no gradient, and is left out of the backward pass exactly. Sums over
tokens and over the vocabulary are taken in float32, or in float64 for float64 input: rounding each piece of a gradient to
half precision would bias it. The top mass is a diagnostic, without gradient.

On a CUDA device with Triton the kernels of `head_kernel` run, elsewhere their torch twin in `head_chunked`.

Shape suffixes: N tokens, V vocabulary, D hidden width.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from .head_chunked import ChunkedHead


class HeadValues(NamedTuple):
    """What the head says of each token, in float32 (float64 for float64 input).

    logp_N: (N,), log-probability of the target, at most 0; differentiable.
    entropy_N: (N,), in nats; differentiable; None where it was not asked for.
    top_mass_N: (N,), probability of the k likeliest tokens, in (0, 1]; without gradient; None for k = 0.
    """

    logp_N: Tensor
    entropy_N: Tensor | None
    top_mass_N: Tensor | None


def linear_log_prob(
    hidden_ND: Tensor,
    weight_VD: Tensor,
    target_N: Tensor,
    *,
    temperature: float = 1.0,
    entropy: bool = True,
    top: int = 0,
    piece: int = 256,
) -> HeadValues:
    """Log-probabilities (N,) of targets (N,) under softmax(hidden @ weight.T / temperature), and what goes with them.

    hidden_ND: (N, D), floats. weight_VD: (V, D), of the same type and device; both may carry a gradient. target_N: (N,) int64
    in [0, V). top: k of the top mass, 0 for none. piece: tokens whose logits are held at once by the torch twin.
    Raises ValueError naming the argument that does not fit.
    """
    _check(hidden_ND, weight_VD, target_N, temperature, top)
    head = _kernel(hidden_ND) or ChunkedHead
    logp_N, entropy_N, top_mass_N = head.apply(hidden_ND, weight_VD, target_N, 1.0 / temperature, entropy, top, piece)
    return HeadValues(logp_N, entropy_N if entropy else None, top_mass_N if top else None)


def _kernel(hidden_ND: Tensor) -> type[torch.autograd.Function] | None:
    """The Triton head where it can run."""
    if not hidden_ND.is_cuda or hidden_ND.dtype == torch.float64:
        return None
    try:
        from .head_kernel import FusedHead
    except ImportError:
        return None
    return FusedHead


def _check(hidden_ND: Tensor, weight_VD: Tensor, target_N: Tensor, temperature: float, top: int) -> None:
    if hidden_ND.ndim != 2 or weight_VD.ndim != 2 or hidden_ND.shape[1] != weight_VD.shape[1]:
        raise ValueError(f"hidden_ND {tuple(hidden_ND.shape)} and weight_VD {tuple(weight_VD.shape)}: give (N, D) and (V, D)")
    if hidden_ND.dtype != weight_VD.dtype or hidden_ND.device != weight_VD.device or not hidden_ND.is_floating_point():
        raise ValueError(
            f"hidden_ND is {hidden_ND.dtype} on {hidden_ND.device}, weight_VD {weight_VD.dtype} on {weight_VD.device}; "
            "give both in one floating-point type on one device"
        )
    if target_N.shape != hidden_ND.shape[:1] or target_N.dtype != torch.int64:
        raise ValueError(f"target_N is {tuple(target_N.shape)} {target_N.dtype}; give int64 of shape ({len(hidden_ND)},)")
    vocabulary = len(weight_VD)
    if len(target_N) and not bool(((target_N >= 0) & (target_N < vocabulary)).all()):
        raise ValueError(f"target_N reaches outside [0, {vocabulary}); mask the tokens that have no target before the call")
    if not 0 < temperature < float("inf"):
        raise ValueError(f"temperature={temperature}; give a positive number")
    if not 0 <= top <= vocabulary:
        raise ValueError(f"top={top} of a vocabulary of {vocabulary}; give 0 (none) up to its size")
