r"""A walk in the wind: three corridors, the shortest the windiest.

Six by six cells, six of them walls, which leave corridors in rows 0, 2 and 4 at columns 1..4. In a corridor the wind blows west
with probability w = alpha in the north, alpha^3 in the middle, alpha^6 in the south:

    west             certain
    east             ahead with probability 1 - w, else west
    north, south     ahead with probability 1 - w, else stay (north and middle) or west (south)

A step costs one, until the goal in the north-east corner, where nothing happens any more; the walk begins in the north-west.
Without wind the north takes five steps, -(1 - g^5) / (1 - g).

Zouitine, Geist and Rachelson 2024 (arXiv:2410.06212) describe walk, wind and corridors; the drawing is not readable, and the
layout here is ours.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from ..criterion import Discounted
from ..model import MDP
from .instance import Instance
from .parameters import inside, rational, within
from .rows import from_lists, start_at

_SIDE = 6
_WALLS = frozenset((row, column) for row in (1, 3) for column in (2, 3, 4))
_POWER = {0: 1, 2: 3, 4: 6}
_MOVES = {"W": (0, -1), "E": (0, 1), "N": (-1, 0), "S": (1, 0)}
_CELLS = [(row, column) for row in range(_SIDE) for column in range(_SIDE) if (row, column) not in _WALLS]
_NUMBER = {cell: state for state, cell in enumerate(_CELLS)}
_GOAL = (0, 5)

Cell = tuple[int, int]


def windy_walk(alpha: float = 0.5, discount: float = 0.95) -> MDP:
    """Walk to the other corner: the short way is windy, the long one calm. 30 states, actions west, east, north, south.

    alpha: in [0, 1], the wind of the northern corridor. discount: in (0, 1).
    Raises ModelError for parameters out of range. Source: Zouitine, Geist and Rachelson 2024 (arXiv:2410.06212).
    """
    within(0, 1, alpha=alpha)
    inside(0, 1, discount=discount)
    states = [[(0.0 if cell == _GOAL else -1.0, _row(cell, move, alpha)) for move in _MOVES] for cell in _CELLS]
    goal = np.array([cell == _GOAL for cell in _CELLS])
    return from_lists(states, Discounted(discount), initial=start_at(len(_CELLS), 0), labels={"goal": goal})


def _row(cell: Cell, move: str, alpha: float) -> dict[int, float]:
    if cell == _GOAL:
        return {_NUMBER[cell]: 1.0}
    ahead = _NUMBER[_go(cell, move)]
    if move == "W" or cell[0] not in _POWER or not 1 <= cell[1] <= 4:
        return {ahead: 1.0}
    wind = alpha ** _POWER[cell[0]]
    back = _NUMBER[cell if move in "NS" and cell[0] < 4 else _go(cell, "W")]
    row = {ahead: 1.0} if back == ahead else {ahead: 1.0 - wind, back: wind}
    return {state: p for state, p in row.items() if p > 0.0}


def _go(cell: Cell, move: str) -> Cell:
    there = (cell[0] + _MOVES[move][0], cell[1] + _MOVES[move][1])
    return there if there in _NUMBER else cell


def _windy_walk_exact(alpha: float, discount: float) -> Fraction | None:
    g = rational(discount)
    return -(1 - g**5) / (1 - g) if alpha == 0 else None


WINDY_WALK = Instance(
    "windy_walk", windy_walk, "Zouitine, Geist and Rachelson 2024 (arXiv:2410.06212); layout ours", exact=_windy_walk_exact,
    small={"alpha": 0.0},
)  # fmt: skip
