r"""Textbook examples of a few states, each of which shows one thing."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from ..criterion import AverageReward, Discounted
from ..model import MDP
from .instance import Instance, Published
from .parameters import at_least, inside, long_run, rational
from .rows import from_lists, start_at


def puterman_two_state(discount: float = 0.95) -> MDP:
    """Puterman's running example: 5 and an even chance to stay, or 10 and off to a state that costs 1 for ever.

    State 0: action 0 is worth 5 and stays with probability 1/2; action 1 is worth 10 and leads to state 1. State 1 costs 1
    and stays. With discount g its values are -1/(1-g) in state 1 and max{(5 - g/(2(1-g))) / (1 - g/2), 10 - g/(1-g)} in
    state 0.
    discount: in [0, 1). Raises ModelError when it is not. Source: Puterman 2005, figure 3.1.1 and example 6.2.1.
    """
    states = [[(5.0, {0: 0.5, 1: 0.5}), (10.0, {1: 1.0})], [(-1.0, {1: 1.0})]]
    return from_lists(states, Discounted(discount), initial=start_at(2, 0))


def howard_taxi(discount: float = 1.0) -> MDP:
    """Howard's taxicab in three towns: cruise, go to the stand, or wait for a call.

    discount: in [0, 1]; at 1, average reward, whose optimum is 13.34. Raises ModelError when it is not.
    Source: Howard, Dynamic Programming and Markov Processes, MIT Press 1960, chapter 5.
    """
    states = [
        [
            (8.0, {0: 1 / 2, 1: 1 / 4, 2: 1 / 4}),
            (2.75, {0: 1 / 16, 1: 3 / 4, 2: 3 / 16}),
            (4.25, {0: 1 / 4, 1: 1 / 8, 2: 5 / 8}),
        ],
        [(16.0, {0: 1 / 2, 2: 1 / 2}), (15.0, {0: 1 / 16, 1: 7 / 8, 2: 1 / 16})],
        [(7.0, {0: 1 / 4, 1: 1 / 4, 2: 1 / 2}), (4.0, {0: 1 / 8, 1: 3 / 4, 2: 1 / 8}), (4.5, {0: 3 / 4, 1: 1 / 16, 2: 3 / 16})],
    ]
    return from_lists(states, long_run(discount), initial=start_at(3, 0))


def howard_toymaker(discount: float = 0.9) -> MDP:
    """Howard's toymaker: with a successful toy, advertise or not; with an unsuccessful one, do research or not.

    discount: in [0, 1]; at 1, average reward, whose optimum is 2. Raises ModelError when it is not.
    Source: Howard, Dynamic Programming and Markov Processes, MIT Press 1960, chapters 2 to 4.
    """
    states = [[(6.0, {0: 0.5, 1: 0.5}), (4.0, {0: 0.8, 1: 0.2})], [(-3.0, {0: 0.4, 1: 0.6}), (-5.0, {0: 0.7, 1: 0.3})]]
    return from_lists(states, long_run(discount), initial=start_at(2, 0))


def blackwell(discount: float = 0.9) -> MDP:
    """One now, or two a step later: the first is optimal for discounts up to 1/2, the second from 1/2 on, both at 1/2.

    State 0: action 0 is worth 1 and leads to state 2; action 1 is worth nothing and leads to state 1, whose action is worth
    2 and leads to state 2, where nothing happens any more. The Blackwell-optimal policy takes action 1.
    discount: in [0, 1). Raises ModelError when it is not. Source: Blackwell, Ann. Math. Stat. 33, 1962.
    """
    states = [[(1.0, {2: 1.0}), (0.0, {1: 1.0})], [(2.0, {2: 1.0})], [(0.0, {2: 1.0})]]
    return from_lists(states, Discounted(discount), initial=start_at(3, 0))


def tied_actions(states: int = 4, actions: int = 3, discount: float = 0.9) -> MDP:
    """Every policy is optimal: each step is worth one, wherever it leads.

    Action a of state s leads to s, s + 1, ..., s + a, modulo the number of states, with equal probabilities.
    states >= actions >= 1. discount: in [0, 1]; at 1, average reward. Raises ModelError for parameters out of range.
    """
    at_least(1, actions=actions)
    at_least(actions, states=states)
    rows = [[(1.0, {(s + i) % states: 1 / (a + 1) for i in range(a + 1)}) for a in range(actions)] for s in range(states)]
    return from_lists(rows, long_run(discount), initial=start_at(states, 0))


def stay_or_move(toll: float = 10.0, near: float = 1.0, far: float = 3.0) -> MDP:
    """A weakly communicating average-reward problem with multichain policies, which must pay to reach the better place.

    State 0, worth `near` a step, and state 1, worth `far`: stay, or move at the price `toll`. State 2 is transient and leads
    to either. The optimal gain is max(near, far) everywhere, or the mean of both minus the toll if moving for ever is better.
    toll, near, far: any numbers. Source: Puterman 2005, section 8.3 (the classification).
    """
    states = [
        [(near, {0: 1.0}), (near - toll, {1: 1.0})],
        [(far, {1: 1.0}), (far - toll, {0: 1.0})],
        [(0.0, {0: 0.5, 1: 0.5})],
    ]
    return from_lists(states, AverageReward(), initial=start_at(3, 0))


def multichain_gamble(sure: float = 2.0, prize: float = 5.0, consolation: float = 0.0, lure: float = 100.0) -> MDP:
    """A multichain average-reward problem: the gain depends on the state, and a large reward on the way must not count.

    State 0: action 0 leads to the periodic pair of states 1 and 2, worth sure + 1 and sure - 1; action 1 leads to state 3,
    worth `prize`, or state 4, worth `consolation`, for ever, with probability 1/2 each; action 2 is worth `lure` once and
    leads to state 4. The gain of state 0 is max(sure, (prize + consolation) / 2, consolation).
    sure, prize, consolation, lure: any numbers. Source: Puterman 2005, chapter 9 (multichain models).
    """
    states = [
        [(0.0, {1: 1.0}), (0.0, {3: 0.5, 4: 0.5}), (lure, {4: 1.0})],
        [(sure + 1, {2: 1.0})],
        [(sure - 1, {1: 1.0})],
        [(prize, {3: 1.0})],
        [(consolation, {4: 1.0})],
    ]
    return from_lists(states, AverageReward(), initial=start_at(5, 0))


def rare_visit(p: float = 1e-6, loss: float = 1e5) -> MDP:
    """Average reward that hides a rare disaster: each step is worth one, and with probability p leads to a loss, then back.

    The gain of state 0's action 0 is (1 - p loss) / (1 + p); action 1 avoids the risk and is worth 0.95 a step.
    p: in (0, 1). loss: any number. Raises ModelError for parameters out of range.
    """
    inside(0, 1, p=p)
    states = [[(1.0, {0: 1 - p, 1: p}), (0.95, {0: 1.0})], [(-loss, {0: 1.0})]]
    return from_lists(states, AverageReward(), initial=start_at(2, 0))


def scales(discount: float = 0.9, large: float = 1e4) -> MDP:
    """Rewards of very different sizes in one model, the small ones deciding: a test of absolute accuracy.

    State 0: worth 1e-8 and stay, or nothing and stay; state 1, not reached from state 0, is worth `large` a step.
    discount: in [0, 1). large: any number. Raises ModelError for a discount out of range.
    """
    states = [[(0.0, {0: 1.0}), (1e-8, {0: 1.0})], [(large, {1: 1.0})]]
    return from_lists(states, Discounted(discount), initial=np.array([1.0, 0.0]))


def _puterman_exact(discount: float) -> Fraction:
    g = rational(discount)
    leaving = 10 - g / (1 - g)
    return max(leaving, (5 - g / (2 * (1 - g))) / (1 - g / 2))


def _taxi_exact(discount: float) -> Fraction | None:
    return Fraction(1588, 119) if discount == 1 else None


def _toymaker_exact(discount: float) -> Fraction | None:
    if discount == 1:
        return Fraction(2)
    g, best = rational(discount), None
    for reward, stay in ((Fraction(6), Fraction(1, 2)), (Fraction(4), Fraction(4, 5))):
        for other, escape in ((Fraction(-3), Fraction(2, 5)), (Fraction(-5), Fraction(7, 10))):
            # v = reward + g (stay v + (1 - stay) w), w = other + g (escape v + (1 - escape) w), by Cramer's rule
            determinant = (1 - g * stay) * (1 - g * (1 - escape)) - g * (1 - stay) * g * escape
            value = (reward * (1 - g * (1 - escape)) + g * (1 - stay) * other) / determinant
            best = value if best is None else max(best, value)
    return best


def _stay_or_move_exact(toll: float, near: float, far: float) -> Fraction:
    a, b = rational(near), rational(far)
    return max(a, b, (a + b) / 2 - rational(toll))


def _gamble_exact(sure: float, prize: float, consolation: float, lure: float) -> Fraction:
    c = rational(consolation)
    return max(rational(sure), (rational(prize) + c) / 2, c)


PUTERMAN_TWO_STATE = Instance(
    "puterman_two_state", puterman_two_state, "Puterman 2005, figure 3.1.1", exact=_puterman_exact,
    published=(Published({"discount": 0.95}, -8.571, 5e-4, "Puterman 2005, example 6.2.1"),),
)  # fmt: skip
HOWARD_TAXI = Instance(
    "howard_taxi", howard_taxi, "Howard, Dynamic Programming and Markov Processes, 1960", exact=_taxi_exact,
    published=(Published({"discount": 1.0}, 13.34, 5e-3, "Howard 1960, chapter 5"),),
)  # fmt: skip
HOWARD_TOYMAKER = Instance(
    "howard_toymaker", howard_toymaker, "Howard, Dynamic Programming and Markov Processes, 1960", exact=_toymaker_exact,
    published=(
        Published({"discount": 0.9}, 22.2, 5e-2, "Howard 1960, chapter 7"),
        Published({"discount": 1.0}, 2.0, 0.0, "Howard 1960, chapter 4"),
    ),
)  # fmt: skip
BLACKWELL = Instance(
    "blackwell",
    blackwell,
    "Blackwell, Ann. Math. Stat. 33, 1962",
    exact=lambda discount: max(Fraction(1), 2 * rational(discount)),
)
TIED_ACTIONS = Instance(
    "tied_actions", tied_actions, "folklore",
    exact=lambda states, actions, discount: Fraction(1) if discount == 1 else 1 / (1 - rational(discount)),
)  # fmt: skip
STAY_OR_MOVE = Instance("stay_or_move", stay_or_move, "Puterman 2005, section 8.3", exact=_stay_or_move_exact)
MULTICHAIN_GAMBLE = Instance("multichain_gamble", multichain_gamble, "Puterman 2005, chapter 9", exact=_gamble_exact)
RARE_VISIT = Instance(
    "rare_visit", rare_visit, "folklore",
    exact=lambda p, loss: max(Fraction(95, 100), (1 - rational(p) * rational(loss)) / (1 + rational(p))),
)  # fmt: skip
SCALES = Instance("scales", scales, "folklore", exact=lambda discount, large: rational(1e-8) / (1 - rational(discount)))
