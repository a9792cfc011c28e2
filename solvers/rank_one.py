r"""Rank-one modified value iteration.

Policy iteration would go from v to v + (I - M)^{-1} (T v - v), M = g P_p with p greedy. Replace M by its dominant part
lambda w d' / (d'w), with w and d its right and left eigenvectors; the inverse is then a scalar away from the identity:

    y = T v + lambda / (1 - lambda) * d'(T v - v) / (d'w) * w.

w, d and lambda are followed by one step of the power method a sweep while the policy settles. Kolarijani, Ok, Mohajerin
Esfahani and Sharifi Kolarijani 2025 (arXiv:2505.01828) take w = 1, lambda = g and d the stationary distribution, for rows that
sum to one. That correction is a constant, and a bracket already knows its best one. So where nothing is terminal the dominant
part is taken modulo constants, which removes the slowest mode that the bracket does see; where something is terminal, M is
substochastic and w is its own Perron vector. `banach.solvers.safeguard` decides whether y is kept.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse

from ..mdp.operator import Operator
from .safeguard import accelerated
from .watch import Watch

_STALE = 8
"""Sweeps for which M may be that of an earlier greedy policy: gathering it costs several sweeps."""


@dataclass(frozen=True)
class RankOne:
    """Value iteration with a rank-one correction along the slowest mode, safeguarded.

    max_sweeps: applications of T before `NotConverged`.
    """

    max_sweeps: int = 1_000_000

    def run(self, operator: Operator, value: np.ndarray, eps: float, watch: Watch) -> np.ndarray:
        """Centre of a bracket of width <= eps, shape (n_states,)."""
        return accelerated(operator, value, eps, watch, _SlowestMode(operator), self.max_sweeps)


class _SlowestMode:
    """Dominant eigenvalue and eigenvectors of the greedy policy's M, modulo constants where nothing is terminal."""

    def __init__(self, operator: Operator) -> None:
        self.operator, self.modulo_constants = operator, not operator.terminal.any()
        self.policy = np.full(operator.n_states, -2, dtype=np.int32)
        self.matrix, self.age = scipy.sparse.csr_array((operator.n_states, operator.n_states)), _STALE
        self.right = self.left = self.residual = np.empty(0)
        self.eigenvalue = np.nan

    def observe(self, value: np.ndarray, image: np.ndarray, policy: np.ndarray) -> None:
        if self.age >= _STALE and not np.array_equal(policy, self.policy):
            self.policy, self.age = policy.copy(), 0
            self.matrix, _ = self.operator.policy_system(policy)
        self.age += 1
        self.residual = image - value
        if not len(self.right):
            self.right, self.left = _unit(self._project(self.residual)), _unit(self._project(self.residual))
        moved = self._project(self.matrix @ self.right)
        overlap = self.left @ self.right
        self.eigenvalue = self.left @ moved / overlap if overlap else np.nan
        self.right, self.left = _unit(moved), _unit(self._project(self.matrix.T @ self.left))

    def propose(self, image: np.ndarray) -> np.ndarray | None:
        overlap = self.left @ self.right
        if not (abs(self.eigenvalue) < 1 and overlap):
            return None
        step = self.eigenvalue / (1 - self.eigenvalue) * (self.left @ self.residual) / overlap
        return image + step * self.right if np.isfinite(step) else None

    def _project(self, vector: np.ndarray) -> np.ndarray:
        return vector - vector.mean() if self.modulo_constants else vector


def _unit(vector: np.ndarray) -> np.ndarray:
    length = float(np.linalg.norm(vector))
    if not length:
        return vector
    vector = vector / length
    vector[np.abs(vector) < 1e-100] = 0.0  # arithmetic on subnormal numbers is a hundred times slower
    return vector
