r"""Off-policy learning with an entropy bonus for discrete actions, beside it the plain value of what was learned, and a model.

Three heads learn from the same replay by Adam; of the first two there are two each, of which the lesser is believed:

    regularised critic    Q'(s, a)  <-  r + g V'(s'),   V'(s) = t log sum_a exp(Q'(s, a) / t),     pi(a | s) ~ exp(Q'(s, a) / t)
    plain critic          Q(s, a)   <-  r + g sum_a' pi(a' | s') Q(s', a')
    predictor             That(s, a) ~ s', the least sum of absolute differences

Q' holds entropy in units that depend on the model, so that critics of different models are compared by Q alone. Targets follow
by Polyak averages; an end of the process is worth nothing beyond, the horizon is no end. Gradients are clipped in norm.

Haarnoja, Tang, Abbeel and Levine 2017 (arXiv:1702.08165, soft Q-learning); Haarnoja et al. 2018 (arXiv:1801.01290);
Christodoulou 2019 (arXiv:1910.07207, discrete actions); Zouitine, Geist and Rachelson 2024 (arXiv:2410.06212, the three heads).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .task import Task

Draw = Callable[[int, torch.Generator], Tensor]
"""Parameters (n, n_parameters) of n fresh processes."""


def at(parameters_P: Tensor) -> Draw:
    """Always the same parameters, (n_parameters,)."""
    return lambda n, _: parameters_P.expand(n, -1)


def anywhere(task: Task) -> Draw:
    """Uniform on the box of a task: domain randomisation."""
    return lambda n, generator: task.low + torch.rand(n, len(task.low), generator=generator) * (task.high - task.low)


class Layers(nn.Module):
    """`copies` networks of two hidden layers of size `hidden` side by side, uniform to 1/sqrt(inputs of a layer) at first."""

    def __init__(self, copies: int, inputs: int, hidden: int, outputs: int, generator: torch.Generator) -> None:
        super().__init__()
        sizes = (inputs, hidden, hidden, outputs)
        self.weights, self.biases = nn.ParameterList(), nn.ParameterList()
        for n, m in itertools.pairwise(sizes):
            reach = 1 / math.sqrt(n)
            self.weights.append(nn.Parameter(reach * (2 * torch.rand(copies, n, m, generator=generator) - 1)))
            self.biases.append(nn.Parameter(reach * (2 * torch.rand(copies, 1, m, generator=generator) - 1)))

    def forward(self, x_NI: Tensor) -> Tensor:
        """Outputs (copies, n, outputs) for inputs (n, inputs)."""
        x_CNI = x_NI.expand(self.weights[0].shape[0], *x_NI.shape)
        for i, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            x_CNI = torch.baddbmm(bias, x_CNI, weight)
            if i + 1 < len(self.weights):
                x_CNI = torch.relu(x_CNI)
        return x_CNI


@dataclass(frozen=True)
class Agent:
    """What was learned of one model, or of a distribution of models."""

    scale: Tensor
    temperature: float
    soft: Layers
    plain: Layers
    predictor: Layers

    def act(self, state_NS: Tensor, before: tuple[Tensor, Tensor] | None = None) -> Tensor:
        """The most probable actions, int64 (n,), of states (n, state_size)."""
        return self.soft_values(state_NS).argmax(dim=1)

    def soft_values(self, state_NS: Tensor) -> Tensor:
        """Q' of every action, the lesser of two critics, (n, n_actions); states (n, state_size)."""
        return self.soft(state_NS / self.scale).amin(dim=0)

    def probabilities(self, state_NS: Tensor) -> Tensor:
        """pi, (n, n_actions), at states (n, state_size)."""
        return torch.softmax(self.soft_values(state_NS) / self.temperature, dim=1)

    def values(self, state_NS: Tensor) -> Tensor:
        """Q without entropy of every action, the lesser of two critics, (n, n_actions); states (n, state_size)."""
        return self.plain(state_NS / self.scale).amin(dim=0)

    def predicted(self, state_NS: Tensor, action_N: Tensor) -> Tensor:
        """Next states, (n, state_size), after actions (n,) in states (n, state_size)."""
        n, size = state_NS.shape
        moves = self.predictor(state_NS / self.scale)[0].reshape(n, -1, size)
        return state_NS + self.scale * moves[torch.arange(n), action_N]


