r"""Projected sweeps of the distributional Bellman operator of a policy, all states' laws in one array.

    (T eta)(s) = sum_e p_e law(r_e + g G),    G ~ eta(s_e),    e over the outcomes of the policy's action in s.

**Categorical**: a law on the grid z_j = z_0 + j h, j < m, is its distribution function, F[j] = F(z_j), F[m-1] = 1. On the cell
[z_i, z_{i+1}) the projection's F is the mean of the old one. In cells, an outcome of reward r takes [z_j, z_{j+1}), where the
old F is F[j], to

    [y_j, y_j + g),    y_j = (r - (1 - g) z_0)/h + g j,

which touches at most two cells since g < 1; above y_{m-1} the old F is one. Laws of successors that share a reward are mixed
first and moved once. No clipping is needed, for the grid holds all returns. What is terminal is a step at the cell of
r + g (terminal value), not on the grid.

**Quantiles**: a law is m atoms in order, each of weight 1/m. The atoms r_e + g x of all outcomes are merged, and the new i-th
atom is the first up to which the weight is (2i + 1)/(2m).

Distances of T eta from eta in W_1 are int |F - F'|, over the merged atoms of both, T eta not projected.

Bellemare, Dabney and Munos 2017, arXiv 1707.06887; Dabney et al. 2018, arXiv 1710.10044; Rowland et al. 2018, arXiv 1802.08163.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numba
import numpy as np

from .law import JUMP
from .outcome import OutcomeMDP
from .prefetch import LINE, prefetch
from .threads import WORTH_SHARING, n_threads, run_ranges, split

_AHEAD = 8
"""Outcomes ahead of that which is mixed whose laws are asked for."""

_index = np.uintp
_FAST = {"contract", "reassoc", "nsz"}


class PolicyRows(NamedTuple):
    """What a policy may meet, n states and k outcomes of positive probability.

    first: int64 (n + 1,), the outcomes of state s are first[s]..first[s+1]-1, none where s is terminal. ending: int64 (n,), of
    these, the first after which nothing follows; before it they are sorted by reward. successor: int32 (k,). probability,
    reward: float64 (k,); the reward of the last outcomes holds the discounted terminal value.
    """

    discount: float
    first: np.ndarray
    ending: np.ndarray
    successor: np.ndarray
    probability: np.ndarray
    reward: np.ndarray


def policy_rows(model: OutcomeMDP, policy: np.ndarray) -> PolicyRows:
    """The rows of a policy (n,), an action of each state that is not terminal."""
    problem, n = model.problem, model.n_states
    acting = np.flatnonzero(~problem.terminal)
    pair = problem.state_ptr[acting] + policy[acting]
    begin, count = problem.row_ptr[pair].astype(np.int64), np.diff(problem.row_ptr)[pair]
    entry = np.arange(count.sum()) + np.repeat(begin - (np.cumsum(count) - count), count)
    owner, pair = np.repeat(acting, count), np.repeat(pair, count)
    used = problem.probability[entry] > 0
    owner, pair, entry = owner[used], pair[used], entry[used]
    weight, successor = problem.probability[entry], problem.successor[entry]
    reward, ends = problem.reward[pair] + model.transition_reward[entry], problem.terminal[successor]
    reward[ends] += model.discount * problem.terminal_value[successor[ends]]
    probability = weight / np.bincount(owner, weight, minlength=n)[owner]
    order = np.lexsort((reward, ends, owner))
    first = np.concatenate(([0], np.cumsum(np.bincount(owner, minlength=n))))
    ending = first[:-1] + np.bincount(owner[~ends], minlength=n)
    return PolicyRows(model.discount, first, ending, successor[order], probability[order], reward[order])


def categorical_sweep(rows: PolicyRows, low: float, spacing: float, cdf: np.ndarray, out: np.ndarray) -> float:
    """out = the categorical projection of T at cdf, both float64 (n, m), states without outcomes left as they are.

    low, spacing: the grid z_j = low + j spacing, from the least return to the greatest. The largest squared Cramer distance
    between a state's old and new law.
    """
    return spacing * _in_parts(_categorical, rows, cdf, low, spacing, cdf, out)


def categorical_residual(rows: PolicyRows, low: float, spacing: float, cdf: np.ndarray) -> float:
    """The largest W_1 distance of a state's law, cdf float64 (n, m), from T's, not projected."""
    return spacing * _in_parts(_categorical_distance, rows, cdf, low, spacing, cdf)


def quantile_sweep(rows: PolicyRows, atoms: np.ndarray, out: np.ndarray) -> float:
    """out = the quantile projection of T at atoms, both float64 (n, m), rows in order, as `categorical_sweep`.

    The largest W_inf distance between a state's old and new law.
    """
    return _in_parts(_quantiles, rows, atoms, atoms, out)


def quantile_residual(rows: PolicyRows, atoms: np.ndarray) -> float:
    """The largest W_1 distance of a state's law, atoms float64 (n, m), from T's, not projected."""
    return _in_parts(_quantile_distance, rows, atoms, atoms)


def _in_parts(kernel: Any, rows: PolicyRows, table: np.ndarray, *args: Any) -> float:
    """The largest number that the kernel finds on ranges of states, a thread each where that is worth it."""
    parts = n_threads() if len(rows.successor) * table.shape[1] >= WORTH_SHARING else 1
    return max(run_ranges(kernel, split(rows.first, parts), rows, *args))


@numba.njit(cache=True, nogil=True, fastmath=_FAST, error_model="numpy")
def _mixed(rows, e, stop, cdf, mix):
    """mix = sum p F over the outcomes from e on that share its reward, before stop. The next outcome, and the sum of p."""
    points, mass, reward = len(mix), 0.0, rows.reward[e]
    mix[:] = 0.0
    while e < stop and rows.reward[e] == reward:
        if e + _AHEAD < len(rows.successor):
            soon = np.int64(rows.successor[e + _AHEAD]) * points
            for line in range(0, points, LINE):
                prefetch(cdf, soon + line)  # pyright: ignore[reportCallIssue]
        p, following = rows.probability[e], cdf[_index(rows.successor[e])]
        for i in range(points):
            mix[i] += p * following[i]
        mass += p
        e += 1
    return e, mass


@numba.njit(cache=True, nogil=True, fastmath=_FAST, error_model="numpy")
def _step(y, mass, row):
    """row += the projection of a mass at the place y, in cells."""
    y = min(max(y, 0.0), len(row) - 1.0)
    cell = int(y)
    row[cell] += mass * (cell + 1.0 - y)
    for i in range(cell + 1, len(row)):
        row[i] += mass


@numba.njit(cache=True, nogil=True, fastmath=_FAST, error_model="numpy")
def _categorical(start, stop, rows, low, spacing, cdf, out):
    points, g = cdf.shape[1], rows.discount
    mix, here, above = np.empty(points), np.empty(points), np.empty(points + 1)
    cell, over = np.empty(points, dtype=np.uint32), np.empty(points)
    change, placed, shift = 0.0, np.inf, 0.0
    for s in range(start, stop):
        if rows.first[s] == rows.first[s + 1]:
            continue
        row, old = out[s], cdf[s]
        row[:] = 0.0
        e = rows.first[s]
        while e < rows.ending[s]:
            reward = rows.reward[e]
            if reward != placed:  # where the cells of the grid go: over[j] of [y_j, y_j + g) lies in the cell after y_j's
                placed, shift = reward, (reward - (1.0 - g) * low) / spacing
                for j in range(points):
                    y = min(max(shift + g * j, 0.0), points - 1.0)
                    cell[j] = np.uint32(y)
                    over[j] = max(y + g - (cell[j] + 1.0), 0.0)
            e, mass = _mixed(rows, e, rows.ending[s], cdf, mix)
            here[:] = 0.0
            above[:] = 0.0
            for j in range(points - 1):
                beyond = mix[j] * over[j]
                here[cell[j]] += g * mix[j] - beyond
                above[cell[j] + 1] += beyond
            for i in range(points):
                row[i] += here[i] + above[i]
            _step(shift + g * (points - 1.0), mass, row)
        for end in range(e, rows.first[s + 1]):
            _step((rows.reward[end] - low) / spacing, rows.probability[end], row)
        row[points - 1] = 1.0
        total = 0.0
        for i in range(points):
            total += (row[i] - old[i]) ** 2
        change = max(change, total)
    return change


@numba.njit(cache=True, nogil=True)
def _categorical_distance(start, stop, rows, low, spacing, cdf):
    points, g = cdf.shape[1], rows.discount
    x, w, spare, weights, edge = _room(start, stop, rows, points)
    mix, far = np.empty(points), 0.0
    for s in range(start, stop):
        if rows.first[s] == rows.first[s + 1]:
            continue
        for i in range(points):
            x[i], w[i] = i, (cdf[s, i - 1] if i else 0.0) - cdf[s, i]
        edge[1] = points
        runs, e = 1, rows.first[s]
        while e < rows.ending[s]:
            shift, at = (rows.reward[e] - (1.0 - g) * low) / spacing, edge[runs]
            e, _ = _mixed(rows, e, rows.ending[s], cdf, mix)
            for j in range(points):
                x[at + j], w[at + j] = shift + g * j, mix[j] - (mix[j - 1] if j else 0.0)
            runs += 1
            edge[runs] = at + points
        for end in range(e, rows.first[s + 1]):
            x[edge[runs]], w[edge[runs]] = (rows.reward[end] - low) / spacing, rows.probability[end]
            runs += 1
            edge[runs] = edge[runs - 1] + 1
        size = edge[runs]
        far = max(far, _area(*_merged(x, w, spare, weights, edge, runs), size))
    return far


@numba.njit(cache=True, nogil=True)
def _gathered(rows, s, atoms, x, w, edge, runs):
    """Append a run of atoms and weights for every outcome of a state; the number of runs."""
    count, g = atoms.shape[1], rows.discount
    for e in range(rows.first[s], rows.first[s + 1]):
        at, p = edge[runs], rows.probability[e]
        if e >= rows.ending[s]:
            x[at], w[at] = rows.reward[e], p
            edge[runs + 1] = at + 1
        else:
            following = atoms[rows.successor[e]]
            for i in range(count):
                x[at + i], w[at + i] = rows.reward[e] + g * following[i], p / count
            edge[runs + 1] = at + count
        runs += 1
    return runs


@numba.njit(cache=True, nogil=True)
def _quantiles(start, stop, rows, atoms, out):
    count = atoms.shape[1]
    x, w, spare, weights, edge = _room(start, stop, rows, count)
    change = 0.0
    for s in range(start, stop):
        if rows.first[s] == rows.first[s + 1]:
            continue
        runs = _gathered(rows, s, atoms, x, w, edge, 0)
        last = edge[runs] - 1
        merged, weight = _merged(x, w, spare, weights, edge, runs)
        at, level = 0, weight[0]
        for i in range(count):
            wanted = (2 * i + 1) / (2 * count) - JUMP
            while level < wanted and at < last:
                at += 1
                level += weight[at]
            out[s, i] = merged[at]
            change = max(change, abs(merged[at] - atoms[s, i]))
    return change


@numba.njit(cache=True, nogil=True)
def _quantile_distance(start, stop, rows, atoms):
    count = atoms.shape[1]
    x, w, spare, weights, edge = _room(start, stop, rows, count)
    far = 0.0
    for s in range(start, stop):
        if rows.first[s] == rows.first[s + 1]:
            continue
        for i in range(count):
            x[i], w[i] = atoms[s, i], -1.0 / count
        edge[1] = count
        runs = _gathered(rows, s, atoms, x, w, edge, 1)
        size = edge[runs]
        far = max(far, _area(*_merged(x, w, spare, weights, edge, runs), size))
    return far


@numba.njit(cache=True, nogil=True)
def _room(start, stop, rows, points):
    """Twice atoms and weights for a state's outcomes and its own law, and the edges of runs of them."""
    most = 1
    for s in range(start, stop):
        most = max(most, rows.first[s + 1] - rows.first[s] + 1)
    size = most * points
    return np.empty(size), np.empty(size), np.empty(size), np.empty(size), np.zeros(most + 1, dtype=np.int64)


@numba.njit(cache=True, nogil=True)
def _merged(x, w, spare, weights, edge, runs):
    """Runs edge[k]..edge[k+1]-1 of increasing x, merged pair by pair until one is left; its x and w, perhaps the spare."""
    while runs > 1:
        done = 0
        for k in range(0, runs, 2):
            at, i, middle, stop = edge[k], edge[k], edge[k + 1], edge[min(k + 2, runs)]
            j = middle
            while at < stop:
                if j == stop or (i < middle and x[i] <= x[j]):
                    spare[at], weights[at] = x[i], w[i]
                    i += 1
                else:
                    spare[at], weights[at] = x[j], w[j]
                    j += 1
                at += 1
            edge[done], edge[done + 1] = edge[k], stop
            done += 1
        runs = done
        x, spare, w, weights = spare, x, weights, w
    return x, w


@numba.njit(cache=True, nogil=True)
def _area(x, w, size):
    """int |sum of the w up to t| dt over increasing x (size,) whose w sum to zero."""
    total, level = 0.0, 0.0
    for i in range(size - 1):
        level += w[i]
        total += abs(level) * (x[i + 1] - x[i])
    return total
