r"""Numba kernels of optimal transport between two small distributions, and of the bracket that any answer proves.

    W(p, q) = min { sum pi_ij c_ij : pi >= 0, pi 1 = p, pi' 1 = q } = max { f.p + g.q : f_i + g_j <= c_ij }.

A solver hands over a plan, right or nearly, and duals g, right or nearly. The bracket needs neither to be right:

    above   rows of the plan that exceed p are scaled down, then columns that exceed q, and what is missing is sent in
    proportion to
            what is still wanted (Altschuler, Weed and Rigollet, NeurIPS 2017, algorithm 2): a plan with the very marginals;
    below   f_i = min_j (c_ij - g_j) makes (f, g) feasible for any cost, triangle inequality or not.

Rounding: sums of n terms err by at most (n + 2) u of their absolute terms (Higham 2002, section 3.1); p and q may be off by
(n + 2) u in L1 distance, which W feels times the greatest cost.

`simplex` is the network simplex on the complete bipartite graph: a spanning tree of flows, the duals that make its arcs tight,
an arc of negative reduced cost enters, the first arc of its cycle to run dry leaves (Dantzig 1951; Peyre and Cuturi 2019,
section 3.5). `sinkhorn` alternates the soft c-transforms of entropic transport, with logarithms (Cuturi, NeurIPS 2013).
"""

from __future__ import annotations

import numba
import numpy as np

_jit = numba.njit(cache=True, nogil=True, error_model="numpy")
_UNIT = 2.0**-53


@_jit
def simplex(p, q, cost, plan, g):
    """Optimal plan (k, n) and column duals g (n,) of positive p (k,) and q (n,) of equal sums, by the network simplex."""
    k, n = len(p), len(q)
    size = k + n
    row, col, flow = np.empty(size - 1, np.int32), np.empty(size - 1, np.int32), np.empty(size - 1)
    _corner(p, q, row, col, flow)
    head, following = np.empty(size, np.int32), np.empty(2 * size, np.int32)
    parent, arc, order = np.empty(size, np.int32), np.empty(size, np.int32), np.empty(size, np.int32)
    depth, dual = np.empty(size, np.int32), np.empty(size)
    largest = 0.0
    for i in range(k):
        for j in range(n):
            largest = max(largest, cost[i, j])
    for _ in range(50 * size * size):
        _hang(k, row, col, cost, head, following, parent, arc, depth, order, dual)
        best, enter_i, enter_j = -1e-15 * largest, -1, -1
        for i in range(k):
            for j in range(n):
                reduced = cost[i, j] - dual[i] - dual[k + j]
                if reduced < best:
                    best, enter_i, enter_j = reduced, i, j
        if enter_i < 0:
            break
        _pivot(k, enter_i, enter_j, row, col, flow, parent, arc, depth)
    plan[:k, :n] = 0.0
    for b in range(size - 1):
        plan[row[b], col[b]] += flow[b]
    for j in range(n):
        g[j] = dual[k + j]


@_jit
def _corner(p, q, row, col, flow):
    """The tree of the north-west corner rule."""
    i, j, left, wanted = 0, 0, p[0], q[0]
    for b in range(len(row)):
        row[b], col[b], flow[b] = i, j, max(0.0, min(left, wanted))
        if (left <= wanted and i < len(p) - 1) or j == len(q) - 1:
            wanted -= left
            i += 1
            left = p[i] if i < len(p) else 0.0
        else:
            left -= wanted
            j += 1
            wanted = q[j]


@_jit
def _hang(k, row, col, cost, head, following, parent, arc, depth, order, dual):
    """Hang the tree at row 0, breadth first, and compute the duals that make its arcs tight."""
    head[:] = -1
    for b in range(len(row)):
        following[2 * b], head[row[b]] = head[row[b]], 2 * b
        following[2 * b + 1], head[k + col[b]] = head[k + col[b]], 2 * b + 1
    parent[0] = arc[0] = -1
    depth[0], dual[0], order[0] = 0, 0.0, 0
    found = 1
    for place in range(len(order)):
        node = order[place]
        link = head[node]
        while link >= 0:
            b = link // 2
            other = k + col[b] if node < k else row[b]
            if b != arc[node]:
                parent[other], arc[other], depth[other] = node, b, depth[node] + 1
                dual[other] = cost[row[b], col[b]] - dual[node]
                order[found] = other
                found += 1
            link = following[link]


