r"""Anderson acceleration of value iteration.

With f(v) = T v - v and the last iterates v_{k-m}, ..., v_k, take the affine combination whose residual, by linearity, is
smallest in the Euclidean norm (type II), and go on from the same combination of images:

    theta = argmin | f_k - sum_i theta_i (f_{i+1} - f_i) |_2,      y = T v_k - sum_i theta_i (T v_{i+1} - T v_i).

T is only piecewise affine, so y need not be better; `banach.solvers.safeguard` decides. Where nothing is terminal the
residuals are taken modulo constants (less their mean). The m x m normal equations are solved with a Tikhonov term of 1e-12
of their trace.

Anderson 1965; Walker and Ni 2011; Geist and Scherrer 2018 (arXiv:1809.09501); Zhang, O'Donoghue and Boyd 2020
(arXiv:1808.03971).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..mdp.operator import Operator
from .safeguard import accelerated
from .watch import Watch


@dataclass(frozen=True)
class Anderson:
    """Value iteration with Anderson acceleration of type II, safeguarded.

    memory: differences kept, m >= 1; 2 m vectors of storage. max_sweeps: applications of T before `NotConverged`.
    """

    memory: int = 5
    max_sweeps: int = 1_000_000

    def run(self, operator: Operator, value: np.ndarray, eps: float, watch: Watch) -> np.ndarray:
        """Centre of a bracket of width <= eps, shape (n_states,)."""
        combination = _Combination(self.memory, operator.n_states, modulo_constants=not operator.terminal.any())
        return accelerated(operator, value, eps, watch, combination, self.max_sweeps)


class _Combination:
    """The last differences of residuals and images, as rings of `memory` rows."""

    def __init__(self, memory: int, n_states: int, modulo_constants: bool) -> None:
        self.memory, self.modulo_constants = memory, modulo_constants
        self.residuals, self.images = np.empty((memory, n_states)), np.empty((memory, n_states))
        self.seen = 0
        self.residual = self.image = np.empty(0)

    def observe(self, value: np.ndarray, image: np.ndarray, policy: np.ndarray) -> None:
        residual = image - value
        if self.modulo_constants:
            residual -= residual.mean()
        if self.seen:
            row = (self.seen - 1) % self.memory
            np.subtract(residual, self.residual, out=self.residuals[row])
            np.subtract(image, self.image, out=self.images[row])
        self.residual, self.image = residual, image.copy()
        self.seen += 1

    def propose(self, image: np.ndarray) -> np.ndarray | None:
        used = min(self.seen - 1, self.memory)
        differences = self.residuals[:used]
        products = differences @ differences.T
        size = float(np.trace(products))
        if not (np.isfinite(size) and size > 0):
            return None
        weights = np.linalg.solve(products + 1e-12 * size * np.eye(used), differences @ self.residual)
        return image - weights @ self.images[:used]
