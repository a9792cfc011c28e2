# pyright: reportArgumentType=false, reportOperatorIssue=false, reportAttributeAccessIssue=false
# pyright: reportGeneralTypeIssues=false, reportIndexIssue=false
# (triton.jit compiles what it decorates: its values are not the Python objects that they look like)
r"""The projections in Triton. The formulas stand in `projection`; the torch twin is `projection_plain`.

Both kernels gather instead of scattering: a program owns a law and a stretch of its outputs and walks over the atoms, so that
nothing is added atomically and the same batch gives the same bits. Quantiles need no sorting: F is summed at each atom, in one
order for all of them, so that it rounds monotonically, and an output is the least atom that is high enough; F is kept in a row
of working memory between the two passes.

Differences of infinities would be NaN: what is not finite is replaced by zero where it is loaded and spoils its row at the end.

Shape suffixes: N laws, A atoms of each, M grid points or quantiles.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from .projection_plain import JUMP, OFF


@triton.jit
def _tile(y_ptr, p_ptr, row, start, A, LARGEST: tl.constexpr, BLOCK_A: tl.constexpr):
    """Atoms and weights of one stretch of a law, which of them are there, and how many are unsound."""
    a = start + tl.arange(0, BLOCK_A)
    there = a < A
    y = tl.load(y_ptr + row * A + a, mask=there, other=0.0)
    p = tl.load(p_ptr + row * A + a, mask=there, other=0.0)
    sound = (tl.abs(y) <= LARGEST) & (p >= 0) & (p <= LARGEST)
    return tl.where(sound, y, 0.0), tl.where(sound, p, 0.0), there, tl.sum(tl.where(sound, 0, 1), axis=0)


@triton.jit
def _categorical(
    y_ptr, p_ptr, z_ptr, out_ptr, A, M, OFF: tl.constexpr, LARGEST: tl.constexpr,
    BLOCK_A: tl.constexpr, BLOCK_M: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    m = tl.program_id(1) * BLOCK_M + tl.arange(0, BLOCK_M)
    inside = m < M
    first, last = tl.load(z_ptr), tl.load(z_ptr + M - 1)
    here = tl.load(z_ptr + m, mask=inside, other=0.0)
    # An end's hat has one side only; a side as wide as 1 that lies beyond the grid is never entered by a clipped atom.
    before = tl.load(z_ptr + m - 1, mask=inside & (m > 0), other=0.0)
    after = tl.load(z_ptr + m + 1, mask=m + 1 < M, other=0.0)
    rise, fall = tl.where(inside & (m > 0), here - before, 1.0), tl.where(m + 1 < M, after - here, 1.0)
    found = here * 0.0
    total, unsound = tl.sum(found, axis=0), 0
    for start in range(0, A, BLOCK_A):
        y, p, _inside, wrong = _tile(y_ptr, p_ptr, row, start, A, LARGEST, BLOCK_A)
        y = tl.minimum(tl.maximum(y, first), last)
        away = y[None, :] - here[:, None]
        height = 1.0 - tl.where(away > 0, away / fall[:, None], -away / rise[:, None])
        found += tl.sum(p[None, :] * tl.maximum(height, 0.0), axis=1)
        total += tl.sum(p, axis=0)
        unsound += wrong
    law = (unsound == 0) & (tl.abs(total - 1.0) <= OFF)
    tl.store(out_ptr + row * M + m, tl.where(law, found / tl.where(law, total, 1.0), float("nan")), mask=inside)


@triton.jit
def _levels(
    y_ptr, p_ptr, level_ptr, A, OFF: tl.constexpr, LARGEST: tl.constexpr, BLOCK_A: tl.constexpr,
):  # fmt: skip
    """F at every atom of a law, NaN where it is none."""
    row = tl.program_id(0).to(tl.int64)
    here, _weights, there, _unsound = _tile(y_ptr, p_ptr, row, tl.program_id(1) * BLOCK_A, A, LARGEST, BLOCK_A)
    level = here * 0.0
    total, unsound = tl.sum(level, axis=0), 0
    for start in range(0, A, BLOCK_A):
        y, p, _inside, wrong = _tile(y_ptr, p_ptr, row, start, A, LARGEST, BLOCK_A)
        level += tl.sum(tl.where(y[None, :] <= here[:, None], p[None, :], 0.0), axis=1)
        total += tl.sum(p, axis=0)
        unsound += wrong
    law = (unsound == 0) & (tl.abs(total - 1.0) <= OFF)
    at = row * A + tl.program_id(1) * BLOCK_A + tl.arange(0, BLOCK_A)
    tl.store(level_ptr + at, tl.where(law, level / tl.where(law, total, 1.0), float("nan")), mask=there)


@triton.jit
def _quantiles(
    y_ptr, level_ptr, out_ptr, A, M, JUMP: tl.constexpr, LARGEST: tl.constexpr,
    BLOCK_A: tl.constexpr, BLOCK_M: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    m = tl.program_id(1) * BLOCK_M + tl.arange(0, BLOCK_M)
    one = tl.load(level_ptr + row * A)
    law = one >= 0  # not where it is NaN
    wanted = (2 * m + 1).to(one.dtype) / (2 * M) - JUMP
    found = wanted * 0.0 + LARGEST
    for start in range(0, A, BLOCK_A):
        a = start + tl.arange(0, BLOCK_A)
        y = tl.load(y_ptr + row * A + a, mask=a < A, other=0.0)
        level = tl.load(level_ptr + row * A + a, mask=a < A, other=0.0)
        enough = (a < A)[None, :] & (level[None, :] >= wanted[:, None])
        found = tl.minimum(found, tl.min(tl.where(enough, y[None, :], LARGEST), axis=1))
    tl.store(out_ptr + row * M + m, tl.where(law, found, float("nan")), mask=m < M)


def categorical(atoms_NA: Tensor, weights_NA: Tensor, grid_M: Tensor) -> Tensor:
    """Weights on the grid, (N, M), as `projection_plain.categorical`."""
    (n, atoms), points = atoms_NA.shape, len(grid_M)
    found = atoms_NA.new_empty(n, points)
    block_a, block_m = _block(atoms), _block(points)
    settings: Any = {"LARGEST": torch.finfo(atoms_NA.dtype).max, "BLOCK_A": block_a, "BLOCK_M": block_m}
    _categorical[n, triton.cdiv(points, block_m)](
        atoms_NA, weights_NA, grid_M, found, atoms, points, OFF=OFF[atoms_NA.dtype], **settings
    )
    return found


def quantiles(atoms_NA: Tensor, weights_NA: Tensor, quantiles: int) -> Tensor:
    """Atoms of the quantile projection, (N, M), as `projection_plain.quantiles`."""
    n, atoms = atoms_NA.shape
    found, level_NA = atoms_NA.new_empty(n, quantiles), torch.empty_like(atoms_NA)
    block_a, block_m = _block(atoms), _block(quantiles)
    settings: Any = {"LARGEST": torch.finfo(atoms_NA.dtype).max, "BLOCK_A": block_a}
    _levels[n, triton.cdiv(atoms, block_a)](atoms_NA, weights_NA, level_NA, atoms, OFF=OFF[atoms_NA.dtype], **settings)
    _quantiles[n, triton.cdiv(quantiles, block_m)](
        atoms_NA, level_NA, found, atoms, quantiles, JUMP=JUMP[atoms_NA.dtype], BLOCK_M=block_m, **settings
    )
    return found


def _block(wanted: int) -> int:
    return min(64, triton.next_power_of_2(wanted))
