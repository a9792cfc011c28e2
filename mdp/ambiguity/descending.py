r"""Indices by decreasing value, in O(n log n).

The order of floats is that of their bits read as integers (turned round below zero), so that one integer holds a value's
leading digits and, in its last bits, the index: what is sorted lies in a row and moves without a look-up, and a merge takes the
larger of two integers without a branch to guess. Values that agree in all leading digits but not in the last ones may come out
wrongly; that is seen in one pass, and the indices themselves are merged then.
"""

import numba
import numpy as np

_RUN = 16
"""Entries that insertion sorts faster than merging."""


@numba.njit(cache=True, nogil=True, error_model="numpy")
def descend(d, order, spare, begun):
    """Sort `order` (n,) by decreasing d; where it has `begun`, look first whether it is sorted already. spare (n,): scratch.

    d: float64 (n,), finite, contiguous; order, spare: int64.
    """
    if begun and _sorted(d, order):
        return
    n, bits = len(d), 1
    while n >> bits:
        bits += 1
    index = (np.int64(1) << bits) - np.int64(1)
    word = d.view(np.int64)
    for i in range(n):
        key = word[i]
        if key < 0:
            key ^= np.int64(0x7FFFFFFFFFFFFFFF)
        order[i] = (key & ~index) | i
    for start in range(0, n, _RUN):
        for place in range(start + 1, min(start + _RUN, n)):
            key, j = order[place], place
            while j > start and order[j - 1] < key:
                order[j] = order[j - 1]
                j -= 1
            order[j] = key
    width, there = _RUN, False
    while width < n:
        if there:
            _merge_keys(spare, order, width)
        else:
            _merge_keys(order, spare, width)
        width, there = 2 * width, not there
    for i in range(n):
        order[i] = (spare[i] if there else order[i]) & index
    if not _sorted(d, order):
        _merge_indices(d, order, spare)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _sorted(d, order):
    place = 1
    while place < len(d) and d[order[place - 1]] >= d[order[place]]:
        place += 1
    return place >= len(d)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _merge_keys(source, target, width):
    """Runs of `width` sorted integers become runs of twice that, the largest first."""
    n = len(source)
    for start in range(0, n, 2 * width):
        middle, stop = min(start + width, n), min(start + 2 * width, n)
        left, right, place = start, middle, start
        while left < middle and right < stop:
            one, other = source[left], source[right]
            first = one >= other
            target[place] = one if first else other
            left += first
            right += not first
            place += 1
        while left < middle:
            target[place] = source[left]
            left, place = left + 1, place + 1
        while right < stop:
            target[place] = source[right]
            right, place = right + 1, place + 1


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _merge_indices(d, order, spare):
    """Sort indices by decreasing d, comparing whole values."""
    n, width = len(d), 1
    while width < n:
        for start in range(0, n, 2 * width):
            middle, stop = min(start + width, n), min(start + 2 * width, n)
            left, right = start, middle
            for place in range(start, stop):
                if right >= stop or (left < middle and d[order[left]] >= d[order[right]]):
                    spare[place] = order[left]
                    left += 1
                else:
                    spare[place] = order[right]
                    right += 1
        for i in range(n):
            order[i] = spare[i]
        width *= 2
