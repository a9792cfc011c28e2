r"""Numba kernels of the Bellman operator over sparse rows.

For state s with pairs k = state_ptr[s] .. state_ptr[s+1]-1 and rows p_k, rewards r_k, discount g:

    q_k(v) = r_k + g sum_j p_kj v_j,     (T v)_s = max_k q_k(v),     (T v)_s = terminal_value[s] where s has no pairs.

The Gauss-Seidel kernels solve each row for its own state, v_s = (r_k + g sum_{j != s} p_kj v_j) / (1 - g p_ks), which keeps
the fixed point and removes self-loops from the convergence rate.

Rounding. Let u = 2^-53, x = fl(q_k(v)) for a row of n entries, summed in any order, with or without fused operations. Then

    |x - q_k(v)|  <=  1.01 (n + 2) u fl(|r_k| + g sum_j p_kj |v_j|) + 2^-1000         (n < 2^31, no overflow),

where 1.01 covers 1 / (1 - (n + 2) u) and the rounding of the bound itself (Higham, Accuracy and Stability, 2002, section
3.1). Rows of more than 16 entries are summed with compensation (Kahan 1965), whose own error is at most 2 u + O(n u^2) times
the sum of absolute terms, so that n = 4 may stand for their length. The constant n + 5 covers the last subtraction too.
Kernels that enclose are compiled without fast-math.

Indices are cast to unsigned, which spares a test for negative ones at every access.
"""

import numba
import numpy as np

UNIT_ROUNDOFF = 2.0**-53
TINY = 2.0**-1000
COMPENSATED = 16
"""Row length from which enclosures sum with compensation."""

_index = np.uintp
_FAST = {"contract", "reassoc", "nsz"}


@numba.njit(cache=True, nogil=True, fastmath=_FAST, error_model="numpy")
def bellman(start, stop, state_ptr, row_ptr, successor, probability, reward, terminal_value, discount, value, out, policy):
    """out = T value and policy = first greedy action on states [start, stop); least and greatest change."""
    low, high = np.inf, -np.inf
    for s in range(start, stop):
        state = _index(s)
        first, last = _index(state_ptr[state]), _index(state_ptr[state + _index(1)])
        best, action = -np.inf, -1
        begin = _index(row_ptr[first])
        for pair in range(first, last):
            end = _index(row_ptr[pair + _index(1)])
            total = 0.0
            for entry in range(begin, end):
                total += probability[entry] * value[_index(successor[entry])]
            begin = end
            total = reward[pair] + discount * total
            if total > best:
                best, action = total, np.int32(pair - first)
        if first == last:
            best = terminal_value[state]
        change = best - value[state]
        low, high = min(low, change), max(high, change)
        out[state] = best
        policy[state] = action
    return low, high


@numba.njit(cache=True, nogil=True, fastmath=_FAST, error_model="numpy")
def bellman_policy(
    start, stop, state_ptr, row_ptr, successor, probability, reward, terminal_value, discount, policy, value, out
):
    """out = T_policy value on states [start, stop); least and greatest change."""
    low, high = np.inf, -np.inf
    for s in range(start, stop):
        state = _index(s)
        if state_ptr[state] == state_ptr[state + _index(1)]:
            total = terminal_value[state]
        else:
            pair = _index(state_ptr[state] + policy[state])
            total = 0.0
            for entry in range(_index(row_ptr[pair]), _index(row_ptr[pair + _index(1)])):
                total += probability[entry] * value[_index(successor[entry])]
            total = reward[pair] + discount * total
        change = total - value[state]
        low, high = min(low, change), max(high, change)
        out[state] = total
    return low, high


