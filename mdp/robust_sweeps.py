r"""Numba kernels of the robust Bellman operator over sparse rows.

With z_j = g v_j, or r_kj + g v_j, and s = 1 for a hostile nature, -1 for a helpful one:

    q_k(v) = r_k + s sigma_k(s z),      (T v)_s = max_k q_k(v).

The rows of `pairs` are solved first, `worths` and `enclosed`; the actions of a state are compared afterwards, `best` and
`best_enclosed`. Here are the rows that `banach.mdp.ambiguity.short_rows` solves in place; `banach.mdp.robust_long_sweeps` has
the others, whose kernels take long to compile and are compiled only where a model needs them.
"""

import numba
import numpy as np

from .ambiguity.short_rows import SHORT, SLACK, is_short, short_rows


@numba.njit(cache=True, nogil=True, error_model="numpy")
def outcomes(pair, row_ptr, successor, transition_reward, discount, side, value, z):
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
    return most * SLACK


@numba.njit(cache=True, nogil=True, error_model="numpy")
def worths(
    start, stop, pairs, row_ptr, successor, probability, reward, transition_reward, discount,
    family, parameter, entry, entry_ptr, side, value, worth, head, rows,
):  # fmt: skip
    """worth[i] = q of pairs[i] for i in [start, stop); where `rows` is not empty, nature's rows from head[i] on."""
    short_rows(
        start, stop, pairs, row_ptr, successor, probability, reward, transition_reward, discount, family, parameter, entry,
        entry_ptr, side, value, worth, worth[:0], head, rows, np.empty((2, SHORT)), np.empty(SHORT, dtype=np.int64),
    )  # fmt: skip


@numba.njit(cache=True, nogil=True, error_model="numpy")
def enclosed(
    start, stop, pairs, row_ptr, successor, probability, reward, transition_reward, discount,
    family, parameter, entry, entry_ptr, side, value, lower, worth, upper,
):  # fmt: skip
    """lower[i] <= q of pairs[i] <= upper[i] in exact arithmetic, worth[i] between, for i in [start, stop)."""
    short_rows(
        start, stop, pairs, row_ptr, successor, probability, reward, transition_reward, discount, family, parameter, entry,
        entry_ptr, side, value, worth, upper, pairs, worth[:0], np.empty((2, SHORT)),
        np.empty(SHORT, dtype=np.int64),
    )  # fmt: skip
    for i in range(start, stop):
        pair = pairs[i]
        if is_short(family[0 if len(family) == 1 else pair], row_ptr[pair + 1] - row_ptr[pair]):
            lower[i], upper[i] = worth[i] - upper[i], worth[i] + upper[i]


@numba.njit(cache=True, nogil=True, error_model="numpy")
def best(start, stop, state_ptr, terminal_value, worth, value, out, policy):
    """out = the best worth and policy = its first action on states [start, stop); least and greatest change."""
    low, high = np.inf, -np.inf
    for state in range(start, stop):
        most, action = -np.inf, -1
        for pair in range(state_ptr[state], state_ptr[state + 1]):
            if worth[pair] > most:
                most, action = worth[pair], pair - state_ptr[state]
        if action < 0:
            most = terminal_value[state]
        change = most - value[state]
        low, high = min(low, change), max(high, change)
        out[state] = most
        policy[state] = action
    return low, high


@numba.njit(cache=True, nogil=True, error_model="numpy")
def best_enclosed(state_ptr, terminal_value, below, worth, above, policy, lower, upper):
    """policy = first greedy action, lower = `below` of it, upper = the greatest `above`."""
    for state in range(len(state_ptr) - 1):
        if state_ptr[state] == state_ptr[state + 1]:
            lower[state] = upper[state] = terminal_value[state]
            policy[state] = -1
            continue
        most, action, highest = -np.inf, 0, -np.inf
        for pair in range(state_ptr[state], state_ptr[state + 1]):
            highest = max(highest, above[pair])
            if worth[pair] > most:
                most, action = worth[pair], pair - state_ptr[state]
        policy[state] = action
        lower[state] = below[state_ptr[state] + action]
        upper[state] = highest


@numba.njit(cache=True, nogil=True, error_model="numpy")
def gauss_seidel(
    backward, chosen, state_ptr, row_ptr, successor, probability, reward, transition_reward, terminal_value, discount,
    family, parameter, entry, entry_ptr, side, value, policy,
):  # fmt: skip
    """One in-place sweep of T, or with `chosen` of T_policy, over short rows in the order of the states; the changes' ends."""
    scratch, order = np.empty((2, SHORT)), np.empty(SHORT, dtype=np.int64)
    low, high = np.inf, -np.inf
    n = len(value)
    pairs, worth = np.arange(len(reward)), np.empty(len(reward))
    for step in range(n):
        state = n - 1 - step if backward else step
        most, action = -np.inf, -1
        first, last = state_ptr[state], state_ptr[state + 1]
        if chosen and policy[state] >= 0:
            first, last = first + policy[state], first + policy[state] + 1
        short_rows(
            first, last, pairs, row_ptr, successor, probability, reward, transition_reward, discount, family, parameter, entry,
            entry_ptr, side, value, worth, worth[:0], pairs, worth[:0], scratch, order,
        )  # fmt: skip
        for pair in range(first, last):
            if worth[pair] > most:
                most, action = worth[pair], pair - state_ptr[state]
        if action < 0:
            most = terminal_value[state]
        change = most - value[state]
        low, high = min(low, change), max(high, change)
        value[state] = most
        policy[state] = action
    return low, high
