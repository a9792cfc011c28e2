r"""Numba kernels of the robust Bellman operator over sparse rows; one inner problem of `banach.mdp.ambiguity.rows` a row.

With z_j = g v_j, or r_kj + g v_j, and s = 1 for a hostile nature, -1 for a helpful one:

    q_k(v) = r_k + s sigma_k(s z),      (T v)_s = max_k q_k(v).

Rounding. sigma is enclosed for the floats z that it is given. Each of these is within 3u (|r_kj| + g |v_j|) of the exact one,
and sigma moves by no more than the row's mass, below 1 + 1e-8, times the largest such error; the last sum loses two units more.
"""

import numba
import numpy as np

from .ambiguity.rows import ORDER, WORK, enclose_row, worst_row
from .ambiguity.short_rows import is_short, short_row
from .sweeps import TINY, UNIT_ROUNDOFF

_SLACK = 4 * UNIT_ROUNDOFF


@numba.njit(cache=True, nogil=True, error_model="numpy")
def longest(row_ptr):
    """Entries of the longest row, at least one."""
    most = 1
    for pair in range(len(row_ptr) - 1):
        most = max(most, row_ptr[pair + 1] - row_ptr[pair])
    return most


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _outcomes(pair, row_ptr, successor, transition_reward, discount, side, value, z):
    """z = the signed worths of a pair's outcomes; the greatest error of one of them."""
    begin, end = row_ptr[pair], row_ptr[pair + 1]
    most = 0.0
    if len(transition_reward):
        for entry in range(begin, end):
            ahead = discount * value[successor[entry]]
            z[entry - begin] = side * (transition_reward[entry] + ahead)
            most = max(most, abs(transition_reward[entry]) + abs(ahead))
    else:
        for entry in range(begin, end):
            ahead = discount * value[successor[entry]]
            z[entry - begin] = side * ahead
            most = max(most, abs(ahead))
    return most * _SLACK


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _place(pair, row_ptr, family, parameter, entry, entry_ptr):
    """(family, parameters, entries (k, n)) of a pair."""
    which = 0 if len(family) == 1 else pair
    n = row_ptr[pair + 1] - row_ptr[pair]
    block = entry[entry_ptr[pair] : entry_ptr[pair + 1]]
    return family[which], parameter[which], block.reshape(len(block) // n, n)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _long_row(pair, row_ptr, probability, family, parameter, entry, entry_ptr, z, p, work, order):
    """sigma of a row of any length and family; the row that attains it is left in p."""
    n = row_ptr[pair + 1] - row_ptr[pair]
    kind, numbers, entries = _place(pair, row_ptr, family, parameter, entry, entry_ptr)
    nominal = probability[row_ptr[pair] : row_ptr[pair + 1]]
    scratch, places = work[: WORK * n].reshape(WORK, n), order[: ORDER * n].reshape(ORDER, n)
    return worst_row(kind, z[:n], nominal, numbers, entries, p[:n], scratch, places)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _enclosed_long_row(pair, row_ptr, probability, family, parameter, entry, entry_ptr, z, p, work, order):
    """(lower, sigma as computed, upper) of a row of any length and family."""
    n = row_ptr[pair + 1] - row_ptr[pair]
    kind, numbers, entries = _place(pair, row_ptr, family, parameter, entry, entry_ptr)
    nominal = probability[row_ptr[pair] : row_ptr[pair + 1]]
    scratch, places = work[: WORK * n].reshape(WORK, n), order[: ORDER * n].reshape(ORDER, n)
    return enclose_row(kind, z[:n], nominal, numbers, entries, p[:n], scratch, places)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _worth(
    pair, row_ptr, successor, probability, reward, transition_reward, discount, family, parameter, entry, entry_ptr, side,
    value, z, p, work, order,
):  # fmt: skip
    """q_k(v); the row that attains it is left in p. Array slices cost more than a short row, and stay out of its way."""
    n = row_ptr[pair + 1] - row_ptr[pair]
    _outcomes(pair, row_ptr, successor, transition_reward, discount, side, value, z)
    which = 0 if len(family) == 1 else pair
    if is_short(family[which], n):
        number = parameter[which, 0] if parameter.shape[1] else 0.0
        found, _ = short_row(family[which], number, z, n, probability, row_ptr[pair], entry, entry_ptr[pair], p, order)
    else:
        found = _long_row(pair, row_ptr, probability, family, parameter, entry, entry_ptr, z, p, work, order)
    return reward[pair] + side * found


@numba.njit(cache=True, nogil=True, error_model="numpy")
def bellman(
    start, stop, state_ptr, row_ptr, successor, probability, reward, transition_reward, terminal_value, discount,
    family, parameter, entry, entry_ptr, side, value, out, policy,
):  # fmt: skip
    """out = T value and policy = first greedy action on states [start, stop); least and greatest change."""
    size = longest(row_ptr)
    z, p, work, order = np.empty(size), np.empty(size), np.empty(WORK * size), np.empty(ORDER * size, dtype=np.int64)
    low, high = np.inf, -np.inf
    for state in range(start, stop):
        best, action = -np.inf, -1
        first = state_ptr[state]
        for pair in range(first, state_ptr[state + 1]):
            worth = _worth(
                pair, row_ptr, successor, probability, reward, transition_reward, discount, family, parameter, entry,
                entry_ptr, side, value, z, p, work, order,
            )  # fmt: skip
            if worth > best:
                best, action = worth, pair - first
        if action < 0:
            best = terminal_value[state]
        change = best - value[state]
        low, high = min(low, change), max(high, change)
        out[state] = best
        policy[state] = action
    return low, high


@numba.njit(cache=True, nogil=True, error_model="numpy")
def bellman_policy(
    start, stop, state_ptr, row_ptr, successor, probability, reward, transition_reward, terminal_value, discount,
    family, parameter, entry, entry_ptr, side, policy, value, out,
):  # fmt: skip
    """out = T_policy value on states [start, stop); least and greatest change."""
    size = longest(row_ptr)
    z, p, work, order = np.empty(size), np.empty(size), np.empty(WORK * size), np.empty(ORDER * size, dtype=np.int64)
    low, high = np.inf, -np.inf
    for state in range(start, stop):
        worth = terminal_value[state]
        if policy[state] >= 0:
            worth = _worth(
                state_ptr[state] + policy[state], row_ptr, successor, probability, reward, transition_reward, discount,
                family, parameter, entry, entry_ptr, side, value, z, p, work, order,
            )  # fmt: skip
        change = worth - value[state]
        low, high = min(low, change), max(high, change)
        out[state] = worth
    return low, high


@numba.njit(cache=True, nogil=True, error_model="numpy")
def gauss_seidel(
    backward, chosen, state_ptr, row_ptr, successor, probability, reward, transition_reward, terminal_value, discount,
    family, parameter, entry, entry_ptr, side, value, policy,
):  # fmt: skip
    """One in-place sweep of T, or with `chosen` of T_policy, in the order of the states; least and greatest change."""
    size = longest(row_ptr)
    z, p, work, order = np.empty(size), np.empty(size), np.empty(WORK * size), np.empty(ORDER * size, dtype=np.int64)
    low, high = np.inf, -np.inf
    n = len(value)
    for step in range(n):
        state = n - 1 - step if backward else step
        best, action = -np.inf, -1
        first, last = state_ptr[state], state_ptr[state + 1]
        if chosen and policy[state] >= 0:
            first, last = first + policy[state], first + policy[state] + 1
        for pair in range(first, last):
            worth = _worth(
                pair, row_ptr, successor, probability, reward, transition_reward, discount, family, parameter, entry,
                entry_ptr, side, value, z, p, work, order,
            )  # fmt: skip
            if worth > best:
                best, action = worth, pair - state_ptr[state]
        if action < 0:
            best = terminal_value[state]
        change = best - value[state]
        low, high = min(low, change), max(high, change)
        value[state] = best
        policy[state] = action
    return low, high


@numba.njit(cache=True, nogil=True, error_model="numpy")
def enclose(
    start, stop, state_ptr, row_ptr, successor, probability, reward, transition_reward, terminal_value, discount,
    family, parameter, entry, entry_ptr, side, value, policy, lower, upper,
):  # fmt: skip
    """policy = greedy, lower <= T_policy value, T value <= upper on states [start, stop); see the module's rounding rule."""
    size = longest(row_ptr)
    z, p, work, order = np.empty(size), np.empty(size), np.empty(WORK * size), np.empty(ORDER * size, dtype=np.int64)
    for state in range(start, stop):
        first, last = state_ptr[state], state_ptr[state + 1]
        if first == last:
            lower[state] = upper[state] = terminal_value[state]
            policy[state] = -1
            continue
        best, low, most, action = -np.inf, -np.inf, -np.inf, 0
        for pair in range(first, last):
            n = row_ptr[pair + 1] - row_ptr[pair]
            error = _outcomes(pair, row_ptr, successor, transition_reward, discount, side, value, z)
            which = 0 if len(family) == 1 else pair
            if is_short(family[which], n):
                number = parameter[which, 0] if parameter.shape[1] else 0.0
                found, off = short_row(
                    family[which], number, z, n, probability, row_ptr[pair], entry, entry_ptr[pair], p, order
                )
                under, over = found - off, found + off
            else:
                under, found, over = _enclosed_long_row(
                    pair, row_ptr, probability, family, parameter, entry, entry_ptr, z, p, work, order
                )
            if side < 0:
                under, found, over = -over, -found, -under
            margin = error + _SLACK * (abs(reward[pair]) + max(abs(under), abs(over)) + error) + TINY
            worth = reward[pair] + found
            if worth > best:
                best, low, action = worth, reward[pair] + under - margin, pair - first
            most = max(most, reward[pair] + over + margin)
        lower[state] = low
        upper[state] = most
        policy[state] = action


@numba.njit(cache=True, nogil=True, error_model="numpy")
def worst_kernel(
    start, stop, state_ptr, row_ptr, successor, probability, reward, transition_reward, discount,
    family, parameter, entry, entry_ptr, side, policy, value, head, column, weight, gain,
):  # fmt: skip
    """Nature's rows for a policy at a vector, packed from head[state] on, and the expected one-step rewards under them."""
    size = longest(row_ptr)
    z, p, work, order = np.empty(size), np.empty(size), np.empty(WORK * size), np.empty(ORDER * size, dtype=np.int64)
    for state in range(start, stop):
        if policy[state] < 0:
            continue
        pair = state_ptr[state] + policy[state]
        _worth(
            pair, row_ptr, successor, probability, reward, transition_reward, discount, family, parameter, entry,
            entry_ptr, side, value, z, p, work, order,
        )  # fmt: skip
        total = reward[pair]
        for i in range(row_ptr[pair + 1] - row_ptr[pair]):
            entered = row_ptr[pair] + i
            column[head[state] + i] = successor[entered]
            weight[head[state] + i] = p[i]
            if len(transition_reward):
                total += p[i] * transition_reward[entered]
        gain[state] = total
