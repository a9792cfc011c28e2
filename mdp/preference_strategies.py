r"""Hypothesis strategies that draw preference oracles, policies, pair weights and games.

Numbers are drawn from short lists that begin with the plainest choice: ties, certain preferences, cycles and tiny
probabilities all occur, and a failing example shrinks to ties between two responses.

    @given(preference_strategies.oracles(max_responses=5))
    def test_something(oracle): ...
"""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from .preference import PreferenceGame, PreferenceOracle

__all__ = ["bradley_terry_oracles", "games", "oracles", "pair_weights", "policies"]

_PLAIN = (0.5, 0.75, 0.25, 0.9, 0.1, 0.6, 0.99, 0.375)
_CERTAIN = (1.0, 0.0)


@st.composite
def oracles(
    draw: st.DrawFn, *, min_responses: int = 2, max_responses: int = 5, certain: bool = False, n: int | None = None
) -> PreferenceOracle:
    """Arbitrary oracles, cyclic ones among them.

    min_responses, max_responses: sizes; n: one size. certain: whether preferences of probability 0 and 1 occur.
    """
    n = draw(st.integers(min_responses, max_responses)) if n is None else n
    entries = st.sampled_from(_PLAIN + _CERTAIN * certain) | st.floats(0.01, 0.99)
    matrix = np.full((n, n), 0.5)
    for i in range(n):
        for j in range(i):
            matrix[j, i] = draw(entries)
            matrix[i, j] = 1 - matrix[j, i]
    return PreferenceOracle(matrix)


@st.composite
def bradley_terry_oracles(
    draw: st.DrawFn, *, min_responses: int = 2, max_responses: int = 5, largest: float = 3.0
) -> PreferenceOracle:
    """Bradley-Terry oracles with rewards in [-largest, largest], ties among them."""
    n = draw(st.integers(min_responses, max_responses))
    rewards = st.sampled_from([0.0, 1.0, -1.0, 0.5]).map(lambda r: r * min(1.0, largest)) | st.floats(-largest, largest)
    return PreferenceOracle.bradley_terry(np.array(draw(st.lists(rewards, min_size=n, max_size=n))))


@st.composite
def policies(draw: st.DrawFn, n: int, *, smallest: float = 0.01, zeros: bool = False) -> np.ndarray:
    """Distributions (n,): weights of `smallest` to 1, divided by their sum. zeros: whether some may be zero."""
    weights = st.sampled_from([1.0, 0.5, 0.25]) | st.floats(smallest, 1.0)
    if zeros:
        weights = weights | st.just(0.0)
    values = np.array(draw(st.lists(weights, min_size=n, max_size=n)))
    values = values if values.sum() > 0 else np.ones(n)
    return values / values.sum()


@st.composite
def pair_weights(draw: st.DrawFn, n: int, *, connected: bool = True) -> np.ndarray:
    """Weights (n, n) of ordered pairs, >= 0, zero on the diagonal, many of them zero.

    connected: whether the pairs that are shown join all responses.
    """
    weights = st.sampled_from([1.0, 0.0, 0.5, 3.0]) | st.floats(0.01, 2.0)
    table = np.array(draw(st.lists(weights, min_size=n * n, max_size=n * n))).reshape(n, n)
    np.fill_diagonal(table, 0.0)
    if connected:
        for i in range(1, n):
            towards = draw(st.integers(0, i - 1))
            table[i, towards] += 0.25
    return table


@st.composite
def games(
    draw: st.DrawFn,
    *,
    max_responses: int = 5,
    smallest_temperature: float = 0.05,
    certain: bool = False,
    bradley_terry: bool = False,
) -> PreferenceGame:
    """Regularised games with temperatures from `smallest_temperature` to 2.

    certain: whether preferences of probability 0 and 1 occur. bradley_terry: whether a reward stands behind the oracle.
    """
    sizes = {"max_responses": max_responses}
    oracle = draw(bradley_terry_oracles(**sizes) if bradley_terry else oracles(**sizes, certain=certain))
    reference = draw(policies(oracle.n_responses))
    usual = [t for t in (0.5, 1.0, 0.25, 0.1, 2.0) if t >= smallest_temperature]
    return PreferenceGame(oracle, reference, draw(st.sampled_from(usual) | st.floats(smallest_temperature, 2.0)))
