"""The named preference games on which the catalogue's bounds are measured."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ..mdp.preference import PreferenceGame, PreferenceOracle


def preference_games() -> Mapping[str, PreferenceGame]:
    """Games of two to six responses: transitive and cyclic, cold and hot, with a reward behind them and without."""
    skewed = np.array([0.5, 0.3, 0.2])
    annotators = PreferenceOracle.population(4.0 * np.array([[2.0, 1.0, 0.0, 1.5], [0.0, 2.0, 1.0, 0.5], [1.0, 0.0, 2.0, 1.0]]))
    ring = PreferenceOracle.cyclic(5, 0.75)
    return dict(rewarded_games()) | {
        "two responses": PreferenceGame(PreferenceOracle(np.array([[0.5, 0.9], [0.1, 0.5]])), np.array([0.5, 0.5]), 0.25),
        "rock paper scissors": PreferenceGame(PreferenceOracle.cyclic(3, 0.9), skewed, 0.1),
        "rock paper scissors, hot": PreferenceGame(PreferenceOracle.cyclic(3, 1.0), skewed, 0.75),
        "certain order": PreferenceGame(_order(4), np.full(4, 0.25), 0.5),
        "three annotators": PreferenceGame(annotators, np.array([0.4, 0.3, 0.2, 0.1]), 0.2),
        "lizard and Spock": PreferenceGame(ring, np.array([0.4, 0.3, 0.1, 0.1, 0.1]), 0.3),
    }


def rewarded_games() -> Mapping[str, PreferenceGame]:
    """Games whose oracle is Bradley and Terry's, of a known reward."""
    return {
        "three rewards": PreferenceGame(
            PreferenceOracle.bradley_terry(np.array([0.0, 1.0, 3.0])), np.array([0.25, 0.5, 0.25]), 0.5
        ),
        "six rewards": PreferenceGame(PreferenceOracle.bradley_terry(np.linspace(-2.0, 2.0, 6)), np.full(6, 1 / 6), 0.2),
    }


def _order(n: int) -> PreferenceOracle:
    return PreferenceOracle(0.5 + np.triu(np.full((n, n), 0.5), 1) - np.tril(np.full((n, n), 0.5), -1))
