r"""Tasks whose rewards are collected into a stock, n processes at once; and tabular problems over a horizon as such tasks.

    c_{t+1} = (c_t + r_{t+1}) / g,      so that  c_0 + G_0 = g^t (c_t + G_t)

for the return G_t that is still to come. The stock is not the task's: it moves alike in all of them.

Avila Pires, Rowland, Borsa, Guo, Khetarpal, Barreto, Abel, Munos and Dabney 2025, arXiv 2501.13028.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from ...mdp.law import Law
from ...mdp.model import MDP
from ...mdp.outcome import OutcomeMDP, as_outcomes
from ..errors import SolveError
from ..stock_tree import Node, StockTree


class StockTask(Protocol):
    """What learning with a stock knows of a task.

    state_size, n_actions: numbers of a state, and of actions. discount: g, in (0, 1].
    """

    @property
    def state_size(self) -> int:
        """Numbers of a state."""
        ...

    @property
    def n_actions(self) -> int:
        """Actions, the same in every state."""
        ...

    @property
    def discount(self) -> float:
        """g, in (0, 1]."""
        ...

    def start(self, n: int, generator: torch.Generator) -> Tensor:
        """First states, (n, state_size)."""
        ...

    def step(self, state_NS: Tensor, action_N: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Next states (n, state_size), rewards (n,), and whether the process has ended, bool (n,)."""
        ...


@dataclass(frozen=True, eq=False)
class OutcomeTask:
    """A tabular problem over a horizon: a state is one number for each tabular state, 1 where it is, and the share of decisions
    left. Terminal values are earned, discounted once, with the last reward.

    problem: with as many actions in every state that is not terminal. first: where processes start.
    Raises SolveError for another problem or first state.
    """

    problem: MDP | OutcomeMDP
    first: int = 0

    def __post_init__(self) -> None:
        model = self.model
        if not model.horizon:
            raise SolveError("the problem has no decisions over a horizon; give one with criterion FiniteHorizon(H), H >= 1")
        if not 0 <= self.first < model.n_states or model.problem.terminal[self.first]:
            raise SolveError(f"processes cannot start in state {self.first}; give one of {model.n_states} that is not terminal")
        counts = np.diff(model.problem.state_ptr)[~model.problem.terminal]
        if counts.min() != counts.max():
            raise SolveError(f"states have {counts.min()} to {counts.max()} actions; give each that is not terminal as many")

    @cached_property
    def model(self) -> OutcomeMDP:
        """The problem with a reward for each transition."""
        return as_outcomes(self.problem)

    @property
    def state_size(self) -> int:
        """One for each tabular state, and the share of decisions left."""
        return self.model.n_states + 1

    @property
    def n_actions(self) -> int:
        """Actions of a state."""
        return len(self.model.actions(self.first))

    @property
    def discount(self) -> float:
        """The problem's."""
        return self.model.discount

    @property
    def horizon(self) -> int:
        """Decisions, at least one."""
        return self.model.horizon or 0

    def states(self, state_N: Tensor, left: int | Tensor) -> Tensor:
        """The task's states, (n, state_size), in tabular states int64 (n,) with `left` decisions left, one number or (n,)."""
        found = torch.zeros(len(state_N), self.state_size)
        found[torch.arange(len(state_N)), state_N] = 1.0
        found[:, -1] = torch.as_tensor(left) / self.horizon
        return found

    def start(self, n: int, generator: torch.Generator) -> Tensor:
        """First states, (n, state_size)."""
        return self.states(torch.full((n,), self.first), self.horizon)

    def step(self, state_NS: Tensor, action_N: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Next states (n, state_size), rewards (n,), and whether the process has ended, bool (n,); actions int64 (n,)."""
        levels_SAE, successor_SAE, reward_SAE, terminal_S, worth_S = self._tables
        state_N, left_N = state_NS[:, :-1].argmax(dim=1), (state_NS[:, -1] * self.horizon).round() - 1
        draw_N = torch.rand(len(state_N), generator=generator, dtype=torch.float64)
        entry_N = (draw_N[:, None] >= levels_SAE[state_N, action_N]).sum(dim=1)
        following_N, reward_N = successor_SAE[state_N, action_N, entry_N], reward_SAE[state_N, action_N, entry_N]
        ended_N = terminal_S[following_N] | (left_N == 0)
        reward_N = reward_N + torch.where(ended_N, self.discount * worth_S[following_N], 0.0)
        return self.states(following_N, left_N), reward_N, ended_N

    @cached_property
    def _tables(self) -> tuple[Tensor, ...]:
        """Levels of outcomes, the last above any draw, successors and rewards, (n_states, n_actions, most outcomes)."""
        model = self.model
        rows = [[model.outcomes(s, a) for a in model.actions(s)] for s in range(model.n_states)]
        most = max(len(row) for actions in rows for row in actions)
        levels = torch.full((model.n_states, self.n_actions, most), 2.0, dtype=torch.float64)
        successor, reward = torch.zeros(levels.shape, dtype=torch.int64), torch.zeros(levels.shape)
        for s, actions in enumerate(rows):
            for a, row in enumerate(actions):
                passed = np.cumsum([float(p) for p, _, _ in row])[:-1]
                levels[s, a, : len(row) - 1] = torch.from_numpy(passed)
                successor[s, a, : len(row)] = torch.tensor([j for _, _, j in row])
                reward[s, a, : len(row)] = torch.tensor([float(r) for _, r, _ in row])
        worth = torch.tensor(model.problem.terminal_value, dtype=torch.float32)
        return levels, successor, reward, torch.tensor(model.problem.terminal), worth


class StockPolicy(Protocol):
    """Acts on n processes at once, knowing their stocks."""

    def act(self, state_NS: Tensor, stock_N: Tensor) -> Tensor:
        """Actions, int64 (n,), in states (n, state_size) with stocks (n,)."""
        ...


def exact_law(task: OutcomeTask, policy: StockPolicy, stock: float) -> Law:
    """The exact law of the return of a policy from the task's first state with a stock; it acts once at every node of the tree.

    Raises SolveError where more than 200,000 stocks can be reached.
    """
    tree = StockTree.of(task.model, task.first)
    chosen: dict[tuple[int, Node], int] = {}
    for stage, layer in enumerate(tree.layers):
        nodes = [node for node, actions in layer.items() if actions]
        if nodes:
            states = task.states(torch.tensor([s for s, _ in nodes]), task.horizon - stage)
            held = torch.tensor([float((Fraction(stock) + earned) / tree.scale(stage)) for _, earned in nodes])
            actions = policy.act(states, held).tolist()
            chosen.update(((stage, node), action) for node, action in zip(nodes, actions, strict=True))
    found = tree.law(chosen)
    return Law.of(list(found), list(found.values()), exact=True)
