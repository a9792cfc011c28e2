r"""Taking entries in order of a key, without allocation.

A binary heap of indices: building it costs O(n), each extraction O(log n), so that a greedy method which stops early pays
for the entries it takes and a full sort costs O(n log n) (Williams 1964; Floyd 1964).
"""

import numba


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _sift(heap, size, start, key, sign):
    item = heap[start]
    weight = sign * key[item]
    place = start
    while True:
        child = 2 * place + 1
        if child >= size:
            break
        if child + 1 < size and sign * key[heap[child + 1]] < sign * key[heap[child]]:
            child += 1
        if sign * key[heap[child]] >= weight:
            break
        heap[place] = heap[child]
        place = child
    heap[place] = item


@numba.njit(cache=True, nogil=True, error_model="numpy")
def build(heap, size, key, sign):
    """Arrange the indices heap[:size] so that heap[0] has the least sign * key."""
    for start in range(size // 2 - 1, -1, -1):
        _sift(heap, size, start, key, sign)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def settle(heap, size, key, sign):
    """Restore the order after the key of heap[0] has grown."""
    _sift(heap, size, 0, key, sign)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def extract(heap, size, key, sign):
    """Take the first index out of heap[:size]; it is put at heap[size - 1], and the heap is heap[:size - 1] afterwards."""
    first = heap[0]
    heap[0] = heap[size - 1]
    heap[size - 1] = first
    if size > 2:
        _sift(heap, size - 1, 0, key, sign)
    return first


@numba.njit(cache=True, nogil=True, error_model="numpy")
def sort(order, key, sign):
    """order (n,) = indices by increasing sign * key."""
    n = len(order)
    for i in range(n):
        order[i] = i
    build(order, n, key, -sign)
    for size in range(n, 1, -1):
        extract(order, size, key, -sign)
