r"""Numba kernel of the operators whose least fixed points are bisimulation metrics; see `banach.solvers.metric`."""

from __future__ import annotations

import numba
import numpy as np

from .transport_kernels import transport

_jit = numba.njit(cache=True, nogil=True, error_model="numpy")
_UNIT = 2.0**-53


@_jit
def _between(one, other, row_ptr, successor, weight, reward, c_r, c_t, regularisation, sweeps, d, cost, plan, g):
    """(below, above) of D between two pairs."""
    first, last = row_ptr[one], row_ptr[one + 1]
    begin, end = row_ptr[other], row_ptr[other + 1]
    k, n = last - first, end - begin
    for i in range(k):
        for j in range(n):
            cost[i, j] = d[successor[first + i], successor[begin + j]]
    below, above = transport(weight[first:last], weight[begin:end], cost[:k, :n], plan[:k, :n], g[:n], regularisation, sweeps)
    gap = abs(reward[one] - reward[other])
    slack = 8.0 * _UNIT * (c_r * (abs(reward[one]) + abs(reward[other])) + c_t * above)
    if reward[one] == reward[other] and above == 0.0:
        slack = 0.0
    return max(0.0, c_r * gap + c_t * max(0.0, below) - slack), c_r * gap + c_t * above + slack


@_jit
def enclose(
    start, stop, state_ptr, row_ptr, successor, weight, reward, c_r, c_t, lax, longest, regularisation, sweeps, d, low, high
):
    """low <= F d <= high between states in [start, stop) and those before them, rounding included; both (n, n), symmetric."""
    cost, plan, g = np.empty((longest, longest)), np.empty((longest, longest)), np.empty(longest)
    for s in range(start, stop):
        low[s, s] = high[s, s] = 0.0
        for t in range(s):
            if lax:
                below, above = _hausdorff(
                    s, t, state_ptr, row_ptr, successor, weight, reward, c_r, c_t, regularisation, sweeps, d, cost, plan, g
                )
            else:
                below = above = 0.0
                for a in range(state_ptr[s + 1] - state_ptr[s]):
                    least, most = _between(
                        state_ptr[s] + a, state_ptr[t] + a, row_ptr, successor, weight, reward, c_r, c_t, regularisation,
                        sweeps, d, cost, plan, g,
                    )  # fmt: skip
                    below, above = max(below, least), max(above, most)
            low[s, t] = low[t, s] = below
            high[s, t] = high[t, s] = above


@_jit
def _hausdorff(s, t, state_ptr, row_ptr, successor, weight, reward, c_r, c_t, regularisation, sweeps, d, cost, plan, g):
    """(below, above) of the greatest distance of an action of one state from the nearest one of the other."""
    width, depth = state_ptr[t + 1] - state_ptr[t], state_ptr[s + 1] - state_ptr[s]
    nearest, nearest_above = np.full(width, np.inf), np.full(width, np.inf)
    below = above = 0.0
    for a in range(depth):
        least, most = np.inf, np.inf
        for b in range(width):
            under, over = _between(
                state_ptr[s] + a, state_ptr[t] + b, row_ptr, successor, weight, reward, c_r, c_t, regularisation, sweeps, d,
                cost, plan, g,
            )  # fmt: skip
            least, most = min(least, under), min(most, over)
            nearest[b], nearest_above[b] = min(nearest[b], under), min(nearest_above[b], over)
        below, above = max(below, least), max(above, most)
    for b in range(width):
        below, above = max(below, nearest[b]), max(above, nearest_above[b])
    return below, above
