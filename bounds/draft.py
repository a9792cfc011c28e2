r"""A small model as lists, to be changed here and there: the neighbourhood in which counterexamples are searched and shrunk.

A draft holds for each state its actions, (reward, {successor: probability}), or its value if it is terminal. Changes move
probability between successors by dyadic amounts, so that rows keep summing to one exactly where they did, and take rewards
and discounts from coarse grids first.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from ..mdp.criterion import AverageReward, Criterion, Discounted
from ..mdp.instances.rows import from_lists
from ..mdp.model import MDP

Action = tuple[float, dict[int, float]]
State = list[Action] | float

MAX_ACTIONS = 3

_DISCOUNTS = (0.5, 0.75, 0.875, 0.25, 0.9, 0.95, 0.9375, 0.125)
_REWARDS = (0.0, 1.0, -1.0, 2.0, 0.5, 4.0)


@dataclass(frozen=True)
class Draft:
    """The states of a model and its criterion."""

    states: tuple[State, ...]
    criterion: Criterion

    @classmethod
    def of(cls, model: MDP) -> Draft:
        """The draft of a model; successors that occur twice are added up, those of probability zero left out."""
        states: list[State] = []
        for state in range(model.n_states):
            if model.terminal[state]:
                states.append(float(model.terminal_value[state]))
                continue
            actions: list[Action] = []
            for pair in range(model.state_ptr[state], model.state_ptr[state + 1]):
                row: dict[int, float] = {}
                for entry in range(model.row_ptr[pair], model.row_ptr[pair + 1]):
                    if model.probability[entry] > 0:
                        successor = int(model.successor[entry])
                        row[successor] = row.get(successor, 0.0) + float(model.probability[entry])
                actions.append((float(model.reward[pair]), row))
            states.append(actions)
        return cls(tuple(states), model.criterion)

    def model(self) -> MDP:
        """The model. Raises ModelError when it is none."""
        return from_lists(self.states, self.criterion)

    @property
    def size(self) -> tuple[int, int, int, int]:
        """What shrinking makes smaller, in order: states, actions, transitions, bits of all numbers."""
        rows = [action for state in self.states if isinstance(state, list) for action in state]
        numbers = [p for _, row in rows for p in row.values()] + [reward for reward, _ in rows]
        numbers += [state for state in self.states if isinstance(state, float)] + [getattr(self.criterion, "discount", 0.0)]
        return len(self.states), len(rows), sum(len(row) for _, row in rows), sum(map(bits, numbers))

    def _with(self, state: int, changed: State) -> Draft:
        return dataclasses.replace(self, states=(*self.states[:state], changed, *self.states[state + 1 :]))

    def _with_action(self, state: int, action: int, changed: Action) -> Draft:
        actions = self.states[state]
        assert isinstance(actions, list)
        return self._with(state, [*actions[:action], changed, *actions[action + 1 :]])

    def _acting(self) -> list[tuple[int, int, Action]]:
        """Every (state, action, what it does)."""
        return [(s, a, what) for s, state in enumerate(self.states) if isinstance(state, list) for a, what in enumerate(state)]

    def changed(self, rng: np.random.Generator) -> Draft:
        """A neighbour: one or two numbers or one action changed at random."""
        draft = self
        for _ in range(int(rng.integers(1, 3))):
            acting = draft._acting()
            if not acting:
                return draft
            state, action, what = acting[int(rng.integers(len(acting)))]
            kinds = ["row", "row", "row", "action"]
            if isinstance(draft.criterion, (Discounted, AverageReward)):
                kinds += ["reward", "reward", "reward"]
            if isinstance(draft.criterion, Discounted):
                kinds += ["discount"]
            kind = kinds[int(rng.integers(len(kinds)))]
            if kind == "row":
                row = _moved(what[1], len(draft.states), rng)
                draft = draft._with_action(state, action, (what[0], row))
            elif kind == "reward":
                draft = draft._with_action(state, action, (_reward(what[0], rng), what[1]))
            elif kind == "discount":
                draft = dataclasses.replace(draft, criterion=_discount(draft.criterion, rng))
            else:
                draft = draft._with_one_action_more_or_less(state, action, rng)
        return draft

    def _with_one_action_more_or_less(self, state: int, action: int, rng: np.random.Generator) -> Draft:
        actions = self.states[state]
        assert isinstance(actions, list)
        if len(actions) >= MAX_ACTIONS or (len(actions) > 1 and rng.random() < 0.5):
            return self._with(state, [*actions[:action], *actions[action + 1 :]]) if len(actions) > 1 else self
        other = self._acting()[int(rng.integers(len(self._acting())))][2]
        return self._with(state, [*actions, (other[0], dict(other[1]))])

    def simpler(self) -> Iterator[Draft]:
        """Drafts of smaller `size`, the boldest first."""
        yield from self._without_a_state()
        for state, action, (reward, row) in self._acting():
            actions = self.states[state]
            if isinstance(actions, list) and len(actions) > 1:
                yield self._with(state, [*actions[:action], *actions[action + 1 :]])
            if len(row) > 1:
                for successor in row:
                    yield self._with_action(state, action, (reward, {successor: 1.0}))
                for parts in (2, 4, 8):
                    yield self._with_action(state, action, (reward, _rounded(row, parts)))
            for simple in (0.0, 1.0, -1.0, float(round(reward)), round(2 * reward) / 2, round(8 * reward) / 8):
                yield self._with_action(state, action, (simple, row))
        for state, value in enumerate(self.states):
            if isinstance(value, float):
                yield from (self._with(state, simple) for simple in (0.0, 1.0))
        if isinstance(self.criterion, Discounted):
            for discount in _DISCOUNTS:
                yield dataclasses.replace(self, criterion=Discounted(discount, self.criterion.minimize))

    def _without_a_state(self) -> Iterator[Draft]:
        """Each state removed, what led to it leading to each other state instead."""
        for gone in range(len(self.states)):
            for heir in range(len(self.states)):
                if heir == gone:
                    continue
                states: list[State] = []
                for state in (state for s, state in enumerate(self.states) if s != gone):
                    states.append(
                        state if isinstance(state, float) else [(r, _redirected(row, gone, heir)) for r, row in state]  # pyright: ignore[reportGeneralTypeIssues, reportAttributeAccessIssue]
                    )
                yield dataclasses.replace(self, states=tuple(states))

    def __str__(self) -> str:
        lines = [str(self.criterion)]
        for s, state in enumerate(self.states):
            if isinstance(state, float):
                lines.append(f"state {s}: terminal, worth {number(state)}")
                continue
            for a, (reward, row) in enumerate(state):  # pyright: ignore[reportArgumentType]
                to = ", ".join(f"{j} with {number(p)}" if p != 1 else str(j) for j, p in row.items())
                lines.append(f"state {s}, action {a}: reward {number(reward)}, to {to}")
        return "\n".join(lines)


def number(value: float) -> str:
    """A float as a short fraction where it is the nearest float to one, else as it prints."""
    near = Fraction(value).limit_denominator(64)
    return str(near) if float(near) == value else repr(value)


def bits(value: float) -> int:
    """How much there is to read in a number: bits of its numerator and denominator, and its sign."""
    top, bottom = float(value).as_integer_ratio()
    return abs(top).bit_length() + bottom.bit_length() + (value < 0)


def _moved(row: dict[int, float], n_states: int, rng: np.random.Generator) -> dict[int, float]:
    """Some probability moved from one successor to another, or all of it."""
    giver = list(row)[int(rng.integers(len(row)))]
    taker = int(rng.integers(n_states))
    amount = row[giver] if rng.random() < 0.3 else min(row[giver], 2.0 ** -int(rng.integers(1, 7)))
    changed = dict(row)
    changed[giver] -= amount
    changed[taker] = changed.get(taker, 0.0) + amount
    return {successor: p for successor, p in sorted(changed.items()) if p > 0}


def _reward(reward: float, rng: np.random.Generator) -> float:
    if rng.random() < 0.4:
        return _REWARDS[int(rng.integers(len(_REWARDS)))]
    if rng.random() < 0.3:
        return reward * (2.0 if rng.random() < 0.5 else 0.5)
    return reward + float(rng.choice((1.0, -1.0))) * 2.0 ** -int(rng.integers(0, 7))


def _discount(criterion: Criterion, rng: np.random.Generator) -> Discounted:
    assert isinstance(criterion, Discounted)
    discount = _DISCOUNTS[int(rng.integers(len(_DISCOUNTS)))]
    if rng.random() < 0.3:
        discount = criterion.discount + (0.96875 - criterion.discount) / 2
    return Discounted(round(discount * 1024) / 1024 if discount not in _DISCOUNTS else discount, criterion.minimize)


def _rounded(row: dict[int, float], parts: int) -> dict[int, float]:
    """The row in multiples of 1/parts, the largest entry taking what is over."""
    rounded = {successor: round(p * parts) / parts for successor, p in row.items()}
    heaviest = max(row, key=lambda successor: row[successor])
    rounded[heaviest] = max(0.0, rounded[heaviest] + 1.0 - sum(rounded.values()))
    return {successor: p for successor, p in rounded.items() if p > 0}


def _redirected(row: dict[int, float], gone: int, heir: int) -> dict[int, float]:
    changed: dict[int, float] = {}
    for successor, p in row.items():
        to = heir if successor == gone else successor
        to -= to > gone
        changed[to] = changed.get(to, 0.0) + p
    return changed
