r"""The Bellman operator of a robust linear problem: d inner problems, then a product with the features.

    q_k(v) = r_k + sum_i phi_ki w_i,      w_i = g sigma_i(v).

The inner problems are those of `banach.mdp.robust_operator`, enclosed with their rounding, l_i <= w_i <= h_i. A float sum of
d + 1 terms is off by at most 1.01 (d + 2) u times the sum of absolute terms in any order, u = 2^-53 (see `banach.mdp.sweeps`),
and phi >= 0, so that q_k is enclosed too. T moves constants by the mass of features times that of the factors.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from . import robust_sweeps as sweeps
from .errors import ModelError
from .model import MDP
from .restriction import chosen_pairs
from .sweeps import TINY, UNIT_ROUNDOFF

if TYPE_CHECKING:
    import scipy.sparse

    from .linear_robust import LinearRobustMDP


@dataclass(frozen=True, eq=False)
class LinearRobustOperator:
    """The operator over the model's own arrays, on vectors of shape (n_states,); see `banach.mdp.operator.Operator`."""

    model: LinearRobustMDP
    mass: tuple[float, float]

    @classmethod
    def of(cls, model: LinearRobustMDP) -> LinearRobustOperator:
        """The operator of a maximisation problem. Raises ModelError when the criterion minimises."""
        if model.criterion.minimize:
            raise ModelError("the robust operator maximises; take the operator of model.negated()")
        if not len(model.features):
            return cls(model, (0.0, 0.0))
        sums, error = model.features.sum(axis=1), 2 * (model.n_factors + 4) * UNIT_ROUNDOFF
        low = 0.0 if model.terminal.any() else float(sums.min()) * _lightest(model) * (1 - error)
        return cls(model, (low, float(sums.max()) * max(part.operator.modulus for part in model.parts) * (1 + error)))

    @property
    def n_states(self) -> int:
        """Number of states."""
        return self.model.n_states

    @property
    def terminal(self) -> np.ndarray:
        """Terminal states, bool (n_states,)."""
        return self.model.terminal

    @property
    def modulus(self) -> float:
        """Contraction modulus, rounded up."""
        return self.mass[1]

    def start(self) -> np.ndarray:
        """A constant c <= T c, with the terminal value in terminal states; (n_states,)."""
        model = self.model.problem
        worst = min(0.0, float(model.reward.min(initial=0.0)), float(model.terminal_value.min(initial=0.0)))
        floor = worst / (1 - self.modulus) if self.modulus < 1 else 0.0
        return np.where(model.terminal, model.terminal_value, floor)

    def blank_policy(self) -> np.ndarray:
        """A fresh array for an action of each state, int32 (n_states,)."""
        return np.empty(self.n_states, dtype=np.int32)

    def apply(self, value: np.ndarray, out: np.ndarray, policy: np.ndarray) -> tuple[float, float]:
        """out = T value, policy = greedy actions (lowest index on ties), all (n_states,); least and greatest change."""
        nominal = self.model.problem
        worth = self.model.reward + self.model.features @ self._factors(value)
        kernel: Any = sweeps.best
        return kernel(0, self.n_states, nominal.state_ptr, nominal.terminal_value, worth, value, out, policy)

    def apply_policy(self, policy: np.ndarray, value: np.ndarray, out: np.ndarray) -> tuple[float, float]:
        """out = T_policy value, all (n_states,); least and greatest change."""
        pairs = chosen_pairs(self.model.problem, policy)
        worth = self.model.problem.terminal_value.copy()
        worth[~self.terminal] = self.model.reward[pairs] + self.model.features[pairs] @ self._factors(value)
        change = worth - value
        out[:] = worth
        return float(change.min()), float(change.max())

    def sweep(self, value: np.ndarray, policy: np.ndarray, backward: bool = False) -> tuple[float, float]:
        """value = T value, policy = greedy, all (n_states,): every state needs all factors, so there is no order to gain by."""
        image = np.empty_like(value)
        change = self.apply(value, image, policy)
        value[:] = image
        return change

    def sweep_policy(self, policy: np.ndarray, value: np.ndarray, backward: bool = False) -> tuple[float, float]:
        """value = T_policy value, all (n_states,); least and greatest change."""
        image = np.empty_like(value)
        change = self.apply_policy(policy, value, image)
        value[:] = image
        return change

    def enclose(self, value: np.ndarray, policy: np.ndarray, lower: np.ndarray, upper: np.ndarray) -> None:
        """policy = greedy; lower <= T_policy value and T value <= upper, rounding included; all (n_states,)."""
        model, nominal = self.model, self.model.problem
        low, high = self.enclosed_factors(value)
        below, above = model.reward + model.features @ low, model.reward + model.features @ high
        size = np.abs(model.reward) + model.features @ np.maximum(np.abs(low), np.abs(high))
        off = 1.02 * (model.n_factors + 4) * UNIT_ROUNDOFF * size + TINY
        kernel: Any = sweeps.best_enclosed
        below, above = below - off, above + off
        kernel(nominal.state_ptr, nominal.terminal_value, below, (below + above) / 2, above, policy, lower, upper)

    def enclosed_factors(self, value: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(lower, upper), (d,) each: g sigma_i at a vector (n_states,), rounding included."""
        low, high = np.empty((2, self.model.n_factors))
        for part, place in self._places():
            lower, upper, policy = np.empty_like(value), np.empty_like(value), part.operator.blank_policy()
            part.operator.enclose(value, policy, lower, upper)
            low[place], high[place] = lower[: part.n_pairs], upper[: part.n_pairs]
        return low, high

    def worst_factors(self, value: np.ndarray) -> np.ndarray:
        """Nature's factors at a vector (n_states,), float64 (d, n_states)."""
        found = np.zeros(self.model.factors.shape)
        for part, place in self._places():
            rows, lengths = part.operator.worst_rows(value), np.diff(part.row_ptr)
            np.add.at(found[place], (np.repeat(np.arange(part.n_pairs), lengths), part.problem.successor), rows)
        return found

    def _places(self) -> list[tuple[Any, slice]]:
        n = self.n_states
        return [(part, slice(k * n, k * n + part.n_pairs)) for k, part in enumerate(self.model.parts)]

    def _factors(self, value: np.ndarray) -> np.ndarray:
        """g sigma_i, (d,)."""
        worth = np.empty(self.model.n_factors)
        for part, place in self._places():
            image = np.empty_like(value)
            part.operator.apply(value, image, part.operator.blank_policy())
            worth[place] = image[: part.n_pairs]
        return worth

    def policy_system(self, policy: np.ndarray) -> tuple[scipy.sparse.csr_array, np.ndarray]:
        """Raises ModelError: T_policy, (n_states,) to (n_states,), is not affine; `frozen` is, at one vector."""
        raise ModelError(
            "a robust policy's operator is not affine, since nature answers every vector; use RobustPolicyIteration(), "
            "ModifiedPolicyIteration() or ValueIteration()"
        )

    def tangent(self, policy: np.ndarray, value: np.ndarray) -> MDP:
        """The chain of the greedy policy at a vector, both (n_states,), and nature's factors there."""
        return self.frozen(policy, value)

    def frozen(self, policy: np.ndarray, value: np.ndarray) -> MDP:
        """The problem with one action a state, the policy's, and nature's factors at a vector; both (n_states,)."""
        nominal = self.model.problem
        pairs = chosen_pairs(nominal, policy)
        rows = self.model.features[pairs] @ self.worst_factors(value)
        stored = rows > 0
        return MDP(
            np.concatenate(([0], np.cumsum(policy >= 0))),
            np.concatenate(([0], np.cumsum(stored.sum(axis=1)))),
            np.nonzero(stored)[1],
            rows[stored],
            nominal.reward[pairs],
            nominal.criterion,
            nominal.terminal,
            nominal.terminal_value,
            nominal.initial,
        )


def _lightest(model: LinearRobustMDP) -> float:
    """A lower bound of g times the mass of a factor, rounded down."""
    own = 1.0 if model.set_of(0).keeps_mass else 1 - 1e-8
    error = (model.n_states + 4) * UNIT_ROUNDOFF
    return model.problem.discount * float(model.factors.sum(axis=1).min()) * own * (1 - 2 * error)