@dataclass(frozen=True)
class SoftLearning:
    """Settings of the learner.

    steps: of all processes together, each followed by one update. processes: run at once. batch, memory: transitions.
    warm_up: first steps with random actions. temperature: t > 0, in units of reward. rate: of Adam. polyak: share that targets
    keep. hidden: units of each of two layers. clip: largest norm of a gradient.
    """

    steps: int = 3_000
    processes: int = 32
    batch: int = 256
    memory: int = 50_000
    warm_up: int = 100
    temperature: float = 0.2
    rate: float = 1e-3
    polyak: float = 0.99
    hidden: int = 64
    clip: float = 10.0

    def run(self, task: Task, draw: Draw, generator: torch.Generator) -> Agent:
        """An agent for processes whose parameters `draw` draws anew at every start."""
        layers = [
            Layers(copies, task.state_size, self.hidden, outputs, generator)
            for copies, outputs in ((2, task.n_actions), (2, task.n_actions), (1, task.n_actions * task.state_size))
        ]
        agent = Agent(task.scale, self.temperature, *layers)
        targets = [Layers(2, task.state_size, self.hidden, task.n_actions, generator) for _ in range(2)]
        for target, source in zip(targets, layers, strict=False):
            target.load_state_dict(source.state_dict())
        target = Agent(task.scale, self.temperature, targets[0], targets[1], layers[2])
        optimiser = torch.optim.Adam([{"params": list(one.parameters())} for one in layers], lr=self.rate, eps=1e-5, fused=True)
        experience = _Experience(self, task, draw, generator)
        for step in range(self.steps):
            experience.collect(agent, random=step < self.warm_up)
            if step >= self.warm_up:
                self._update(task, agent, target, optimiser, experience.sample())
        return agent

    def _update(self, task: Task, agent: Agent, target: Agent, optimiser: torch.optim.Adam, batch: tuple[Tensor, ...]) -> None:
        state, action, reward, following, ended = batch
        goes_on = task.discount * (1.0 - ended)
        with torch.no_grad():
            soft = target.soft_values(following)
            goal_soft = reward + goes_on * self.temperature * torch.logsumexp(soft / self.temperature, dim=1)
            goal = reward + goes_on * (agent.probabilities(following) * target.values(following)).sum(dim=1)
        rows = torch.arange(len(action))
        scaled = state / task.scale
        losses = (
            ((agent.soft(scaled)[:, rows, action] - goal_soft) ** 2).mean()
            + ((agent.plain(scaled)[:, rows, action] - goal) ** 2).mean()
            + ((agent.predicted(state, action) - following) / task.scale).abs().sum(dim=1).mean()
        )
        optimiser.zero_grad(set_to_none=True)
        losses.backward()  # the heads share no weights
        for head in optimiser.param_groups:
            torch.nn.utils.clip_grad_norm_(head["params"], self.clip)
        optimiser.step()
        with torch.no_grad():
            for kept, source in ((target.soft, agent.soft), (target.plain, agent.plain)):
                for old, new in zip(kept.parameters(), source.parameters(), strict=True):
                    old.lerp_(new, 1 - self.polyak)


class _Experience:
    """Running processes and what they went through, the latest `memory` transitions."""

    def __init__(self, settings: SoftLearning, task: Task, draw: Draw, generator: torch.Generator) -> None:
        self.settings, self.task, self.draw, self.generator = settings, task, draw, generator
        n, size = settings.processes, settings.memory
        self.parameters, self.state = draw(n, generator), task.start(n, generator)
        self.age = torch.randint(task.horizon, (n,), generator=generator)
        self.kept = (
            torch.zeros(size, task.state_size), torch.zeros(size, dtype=torch.int64), torch.zeros(size),
            torch.zeros(size, task.state_size), torch.zeros(size),
        )  # fmt: skip
        self.count = 0

    @torch.no_grad()
    def collect(self, agent: Agent, random: bool) -> None:
        """One step of every process."""
        n = len(self.state)
        if random:
            action = torch.randint(self.task.n_actions, (n,), generator=self.generator)
        else:
            action = torch.multinomial(agent.probabilities(self.state), 1, generator=self.generator)[:, 0]
        following, reward, ended = self.task.step(self.state, action, self.parameters)
        place = torch.arange(self.count, self.count + n) % self.settings.memory
        for store, news in zip(self.kept, (self.state, action, reward, following, ended.to(reward.dtype)), strict=True):
            store[place] = news
        self.count += n
        self.age += 1
        anew = ended | (self.age >= self.task.horizon)
        self.state = torch.where(anew[:, None], self.task.start(n, self.generator), following)
        self.parameters = torch.where(anew[:, None], self.draw(n, self.generator), self.parameters)
        self.age = torch.where(anew, 0, self.age)

    def sample(self) -> tuple[Tensor, ...]:
        """A batch of states, actions, rewards, next states, ends."""
        size = min(self.count, self.settings.memory)
        chosen = torch.randint(size, (self.settings.batch,), generator=self.generator)
        return tuple(store[chosen] for store in self.kept)
