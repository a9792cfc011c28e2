"""The projections of `projection` in plain torch, the meaning of the kernels and what runs without them.

Shape suffixes: N laws, A atoms of each, M grid points or quantiles.
"""

from __future__ import annotations

import torch
from torch import Tensor

OFF = {torch.float32: 1e-4, torch.float64: 1e-9}
"""How far from one the weights of a law may sum."""
JUMP = {torch.float32: 1e-6, torch.float64: 1e-12}
"""Levels that exceed a jump of F by less are taken for it: sums of weights round."""


def categorical(atoms_NA: Tensor, weights_NA: Tensor, grid_M: Tensor) -> Tensor:
    """Weights on the grid, (N, M); NaN for rows (of atoms (N, A), weights (N, A)) that are no laws. grid_M: (M,)."""
    y_NA, p_NA, law_N = _laws(atoms_NA, weights_NA)
    y_NA = y_NA.clamp(grid_M[0], grid_M[-1])
    cell_NA = (torch.searchsorted(grid_M, y_NA, right=True) - 1).clamp(max=len(grid_M) - 2)
    upper_NA = (y_NA - grid_M[cell_NA]) / (grid_M[cell_NA + 1] - grid_M[cell_NA])
    found = y_NA.new_zeros(len(y_NA), len(grid_M))
    found.scatter_add_(1, cell_NA, p_NA * (1 - upper_NA)).scatter_add_(1, cell_NA + 1, p_NA * upper_NA)
    return torch.where(law_N[:, None], found, torch.nan)


def quantiles(atoms_NA: Tensor, weights_NA: Tensor, quantiles: int) -> Tensor:
    """Atoms of the quantile projection, (N, M), in order; NaN for rows (atoms (N, A), weights (N, A)) that are no laws."""
    y_NA, p_NA, law_N = _laws(atoms_NA, weights_NA)
    y_NA, order_NA = y_NA.sort(dim=1)
    levels_NA = p_NA.gather(1, order_NA).cumsum(1)
    wanted_M = (2 * torch.arange(quantiles, dtype=y_NA.dtype, device=y_NA.device) + 1) / (2 * quantiles) - JUMP[y_NA.dtype]
    at_NM = torch.searchsorted(levels_NA, wanted_M.expand(len(y_NA), -1).contiguous()).clamp(max=y_NA.shape[1] - 1)
    return torch.where(law_N[:, None], y_NA.gather(1, at_NM), torch.nan)


def _laws(atoms_NA: Tensor, weights_NA: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Atoms and weights that sum to one, (N, A), and whether each row was a law, (N,); where not, zeros."""
    total_N = weights_NA.sum(1)
    sound_NA = atoms_NA.isfinite() & (weights_NA >= 0)
    law_N = sound_NA.all(1) & ((total_N - 1).abs() <= OFF[atoms_NA.dtype])
    return (
        torch.where(law_N[:, None], atoms_NA, 0.0),
        torch.where(law_N[:, None], weights_NA, 0.0) / torch.where(law_N, total_N, 1.0)[:, None],
        law_N,
    )
