"""Numba kernels over ranges of rows, shared between threads.

A kernel that is compiled with `nogil=True` and takes (start, stop) first is run on disjoint ranges at once. The number of
threads is `os.cpu_count()`, or the environment variable BANACH_THREADS. Results do not depend on it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import numpy as np

WORTH_SHARING = 400_000
"""Transitions below which handing work to a second thread costs more than it saves."""


def n_threads() -> int:
    """Threads that large sweeps use: BANACH_THREADS, else the number of processors."""
    return max(1, int(os.environ.get("BANACH_THREADS", os.cpu_count() or 1)))


@cache
def _pool(process: int, size: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(size, thread_name_prefix="banach")


def split(weight_ptr: np.ndarray, parts: int) -> np.ndarray:
    """Boundaries (parts + 1,) that cut 0..n into ranges of nearly equal weight; weight_ptr (n + 1,) is cumulative."""
    targets = np.linspace(0, weight_ptr[-1], parts + 1)
    cuts = np.searchsorted(weight_ptr, targets, side="left")
    cuts[0], cuts[-1] = 0, len(weight_ptr) - 1
    return cuts


def run_ranges(kernel: Callable[..., Any], cuts: np.ndarray, *args: Any) -> list[Any]:
    """[kernel(cuts[i], cuts[i+1], *args) for each range of cuts, shape (parts + 1,)], in order, a thread to each range."""
    ranges = list(zip(cuts[:-1].tolist(), cuts[1:].tolist(), strict=True))
    if len(ranges) == 1:
        return [kernel(*ranges[0], *args)]
    pool = _pool(os.getpid(), len(ranges))
    rest = [pool.submit(kernel, start, stop, *args) for start, stop in ranges[1:]]
    first = kernel(*ranges[0], *args)
    return [first, *(future.result() for future in rest)]
