r"""Robust linear problems: nature changes a few factors that all rows are mixtures of (d-rectangular sets).

    p(. | s, a) = sum_i phi_i(s, a) mu_i,      phi(s, a) in the simplex of R^d,      mu_i in U_i, apart from the others,

    (T v)(s) = max_a [ r(s, a) + g sum_i phi_i(s, a) sigma_i(v) ],      sigma_i(v) = min {mu . v : mu in U_i}.

One sweep costs d inner problems, whatever the number of states and actions. Nature picks the factors apart from each other, so
there is a deterministic stationary optimal policy, and one choice of the d factors is worst for all states at once. With
one-hot features it is the (s, a)-rectangular problem over the factors; with balls of total variation of one radius its value is
at least that of the (s, a)-rectangular problem over the mixed rows, for a mixture of balls lies in the ball of the mixture.

Ma, Liang, Blanchet, Liu, Xia, Zhang, Zhao and Zhou 2022 (arXiv:2209.06620); Goyal and Grand-Clement 2023, Math. Oper. Res. 48
(factor matrix sets); Liu and Xu 2024 (arXiv:2403.09621).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from .ambiguity.ambiguity_set import AmbiguitySet
from .criterion import AverageReward, Criterion, Discounted, FiniteHorizon, TotalReward
from .errors import ModelError
from .model import MDP
from .restriction import chosen_pairs
from .robust import RobustMDP
from .validation import ROW_SUM_TOLERANCE, real_array

if TYPE_CHECKING:
    from .linear_robust_operator import LinearRobustOperator


@dataclass(frozen=True, eq=False)
class LinearRobustMDP:
    """A linear problem and what nature may make of its factors. n states, m pairs, d factors.

    state_ptr: int (n + 1,), pairs of each state; a state without pairs is terminal.
    features: float64 (m, d), phi of each pair, >= 0, each row of sum one.
    factors: float64 (d, n), the nominal mu_i, each a distribution.
    reward: float64 (m,).
    criterion: `Discounted` or `FiniteHorizon`.
    ambiguity: one set for all factors, or d of one family. A set's arrays run over all states where it is for all factors, and
        over the states of positive probability, or all, where every factor has its own: see `banach.mdp.robust`.
    optimistic: nature helps instead of hindering, whatever the sense of the criterion.
    terminal_value: float64 (n,), what terminal states are worth; zero elsewhere, or None.
    initial: float64 (n,), the initial distribution, or None.

    The nominal table `problem`, with rows features @ factors, is stored: up to m n numbers.
    Raises ModelError naming the state and action, or the factor, that is wrong.
    """

    state_ptr: np.ndarray
    features: np.ndarray
    factors: np.ndarray
    reward: np.ndarray
    criterion: Criterion
    ambiguity: AmbiguitySet | Sequence[AmbiguitySet]
    _: KW_ONLY
    optimistic: bool = False
    terminal_value: np.ndarray | None = None
    initial: np.ndarray | None = None
    problem: MDP = field(init=False, repr=False)
    parts: tuple[RobustMDP, ...] = field(init=False, repr=False)
    """Robust problems that hold the factors, n at most each: factor i is pair i % n of part i // n, with reward zero."""

    def __post_init__(self) -> None:
        if isinstance(self.criterion, TotalReward | AverageReward):
            raise ModelError(f"robust problems are discounted or of finite horizon; the criterion is {self.criterion}")
        features, factors = real_array("features", self.features).copy(), real_array("factors", self.factors).copy()
        if features.ndim != 2 or factors.ndim != 2 or features.shape[1] != len(factors) or not len(factors):
            raise ModelError(f"features of shape {features.shape} and factors of {factors.shape}; give (m, d) and (d, n)")
        wrong = _no_distribution(factors)
        if len(wrong):
            raise ModelError(f"factor {wrong[0]} is no distribution: it sums to {factors[wrong[0]].sum():.17g}")
        state_ptr = np.array(self.state_ptr, dtype=np.int64)
        if len(state_ptr) != factors.shape[1] + 1 or state_ptr[-1] != len(features):
            raise ModelError(
                f"state_ptr names {len(state_ptr) - 1} states and {state_ptr[-1]} pairs; the factors have {factors.shape[1]} "
                f"states and the features {len(features)} pairs"
            )
        for array in (features, factors, state_ptr):
            array.setflags(write=False)
        ambiguity = tuple(self.ambiguity) if isinstance(self.ambiguity, Sequence) else self.ambiguity
        if isinstance(ambiguity, tuple) and len(ambiguity) != len(factors):
            raise ModelError(f"{len(ambiguity)} ambiguity sets for {len(factors)} factors; give one set, or one a factor")
        settings = {"state_ptr": state_ptr, "features": features, "factors": factors, "ambiguity": ambiguity}
        for name, setting in settings.items():
            object.__setattr__(self, name, setting)
        object.__setattr__(self, "problem", _table(self, state_ptr, features, factors))
        for name in ("reward", "terminal_value", "initial"):
            object.__setattr__(self, name, getattr(self.problem, name))
        object.__setattr__(self, "parts", tuple(_parts(self, factors)))

    @property
    def n_states(self) -> int:
        """Number of states."""
        return self.problem.n_states

    @property
    def n_pairs(self) -> int:
        """Number of state-action pairs."""
        return self.problem.n_pairs

    @property
    def n_transitions(self) -> int:
        """Number of stored transitions of the nominal table."""
        return self.problem.n_transitions

    @property
    def row_ptr(self) -> np.ndarray:
        """Transitions of each pair of the nominal table, int32 (n_pairs + 1,)."""
        return self.problem.row_ptr

    @property
    def terminal(self) -> np.ndarray:
        """Terminal states, bool (n_states,)."""
        return self.problem.terminal

    @property
    def n_factors(self) -> int:
        """Number of factors, d."""
        return len(self.factors)

    def set_of(self, factor: int) -> AmbiguitySet:
        """The set of one factor."""
        return self.ambiguity[factor] if isinstance(self.ambiguity, tuple) else self.ambiguity  # pyright: ignore[reportReturnType]

    @cached_property
    def operator(self) -> LinearRobustOperator:
        """The robust Bellman operator, for maximisation; minimisation goes through `negated`."""
        from .linear_robust_operator import LinearRobustOperator

        return LinearRobustOperator.of(self)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of every number that the value depends on, as hexadecimal."""
        digest = hashlib.sha256(f"linear:{self.criterion!r}:{self.optimistic}".encode())
        for array in (self.state_ptr, self.features, self.reward, self.terminal_value):
            digest.update(f"{array.dtype}:{array.shape}".encode())  # pyright: ignore[reportOptionalMemberAccess]
            digest.update(array.tobytes())  # pyright: ignore[reportOptionalMemberAccess]
        for part in self.parts:
            digest.update(part.fingerprint.encode())
        return digest.hexdigest()

    def restricted(self, policy: np.ndarray) -> LinearRobustMDP:
        """The robust problem in which a policy (n_states,) is the only choice: its value is the policy's robust value."""
        pairs = chosen_pairs(self.problem, policy)
        pointers = np.concatenate(([0], np.cumsum(policy >= 0)))
        return replace(self, state_ptr=pointers, features=self.features[pairs], reward=self.reward[pairs])

    def negated(self) -> LinearRobustMDP:
        """The same problem with the signs of rewards and the sense of optimisation turned round, nature on her side. Exact."""
        problem = self.problem.negated()
        return replace(
            self,
            reward=problem.reward,
            criterion=problem.criterion,
            terminal_value=problem.terminal_value,
        )


