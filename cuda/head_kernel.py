# pyright: reportArgumentType=false, reportOperatorIssue=false, reportAttributeAccessIssue=false
# pyright: reportGeneralTypeIssues=false, reportIndexIssue=false
# (triton.jit compiles what it decorates: its values are not the Python objects that they look like)
r"""The fused head in Triton. The formulas stand in `head`; the torch twin is `head_chunked`.

Forward: a program owns BLOCK_N tokens and walks over the vocabulary. It holds a tile of logits in float32 and, of the tiles
seen so far, the largest logit m, s = sum exp(z - m), a = sum exp(z - m) (z - m), the target's logit and the k largest, so that

    log-normaliser = m + log s,      entropy = log s - a / s,

where a, measured from the maximum, loses no digits to a common level of the logits.

Backward: the slopes d z are written for one stretch of the vocabulary at a time, (N, stretch), and two matrix products carry
them to the hidden states and to that stretch of the weight, with float32 sums. The logits are formed once more for it: four
matrix products in all instead of three.

Operands enter `tl.dot` in their own type on a device. The interpreter multiplies bfloat16 operands wrongly, so under INTERPRET
they are widened first. Masked entries are FAR below instead of minus infinity, whose differences are NaN.

Shape suffixes: N tokens, V vocabulary, D hidden width.
"""

from __future__ import annotations

import os
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

FAR = tl.constexpr(-1e30)
INTERPRET = os.environ.get("TRITON_INTERPRET") == "1"
STRETCH_BYTES = 256 * 2**20
"""What the slopes of one stretch of the vocabulary may take."""


@triton.jit
def _logit_tile(h_ptr, w_ptr, row, col, N, V, D: tl.constexpr, scale, BLOCK_D: tl.constexpr, INTERPRET: tl.constexpr):
    """(BLOCK_N, BLOCK_V) logits in float32 of the rows and columns named; what lies outside N or V is 0."""
    tile = tl.zeros((row.shape[0], col.shape[0]), dtype=tl.float32)
    for start in range(0, D, BLOCK_D):
        d = start + tl.arange(0, BLOCK_D)
        h = tl.load(h_ptr + row[:, None].to(tl.int64) * D + d[None, :], mask=(row[:, None] < N) & (d[None, :] < D), other=0.0)
        w = tl.load(w_ptr + col[:, None].to(tl.int64) * D + d[None, :], mask=(col[:, None] < V) & (d[None, :] < D), other=0.0)
        if INTERPRET:
            h, w = h.to(tl.float32), w.to(tl.float32)
        tile = tl.dot(h, tl.trans(w), tile, input_precision="ieee")
    return tile * scale


@triton.jit
def _keep_largest(kept, z, lane, TOP: tl.constexpr, TOP_PADDED: tl.constexpr):
    """The TOP largest of `kept` and `z` in each row, in descending order; equal ones count as often as they stand there."""
    column = tl.arange(0, z.shape[1])
    merged = tl.full(kept.shape, FAR, tl.float32)
    for i in tl.static_range(TOP):
        best_z, best_kept = tl.max(z, axis=1), tl.max(kept, axis=1)
        from_z = best_z >= best_kept
        at_z, at_kept = tl.argmax(z, axis=1), tl.argmax(kept, axis=1)
        merged = tl.where(lane[None, :] == i, tl.maximum(best_z, best_kept)[:, None], merged)
        z = tl.where(from_z[:, None] & (column[None, :] == at_z[:, None]), FAR, z)
        kept = tl.where((from_z[:, None] == 0) & (lane[None, :] == at_kept[:, None]), FAR, kept)
    return merged


