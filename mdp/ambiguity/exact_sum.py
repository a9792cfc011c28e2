r"""The sign of a sum of floats, without error, inside a kernel.

An expansion is a list of floats that do not overlap and whose sum is the number meant; adding a float to one costs a pass and
loses nothing (Dekker 1971; Shewchuk 1997, grow-expansion), so the sign of the last component that is not zero is the sign of
the sum. A product a b is two floats (Veltkamp and Dekker), exact for 2^-969 <= |a b| and |a|, |b| < 2^996.
"""

import numba
import numpy as np


@numba.njit(cache=True, nogil=True, error_model="numpy")
def add(expansion, size, x):
    """Add x to expansion[:size], of room size + 1; the new size."""
    for i in range(size):
        s = x + expansion[i]
        back = s - x
        expansion[i] = (x - (s - back)) + (expansion[i] - back)
        x = s
    expansion[size] = x
    return size + 1


@numba.njit(cache=True, nogil=True, error_model="numpy")
def product(a, b):
    """(p, e): a b = p + e exactly."""
    p = a * b
    t = 134217729.0 * a
    high_a = t - (t - a)
    low_a = a - high_a
    t = 134217729.0 * b
    high_b = t - (t - b)
    low_b = b - high_b
    return p, ((high_a * high_b - p) + high_a * low_b + low_a * high_b) + low_a * low_b


@numba.njit(cache=True, nogil=True, error_model="numpy")
def share_sign(part, n_part, weight, level):
    """The sign of sum weight[part[:n_part]] - level sum weight, exactly; NaN where products would underflow."""
    for k in range(len(weight)):
        if 0.0 < weight[k] < 2.0**-900:
            return np.nan
    expansion, size = np.empty(n_part + 2 * len(weight)), 0
    for k in range(n_part):
        size = add(expansion, size, weight[part[k]])
    for k in range(len(weight)):
        most, rest = product(-level, weight[k])
        size = add(expansion, add(expansion, size, rest), most)
    for k in range(size - 1, -1, -1):
        if expansion[k] != 0.0:
            return np.sign(expansion[k])
    return 0.0
