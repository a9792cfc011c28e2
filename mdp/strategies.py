r"""Hypothesis strategies that draw finite decision problems, small and full of corners.

A row is drawn as weights w_1..w_k on successors j_1..j_k and stored as fl(w_i / sum w). Successors may repeat, weights may be
zero or tiny, rows need not sum to one exactly, and an action may repeat its neighbour's row and reward, so that
ties, duplicate and zero-probability entries, tiny probabilities, absorbing and unreachable states all occur. Everything is
drawn from lists that begin with the plainest choice, so that a failing example shrinks to one or two states, one action,
reward 0 and certain transitions.

Structure is imposed by ranks: when every row of a state s > 0 gives positive probability to some state below s, every policy
reaches state 0 from everywhere. State 0 is terminal for proper problems and recurrent for unichain ones (Bertsekas and
Tsitsiklis, Math. Oper. Res. 16, 1991; Puterman 2005, section 8.3). Afterwards the states are permuted.

The models are meant for property tests:

    @given(strategies.discounted_mdps(max_states=8))
    def test_something(problem): ...
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from hypothesis import strategies as st

from .criterion import AverageReward, Criterion, Discounted, FiniteHorizon, TotalReward
from .model import MDP

__all__ = [
    "average_reward_mdps",
    "deterministic_mdps",
    "discounted_mdps",
    "discounts",
    "finite_horizon_mdps",
    "markov_chains",
    "reachability_mdps",
    "rewards",
    "total_reward_mdps",
]

_HEAVY = (1.0, 2.0, 3.0)
_HEAVY_WEIGHT = st.sampled_from(_HEAVY)

Row = list[tuple[int, float]]
Pair = tuple[float, Row]


def discounts(largest: float = 0.99) -> st.SearchStrategy[float]:
    """Discount factors in [0, largest], zero and `largest` among them."""
    usual = [g for g in (0.5, 0.0, 0.9, 0.95, largest) if g <= largest]
    return st.sampled_from(usual) | st.floats(0.0, largest, allow_subnormal=False)


def rewards(largest: float = 100.0) -> st.SearchStrategy[float]:
    """Rewards in [-largest, largest]: small integers, so that ties happen, fractions that are no dyadic numbers, and scales
    from 1e-6 of `largest` up to `largest`."""
    small = st.integers(-3, 3).map(lambda r: r * min(1.0, largest / 3))
    scales = st.sampled_from([0.1, -1 / 3, 1e-3, -1e-6, 1.0, -1.0]).map(lambda r: r * largest)
    return small | scales


_DISCOUNTS = discounts()
_DISCOUNTS_TO_ONE = st.just(1.0) | _DISCOUNTS
_REWARDS = rewards()
_MODEST_REWARDS = rewards(10.0)
_MAXIMIZE = st.just(False)
_EITHER = st.booleans()


@st.composite
def discounted_mdps(
    draw: st.DrawFn,
    *,
    max_states: int = 6,
    max_actions: int = 3,
    max_successors: int = 3,
    discounts: st.SearchStrategy[float] = _DISCOUNTS,
    rewards: st.SearchStrategy[float] = _REWARDS,
    max_terminal: int = 2,
    tiny: float = 1e-200,
    minimize: st.SearchStrategy[bool] = _MAXIMIZE,
) -> MDP:
    """Discounted problems.

    max_states, max_actions, max_successors: >= 1, sizes; every smaller size is drawn as well.
    discounts: strategy of numbers in [0, 1). rewards: strategy of finite numbers, for rewards and terminal values.
    max_terminal: at most so many states are terminal, >= 0.
    tiny: > 0, the smallest weight beside ordinary ones of 1 to 3.
    minimize: strategy of the sense of optimisation.
    """
    size = _Size(max_states, max_actions, max_successors, tiny)
    model = draw(_models(size, rewards, rewards, max_terminal=max_terminal))
    return model(Discounted(draw(discounts), draw(minimize)))


@st.composite
def finite_horizon_mdps(
    draw: st.DrawFn,
    *,
    max_states: int = 5,
    max_actions: int = 3,
    max_successors: int = 3,
    max_horizon: int = 5,
    discounts: st.SearchStrategy[float] = _DISCOUNTS_TO_ONE,
    rewards: st.SearchStrategy[float] = _REWARDS,
    max_terminal: int = 2,
    tiny: float = 1e-200,
    minimize: st.SearchStrategy[bool] = _MAXIMIZE,
) -> MDP:
    """Finite-horizon problems with 0..max_horizon decisions; discounts in [0, 1]; the rest as in `discounted_mdps`."""
    size = _Size(max_states, max_actions, max_successors, tiny)
    model = draw(_models(size, rewards, rewards, max_terminal=max_terminal))
    return model(FiniteHorizon(draw(st.integers(0, max_horizon)), draw(discounts), draw(minimize)))


@st.composite
def total_reward_mdps(
    draw: st.DrawFn,
    *,
    kind: Literal["proper", "improper", "any"] = "proper",
    max_states: int = 6,
    max_actions: int = 3,
    max_successors: int = 3,
    rewards: st.SearchStrategy[float] = _MODEST_REWARDS,
    tiny: float = 1e-3,
    minimize: st.SearchStrategy[bool] = _MAXIMIZE,
) -> MDP:
    """Total-reward problems with at least one terminal state.

    kind: "proper", every policy reaches a terminal state with probability one, so every value is finite;
        "improper", some policies never stop, but one that stops exists, and stages are never rewarding (costs are never
        negative), so the optimum is finite while some policies are worth minus infinity and others loop at no cost;
        "any", no promise: the optimum may be infinite.
    tiny: as in `discounted_mdps`; without discounting, a smaller one makes the optimum as ill-conditioned as you like.
    The rest as in `discounted_mdps`.
    """
    size, sense = _Size(max_states, max_actions, max_successors, tiny), draw(minimize)
    stage = rewards.map(lambda r: abs(r) if sense else -abs(r)) if kind == "improper" else rewards
    descend = {"proper": "every action", "improper": "first action", "any": "no action"}[kind]
    model = draw(_models(size, stage, rewards, min_terminal=1, max_terminal=2, descend=descend))
    return model(TotalReward(sense))


@st.composite
def reachability_mdps(
    draw: st.DrawFn,
    *,
    max_states: int = 6,
    max_actions: int = 3,
    max_successors: int = 3,
    tiny: float = 1e-3,
    minimize: st.SearchStrategy[bool] = _EITHER,
) -> MDP:
    """Greatest or least probability of reaching the goal: reward 0, terminal states worth 1 (label "goal") or 0 (traps).

    End components that avoid all terminal states are common. The rest as in `total_reward_mdps`.
    """
    size = _Size(max_states, max_actions, max_successors, tiny)
    worth = st.sampled_from([1.0, 0.0])
    model = draw(_models(size, st.just(0.0), worth, min_terminal=1, max_terminal=3))(TotalReward(draw(minimize)))
    return model.replace(labels={"goal": model.terminal_value == 1})


@st.composite
def average_reward_mdps(
    draw: st.DrawFn,
    *,
    structure: Literal["unichain", "communicating", "multichain"] = "unichain",
    max_states: int = 5,
    max_actions: int = 3,
    max_successors: int = 3,
    rewards: st.SearchStrategy[float] = _MODEST_REWARDS,
    tiny: float = 1e-3,
    minimize: st.SearchStrategy[bool] = _MAXIMIZE,
) -> MDP:
    """Average-reward problems, periodic ones included.

    structure: "unichain", every policy has one recurrent class; "communicating", each state can be reached from each other
        under some policy; "multichain", no promise.
    The rest as in `total_reward_mdps`.
    """
    size = _Size(max_states, max_actions, max_successors, tiny)
    descend = {"unichain": "every action", "communicating": "round the cycle", "multichain": "no action"}[structure]
    return draw(_models(size, rewards, rewards, descend=descend))(AverageReward(draw(minimize)))


def markov_chains(**settings: Any) -> st.SearchStrategy[MDP]:
    """Discounted problems without choice: `discounted_mdps` with one action a state."""
    return discounted_mdps(max_actions=1, **settings)


def deterministic_mdps(**settings: Any) -> st.SearchStrategy[MDP]:
    """Discounted problems without chance: `discounted_mdps` with one successor a row."""
    return discounted_mdps(max_successors=1, **settings)


@dataclass(frozen=True)
class _Size:
    states: int
    actions: int
    successors: int
    tiny: float


@st.composite
def _models(
    draw: st.DrawFn,
    size: _Size,
    rewards: st.SearchStrategy[float],
    worth: st.SearchStrategy[float],
    *,
    min_terminal: int = 0,
    max_terminal: int = 0,
    descend: str = "no action",
) -> Callable[[Criterion], MDP]:
    n_states = draw(_among(range(max(1, min_terminal), max(size.states, min_terminal) + 1)))
    n_terminal = draw(_among(range(min_terminal, min(n_states, max_terminal) + 1)))
    pairs: list[list[Pair]] = []
    for state in range(n_states):
        count = 0 if state < n_terminal else draw(_among(range(1, size.actions + 1)))
        pairs.append(_actions(draw, state, count, n_states, size, rewards, descend))
    values = [draw(worth) if state < n_terminal else 0.0 for state in range(n_states)]
    order = draw(st.permutations(range(n_states)))
    initial = draw(st.sampled_from([None, np.eye(n_states)[order[-1]], np.full(n_states, 1 / n_states)]))
    return lambda criterion: _assemble(pairs, values, order, initial, criterion)


def _actions(
    draw: st.DrawFn,
    state: int,
    count: int,
    n_states: int,
    size: _Size,
    rewards: st.SearchStrategy[float],
    descend: str,
) -> list[Pair]:
    actions: list[Pair] = []
    for action in range(count):
        if actions and draw(_among(range(6))) == 5:
            actions.append(actions[-1])
            continue
        sure = range(n_states)
        if descend == "round the cycle" and action == 0:
            sure = range((state + 1) % n_states, (state + 1) % n_states + 1)
        elif state > 0 and (descend == "every action" or (descend == "first action" and action == 0)):
            sure = range(state)
        actions.append((draw(rewards), _row(draw, n_states, size, sure)))
    return actions


def _row(draw: st.DrawFn, n_states: int, size: _Size, sure: range) -> Row:
    """One row, with a heavy weight on a successor in `sure`."""
    row = [(draw(_among(sure)), draw(_HEAVY_WEIGHT)), *draw(_entries(n_states, size.successors, size.tiny))]
    total = sum(weight for _, weight in row)
    return [(successor, weight / total) for successor, weight in row]


@functools.lru_cache(maxsize=256)
def _among(numbers: range) -> st.SearchStrategy[int]:
    """Building a strategy costs more than drawing from it, so these are kept."""
    return st.integers(numbers[0], numbers[-1])


@functools.lru_cache(maxsize=256)
def _entries(n_states: int, max_successors: int, tiny: float) -> st.SearchStrategy[Row]:
    entry = st.tuples(_among(range(n_states)), st.sampled_from((*_HEAVY, 0.0, tiny)))
    return st.lists(entry, max_size=max_successors - 1)


def _assemble(
    pairs: list[list[Pair]], values: list[float], order: Sequence[int], initial: np.ndarray | None, criterion: Criterion
) -> MDP:
    """The model in which drawn state s has the number order[s]."""
    drawn = np.argsort(order)
    rows = [pair for state in drawn for pair in pairs[state]]
    entries = [entry for _, row in rows for entry in row]
    return MDP(
        state_ptr=np.cumsum([0, *(len(pairs[state]) for state in drawn)]),
        row_ptr=np.cumsum([0, *(len(row) for _, row in rows)]),
        successor=np.array([order[successor] for successor, _ in entries], dtype=np.int32),
        probability=np.array([probability for _, probability in entries], dtype=np.float64),
        reward=np.array([reward for reward, _ in rows], dtype=np.float64),
        criterion=criterion,
        terminal=np.array([not pairs[state] for state in drawn]),
        terminal_value=np.array([values[state] for state in drawn]),
        initial=initial,
    )
