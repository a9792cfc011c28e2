r"""Finite Markov decision problems as validated, immutable, sparse arrays.

States are 0..n-1. The pairs (state, action) are numbered so that those of state s are

    state_ptr[s], ..., state_ptr[s+1] - 1,

and the successors of pair k, with their probabilities, are the entries row_ptr[k], ..., row_ptr[k+1] - 1 of `successor`
and `probability`. `reward[k]` is the expected reward of one step of pair k. A state without pairs is terminal: it is worth
`terminal_value[s]` on arrival and nothing happens after. An action is named by its position among its state's pairs.

The arrays are adopted, not copied, and made read-only; views and other types are copied.

Puterman, Markov Decision Processes, Wiley 2005, chapter 2.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from .criterion import AverageReward, Criterion, Discounted
from .errors import ModelError
from .validation import ROW_SUM_TOLERANCE, validate

if TYPE_CHECKING:
    import gymnasium
    import scipy.sparse

    from .bellman import BellmanOperator

__all__ = ["MDP", "ROW_SUM_TOLERANCE"]


_SHOWN = 100
"""A model of at most so many transitions is shown in full."""


@dataclass(frozen=True, eq=False, repr=False)
class MDP:
    """A finite decision problem. n states, m state-action pairs, z transitions.

    state_ptr: int32 (n + 1,), pairs of each state.
    row_ptr: int32 (m + 1,), transitions of each pair.
    successor: int32 (z,), states in [0, n).
    probability: float64 (z,), in [0, 1]; each row sums to one within 1e-9.
    reward: float64 (m,), expected one-step reward of each pair, any finite number.
    criterion: what is to be optimised: `Discounted`, `FiniteHorizon`, `TotalReward` or `AverageReward`.
    terminal: bool (n,), the states where the process ends; they, and they alone, have no actions. Default: none.
    terminal_value: float64 (n,), what arriving in a terminal state is worth; zero elsewhere. Default: zeros.
    initial: float64 (n,), the initial distribution, or None.
    labels: named sets of states, each bool (n,).
    state_names, action_names: n and m strings, or None.

    Raises ModelError naming the state, the action and the number that is wrong.
    """

    state_ptr: np.ndarray
    row_ptr: np.ndarray
    successor: np.ndarray
    probability: np.ndarray
    reward: np.ndarray
    criterion: Criterion
    terminal: np.ndarray = None  # pyright: ignore[reportAssignmentType]
    terminal_value: np.ndarray = None  # pyright: ignore[reportAssignmentType]
    initial: np.ndarray | None = None
    labels: Mapping[str, np.ndarray] = field(default_factory=dict)
    state_names: Sequence[str] | None = None
    action_names: Sequence[str] | None = None

    def __post_init__(self) -> None:
        def adopt(name: str, dtype: type) -> None:
            object.__setattr__(self, name, _adopt(name, getattr(self, name), dtype))

        for name in ("state_ptr", "row_ptr", "successor"):
            adopt(name, np.int32)
        for name in ("probability", "reward"):
            adopt(name, np.float64)
        n_states = len(self.state_ptr) - 1
        if self.terminal is None:
            object.__setattr__(self, "terminal", np.zeros(max(n_states, 0), dtype=np.bool_))
        if self.terminal_value is None:
            object.__setattr__(self, "terminal_value", np.zeros(max(n_states, 0)))
        adopt("terminal", np.bool_)
        adopt("terminal_value", np.float64)
        if self.initial is not None:
            adopt("initial", np.float64)
        labels = {str(name): _adopt(f"label {name!r}", states, np.bool_) for name, states in self.labels.items()}
        object.__setattr__(self, "labels", MappingProxyType(labels))
        for name in ("state_names", "action_names"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, tuple(str(word) for word in getattr(self, name)))
        validate(self)

    def __repr__(self) -> str:
        if self.n_transitions <= _SHOWN:
            parts = ", ".join(f"{part.name}={getattr(self, part.name)!r}" for part in dataclasses.fields(self))
            return f"MDP({parts})"
        size = f"{self.n_states} states, {self.n_pairs} actions in all, {self.n_transitions} transitions"
        return f"<MDP of {size}, {self.criterion}>"

    @property
    def n_states(self) -> int:
        """Number of states."""
        return len(self.state_ptr) - 1

    @property
    def n_pairs(self) -> int:
        """Number of state-action pairs."""
        return len(self.row_ptr) - 1

    @property
    def n_transitions(self) -> int:
        """Number of stored transitions."""
        return len(self.successor)

    @property
    def discount(self) -> float:
        """The criterion's discount; 1 where it has none."""
        return getattr(self.criterion, "discount", 1.0)

    @cached_property
    def pair_state(self) -> np.ndarray:
        """State of each pair, int32 (m,)."""
        return np.repeat(np.arange(self.n_states, dtype=np.int32), np.diff(self.state_ptr))

    @cached_property
    def nbytes(self) -> int:
        """Bytes of the model's own arrays."""
        arrays = (getattr(self, f.name) for f in dataclasses.fields(self))
        return sum(array.nbytes for array in arrays if isinstance(array, np.ndarray))

    @cached_property
    def operator(self) -> BellmanOperator:
        """The Bellman optimality operator, for maximisation; minimisation goes through `negated`."""
        from .bellman import BellmanOperator

        return BellmanOperator.of(self)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the criterion and of every number that the value depends on, as hexadecimal."""
        digest = hashlib.sha256(repr(self.criterion).encode())
        for name in ("state_ptr", "row_ptr", "successor", "probability", "reward", "terminal", "terminal_value"):
            array = getattr(self, name)
            digest.update(f"{name}:{array.dtype}:{array.shape}".encode())
            digest.update(array.data)
        return digest.hexdigest()

    def negated(self) -> MDP:
        """The same problem with every reward's sign, and the sense of optimisation, turned round. Exact."""
        return self.replace(
            reward=-self.reward,
            terminal_value=-self.terminal_value,
            criterion=dataclasses.replace(self.criterion, minimize=not self.criterion.minimize),
        )

    def replace(self, **changes: Any) -> MDP:
        """The model with some fields changed, as `dataclasses.replace`; the other arrays are shared."""
        return dataclasses.replace(self, **changes)

    def action_of(self, state: int, action: int) -> str:
        """Readable name of an action, for messages."""
        if self.action_names is not None:
            return self.action_names[int(self.state_ptr[state]) + action] or str(action)
        return str(action)

    def state_of(self, state: int) -> str:
        """Readable name of a state, for messages."""
        return f"{state} ({self.state_names[state]})" if self.state_names is not None else str(state)

    @classmethod
    def from_dense(
        cls,
        transition: np.ndarray,
        reward: np.ndarray,
        discount: float | None = None,
        *,
        criterion: Criterion | None = None,
        layout: str | None = None,
        terminal: Mapping[int, float] | Sequence[int] | None = None,
        initial: np.ndarray | None = None,
    ) -> MDP:
        """From dense arrays, in either common layout; see `banach.mdp.dense.from_dense`."""
        from .dense import from_dense

        return from_dense(transition, reward, discount, criterion=criterion, layout=layout, terminal=terminal, initial=initial)

    @classmethod
    def from_sparse(
        cls,
        transition: Sequence[scipy.sparse.sparray] | scipy.sparse.sparray,
        reward: Any,
        discount: float | None = None,
        *,
        criterion: Criterion | None = None,
        state_ptr: np.ndarray | None = None,
        terminal: Mapping[int, float] | Sequence[int] | None = None,
        initial: np.ndarray | None = None,
    ) -> MDP:
        """From scipy.sparse matrices; see `banach.mdp.sparse.from_sparse`."""
        from .sparse import from_sparse

        return from_sparse(
            transition, reward, discount, criterion=criterion, state_ptr=state_ptr, terminal=terminal, initial=initial
        )

    @classmethod
    def from_callable(
        cls,
        step: Callable[[Any], Mapping[Any, Any] | float],
        initial: Sequence[Any] | Mapping[Any, float],
        discount: float | None = None,
        *,
        criterion: Criterion | None = None,
        max_states: int = 10_000_000,
    ) -> MDP:
        """From a Python function explored breadth-first; see `banach.mdp.explore.from_callable`."""
        from .explore import from_callable

        return from_callable(step, initial, discount, criterion=criterion, max_states=max_states)

    @classmethod
    def from_gymnasium(cls, env: gymnasium.Env, discount: float | None = None, *, criterion: Criterion | None = None) -> MDP:
        """From a gymnasium environment with a table `env.unwrapped.P`; see `banach.mdp.gym.from_gymnasium`."""
        from .gym import from_gymnasium

        return from_gymnasium(env, discount, criterion=criterion)

    def to_gymnasium(self) -> gymnasium.Env:
        """A gymnasium environment that simulates the model; see `banach.mdp.gym.MDPEnv`."""
        from .gym import MDPEnv

        return MDPEnv(self)

    @classmethod
    def from_umb(
        cls,
        path: str | Path,
        discount: float | None = None,
        *,
        criterion: Criterion | None = None,
        reward: str | None = None,
        target: str | Sequence[str] | None = None,
        avoid: str | None = None,
    ) -> MDP:
        """From a UMB file, as PRISM, Storm and Modest write it; see `banach.mdp.umb.read_umb`."""
        from .umb import read_umb

        return read_umb(path, discount, criterion=criterion, reward=reward, target=target, avoid=avoid)

    def to_umb(self, path: str | Path) -> None:
        """Write a UMB file, readable by Storm and other model checkers; see `banach.mdp.umb_write.write_umb`."""
        from .umb_write import write_umb

        write_umb(self, path)

    @classmethod
    def from_prism(
        cls, transitions: str | Path, discount: float | None = None, *, criterion: Criterion | None = None, **files: Any
    ) -> MDP:
        """From PRISM's explicit .tra/.sta/.lab/.rew files; see `banach.mdp.prism.read_prism` for the other words."""
        from .prism import read_prism

        return read_prism(transitions, discount, criterion=criterion, **files)

    def to_sparse(self) -> tuple[scipy.sparse.csr_array, np.ndarray, np.ndarray]:
        """Transition matrix as CSR (m, n), rewards (m,) and state_ptr (n + 1,); see `banach.mdp.sparse.to_sparse`."""
        from .sparse import to_sparse

        return to_sparse(self)

    @classmethod
    def load(cls, path: str | Path) -> MDP:
        """Read a model that `save` wrote. Raises FileFormatError; never unpickles."""
        from .npz import load

        return load(path)

    def save(self, path: str | Path) -> None:
        """Write the model as a compressed .npz, atomically; see `banach.mdp.npz`."""
        from .npz import save

        save(self, path)


