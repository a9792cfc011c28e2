r"""A fixed policy as a packed linear map.

The rows that a policy picks, gathered once from the model, are read by a sweep at a third to a fifth of the cost of picking
them out each time. With self-loops solved (`loops=True`) the map is, for row p and reward r of the policy in state s,

    v_s  <-  (r + g sum_{j != s} p_j v_j) / (1 - g p_s),

the Gauss-Seidel form, which has the same fixed point; otherwise it is v <- r + g P v itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numba
import numpy as np

from .threads import WORTH_SHARING, n_threads, run_ranges, split

if TYPE_CHECKING:
    from .model import MDP

_index = np.uintp


@dataclass(frozen=True, eq=False)
class PackedPolicy:
    """v <- constant + weight v, row s being entries pointers[s] .. pointers[s+1]; made by `pack`.

    pointers: int32 (n + 1,). column: int32 (z,). weight: float64 (z,). constant: float64 (n,). loops: self-loops are solved.
    """

    pointers: np.ndarray
    column: np.ndarray
    weight: np.ndarray
    constant: np.ndarray
    loops: bool

    def sweep(self, value: np.ndarray, backward: bool = False) -> tuple[float, float]:
        """One in-place Gauss-Seidel sweep of value (n,); least and greatest change."""
        kernel: Any = packed_gauss_seidel
        return kernel(backward, self.pointers, self.column, self.weight, self.constant, value)

    def apply(self, value: np.ndarray, out: np.ndarray) -> tuple[float, float]:
        """out = constant + weight value, both (n,); least and greatest change."""
        parts = n_threads() if len(self.column) >= WORTH_SHARING else 1
        cuts = split(self.pointers, parts) if parts > 1 else np.array([0, len(self.constant)])
        changes = run_ranges(packed_jacobi, cuts, self.pointers, self.column, self.weight, self.constant, value, out)
        return min(low for low, _ in changes), max(high for _, high in changes)

    def repack(self, model: MDP, discount: float, policy: np.ndarray, changed: np.ndarray) -> bool:
        """Overwrite the rows of the states `changed`, shape (k,); False, with nothing done, where a row's length differs."""
        kernel: Any = repack_rows
        return kernel(
            model.state_ptr, model.row_ptr, model.successor, model.probability, model.reward, discount, policy, changed,
            self.loops, self.pointers, self.column, self.weight, self.constant,
        )  # fmt: skip


def pack(model: MDP, discount: float, policy: np.ndarray, loops: bool) -> PackedPolicy:
    """The rows of a policy (n,) of action indices; with `loops`, solved for their own states."""
    lengths: Any = row_lengths
    fill: Any = pack_rows
    pointers = np.empty(model.n_states + 1, dtype=np.int32)
    size = lengths(model.state_ptr, model.row_ptr, policy, pointers)
    packed = PackedPolicy(pointers, np.empty(size, np.int32), np.empty(size), np.empty(model.n_states), loops)
    parts = n_threads() if size >= WORTH_SHARING else 1
    cuts = split(pointers, parts) if parts > 1 else np.array([0, model.n_states])
    run_ranges(
        fill, cuts, model.state_ptr, model.row_ptr, model.successor, model.probability, model.reward, model.terminal_value,
        discount, policy, loops, pointers, packed.column, packed.weight, packed.constant,
    )  # fmt: skip
    return packed


@numba.njit(cache=True, nogil=True, error_model="numpy")
def row_lengths(state_ptr, row_ptr, policy, pointers):
    """pointers (n + 1,) of the policy's rows; the number of their entries."""
    pointers[0] = 0
    for s in range(len(policy)):
        state = _index(s)
        count = 0
        if state_ptr[state] < state_ptr[state + _index(1)]:
            pair = _index(state_ptr[state] + policy[state])
            count = row_ptr[pair + _index(1)] - row_ptr[pair]
        pointers[state + _index(1)] = pointers[state] + count
    return pointers[len(policy)]


@numba.njit(cache=True, nogil=True, error_model="numpy", inline="always")
def _pack_row(state, pair, row_ptr, successor, probability, reward, discount, loops, free, column, weight, constant):
    loop, begin = 0.0, free
    for entry in range(_index(row_ptr[pair]), _index(row_ptr[pair + _index(1)])):
        same = loops and _index(successor[entry]) == state
        loop += probability[entry] if same else 0.0
        column[free] = successor[entry]
        weight[free] = 0.0 if same else discount * probability[entry]
        free += _index(1)
    constant[state] = reward[pair]
    if loop > 0.0:
        scale = 1.0 / (1.0 - discount * loop)
        constant[state] *= scale
        for entry in range(begin, free):
            weight[entry] *= scale


@numba.njit(cache=True, nogil=True, error_model="numpy")
def pack_rows(
    start, stop, state_ptr, row_ptr, successor, probability, reward, terminal_value, discount, policy, loops, pointers, column,
    weight, constant,
):  # fmt: skip
    """Fill column, weight, constant of the policy's rows of states [start, stop); pointers as `row_lengths` left them."""
    for s in range(start, stop):
        state = _index(s)
        if state_ptr[state] == state_ptr[state + _index(1)]:
            constant[state] = terminal_value[state]
            continue
        pair = _index(state_ptr[state] + policy[state])
        free = _index(pointers[state])
        _pack_row(state, pair, row_ptr, successor, probability, reward, discount, loops, free, column, weight, constant)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def repack_rows(
    state_ptr, row_ptr, successor, probability, reward, discount, policy, changed, loops, pointers, column, weight, constant
):
    """Overwrite the rows of the states `changed`; False, with nothing done, where a row's length differs."""
    for s in changed:
        state = _index(s)
        pair = _index(state_ptr[state] + policy[state])
        if row_ptr[pair + _index(1)] - row_ptr[pair] != pointers[state + _index(1)] - pointers[state]:
            return False
    for s in changed:
        state = _index(s)
        pair = _index(state_ptr[state] + policy[state])
        free = _index(pointers[state])
        _pack_row(state, pair, row_ptr, successor, probability, reward, discount, loops, free, column, weight, constant)
    return True


@numba.njit(cache=True, nogil=True, fastmath={"contract", "reassoc", "nsz"}, error_model="numpy")
def packed_gauss_seidel(backward, pointers, column, weight, constant, value):
    """One in-place sweep of a packed policy, forwards or backwards; least and greatest change."""
    low, high = np.inf, -np.inf
    n_states = len(constant)
    for position in range(n_states):
        state = _index(n_states - 1 - position) if backward else _index(position)
        total = constant[state]
        for entry in range(_index(pointers[state]), _index(pointers[state + _index(1)])):
            total += weight[entry] * value[_index(column[entry])]
        change = total - value[state]
        low, high = min(low, change), max(high, change)
        value[state] = total
    return low, high


@numba.njit(cache=True, nogil=True, fastmath={"contract", "reassoc", "nsz"}, error_model="numpy")
def packed_jacobi(start, stop, pointers, column, weight, constant, value, out):
    """out = constant + weight value on states [start, stop); least and greatest change."""
    low, high = np.inf, -np.inf
    for s in range(start, stop):
        state = _index(s)
        total = 0.0
        for entry in range(_index(pointers[state]), _index(pointers[state + _index(1)])):
            total += weight[entry] * value[_index(column[entry])]
        total += constant[state]
        change = total - value[state]
        low, high = min(low, change), max(high, change)
        out[state] = total
    return low, high
