r"""Round trips: shortest by dynamic programming over sets, short by local search, and the nearest neighbour.

    shortest   l(S, j) = min_i l(S - {j}, i) + d(i, j), of ways from place 0 through S that end in j: n^2 2^n steps, n <= 16
    short      2-opt (a stretch turned around) and Or-opt (up to three places moved, either way round) until neither helps,
               then a double bridge and again, the better trip kept
    nearest    always on to the nearest place that is left

These are the tail instances of `banach.mdp.combinatorial.TravelingSalesman`, without a model in between: `build` proves what
`shortest_tour` computes. Held and Karp, J. SIAM 10, 1962; Bellman, J. ACM 9, 1962; Martin, Otto and Felten, Complex Systems 5,
1991, for the double bridge.
"""

from __future__ import annotations

import numba
import numpy as np

from ..mdp.combinatorial import distances
from .errors import SolveError

_jit = numba.njit(cache=True, nogil=True, error_model="numpy")
_LEAST = 8
"""Places from which on a double bridge is tried; below, 2-opt and Or-opt undo it."""
_EXACT = 16
"""Most places of an exact tour: 2^15 sets of 15 places are 4 MB."""


def shortest_tour(distance: np.ndarray) -> tuple[float, np.ndarray]:
    """Length and order of a shortest round trip. distance: (n, n), need not be symmetric, n <= 16. The order begins with 0.

    Raises ModelError for distances of another shape, not finite or negative, SolveError for more places.
    """
    distance = distances(distance)
    if len(distance) > _EXACT:
        raise SolveError(f"{len(distance)} places are too many for an exact tour (at most {_EXACT}); take short_tour")
    if len(distance) == 1:
        return float(distance[0, 0]), np.zeros(1, dtype=np.int64)
    return _held_karp(distance)


def short_tour(distance: np.ndarray, kicks: int = 200, seed: int = 0) -> tuple[float, np.ndarray]:
    """Length and order of a short round trip, at least one that no 2-opt or Or-opt move shortens. distance: (n, n), symmetric.

    kicks: >= 0, double bridges tried. The order begins with 0.
    Raises ModelError for distances of another shape, not finite or negative, SolveError where they are not symmetric.
    """
    distance = distances(distance)
    if not np.array_equal(distance, distance.T):
        i, j = np.argwhere(distance != distance.T)[0].tolist()
        raise SolveError(f"the distance from {i} to {j} is not that back; short_tour turns stretches around: make it symmetric")
    if kicks < 0:
        raise SolveError(f"kicks={kicks} must be >= 0")
    n = len(distance)
    generator = np.random.default_rng(seed)
    cuts_K3 = np.empty((kicks if n >= _LEAST else 0, 3), dtype=np.int64)
    for k in range(len(cuts_K3)):
        cuts_K3[k] = np.sort(generator.choice(n - 1, 3, replace=False) + 1)
    order = _local_search(distance, _nearest(distance), cuts_K3)
    return tour_length(distance, order), order


def nearest_neighbour_tour(distance: np.ndarray) -> tuple[float, np.ndarray]:
    """Length and order of the trip that always goes on to the nearest place left. distance: (n, n).

    Raises ModelError for distances of another shape, not finite or negative.
    """
    distance = distances(distance)
    order = _nearest(distance)
    return tour_length(distance, order), order


def tour_length(distance: np.ndarray, order: np.ndarray) -> float:
    """Length of the round trip that visits places in this order. distance: (n, n). order: (n,)."""
    return float(distance[order, np.roll(order, -1)].sum())


