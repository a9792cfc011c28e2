r"""s-rectangular Bellman states enclosed in floats, many at once: what the checker decides before it turns to exact arithmetic.

With t = 1, or -1 where nature helps, and z_j = t (t_kj + g x_j), a decision d, a price l of nature's budget kappa and shares
kappa_k of it give, for every state, with q_k(s) = min { p.z : D(p, pbar_k) <= s },

    sum_k d_k (t r_k + min_p (p.z + l / d_k D)) - l kappa   <=   sum_k d_k M   <=   sum_k d_k (t r_k + q_k(kappa_k)),

M the least worth under d, and in place of the last sum max_k (...) for the best decision. The right side is that of
`banach.solvers.filter_robust` for balls of the shares' radii. For the left, in normal form (`filter_polyhedral`), with
y = d_k span / l,

    total variation   min_p (y p.d + D) = sum pbar min(y d, 1)
    weighted L1                         = sum pbar min(y d, nu + w),        nu = min_j (y d_j + w_j)
    KL                                  = -m log(pbar.exp(-y d) / m)
    chi-square                         >= y pbar.c - y^2 / 4 sum pbar (c - pbar.c / m)^2,        c = min(d, a), every a
    Burg                               >= m (1 + log(y g) - y g) + sum pbar log(1 + d / g),      every g > 0.

Each is concave in y and zero at zero, so that a relative error of y costs no more than that of the value. Without a budget the
rows are the nominal ones.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np

from ..mdp.ambiguity.burg import Burg
from ..mdp.ambiguity.chi_square import ChiSquare
from ..mdp.ambiguity.kullback_leibler import KL
from ..mdp.ambiguity.total_variation import TotalVariation
from ..mdp.robust import RobustMDP
from .filter_polyhedral import TINY, UNIT, slack
from .filter_robust import enclosed_rows

_CHUNK = 2**18
_HALVINGS = 56
_REACH = 600.0
"""Largest |log g| that is looked at for Burg's set."""


def worth_at_least(problem: RobustMDP, decision: np.ndarray, price: np.ndarray, x: np.ndarray) -> np.ndarray:
    """A number (n_states,) below the least worth of the decision (n_pairs,) at x (n_states,), by prices (n_states,)."""
    model, pairs = problem.problem, np.flatnonzero(decision > 0)
    turned = -1.0 if problem.optimistic else 1.0
    gain, size = np.zeros(len(pairs)), np.zeros(len(pairs))
    for places, length in _alike(problem, pairs):
        with np.errstate(all="ignore"):
            gain[places], size[places] = _contributions(problem, pairs[places], decision, price, turned, x, length)
    state, n = model.pair_state[pairs], problem.n_states
    room = slack(int(np.diff(model.state_ptr).max(initial=1)))
    with np.errstate(all="ignore"):
        cost = np.where(price > 0, price * budgets(problem), 0.0)
        total = np.bincount(state, gain, n) - cost
        total = total - room * (np.bincount(state, size, n) + cost) - TINY
        norm = np.bincount(state, decision[pairs], n)
        low = total / np.where(total > 0, norm * (1 + room), norm * (1 - room))
        low = low - 4 * UNIT * np.abs(low) - TINY
    return np.where(np.isfinite(low), low, -np.inf)


def worth_at_most(problem: RobustMDP, decision: np.ndarray, share: np.ndarray, x: np.ndarray) -> np.ndarray:
    """A number (n_states,) above the least worth, by shares (n_pairs,) of the budgets: of the given decision, or of the best.

    decision: (n_pairs,). x: (n_states,).
    """
    model, turned = problem.problem, -1.0 if problem.optimistic else 1.0
    sets = dataclasses.replace(problem.sets, parameter=share[:, None])
    low, high = enclosed_rows(dataclasses.replace(problem, _sets=sets), np.arange(problem.n_pairs), x)
    worst = high if turned > 0 else -low
    if problem.decision is None:
        most = np.full(problem.n_states, -np.inf)
        np.maximum.at(most, model.pair_state, worst)
        return most
    room = slack(int(np.diff(model.state_ptr).max(initial=1)))
    parts = np.where(decision > 0, decision * worst, 0.0)
    total, size = (np.bincount(model.pair_state, part, problem.n_states) for part in (parts, np.abs(parts)))
    norm = np.bincount(model.pair_state, decision, problem.n_states)
    with np.errstate(all="ignore"):
        total = total + room * size + TINY
        high = total / np.where(total > 0, norm * (1 - room), norm * (1 + room))
        high = high + 4 * UNIT * np.abs(high) + TINY
    return np.where(np.isnan(high), np.inf, high)


def budgets(problem: RobustMDP) -> np.ndarray:
    """Nature's budget in each state, (n_states,), in total variation for L1; zero in terminal states."""
    radius = problem.sets.parameter[:, 0]
    if len(radius) == 1:
        return np.where(problem.terminal, 0.0, radius[0])
    budget = np.zeros(problem.n_states)
    budget[problem.problem.pair_state] = radius
    return budget


