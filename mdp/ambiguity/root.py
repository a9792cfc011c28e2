r"""The one-dimensional equation behind every smooth ball: at which point of nature's path is the distance the radius?

Along a path from the nominal row to the worst entry, with x the logarithm of its parameter, the distance D(x) increases. Near
the nominal row it is quadratic, so that log D is linear in x with slope two; further out D itself is nearly linear in x or
levels off. Newton's step is taken in the form that fits, and bisection whenever it would leave the bracket.
"""

import math

import numba
import numpy as np

QUADRATIC = 1e-8
"""Distance below which the slope of log D is two to many digits, and computed slopes are not."""


@numba.njit(cache=True, nogil=True, error_model="numpy")
def next_guess(x, distance, slope, target, low, high):
    """The next x in the bracket (low, high), either of which may be infinite, for D(x) = target > 0."""
    if distance < QUADRATIC:
        step = 0.5 * math.log(target / distance) if distance > 0.0 else 8.0
    elif distance < 1.0:
        step = math.log(target / distance) * distance / slope
    else:
        step = (target - distance) / slope
    if high == np.inf:
        step = min(step, 8.0)
    if low == -np.inf:
        step = max(step, -8.0)
    guess = x + step
    if low < guess < high:
        return guess
    if high == np.inf:
        return x + 4.0
    if low == -np.inf:
        return x - 4.0
    return low + 0.5 * (high - low)
