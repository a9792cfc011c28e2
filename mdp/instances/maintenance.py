r"""Grow or cut, run or replace: the two textbook renewal problems.

Under "replace at level k", a machine that wears one level a period with probability w passes i = 0, ..., k - 1 for 1/w
periods each. A cycle lasts k/w + 1 periods and costs sum_{i<k} c_i / w + R, so the best long-run cost is

    min_k ( sum_{i<k} c_i / w + R ) / ( k / w + 1 ),        or never to replace, c_{n-1}.

Chades et al., Ecography 37, 2014 (forest); Derman 1963 and Puterman 2005, section 4.7.5 (replacement).
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from ..model import MDP
from .instance import Instance, Published
from .parameters import at_least, inside, long_run, rational, within
from .rows import blank, from_regular, start_at


def forest(states: int = 3, discount: float = 0.9, fire: float = 0.1, wait_reward: float = 4.0, cut_reward: float = 2.0) -> MDP:
    """Manage a forest: wait while it ages, or cut it; a fire resets it to the youngest class.

    Action 0 waits: next class with probability 1 - fire, class 0 otherwise; worth wait_reward in the oldest class. Action 1
    cuts: class 0; worth nothing in the youngest class, cut_reward in the oldest, 1 between.
    states: >= 2, age classes. discount: in [0, 1]; at 1, average reward. fire: in [0, 1].
    Raises ModelError for parameters out of range. Source: Chades, Chapron, Cros, Garcia and Sabbadin, Ecography 37, 2014.
    """
    at_least(2, states=states)
    within(0, 1, fire=fire)
    successor, probability, reward = blank(states, 2, 2)
    older = np.minimum(np.arange(1, states + 1), states - 1)
    successor[0::4], probability[0::4], probability[1::4] = older, 1 - fire, fire
    probability[2::4] = 1.0
    reward[1::2] = 1.0
    reward[1], reward[-2], reward[-1] = 0.0, wait_reward, cut_reward
    return from_regular(states, 2, 2, successor, probability, reward, long_run(discount), initial=start_at(states, 0))


def machine_replacement(states: int = 20, discount: float = 0.95, wear: float = 0.5, replacement: float = 5.0) -> MDP:
    """Run a wearing machine or replace it, at least cost.

    Level i costs i a period to run (action 0) and rises by one with probability `wear`, the last level stays; action 1 pays
    `replacement` and leads to level 0.
    states: >= 2, levels. discount: in [0, 1]; at 1, average cost. wear: in (0, 1). replacement: >= 0.
    Raises ModelError for parameters out of range. Source: Derman 1963; Puterman 2005, section 4.7.5.
    """
    at_least(2, states=states)
    at_least(0, replacement=replacement)
    inside(0, 1, wear=wear)
    successor, probability, reward = blank(states, 2, 2)
    level = np.arange(states)
    successor[0::4], successor[1::4] = np.minimum(level + 1, states - 1), level
    probability[0::4], probability[1::4] = wear, 1 - wear
    probability[2::4] = 1.0
    reward[0::2], reward[1::2] = level, replacement
    criterion = long_run(discount, minimize=True)
    return from_regular(states, 2, 2, successor, probability, reward, criterion, initial=start_at(states, 0))


def _forest_exact(states: int, discount: float, fire: float, wait_reward: float, cut_reward: float) -> Fraction | None:
    """The value of waiting for ever, where that is optimal, by three classes' equations solved by hand."""
    if discount == 1 or states != 3:
        return None
    g, b, wait, cut = rational(discount), rational(fire), rational(wait_reward), rational(cut_reward)
    ahead, back = g * (1 - b), g * b
    youngest = ahead**2 * wait / (1 - ahead) / (1 - back * (1 + ahead + ahead**2 / (1 - ahead)))
    middle = youngest * (1 - back) / ahead if ahead else Fraction(0)
    oldest = middle + wait
    stays = ahead and 1 + g * youngest <= middle and cut + g * youngest <= oldest and g * youngest <= youngest
    return youngest if stays else None


def _replacement_exact(states: int, discount: float, wear: float, replacement: float) -> Fraction | None:
    if discount != 1:
        return None
    w, price = rational(wear), rational(replacement)
    cycles = [(Fraction(k * (k - 1), 2) / w + price) / (k / w + 1) for k in range(1, states)]
    return min([*cycles, Fraction(states - 1)])


FOREST = Instance(
    "forest", forest, "Chades, Chapron, Cros, Garcia and Sabbadin, Ecography 37, 2014",
    exact=_forest_exact, published=(Published({}, 26.244, 5e-4, "MDP toolbox for Python 4.0, PolicyIteration example"),),
)  # fmt: skip
MACHINE_REPLACEMENT = Instance(
    "machine_replacement", machine_replacement, "Derman 1963; Puterman 2005, section 4.7.5",
    small={"states": 8}, exact=_replacement_exact,
)  # fmt: skip
