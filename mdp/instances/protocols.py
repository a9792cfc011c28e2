r"""Randomised protocols, as model checkers analyse them.

Shared coin (Aspnes and Herlihy, J. Algorithms 11, 1990; Kwiatkowska, Norman and Segala, CAV 2001). N processes share a
counter that starts in the middle of [0, 2 (K+1) N]. Each one repeats: flip a coin, add or subtract one, look; it decides
tails when the counter is at most N, heads when it is at least 2 (K+1) N - N. A scheduler picks who moves. For N = 2,

    least probability that both decide heads       ((2K - 1) 4^K + 1) / (4K 4^K)
    greatest probability that they disagree        (4^K - K - 1) / (4K (4^K - 1))
    greatest and least expected number of moves    3 (2K + 1)^2,  12 K^2

Self-stabilisation (Herman, Inf. Process. Lett. 35, 1990). n (odd) bits on a ring; process i holds a token when x_i =
x_{i-1}, and then x_i becomes a fair coin's flip, else x_i becomes x_{i-1}. From three tokens at distances a, b, c the
expected time until one is left is 4abc/n (McIver and Morgan, Inf. Process. Lett. 94, 2005).

Address configuration (Bohnenkamp, van der Stok, Hermanns and Vaandrager, DSN 2003): a host picks an address that is in use with
probability q and sends up to n probes, each of which stays unanswered with probability p although the address is in use:

    Pr(collision) = q p^n / (1 - q (1 - p^n)).
"""

from __future__ import annotations

from fractions import Fraction

import numba
import numpy as np

from ..criterion import TotalReward
from ..errors import ModelError
from ..model import MDP
from .instance import Instance, Published
from .parameters import at_least, inside, one_of, rational, within
from .rows import blank, from_lists, from_regular, reachable, start_at

_FLIP, _WRITE_TAILS, _WRITE_HEADS, _LOOK, _TAILS, _HEADS = range(6)
_STEPS = ("steps_max", "steps_min")
_REACH = ("heads_min", "heads_max", "disagree_max", "disagree_min")


