"""What makes arrays a decision problem, checked once, where they enter."""

from __future__ import annotations

import numbers
from typing import TYPE_CHECKING, Any, TypeGuard

import numba
import numpy as np

from .criterion import AverageReward
from .errors import ModelError

if TYPE_CHECKING:
    from .model import MDP

ROW_SUM_TOLERANCE = 1e-9


def is_real(value: Any) -> TypeGuard[float]:
    """Whether a value is a real number of any type, Python's or numpy's, and no truth value; infinite and NaN are real here."""
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def real_array(name: str, given: Any) -> np.ndarray:
    """What was given, of whatever shape, as float64. Raises ModelError when it is no array of real numbers."""
    try:
        array = np.asarray(given)
        if array.dtype.kind not in "iufbO":
            raise TypeError(f"it holds {array.dtype}")
        return array.astype(np.float64, copy=False)
    except (TypeError, ValueError, OverflowError) as fault:
        raise ModelError(f"{name} is no array of real numbers: {fault}") from None


def validate(model: MDP) -> None:
    """Raise ModelError at the first thing that is wrong with the model's arrays, naming state, action and number."""
    _check_pointers(model)
    n_states = model.n_states
    _check_vector(model.terminal, n_states, "terminal")
    _check_vector(model.terminal_value, n_states, "terminal_value")
    if model.initial is not None:
        _check_initial(model.initial, n_states)
    for name, states in model.labels.items():
        _check_vector(states, n_states, f"label {name!r}")
    for names, size, what in (
        (model.state_names, n_states, "state_names"),
        (model.action_names, model.n_pairs, "action_names"),
    ):
        if names is not None and len(names) != size:
            raise ModelError(f"{what} has {len(names)} names for {size}")
    _check_actions(model)
    _check_rows(model)


def _check_pointers(model: MDP) -> None:
    for name, pointers, size, of in (
        ("state_ptr", model.state_ptr, len(model.row_ptr) - 1, "row_ptr has rows"),
        ("row_ptr", model.row_ptr, len(model.successor), "successor has entries"),
    ):
        if len(pointers) == 0 or pointers[0] != 0:
            raise ModelError(f"{name} must begin with 0")
        falls = np.flatnonzero(pointers[1:] < pointers[:-1])
        if len(falls):
            raise ModelError(f"{name}[{falls[0] + 1}] is smaller than the entry before; pointers never decrease")
        if pointers[-1] != size:
            raise ModelError(f"{name} ends with {pointers[-1]}, but {of}: {size}")
    if model.n_states == 0:
        raise ModelError("the model has no states")
    for name, array, size in (
        ("probability", model.probability, len(model.successor)),
        ("reward", model.reward, model.n_pairs),
    ):
        if len(array) != size:
            raise ModelError(f"{name} has {len(array)} entries; it needs {size}")


def _check_vector(vector: np.ndarray | None, n_states: int, name: str) -> None:
    if vector is None or vector.shape != (n_states,):
        raise ModelError(f"{name} has shape {getattr(vector, 'shape', None)}; it needs one entry for each of {n_states} states")
    if vector.dtype.kind == "f":
        bad = np.flatnonzero(~np.isfinite(vector))
        if len(bad):
            raise ModelError(f"{name} of state {bad[0]} is {vector[bad[0]]}; it must be finite")


def _check_initial(initial: np.ndarray, n_states: int) -> None:
    _check_vector(initial, n_states, "initial")
    bad = np.flatnonzero(initial < 0)
    if len(bad):
        raise ModelError(f"initial probability of state {bad[0]} is {initial[bad[0]]}; it must not be negative")
    if abs(initial.sum() - 1) > ROW_SUM_TOLERANCE:
        raise ModelError(f"the initial distribution sums to {initial.sum()!r}; it must sum to 1")


def _check_actions(model: MDP) -> None:
    terminal, values = model.terminal, model.terminal_value
    idle = np.diff(model.state_ptr) == 0
    for state in np.flatnonzero(idle & ~terminal)[:1]:
        raise ModelError(f"state {model.state_of(state)} has no actions; give it one, or declare it terminal")
    for state in np.flatnonzero(~idle & terminal)[:1]:
        raise ModelError(f"state {model.state_of(state)} is terminal but has actions; remove one or the other")
    for state in np.flatnonzero((values != 0) & ~terminal)[:1]:
        raise ModelError(f"state {model.state_of(state)} has terminal value {values[state]} but is not terminal")
    if isinstance(model.criterion, AverageReward):
        for state in np.flatnonzero(terminal)[:1]:
            raise ModelError(
                f"state {model.state_of(state)} is terminal, where the average reward has no meaning; give it a self-loop"
            )


_NOT_FINITE, _NEGATIVE, _OUT_OF_RANGE, _ROW_SUM, _EMPTY, _REWARD = range(1, 7)


def _check_rows(model: MDP) -> None:
    fault, pair, entry, amount = _first_bad_row(
        model.row_ptr, model.successor, model.probability, model.reward, model.n_states, ROW_SUM_TOLERANCE
    )
    if not fault:
        return
    state = int(np.searchsorted(model.state_ptr, pair, side="right")) - 1
    where = f"state {model.state_of(state)}, action {model.action_of(state, pair - int(model.state_ptr[state]))}"
    to = f" to state {model.successor[entry]}" if fault in (_NOT_FINITE, _NEGATIVE) else ""
    raise ModelError(
        {
            _NOT_FINITE: f"{where}: the probability{to} is {amount}; it must be a number in [0, 1]",
            _NEGATIVE: f"{where}: the probability{to} is {amount}; it must not be negative",
            _OUT_OF_RANGE: f"{where}: successor {amount:.0f} is not a state; states are 0..{model.n_states - 1}",
            _ROW_SUM: f"{where}: the probabilities sum to {amount!r}; they must sum to 1 within {ROW_SUM_TOLERANCE:g}",
            _EMPTY: f"{where}: no successors are given; the probabilities must sum to 1",
            _REWARD: f"{where}: the reward is {amount}; it must be finite (leave a forbidden action out)",
        }[fault]
    )


@numba.njit(cache=True, nogil=True)
def _first_bad_row(row_ptr, successor, probability, reward, n_states, tolerance):
    for pair in range(len(row_ptr) - 1):
        if not np.isfinite(reward[pair]):
            return _REWARD, pair, 0, reward[pair]
        if row_ptr[pair] == row_ptr[pair + 1]:
            return _EMPTY, pair, 0, 0.0
        total = 0.0
        for entry in range(row_ptr[pair], row_ptr[pair + 1]):
            p = probability[entry]
            if not np.isfinite(p):
                return _NOT_FINITE, pair, entry, p
            if p < 0.0:
                return _NEGATIVE, pair, entry, p
            if successor[entry] < 0 or successor[entry] >= n_states:
                return _OUT_OF_RANGE, pair, entry, float(successor[entry])
            total += p
        if abs(total - 1.0) > tolerance:
            return _ROW_SUM, pair, 0, total
    return 0, 0, 0, 0.0
