r"""Quantile regression with a stock: the deep form of stock-augmented distributional dynamic programming.

A network theta takes a state and a stock c and gives, of every action, m equally likely numbers theta_1..theta_m for the return
G that is still to come. For a utility f of degree one,

    a*(s, c) = argmax_a 1/m sum_j f(c + theta_j(s, c, a)),        ties to the larger mean, then to the first action,
    goal_j   = r + g theta'_j(s', c', a*(s', c')),   c' = (c + r)/g,     r alone where the process has ended,
    loss     = mean over j of sum_i |u_i - 1[d < 0]| huber(d),   d = goal_j - theta_i,   u_i = (2i - 1)/(2m),

theta' a Polyak average of theta. What a transition (s, a, r, s') teaches does not depend on the stock at which it was made, so
that each is learned from at its own stock and at `edits` others, those of other transitions.

Nothing is proved here: `banach.solvers.stock_lattice` has the proofs for tabular problems.

Avila Pires, Rowland, Borsa, Guo, Khetarpal, Barreto, Abel, Munos and Dabney 2025, arXiv 2501.13028; Dabney, Rowland, Bellemare
and Munos 2018, arXiv 1710.10044 (quantile regression). Layers, rates and numbers of quantiles are our own.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ...mdp.law_functional import TwoSlopes
from ..errors import SolveError
from ..stock import require_conditions
from .soft_learning import Layers
from .stock_task import StockTask


@dataclass(frozen=True, eq=False)
class StockAgent:
    """What was learned. utility: f. unit: of stocks, as the network sees them. n_actions: of every state."""

    utility: TwoSlopes
    unit: float
    n_actions: int
    network: Layers

    def returns(self, state_NS: Tensor, stock_N: Tensor) -> Tensor:
        """The numbers theta, (n, n_actions, m), of states (n, state_size) and stocks (n,)."""
        seen = torch.cat([state_NS, stock_N[:, None] / self.unit], dim=1)
        return self.network(seen)[0].unflatten(1, (self.n_actions, -1))

    @torch.no_grad()
    def worth(self, state_NS: Tensor, stock_N: Tensor) -> Tensor:
        """Estimated E f(c + G) of every action, (n, n_actions), of states (n, state_size) and stocks (n,)."""
        return self._utility(stock_N[:, None, None] + self.returns(state_NS, stock_N))

    @torch.no_grad()
    def act(self, state_NS: Tensor, stock_N: Tensor) -> Tensor:
        """Greedy actions, int64 (n,), of states (n, state_size) and stocks (n,)."""
        return self.greedy(self.returns(state_NS, stock_N), stock_N)

    def greedy(self, returns_NAM: Tensor, stock_N: Tensor) -> Tensor:
        """Greedy actions, int64 (n,), where returns are (n, n_actions, m) and stocks (n,)."""
        worth_NA = self._utility(stock_N[:, None, None] + returns_NAM)
        best_NA = worth_NA >= worth_NA.amax(dim=1, keepdim=True)
        return torch.where(best_NA, returns_NAM.mean(dim=2), -torch.inf).argmax(dim=1)

    def _utility(self, x_NAM: Tensor) -> Tensor:
        return torch.where(x_NAM >= 0, self.utility.positive * x_NAM, self.utility.negative * x_NAM).mean(dim=2)


@dataclass(frozen=True)
class StockQuantileLearning:
    """Settings of the learner.

    steps: of all processes together, each followed by one update. processes: run at once. batch, memory: transitions. edits:
    further stocks at which a transition is learned from. quantiles: m. warm_up: first steps with random actions and no
    updates. explore: share of random actions, from the first, after half of the steps at the second. rate: of Adam, which
    falls to a tenth. polyak: share that the target keeps. hidden: units of each of two layers. huber: where the loss turns
    linear, in units of reward. unit: of stocks, as the network sees them. clip: largest norm of a gradient.
    """

    steps: int = 10_000
    processes: int = 16
    batch: int = 64
    memory: int = 50_000
    edits: int = 7
    quantiles: int = 32
    warm_up: int = 200
    explore: tuple[float, float] = (1.0, 0.1)
    rate: float = 1e-3
    polyak: float = 0.99
    hidden: int = 128
    huber: float = 0.1
    unit: float = 1.0
    clip: float = 10.0

    def run(self, task: StockTask, utility: TwoSlopes, stock_K: Tensor, generator: torch.Generator) -> StockAgent:
        """An agent for processes that start with one of the stocks (k,), drawn anew each time.

        Raises SolveError for a utility that is not of two slopes, or no finite stocks.
        """
        if not isinstance(utility, TwoSlopes):
            raise SolveError(f"{utility} is not of two slopes; learning takes utilities of degree one, such as TARGET")
        require_conditions(utility, task.discount)
        if stock_K.ndim != 1 or not len(stock_K) or not bool(stock_K.isfinite().all()):
            raise SolveError(f"stocks of shape {tuple(stock_K.shape)}; give finite numbers, (k,), at least one")
        agent, target = (self._agent(task, utility, generator) for _ in range(2))
        target.network.load_state_dict(agent.network.state_dict())
        optimiser = torch.optim.Adam(agent.network.parameters(), lr=self.rate, eps=1e-5, fused=True)
        experience = _Experience(self, task, stock_K, generator)
        for step in range(self.steps):
            done = step / self.steps
            share = self.explore[0] + min(2 * done, 1.0) * (self.explore[1] - self.explore[0])
            experience.collect(agent, 1.0 if step < self.warm_up else share)
            if step >= self.warm_up:
                optimiser.param_groups[0]["lr"] = self.rate * 0.1**done
                self._update(task.discount, agent, target, optimiser, experience.sample())
        return agent

    def _agent(self, task: StockTask, utility: TwoSlopes, generator: torch.Generator) -> StockAgent:
        network = Layers(1, task.state_size + 1, self.hidden, task.n_actions * self.quantiles, generator)
        return StockAgent(utility, self.unit, task.n_actions, network)

    def _update(
        self, discount: float, agent: StockAgent, target: StockAgent, optimiser: torch.optim.Adam, batch: tuple[Tensor, ...]
    ) -> None:
        state, stock, action, reward, following, ended = batch
        rows = torch.arange(len(action))
        with torch.no_grad():
            after = (stock + reward) / discount
            ahead = target.returns(following, after)
            ahead = ahead[rows, target.greedy(ahead, after)]
            goal = reward[:, None] + discount * (1.0 - ended)[:, None] * ahead
        loss = quantile_loss(agent.returns(state, stock)[rows, action], goal, self.huber).mean()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(agent.network.parameters(), self.clip)
        optimiser.step()
        with torch.no_grad():
            for old, new in zip(target.network.parameters(), agent.network.parameters(), strict=True):
                old.lerp_(new, 1 - self.polyak)


def quantile_loss(found_NM: Tensor, goal_NJ: Tensor, huber: float) -> Tensor:
    """The quantile Huber loss, (n,), of m numbers (n, m) for a law of j equally likely goals (n, j), over `huber` > 0.

    Dabney, Rowland, Bellemare and Munos 2018, arXiv 1710.10044, equation 10, divided by `huber`: |d| in the limit of 0.
    """
    m = found_NM.shape[1]
    level_M = (2 * torch.arange(m) + 1) / (2 * m)
    off_NMJ = goal_NJ[:, None, :] - found_NM[:, :, None]
    size_NMJ = off_NMJ.abs()
    huber_NMJ = torch.where(size_NMJ <= huber, off_NMJ * off_NMJ / (2 * huber), size_NMJ - huber / 2)
    return ((level_M[:, None] - (off_NMJ < 0).float()).abs() * huber_NMJ).mean(dim=2).sum(dim=1)


class _Experience:
    """Running processes and what they went through, the latest `memory` transitions."""

    def __init__(self, settings: StockQuantileLearning, task: StockTask, stock_K: Tensor, generator: torch.Generator) -> None:
        self.settings, self.task, self.stocks, self.generator = settings, task, stock_K, generator
        n, size = settings.processes, settings.memory
        self.state, self.stock = task.start(n, generator), self._first(n)
        self.kept = (
            torch.zeros(size, task.state_size), torch.zeros(size), torch.zeros(size, dtype=torch.int64), torch.zeros(size),
            torch.zeros(size, task.state_size), torch.zeros(size),
        )  # fmt: skip
        self.count = 0

    def _first(self, n: int) -> Tensor:
        return self.stocks[torch.randint(len(self.stocks), (n,), generator=self.generator)].float()

    @torch.no_grad()
    def collect(self, agent: StockAgent, share: float) -> None:
        """One step of every process, a share of them at random."""
        n = len(self.state)
        random = torch.randint(self.task.n_actions, (n,), generator=self.generator)
        strays = torch.rand(n, generator=self.generator) < share
        action = torch.where(strays, random, agent.act(self.state, self.stock))
        following, reward, ended = self.task.step(self.state, action, self.generator)
        place = torch.arange(self.count, self.count + n) % self.settings.memory
        news = (self.state, self.stock, action, reward, following, ended.float())
        for store, new in zip(self.kept, news, strict=True):
            store[place] = new
        self.count += n
        self.state = torch.where(ended[:, None], self.task.start(n, self.generator), following)
        self.stock = torch.where(ended, self._first(n), (self.stock + reward) / self.task.discount)

    def sample(self) -> tuple[Tensor, ...]:
        """States, stocks, actions, rewards, next states, ends: each transition at its own stock, then at others'."""
        size, batch = min(self.count, self.settings.memory), self.settings.batch
        chosen = torch.randint(size, (batch,), generator=self.generator).repeat(1 + self.settings.edits)
        others = torch.randint(size, (batch * self.settings.edits,), generator=self.generator)
        state, stock, *rest = (store[chosen] for store in self.kept)
        stock = torch.cat([stock[:batch], self.kept[1][others]])
        return state, stock, *rest