@_jit
def _held_karp(distance: np.ndarray) -> tuple[float, np.ndarray]:
    n = len(distance) - 1
    least = np.full((1 << n, n), np.inf)
    for j in range(n):
        least[1 << j, j] = distance[0, j + 1]
    for visited in range(1, 1 << n):
        for i in range(n):
            here = least[visited, i]
            if here == np.inf:
                continue
            for j in range(n):
                if not visited >> j & 1:
                    there = visited | 1 << j
                    least[there, j] = min(least[there, j], here + distance[i + 1, j + 1])
    visited, best, last = (1 << n) - 1, np.inf, 0
    for j in range(n):
        if least[visited, j] + distance[j + 1, 0] < best:
            best, last = least[visited, j] + distance[j + 1, 0], j
    order = np.zeros(n + 1, dtype=np.int64)
    for place in range(n, 0, -1):
        order[place] = last + 1
        before = visited & ~(1 << last)
        if not before:
            break
        closest, way = 0, np.inf
        for i in range(n):
            if least[before, i] + distance[i + 1, last + 1] < way:
                closest, way = i, least[before, i] + distance[i + 1, last + 1]
        visited, last = before, closest
    return best, order


@_jit
def _nearest(distance: np.ndarray) -> np.ndarray:
    n = len(distance)
    order, left = np.zeros(n, dtype=np.int64), np.ones(n, dtype=np.bool_)
    left[0] = False
    for place in range(1, n):
        here, found = order[place - 1], -1
        for j in range(n):
            if left[j] and (found < 0 or distance[here, j] < distance[here, found]):
                found = j
        order[place], left[found] = found, False
    return order


@_jit
def _length(distance: np.ndarray, order: np.ndarray) -> float:
    total = 0.0
    for place in range(len(order)):
        total += distance[order[place - 1], order[place]]
    return float(total)


@_jit
def _local_search(distance: np.ndarray, first: np.ndarray, cuts_K3: np.ndarray) -> np.ndarray:
    n = len(first)
    best = first.copy()
    if n < 4:
        return best
    _improve(distance, best)
    length = _length(distance, best)
    other = np.empty_like(best)
    for k in range(len(cuts_K3)):
        a, b, c = cuts_K3[k]
        other[:a] = best[:a]
        other[a : a + c - b] = best[b:c]
        other[a + c - b : c] = best[a:b]
        other[c:] = best[c:]
        _improve(distance, other)
        reached = _length(distance, other)
        if reached < length - 1e-12 * length:
            best[:], length = other, reached
    start = np.argmin(best)
    return np.concatenate((best[start:], best[:start]))


@_jit
def _improve(d: np.ndarray, order: np.ndarray) -> None:
    """2-opt and Or-opt until neither helps."""
    better = True
    while better:
        better = _two_opt(d, order)
        better |= _or_opt(d, order)


@_jit
def _two_opt(d: np.ndarray, order: np.ndarray) -> bool:
    n, better = len(order), False
    for i in range(n - 2):
        for j in range(i + 2, n - (i == 0)):
            a, b, c, e = order[i], order[i + 1], order[j], order[(j + 1) % n]
            if d[a, c] + d[b, e] < (d[a, b] + d[c, e]) * (1 - 1e-12):
                low, high = i + 1, j
                while low < high:
                    order[low], order[high] = order[high], order[low]
                    low, high = low + 1, high - 1
                better = True
    return better


@_jit
def _or_opt(d: np.ndarray, order: np.ndarray) -> bool:
    n, better = len(order), False
    for size in range(1, 4):
        if n < size + 3:
            break
        for _ in range(n):
            # The stretch order[1 .. size], between order[0] and order[size + 1]; turned on by one place after each try.
            before, head, tail, after = order[0], order[1], order[size], order[size + 1]
            saved = d[before, head] + d[tail, after] - d[before, after]
            place, turned, least = -1, False, saved * (1 - 1e-12) - 1e-15
            for k in range(size + 1, n):
                a, b = order[k], order[(k + 1) % n]
                straight = d[a, head] + d[tail, b] - d[a, b]
                around = d[a, tail] + d[head, b] - d[a, b]
                if straight < least:
                    place, turned, least = k, False, straight
                if around < least:
                    place, turned, least = k, True, around
            if place >= 0:
                moved = order[1 : size + 1].copy()
                if turned:
                    moved = moved[::-1].copy()
                for k in range(size + 1, place + 1):
                    order[k - size] = order[k]
                order[place - size + 1 : place + 1] = moved
                better = True
            first = order[0]
            for k in range(n - 1):
                order[k] = order[k + 1]
            order[n - 1] = first
    return better