def criterion_from(discount: float | None, criterion: Criterion | None) -> Criterion:
    """The criterion that a builder's two keywords name. Raises ModelError unless exactly one is given."""
    if (discount is None) == (criterion is None):
        raise ModelError("give exactly one of discount=... and criterion=...")
    return Discounted(discount) if discount is not None else criterion  # pyright: ignore[reportReturnType]


def terminal_arrays(n_states: int, terminal: Mapping[int, float] | Sequence[int] | None) -> tuple[np.ndarray, np.ndarray]:
    """Terminal flags (n,) and values (n,) from a mapping state -> value, or from states worth zero.

    Raises ModelError for a state that is none.
    """
    flags, values = np.zeros(n_states, dtype=np.bool_), np.zeros(n_states)
    worth = {} if terminal is None else dict(terminal) if isinstance(terminal, Mapping) else dict.fromkeys(terminal, 0.0)
    for state, value in worth.items():
        if not 0 <= state < n_states:
            raise ModelError(f"terminal state {state} is not in 0..{n_states - 1}")
        flags[state], values[state] = True, value
    return flags, values


def _adopt(name: str, given: Any, dtype: type) -> np.ndarray:
    array = np.asarray(given)
    if array.ndim != 1:
        raise ModelError(f"{name} has shape {array.shape}; it must be one-dimensional")
    if dtype is np.int32 and array.dtype != np.int32:
        if array.dtype.kind not in "iu":
            raise ModelError(f"{name} holds {array.dtype}; it must hold integers")
        if array.size and (array.max() > np.iinfo(np.int32).max or array.min() < np.iinfo(np.int32).min):
            raise ModelError(f"{name} holds {array.max()}, beyond 2^31 - 1: more transitions than one model may have")
    if dtype is np.float64 and array.dtype.kind not in "iuf":
        raise ModelError(f"{name} holds {array.dtype}; it must hold real numbers")
    if dtype is np.bool_ and array.dtype.kind != "b":
        raise ModelError(f"{name} holds {array.dtype}; it must hold booleans")
    owned = (
        array if array.dtype == dtype and array.flags.c_contiguous and array.base is None else array.astype(dtype, copy=True)
    )
    owned.setflags(write=False)
    return owned


def is_undiscounted(criterion: Criterion) -> bool:
    """Whether rows are weights (see `banach.mdp.criterion`)."""
    return not hasattr(criterion, "discount") or isinstance(criterion, AverageReward)