@_jit
def _pivot(k, enter_i, enter_j, row, col, flow, parent, arc, depth):
    """Send as much as there is round the cycle that arc (enter_i, enter_j) closes; an arc that runs dry leaves."""
    most, leaving = np.inf, -1
    a, b = enter_i, k + enter_j
    while a != b:  # an arc above a row of the first path, or above a column of the second, loses flow
        if depth[a] >= depth[b]:
            if a < k and flow[arc[a]] < most:
                most, leaving = flow[arc[a]], arc[a]
            a = parent[a]
        else:
            if b >= k and flow[arc[b]] < most:
                most, leaving = flow[arc[b]], arc[b]
            b = parent[b]
    a, b = enter_i, k + enter_j
    while a != b:
        if depth[a] >= depth[b]:
            flow[arc[a]] += -most if a < k else most
            a = parent[a]
        else:
            flow[arc[b]] += -most if b >= k else most
            b = parent[b]
    row[leaving], col[leaving], flow[leaving] = enter_i, enter_j, most


@_jit
def sinkhorn(p, q, cost, plan, g, regularisation, sweeps):
    """A plan (k, n) near that of entropic transport, and its column duals g (n,), after so many sweeps of both sides."""
    k, n = len(p), len(q)
    f = np.zeros(k)
    g[:n] = 0.0
    for _ in range(sweeps):
        for i in range(k):
            top = -np.inf
            for j in range(n):
                top = max(top, g[j] - cost[i, j])
            total = 0.0
            for j in range(n):
                total += q[j] * np.exp((g[j] - cost[i, j] - top) / regularisation)
            f[i] = -top - regularisation * np.log(total)
        for j in range(n):
            top = -np.inf
            for i in range(k):
                top = max(top, f[i] - cost[i, j])
            total = 0.0
            for i in range(k):
                total += p[i] * np.exp((f[i] - cost[i, j] - top) / regularisation)
            g[j] = -top - regularisation * np.log(total)
    for i in range(k):
        for j in range(n):
            plan[i, j] = p[i] * q[j] * np.exp((f[i] + g[j] - cost[i, j]) / regularisation)


@_jit
def bracket(p, q, cost, plan, g):
    """(below, above) of W(p, q), rounding included; the plan (k, n) is repaired in place."""
    k, n = len(p), len(q)
    largest = dearest = 0.0
    for i in range(k):
        for j in range(n):
            largest = max(largest, abs(cost[i, j]))
    for j in range(n):
        dearest = max(dearest, abs(g[j]))
    slack = 4.0 * (k + n + 8) * _UNIT * (largest + dearest)
    below, size = 0.0, 0.0
    for j in range(n):
        below += g[j] * q[j]
        size += abs(g[j]) * q[j]
    for i in range(k):
        f = np.inf
        for j in range(n):
            f = min(f, cost[i, j] - g[j])
        below += f * p[i]
        size += abs(f) * p[i]
    below -= 4.0 * (k + n + 8) * _UNIT * size + slack
    above = _repaired(p, q, cost, plan)
    return below, above * (1.0 + 4.0 * (k * n + 8) * _UNIT) + 4.0 * (k + n + 8) * _UNIT * largest


@_jit
def _repaired(p, q, cost, plan):
    """The cost of the plan after its marginals have been put right."""
    k, n = len(p), len(q)
    missing, wanted = np.empty(k), np.empty(n)
    for i in range(k):
        total = 0.0
        for j in range(n):
            total += plan[i, j]
        if total > p[i]:
            for j in range(n):
                plan[i, j] *= p[i] / total
    for j in range(n):
        total = 0.0
        for i in range(k):
            total += plan[i, j]
        share = q[j] / total if total > q[j] else 1.0
        wanted[j] = max(0.0, q[j] - total * share)
        for i in range(k):
            plan[i, j] *= share
    short = 0.0
    for i in range(k):
        total = 0.0
        for j in range(n):
            total += plan[i, j]
        missing[i] = max(0.0, p[i] - total)
        short += missing[i]
    spent, open_ = 0.0, 0.0
    for j in range(n):
        open_ += wanted[j]
    for i in range(k):
        for j in range(n):
            if short > 0.0 and open_ > 0.0:
                plan[i, j] += missing[i] * wanted[j] / max(short, open_)
            spent += plan[i, j] * cost[i, j]
    return spent


@_jit
def transport(p, q, cost, plan, g, regularisation, sweeps):
    """(below, above) of W(p, q): one point at once, else by the network simplex, or entropic where regularisation > 0."""
    if len(p) == 1 or len(q) == 1:
        for i in range(len(p)):
            for j in range(len(q)):
                plan[i, j] = p[i] * q[j]
        for j in range(len(q)):
            g[j] = cost[0, j]
        if len(q) == 1:
            g[0] = 0.0
    elif regularisation > 0.0:
        sinkhorn(p, q, cost, plan, g, regularisation, sweeps)
    else:
        simplex(p, q, cost, plan, g)
    return bracket(p, q, cost, plan, g)
