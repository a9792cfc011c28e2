r"""One entry for every family: the inner problem of a row, by the code of its family.

Kernels of an operator call these in their loop over rows; nothing is allocated. The arguments are

    family      code of the set, `AmbiguitySet.family`
    z, pbar     (n,), values of the successors and their nominal probabilities; every entry handed over may carry mass
    parameter   `AmbiguitySet.parameters()`
    entry       (k, n), `AmbiguitySet.entries(pbar)`, restricted like z and pbar
    p           (n,), out: the worst row
    work, order scratch of `workspace(n)`: (WORK, n) float64 and (ORDER, n) int64

The optimistic side is -worst_row(-z). Costs a row: O(n) contamination; O(n + k log n) total variation, boxes, CVaR, where k
entries change; O(n log n) weighted L1, chi-square; O(n) an iteration, some ten of them, for Kullback-Leibler, Burg,
Cressie-Read and L2; O(n^2) and O(n) for each further edge used, Wasserstein.
"""

import numba
import numpy as np

from . import contamination, interval, scenarios, total_variation, weighted_l1
from .rounding import dot, high_dot, normal_form, total, widen

WORK = 6
ORDER = 2


def workspace(n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A row (n,) and the scratch (WORK, n), (ORDER, n) for rows of exactly n entries."""
    return np.empty(n), np.empty((WORK, n)), np.empty((ORDER, n), dtype=np.int64)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _solve(family, d, pbar, mass, parameter, entry, p, work, order):
    """(p.d, multiplier) in normal form."""
    if family == 0:
        return total_variation.solve(d, pbar, parameter[0], p, order[0])
    if family == 1:
        return interval.solve(d, mass, entry[0], entry[1], p, order[0])
    if family == 2:
        interval.ball_box(pbar, parameter[0], -1.0, work[1], work[2])
        return interval.solve(d, mass, work[1], work[2], p, order[0])
    if family == 3:
        interval.tail_box(pbar, parameter[0], -1.0, work[1], work[2])
        return interval.solve(d, mass, work[1], work[2], p, order[0])
    if family == 4:
        return contamination.solve(d, pbar, mass, parameter[0], p), 0.0
    return weighted_l1.trace(d, pbar, entry[0], parameter[0], p, work[1:], order)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _bounds(family, multiplier, d, pbar, mass, parameter, entry, p, work):
    """Bounds on the least p.d in normal form, after `_solve`."""
    if family == 0:
        return total_variation.bounds(multiplier, d, pbar, parameter[0], p, work[1])
    if family == 1:
        low = interval.low_bound(multiplier, d, pbar, mass, entry[0], entry[1], work[1])
        return low, interval.high_bound(d, pbar, p)
    if family == 2:
        interval.ball_box(pbar, parameter[0], 1.0, work[1], work[2])
        low = interval.low_bound(multiplier, d, pbar, mass, work[1], work[2], work[3])
        return low, interval.high_bound(d, pbar, p)
    if family == 3:
        interval.tail_box(pbar, parameter[0], 1.0, work[1], work[2])
        low = interval.low_bound(multiplier, d, pbar, mass, work[1], work[2], work[3])
        return low, interval.high_bound(d, pbar, p)
    if family == 4:
        return contamination.bounds(d, pbar, parameter[0])
    return weighted_l1.bounds(multiplier, d, pbar, mass, entry[0], parameter[0], p, work[1])


@numba.njit(cache=True, nogil=True, error_model="numpy")
def worst_row(family, z, pbar, parameter, entry, p, work, order):
    """p = a worst row; p.z."""
    if family == scenarios_family:
        return scenarios.solve(z, entry, p)[1]
    dominated = family in dominated_families
    floor, span = normal_form(z, pbar, dominated, work[0])
    mass = total(pbar)
    shifted, _ = _solve(family, work[0], pbar, mass, parameter, entry, p, work, order)
    return mass * floor + span * shifted


@numba.njit(cache=True, nogil=True, error_model="numpy")
def enclose_row(family, z, pbar, parameter, entry, p, work, order):
    """p = a worst row; (lower, p.z, upper) with lower <= sigma <= upper in exact arithmetic for z and pbar taken exactly."""
    if family == scenarios_family:
        return scenarios.solve(z, entry, p)
    dominated = family in dominated_families
    floor, span = normal_form(z, pbar, dominated, work[0])
    d = work[0]
    mass = total(pbar)
    shifted, multiplier = _solve(family, d, pbar, mass, parameter, entry, p, work, order)
    low, high = _bounds(family, multiplier, d, pbar, mass, parameter, entry, p, work)
    if not low > 0.0:
        low = 0.0
    lower, upper = widen(mass, floor, span, low, high)
    return lower, min(max(mass * floor + span * shifted, lower), upper), upper


scenarios_family = scenarios.Scenarios.family
dominated_families = (interval.CVaR.family, 7, 9, 10)
