r"""One state whose actions share nature's budget: the s-rectangular inner problem.

    U_s = {(p_a) : sum_a D(p_a, pbar_a) <= kappa},        value = max_{d in simplex} min_{p in U_s} sum_a d_a p_a.z_a.

By duality value = min {t : p_a.z_a <= t for all a, p in U_s}: nature pushes every action down to one level u, at the least
distance xi_a(u) each, until the budget is spent, and the decision maker mixes actions in proportion to what a unit of value
costs nature, d_a ~ -d xi_a / du. A deterministic decision may be strictly worse.

Wiesemann, Kuhn and Rustem, Math. Oper. Res. 38(1), 2013; Ho, Petrik and Wiesemann, JMLR 22, 2021, and NeurIPS 2022.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import ModelError
from . import state_curves, state_paths
from .ambiguity_set import Ball
from .burg import Burg
from .chi_square import ChiSquare
from .kullback_leibler import KL
from .state_bracket import FRAME
from .total_variation import L1, TotalVariation
from .weighted_l1 import WeightedL1

_LINEAR = (L1, TotalVariation, WeightedL1)
_SMOOTH = (KL, ChiSquare, Burg)
_CLOSE = 1e-12
"""Relative width of a bracket that no single action is asked to better."""


@dataclass(frozen=True, eq=False)
class StateWorstCase:
    """The solved inner problem of a state with A actions.

    value: max_d min_p sum_a d_a p_a.z_a, within rounding.
    decision: float64 (A,), a distribution over actions; it guarantees at least `lower`.
    rows: float64 (A, n), a worst row for each action.
    lower, upper: lower <= the exact value <= upper, the given floats taken as exact numbers.
    """

    value: float
    decision: np.ndarray
    rows: np.ndarray
    lower: float
    upper: float


@dataclass(frozen=True)
class SRectangular:
    """The actions of a state share one budget, the radius of the ball.

    ball: L1, TotalVariation, WeightedL1, KL, ChiSquare or Burg; its radius bounds the sum of the actions' distances.
    Raises ModelError for another set.
    """

    ball: Ball

    def __post_init__(self) -> None:
        if not isinstance(self.ball, _LINEAR + _SMOOTH):
            known = ", ".join(family.__name__ for family in _LINEAR + _SMOOTH)
            raise ModelError(f"{self.ball!r} has no s-rectangular solver; use one of {known}")

    def worst(self, nominal: np.ndarray, value: np.ndarray) -> StateWorstCase:
        """The decision and the worst rows; nominal and value (A, n).

        Raises ModelError when a row is no distribution, a value is not finite or the shapes differ.
        """
        rows = _Rows.of(self.ball, nominal, value)
        found, decision, p, lower, upper = rows.answer(self.ball, None)
        if upper - lower > _CLOSE * max(abs(lower), abs(upper)):  # prices may be beyond floats where one action alone does
            alone = [self.ball.worst(*row).lower for row in zip(nominal, value, strict=True)]
            if max(alone) > lower:
                lower = max(alone)
                decision[:] = np.arange(len(alone)) == np.argmax(alone)
                found, upper = max(found, lower), max(upper, lower)
        return StateWorstCase(found, decision, rows.spread(p), lower, upper)

    def evaluate(self, decision: np.ndarray, nominal: np.ndarray, value: np.ndarray) -> tuple[float, np.ndarray]:
        """min_p sum_a d_a p_a.z_a of a given decision d (A,), and rows (A, n) that attain it; nominal and value (A, n).

        Raises ModelError when the decision or a row is no distribution, a value is not finite or the shapes differ.
        """
        rows = _Rows.of(self.ball, nominal, value)
        decision = np.array(decision, dtype=np.float64)
        if decision.shape != (len(rows.ptr) - 1,) or not decision.min() >= 0 or abs(decision.sum() - 1) > 1e-9:
            raise ModelError(f"decision {decision} is no distribution over {len(rows.ptr) - 1} actions; normalise it")
        found, _, p, _, _ = rows.answer(self.ball, decision)
        return found, rows.spread(p)


@dataclass(frozen=True, eq=False)
class _Rows:
    """The rows of a state, one after another, without the entries that cannot carry mass."""

    z: np.ndarray
    pbar: np.ndarray
    weight: np.ndarray
    ptr: np.ndarray
    keep: np.ndarray
    radius: float

    @classmethod
    def of(cls, ball: Ball, nominal: np.ndarray, value: np.ndarray) -> _Rows:
        nominal, value = np.array(nominal, dtype=np.float64), np.array(value, dtype=np.float64)
        if nominal.ndim != 2 or nominal.size == 0 or nominal.shape != value.shape:
            raise ModelError(
                f"rows {nominal.shape} and values {value.shape} must both be (actions, successors); one row an action"
            )
        for row, z in zip(nominal, value, strict=True):
            ball.require(row, z)
        weights = np.full_like(nominal, 0.5)
        if isinstance(ball, WeightedL1):
            weights = np.stack([ball.entries(row)[0] for row in nominal])
        keep = nominal > 0 if ball.support == "nominal" or ball.dominated else np.ones(nominal.shape, dtype=bool)
        ptr = np.concatenate(([0], np.cumsum(keep.sum(axis=1)))).astype(np.int64)
        return cls(value[keep], nominal[keep], weights[keep], ptr, keep, float(ball.parameters()[0]))

    def answer(self, ball: Ball, decision: np.ndarray | None) -> tuple[float, np.ndarray, np.ndarray, float, float]:
        """(value, decision (A,), rows (N,), lower, upper); the decision is sought where none is given."""
        n, a = len(self.z), len(self.ptr) - 1
        given, reward = decision is not None, np.zeros(a)
        decision = np.empty(a) if decision is None else decision
        d, p, frame = np.empty(n), np.empty(n), np.empty((FRAME, a))
        kernel: Any = state_curves.answer if isinstance(ball, _LINEAR) else state_paths.answer
        if isinstance(ball, _LINEAR):
            uniform = not isinstance(ball, WeightedL1)
            found, _, lower, upper = kernel(
                uniform, given, True, self.radius, self.z, self.pbar, self.weight, reward, self.ptr, d, p, np.empty((2, n)),
                np.empty((2, n), dtype=np.int64), np.empty((3, 2 * n + a)), np.empty(a, dtype=np.int64),
                np.empty((2, a), dtype=np.int64), frame, decision,
            )  # fmt: skip
        else:
            found, _, lower, upper = kernel(
                ball.family, given, True, self.radius, self.z, self.pbar, reward, self.ptr, d, p, np.empty(n), frame, decision
            )
        return found, decision, p, lower, upper

    def spread(self, p: np.ndarray) -> np.ndarray:
        rows = np.zeros(self.keep.shape)
        rows[self.keep] = p
        return rows
