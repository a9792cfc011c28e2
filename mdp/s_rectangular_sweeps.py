r"""The numba kernel of the s-rectangular Bellman operator over sparse rows.

With z_j = g v_j, or r_kj + g v_j, and s = 1 for a hostile nature, -1 for a helpful one, one inner problem of
`ambiguity.state_curves` or `ambiguity.state_paths` a state:

    (T v)_s = max_d min_p sum_k d_k (r_k + p_k.z),        (T_d v)_s = s min_p sum_k d_k (s r_k + p_k.(s z)).

Rounding. The bracket holds for the floats z that it is given. Each of these is within 3u (|r_kj| + g |v_j|) of the exact one,
and a state's worth moves by no more than the rows' mass, below 1 + 1e-8, times the largest such error.
"""

import numba
import numpy as np

from .ambiguity import state_curves, state_paths
from .ambiguity.state_bracket import FRAME, SPENT, copy
from .robust_sweeps import SLACK, outcomes
from .sweeps import TINY

TRANSPORT, WEIGHTED = 0, 6
"""Families whose curves are piecewise linear."""


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _room(start, stop, state_ptr, row_ptr):
    """The most transitions and actions of a state in [start, stop)."""
    entries, actions = 1, 1
    for state in range(start, stop):
        first, last = state_ptr[state], state_ptr[state + 1]
        actions = max(actions, last - first)
        entries = max(entries, row_ptr[last] - row_ptr[first])
    return entries, actions


@numba.njit(cache=True, nogil=True, error_model="numpy")
def states(
    start, stop, given, proved, backward, state_ptr, row_ptr, successor, probability, reward, transition_reward,
    terminal_value, discount, family, parameter, entry, entry_ptr, side, value, out, decision, lower, upper, price, share, rows,
):  # fmt: skip
    """out = T value on states [start, stop) and decision (n_pairs,) its weights; with `given`, out = T_decision value.

    Where `out` is `value` this is a Gauss-Seidel sweep. With `proved` also lower <= T_decision value, and T value <= upper, or
    T_decision value <= upper with `given`; price (n_states,) and share (n_pairs,) that prove it; nature's rows
    (n_transitions,). Returns the least and greatest change.
    """
    most, many = _room(start, stop, state_ptr, row_ptr)
    z, p, d, half = np.empty(most), np.empty(most), np.empty(most), np.full(most, 0.5)
    signed, ptr, frame = np.empty(many), np.empty(many + 1, dtype=np.int64), np.empty(FRAME * many)
    linear, uniform = family[0] in (TRANSPORT, WEIGHTED), family[0] == TRANSPORT
    size = most if linear else 0
    work, order, knots = np.empty(2 * most), np.empty(2 * size, dtype=np.int64), np.empty(3 * (2 * size + many))
    counts, place = np.empty(many, dtype=np.int64), np.empty(2 * many, dtype=np.int64)
    least, greatest = np.inf, -np.inf
    for step in range(stop - start):
        state = stop - 1 - step if backward else start + step
        first, last = state_ptr[state], state_ptr[state + 1]
        before = value[state]
        if first == last:
            out[state] = terminal_value[state]
            if proved:
                lower[state] = upper[state] = terminal_value[state]
                price[state] = 0.0
        else:
            a, begin, n = last - first, row_ptr[first], row_ptr[last] - row_ptr[first]
            error, largest = 0.0, 0.0
            for k in range(a):
                ptr[k] = row_ptr[first + k] - begin
                signed[k] = side * reward[first + k]
                largest = max(largest, abs(signed[k]))
                error = max(
                    error, outcomes(first + k, row_ptr, successor, transition_reward, discount, side, value, z[ptr[k] : n])
                )
            ptr[a] = n
            radius = parameter[0 if len(parameter) == 1 else first, 0]
            nominal = probability[begin : begin + n]
            table = frame[: FRAME * a].reshape(FRAME, a)
            if linear:
                weight = half[:n] if uniform else entry[entry_ptr[first] : entry_ptr[last]]
                found, dear, low, high = state_curves.answer(
                    uniform, given, proved, radius, z[:n], nominal, weight, signed[:a], ptr[: a + 1], d[:n], p[:n],
                    work[: 2 * n].reshape(2, n), order[: 2 * n].reshape(2, n), knots[: 3 * (2 * n + a)].reshape(3, 2 * n + a),
                    counts[:a], place[: 2 * a].reshape(2, a), table, decision[first:last],
                )  # fmt: skip
            else:
                found, dear, low, high = state_paths.answer(
                    family[0], given, proved, radius, z[:n], nominal, signed[:a], ptr[: a + 1], d[:n], p[:n], work[:n], table,
                    decision[first:last],
                )  # fmt: skip
            out[state] = side * found
            if proved:
                margin = error + SLACK * (largest + max(abs(low), abs(high)) + error) + TINY
                low, high = low - margin, high + margin
                lower[state], upper[state] = (low, high) if side > 0.0 else (-high, -low)
                price[state] = dear
                copy(table[SPENT], share[first:last])
                copy(p[:n], rows[begin : begin + n])
        change = out[state] - before
        least, greatest = min(least, change), max(greatest, change)
    return least, greatest