@triton.jit
def _forward(
    h_ptr,
    w_ptr,
    target_ptr,
    logp_ptr,
    norm_ptr,
    entropy_ptr,
    top_ptr,
    N,
    V,
    D: tl.constexpr,
    scale,
    BLOCK_N: tl.constexpr,
    BLOCK_V: tl.constexpr,
    BLOCK_D: tl.constexpr,
    TOP: tl.constexpr,
    TOP_PADDED: tl.constexpr,
    INTERPRET: tl.constexpr,
):
    row = tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N)
    inside = row < N
    target = tl.load(target_ptr + row, mask=inside, other=0)
    peak = tl.full((BLOCK_N,), FAR, tl.float32)
    mass = tl.zeros((BLOCK_N,), tl.float32)
    moment = tl.zeros((BLOCK_N,), tl.float32)
    chosen = tl.zeros((BLOCK_N,), tl.float32)
    lane = tl.arange(0, TOP_PADDED)
    kept = tl.full((BLOCK_N, TOP_PADDED), FAR, tl.float32)
    for start in range(0, V, BLOCK_V):
        col = start + tl.arange(0, BLOCK_V)
        z = _logit_tile(h_ptr, w_ptr, row, col, N, V, D, scale, BLOCK_D, INTERPRET)
        z = tl.where(col[None, :] < V, z, FAR)
        chosen += tl.sum(tl.where(col[None, :] == target[:, None], z, 0.0), axis=1)
        higher = tl.maximum(peak, tl.max(z, axis=1))
        shrink = tl.exp(peak - higher)
        p = tl.exp(z - higher[:, None])
        moment = shrink * (moment + mass * (peak - higher)) + tl.sum(p * (z - higher[:, None]), axis=1)
        mass = mass * shrink + tl.sum(p, axis=1)
        peak = higher
        if TOP > 0:  # noqa: SIM102 - the first is decided when the kernel is compiled
            if tl.max(tl.max(z, axis=1) - tl.min(tl.where(lane[None, :] < TOP, kept, -FAR), axis=1), axis=0) > 0:
                kept = _keep_largest(kept, z, lane, TOP, TOP_PADDED)
    norm = peak + tl.log(mass)
    tl.store(norm_ptr + row, norm, mask=inside)
    tl.store(logp_ptr + row, tl.minimum(chosen - norm, 0.0), mask=inside)
    tl.store(entropy_ptr + row, tl.log(mass) - moment / mass, mask=inside)
    if TOP > 0:
        share = tl.sum(tl.where(lane[None, :] < TOP, tl.exp(kept - norm[:, None]), 0.0), axis=1)
        tl.store(top_ptr + row, tl.minimum(share, 1.0), mask=inside)


@triton.jit
def _slopes(
    h_ptr,
    w_ptr,
    target_ptr,
    norm_ptr,
    entropy_ptr,
    grad_logp_ptr,
    grad_entropy_ptr,
    slope_ptr,
    N,
    V,
    D: tl.constexpr,
    scale,
    first,
    width,
    BLOCK_N: tl.constexpr,
    BLOCK_V: tl.constexpr,
    BLOCK_D: tl.constexpr,
    INTERPRET: tl.constexpr,
):
    row = tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N)
    place = tl.program_id(1) * BLOCK_V + tl.arange(0, BLOCK_V)
    col = first + place
    inside = row < N
    z = _logit_tile(h_ptr, w_ptr, row, col, N, V, D, scale, BLOCK_D, INTERPRET)
    log_p = z - tl.load(norm_ptr + row, mask=inside, other=0.0)[:, None]
    towards = tl.load(grad_logp_ptr + row, mask=inside, other=0.0)[:, None]
    spread = tl.load(grad_entropy_ptr + row, mask=inside, other=0.0)[:, None]
    entropy = tl.load(entropy_ptr + row, mask=inside, other=0.0)[:, None]
    target = tl.load(target_ptr + row, mask=inside, other=0)[:, None]
    within = inside[:, None] & (place[None, :] < width) & (col[None, :] < V)
    log_p = tl.where(within, log_p, FAR)
    slope = tl.where(col[None, :] == target, towards, 0.0) - tl.exp(log_p) * (towards + spread * (log_p + entropy))
    slope_at = slope_ptr + row[:, None].to(tl.int64) * width + place[None, :]
    tl.store(slope_at, (slope * scale).to(slope_ptr.dtype.element_ty), mask=within)


def _blocks(hidden_ND: Tensor) -> dict[str, Any]:
    """Tile sizes: tensor-core shapes on a device, small ones for the interpreter, where a tile is one numpy call."""
    wide = hidden_ND.element_size() == 4
    return {"BLOCK_N": 64 if wide else 128, "BLOCK_V": 128, "BLOCK_D": 32 if wide else 64, "INTERPRET": INTERPRET}