def _no_distribution(rows: np.ndarray) -> np.ndarray:
    return np.flatnonzero(~(rows.min(axis=1) >= 0) | ~(np.abs(rows.sum(axis=1) - 1) <= ROW_SUM_TOLERANCE))


def _table(model: Any, state_ptr: np.ndarray, features: np.ndarray, factors: np.ndarray) -> MDP:
    """The nominal problem. Raises ModelError naming the pair whose features are no distribution."""
    wrong = _no_distribution(features)
    if len(wrong):
        state = int(np.searchsorted(state_ptr, wrong[0], side="right")) - 1
        raise ModelError(
            f"state {state}, action {wrong[0] - state_ptr[state]}: the features {features[wrong[0]]} are no distribution"
        )
    rows = features @ factors
    rows /= rows.sum(axis=1, keepdims=True)
    stored = rows > 0
    return MDP(
        state_ptr,
        np.concatenate(([0], np.cumsum(stored.sum(axis=1)))),
        np.nonzero(stored)[1],
        rows[stored],
        np.array(real_array("reward", model.reward)),
        model.criterion,
        np.diff(state_ptr) == 0,
        None if model.terminal_value is None else np.array(model.terminal_value),  # pyright: ignore[reportArgumentType]
        None if model.initial is None else np.array(model.initial),
    )


def _parts(model: LinearRobustMDP, factors: np.ndarray) -> list[RobustMDP]:
    """The factors as rows of robust problems. Raises ModelError naming the factor whose set does not fit."""
    discount, n = model.problem.discount, factors.shape[1]
    criterion = Discounted(discount) if discount < 1 else FiniteHorizon(1, discount)
    parts = []
    for start in range(0, len(factors), n):
        rows = factors[start : start + n]
        kept = _stored(model, rows, start)
        holds = np.arange(n) < len(rows)
        table = MDP(
            np.concatenate(([0], np.cumsum(holds))),
            np.concatenate(([0], np.cumsum(kept.sum(axis=1)))),
            np.nonzero(kept)[1],
            rows[kept],
            np.zeros(len(rows)),
            criterion,
            ~holds,
            state_names=[f"factor {start + i}" if i < len(rows) else str(i) for i in range(n)],
        )
        sets = model.ambiguity[start : start + n] if isinstance(model.ambiguity, tuple) else model.ambiguity
        parts.append(RobustMDP(table, sets, optimistic=model.optimistic))
    return parts


def _stored(model: LinearRobustMDP, rows: np.ndarray, start: int) -> np.ndarray:
    """The entries of each factor that are handed to its set: the positive ones, or all where the set says itself."""
    own = isinstance(model.ambiguity, tuple)
    return np.array([(row > 0) | (own and not model.set_of(start + i).contains_nominal) for i, row in enumerate(rows)])
