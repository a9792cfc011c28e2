"""Small partially observed problems on which stitching logged episodes depends on what is taken for a state.

Hong, Dragan and Levine, ICLR 2024 (arXiv:2310.20663) for the question; Bakker, NeurIPS 2001, for the T-maze.
"""

from __future__ import annotations

import numpy as np

from .errors import ModelError
from .pomdp import POMDP


def stitching() -> POMDP:
    """Two starts lead to one place, where action 0 earns nothing and action 1 earns 1; two decisions.

    States and observations: 0 and 1 the starts, equally likely, 2 the place, 3 the rest.
    """
    transition, reward = np.zeros((4, 2, 4)), np.zeros((4, 2))
    transition[:2, :, 2] = transition[2:, :, 3] = 1.0
    reward[2, 1] = 1.0
    return POMDP(transition, reward, np.eye(4), np.array([0.5, 0.5, 0, 0]), 2)


def noisy_chain(symbols: int, length: int) -> POMDP:
    """`length` decisions under observations that are noise, uniform on `symbols`; only the last counts, its reward the action.

    There are symbols^length 2^(length - 1) equally likely histories at the last decision, and one class of them.
    Raises ModelError for less than one of either.
    """
    _require("symbols", symbols)
    _require("length", length)
    transition, reward = np.zeros((length, 2, length)), np.zeros((length, 2))
    for t in range(length):
        transition[t, :, min(t + 1, length - 1)] = 1.0
    reward[-1, 1] = 1.0
    return POMDP(transition, reward, np.full((length, symbols), 1 / symbols), np.eye(length)[0], length)


def t_maze(length: int, symbols: int = 2) -> POMDP:
    """A cue, `length` steps of corridor, and a turn that earns 1 on the side of the cue.

    Two actions, which count at the turn only. Observations: 0 and 1 the cue; then `symbols` equally likely looks of the
    corridor, and as many of the turn. States: side + 2 * position.
    Raises ModelError for less than one step or look.
    """
    _require("length", length)
    _require("symbols", symbols)
    n = 2 * (length + 2)
    transition, reward, observation = np.zeros((n, 2, n)), np.zeros((n, 2)), np.zeros((n, 2 + 2 * symbols))
    for s in range(n):
        side, position = s % 2, s // 2
        transition[s, :, min(s + 2, n - 2 + side)] = 1.0
        if position == 0:
            observation[s, side] = 1.0
        else:
            first = 2 if position <= length else 2 + symbols
            observation[s, first : first + symbols] = 1 / symbols
    reward[n - 2, 0] = reward[n - 1, 1] = 1.0
    return POMDP(transition, reward, observation, np.eye(n)[:2].mean(axis=0), length + 2)


def _require(name: str, number: int) -> None:
    if isinstance(number, bool) or not isinstance(number, (int, np.integer)) or number < 1:
        raise ModelError(f"{name} is {number!r}; it must be a whole number >= 1")
