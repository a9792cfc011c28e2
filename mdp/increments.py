r"""What a vector gains in one step, for rows that are exact weights.

For pair k of state s with weights w_j, and a scale c for the rewards (1, -1, or 0 to leave them out),

    i_k(x) = c r_k + sum_j w_kj (x_j - x_s) / sum_j w_kj,

so that max_k i_k(x) = (T x - x)_s for the operator of the true probabilities w / sum w, whatever the float sums are.

Rounding. With n entries, u = 2^-53 and a = fl(sum_j w_j |x_j - x_s| / sum_j w_j), differences, products, sums in any order,
the quotient and the last addition cost at most (2 n + 3) u (|c r| + a) to first order; twice (2 n + 6) covers the rest, and
TINY what underflows (Higham, Accuracy and Stability, 2002, section 3.1).
"""

from __future__ import annotations

import numba
import numpy as np

from .model import MDP
from .sweeps import TINY, UNIT_ROUNDOFF
from .threads import WORTH_SHARING, n_threads, run_ranges


def increments_above(model: MDP, pairs: np.ndarray, vector: np.ndarray, scale: float) -> np.ndarray:
    """Upper bounds of i_k(vector), exact arithmetic, for the given pairs; shape (len(pairs),).

    pairs: state-action pairs. vector: float64 (n,). scale: of the rewards, c.
    """
    bounds = np.empty(len(pairs))
    parts = n_threads() if model.n_transitions >= WORTH_SHARING else 1
    cuts = np.linspace(0, len(pairs), parts + 1).astype(np.int64)
    rows = (model.pair_state, model.row_ptr, model.successor, model.probability, model.reward)
    run_ranges(_above, cuts, pairs, *rows, vector, scale, bounds)
    return bounds


def increments_below(model: MDP, pairs: np.ndarray, vector: np.ndarray, scale: float) -> np.ndarray:
    """Lower bounds of i_k(vector), shape (len(pairs),); see `increments_above`."""
    return -increments_above(model, pairs, -vector, -scale)


def normalised(model: MDP) -> MDP:
    """A model whose rows are the true probabilities, weight over row sum, rounded; the model itself where its rows sum to one
    up to the rounding of the sum."""
    sums = np.add.reduceat(model.probability, model.row_ptr[:-1]) if model.n_pairs else np.ones(0)
    length = np.diff(model.row_ptr)
    if np.all(np.abs(sums - 1) <= 4 * length * UNIT_ROUNDOFF):
        return model
    return model.replace(probability=model.probability / np.repeat(sums, length))


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _above(start, stop, pairs, pair_state, row_ptr, successor, probability, reward, vector, scale, bounds):
    for position in range(start, stop):
        pair = pairs[position]
        here = vector[pair_state[pair]]
        total, size, mass = 0.0, 0.0, 0.0
        for entry in range(row_ptr[pair], row_ptr[pair + 1]):
            weight = probability[entry]
            term = weight * (vector[successor[entry]] - here)
            total += term
            size += abs(term)
            mass += weight
        gain = scale * reward[pair]
        size = abs(gain) + size / mass
        margin = 2.0 * (2.0 * (row_ptr[pair + 1] - row_ptr[pair]) + 6.0) * UNIT_ROUNDOFF * size + TINY
        bounds[position] = np.nextafter(gain + total / mass + margin, np.inf)
