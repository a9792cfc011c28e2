r"""Kantorovich's distance between two distributions, as a proved bracket.

Mathematics and kernels in `banach.solvers.transport_kernels`. The exact method is the network simplex; entropic transport is
smooth and parallel, and its bracket says how far the regularisation has moved the answer: at most the regularisation times the
entropy of the plan, log(k n), and less where the plan is sharp.

Villani, Topics in Optimal Transportation, AMS 2003; Peyre and Cuturi, Computational Optimal Transport, 2019 (arXiv:1803.00567).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from . import transport_kernels as kernels
from .errors import SolveError


@dataclass(frozen=True)
class NetworkSimplex:
    """Exact up to rounding."""

    @property
    def settings(self) -> tuple[float, int]:
        """Regularisation and sweeps, as the kernels take them."""
        return 0.0, 0


@dataclass(frozen=True)
class Entropic:
    """Sinkhorn's sweeps.

    regularisation: > 0, in units of cost. sweeps: >= 1, of both sides.
    Raises SolveError for settings out of range.
    """

    regularisation: float
    sweeps: int = 200

    def __post_init__(self) -> None:
        if not (self.regularisation > 0 and np.isfinite(self.regularisation)) or self.sweeps < 1:
            raise SolveError(f"{self}: the regularisation must be positive and finite, the sweeps at least one")

    @property
    def settings(self) -> tuple[float, int]:
        """Regularisation and sweeps, as the kernels take them."""
        return float(self.regularisation), int(self.sweeps)


TransportMethod = NetworkSimplex | Entropic


@dataclass(frozen=True, eq=False)
class Transport:
    """A bracket of the distance with what proves it.

    lower, upper: of the distance. plan: (k, n), with the marginals p and q up to rounding, costs `upper`.
    dual: (n,), g of a feasible pair (f, g), f_i = min_j (c_ij - g_j), worth `lower`.
    """

    lower: float
    upper: float
    plan: np.ndarray
    dual: np.ndarray


def kantorovich(p: np.ndarray, q: np.ndarray, cost: np.ndarray, method: TransportMethod | None = None) -> Transport:
    """The least cost of turning p (k,) into q (n,) when moving a unit from i to j costs cost[i, j], (k, n).

    p, q: weights >= 0 with a positive sum, normalised here. cost: finite, of any sign. method: default `NetworkSimplex()`.
    Raises SolveError for shapes that do not fit, negative weights or costs that are not finite.
    """
    p, q, cost = (np.asarray(array, dtype=np.float64) for array in (p, q, cost))
    if p.ndim != 1 or q.ndim != 1 or cost.shape != (len(p), len(q)):
        raise SolveError(f"weights of shapes {p.shape} and {q.shape} do not fit a cost of shape {cost.shape}")
    for name, weights in (("p", p), ("q", q)):
        if not np.isfinite(weights).all() or np.any(weights < 0) or not weights.sum() > 0:
            raise SolveError(f"{name} must be weights >= 0 with a positive sum; got {weights}")
    if not np.isfinite(cost).all():
        raise SolveError("the cost has entries that are not finite")
    rows, cols = np.flatnonzero(p), np.flatnonzero(q)
    plan, dual, small = np.zeros((len(p), len(q))), np.zeros(len(q)), np.zeros((len(rows), len(cols)))
    own, inner = np.zeros(len(cols)), np.ascontiguousarray(cost[np.ix_(rows, cols)])
    kernel: Any = kernels.transport
    chosen = method or NetworkSimplex()
    lower, upper = kernel(p[rows] / p.sum(), q[cols] / q.sum(), inner, small, own, *chosen.settings)
    plan[np.ix_(rows, cols)] = small
    dual[cols] = own
    return Transport(float(lower), float(upper), plan, dual)
