r"""The Bellman optimality operator of a finite Markov decision problem.

    (T v)(s) = max_a [ r(s, a) + g sum_j p(j | s, a) v(j) ]          (T v)(s) = terminal value, where s is terminal.

T is monotone, and T(v + c) = T v + g c where rows sum to one; `mass` bounds the factor for rows that do not quite
(Puterman 2005, section 6.2). Maximisation only: to minimise, negate the problem.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse

from . import sweeps
from .errors import ModelError
from .packed import PackedPolicy, pack
from .threads import WORTH_SHARING, n_threads, run_ranges, split

if TYPE_CHECKING:
    from .model import MDP


@dataclass(frozen=True, eq=False)
class BellmanOperator:
    """The operator over the model's own arrays; see `banach.mdp.operator.Operator` for the contract.

    order: int32 (n_states,), the order of Gauss-Seidel sweeps.
    """

    model: MDP
    discount: float
    order: np.ndarray
    _arrays: tuple[np.ndarray, ...] = field(repr=False)
    _cuts: np.ndarray = field(repr=False)

    @classmethod
    def of(cls, model: MDP) -> BellmanOperator:
        """The operator of a maximisation problem. Raises ModelError when the criterion minimises."""
        if model.criterion.minimize:
            raise ModelError("the Bellman operator maximises; take the operator of model.negated()")
        arrays = (
            model.state_ptr, model.row_ptr, model.successor, model.probability, model.reward, model.terminal_value,
        )  # fmt: skip
        parts = n_threads() if model.n_transitions >= WORTH_SHARING else 1
        cuts = split(model.row_ptr[model.state_ptr], parts) if parts > 1 else np.array([0, model.n_states])
        order = np.arange(model.n_states, dtype=np.int32)
        return cls(model, model.discount, order, arrays, cuts)

    @property
    def n_states(self) -> int:
        """Number of states."""
        return self.model.n_states

    @property
    def terminal(self) -> np.ndarray:
        """Terminal states, bool (n_states,)."""
        return self.model.terminal  # pyright: ignore[reportReturnType]

    @property
    def mass(self) -> tuple[float, float]:
        """Bounds on the factor by which T moves a positive constant."""
        return self._mass

    @cached_property
    def _mass(self) -> tuple[float, float]:
        row_cuts = self.model.state_ptr[self._cuts]
        ranges = run_ranges(sweeps.row_sum_range, row_cuts, self.model.row_ptr, self.model.probability)
        low, high = min(low for low, _ in ranges), max(high for _, high in ranges)
        if self.model.terminal.any():
            low = 0.0
        if not np.isfinite(high):  # every state is terminal
            return 0.0, 0.0
        return max(0.0, np.nextafter(self.discount * low, -np.inf)), np.nextafter(self.discount * high, np.inf)

    @property
    def modulus(self) -> float:
        """Contraction modulus, rounded up."""
        return self.mass[1]

    def start(self) -> np.ndarray:
        """The terminal value in terminal states and elsewhere a constant c <= T c, so that sweeps rise from below; (n_states,).

        From below, news of a good terminal state spreads with the first sweeps; from above, every state first tries all its
        neighbours that have not been disappointed yet.
        """
        model = self.model
        worst = min(0.0, float(model.reward.min(initial=0.0)), float(model.terminal_value.min(initial=0.0)))
        floor = worst / (1 - self.modulus) if self.modulus < 1 else 0.0
        return np.where(model.terminal, model.terminal_value, floor)

    def blank_policy(self) -> np.ndarray:
        """A fresh array for an action of each state, int32 (n_states,)."""
        return np.empty(self.n_states, dtype=np.int32)

    def apply(self, value: np.ndarray, out: np.ndarray, policy: np.ndarray) -> tuple[float, float]:
        """out = T value, policy = greedy actions (lowest index on ties); least and greatest change."""
        return _merge(run_ranges(sweeps.bellman, self._cuts, *self._arrays, self.discount, value, out, policy))

    def apply_policy(self, policy: np.ndarray, value: np.ndarray, out: np.ndarray) -> tuple[float, float]:
        """out = T_policy value; least and greatest change."""
        return _merge(run_ranges(sweeps.bellman_policy, self._cuts, *self._arrays, self.discount, policy, value, out))

    def sweep(self, value: np.ndarray, policy: np.ndarray, backward: bool = False) -> tuple[float, float]:
        """One in-place Gauss-Seidel sweep of T; least and greatest change."""
        kernel: Any = sweeps.gauss_seidel
        return kernel(self.order, backward, *self._arrays, self.discount, value, policy)

    def sweep_policy(self, policy: np.ndarray, value: np.ndarray, backward: bool = False) -> tuple[float, float]:
        """One in-place Gauss-Seidel sweep of T_policy; least and greatest change."""
        kernel: Any = sweeps.gauss_seidel_policy
        return kernel(self.order, backward, *self._arrays, self.discount, policy, value)

    def enclose(self, value: np.ndarray, policy: np.ndarray, lower: np.ndarray, upper: np.ndarray) -> None:
        """policy = greedy; lower <= T_policy value and T value <= upper, rounding included."""
        run_ranges(sweeps.enclose, self._cuts, *self._arrays, self.discount, value, policy, lower, upper)

    @property
    def actions_per_state(self) -> float:
        """Mean number of actions: what a sweep of T costs in sweeps of one policy."""
        return self.model.n_pairs / self.model.n_states

    def pack(self, policy: np.ndarray, loops: bool) -> PackedPolicy:
        """The policy as a packed linear map; see `banach.mdp.packed.pack`."""
        return pack(self.model, self.discount, policy, loops)

    def repack(self, packed: PackedPolicy, policy: np.ndarray, changed: np.ndarray) -> bool:
        """Bring the states `changed` of a packed policy up to date in place; False where that is not possible."""
        return packed.repack(self.model, self.discount, policy, changed)

    def policy_system(self, policy: np.ndarray) -> tuple[scipy.sparse.csr_array, np.ndarray]:
        """T_policy v = matrix @ v + constant; CSR (n, n) with the discount inside, and (n,)."""
        model = self.model
        acting = ~model.terminal
        pairs = (model.state_ptr[:-1] + policy)[acting]
        lengths = np.zeros(model.n_states, dtype=np.int64)
        lengths[acting] = np.diff(model.row_ptr)[pairs]
        indptr = np.concatenate(([0], np.cumsum(lengths)))
        offset = np.repeat(model.row_ptr[pairs] - indptr[:-1][acting], lengths[acting])
        entries = np.arange(indptr[-1]) + offset
        matrix = scipy.sparse.csr_array(
            (self.discount * model.probability[entries], model.successor[entries], indptr),
            shape=(model.n_states, model.n_states),
        )
        constant = self.start()
        constant[acting] = model.reward[pairs]
        return matrix, constant


def _merge(changes: list[tuple[float, float]]) -> tuple[float, float]:
    return min(low for low, _ in changes), max(high for _, high in changes)
