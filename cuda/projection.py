r"""Laws of returns brought to a size, many at once: the categorical and the quantile projection of every row of a batch.

Row n is the law with weight p_a at atom y_a, in any order, equal atoms allowed. Onto a grid z_1 < ... < z_M, categorically,

    w_m = sum_a p_a h_m(clip(y_a, z_1, z_M)),    h_m the hat with h_m(z_m) = 1 that falls to 0 at z_{m-1} and z_{m+1},

and onto M quantiles

    x_m = min {y_a : F(y_a) >= (2m - 1)/(2M)},    F(y) = sum_a p_a 1[y_a <= y].

Weights are divided by their sum. A row that is no law (an atom or weight that is not finite, a negative weight, a sum further
from one than 1e-9, 1e-4 in float32) comes out as NaN: looking at a whole batch before would cost as much as projecting it.
Projections carry no gradient; they make targets.

On a CUDA device with Triton the kernels of `projection_kernel` run, elsewhere their torch twin in `projection_plain`.

Bellemare, Dabney and Munos 2017, arXiv 1707.06887 (categorical); Dabney et al. 2018, arXiv 1710.10044 (quantiles).

Shape suffixes: N laws, A atoms of each, M grid points or quantiles.
"""

from __future__ import annotations

from types import ModuleType

import torch
from torch import Tensor

from . import projection_plain


@torch.no_grad()
def categorical_projection(atoms_NA: Tensor, weights_NA: Tensor, grid_M: Tensor) -> Tensor:
    """Weights (N, M) that the categorical projection of each law puts on the grid.

    atoms_NA, weights_NA: (N, A), float32 or float64, A >= 1. grid_M: (M,), M >= 2, strictly increasing, of their type and
    device. Raises ValueError naming the argument that does not fit. Bellemare, Dabney and Munos 2017, arXiv 1707.06887.
    """
    _check(atoms_NA, weights_NA)
    if grid_M.ndim != 1 or len(grid_M) < 2 or grid_M.dtype != atoms_NA.dtype or grid_M.device != atoms_NA.device:
        raise ValueError(
            f"grid_M is {tuple(grid_M.shape)} {grid_M.dtype} on {grid_M.device}; give at least two points, (M,), "
            f"{atoms_NA.dtype} on {atoms_NA.device}"
        )
    if not bool((grid_M[1:] > grid_M[:-1]).all() & grid_M.isfinite().all()):
        raise ValueError("grid_M does not increase strictly; give finite points in order, each once")
    return _road(atoms_NA).categorical(atoms_NA.contiguous(), weights_NA.contiguous(), grid_M.contiguous())


@torch.no_grad()
def quantile_projection(atoms_NA: Tensor, weights_NA: Tensor, quantiles: int) -> Tensor:
    """The `quantiles` >= 1 equally likely atoms, (N, M), increasing, of the quantile projection of each law.

    atoms_NA, weights_NA: (N, A), float32 or float64, A >= 1. A level above a jump of F by less than rounding (1e-12, 1e-6 in
    float32) is taken for it. Raises ValueError naming the argument that does not fit. Dabney et al. 2018, arXiv 1710.10044.
    """
    _check(atoms_NA, weights_NA)
    if isinstance(quantiles, bool) or not isinstance(quantiles, int) or quantiles < 1:
        raise ValueError(f"quantiles={quantiles!r}; give a whole number >= 1")
    return _road(atoms_NA).quantiles(atoms_NA.contiguous(), weights_NA.contiguous(), quantiles)


def _road(atoms_NA: Tensor) -> ModuleType:
    """The Triton kernels where they can run, else the twin."""
    if atoms_NA.is_cuda and atoms_NA.numel():
        try:
            from . import projection_kernel
        except ImportError:
            return projection_plain
        return projection_kernel
    return projection_plain


def _check(atoms_NA: Tensor, weights_NA: Tensor) -> None:
    if atoms_NA.ndim != 2 or atoms_NA.shape != weights_NA.shape or not atoms_NA.shape[1]:
        raise ValueError(
            f"atoms_NA {tuple(atoms_NA.shape)} and weights_NA {tuple(weights_NA.shape)}: give (N, A) twice, at least one atom"
        )
    if atoms_NA.dtype not in (torch.float32, torch.float64) or atoms_NA.dtype != weights_NA.dtype:
        raise ValueError(f"atoms_NA is {atoms_NA.dtype}, weights_NA {weights_NA.dtype}; give float32 or float64 for both")
    if atoms_NA.device != weights_NA.device:
        raise ValueError(f"atoms_NA is on {atoms_NA.device}, weights_NA on {weights_NA.device}; give both on one device")
