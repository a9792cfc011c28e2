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
from .ambiguity.short_rows import GREEDY, SHORT
from .errors import ModelError
from .model import MDP
from .restriction import chosen_pairs, entries_of
from .threads import n_threads, run_ranges, split
from .validation import ROW_SUM_TOLERANCE

if TYPE_CHECKING:
    import scipy.sparse

    from .robust import RobustMDP

_WORTH_SHARING = 20_000
"""Transitions above which a second thread pays; an inner problem costs many times a product."""

_NOWHERE, _NOTHING = np.empty(0, dtype=np.int64), np.empty(0)


@dataclass(frozen=True, eq=False)
class RobustOperator:
    """The operator over the model's own arrays, on vectors of shape (n_states,); see `banach.mdp.operator.Operator`."""

    model: RobustMDP
    mass: tuple[float, float]
    _arrays: tuple[Any, ...] = field(repr=False)
    _pairs: np.ndarray = field(repr=False)
    _kernels: tuple[Any, ...] = field(repr=False)

    @classmethod
    def of(cls, model: RobustMDP) -> RobustOperator:
        """The operator of a maximisation problem. Raises ModelError when the criterion minimises."""
        nominal, sets = model.problem, model.sets
        if nominal.criterion.minimize:
            raise ModelError("the robust operator maximises; take the operator of model.negated()")
        gain = np.empty(0) if model.transition_reward is None else model.transition_reward
        arrays = (
            nominal.row_ptr, nominal.successor, nominal.probability, nominal.reward, gain, nominal.discount, sets.family,
            sets.parameter, sets.entry, sets.entry_ptr, -1.0 if model.optimistic else 1.0,
        )  # fmt: skip
        short = (np.diff(nominal.row_ptr) <= SHORT) & (sets.family < GREEDY)
        return cls(model, _mass(model), arrays, np.arange(nominal.n_pairs), _kernels(bool(short.any()), bool(short.all())))

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
        return self.model.floor(self.modulus)

    def blank_policy(self) -> np.ndarray:
        """A fresh array for an action of each state, int32 (n_states,)."""
        return np.empty(self.n_states, dtype=np.int32)

    def apply(self, value: np.ndarray, out: np.ndarray, policy: np.ndarray) -> tuple[float, float]:
        """out = T value, policy = greedy actions (lowest index on ties), all (n_states,); least and greatest change."""
        nominal = self.model.problem
        kernel: Any = sweeps.best
        worth = self._worths(self._pairs, value)
        return kernel(0, self.n_states, nominal.state_ptr, nominal.terminal_value, worth, value, out, policy)

    def apply_policy(self, policy: np.ndarray, value: np.ndarray, out: np.ndarray) -> tuple[float, float]:
        """out = T_policy value, all (n_states,); least and greatest change."""
        acting = ~self.terminal
        worth = self.model.terminal_value.copy()
        worth[acting] = self._worths(chosen_pairs(self.model.problem, policy), value)
        change = worth - value
        out[:] = worth
        return float(change.min()), float(change.max())

    def sweep(self, value: np.ndarray, policy: np.ndarray, backward: bool = False) -> tuple[float, float]:
        """One in-place Gauss-Seidel sweep of T, all (n_states,); least and greatest change.

        Rows that only long kernels solve are swept all at once, as by `apply`.
        """
        if not self._all_short:
            return self._jacobi(value, policy, False)
        return self._in_place(backward, False, value, policy)

    def sweep_policy(self, policy: np.ndarray, value: np.ndarray, backward: bool = False) -> tuple[float, float]:
        """One in-place Gauss-Seidel sweep of T_policy, all (n_states,); least and greatest change."""
        if not self._all_short:
            return self._jacobi(value, policy, True)
        return self._in_place(backward, True, value, policy)

    def enclose(self, value: np.ndarray, policy: np.ndarray, lower: np.ndarray, upper: np.ndarray) -> None:
        """policy = greedy; lower <= T_policy value and T value <= upper, rounding included; all (n_states,)."""
        nominal = self.model.problem
        kernel: Any = sweeps.best_enclosed
        below, worth, above = np.empty((3, nominal.n_pairs))
        for module in self._kernels:
            run_ranges(module.enclosed, self._cuts(self._pairs), self._pairs, *self._arrays, value, below, worth, above)
        kernel(nominal.state_ptr, nominal.terminal_value, below, worth, above, policy, lower, upper)

    def worst_rows(self, value: np.ndarray) -> np.ndarray:
        """Nature's rows at a vector (n_states,) for every pair, in the order of the stored transitions, (n_transitions,)."""
        rows = np.empty(self.model.n_transitions)
        self._worths(self._pairs, value, self.model.row_ptr, rows)
        return rows

    def _worths(
        self, pairs: np.ndarray, value: np.ndarray, head: np.ndarray = _NOWHERE, rows: np.ndarray = _NOTHING
    ) -> np.ndarray:
        """q of each pair; with `rows`, nature's row of the i-th from head[i] on."""
        worth = np.empty(len(pairs))
        for module in self._kernels:
            run_ranges(module.worths, self._cuts(pairs), pairs, *self._arrays, value, worth, head, rows)
        return worth

    def _cuts(self, pairs: np.ndarray) -> np.ndarray:
        parts = n_threads() if self.model.n_transitions >= _WORTH_SHARING else 1
        if parts == 1:
            return np.array([0, len(pairs)])
        return split(np.concatenate(([0], np.cumsum(np.diff(self.model.row_ptr)[pairs]))), parts)

    @property
    def _all_short(self) -> bool:
        return self._kernels == (sweeps,)

    def _in_place(self, backward: bool, chosen: bool, value: np.ndarray, policy: np.ndarray) -> tuple[float, float]:
        nominal = self.model.problem
        kernel: Any = sweeps.gauss_seidel
        before, after = self._arrays[:5], self._arrays[5:]
        return kernel(backward, chosen, nominal.state_ptr, *before, nominal.terminal_value, *after, value, policy)

    def _jacobi(self, value: np.ndarray, policy: np.ndarray, chosen: bool) -> tuple[float, float]:
        image = np.empty_like(value)
        change = self.apply_policy(policy, value, image) if chosen else self.apply(value, image, policy)
        value[:] = image
        return change

    def policy_system(self, policy: np.ndarray) -> tuple[scipy.sparse.csr_array, np.ndarray]:
        """Raises ModelError: T_policy, (n_states,) to (n_states,), is not affine; `frozen` is, at one vector."""
        raise ModelError(
            "a robust policy's operator is not affine, since nature answers every vector; use RobustPolicyIteration(), "
            "ModifiedPolicyIteration() or ValueIteration()"
        )

    def tangent(self, policy: np.ndarray, value: np.ndarray) -> MDP:
        """The chain of the greedy policy at a vector, both (n_states,), and nature's rows there."""
        return self.frozen(policy, value)

    def frozen(self, policy: np.ndarray, value: np.ndarray) -> MDP:
        """The problem with one action a state, the policy's, and nature's rows at a vector; both (n_states,)."""
        nominal, acting = self.model.problem, policy >= 0
        pairs = chosen_pairs(nominal, policy)
        lengths = np.diff(nominal.row_ptr)[pairs].astype(np.int64)
        head = np.concatenate(([0], np.cumsum(lengths)))
        rows = np.empty(head[-1])
        self._worths(pairs, value, head[:-1], rows)
        entries = entries_of(nominal, pairs)
        reward = nominal.reward[pairs]
        if self.model.transition_reward is not None and len(pairs):
            reward = reward + np.add.reduceat(rows * self.model.transition_reward[entries], head[:-1])
        return MDP(
            np.concatenate(([0], np.cumsum(acting))),
            head,
            nominal.successor[entries],
            rows,
            reward,
            nominal.criterion,
            nominal.terminal,
            nominal.terminal_value,
            nominal.initial,
        )


def _kernels(some_short: bool, all_short: bool) -> tuple[Any, ...]:
    """The modules whose kernels the rows need; long rows' only where there are any."""
    if all_short:
        return (sweeps,)
    from . import robust_long_sweeps

    return (sweeps, robust_long_sweeps) if some_short else (robust_long_sweeps,)


def _mass(model: RobustMDP) -> tuple[float, float]:
    low, high = model.problem.operator.mass
    if not model.set_of(0).keeps_mass:  # rows of their own, each of sum one within the tolerance
        low, high = low * (1 - 4 * ROW_SUM_TOLERANCE), high * (1 + 4 * ROW_SUM_TOLERANCE)
    return low, high