class FusedHead(torch.autograd.Function):
    """(hidden_ND, weight_VD, target_N, 1 / temperature, with entropy?, k, piece) -> logp, entropy, top mass, (N,) each.

    The entropy comes for nothing and is always there; a top mass that was not asked for is empty. `piece` is the twin's.
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
        """Values of all tokens, (N,) each, float32."""
        hidden_ND, weight_VD, target_N = hidden_ND.contiguous(), weight_VD.contiguous(), target_N.contiguous()
        (n, d), v = hidden_ND.shape, len(weight_VD)
        logp_N, norm_N, entropy_N = (hidden_ND.new_empty(n, dtype=torch.float32) for _ in range(3))
        top_mass_N = hidden_ND.new_empty(n if top else 0, dtype=torch.float32)
        blocks = _blocks(hidden_ND)
        padded = triton.next_power_of_2(max(top, 1))
        if n:
            _forward[(triton.cdiv(n, blocks["BLOCK_N"]),)](
                hidden_ND, weight_VD, target_N, logp_N, norm_N, entropy_N, top_mass_N if top else norm_N, n, v, d,
                inverse_temperature, TOP=top, TOP_PADDED=padded, **blocks,
            )  # fmt: skip
        ctx.save_for_backward(hidden_ND, weight_VD, target_N, norm_N, entropy_N)
        ctx.inverse_temperature = inverse_temperature
        ctx.mark_non_differentiable(top_mass_N)
        return logp_N, entropy_N, top_mass_N

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients by hidden states (N, D) and weight (V, D); rows without gradient from above are left out."""
        grad_logp_N, grad_entropy_N, _ = grad_outputs
        hidden_ND, weight_VD, target_N, norm_N, entropy_N = ctx.saved_tensors
        row_A = ((grad_logp_N != 0) | (grad_entropy_N != 0)).nonzero()[:, 0]
        every = len(row_A) == len(hidden_ND)
        hidden_AD, target_A, norm_A, entropy_A, towards_A, spread_A = (
            x if every else x[row_A] for x in (hidden_ND, target_N, norm_N, entropy_N, grad_logp_N, grad_entropy_N)
        )
        (n, d), v, blocks = hidden_AD.shape, len(weight_VD), _blocks(hidden_ND)
        grad_hidden_AD = torch.zeros_like(hidden_AD, dtype=torch.float32)
        grad_weight_VD = torch.zeros_like(weight_VD)
        stretch = min(v, max(1, STRETCH_BYTES // (max(n, 1) * hidden_ND.element_size() * 128)) * 128)
        for first in range(0, v if n else 0, stretch):
            width = min(stretch, v - first)
            slope_AS = hidden_AD.new_empty(n, width)
            _slopes[(triton.cdiv(n, blocks["BLOCK_N"]), triton.cdiv(width, blocks["BLOCK_V"]))](
                hidden_AD, weight_VD, target_A, norm_A, entropy_A, towards_A.contiguous(), spread_A.contiguous(), slope_AS,
                n, v, d, ctx.inverse_temperature, first, width, **blocks,
            )  # fmt: skip
            grad_hidden_AD += _product(slope_AS, weight_VD[first : first + width])
            grad_weight_VD[first : first + width] = _product(slope_AS.T, hidden_AD).to(weight_VD.dtype)
        if every:
            grad_hidden_ND = grad_hidden_AD.to(hidden_ND.dtype)
        else:
            grad_hidden_ND = torch.zeros_like(hidden_ND)
            grad_hidden_ND[row_A] = grad_hidden_AD.to(hidden_ND.dtype)
        return grad_hidden_ND, grad_weight_VD, None, None, None, None, None


def _product(left: Tensor, right: Tensor) -> Tensor:
    """left @ right with float32 sums and result."""
    if left.dtype == torch.float32:
        return left @ right
    if left.is_cuda:
        return torch.mm(left, right, out_dtype=torch.float32)
    return left.float() @ right.float()
