r"""Conservative Q-learning on observation histories, with a bisimulation loss on what the encoder makes of them.

A gated recurrent unit reads (a_{h-1}, o_h); phi_h = phi(t_h) is linear in its memory, and heads on phi predict

    Q(phi, a)          conservative Q-learning: (Q(phi_h, a_h) - r_h - max_a Q'(phi'_{h+1}, a))^2
                       + alpha (log sum_a exp Q(phi_h, a) - Q(phi_h, a_h)),    primes: Polyak averages, 0 at the end
    m, s of (phi, a)   the next phi, a diagonal Gaussian, by likelihood of phi_{h+1} without its gradient
    rho(phi, a)        the reward, by squared error

and pairs of histories x, y of one decision h, each with its logged action, or `matched`: those of equal logged action, pay

    L = ( |phi_x - phi_y|_1 - |r_x - r_y| - g W )^2,      W^2 = |m_x - m_y|^2 + |s_x - s_y|^2,

g the discount, r and W without gradients, W = 0 at the last decision: W is the distance W_2 of the two Gaussians. Unmatched, it
is the on-policy metric of the logged actions: histories whose actions are worth the same on the average of those are pulled
together, although what is best in them may differ, as behind the cues of a T-maze that was logged by a policy that does not
heed them. Matched, histories are told apart that some logged action tells apart. L = 0 can be out of reach although phi is
good: not every finite metric is one of differences of vectors.

Measured on a T-maze (five seeds, success where chance is 0.5 and 1 is optimal): with 16 logged episodes 0.64 without the loss,
0.90 with matched pairs and weight 0.1, 0.75 unmatched; with 64 and 256 all are 1, but that weight 1 spoils 256 (0.63), where L
is large too. Without weight L measures the scale of phi and nothing else. This was the third design that was tried on such
data, so the gain is exploratory: with phi the unit's own memory and 300 steps the loss took success to about chance at every
size, and with phi linear in it and 300 steps it still hurt at 16 and 64 episodes.

Hong, Dragan and Levine, ICLR 2024 (arXiv:2310.20663), the loss on histories; Zhang, McAllister, Calandra, Gal and Levine, ICLR
2021 (arXiv:2006.10742), its form; Kumar, Zhou, Tucker and Levine 2020 (arXiv:2006.04779), conservative Q-learning.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss, one_hot, softplus

from ...mdp.pomdp import Act, Episodes
from ..errors import SolveError

_FLOOR = 1e-4
"""Least standard deviation of the latent model."""


class HistoryNetwork(nn.Module):
    """Encoder and heads; sizes of observations, actions, and of phi."""

    def __init__(self, n_observations: int, n_actions: int, latent: int, generator: torch.Generator) -> None:
        super().__init__()
        self.n_observations, self.n_actions = n_observations, n_actions
        self.unit = nn.GRU(n_observations + n_actions, latent, batch_first=True)
        self.representation = nn.Linear(latent, latent)
        self.values = nn.Linear(latent, n_actions)
        self.model = nn.Sequential(nn.Linear(latent + n_actions, latent), nn.ReLU(), nn.Linear(latent, 2 * latent + 1))
        for parameter in self.parameters():
            reach = 1 / math.sqrt(latent)
            parameter.data = reach * (2 * torch.rand(parameter.shape, generator=generator) - 1)

    def forward(self, seen_NH: Tensor, done_NH: Tensor) -> Tensor:
        """phi of every prefix, (n, h, latent), of observations int64 (n, h) and the actions between them, (n, h - 1)."""
        before_NHA = one_hot(done_NH, self.n_actions).float()
        before_NHA = torch.cat([torch.zeros(len(seen_NH), 1, self.n_actions), before_NHA], dim=1)
        inputs = torch.cat([one_hot(seen_NH, self.n_observations).float(), before_NHA], dim=2)
        return self.representation(self.unit(inputs)[0])

    def predicted(self, phi: Tensor, action: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Mean and deviation of the next phi, (..., latent), and the reward, (...), after actions of shape (...)."""
        out = self.model(torch.cat([phi, one_hot(action, self.n_actions).float()], dim=-1))
        mean, spread = out[..., :-1].chunk(2, dim=-1)
        return mean, softplus(spread) + _FLOOR, out[..., -1]


def bisimulation_loss(
    phi: tuple[Tensor, Tensor],
    reward: tuple[Tensor, Tensor],
    mean: tuple[Tensor, Tensor],
    deviation: tuple[Tensor, Tensor],
    discount: Tensor | float,
) -> Tensor:
    """Mean of L over pairs, see the head of the module: of phi, means and deviations (..., latent) and rewards (...) of both.

    discount: in [0, 1], or one a pair, of shape (...). Gradients go to phi only.
    """
    far = ((mean[0] - mean[1]).square().sum(-1) + (deviation[0] - deviation[1]).square().sum(-1)).sqrt()
    target = (reward[0] - reward[1]).abs() + discount * far
    off = (phi[0] - phi[1]).abs().sum(-1) - target.detach()
    return off.square().sum() / max(off.numel(), 1)