@numba.njit(cache=True, nogil=True, fastmath=_FAST, error_model="numpy")
def gauss_seidel(order, backward, state_ptr, row_ptr, successor, probability, reward, terminal_value, discount, value, policy):
    """One in-place sweep of T in the given order, self-loops solved; least and greatest change."""
    low, high = np.inf, -np.inf
    n_states = len(order)
    for position in range(n_states):
        state = _index(order[n_states - 1 - position] if backward else order[position])
        first, last = _index(state_ptr[state]), _index(state_ptr[state + _index(1)])
        best, action = -np.inf, -1
        begin = _index(row_ptr[first])
        for pair in range(first, last):
            end = _index(row_ptr[pair + _index(1)])
            total, loop = 0.0, 0.0
            for entry in range(begin, end):
                neighbour = _index(successor[entry])
                loop += probability[entry] if neighbour == state else 0.0
                total += probability[entry] * value[neighbour]
            begin = end
            total -= loop * value[state]
            total = reward[pair] + discount * total
            if loop > 0.0:
                total /= 1.0 - discount * loop
            if total > best:
                best, action = total, np.int32(pair - first)
        if first == last:
            best = terminal_value[state]
        change = best - value[state]
        low, high = min(low, change), max(high, change)
        value[state] = best
        policy[state] = action
    return low, high


@numba.njit(cache=True, nogil=True, error_model="numpy")
def gauss_seidel_policy(
    order, backward, state_ptr, row_ptr, successor, probability, reward, terminal_value, discount, policy, value
):
    """One in-place sweep of T_policy in the given order, self-loops solved; least and greatest change."""
    low, high = np.inf, -np.inf
    n_states = len(order)
    for position in range(n_states):
        state = _index(order[n_states - 1 - position] if backward else order[position])
        if state_ptr[state] == state_ptr[state + _index(1)]:
            total = terminal_value[state]
        else:
            pair = _index(state_ptr[state] + policy[state])
            total, loop = 0.0, 0.0
            for entry in range(_index(row_ptr[pair]), _index(row_ptr[pair + _index(1)])):
                neighbour = _index(successor[entry])
                if neighbour == state:
                    loop += probability[entry]
                else:
                    total += probability[entry] * value[neighbour]
            total = reward[pair] + discount * total
            if loop > 0.0:
                total /= 1.0 - discount * loop
        change = total - value[state]
        low, high = min(low, change), max(high, change)
        value[state] = total
    return low, high


@numba.njit(cache=True, nogil=True, error_model="numpy")
def enclose(
    start, stop, state_ptr, row_ptr, successor, probability, reward, terminal_value, discount, value, policy, lower, upper
):
    """policy = greedy, lower <= T_policy value, T value <= upper on states [start, stop); see the module's rounding rule."""
    for s in range(start, stop):
        state = _index(s)
        first, last = _index(state_ptr[state]), _index(state_ptr[state + _index(1)])
        if first == last:
            lower[state] = upper[state] = terminal_value[state]
            policy[state] = -1
            continue
        best, low, most, action = -np.inf, -np.inf, -np.inf, 0
        begin = _index(row_ptr[first])
        for pair in range(first, last):
            end = _index(row_ptr[pair + _index(1)])
            total, size = 0.0, 0.0
            if end - begin <= _index(COMPENSATED):
                for entry in range(begin, end):
                    term = probability[entry] * value[_index(successor[entry])]
                    total += term
                    size += abs(term)
            else:
                carry = 0.0
                for entry in range(begin, end):
                    term = probability[entry] * value[_index(successor[entry])]
                    size += abs(term)
                    term -= carry
                    following = total + term
                    carry = (following - total) - term
                    total = following
            length = float(end - begin) if end - begin <= _index(COMPENSATED) else 4.0
            begin = end
            total = reward[pair] + discount * total
            size = abs(reward[pair]) + discount * size
            margin = 1.01 * (length + 5.0) * UNIT_ROUNDOFF * size + TINY
            if total > best:
                best, low, action = total, total - margin, np.int32(pair - first)
            most = max(most, total + margin)
        lower[state] = low
        upper[state] = most
        policy[state] = action


@numba.njit(cache=True, nogil=True, error_model="numpy")
def row_sum_range(start, stop, row_ptr, probability):
    """Bounds below and above the exact sums of rows [start, stop)."""
    low, high = np.inf, -np.inf
    for pair in range(start, stop):
        total = 0.0
        for entry in range(row_ptr[pair], row_ptr[pair + 1]):
            total += probability[entry]
        margin = 2.0 * (row_ptr[pair + 1] - row_ptr[pair] + 2) * UNIT_ROUNDOFF * total + TINY
        low, high = min(low, total - margin), max(high, total + margin)
    return low, high
