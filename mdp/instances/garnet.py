r"""Garnets: random models with a fixed number of successors.

For each pair, b distinct successors are drawn uniformly, their probabilities are the lengths into which b - 1 uniform points
cut [0, 1], and the reward is standard normal.

Archibald, McKinnon and Thomas, J. Oper. Res. Soc. 46, 1995; Bhatnagar, Sutton, Ghavamzadeh and Lee, Automatica 45, 2009.
"""

from __future__ import annotations

import numba
import numpy as np

from ..criterion import Discounted
from ..model import MDP
from .instance import Instance
from .parameters import at_least, within
from .rows import blank, start_at


def garnet(
    states: int = 1000, actions: int = 5, successors: int = 5, discount: float = 0.95, sparsity: float = 0.0, seed: int = 0
) -> MDP:
    """A random model with `successors` distinct successors a pair and standard normal rewards.

    states, actions: >= 1. successors: in [1, states]. discount: in [0, 1).
    sparsity: in [0, 1], the share of pairs whose reward is zero. seed: of numpy's default generator.
    Raises ModelError for parameters out of range. Source: Bhatnagar et al. 2009.
    """
    at_least(1, states=states, actions=actions)
    within(1, states, successors=successors)
    within(0, 1, sparsity=sparsity)
    rng = np.random.default_rng(seed)
    successor, probability, _ = blank(states, actions, successors)
    _fill(rng, states, successors, successor, probability)
    reward = rng.standard_normal(states * actions)
    if sparsity:
        reward[rng.random(states * actions) < sparsity] = 0.0
    return MDP(
        state_ptr=np.arange(0, states * actions + 1, actions, dtype=np.int32),
        row_ptr=np.arange(0, states * actions * successors + 1, successors, dtype=np.int32),
        successor=successor,
        probability=probability,
        reward=reward,
        criterion=Discounted(discount),
        initial=start_at(states, 0),
    )


@numba.njit(cache=True, nogil=True)
def _fill(rng, n_states, width, successor, probability):
    """Successors by Floyd's algorithm, each row sorted; probabilities are the gaps between sorted uniform points."""
    for begin in range(0, len(successor), width):
        for i in range(width):
            bound = n_states - width + i
            j = int(rng.random() * (bound + 1))
            for at in range(begin, begin + i):
                if successor[at] == j:
                    j = bound
                    break
            at = begin + i
            while at > begin and successor[at - 1] > j:
                successor[at] = successor[at - 1]
                at -= 1
            successor[at] = j
        for i in range(width - 1):
            point = rng.random()
            at = begin + i
            while at > begin and probability[at - 1] > point:
                probability[at] = probability[at - 1]
                at -= 1
            probability[at] = point
        probability[begin + width - 1] = 1.0
        for at in range(begin + width - 1, begin, -1):
            probability[at] -= probability[at - 1]


GARNET = Instance(
    name="garnet",
    make=garnet,
    source="Archibald, McKinnon and Thomas 1995; Bhatnagar, Sutton, Ghavamzadeh and Lee, Automatica 45, 2009",
    small={"states": 50, "actions": 3, "successors": 4},
)
