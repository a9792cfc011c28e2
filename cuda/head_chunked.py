r"""The fused head in plain torch: pieces of tokens against the whole vocabulary. The formulas stand in `head`.

It is the meaning of the Triton kernels and what runs without them. Logits are measured from the largest of their token, so
that neither the log-probability nor the entropy, log s - sum exp(z) z / s, loses digits to their common level. Beyond the
gradients that it returns it holds one piece of logits, piece x V numbers, and their exponentials.

Shape suffixes: N tokens, C tokens of a piece, V vocabulary, D hidden width.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class ChunkedHead(torch.autograd.Function):
    """(hidden_ND, weight_VD, target_N, 1 / temperature, with entropy?, k, piece) -> logp, entropy, top mass, (N,) each.

    Entropy or top mass that was not asked for is empty.
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden_ND: Tensor,
        weight_VD: Tensor,
        target_N: Tensor,
        inverse_temperature: float,
        entropy: bool,
        top: int,
        piece: int,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Values of all tokens, (N,) each; keeps what the backward pass forms the logits from."""
        wide = torch.promote_types(hidden_ND.dtype, torch.float32)
        weight_wide_VD, n = weight_VD.to(wide), len(hidden_ND)
        logp_N, norm_N = hidden_ND.new_empty(n, dtype=wide), hidden_ND.new_empty(n, dtype=wide)
        entropy_N = hidden_ND.new_empty(n if entropy else 0, dtype=wide)
        top_mass_N = hidden_ND.new_empty(n if top else 0, dtype=wide)
        for start in range(0, n, piece):
            rows = slice(start, start + piece)
            logit_CV = _logits(hidden_ND[rows], weight_wide_VD, inverse_temperature)
            peak_C = logit_CV.amax(1)
            logit_CV.sub_(peak_C[:, None])
            chosen_C = logit_CV.gather(1, target_N[rows, None])[:, 0]
            top_CK = logit_CV.topk(top, dim=1).values if top else None
            share_CV = logit_CV.exp()
            mass_C = share_CV.sum(1)
            log_mass_C = mass_C.log()
            norm_N[rows] = peak_C + log_mass_C
            logp_N[rows] = (chosen_C - log_mass_C).clamp_(max=0)
            if top_CK is not None:
                top_mass_N[rows] = (top_CK.exp().sum(1) / mass_C).clamp_(max=1)
            if entropy:
                entropy_N[rows] = log_mass_C - share_CV.mul_(logit_CV).sum(1) / mass_C
        ctx.save_for_backward(hidden_ND, weight_VD, target_N, norm_N, entropy_N)
        ctx.inverse_temperature, ctx.piece = inverse_temperature, piece
        ctx.mark_non_differentiable(top_mass_N)
        return logp_N, entropy_N, top_mass_N

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients by hidden states (N, D) and weight (V, D); rows without gradient from above cost nothing."""
        grad_logp_N, grad_entropy_N, _ = grad_outputs
        hidden_ND, weight_VD, target_N, norm_N, entropy_N = ctx.saved_tensors
        wide, scale = norm_N.dtype, ctx.inverse_temperature
        weight_wide_VD = weight_VD.to(wide)
        with_entropy = len(entropy_N) > 0 and bool((grad_entropy_N != 0).any())
        alive_N = grad_logp_N != 0
        if with_entropy:
            alive_N = alive_N | (grad_entropy_N != 0)
        need_hidden, need_weight = ctx.needs_input_grad[:2]
        grad_hidden_ND = torch.zeros_like(hidden_ND) if need_hidden else None
        grad_weight_VD = torch.zeros_like(weight_wide_VD) if need_weight else None
        for row_C in alive_N.nonzero()[:, 0].split(ctx.piece):
            hidden_CD = hidden_ND[row_C]
            slope_CV = _logits(hidden_CD, weight_wide_VD, scale).sub_(norm_N[row_C, None])
            towards_C = grad_logp_N[row_C]
            if with_entropy:
                pull_CV = (slope_CV + entropy_N[row_C, None]).mul_(grad_entropy_N[row_C, None]).add_(towards_C[:, None])
                slope_CV.exp_().mul_(pull_CV.neg_())
            else:
                slope_CV.exp_().mul_(-towards_C[:, None])
            slope_CV.scatter_add_(1, target_N[row_C, None], towards_C[:, None])
            if scale != 1:
                slope_CV.mul_(scale)
            if grad_hidden_ND is not None:
                grad_hidden_ND[row_C] = (slope_CV @ weight_wide_VD).to(hidden_ND.dtype)
            if grad_weight_VD is not None:
                grad_weight_VD.addmm_(slope_CV.T, hidden_CD.to(wide))
        if grad_weight_VD is not None:
            grad_weight_VD = grad_weight_VD.to(weight_VD.dtype)
        return grad_hidden_ND, grad_weight_VD, None, None, None, None, None


def _logits(hidden_CD: Tensor, weight_wide_VD: Tensor, inverse_temperature: float) -> Tensor:
    logit_CV = hidden_CD.to(weight_wide_VD.dtype) @ weight_wide_VD.T
    return logit_CV if inverse_temperature == 1 else logit_CV.mul_(inverse_temperature)
