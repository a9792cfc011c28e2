r"""Where regressing differences of rewards on margins comes to rest, and which policies it cannot tell apart.

n responses, a reference q, rewards R, a temperature b, weights W_ij >= 0 of how often the ordered pair (i, j) is shown, S = W +
W'. With z the logits, R_b = R - b log(pi/q) and u = z - log q - R/b the loss of the contrast is a quadratic in the logits,

    sum_ij W_ij (R_b(i) - R_b(j))^2 = b^2 u' L u = 1/2 u' H u,      L = diag(S 1) - S,      H = 2 b^2 L,

L being the Laplacian of the graph of pairs that are shown. For independent draws from m and m', W = m m'^T; for m = m' it is
H = 4 b^2 (diag m - m m^T) and the loss 2 b^2 Var_m log(pi/pi*). Its minimisers are the policies whose u is constant on each
component of the graph: pi* = q e^(R/b) / Z alone where the graph is connected, else every mixture of pi* given the components.

Flet-Berliac et al. 2024, arXiv 2406.19185, theorem 1 (supports that are equal); connectedness proved here.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import connected_components

from ..mdp.preference import distribution
from .errors import SolveError
from .gibbs import gibbs


@dataclass(frozen=True, eq=False)
class ContrastiveOptimum:
    """The minimisers of the contrast.

    component: (n,), the component of each response in the graph of pairs that are shown, from 0. conditional: (n,), pi* given
    the component, which sums to one in each. hessian: (n, n), H, of the loss by the logits.
    """

    component: np.ndarray
    conditional: np.ndarray
    hessian: np.ndarray

    @property
    def unique(self) -> bool:
        """Whether there is one minimiser."""
        return not self.component.any()

    @property
    def condition(self) -> float:
        """Largest over smallest positive eigenvalue of H, at least 1: gradient descent of the best fixed step contracts by
        (c - 1)/(c + 1).
        """
        size = np.linalg.eigvalsh(self.hessian)[int(self.component.max()) + 1 :]
        return float(size[-1] / size[0]) if len(size) else 1.0

    def policy(self, mass: np.ndarray | None = None) -> np.ndarray:
        """The minimiser (n,) that gives the components this mass, one number each; the mass may be left out where it is one.

        Raises SolveError where several components want a mass and none is given, ModelError for a mass that is no distribution.
        """
        components = int(self.component.max()) + 1
        if mass is None and components > 1:
            raise SolveError(
                f"the pairs that are shown leave {components} components of responses apart, and the loss says nothing of "
                "their masses; show a pair between them, or give mass"
            )
        share = distribution(np.ones(1) if mass is None else mass, components, "mass")
        return share[self.component] * self.conditional


def contrastive_optimum(
    reference: np.ndarray, reward: np.ndarray, temperature: float, weights: np.ndarray
) -> ContrastiveOptimum:
    """All minimisers for a reference (n,) > 0, rewards (n,), a temperature b > 0 and weights (n, n) >= 0 of ordered pairs.

    Weights on the diagonal show a response beside itself and count for nothing. Raises SolveError naming what is wrong, and
    ModelError for a reference that is no positive distribution.
    """
    reward, weights = np.asarray(reward, dtype=np.float64), np.array(weights, dtype=np.float64)
    n = len(reward) if reward.ndim == 1 else 0
    if not n or not np.isfinite(reward).all():
        raise SolveError(f"reward of shape {reward.shape} must be finite numbers, one a response")
    reference = distribution(reference, n, "reference", positive=True)
    if not 0 < temperature < np.inf:
        raise SolveError(f"temperature is {temperature}; give a positive number")
    if weights.shape != (n, n) or not np.isfinite(weights).all() or (weights < 0).any():
        raise SolveError(f"weights of shape {weights.shape} must be {n} by {n} finite numbers >= 0")
    np.fill_diagonal(weights, 0.0)
    shown = weights + weights.T
    _, component = connected_components(csr_matrix(shown), directed=False)
    best = gibbs(reference, reward / temperature)
    mass = np.bincount(component, best)
    return ContrastiveOptimum(
        component=component.astype(np.int64),
        conditional=best / mass[component],
        hessian=2 * temperature**2 * (np.diag(shown.sum(1)) - shown),
    )
