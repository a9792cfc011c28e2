r"""Exact signs of Bellman inequalities, for the checker. Shares no code with the sweeps.

Floats are dyadic rationals, so for each pair k of state s the sign of

    as stored:    r_k + g sum_j p_kj x_j - y_s                 (discounted, finite horizon)
    as weights:   sum_j p_kj (r_k + x_j - y_s)                 (undiscounted: the row's true probabilities are p_kj / sum p_k)

is decided exactly: first in numpy with an a-priori rounding bound (1.01 (n + 8) u times the sum of absolute terms, for n terms
in any order; Higham 2002, section 3.1), and where that cannot tell, in integer arithmetic.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from ..mdp.model import MDP

_UNIT = 2.0**-53
_CHUNK = 2**20


def row_signs(
    model: MDP,
    pairs: np.ndarray,
    x: np.ndarray,
    minus: Sequence[np.ndarray],
    *,
    weights: bool,
    reward: np.ndarray | None = None,
) -> tuple[np.ndarray, int]:
    """Exact signs (-1, 0, 1), int8 (len(pairs),), and how many rows needed integers.

    pairs: state-action pairs to decide. x: (n,) what successors are worth. minus: vectors (n,), y is their exact sum.
    weights: rows as weights, else as stored. reward: (m,) in place of the model's.
    """
    reward = model.reward if reward is None else reward
    discount = 1.0 if weights else model.discount
    signs, exact = np.zeros(len(pairs), dtype=np.int8), 0
    for chunk in _chunks(model, pairs):
        here = pairs[chunk]
        states = model.pair_state[here]
        decided, sign = _filtered(model, here, states, x, minus, reward, discount, weights)
        for i in np.flatnonzero(~decided):
            sign[i] = _integer_sign(model, int(here[i]), int(states[i]), x, minus, reward, discount, weights)
        signs[chunk] = sign
        exact += int(np.count_nonzero(~decided))
    return signs, exact


def _chunks(model: MDP, pairs: np.ndarray) -> Iterable[slice]:
    sizes = np.cumsum(model.row_ptr[pairs + 1] - model.row_ptr[pairs])
    start = 0
    while start < len(pairs):
        before = sizes[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(sizes, before + _CHUNK, side="right")))
        yield slice(start, stop)
        start = stop


def _filtered(
    model: MDP,
    pairs: np.ndarray,
    states: np.ndarray,
    x: np.ndarray,
    minus: Sequence[np.ndarray],
    reward: np.ndarray,
    discount: float,
    weights: bool,
) -> tuple[np.ndarray, np.ndarray]:
    begin = model.row_ptr[pairs].astype(np.int64)
    length = model.row_ptr[pairs + 1] - begin
    heads = np.concatenate(([0], np.cumsum(length)[:-1]))
    entries = np.arange(length.sum()) + np.repeat(begin - heads, length)
    p, worth = model.probability[entries], x[model.successor[entries]]
    constant, size = reward[pairs].copy(), np.abs(reward[pairs])
    for vector in minus:
        constant -= vector[states]
        size += np.abs(vector[states])
    with np.errstate(over="ignore", invalid="ignore"):
        if weights:
            terms = p * (worth + np.repeat(constant, length))
            total = np.add.reduceat(terms, heads)
            size = np.add.reduceat(p * np.abs(worth), heads) + size * np.add.reduceat(p, heads)
            zero = (np.add.reduceat(np.abs(terms), heads) == 0) & _exactly_zero(
                model, states, worth, reward[pairs], minus, length, heads
            )
        else:
            total = constant + discount * np.add.reduceat(p * worth, heads)
            size += discount * np.add.reduceat(p * np.abs(worth), heads)
            zero = np.zeros(len(pairs), dtype=bool)
        margin = 1.01 * (length + len(minus) + 8) * _UNIT * size + 2.0**-900
        decided = (np.abs(total) > margin) | zero
    return decided, np.where(zero, 0, np.sign(total)).astype(np.int8)


def _exactly_zero(
    model: MDP,
    states: np.ndarray,
    worth: np.ndarray,
    reward: np.ndarray,
    minus: Sequence[np.ndarray],
    length: np.ndarray,
    heads: np.ndarray,
) -> np.ndarray:
    """Rows of zero reward whose successors all equal the one subtracted vector: zero without any rounding."""
    if len(minus) != 1:
        return np.zeros(len(states), dtype=bool)
    same = worth == np.repeat(minus[0][states], length)
    return (reward == 0) & np.logical_and.reduceat(same, heads)


def _integer_sign(
    model: MDP,
    pair: int,
    state: int,
    x: np.ndarray,
    minus: Sequence[np.ndarray],
    reward: np.ndarray,
    discount: float,
    weights: bool,
) -> int:
    row = slice(int(model.row_ptr[pair]), int(model.row_ptr[pair + 1]))
    p, worth = model.probability[row].tolist(), x[model.successor[row]].tolist()
    constants = [float(reward[pair]), *(-float(vector[state]) for vector in minus)]
    if weights:
        terms = [(a, b) for a, b in zip(p, worth, strict=True)] + [(a, c) for a in p for c in constants]
    else:
        terms = [(discount, a, b) for a, b in zip(p, worth, strict=True)] + [(c,) for c in constants]
    return sign_of_sum(terms)


def sign_of_sum(terms: Iterable[tuple[float, ...]]) -> int:
    """Exact sign of a sum of products of finite floats."""
    exact: list[tuple[int, int]] = []
    for term in terms:
        numerator, shift = 1, 0
        for factor in term:
            top, bottom = float(factor).as_integer_ratio()
            numerator *= top
            shift += bottom.bit_length() - 1
        exact.append((numerator, shift))
    deepest = max((shift for _, shift in exact), default=0)
    total = sum(numerator << (deepest - shift) for numerator, shift in exact)
    return (total > 0) - (total < 0)


def row_sum_at_least(model: MDP, pair: int, discount: float) -> bool:
    """Whether discount times the exact sum of a row is at least one."""
    row = model.probability[model.row_ptr[pair] : model.row_ptr[pair + 1]].tolist()
    return sign_of_sum([(discount, p) for p in row] + [(-1.0,)]) >= 0
