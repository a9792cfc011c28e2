r"""The s-rectangular Bellman operator: the actions of a state share nature's budget, and policies randomise.

    (T v)(s) = max_d min { sum_a d_a (r(s, a) + p_a . z_a) : sum_a D(p_a, pbar_a) <= kappa_s },      d >= 0, sum_a d_a = 1.

A policy is an array of weights (n_pairs,). T is monotone and moves constants as the nominal operator does. Of a saddle (d, p)
at v the chain T_{d,p} is a derivative of T there; p alone, against every action, proves T v <= max_a (r + p_a . z_a).

Where nature helps, a deterministic decision is best and T is that of the (s, a)-rectangular set with the whole budget on every
row: `banach.mdp.robust_operator`. Where the decision is given, T_d v is all there is.

Wiesemann, Kuhn and Rustem, Math. Oper. Res. 38(1), 2013; Ho, Petrik and Wiesemann, JMLR 22(275), 2021.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from . import s_rectangular_sweeps as sweeps
from .ambiguity import state_shared
from .errors import ModelError
from .model import MDP
from .threads import n_threads, run_ranges, split

if TYPE_CHECKING:
    import scipy.sparse

    from .robust import RobustMDP

_WORTH_SHARING = 10_000
"""Transitions above which a second thread pays."""

_NOTHING = np.empty(0)


@dataclass(frozen=True, eq=False)
class SRectangularOperator:
    """The operator over the model's own arrays, on vectors of shape (n_states,); see `banach.mdp.operator.Operator`."""

    model: RobustMDP
    mass: tuple[float, float]
    _arrays: tuple[Any, ...] = field(repr=False)
    _cuts: np.ndarray = field(repr=False)
    _shared: bool = field(repr=False)

    @classmethod
    def of(cls, model: RobustMDP) -> SRectangularOperator:
        """The operator of a maximisation problem. Raises ModelError when the criterion minimises."""
        nominal, sets = model.problem, model.sets
        if nominal.criterion.minimize:
            raise ModelError("the robust operator maximises; take the operator of model.negated()")
        gain = _NOTHING if model.transition_reward is None else model.transition_reward
        arrays = (
            nominal.state_ptr, nominal.row_ptr, nominal.successor, nominal.probability, nominal.reward, gain,
            nominal.terminal_value, nominal.discount, sets.family, sets.parameter, sets.entry, sets.entry_ptr,
            -1.0 if model.optimistic else 1.0,
        )  # fmt: skip
        parts = n_threads() if model.n_transitions >= _WORTH_SHARING else 1
        cuts = split(nominal.row_ptr[nominal.state_ptr].astype(np.int64), parts)
        cuts = cuts if parts > 1 else np.array([0, model.n_states])
        return cls(model, nominal.operator.mass, arrays, cuts, _shares_order(model))

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
        """A fresh array for the weights of all actions, float64 (n_pairs,), zero until written."""
        return np.zeros(self.model.n_pairs)

    def apply(self, value: np.ndarray, out: np.ndarray, policy: np.ndarray) -> tuple[float, float]:
        """out = T value (n_states,), policy = the decisions' weights (n_pairs,); least and greatest change."""
        return self._sweep(self._committed(policy), False, value, out, policy)

    def apply_policy(self, policy: np.ndarray, value: np.ndarray, out: np.ndarray) -> tuple[float, float]:
        """out = T_policy value, both (n_states,), of weights (n_pairs,); least and greatest change."""
        return self._sweep(True, False, value, out, policy)

    def sweep(self, value: np.ndarray, policy: np.ndarray, backward: bool = False) -> tuple[float, float]:
        """One in-place Gauss-Seidel sweep of T on value (n_states,), policy (n_pairs,); least and greatest change."""
        return self._sweep(self._committed(policy), backward, value, value, policy)

    def sweep_policy(self, policy: np.ndarray, value: np.ndarray, backward: bool = False) -> tuple[float, float]:
        """One in-place Gauss-Seidel sweep of T_policy, weights (n_pairs,), on value (n_states,); least and greatest change."""
        return self._sweep(True, backward, value, value, policy)

    def enclose(self, value: np.ndarray, policy: np.ndarray, lower: np.ndarray, upper: np.ndarray) -> None:
        """policy (n_pairs,) = greedy; lower <= T_policy value and T value <= upper, rounding included; all else (n_states,)."""
        self._proved(self._committed(policy), value, policy, lower, upper)

    def evidence(self, policy: np.ndarray, lower: np.ndarray, upper: np.ndarray) -> dict[str, np.ndarray]:
        """What proves lower <= T_policy lower and T upper <= upper, vectors (n_states,), apart from themselves.

        price: (n_states,), of a unit of nature's budget when she answers the policy (n_pairs,) at `lower`, or where she helps
            at `upper`. share: (n_pairs,), parts of the budget that hold every action down at `upper`, or up at `lower`.
        """
        below, above = (lower, upper) if not self.model.optimistic else (upper, lower)
        spare = np.empty_like(lower), np.empty_like(lower)
        price = self._proved(True, below, policy.copy(), *spare)[0]
        share = self._proved(self._committed(policy.copy()), above, policy.copy(), *spare)[1]
        return {"price": price, "share": share}

    def saddle(self, value: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The decisions' weights (n_pairs,) and nature's rows (n_transitions,) at a vector (n_states,): a saddle point.

        Against the rows no decision, and against the decision no rows, are better for the one who chooses.
        """
        policy = self.blank_policy()
        spare = np.empty_like(value), np.empty_like(value)
        return policy, self._proved(self._committed(policy), value, policy, *spare)[2]

    def worst_rows(self, value: np.ndarray) -> np.ndarray:
        """Nature's rows of the saddle at a vector (n_states,), in the order of the stored transitions, (n_transitions,)."""
        return self.saddle(value)[1]

    def frozen(self, policy: np.ndarray, value: np.ndarray) -> MDP:
        """The chain of a policy (n_pairs,) and the rows with which nature answers it at a vector (n_states,)."""
        spare = np.empty_like(value), np.empty_like(value)
        return self.model.chain(policy, self._proved(True, value, policy.copy(), *spare)[2])

    def tangent(self, policy: np.ndarray, value: np.ndarray) -> MDP:
        """The chain of the greedy policy (n_pairs,) at a vector (n_states,) and nature's rows of the saddle there."""
        return self.model.chain(policy, self.worst_rows(value))

    def policy_system(self, policy: np.ndarray) -> tuple[scipy.sparse.csr_array, np.ndarray]:
        """Raises ModelError: T_policy, (n_states,) to (n_states,), is not affine; `frozen` is, at one vector."""
        raise ModelError(
            "a robust policy's operator is not affine, since nature answers every vector; use RobustPolicyIteration(), "
            "ModifiedPolicyIteration() or ValueIteration()"
        )

    def _committed(self, policy: np.ndarray) -> bool:
        """Whether the model names the decision; it is written to `policy` then."""
        if self.model.decision is None:
            return False
        policy[:] = self.model.decision
        return True

    def _sweep(
        self, given: bool, backward: bool, value: np.ndarray, out: np.ndarray, policy: np.ndarray
    ) -> tuple[float, float]:
        if self._shared and not given and value is not out:
            return self._ordered(value, out, policy)
        cuts = np.array([0, self.n_states]) if value is out else self._cuts
        settings = (given, False, backward, *self._arrays, value, out, policy)
        changes = run_ranges(sweeps.states, cuts, *settings, _NOTHING, _NOTHING, _NOTHING, _NOTHING, _NOTHING)
        return min(low for low, _ in changes), max(high for _, high in changes)

    def _ordered(self, value: np.ndarray, out: np.ndarray, policy: np.ndarray) -> tuple[float, float]:
        nominal = self.model.problem
        settings = (
            nominal.state_ptr, nominal.row_ptr, nominal.successor, nominal.probability, nominal.reward, nominal.terminal_value,
            nominal.discount, self.model.sets.parameter, value, out, policy,
        )  # fmt: skip
        changes = run_ranges(state_shared.shared_states, self._cuts, *settings)
        return min(low for low, _ in changes), max(high for _, high in changes)

    def _proved(
        self, given: bool, value: np.ndarray, policy: np.ndarray, lower: np.ndarray, upper: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Price, shares and rows beside the bracket."""
        price, share = np.empty(self.n_states), np.empty(self.model.n_pairs)
        rows, out = np.empty(self.model.n_transitions), np.empty_like(value)
        settings = (given, True, False, *self._arrays, value, out, policy)
        run_ranges(sweeps.states, self._cuts, *settings, lower, upper, price, share, rows)
        return price, share, rows


def _shares_order(model: RobustMDP) -> bool:
    """Whether one order of the value vector orders the outcomes of every row, and the set is a ball in total variation."""
    nominal = model.problem
    lengths = np.diff(nominal.row_ptr)
    if model.optimistic or model.transition_reward is not None or not len(lengths) or np.ptp(lengths):
        return False
    rows = nominal.successor.reshape(-1, lengths[0])
    return bool((model.sets.family == sweeps.TRANSPORT).all() and (rows == rows[0]).all())