def consensus_coin(processes: int = 2, k: int = 2, objective: str = "steps_max") -> MDP:
    """The shared coin of randomised consensus, reachable states only; an action is a process that moves.

    processes: in [1, 6]. k: >= 1, the bound K.
    objective: "steps_max", "steps_min": expected moves until all have decided; "heads_min", "heads_max": probability that
    all decide heads; "disagree_max", "disagree_min": probability that not all decide the same.
    Raises ModelError for parameters out of range.
    Source: Aspnes and Herlihy, J. Algorithms 11, 1990; Kwiatkowska, Norman and Segala, CAV 2001.
    """
    within(1, 6, processes=processes)
    at_least(1, k=k)
    one_of(_STEPS + _REACH, objective=objective)
    top = 2 * (k + 1) * processes
    n_states = 6**processes * (top + 1)
    counter, local = np.divmod(np.arange(n_states), 6**processes)
    places = [6**process for process in range(processes)]
    at = [local // place % 6 for place in places]
    successor, probability, reward = blank(n_states, processes, 2)
    for process, place in enumerate(places):
        views = (array.reshape(n_states, processes, 2)[:, process] for array in (successor, probability))
        _moves(at[process], counter, top, processes, place, 6**processes, *views)
    heads, tails = (np.logical_and.reduce([where == side for where in at]) for side in (_HEADS, _TAILS))
    done = np.logical_and.reduce([where >= _TAILS for where in at])
    goal = {"steps": done, "heads": heads, "disagree": done & ~heads & ~tails}[objective.split("_", maxsplit=1)[0]]
    reward[:] = 1.0 if objective in _STEPS else 0.0
    model = from_regular(
        n_states, processes, 2, successor, probability, reward, TotalReward(minimize=objective.endswith("min")),
        terminal=done, terminal_value=np.where(goal & (objective not in _STEPS), 1.0, 0.0),
        initial=start_at(n_states, (k + 1) * processes * 6**processes),
        labels={"finished": done, "heads": heads, "tails": tails, "goal": goal},
    )  # fmt: skip
    return reachable(model)


def _moves(
    at: np.ndarray,
    counter: np.ndarray,
    top: int,
    processes: int,
    place: int,
    block: int,
    successor: np.ndarray,
    chance: np.ndarray,
) -> None:
    """One process's move from every state: fills successor and chance, both (n, 2); a process that has decided has none."""
    here = np.arange(len(at))
    low, high = counter <= processes, counter >= top - processes
    look = np.where(low, _TAILS, np.where(high, _HEADS, _FLIP))
    step = (at == _WRITE_HEADS).astype(np.int64) - (at == _WRITE_TAILS)
    moved = np.clip(counter + step, 0, top) - counter
    then = np.select([at == _FLIP, step != 0, at == _LOOK], [_WRITE_TAILS, _LOOK, look], at)
    successor[:, 0] = here + place * (then - at) + block * moved
    successor[:, 1] = here + place * (_WRITE_HEADS - at)
    chance[:, 0] = np.select([at == _FLIP, at < _TAILS], [0.5, 1.0], 0.0)
    chance[:, 1] = np.where(at == _FLIP, 0.5, 0.0)


def herman(processes: int = 7) -> MDP:
    """Herman's ring: expected rounds until one token is left, from three tokens as evenly spread as possible. No choice.

    processes: odd, in [3, 15]. State x is the bits x_{n-1} ... x_0; states with one token are terminal.
    Raises ModelError for parameters out of range. Source: Herman, Inf. Process. Lett. 35, 1990.
    """
    within(3, 15, processes=processes)
    if processes % 2 == 0:
        raise ModelError(f"processes={processes} is even; the ring needs an odd number")
    bits = (np.arange(2**processes)[:, None] >> np.arange(processes)) & 1
    before = np.roll(bits, 1, axis=1)
    weights = 1 << np.arange(processes)
    tokens = ((bits == before) @ weights).astype(np.int32)
    kept = ((before * (bits != before)) @ weights).astype(np.int32)
    count = (bits == before).sum(axis=1)
    stable = count == 1
    width = np.where(stable, 0, 1 << count)[~stable]
    row_ptr = np.concatenate(([0], np.cumsum(width))).astype(np.int32)
    successor = np.empty(row_ptr[-1], dtype=np.int32)
    _spread(tokens[~stable], kept[~stable], row_ptr, successor)
    start = np.flatnonzero(tokens == weights[[0, processes // 3, processes // 3 + (processes + 1) // 3]].sum())[0]
    return MDP(
        state_ptr=np.concatenate(([0], np.cumsum(~stable))), row_ptr=row_ptr, successor=successor,
        probability=np.repeat(1.0 / width, width), reward=np.ones(len(width)), criterion=TotalReward(),
        terminal=stable, initial=start_at(2**processes, int(start)), labels={"stable": stable},
    )  # fmt: skip


@numba.njit(cache=True, nogil=True)
def _spread(tokens, kept, row_ptr, successor):
    """Successors: the kept bits with every subset of the token places."""
    for row in range(len(tokens)):
        subset = np.int32(0)
        for entry in range(row_ptr[row], row_ptr[row + 1]):
            successor[entry] = kept[row] | subset
            subset = (subset - tokens[row]) & tokens[row]


def knuth_yao_die(objective: str = "flips") -> MDP:
    """A die from a fair coin, by Knuth and Yao's tree of seven states. No choice.

    objective: "flips", the expected number of coin flips, 11/3; "one" ... "six", the probability of that face, 1/6.
    Raises ModelError for another objective. Source: Knuth and Yao, Algorithms and Complexity, Academic Press 1976.
    """
    faces = ("one", "two", "three", "four", "five", "six")
    one_of(("flips", *faces), objective=objective)
    flip = 1.0 if objective == "flips" else 0.0
    tree = ((1, 2), (3, 4), (5, 6), (1, 7), (8, 9), (10, 11), (2, 12))
    worth = [1.0 if face == objective else 0.0 for face in faces]
    states = [*([(flip, {a: 0.5, b: 0.5})] for a, b in tree), *worth]
    labels = {face: np.arange(13) == 7 + i for i, face in enumerate(faces)}
    return from_lists(states, TotalReward(), initial=start_at(13, 0), labels=labels)


def zeroconf(probes: int = 4, used: float = 0.0153, loss: float = 1e-3) -> MDP:
    """The probability that a host configures an address that is already in use: a tiny number from a plain chain. No choice.

    probes: n >= 1. used: q, the share of addresses in use, in (0, 1). loss: p, of a probe or its answer, in (0, 1).
    State 0 picks an address, state i has sent i - 1 probes, then collision (worth one) and success.
    Raises ModelError for parameters out of range. Source: Bohnenkamp, van der Stok, Hermanns and Vaandrager, DSN 2003.
    """
    at_least(1, probes=probes)
    inside(0, 1, used=used, loss=loss)
    collision, success = probes + 1, probes + 2
    picks = [(0.0, {1: used, success: 1 - used})]
    states = [picks, *([(0.0, {i + 1: loss, 0: 1 - loss})] for i in range(1, probes + 1)), 1.0, 0.0]
    goal = np.arange(probes + 3) == collision
    return from_lists(states, TotalReward(), initial=start_at(probes + 3, 0), labels={"goal": goal})


def _consensus_exact(processes: int, k: int, objective: str) -> Fraction | None:
    if processes != 2:
        return None
    return {
        "heads_min": Fraction((2 * k - 1) * 4**k + 1, 4 * k * 4**k),
        "disagree_max": Fraction(4**k - k - 1, 4 * k * (4**k - 1)),
        "steps_max": Fraction(3 * (2 * k + 1) ** 2),
        "steps_min": Fraction(12 * k**2),
    }.get(objective)


def _herman_exact(processes: int) -> Fraction:
    first, second = processes // 3, (processes + 1) // 3
    return Fraction(4 * first * second * (processes - first - second), processes)


def _zeroconf_exact(probes: int, used: float, loss: float) -> Fraction:
    q, p = rational(used), rational(loss)
    return q * p**probes / (1 - q * (1 - p**probes))


_QVBS = "Quantitative Verification Benchmark Set, exact results (Hartmanns et al., TACAS 2019)"

CONSENSUS_COIN = Instance(
    "consensus_coin", consensus_coin, "Aspnes and Herlihy 1990; Kwiatkowska, Norman and Segala, CAV 2001",
    exact=_consensus_exact,
    published=tuple(
        Published({"processes": processes, "k": 2, "objective": objective}, value, 0.0, _QVBS)
        for processes, values in (
            (2, (Fraction(75), Fraction(48), Fraction(49, 128))),
            (4, (Fraction(363), Fraction(192), Fraction(325, 1024))),
            (6, (Fraction(867), Fraction(432), Fraction(462973, 1572864))),
        )
        for objective, value in zip(("steps_max", "steps_min", "heads_min"), values, strict=True)
    ),
)  # fmt: skip
HERMAN = Instance(
    "herman", herman, "Herman, Inf. Process. Lett. 35, 1990", small={"processes": 5}, exact=_herman_exact,
    published=tuple(
        Published({"processes": n}, rounds, 0.0, _QVBS)
        for n, rounds in (
            (3, Fraction(4, 3)), (5, Fraction(16, 5)), (7, Fraction(48, 7)), (9, Fraction(12)), (11, Fraction(192, 11)),
        )
    ),
)  # fmt: skip
KNUTH_YAO_DIE = Instance(
    "knuth_yao_die", knuth_yao_die, "Knuth and Yao, Algorithms and Complexity, Academic Press 1976",
    exact=lambda objective: Fraction(11, 3) if objective == "flips" else Fraction(1, 6),
)  # fmt: skip
ZEROCONF = Instance("zeroconf", zeroconf, "Bohnenkamp, van der Stok, Hermanns and Vaandrager, DSN 2003", exact=_zeroconf_exact)
