"""A small preference game as lists, to be changed here and there; see `banach.bounds.draft`.

Probabilities and reference weights stay multiples of 1/64, so that what is found can be read; a game with rewards keeps them,
and its oracle follows.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ..mdp.preference import PreferenceGame, PreferenceOracle
from .draft import bits, number

_PARTS = 64
_TEMPERATURES = (1.0, 0.5, 0.25, 2.0, 0.125, 0.0625)
_REWARDS = (0.0, 1.0, -1.0, 2.0, 4.0, 0.5)


@dataclass(frozen=True)
class PreferenceDraft:
    """Preferences above the diagonal, row by row, or rewards (then no preferences); reference weights; temperature."""

    preferences: tuple[float, ...]
    rewards: tuple[float, ...]
    weights: tuple[float, ...]
    temperature: float

    @classmethod
    def of(cls, game: PreferenceGame) -> PreferenceDraft:
        """The draft of a game."""
        above = np.triu_indices(game.n_responses, 1)
        reward = game.oracle.reward
        return cls(
            () if reward is not None else tuple(map(float, game.oracle.matrix[above])),
            () if reward is None else tuple(map(float, reward)),
            tuple(map(float, game.reference)),
            game.temperature,
        )

    def model(self) -> PreferenceGame:
        """The game. Raises ModelError when it is none."""
        n, reference = len(self.weights), np.array(self.weights) / sum(self.weights)
        if self.rewards:
            return PreferenceGame(PreferenceOracle.bradley_terry(np.array(self.rewards)), reference, self.temperature)
        matrix = np.full((n, n), 0.5)
        matrix[np.triu_indices(n, 1)] = self.preferences
        matrix.T[np.triu_indices(n, 1)] = 1 - np.array(self.preferences)
        return PreferenceGame(PreferenceOracle(matrix), reference, self.temperature)

    @property
    def size(self) -> tuple[int, int, int, int]:
        """What shrinking makes smaller, in order: responses, preferences that are no ties, different weights, bits."""
        numbers = (*self.preferences, *self.rewards, *self.weights, self.temperature)
        decided = sum(p != 0.5 for p in self.preferences) + sum(r != 0 for r in self.rewards)
        return len(self.weights), decided, len(set(self.weights)), sum(map(bits, numbers))

    def changed(self, rng: np.random.Generator) -> PreferenceDraft:
        """A neighbour: one or two numbers changed at random."""
        draft = self
        for _ in range(int(rng.integers(1, 3))):
            kind = rng.choice(["oracle", "oracle", "oracle", "weight", "temperature", "temperature"])
            if kind == "temperature":
                grid = float(rng.choice(_TEMPERATURES))
                draft = dataclasses.replace(
                    draft, temperature=grid if rng.random() < 0.5 else min(2.0, max(0.03125, draft.temperature * grid * 2))
                )
            elif kind == "weight":
                at = int(rng.integers(len(draft.weights)))
                draft = dataclasses.replace(draft, weights=_put(draft.weights, at, int(rng.integers(1, _PARTS)) / _PARTS))
            elif draft.rewards:
                at = int(rng.integers(len(draft.rewards)))
                draft = dataclasses.replace(draft, rewards=_put(draft.rewards, at, float(rng.choice(_REWARDS)) * 2))
            elif draft.preferences:
                at = int(rng.integers(len(draft.preferences)))
                draft = dataclasses.replace(
                    draft, preferences=_put(draft.preferences, at, int(rng.integers(_PARTS + 1)) / _PARTS)
                )
        return draft

    def simpler(self) -> Iterator[PreferenceDraft]:
        """Drafts of smaller `size`, the boldest first."""
        n = len(self.weights)
        for gone in range(n if n > 1 else 0):
            pairs = zip(zip(*np.triu_indices(n, 1), strict=True), self.preferences, strict=False)
            yield dataclasses.replace(
                self,
                preferences=tuple(p for pair, p in pairs if gone not in pair),
                rewards=tuple(r for y, r in enumerate(self.rewards) if y != gone),
                weights=tuple(w for y, w in enumerate(self.weights) if y != gone),
            )
        yield dataclasses.replace(self, weights=(1.0,) * n)
        for at in range(n):
            yield dataclasses.replace(self, weights=_put(self.weights, at, 1.0))
        for at, p in enumerate(self.preferences):
            for simple in (0.5, 1.0, 0.0, 0.75, 0.25, round(8 * p) / 8):
                yield dataclasses.replace(self, preferences=_put(self.preferences, at, simple))
        for at, reward in enumerate(self.rewards):
            for simple in (0.0, 1.0, -1.0, float(round(reward))):
                yield dataclasses.replace(self, rewards=_put(self.rewards, at, simple))
        for temperature in _TEMPERATURES:
            yield dataclasses.replace(self, temperature=temperature)

    def __str__(self) -> str:
        n, lines = len(self.weights), [f"{len(self.weights)} responses, temperature {number(self.temperature)}"]
        for pair, p in zip(zip(*np.triu_indices(n, 1), strict=True), self.preferences, strict=False):
            lines.append(f"response {pair[0]} is preferred to {pair[1]} with probability {number(p)}")
        lines += [f"response {y} has reward {number(reward)}" for y, reward in enumerate(self.rewards)]
        total = sum(self.weights)
        return "\n".join([*lines, "reference " + ", ".join(number(w / total) for w in self.weights)])


def _put(numbers: tuple[float, ...], at: int, value: float) -> tuple[float, ...]:
    return (*numbers[:at], value, *numbers[at + 1 :])
