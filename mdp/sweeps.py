r"""Numba kernels of the Bellman operator over sparse rows.

For state s with pairs k = state_ptr[s] .. state_ptr[s+1]-1 and rows p_k, rewards r_k, discount g:

    q_k(v) = r_k + g sum_j p_kj v_j,     (T v)_s = max_k q_k(v),     (T v)_s = terminal_value[s] where s has no pairs.

The Gauss-Seidel kernels solve each row for its own state, v_s = (r_k + g sum_{j != s} p_kj v_j) / (1 - g p_ks), which keeps
the fixed point and removes self-loops from the convergence rate.

Rounding. Let u = 2^-53, x = fl(q_k(v)) for a row of n entries, summed in any order, with or without fused operations. Then

    |x - q_k(v)|  <=  2 (n + 2) u fl(|r_k| + g sum_j p_kj |v_j|) + 2^-1000         (n < 2^40, no overflow),

so one `nextafter` beyond x -+ that bound encloses q_k(v) (Higham, Accuracy and Stability, 2002, section 3.1). Kernels that
enclose are compiled without fast-math.
"""

import numba
import numpy as np

UNIT_ROUNDOFF = 2.0**-53
TINY = 2.0**-1000


@numba.njit(cache=True, nogil=True, fastmath={"contract", "reassoc", "nsz"}, error_model="numpy")
def bellman(start, stop, state_ptr, row_ptr, successor, probability, reward, terminal_value, discount, value, out, policy):
    """out = T value and policy = first greedy action on states [start, stop); least and greatest change."""
    low, high = np.inf, -np.inf
    for state in range(start, stop):
        first, last = state_ptr[state], state_ptr[state + 1]
        best, action = -np.inf, -1
        entry = row_ptr[first]
        for pair in range(first, last):
            end = row_ptr[pair + 1]
            total = 0.0
            while entry < end:
                total += probability[entry] * value[successor[entry]]
                entry += 1
            total = reward[pair] + discount * total
            if total > best:
                best, action = total, pair - first
        if first == last:
            best = terminal_value[state]
        change = best - value[state]
        low, high = min(low, change), max(high, change)
        out[state] = best
        policy[state] = action
    return low, high


@numba.njit(cache=True, nogil=True, fastmath={"contract", "reassoc", "nsz"}, error_model="numpy")
def bellman_policy(
    start, stop, state_ptr, row_ptr, successor, probability, reward, terminal_value, discount, policy, value, out
):
    """out = T_policy value on states [start, stop); least and greatest change."""
    low, high = np.inf, -np.inf
    for state in range(start, stop):
        if state_ptr[state] == state_ptr[state + 1]:
            total = terminal_value[state]
        else:
            pair = state_ptr[state] + policy[state]
            total = 0.0
            for entry in range(row_ptr[pair], row_ptr[pair + 1]):
                total += probability[entry] * value[successor[entry]]
            total = reward[pair] + discount * total
        change = total - value[state]
        low, high = min(low, change), max(high, change)
        out[state] = total
    return low, high


@numba.njit(cache=True, nogil=True, error_model="numpy")
def gauss_seidel(order, backward, state_ptr, row_ptr, successor, probability, reward, terminal_value, discount, value, policy):
    """One in-place sweep of T in the given order, self-loops solved; least and greatest change."""
    low, high = np.inf, -np.inf
    n_states = len(order)
    for position in range(n_states):
        state = order[n_states - 1 - position] if backward else order[position]
        first, last = state_ptr[state], state_ptr[state + 1]
        best, action = -np.inf, -1
        entry = row_ptr[first]
        for pair in range(first, last):
            end = row_ptr[pair + 1]
            total, loop = 0.0, 0.0
            while entry < end:
                neighbour = successor[entry]
                if neighbour == state:
                    loop += probability[entry]
                else:
                    total += probability[entry] * value[neighbour]
                entry += 1
            total = reward[pair] + discount * total
            if loop > 0.0:
                total /= 1.0 - discount * loop
            if total > best:
                best, action = total, pair - first
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
        state = order[n_states - 1 - position] if backward else order[position]
        if state_ptr[state] == state_ptr[state + 1]:
            total = terminal_value[state]
        else:
            pair = state_ptr[state] + policy[state]
            total, loop = 0.0, 0.0
            for entry in range(row_ptr[pair], row_ptr[pair + 1]):
                neighbour = successor[entry]
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
    start,
    stop,
    state_ptr,
    row_ptr,
    successor,
    probability,
    reward,
    terminal_value,
    discount,
    value,
    policy,
    lower,
    upper,
):
    """policy = greedy, lower <= T_policy value, T value <= upper on states [start, stop); see the module's rounding rule."""
    for state in range(start, stop):
        first, last = state_ptr[state], state_ptr[state + 1]
        if first == last:
            lower[state] = upper[state] = terminal_value[state]
            policy[state] = -1
            continue
        best, most = -np.inf, -np.inf
        for pair in range(first, last):
            total, size = 0.0, 0.0
            for entry in range(row_ptr[pair], row_ptr[pair + 1]):
                term = probability[entry] * value[successor[entry]]
                total += term
                size += abs(term)
            total = reward[pair] + discount * total
            size = abs(reward[pair]) + discount * size
            margin = 2.0 * (row_ptr[pair + 1] - row_ptr[pair] + 2) * UNIT_ROUNDOFF * size + TINY
            if total > best:
                best = total
                policy[state] = pair - first
                lower[state] = np.nextafter(total - margin, -np.inf)
            most = max(most, np.nextafter(total + margin, np.inf))
        upper[state] = most


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
