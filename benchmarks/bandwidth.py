"""Memory bandwidth, and what a sweep must move at the least.

Triad a = b + s c moves 24 bytes an element; the line that a store fetches first is not counted. A Bellman sweep reads each
probability (8 bytes), successor (4), row pointer (4) and reward (8), each state's pair pointer (4), and the value vector (8)
once, and writes a vector and a policy (8 + 4). That is the floor where nothing stays in a cache and nothing is read twice.
"""

from __future__ import annotations

import itertools
import time
from concurrent.futures import ThreadPoolExecutor

import numba
import numpy as np
from banach.mdp import MDP

_ELEMENTS = 2**24
_REPEAT = 7


def triad(threads: int) -> float:
    """Bytes a second that a triad moves over three vectors of 128 MB, best of some runs."""
    a, b, c = np.zeros(_ELEMENTS), np.ones(_ELEMENTS), np.ones(_ELEMENTS)
    cuts = np.linspace(0, _ELEMENTS, threads + 1).astype(np.int64).tolist()
    best = np.inf
    with ThreadPoolExecutor(threads) as pool:
        for _ in range(_REPEAT):
            began = time.perf_counter()
            parts = [pool.submit(stream, *ends, a, b, c) for ends in itertools.pairwise(cuts)]
            for part in parts:
                part.result()
            best = min(best, time.perf_counter() - began)
    return 24 * _ELEMENTS / best


def sweep_bytes(model: MDP) -> int:
    """Bytes that a full Bellman sweep must move."""
    return 12 * model.n_transitions + 12 * model.n_pairs + (4 + 8 + 8 + 4) * model.n_states


@numba.njit(nogil=True)
def stream(start, stop, a, b, c):
    """A triad on [start, stop) of three vectors (k,)."""
    for i in range(start, stop):
        a[i] = b[i] + 3.0 * c[i]
