r"""Grids: move to one of four neighbours, slip to a side, stay where a wall is in the way.

Actions 0..3 are north, east, south and west. A move goes where it should with probability 1 - slip and to either side with
slip / 2. States are the free cells, row by row; where walls cut the grid up, those of the largest area. The first one is
the start, the last one the goal, terminal and worth 0. Every step costs one. Without walls and slips, d steps from the goal,

    discounted:  - (1 - g^d) / (1 - g)            total cost:  d            start: d = 2 (side - 1)

Russell and Norvig, Artificial Intelligence: a Modern Approach, section 17.1; Bertsekas and Tsitsiklis 1991 (shortest paths).
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import scipy.ndimage

from ..criterion import Criterion, Discounted, TotalReward
from ..errors import ModelError
from ..model import MDP
from .instance import Instance, Published
from .parameters import at_least, rational, within
from .rows import blank, from_regular, start_at

_NEIGHBOURS = ((-1, 0), (0, 1), (1, 0), (0, -1))


def gridworld(side: int = 10, slip: float = 0.2, discount: float = 0.99, walls: float = 0.0, seed: int = 0) -> MDP:
    """A square grid with slips, discounted; every step costs one until the goal in the far corner.

    side: >= 2, cells a side. slip: in [0, 1]. discount: in [0, 1). walls: in [0, 0.4], share of cells that are walls, drawn
    with `seed`; the largest area that they leave is the grid.
    Raises ModelError for parameters out of range. Source: Russell and Norvig, section 17.1.
    """
    free = _cells(side, slip, walls, seed)
    return _grid(free, slip, -1.0, Discounted(discount), {_last(free): 0.0})


def ssp_grid(side: int = 10, slip: float = 0.2, walls: float = 0.0, seed: int = 0) -> MDP:
    """The expected number of steps to the far corner of a square grid with slips, to be minimised: a stochastic shortest path.

    side: >= 2. slip: in [0, 1]. walls: in [0, 0.4], share of cells that are walls, drawn with `seed`; the largest
    area that they leave is the grid.
    Raises ModelError for parameters out of range. Source: Bertsekas and Tsitsiklis, Math. Oper. Res. 16, 1991.
    """
    free = _cells(side, slip, walls, seed)
    return _grid(free, slip, 1.0, TotalReward(minimize=True), {_last(free): 0.0})


def random_ice(side: int = 20, holes: float = 0.1, slip: float = 2 / 3, discount: float = 0.99, seed: int = 0) -> MDP:
    """A frozen lake with random holes: reach the far corner, worth one; a hole, worth nothing, ends the walk.

    side: >= 2. holes: in [0, 0.4], share of cells that are holes, redrawn until start and goal are joined. slip: in [0, 1].
    discount: in [0, 1]; at 1 the value is the probability of arriving. seed: of numpy's default generator.
    Raises ModelError for parameters out of range. Source: gymnasium's FrozenLake (Towers et al., arXiv:2407.17032).
    """
    at_least(2, side=side)
    within(0, 1, slip=slip, discount=discount)
    within(0, 0.4, holes=holes)
    rng = np.random.default_rng(seed)
    while (ice := _ice(rng, side, holes)) is None:
        pass
    ends = dict.fromkeys(zip(*np.nonzero(~ice), strict=True), 0.0) | {(side - 1, side - 1): 1.0}
    criterion = TotalReward() if discount == 1 else Discounted(discount)
    return _grid(np.ones_like(ice), slip, 0.0, criterion, ends)


def _ice(rng: np.random.Generator, side: int, holes: float) -> np.ndarray | None:
    """Where a random lake is frozen, or None if there is no way from the first corner to the last."""
    ice = rng.random((side, side)) >= holes
    ice[0, 0] = ice[-1, -1] = True
    areas, _ = scipy.ndimage.label(ice)  # pyright: ignore[reportGeneralTypeIssues]
    return ice if areas[0, 0] == areas[-1, -1] else None


def frozen_lake(discount: float = 1.0) -> MDP:
    """The slippery 4x4 frozen lake of gymnasium.

    discount: in [0, 1]; at 1 the value is the greatest probability of reaching the goal, 14/17.
    Raises ModelError when it is not. Source: gymnasium's FrozenLake-v1 (Towers et al., arXiv:2407.17032).
    """
    within(0, 1, discount=discount)
    ends = dict.fromkeys([(1, 1), (1, 3), (2, 3), (3, 0)], 0.0) | {(3, 3): 1.0}
    criterion = TotalReward() if discount == 1 else Discounted(discount)
    return _grid(np.ones((4, 4), dtype=np.bool_), 2 / 3, 0.0, criterion, ends)


def russell_norvig(step: float = -0.04) -> MDP:
    """The 4x3 world of Russell and Norvig: exits worth +1 and -1, one wall, one step in five slips.

    step: reward of every step, any number <= 0; above 0 it may pay never to stop. Raises ModelError when it does.
    Source: Russell and Norvig, Artificial Intelligence: a Modern Approach, section 17.1 and figure 17.3.
    """
    within(-float("inf"), 0, step=step)
    free = np.ones((3, 4), dtype=np.bool_)
    free[1, 1] = False
    return _grid(free, 0.2, step, TotalReward(), {(0, 3): 1.0, (1, 3): -1.0}, start=(2, 0))


def _last(free: np.ndarray) -> tuple[int, int]:
    row, column = divmod(int(np.flatnonzero(free)[-1]), free.shape[1])
    return row, column


def _cells(side: int, slip: float, walls: float, seed: int) -> np.ndarray:
    """Where one can be: bool (side, side), the largest of the areas that the walls leave."""
    at_least(2, side=side)
    within(0, 1, slip=slip)
    within(0, 0.4, walls=walls)
    if walls == 0:
        return np.ones((side, side), dtype=np.bool_)
    areas, _ = scipy.ndimage.label(np.random.default_rng(seed).random((side, side)) >= walls)  # pyright: ignore[reportGeneralTypeIssues]
    sizes = np.bincount(areas.ravel())
    sizes[0] = 0
    if not sizes.any():
        raise ModelError(f"side={side}, walls={walls}, seed={seed}: every cell is a wall; take fewer walls or another seed")
    return areas == sizes.argmax()


def _grid(
    free: np.ndarray,
    slip: float,
    reward: float,
    criterion: Criterion,
    ends: dict[Any, float],
    start: tuple[int, int] = (0, 0),
) -> MDP:
    """States are the free cells, row by row; `ends` gives the values of the terminal ones. Starts at the first free cell from
    `start` on."""
    height, width = free.shape
    n_states = int(np.count_nonzero(free))
    number = np.full((height + 2, width + 2), -1, dtype=np.int32)
    number[1:-1, 1:-1][free] = np.arange(n_states, dtype=np.int32)
    targets = []
    for down, right in _NEIGHBOURS:
        there = number[1 + down : 1 + down + height, 1 + right : 1 + right + width][free]
        targets.append(np.where(there < 0, np.arange(n_states, dtype=np.int32), there))
    successor, probability, rewards = blank(n_states, 4, 3)
    successors, probabilities = successor.reshape(n_states, 4, 3), probability.reshape(n_states, 4, 3)
    for action in range(4):
        for entry, turn in enumerate((0, 1, 3)):
            successors[:, action, entry] = targets[(action + turn) % 4]
    probabilities[:] = (1 - slip, slip / 2, slip / 2)
    del successors, probabilities
    rewards[:] = reward
    terminal, terminal_value = np.zeros(n_states, dtype=np.bool_), np.zeros(n_states)
    for (row, column), value in ends.items():
        terminal[number[1 + row, 1 + column]] = True
        terminal_value[number[1 + row, 1 + column]] = value
    first = int(number[1:-1, 1:-1].ravel()[start[0] * width + start[1] :][free.ravel()[start[0] * width + start[1] :]][0])
    return from_regular(
        n_states, 4, 3, successor, probability, rewards, criterion,
        terminal=terminal, terminal_value=terminal_value, initial=start_at(n_states, first),
        labels={"goal": terminal & (terminal_value == terminal_value[terminal].max())},
    )  # fmt: skip


def _gridworld_exact(side: int, slip: float, discount: float, walls: float, **_: Any) -> Fraction | None:
    if slip or walls:
        return None
    g = rational(discount)
    return -sum((g**k for k in range(2 * (side - 1))), Fraction(0))


def _ssp_exact(side: int, slip: float, walls: float, **_: Any) -> Fraction | None:
    return None if slip or walls else Fraction(2 * (side - 1))


GRIDWORLD = Instance(
    "gridworld", gridworld, "Russell and Norvig, Artificial Intelligence: a Modern Approach, section 17.1",
    small={"side": 6}, exact=_gridworld_exact,
)  # fmt: skip
SSP_GRID = Instance(
    "ssp_grid", ssp_grid, "Bertsekas and Tsitsiklis, Math. Oper. Res. 16, 1991", small={"side": 6}, exact=_ssp_exact
)
RANDOM_ICE = Instance(
    "random_ice", random_ice, "gymnasium's FrozenLake with random maps (Towers et al., arXiv:2407.17032)", small={"side": 6}
)
FROZEN_LAKE = Instance(
    "frozen_lake", frozen_lake, "gymnasium's FrozenLake-v1, 4x4 (Towers et al., arXiv:2407.17032)",
    exact=lambda discount: Fraction(14, 17) if discount == 1 else None,
)  # fmt: skip
RUSSELL_NORVIG = Instance(
    "russell_norvig", russell_norvig, "Russell and Norvig, Artificial Intelligence: a Modern Approach, figure 17.3",
    published=(Published({}, 0.705, 5e-4, "Russell and Norvig, figure 17.3"),),
)  # fmt: skip
