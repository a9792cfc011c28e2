r"""Robust Bellman rows enclosed in floats, many at once: what the checker decides before it turns to exact arithmetic.

For every pair k, low <= r_k + sigma_k(z) <= high with z_j = t_j + g x_j, nature's maximum in place of sigma where she helps.
Rows of equal length go together in normal form, d = (z - min z) / (max z - min z), sigma = m min z + (max z - min z) min p.d.
Added to the bounds of `filter_polyhedral` and `filter_smooth`: a computed z_j is off by at most 4u (|t_j| + g |x_j|), which
moves sigma by no more than m times the largest of these; d is off by 3u relatively, and min p.d is monotone and homogeneous
in d.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ..mdp.ambiguity.burg import Burg
from ..mdp.ambiguity.chi_square import ChiSquare
from ..mdp.ambiguity.contamination import Contamination
from ..mdp.ambiguity.cressie_read import CressieRead
from ..mdp.ambiguity.euclidean import L2
from ..mdp.ambiguity.interval import CVaR, Interval, LInfinity
from ..mdp.ambiguity.kullback_leibler import KL
from ..mdp.ambiguity.model_risk import ModelCVaR, ModelVaR
from ..mdp.ambiguity.nested_var import NestedVaR
from ..mdp.ambiguity.scenarios import Scenarios
from ..mdp.ambiguity.total_variation import L1, TotalVariation
from ..mdp.ambiguity.wasserstein import Wasserstein
from ..mdp.ambiguity.weighted_l1 import WeightedL1
from ..mdp.robust import RobustMDP
from .filter_models import quantile, worst_mean
from .filter_polyhedral import TINY, UNIT, box, contamination, slack, transport
from .filter_smooth import burg, cressie_read, euclidean, kullback_leibler

_SMOOTH = (KL.family, Burg.family, ChiSquare.family, CressieRead.family, L2.family)
_OWN_MASS = (Scenarios.family, ModelCVaR.family, ModelVaR.family)
_CHUNK = 2**18
_LARGEST = 2.0**400
"""Size of values beyond which exact arithmetic is asked at once."""

Bounds = tuple[np.ndarray, np.ndarray]


def enclosed_rows(problem: RobustMDP, pairs: np.ndarray, x: np.ndarray) -> Bounds:
    """low, high (len(pairs),): floats that enclose the pairs' rows at x (n_states,); infinite where nothing is known."""
    low, high = np.full(len(pairs), -np.inf), np.full(len(pairs), np.inf)
    for places, length, height in _alike(problem, pairs):
        step = max(1, _CHUNK // (length * max(1, height)))
        for start in range(0, len(places), step):
            here = places[start : start + step]
            with np.errstate(all="ignore"):
                low[here], high[here] = _rows(problem, pairs[here], x, length, height)
    return low, high


def _alike(problem: RobustMDP, pairs: np.ndarray) -> Iterator[tuple[np.ndarray, int, int]]:
    """Places in `pairs` with the same number of successors and of numbers for each."""
    lengths = np.diff(problem.row_ptr)[pairs].astype(np.int64)
    heights = np.diff(problem.sets.entry_ptr)[pairs] // np.maximum(lengths, 1)
    shape = np.stack([lengths, heights], axis=1)
    kinds, member = np.unique(shape, axis=0, return_inverse=True)
    for kind, (length, height) in enumerate(kinds.tolist()):
        yield np.flatnonzero(member.ravel() == kind), length, height


def _rows(problem: RobustMDP, pairs: np.ndarray, x: np.ndarray, n: int, height: int) -> Bounds:
    sets, nominal_model = problem.sets, problem.problem
    entries = problem.row_ptr[pairs].astype(np.int64)[:, None] + np.arange(n)
    nominal, ahead = nominal_model.probability[entries], x[nominal_model.successor[entries]]
    gain = 0.0 if problem.transition_reward is None else problem.transition_reward[entries]
    z, side = gain + nominal_model.discount * ahead, -1.0 if problem.optimistic else 1.0
    size = np.max(np.abs(gain) + nominal_model.discount * np.abs(ahead), axis=1)
    numbers = sets.entry[sets.entry_ptr[pairs][:, None] + np.arange(n * height)].reshape(len(pairs), height, n)
    chosen: Any = sets.parameter if len(sets.parameter) == 1 else sets.parameter[pairs]
    parameter = np.broadcast_to(chosen, (len(pairs), sets.parameter.shape[1]))
    below, above = _sigma(int(sets.family[0]), nominal, side * z, parameter, numbers)
    mass = nominal.sum(axis=1) if int(sets.family[0]) not in _OWN_MASS else np.full(len(pairs), 1 + 1e-6)
    off = 8 * UNIT * mass * size + TINY
    below, above = (below, above) if side > 0 else (-above, -below)
    reward = nominal_model.reward[pairs]
    low, high = reward + (below - off), reward + (above + off)
    error = 4 * UNIT * (np.abs(reward) + mass * size + off)
    known = np.isfinite(low) & np.isfinite(high) & (size < _LARGEST)
    return np.where(known, low - error, -np.inf), np.where(known, high + error, np.inf)


def _sigma(family: int, nominal: np.ndarray, z: np.ndarray, parameter: np.ndarray, numbers: np.ndarray) -> Bounds:
    if family in _OWN_MASS:
        n = z.shape[1]
        k = numbers.shape[1] if family == Scenarios.family else numbers.shape[1] * n // (n + 1)  # weights stand before rows
        weights, numbers = numbers.reshape(len(numbers), -1)[:, :k], numbers[:, numbers.shape[1] - k :]
        values, sizes = (numbers * z[:, None, :]).sum(axis=2), (numbers * np.abs(z)[:, None, :]).sum(axis=2)
        off = slack(nominal.shape[1]) * sizes + TINY
        if family == Scenarios.family:
            return (values - off).min(axis=1), (values + off).min(axis=1)
        low, high = (worst_mean if family == ModelCVaR.family else quantile)(weights, values, parameter[:, 0])
        return low - off.max(axis=1), high + off.max(axis=1)
    floor = z.min(axis=1)
    span = z.max(axis=1) - floor
    d = np.clip((z - floor[:, None]) / np.where(span > 0, span, 1.0)[:, None], 0.0, 1.0)
    low, high = _normal(family, nominal, d, parameter, numbers)
    low, mass = np.maximum(low, 0.0), nominal.sum(axis=1)
    room = slack(nominal.shape[1])
    low, high = mass * floor + span * low * (1 - room), mass * floor + span * high * (1 + room)
    off = 2 * room * mass * np.abs(floor) + 4 * UNIT * np.maximum(np.abs(low), np.abs(high)) + TINY
    return low - off, high + off


def _normal(family: int, nominal: np.ndarray, d: np.ndarray, parameter: np.ndarray, numbers: np.ndarray) -> Bounds:
    low, high = _bounds(family, nominal, d, parameter, numbers)
    if family not in _SMOOTH:
        return low, high
    alone, value, room = parameter[:, 0] == 0, (nominal * d).sum(axis=1), slack(nominal.shape[1])
    return np.where(alone, value * (1 - room), low), np.where(alone, value * (1 + room) + TINY, high)


def _bounds(family: int, nominal: np.ndarray, d: np.ndarray, parameter: np.ndarray, numbers: np.ndarray) -> Bounds:
    radius, nothing = parameter[:, 0] if parameter.shape[1] else np.zeros(len(d)), np.zeros_like(nominal)
    if family in (TotalVariation.family, L1.family):
        return transport(nominal, d, radius, np.full_like(nominal, 0.5), None)
    if family == WeightedL1.family:
        return transport(nominal, d, radius, numbers[:, 0], None)
    if family == Wasserstein.family:
        return transport(nominal, d, radius, None, numbers)
    if family == Interval.family:
        return box(nominal, d, numbers[:, 0], np.minimum(numbers[:, 1], 4.0), nothing)
    if family == LInfinity.family:
        reach = np.minimum(radius, 4.0)[:, None]
        return box(nominal, d, np.maximum(nominal - reach, 0.0), nominal + reach, nominal + reach)
    if family == CVaR.family:
        upper = np.minimum(nominal / radius[:, None], 4.0)
        return box(nominal, d, nothing, upper, upper)
    if family == Contamination.family:
        return contamination(nominal, d, radius)
    if family == KL.family:
        return kullback_leibler(nominal, d, radius)
    if family == Burg.family:
        return burg(nominal, d, radius)
    if family == ChiSquare.family:
        return cressie_read(nominal, d, radius / 2, np.full(len(d), 2.0))
    if family == CressieRead.family:
        return cressie_read(nominal, d, radius, parameter[:, 1])
    if family == L2.family:
        return euclidean(nominal, d, radius)
    mass = nominal.sum(axis=1)
    if family == NestedVaR.family:
        low, high = quantile(nominal, d, radius)
        return mass * low * (1 - slack(nominal.shape[1])), mass * high * (1 + slack(nominal.shape[1]))
    return np.zeros(len(d)), mass * (1 + slack(nominal.shape[1]))
