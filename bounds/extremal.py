r"""Models on which bounds are attained. All numbers are dyadic, so that rational evidence shows equality.

loop        one state worth 1 a step: whatever shrinks by g a sweep shrinks by exactly g
cycle       n states in a ring, each step worth 1: the same for Gauss-Seidel sweeps, n - 1 times; in a ring of two, T turns
            v* + s into v* - g s for s = (1, -1), so that the residual is 1 + g times the error
shuffle     two states that stay with probability 3/4: T shrinks spans by exactly g/2
temptation  A stays for nothing, or pays out r = 2 g e / (1-g) on the way to B, which stays for nothing. v = v* + e at A,
            v* - e at B makes staying a greedy action, and staying costs r (Bertsekas and Tsitsiklis, Neuro-Dynamic
            Programming, 1996, example 6.4; Singh and Yee 1994)
leak        the first action stays in a good state for 1; the last for 1 - a, and leaks into a bad state with probability e
close_call  one state, two actions worth 1 and 1 - 2 a: an error of a in the rewards makes the worse look as good
"""

from __future__ import annotations

from ..mdp.criterion import Discounted
from ..mdp.instances.rows import from_lists
from ..mdp.model import MDP


def loop(discount: float = 0.875) -> MDP:
    """One state, reward 1. discount: in [0, 1)."""
    return from_lists([[(1.0, {0: 1.0})]], Discounted(discount))


def cycle(states: int = 6, discount: float = 0.875) -> MDP:
    """A ring, reward 1 a step. states: >= 2. discount: in [0, 1)."""
    return from_lists([[(1.0, {(state + 1) % states: 1.0})] for state in range(states)], Discounted(discount))


def shuffle(discount: float = 0.875) -> MDP:
    """Two states, staying with probability 3/4, the first worth 1 a step. discount: in [0, 1)."""
    return from_lists([[(1.0, {0: 0.75, 1: 0.25})], [(0.0, {0: 0.25, 1: 0.75})]], Discounted(discount))


def temptation(discount: float = 0.875, error: float = 1.0) -> MDP:
    """Two states that make a greedy policy of a vector `error` > 0 away from v* lose all that it may. discount: in (0, 1)."""
    prize = 2 * discount * error / (1 - discount)
    return from_lists([[(0.0, {0: 1.0}), (prize, {1: 1.0})], [(0.0, {1: 1.0})]], Discounted(discount))


def leak(discount: float = 0.875, reward_error: float = 0.125, probability: float = 0.25) -> MDP:
    """Two chains, by the first and by the last action, that differ as much as their rows allow. discount: in [0, 1)."""
    good = [(1.0, {0: 1.0}), (1.0 - reward_error, {0: 1.0 - probability, 1: probability})]
    return from_lists([good, [(0.0, {1: 1.0}), (0.0, {1: 1.0})]], Discounted(discount))


def close_call(discount: float = 0.875, error: float = 0.125) -> MDP:
    """One state, two loops whose rewards differ by twice `error` > 0. discount: in [0, 1)."""
    return from_lists([[(1.0, {0: 1.0}), (1.0 - 2 * error, {0: 1.0})]], Discounted(discount))


def extremal() -> dict[str, MDP]:
    """The models of this module by name."""
    return {
        "loop": loop(),
        "cycle": cycle(),
        "ring of two": cycle(2),
        "shuffle": shuffle(),
        "temptation": temptation(),
        "leak": leak(),
        "close call": close_call(),
    }