def _alike(problem: RobustMDP, pairs: np.ndarray) -> Iterator[tuple[np.ndarray, int]]:
    """Places in `pairs` with the same number of successors, in pieces."""
    lengths = np.diff(problem.row_ptr)[pairs].astype(np.int64)
    kinds, member = np.unique(lengths, return_inverse=True)
    for kind, length in enumerate(kinds.tolist()):
        places = np.flatnonzero(member == kind)
        step = max(1, _CHUNK // length)
        for start in range(0, len(places), step):
            yield places[start : start + step], length


def _contributions(
    problem: RobustMDP, pairs: np.ndarray, decision: np.ndarray, price: np.ndarray, turned: float, x: np.ndarray, n: int
) -> tuple[np.ndarray, np.ndarray]:
    """Below d_k (t r_k + min_p (p.z + l / d_k D)) for each pair, and the size of its terms."""
    model, sets = problem.problem, problem.sets
    entries = problem.row_ptr[pairs].astype(np.int64)[:, None] + np.arange(n)
    nominal, ahead = model.probability[entries], x[model.successor[entries]]
    extra = 0.0 if problem.transition_reward is None else problem.transition_reward[entries]
    z = turned * (extra + model.discount * ahead)
    size = np.max(np.abs(extra) + model.discount * np.abs(ahead), axis=1)
    height = int(sets.entry_ptr[-1] > 0)
    weights = sets.entry[sets.entry_ptr[pairs][:, None] + np.arange(n)] if height else None
    floor, mass = z.min(axis=1), nominal.sum(axis=1)
    span, weight, cost = z.max(axis=1) - floor, decision[pairs], price[model.pair_state[pairs]]
    d = np.clip((z - floor[:, None]) / np.where(span > 0, span, 1.0)[:, None], 0.0, 1.0)
    room, tilt = slack(n), weight * span / cost
    low = np.maximum(_tilted(int(sets.family[0]), nominal, d, tilt, weights), 0.0) * (1 - 8 * room)
    low = np.where((span > 0) & (cost > 0), cost * np.where(np.isnan(low), 0.0, low), 0.0)
    alone = budgets(problem)[model.pair_state[pairs]] == 0
    low = np.where(alone, weight * span * (nominal * d).sum(axis=1) * (1 - 8 * room), low)
    reward = turned * model.reward[pairs]
    error = 8 * UNIT * mass * size + 2 * room * mass * np.abs(floor) + 4 * UNIT * np.abs(reward) + TINY
    gain = weight * (reward + mass * floor) + low
    terms = weight * (np.abs(reward) + mass * np.abs(floor)) + low
    return gain - weight * error - 4 * UNIT * terms - TINY, terms


def _tilted(family: int, nominal: np.ndarray, d: np.ndarray, tilt: np.ndarray, weights: Any) -> np.ndarray:
    """A number (k,) below min_p (tilt p.d + D), rows (k, n)."""
    n = nominal.shape[1]
    room, mass, t = slack(n), nominal.sum(axis=1), tilt[:, None]
    if family == TotalVariation.family:
        return (nominal * np.minimum(t * d, 1.0)).sum(axis=1)
    if family == KL.family:
        weight = nominal * np.exp(-t * d)
        left, lost = weight.sum(axis=1), -(nominal * np.expm1(-t * d)).sum(axis=1) / mass
        log = np.minimum(np.where(lost < 0.5, np.log1p(-np.minimum(lost, 0.5)), np.log(left / mass)), 0.0)
        sizes = tilt * mass * (weight * d).sum(axis=1) / left - mass * log + mass * np.minimum(np.expm1(-log), 1.0)
        return -mass * log - 16 * room * sizes
    if family == ChiSquare.family:
        return _chi_square(nominal, d, tilt, room)
    if family == Burg.family:
        return _burg(nominal, d, tilt, room)
    nu = (t * d + weights).min(axis=1)[:, None] * (1 - 4 * UNIT)
    return (nominal * np.minimum(t * d, nu + weights)).sum(axis=1)


def _chi_square(nominal: np.ndarray, d: np.ndarray, tilt: np.ndarray, room: float) -> np.ndarray:
    """The level a at which sum pbar (a - d)_+ = 2 m / tilt, from sums over the entries in order, and the bound there."""
    mass, order = nominal.sum(axis=1), np.argsort(d, axis=1)
    sorted_d, sorted_nominal = np.take_along_axis(d, order, axis=1), np.take_along_axis(nominal, order, axis=1)
    below, first = np.cumsum(sorted_nominal, axis=1), np.cumsum(sorted_nominal * sorted_d, axis=1)
    need = (2.0 * mass / tilt)[:, None]
    last = np.maximum((below * sorted_d - first < need).sum(axis=1) - 1, 0)[:, None]
    level = (need + np.take_along_axis(first, last, axis=1)) / np.take_along_axis(below, last, axis=1)
    kept = np.minimum(d, level)
    gain = (nominal * kept).sum(axis=1)
    centre = (gain / mass)[:, None]
    squares, wide = (nominal * (kept - centre) ** 2).sum(axis=1), (nominal * (kept + centre) ** 2).sum(axis=1)
    return tilt * gain - tilt**2 / 4 * squares - 16 * room * (tilt * gain + tilt**2 / 4 * wide)


def _burg(nominal: np.ndarray, d: np.ndarray, tilt: np.ndarray, room: float) -> np.ndarray:
    mass, t = nominal.sum(axis=1), tilt[:, None]
    low, high = np.full_like(t, -_REACH), np.full_like(t, _REACH)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        gap = np.exp(middle)
        wants = (nominal / (1 + d / gap)).sum(axis=1, keepdims=True) > mass[:, None] * t * gap
        low, high = np.where(wants, middle, low), np.where(wants, high, middle)
    logs = (nominal * np.log1p(d / np.exp(low))).sum(axis=1)
    bent = tilt * np.exp(low[:, 0])
    log = np.log(tilt) + low[:, 0]
    sizes = logs + mass * (1 + np.abs(np.log(tilt)) + np.abs(low[:, 0]) + bent)
    return mass * (1 + log - bent) + logs - 16 * room * sizes
