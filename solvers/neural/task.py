r"""Control tasks with physical parameters, many at once: n processes, each with parameters of its own.

    s_{t+1} = f(s_t, a_t; psi),      return = sum_t r(s_t, a_t)      until the process has ended or the horizon is reached.

psi lies in a box; nature picks it once, for the whole process, so that these sets are not rectangular.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor


class Task(Protocol):
    """What a method knows of a task: sizes, the box of its parameters, and one step of n processes at once.

    state_size, n_actions: numbers of a state, and of actions. horizon: steps of an episode. discount: in (0, 1), of learning.
    scale: (state_size,), the size of each number of a state. low, high, reference: (n_parameters,), the box and the usual psi.
    """

    state_size: int
    n_actions: int
    horizon: int
    discount: float
    scale: Tensor
    low: Tensor
    high: Tensor
    reference: Tensor

    def start(self, n: int, generator: torch.Generator) -> Tensor:
        """First states, (n, state_size)."""
        ...

    def step(self, state_NS: Tensor, action_N: Tensor, parameters_NP: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Next states (n, state_size), rewards (n,), and whether the process has ended, bool (n,)."""
        ...


class Policy(Protocol):
    """Acts on n processes at once; it may look at the step that led here."""

    def act(self, state_NS: Tensor, before: tuple[Tensor, Tensor] | None) -> Tensor:
        """Actions, int64 (n,). before: the states (n, state_size) and actions (n,) of the step before, None at the start."""
        ...


@torch.no_grad()
def returns(task: Task, policy: Policy, parameters_NP: Tensor, state_NS: Tensor) -> Tensor:
    """Undiscounted returns, (n,), of one episode for each row of parameters, from first states (n, state_size)."""
    state = state_NS
    total, running = torch.zeros(len(state)), torch.ones(len(state), dtype=torch.bool)
    before = None
    for _ in range(task.horizon):
        action = policy.act(state, before)
        following, reward, ended = task.step(state, action, parameters_NP)
        total += torch.where(running, reward, 0.0)
        running &= ~ended
        if not running.any():
            break
        before, state = (state, action), following
    return total
