r"""The robust Bellman operator: monotone, and moved by constants as the nominal one is, since nature keeps the mass of a row.

T_policy is no affine map: nature answers every vector. At one vector it is one, that of nature's worst rows there, and

    T_policy v = T_{policy, p} v,      T_policy w <= T_{policy, p} w for every w        (a hostile nature),

so that the nominal problem with these rows and this policy alone, `frozen`, is a tangent to T_policy from above.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from . import robust_sweeps as sweeps
from .ambiguity.scenarios import Scenarios
from .errors import ModelError
from .model import MDP
from .threads import n_threads, run_ranges, split
from .validation import ROW_SUM_TOLERANCE

if TYPE_CHECKING:
    import scipy.sparse

    from .robust import RobustMDP

_WORTH_SHARING = 20_000
"""Transitions above which a second thread pays; an inner problem costs many times a product."""


@dataclass(frozen=True, eq=False)
class RobustOperator:
    """The operator over the model's own arrays; see `banach.mdp.operator.Operator` for the contract."""

    model: RobustMDP
    mass: tuple[float, float]
    _arrays: tuple[Any, ...] = field(repr=False)
    _cuts: np.ndarray = field(repr=False)

    @classmethod
    def of(cls, model: RobustMDP) -> RobustOperator:
        """The operator of a maximisation problem. Raises ModelError when the criterion minimises."""
        nominal, sets = model.problem, model.sets
        if nominal.criterion.minimize:
            raise ModelError("the robust operator maximises; take the operator of model.negated()")
        gain = np.empty(0) if model.transition_reward is None else model.transition_reward
        arrays = (
            nominal.state_ptr, nominal.row_ptr, nominal.successor, nominal.probability, nominal.reward, gain,
            nominal.terminal_value, nominal.discount, sets.family, sets.parameter, sets.entry, sets.entry_ptr,
            -1.0 if model.optimistic else 1.0,
        )  # fmt: skip
        parts = n_threads() if nominal.n_transitions >= _WORTH_SHARING else 1
        cuts = split(nominal.row_ptr[nominal.state_ptr], parts) if parts > 1 else np.array([0, nominal.n_states])
        return cls(model, _mass(model), arrays, cuts)

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
        model = self.model
        worst = float(model.reward.min(initial=0.0))
        if model.transition_reward is not None:
            worst += float(model.transition_reward.min(initial=0.0))
        worst = min(0.0, worst, float(model.terminal_value.min(initial=0.0)))
        floor = worst / (1 - self.modulus) if self.modulus < 1 else 0.0
        return np.where(model.terminal, model.terminal_value, floor)

    def blank_policy(self) -> np.ndarray:
        """A fresh array for an action of each state, int32 (n_states,)."""
        return np.empty(self.n_states, dtype=np.int32)

    def apply(self, value: np.ndarray, out: np.ndarray, policy: np.ndarray) -> tuple[float, float]:
        """out = T value, policy = greedy actions (lowest index on ties), all (n_states,); least and greatest change."""
        return _merge(run_ranges(sweeps.bellman, self._cuts, *self._arrays, value, out, policy))

    def apply_policy(self, policy: np.ndarray, value: np.ndarray, out: np.ndarray) -> tuple[float, float]:
        """out = T_policy value, all (n_states,); least and greatest change."""
        return _merge(run_ranges(sweeps.bellman_policy, self._cuts, *self._arrays, policy, value, out))

    def sweep(self, value: np.ndarray, policy: np.ndarray, backward: bool = False) -> tuple[float, float]:
        """One in-place Gauss-Seidel sweep of T, all (n_states,); least and greatest change."""
        kernel: Any = sweeps.gauss_seidel
        return kernel(backward, False, *self._arrays, value, policy)

    def sweep_policy(self, policy: np.ndarray, value: np.ndarray, backward: bool = False) -> tuple[float, float]:
        """One in-place Gauss-Seidel sweep of T_policy, all (n_states,); least and greatest change."""
        kernel: Any = sweeps.gauss_seidel
        return kernel(backward, True, *self._arrays, value, policy)

    def enclose(self, value: np.ndarray, policy: np.ndarray, lower: np.ndarray, upper: np.ndarray) -> None:
        """policy = greedy; lower <= T_policy value and T value <= upper, rounding included; all (n_states,)."""
        run_ranges(sweeps.enclose, self._cuts, *self._arrays, value, policy, lower, upper)

    def policy_system(self, policy: np.ndarray) -> tuple[scipy.sparse.csr_array, np.ndarray]:
        """Raises ModelError: T_policy, (n_states,) to (n_states,), is not affine; `frozen` is, at one vector."""
        raise ModelError(
            "a robust policy's operator is not affine, since nature answers every vector; use RobustPolicyIteration(), "
            "ModifiedPolicyIteration() or ValueIteration()"
        )

    def frozen(self, policy: np.ndarray, value: np.ndarray) -> MDP:
        """The problem with one action a state, the policy's, and nature's rows at a vector; both (n_states,)."""
        nominal = self.model.problem
        acting = policy >= 0
        pairs = (nominal.state_ptr[:-1] + policy)[acting]
        lengths = np.zeros(nominal.n_states, dtype=np.int64)
        lengths[acting] = np.diff(nominal.row_ptr)[pairs]
        head = np.concatenate(([0], np.cumsum(lengths)))
        column, weight = np.empty(head[-1], dtype=np.int32), np.empty(head[-1])
        gain = np.zeros(nominal.n_states)
        state_ptr, row_ptr, successor, probability, reward, extra, _, *rest = self._arrays
        arrays = (state_ptr, row_ptr, successor, probability, reward, extra, *rest)
        run_ranges(sweeps.worst_kernel, self._cuts, *arrays, policy, value, head, column, weight, gain)
        return MDP(
            np.concatenate(([0], np.cumsum(acting))),
            np.concatenate(([0], np.cumsum(lengths[acting]))),
            column,
            weight,
            gain[acting],
            nominal.criterion,
            nominal.terminal,
            nominal.terminal_value,
            nominal.initial,
        )


def _mass(model: RobustMDP) -> tuple[float, float]:
    low, high = model.problem.operator.mass
    if Scenarios.family in model.sets.family:  # rows of their own, each of sum one within the tolerance
        low, high = low * (1 - 4 * ROW_SUM_TOLERANCE), high * (1 + 4 * ROW_SUM_TOLERANCE)
    return low, high


def _merge(changes: list[tuple[float, float]]) -> tuple[float, float]:
    return min(low for low, _ in changes), max(high for _, high in changes)
