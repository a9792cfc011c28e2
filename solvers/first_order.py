r"""First-order primal-dual iteration, a baseline for robust problems with L2 and Kullback-Leibler balls.

At a vector v every state is a saddle point of a bilinear function, z_a = r'(s, a, .) + g v,

    (T v)(s) = max_{x in simplex} min_{y_a in U_a} sum_a x_a (r_a + y_a . z_a).

It is not solved but approached, by steps of Chambolle and Pock's method for all states at once,

    x+ proportional to x exp(t (r + y . z)),        y_a+ = argmin_{U_a} c (2 x+ - x)_a z_a . y + D(y, y_a),

with D the half square of the Euclidean distance for L2 and the Kullback-Leibler divergence for KL, so that a step costs a
projection, found by bisection on one multiplier; t c K^2 = 1 with K the size of z. Epoch l makes l^q steps with v held still;
then the weighted averages of the iterates, weights growing like the p-th power of the step, say what v is to be:

    v+(s) = sum_a xbar_a (r_a + ybar_a . z_a).

Grand-Clement and Kroer, AAAI 2021 (arXiv:2005.05434): O(A^2 S^3 log(1/eps) / eps) operations in all. Whatever it returns is
proved afterwards like any other answer (`banach.solvers.bracket`); whether it is near enough is asked of T once an epoch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..mdp.ambiguity.euclidean import L2
from ..mdp.ambiguity.kullback_leibler import KL
from ..mdp.operator import Operator
from ..mdp.robust import RobustMDP
from .bracket import macqueen_porteus
from .errors import NotConverged, SolveError
from .watch import Watch

_HALVINGS = 40
"""Bisections of a projection's multiplier."""


@dataclass(frozen=True)
class FirstOrder:
    """Primal-dual steps between changes of the vector.

    growth: q, epoch l makes l^q steps, rounded up; at least 0. averaging: p, at least 0.
    max_rounds: epochs before giving up with `NotConverged`.
    """

    growth: float = 1.0
    averaging: float = 2.0
    max_rounds: int = 2_000

    def run(self, operator: Operator, value: np.ndarray, eps: float, watch: Watch) -> np.ndarray:
        """A vector (n_states,) whose bracket is at most eps wide.

        Raises SolveError unless nature is hostile and has an L2 or KL ball a pair, NotConverged after max_rounds epochs.
        """
        game = _Game.of(getattr(operator, "model", None))
        value, image, policy, span = value.copy(), np.empty_like(value), operator.blank_policy(), np.inf
        x, y = game.start()
        for epoch in range(1, self.max_rounds + 1):
            low, high = operator.apply(value, image, policy)
            below, above = macqueen_porteus(low, high, operator.mass)
            span, steps = above - below, int(np.ceil(epoch**self.growth))
            watch(value, span, steps)
            if span <= eps:
                return value if operator.terminal.any() else value + (below + above) / 2
            z, mean_x, mean_y, total = game.outcomes(value), np.zeros_like(x), np.zeros_like(y), 0.0
            for step in range(1, steps + 1):
                x, y = game.step(x, y, z)
                weight = step**self.averaging
                total += weight
                mean_x, mean_y = mean_x + weight / total * (x - mean_x), mean_y + weight / total * (y - mean_y)
            value[game.acting] = np.add.reduceat(mean_x * game.worth(mean_y, z), game.first)
        raise NotConverged(
            f"the bracket is still {span:.3g} wide after {self.max_rounds} epochs (asked for {eps:.3g}); raise max_rounds, or "
            "use RobustPolicyIteration()",
            reached=span,
        )


