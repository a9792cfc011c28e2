r"""Models from scipy.sparse matrices, and back.

Two layouts: one (n, n) matrix an action, as MDP toolboxes have it, every action being allowed in every state; or one matrix
(m, n) whose rows are the state-action pairs in order of states, with state_ptr (n + 1,) telling whose they are (the
layout of `MDP` itself). Entries given twice are summed and stored zeros are dropped, as scipy.sparse means them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import scipy.sparse

from .criterion import Criterion
from .errors import ModelError
from .expectation import expected_reward
from .model import MDP, criterion_from, terminal_arrays
from .validation import real_array


def from_sparse(
    transition: Sequence[scipy.sparse.sparray] | scipy.sparse.sparray,
    reward: Any,
    discount: float | None = None,
    *,
    criterion: Criterion | None = None,
    state_ptr: np.ndarray | None = None,
    terminal: Mapping[int, float] | Sequence[int] | None = None,
    initial: np.ndarray | None = None,
) -> MDP:
    """An MDP from sparse matrices.

    transition: a list of A matrices (n, n), the rows of terminal states being ignored; or one matrix (m, n) with state_ptr,
        where terminal states have no rows.
    reward: for a list, (n,), (n, A) with -inf forbidding an action, or A matrices (n, n), averaged over successors; for one
        matrix, (m,), or a matrix (m, n), averaged over successors.
    discount, criterion: exactly one of them.
    terminal: states where the process ends, with their values, or as a list worth zero.
    initial: (n,), the initial distribution.
    Raises ModelError for shapes that do not fit, and for everything that `MDP` refuses.
    """
    if not isinstance(transition, Sequence):
        if state_ptr is None:
            raise ModelError("one matrix needs state_ptr, the first row of each state; or give a list of one matrix an action")
        rows, rewards, names = _canonical(transition), reward, None
        if np.shape(state_ptr) != (rows.shape[1] + 1,):
            raise ModelError(
                f"state_ptr has shape {np.shape(state_ptr)}; the matrix has {rows.shape[1]} columns, one a state, so it needs "
                f"{rows.shape[1] + 1} entries"
            )
        flags, values = terminal_arrays(rows.shape[1], terminal)
    else:
        if state_ptr is not None:
            raise ModelError("state_ptr belongs to one matrix (m, n); a list of matrices allows each action everywhere")
        rows, rewards, state_ptr, names, flags, values = _stack(transition, reward, terminal)
    return MDP(
        state_ptr=np.array(state_ptr),
        row_ptr=rows.indptr,
        successor=rows.indices,
        probability=rows.data,
        reward=_rewards(rows, rewards),
        criterion=criterion_from(discount, criterion),
        terminal=flags,
        terminal_value=values,
        initial=None if initial is None else real_array("initial", initial).copy(),
        action_names=names,
    )


def to_sparse(model: MDP) -> tuple[scipy.sparse.csr_array, np.ndarray, np.ndarray]:
    """The transition matrix as CSR (m, n), rewards (m,) and state_ptr (n + 1,).

    They are the model's own read-only arrays: copy what is to be changed. Terminal states have no rows, and their values are
    in `model.terminal_value`; the three with `terminal=` of those give `from_sparse` the same model back.
    """
    shape = (model.n_pairs, model.n_states)
    matrix = scipy.sparse.csr_array((model.probability, model.successor, model.row_ptr), shape=shape)
    return matrix, model.reward, model.state_ptr


def _canonical(matrix: Any) -> Any:
    try:
        rows = scipy.sparse.csr_array(matrix, dtype=np.float64, copy=True)
    except (TypeError, ValueError) as fault:
        raise ModelError(
            f"a matrix of {getattr(matrix, 'dtype', type(matrix).__name__)} holds no probabilities ({fault})"
        ) from None
    if rows.ndim != 2:
        raise ModelError(f"a matrix of transitions has shape {rows.shape}; it must have rows and columns")
    rows.sum_duplicates()
    rows.eliminate_zeros()
    return rows


def _stack(
    matrices: Sequence[Any], reward: Any, terminal: Any
) -> tuple[scipy.sparse.csr_array, Any, np.ndarray, Any, Any, Any]:
    """Rows of the allowed pairs in order of states, their rewards, state_ptr, action names, terminal flags and values."""
    if not matrices:
        raise ModelError("the list of matrices is empty; give one matrix (n, n) for each action")
    n_states, n_actions = getattr(matrices[0], "shape", (0,))[0], len(matrices)
    for action, matrix in enumerate(matrices):
        if not scipy.sparse.issparse(matrix) or matrix.shape != (n_states, n_states):
            shape = getattr(matrix, "shape", type(matrix).__name__)
            raise ModelError(f"the matrix of action {action} has shape {shape}; it must be sparse and ({n_states}, {n_states})")
    flags, values = terminal_arrays(n_states, terminal)
    depends = not isinstance(reward, np.ndarray) and len(reward) > 0 and scipy.sparse.issparse(reward[0])
    allowed = np.repeat(~flags[:, None], n_actions, axis=1)
    if not depends:
        reward = _table(real_array("reward", reward), n_states, n_actions)
        allowed &= reward != -np.inf
        for state in np.flatnonzero(~allowed.any(axis=1) & ~flags)[:1]:
            raise ModelError(f"state {state}: every action is forbidden by a reward of -inf; allow one, or declare it terminal")
    states, actions = np.nonzero(allowed)
    pick = actions * n_states + states
    rows = _canonical(scipy.sparse.csr_array(scipy.sparse.vstack(matrices, format="csr"))[pick])
    if depends:
        if len(reward) != n_actions or any(np.shape(matrix) != (n_states, n_states) for matrix in reward):
            raise ModelError(f"reward must hold {n_actions} matrices ({n_states}, {n_states}), one for each action")
        rewards: Any = scipy.sparse.csr_array(scipy.sparse.vstack(list(reward), format="csr"))[pick]
    else:
        rewards = reward[states, actions]
    state_ptr = np.concatenate(([0], np.cumsum(allowed.sum(axis=1))))
    names = None if allowed[~flags].all() else [str(action) for action in actions]
    return rows, rewards, state_ptr, names, flags, values


def _table(reward: np.ndarray, n_states: int, n_actions: int) -> np.ndarray:
    if reward.shape == (n_states,):
        return np.repeat(reward[:, None], n_actions, axis=1)
    if reward.shape != (n_states, n_actions):
        raise ModelError(
            f"reward has shape {reward.shape}; it must be ({n_states},), ({n_states}, {n_actions}) or one matrix an action"
        )
    return reward


def _rewards(rows: Any, reward: Any) -> np.ndarray:
    if not scipy.sparse.issparse(reward):
        return real_array("reward", reward).copy()
    if reward.shape != rows.shape:
        raise ModelError(f"the reward matrix has shape {reward.shape}; it must be that of the transitions, {rows.shape}")
    pairs = np.repeat(np.arange(rows.shape[0]), np.diff(rows.indptr))
    earned = _canonical(reward)[pairs, rows.indices] if rows.nnz else np.zeros(0)
    return expected_reward(rows.indptr, rows.data, np.asarray(earned, dtype=np.float64).ravel())
