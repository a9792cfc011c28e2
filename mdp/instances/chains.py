r"""Chains: states in a row, where value iteration is slow, stops too soon, or is led astray.

Haddad and Monmege's chain has states 0..2N and starts at N. From N it steps to N - 1 with probability p and to N + 1
otherwise; from every other inner state it steps outwards or falls back to N, each with probability 1/2. Hence

    Pr(reach 0) = p,        E steps to an end = 3 2^(N-1) - 2        (check: 4, 10, 46, 1572862 for N = 2, 3, 5, 20)

while value iteration moves by less than 2^-N after the first 2N sweeps.

The gambler with fortune i and goal n who wins a unit bet with probability p, q = 1 - p, reaches the goal with probability

    (1 - (q/p)^i) / (1 - (q/p)^n),   i/n for p = 1/2.

With any stake up to min(i, n - i) and p <= 1/2, bold play is optimal (Dubins and Savage 1965): with x = i/n,

    B(x) = p B(2x) for x <= 1/2,   p + q B(2x - 1) for x >= 1/2,   B(0) = 0, B(1) = 1.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from ..criterion import TotalReward
from ..errors import ModelError
from ..model import MDP
from .instance import Instance, Published
from .parameters import at_least, inside, long_run, one_of, rational, within
from .rows import blank, from_lists, from_regular, start_at


def riverswim(states: int = 6, discount: float = 0.95) -> MDP:
    """A swimmer between a small reward downstream and a large one against the current.

    Action 0 drifts left: certain, worth 5 in state 0. Action 1 swims right: 0.3 ahead, 0.6 stay, 0.1 back inside; 0.3 ahead
    and 0.7 stay in state 0; 0.3 stay, worth 10000, and 0.7 back in the last state. Starts in state 1 or 2, with equal
    probability.
    states: >= 3; six in the source. discount: in [0, 1]; at 1, average reward.
    Raises ModelError for parameters out of range.
    Source: Strehl and Littman, J. Comput. Syst. Sci. 74, 2008, figure 2.
    """
    at_least(3, states=states)
    successor, probability, reward = blank(states, 2, 3)
    here = np.arange(states, dtype=np.int32)
    successors, probabilities = successor.reshape(states, 2, 3), probability.reshape(states, 2, 3)
    for entry, step in enumerate((-1, 0, 1)):
        successors[:, :, entry] = np.clip(here + step, 0, states - 1)[:, None]
    probabilities[:, 0] = (1.0, 0.0, 0.0)
    probabilities[:, 1] = (0.1, 0.6, 0.3)
    probabilities[0, 1], probabilities[-1, 1] = (0.0, 0.7, 0.3), (0.7, 0.3, 0.0)
    del successors, probabilities
    reward[0], reward[-1] = 5.0, 3000.0
    initial = np.zeros(states)
    initial[1:3] = 0.5
    return from_regular(states, 2, 3, successor, probability, reward, long_run(discount), initial=initial)


def haddad_monmege(n: int = 20, p: float = 0.7, objective: str = "reach") -> MDP:
    """The chain on which value iteration's usual stopping rule gives a wrong answer. 2n + 1 states, no choice.

    n: >= 1. p: in (0, 1), first step towards state 0.
    objective: "reach", the probability of ending in state 0, which is p; "steps", the expected steps to either end.
    Raises ModelError for parameters out of range.
    Source: Haddad and Monmege, Reachability Problems 2014; Theor. Comput. Sci. 735, 2018.
    """
    at_least(1, n=n)
    inside(0, 1, p=p)
    one_of(("reach", "steps"), objective=objective)
    size = 2 * n + 1
    successor, probability, reward = blank(size, 1, 2)
    inner = np.arange(size)
    successor[0::2], successor[1::2] = np.where(inner < n, inner - 1, inner + 1), n
    probability[:] = 0.5
    successor[2 * n], successor[2 * n + 1] = n - 1, n + 1
    probability[2 * n], probability[2 * n + 1] = p, 1 - p
    terminal, worth = np.zeros(size, dtype=np.bool_), np.zeros(size)
    terminal[[0, -1]] = True
    reward[:], worth[0] = (0.0, 1.0) if objective == "reach" else (1.0, 0.0)
    return from_regular(
        size, 1, 2, successor, probability, reward, TotalReward(),
        terminal=terminal, terminal_value=worth, initial=start_at(size, n), labels={"goal": inner == 0},
    )  # fmt: skip


def end_component_trap() -> MDP:
    """One state that may wait for ever or try its luck: the smallest model on which iteration from above is stuck at 1.

    State 0 waits (a self-loop) or goes to the goal and to a sink, each with probability 1/2. The greatest probability of
    reaching the goal is 1/2; every u >= 1/2 at state 0 satisfies T u <= u.
    Source: Haddad and Monmege, Theor. Comput. Sci. 735, 2018; Brazdil et al., ATVA 2014 (arXiv:1402.2967).
    """
    states = [[(0.0, {0: 1.0}), (0.0, {1: 0.5, 2: 0.5})], 1.0, 0.0]
    return from_lists(states, TotalReward(), initial=start_at(3, 0), labels={"goal": np.array([False, True, False])})


def gambler(fortune: int = 25, goal: int = 100, p: float = 0.4, stakes: str = "any") -> MDP:
    """The gambler who wants to reach a goal before ruin; state i is fortune i.

    fortune: in [0, goal], the start. goal: >= 1. p: in (0, 1), the probability of winning a bet.
    stakes: "any", every whole stake up to min(i, goal - i), or "unit", bets of one, without choice.
    Raises ModelError for parameters out of range.
    Source: Dubins and Savage, How to Gamble if You Must, 1965; Sutton and Barto, example 4.3.
    """
    at_least(1, goal=goal)
    within(0, goal, fortune=fortune)
    inside(0, 1, p=p)
    one_of(("any", "unit"), stakes=stakes)
    actions = max(goal // 2, 1) if stakes == "any" else 1
    successor, probability, reward = blank(goal + 1, actions, 2)
    here, stake = np.arange(goal + 1)[:, None], np.arange(1, actions + 1)[None, :]
    possible = stake <= np.minimum(here, goal - here)
    successor[0::2], successor[1::2] = (here + stake).ravel(), (here - stake).ravel()
    probability[0::2] = np.where(possible, p, 0.0).ravel()
    probability[1::2] = np.where(possible, 1 - p, 0.0).ravel()
    terminal, worth = np.zeros(goal + 1, dtype=np.bool_), np.zeros(goal + 1)
    terminal[[0, -1]], worth[-1] = True, 1.0
    return from_regular(
        goal + 1, actions, 2, successor, probability, reward, TotalReward(),
        terminal=terminal, terminal_value=worth, initial=start_at(goal + 1, fortune), labels={"goal": worth == 1},
    )  # fmt: skip


def rare_exit(exponent: int = 40, objective: str = "steps") -> MDP:
    """One state that is left with probability 2^-exponent a step, to the goal half of the time and to a sink otherwise.

    exponent: in [2, 1000]. From 30 on the row is 1 beside two weights 2^-exponent-1, which the model's tolerance allows;
    beyond 53 the exit is smaller than the rounding of the other weight.
    objective: "steps", the expected steps until the exit: 2^exponent, plus one from exponent 30 on;
    "reach", the probability of the goal, 1/2.
    Raises ModelError for parameters out of range.
    """
    within(2, 1000, exponent=exponent)
    one_of(("steps", "reach"), objective=objective)
    half = 2.0 ** -(exponent + 1)
    step, worth = (1.0, 0.0) if objective == "steps" else (0.0, 1.0)
    if exponent < 30:  # the row must sum to one within the model's tolerance
        states = [[(step, {0: 1 - 2 * half, 1: half, 2: half})], worth, 0.0]
    else:
        states = [[(step, {0: 1.0, 1: half, 2: half})], worth, 0.0]
    return from_lists(states, TotalReward(), initial=start_at(3, 0), labels={"goal": np.array([False, True, False])})


def combination_lock(length: int = 20, p: float = 0.9, bait: float = 0.01, discount: float = 0.99) -> MDP:
    """A deceptive chain: a sure small reward now, or a long row of steps, any of which may throw you back, to a reward of one.

    State i of 0..length - 1; action 0 takes `bait` and returns to state 0; action 1 goes on with probability p, else back to
    state 0; the last state's action 1 is worth 1 and goes back to state 0.
    length: >= 1. p: in (0, 1]. bait: any number. discount: in [0, 1]; at 1, average reward.
    Raises ModelError for parameters out of range. Source: Koenig and Simmons, Mach. Learn. 22, 1996 (reset state spaces).
    """
    at_least(1, length=length)
    if not 0 < p <= 1:
        raise ModelError(f"p={p!r} is out of range; it must be in (0, 1]")
    ahead = [(0.0, {i + 1: p, 0: 1 - p} if p < 1 else {i + 1: 1.0}) for i in range(length - 1)]
    states = [[(bait, {0: 1.0}), step] for step in [*ahead, (1.0, {0: 1.0})]]
    return from_lists(states, long_run(discount), initial=start_at(length, 0))


def _haddad_monmege_exact(n: int, p: float, objective: str) -> Fraction:
    return rational(p) if objective == "reach" else Fraction(3) * 2**n / 2 - 2


def _gambler_exact(fortune: int, goal: int, p: float, stakes: str) -> Fraction | None:
    win = rational(p)
    if stakes == "unit":
        odds = (1 - win) / win
        return Fraction(fortune, goal) if odds == 1 else (1 - odds**fortune) / (1 - odds**goal)
    return _bold_play(Fraction(fortune, goal), win) if win <= Fraction(1, 2) else None


def _bold_play(share: Fraction, win: Fraction) -> Fraction:
    """B(share): follow the doubling map until it ends or returns, keeping B(share) = a + b B(current)."""
    a, b, seen = Fraction(0), Fraction(1), {}
    while share not in (0, 1):
        if share in seen:
            a_then, b_then = seen[share]
            value = (a - a_then) / (b_then - b)  # of the state that has come round again: a_then + b_then v = a + b v
            return a_then + b_then * value
        seen[share] = a, b
        if 2 * share <= 1:
            share, b = 2 * share, b * win
        else:
            share, a, b = 2 * share - 1, a + b * win, b * (1 - win)
    return a + b * share


def _rare_exit_exact(exponent: int, objective: str) -> Fraction:
    if objective == "reach":
        return Fraction(1, 2)
    return Fraction(2**exponent) if exponent < 30 else Fraction(2**exponent + 1)


def _combination_lock_exact(length: int, p: float, bait: float, discount: float) -> Fraction | None:
    """Either the bait at once for ever, or all the way: from each state on the way, going on must also beat the bait."""
    if discount == 1:
        return None
    g, on, small = rational(discount), rational(p), rational(bait)
    back = sum((g * (1 - on) * (g * on) ** i for i in range(length - 1)), Fraction(0))
    prize = (g * on) ** (length - 1)
    return max(small / (1 - g), prize / (1 - back - g * prize))


RIVERSWIM = Instance("riverswim", riverswim, "Strehl and Littman, J. Comput. Syst. Sci. 74, 2008, figure 2")
HADDAD_MONMEGE = Instance(
    "haddad_monmege", haddad_monmege, "Haddad and Monmege, Theor. Comput. Sci. 735, 2018",
    small={"n": 5}, exact=_haddad_monmege_exact,
    published=(
        Published({"n": 20, "p": 0.7}, Fraction(7, 10), 0.0, "Quantitative Verification Benchmark Set, haddad-monmege"),
        Published({"n": 20, "objective": "steps"}, Fraction(1572862), 0.0, "the same, expected steps"),
    ),
)  # fmt: skip
END_COMPONENT_TRAP = Instance(
    "end_component_trap", end_component_trap, "Haddad and Monmege 2018; Brazdil et al., ATVA 2014",
    exact=lambda: Fraction(1, 2),
)  # fmt: skip
GAMBLER = Instance(
    "gambler", gambler, "Dubins and Savage, How to Gamble if You Must, 1965; Sutton and Barto, example 4.3",
    small={"fortune": 4, "goal": 16}, exact=_gambler_exact,
)  # fmt: skip
RARE_EXIT = Instance("rare_exit", rare_exit, "folklore", small={"exponent": 10}, exact=_rare_exit_exact)
COMBINATION_LOCK = Instance(
    "combination_lock", combination_lock, "Koenig and Simmons, Mach. Learn. 22, 1996",
    small={"length": 6}, exact=_combination_lock_exact,
)  # fmt: skip
