r"""Models whose number of bisimulation classes is known in closed form, at any size.

product    k chains 0 -> 1 -> 2, an action moves one of them on with probability 1/2, the reward counts those at the end; up to
           the names of actions the classes are multisets, C(k + 2, 2) of them
square     a room of odd side with the goal in its middle, moves that slip sideways with probability 1/8 each way; classes are
           the orbits of the square's symmetries, h (h + 1) / 2 of them, h = (side + 1) / 2
copies     ten copies of one Garnet side by side: its states are the classes
irrelevant a Garnet of 64 states beside k bits that flip by themselves and matter to nothing: 64 classes for 64 * 2^k states
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import scipy.sparse
from banach.mdp import MDP, Discounted, instances

_DISCOUNT = 0.999


def product(chains: int) -> tuple[MDP, int]:
    """The model and its number of classes."""
    n = 3**chains
    place = np.arange(n)[:, None] // 3 ** np.arange(chains) % 3
    moves = place < 2
    step = np.where(moves, 3 ** np.arange(chains), 0)
    width = 1 + moves.ravel()
    row_ptr = np.concatenate(([0], np.cumsum(width)))
    successor = np.repeat(np.repeat(np.arange(n), chains), width)
    last = row_ptr[1:] - 1
    successor[last] += step.ravel()
    probability = np.repeat(1.0 / width, width)
    reward = np.repeat((place == 2).sum(axis=1), chains).astype(float)
    state_ptr = np.arange(0, n * chains + 1, chains)
    model = MDP(state_ptr, row_ptr, successor.astype(np.int32), probability, reward, Discounted(_DISCOUNT))
    return model, math.comb(chains + 2, 2)


def square(side: int) -> tuple[MDP, int]:
    """The model and its number of classes."""
    n, middle = side * side, side * side // 2
    y, x = np.divmod(np.arange(n), side)
    steps = np.array([(-1, 0), (0, 1), (1, 0), (0, -1)])
    there = [np.clip(y + dy, 0, side - 1) * side + np.clip(x + dx, 0, side - 1) for dy, dx in steps]
    successor = np.stack([there[(a + turn) % 4] for a in range(4) for turn in (0, 1, 3)], axis=1).reshape(n, 12)
    acting = np.arange(n) != middle
    pairs = 4 * int(acting.sum())
    rows = scipy.sparse.csr_array(
        (np.tile([0.75, 0.125, 0.125], pairs), successor[acting].ravel(), np.arange(0, 3 * pairs + 1, 3)), shape=(pairs, n)
    )
    rows.sum_duplicates()  # at the walls
    model = MDP(
        np.concatenate(([0], np.cumsum(4 * acting))), rows.indptr, rows.indices, rows.data, np.full(pairs, -1.0),
        Discounted(_DISCOUNT), terminal=~acting,
    )  # fmt: skip
    half = (side + 1) // 2
    return model, half * (half + 1) // 2


def copies(states: int, times: int = 10) -> tuple[MDP, int]:
    """The model and its number of classes."""
    one = instances.garnet(states=states, actions=5, successors=5, discount=_DISCOUNT)
    return _side_by_side(one, times), states


def _side_by_side(one: MDP, times: int) -> MDP:
    shift = np.repeat(np.arange(times, dtype=np.int64), one.n_transitions) * one.n_states
    return MDP(
        _repeated(one.state_ptr, times), _repeated(one.row_ptr, times),
        (np.tile(one.successor, times) + shift).astype(np.int32), np.tile(one.probability, times), np.tile(one.reward, times),
        one.criterion,
    )  # fmt: skip


def _repeated(ptr: np.ndarray, times: int) -> np.ndarray:
    return np.concatenate(([0], (ptr[1:] + ptr[-1] * np.arange(times)[:, None]).ravel()))


def irrelevant(bits: int) -> tuple[MDP, int]:
    """The model and its number of classes."""
    one = instances.garnet(states=64, actions=4, successors=4, discount=_DISCOUNT)
    many, patterns = 2**bits, np.arange(2**bits)
    state_ptr, row_ptr = _repeated(one.state_ptr, many), _repeated(2 * one.row_ptr, many)
    flipped = np.roll(patterns, 1)  # the counter of the bits stays or goes on
    base = one.successor[None, :, None] + 64 * np.stack((patterns, flipped), axis=1)[:, None, :]
    probability = np.tile(np.repeat(one.probability / 2, 2), many)
    return MDP(
        state_ptr, row_ptr, base.reshape(-1).astype(np.int32), probability, np.tile(one.reward, many), one.criterion
    ), 64  # fmt: skip


MODELS: dict[str, Callable[[int], tuple[MDP, int]]] = {
    "product": product, "square": square, "copies": copies, "irrelevant": irrelevant,
}  # fmt: skip
