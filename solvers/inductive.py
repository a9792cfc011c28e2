r"""Whether bounds on total rewards are inductive, decided exactly and fast.

    T upper <= upper, strictly where upper < 0,         lower <= T_p lower, strictly where lower > 0,

with rows as weights (see `banach.solvers.check`, which decides the same by other means). A row's gain
sum_j p_j (r + x_j - x_i) is summed in floating point from differences, which are small where values are large, with an error of
at most

    2 (n + 4) u sum_j p_j (|x_j - x_i| + |r|)         (n entries; Higham 2002, section 3.1)

and rows of reward zero whose successors all equal x_i gain exactly nothing. What that leaves open is decided in integers.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from ..mdp.model import MDP
from .exact import row_signs

_index = np.uintp


def holds_above(problem: MDP, upper: np.ndarray) -> bool:
    """Whether for upper (n_states,) T upper <= upper, strictly where upper < 0, in exact arithmetic."""
    return _decided(problem, np.arange(problem.n_pairs, dtype=np.int32), upper, 1)


def holds_below(problem: MDP, lower: np.ndarray, policy: np.ndarray) -> bool:
    """Whether for lower (n_states,) lower <= T_policy lower, strictly where lower > 0, in exact arithmetic."""
    return _decided(problem, (problem.state_ptr[:-1] + policy)[~problem.terminal].astype(np.int32), lower, -1)


def _decided(problem: MDP, pairs: np.ndarray, vector: np.ndarray, wrong: int) -> bool:
    """Whether no pair's gain on the vector has the sign `wrong`, or is zero where the vector has the sign -wrong."""
    if not np.isfinite(vector).all():
        return False
    kernel: Any = _undecided
    left, fault = kernel(
        problem.row_ptr, problem.successor, problem.probability, problem.reward, problem.pair_state, pairs, vector, wrong
    )
    if fault:
        return False
    signs, _ = row_signs(problem, left.astype(np.int64), vector, [vector], weights=True)
    strict = vector[problem.pair_state[left]] * wrong < 0
    return not ((signs == wrong) | ((signs == 0) & strict)).any()


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _undecided(row_ptr, successor, probability, reward, pair_state, pairs, vector, wrong):
    """The pairs whose sign rounding hides, and whether one is certainly wrong."""
    left, count = np.empty(len(pairs), np.int32), 0
    for k in range(len(pairs)):
        pair = _index(pairs[k])
        here = vector[_index(pair_state[pair])]
        begin, end = _index(row_ptr[pair]), _index(row_ptr[pair + _index(1)])
        total, size = 0.0, 0.0
        for entry in range(begin, end):
            difference = vector[_index(successor[entry])] - here
            total += probability[entry] * (difference + reward[pair])
            size += probability[entry] * (abs(difference) + abs(reward[pair]))
        margin = 2.0 * (end - begin + 4.0) * 2.0**-53 * size + 2.0**-1000
        if total * wrong > margin:
            return left[:0], True
        if total * wrong < -margin:
            continue
        if reward[pair] == 0.0 and here * wrong >= 0.0 and _all_equal(successor, vector, probability, begin, end, here):
            continue
        left[count] = pair
        count += 1
    return left[:count], False


@numba.njit(cache=True, nogil=True, error_model="numpy", inline="always")
def _all_equal(successor, vector, probability, begin, end, here):
    """Whether every possible successor is worth the same."""
    equal = True
    for entry in range(begin, end):
        equal &= probability[entry] == 0.0 or vector[_index(successor[entry])] == here
    return equal
