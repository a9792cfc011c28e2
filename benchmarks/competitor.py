"""What the harness knows of a solver: how to build its model, and how to solve it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

ERROR = 1e-6
"""Sup-norm error that everybody is asked for."""
WIDTH = 2 * ERROR
"""Width of a bracket whose centre is that close."""


@dataclass(frozen=True)
class Result:
    """An answer in the model's own sense and states: value (n_states,), and such bounds where the solver gives them."""

    value: np.ndarray
    lower: np.ndarray | None = None
    upper: np.ndarray | None = None


@dataclass(frozen=True)
class Competitor:
    """A solver with its settings.

    name: library:method.
    build: puts the model into the solver's own form and returns what solves it. Timed apart.
    fresh: build again before every repetition, because the solver keeps something of an earlier solve.
    updates: how many like problems one solve solves, one after the other; seconds are those of one.
    """

    name: str
    build: Callable[[], Callable[[], Result]]
    fresh: bool = False
    updates: int = 1