@dataclass(frozen=True)
class HistoryAgent:
    """What was learned: a network of histories and its bisimulation loss on the data at the end."""

    network: HistoryNetwork
    bisimulation: float

    def act(self) -> Act:
        """The greedy policy, for `banach.mdp.pomdp.episodes`: actions (n,) of observations (n, h) and actions (n, h - 1)."""

        @torch.no_grad()
        def greedy(seen: np.ndarray, done: np.ndarray, _: np.random.Generator) -> np.ndarray:
            phi = self.network(torch.from_numpy(seen.copy()), torch.from_numpy(done.copy()))
            return self.network.values(phi[:, -1]).argmax(dim=1).numpy()

        return greedy


@dataclass(frozen=True)
class HistoryLearning:
    """Settings of the learner.

    weight: >= 0, of the bisimulation loss; 0 leaves the reinforcement learner as it is, and L is measured all the same.
    matched: take pairs of equal logged action only. conservatism: alpha >= 0. discount: g of the bisimulation loss, in [0, 1].
    steps: updates. batch: episodes in each. latent: size of phi. rate: of Adam. polyak: share that targets keep.
    """

    weight: float = 0.0
    matched: bool = True
    conservatism: float = 0.1
    discount: float = 0.99
    steps: int = 400
    batch: int = 32
    latent: int = 32
    rate: float = 3e-3
    polyak: float = 0.98

    def learn(self, data: Episodes, n_observations: int, n_actions: int, generator: torch.Generator) -> HistoryAgent:
        """An agent from logged episodes alone, observations and actions (n, H).

        Raises SolveError for data that are empty or outside the given numbers.
        """
        for name, logged, most in (("observations", data.observations, n_observations), ("actions", data.actions, n_actions)):
            if not logged.size or logged.min() < 0 or logged.max() >= most:
                raise SolveError(f"{name} of shape {logged.shape} must be some, in [0, {most}); count them again")
        network = HistoryNetwork(n_observations, n_actions, self.latent, generator)
        target = copy.deepcopy(network)
        optimizer = torch.optim.Adam(network.parameters(), lr=self.rate)
        logged = tuple(
            torch.from_numpy(np.array(x)) for x in (data.observations, data.actions, data.rewards.astype(np.float32))
        )
        for _ in range(self.steps):
            rows = torch.randint(len(data), (min(self.batch, len(data)),), generator=generator)
            seen_NH, done_NH, reward_NH = (x[rows] for x in logged)
            losses = self._losses(network, target, seen_NH, done_NH, reward_NH, torch.randperm(len(rows), generator=generator))
            optimizer.zero_grad()
            (losses[0] + self.weight * losses[1]).backward() if self.weight else losses[0].backward()
            optimizer.step()
            with torch.no_grad():
                for kept, new in zip(target.parameters(), network.parameters(), strict=True):
                    kept.lerp_(new, 1 - self.polyak)
        with torch.no_grad():
            mixed = torch.randperm(len(data), generator=generator)
            return HistoryAgent(network, float(self._losses(network, target, logged[0], logged[1], logged[2], mixed)[1]))

    def _losses(
        self,
        network: HistoryNetwork,
        target: HistoryNetwork,
        seen_NH: Tensor,
        done_NH: Tensor,
        reward_NH: Tensor,
        mixed: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """What the learner minimises without L, and L of pairs with the episodes that `mixed` (n,) says."""
        phi_NHD = network(seen_NH, done_NH[:, :-1])
        values_NHA = network.values(phi_NHD)
        with torch.no_grad():
            later_NH = target.values(target(seen_NH, done_NH[:, :-1])).amax(dim=2)
            later_NH = torch.cat([later_NH[:, 1:], torch.zeros(len(later_NH), 1)], dim=1)
        done_values_NH = values_NHA.gather(2, done_NH[:, :, None])[:, :, 0]
        loss = mse_loss(done_values_NH, reward_NH + later_NH)
        loss = loss + self.conservatism * (values_NHA.logsumexp(dim=2) - done_values_NH).mean()
        # phi enters the model without its gradient: the encoder hears the learner and L only.
        mean, deviation, guessed_NH = network.predicted(phi_NHD.detach(), done_NH)
        off = (phi_NHD[:, 1:].detach() - mean[:, :-1]) / deviation[:, :-1]
        loss = loss + (0.5 * off.square() + deviation[:, :-1].log()).mean() + mse_loss(guessed_NH, reward_NH)
        discount_NH = torch.full(done_NH.shape, self.discount)
        discount_NH[:, -1] = 0.0
        some = done_NH == done_NH[mixed] if self.matched else torch.ones_like(done_NH, dtype=torch.bool)
        phi, reward, means, deviations = ((x[some], x[mixed][some]) for x in (phi_NHD, reward_NH, mean, deviation))
        return loss, bisimulation_loss(phi, reward, means, deviations, discount_NH[some])
