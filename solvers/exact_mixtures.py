r"""Exact signs for randomised policies and sums of products, for the checker of constrained problems.

A policy is weights w_k >= 0 of the pairs; in state s it takes pair k with probability w_k / sum_{i of s} w_i, exactly. Then

    y_s <= (T_w x)_s     if and only if     sum_{k of s} w_k (r_k + g sum_j p_kj x_j - y_s) >= 0.

States with one positive weight go the fast way of `banach.solvers.exact`; the others, at most K at a vertex, go in integers.
"""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction

import numpy as np

from ..mdp.model import MDP
from .exact import row_signs, sign_of_sum

_UNIT = 2.0**-53


def weighted(weights: Iterable[float], numbers: Iterable[float], side: int) -> float:
    """The sum of products of finite floats as the nearest float at or beyond it: below for side -1, above for side 1.

    weights, numbers: (n,).
    """
    total = sum((Fraction(float(a)) * Fraction(float(b)) for a, b in zip(weights, numbers, strict=True)), Fraction(0))
    nearest = float(total)
    return nearest if (Fraction(nearest) - total) * side >= 0 else float(np.nextafter(nearest, side * np.inf))


def lagrangian_reward(reward: np.ndarray, costs: np.ndarray, multipliers: np.ndarray) -> np.ndarray:
    """Floats (m,) at or above r - l . c in exact arithmetic, by no more than its rounding.

    reward: (m,). costs: (K, m). multipliers: (K,).
    """
    size = np.abs(reward) + np.abs(multipliers) @ np.abs(costs)
    return reward - multipliers @ costs + np.where(size > 0, 1.01 * (2 * len(multipliers) + 4) * _UNIT * size + 2.0**-900, 0.0)


def mixture_signs(model: MDP, weights: np.ndarray, reward: np.ndarray, vector: np.ndarray) -> tuple[np.ndarray, int]:
    """Exact signs of T_w vector - vector, int8 (n,), zero in terminal states; and how many states needed integers.

    weights: (m,). reward: (m,) in place of the model's. vector: (n,).
    """
    signs, positive = np.zeros(model.n_states, dtype=np.int8), weights > 0
    choices = np.bincount(model.pair_state[positive], minlength=model.n_states)
    certain = np.flatnonzero(positive & (choices[model.pair_state] == 1))
    found, exact = row_signs(model, certain, vector, [vector], weights=False, reward=reward)
    signs[model.pair_state[certain]] = found
    mixed = np.flatnonzero(choices > 1)
    for state in mixed:
        signs[state] = _mixed_sign(model, int(state), weights, reward, vector)
    return signs, exact + len(mixed)


def _mixed_sign(model: MDP, state: int, weights: np.ndarray, reward: np.ndarray, vector: np.ndarray) -> int:
    terms: list[tuple[float, ...]] = []
    for pair in range(int(model.state_ptr[state]), int(model.state_ptr[state + 1])):
        weight, row = float(weights[pair]), slice(int(model.row_ptr[pair]), int(model.row_ptr[pair + 1]))
        if weight > 0:
            terms += [(weight, float(reward[pair])), (-weight, float(vector[state]))]
            ahead = zip(model.probability[row].tolist(), vector[model.successor[row]].tolist(), strict=True)
            terms += [(weight, model.discount, p, x) for p, x in ahead]
    return sign_of_sum(terms)
