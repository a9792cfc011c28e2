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
Cressie-Read and L2; O(n^2) and O(n) for each further edge used, Wasserstein; O(k n) for k scenarios, models or vertices.
"""

import numba
import numpy as np

from . import (
    burg,
    chi_square,
    contamination,
    cressie_read,
    euclidean,
    interval,
    kullback_leibler,
    model_risk,
    nested_var,
    polytope,
    scenarios,
    total_variation,
    wasserstein,
    weighted_l1,
)
from .rounding import SUM_ERROR, TINY, low_dot, normal_form, total, widen

WORK = 6
ORDER = 3
OWN_ROWS = (scenarios.Scenarios.family, polytope.Polytope.family, model_risk.ModelCVaR.family, model_risk.ModelVaR.family)
"""Families whose entries are rows, solved on z as it is."""

_SCENARIOS, _POLYTOPE, _TAIL, _ = OWN_ROWS


def workspace(n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A row (n,) and the scratch (WORK, n), (ORDER, n) for rows of exactly n entries."""
    return np.empty(n), np.empty((WORK, n)), np.empty((ORDER, n), dtype=np.int64)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _solve(family, d, pbar, mass, parameter, entry, p, work, order):
    """(p.d, multiplier, second number of the dual point, third) in normal form."""
    if family == 0:
        value, multiplier = total_variation.solve(d, pbar, parameter[0], p, order[0])
    elif family == 1:
        value, multiplier = interval.solve(d, mass, entry[0], entry[1], p, order[0])
    elif family == 2:
        interval.ball_box(pbar, parameter[0], -1.0, work[1], work[2])
        value, multiplier = interval.solve(d, mass, work[1], work[2], p, order[0])
    elif family == 3:
        interval.tail_box(pbar, parameter[0], -1.0, work[1], work[2])
        value, multiplier = interval.solve(d, mass, work[1], work[2], p, order[0])
    elif family == 4:
        value, multiplier = contamination.solve(d, pbar, mass, parameter[0], p), 0.0
    elif family == 6:
        value, multiplier = weighted_l1.trace(d, pbar, entry[0], parameter[0], p, work[1:], order)
    elif family == 7:
        value, multiplier = kullback_leibler.solve(d, pbar, mass, parameter[0], p)
    elif family == 8:
        value, multiplier, nu = euclidean.solve(d, pbar, mass, parameter[0], p)
        return value, multiplier, nu, 0.0
    elif family == 9:
        value, multiplier = chi_square.solve(d, pbar, mass, parameter[0], p, work[1:], order[0])
    elif family == 10:
        value, multiplier = cressie_read.solve(d, pbar, mass, parameter[0], parameter[1], p)
    elif family == 11:
        value, multiplier = burg.solve(d, pbar, mass, parameter[0], p)
    elif family == 14:
        value, multiplier = nested_var.solve(d, pbar, mass, parameter[0], p, order[0])
    else:
        return wasserstein.solve(d, pbar, entry, parameter[0], p, work[1:], order)
    return value, multiplier, 0.0, 0.0


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _bounds(family, multiplier, second, third, d, pbar, mass, parameter, entry, p, work):
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
    if family == 6:
        return weighted_l1.bounds(multiplier, d, pbar, mass, entry[0], parameter[0], p, work[1])
    if family == 7:
        return kullback_leibler.bounds(multiplier, d, pbar, mass, parameter[0], p, work[1])
    if family == 8:
        return euclidean.bounds(multiplier, second, d, pbar, mass, parameter[0], p, work[1])
    if family == 9:
        return chi_square.bounds(multiplier, d, pbar, mass, parameter[0], p, work[1])
    if family == 10:
        return cressie_read.bounds(multiplier, d, pbar, mass, parameter[0], parameter[1], p, work[1])
    if family == 11:
        return burg.bounds(multiplier, d, pbar, mass, parameter[0], p, work[1])
    if family == 14:
        return low_dot(p, d), multiplier * (1 + 2 * SUM_ERROR) + TINY
    return wasserstein.bounds(multiplier, second, third, d, pbar, entry, parameter[0], work[1])


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _dominated(family):
    """Whether p vanishes where the nominal row does: CVaR, KL, chi-square, Cressie-Read, nested value at risk."""
    return family in (3, 7, 9, 10, 14)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _own_rows(family, z, parameter, entry, p):
    """`enclose_row` for the families of OWN_ROWS."""
    if family == _SCENARIOS:
        return scenarios.solve(z, entry, p)
    if family == _POLYTOPE:
        return polytope.solve(z, entry, p)
    return model_risk.solve(family == _TAIL, z, entry, parameter[0], p)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def worst_row(family, z, pbar, parameter, entry, p, work, order):
    """p (n,) = a worst row; p.z."""
    if family in OWN_ROWS:
        return _own_rows(family, z, parameter, entry, p)[1]
    floor, span = normal_form(z, pbar, _dominated(family), work[0])
    mass = total(pbar)
    shifted = _solve(family, work[0], pbar, mass, parameter, entry, p, work, order)[0]
    return mass * floor + span * shifted


@numba.njit(cache=True, nogil=True, error_model="numpy")
def enclose_row(family, z, pbar, parameter, entry, p, work, order):
    """p (n,) = a worst row; (lower, p.z, upper), lower <= sigma <= upper in exact arithmetic for z and pbar taken exactly."""
    if family in OWN_ROWS:
        return _own_rows(family, z, parameter, entry, p)
    floor, span = normal_form(z, pbar, _dominated(family), work[0])
    d, mass = work[0], total(pbar)
    shifted, multiplier, second, third = _solve(family, d, pbar, mass, parameter, entry, p, work, order)
    low, high = _bounds(family, multiplier, second, third, d, pbar, mass, parameter, entry, p, work)
    lower, upper = widen(mass, floor, span, low if low > 0.0 else 0.0, high)
    return lower, min(max(mass * floor + span * shifted, lower), upper), upper