@dataclass(frozen=True)
class _Game:
    """All states' saddle points as arrays of m rows, filled up to L entries.

    column: (m, L), successors. nominal: (m, L), zero where filled up. gain: (m, L). first: (k,), first pair of each acting
    state. owner: (m,), which acting state. radius: (m,).
    """

    model: RobustMDP
    column: np.ndarray
    nominal: np.ndarray
    held: np.ndarray
    gain: np.ndarray
    first: np.ndarray
    owner: np.ndarray
    radius: np.ndarray
    euclidean: bool
    acting: np.ndarray

    @classmethod
    def of(cls, model: Any) -> _Game:
        """Of a robust problem. Raises SolveError for any other, and for sets that have no step here."""
        sets: list[Any] = [model.set_of(pair) for pair in range(model.n_pairs)] if isinstance(model, RobustMDP) else []
        kinds = {type(one) for one in sets}
        if kinds not in ({L2}, {KL}) or model.optimistic or not hasattr(model.operator, "worst_rows"):
            raise SolveError(
                "FirstOrder() is for (s, a)-rectangular robust problems with L2 or KL balls and a hostile nature; use "
                "RobustPolicyIteration() or no method at all"
            )
        table = model.problem
        length = np.diff(table.row_ptr).astype(np.int64)
        held = np.arange(length.max()) < length[:, None]
        entry = np.where(held, table.row_ptr[:-1].astype(np.int64)[:, None] + np.arange(length.max()), 0)
        gain = np.zeros(held.shape) if model.transition_reward is None else model.transition_reward[entry] * held
        acting = np.flatnonzero(~table.terminal)
        return cls(
            model, table.successor[entry], table.probability[entry] * held, held, gain,
            table.state_ptr[:-1][acting].astype(np.int64), np.repeat(np.arange(len(acting)), np.diff(table.state_ptr)[acting]),
            np.array([one.radius for one in sets]), kinds == {L2}, acting,
        )  # fmt: skip

    def start(self) -> tuple[np.ndarray, np.ndarray]:
        """Even odds and nominal rows."""
        return 1.0 / np.bincount(self.owner)[self.owner], self.nominal.copy()

    def outcomes(self, value: np.ndarray) -> np.ndarray:
        """z, (m, L)."""
        return (self.gain + self.model.problem.discount * value[self.column]) * self.held

    def worth(self, y: np.ndarray, z: np.ndarray) -> np.ndarray:
        """r + y.z, (m,)."""
        return self.model.reward + (y * z).sum(axis=1)

    def step(self, x: np.ndarray, y: np.ndarray, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """One step of all states, x (m,), y (m, L), z (m, L)."""
        middle = (z.sum(axis=1) / self.held.sum(axis=1))[:, None]
        spread = np.where(self.held, z - middle, 0.0)  # a constant in z is worth the same to every row
        size = np.sqrt((spread**2).sum(axis=1)) if self.euclidean else np.abs(spread).max(axis=1)
        size = np.maximum(np.maximum.reduceat(size, self.first), 1e-300)[self.owner]
        breadth = np.sqrt(2 * np.log(np.maximum(np.bincount(self.owner), 2)))[self.owner]
        reach = np.minimum(self.radius, 1.0) if self.euclidean else np.sqrt(2 * np.minimum(self.radius, 10.0))
        reach = np.maximum(reach, 1e-12)
        reach = np.maximum.reduceat(reach, self.first)[self.owner]
        logits = np.log(np.maximum(x, 1e-300)) + breadth / (size * reach) * self.worth(y, z)
        logits -= np.maximum.reduceat(logits, self.first)[self.owner]
        following = np.exp(logits)
        following /= np.add.reduceat(following, self.first)[self.owner]
        slope = (reach / (size * breadth) * (2 * following - x))[:, None] * spread
        nearest = project_euclidean if self.euclidean else project_divergence
        return following, nearest(y, slope, self.nominal, self.radius, self.held)


def project_euclidean(
    y: np.ndarray, slope: np.ndarray, nominal: np.ndarray, radius: np.ndarray, held: np.ndarray
) -> np.ndarray:
    """argmin slope.p + |p - y|^2 / 2 over rows p within a Euclidean distance of the nominal one; all (m, L), radius (m,).

    For a multiplier u >= 0 it is the projection of (y - slope + u nominal) / (1 + u) on the simplex; u by bisection.
    """
    goal, mass = y - slope, nominal.sum(axis=1)

    def at(share: np.ndarray) -> np.ndarray:
        return _on_simplex(nominal + share[:, None] * (goal - nominal), mass, held)

    return _last_inside(at, lambda row: ((row - nominal) ** 2).sum(axis=1) <= radius**2, len(y))


def project_divergence(
    y: np.ndarray, slope: np.ndarray, nominal: np.ndarray, radius: np.ndarray, held: np.ndarray
) -> np.ndarray:
    """argmin slope.p + KL(p || y) over rows p of divergence at most the radius from the nominal one; all (m, L), radius (m,).

    For a share w in [0, 1] it is proportional to nominal^(1-w) (y exp(-slope))^w; w by bisection.
    """
    mass, used = nominal.sum(axis=1), held & (nominal > 0)
    centre = np.log(np.where(used, nominal, 1.0))
    goal = np.log(np.where(used, np.maximum(y, 1e-300), 1.0)) - slope

    def at(share: np.ndarray) -> np.ndarray:
        logits = np.where(used, centre + share[:, None] * (goal - centre), -np.inf)
        weight = np.exp(logits - logits.max(axis=1, keepdims=True))
        return weight * (mass / weight.sum(axis=1))[:, None]

    def inside(row: np.ndarray) -> np.ndarray:
        logs = np.where(row > 0, np.log(np.where(row > 0, row, 1.0)) - centre, 0.0)
        return (row * logs).sum(axis=1) <= radius

    return _last_inside(at, inside, len(y))


def _last_inside(at: Callable[[np.ndarray], np.ndarray], inside: Callable[[np.ndarray], np.ndarray], n: int) -> np.ndarray:
    """The rows at the largest shares, in [0, 1], that are inside; those at 0 are, and once outside they stay so."""
    low, high = np.zeros(n), np.ones(n)
    low = np.where(inside(at(high)), high, low)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        good = inside(at(middle))
        low, high = np.where(good, middle, low), np.where(good, high, middle)
    return at(low)


def _on_simplex(row: np.ndarray, mass: np.ndarray, held: np.ndarray) -> np.ndarray:
    """The nearest rows >= 0 of given mass (m,), zero where not held (m, L)."""
    ordered = -np.sort(-np.where(held, row, -np.inf), axis=1)
    finite = np.isfinite(ordered)
    excess = (np.cumsum(np.where(finite, ordered, 0.0), axis=1) - mass[:, None]) / np.arange(1, row.shape[1] + 1)
    last = (finite & (ordered > excess)).sum(axis=1) - 1
    level = np.take_along_axis(excess, np.maximum(last, 0)[:, None], axis=1)
    return np.where(held, np.maximum(row - level, 0.0), 0.0)
