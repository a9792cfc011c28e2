r"""Nature's side where she picks physical parameters: the psi of a box at which a policy earns least.

A grid tries them all. The covariance matrix adaptation evolution strategy draws populations x ~ m + s N(0, C) in the unit box,
and moves to the weighted mean of the better half; C follows the steps that were good, s the length of the path of means:

    m' = sum_i w_i x_i,   p_s' = (1-c_s) p_s + sqrt(c_s (2-c_s) mu) C^{-1/2} (m'-m)/s,   s' = s exp((c_s/d)(|p_s'|/E|N| - 1)),
    p_c' = (1-c_c) p_c + sqrt(c_c (2-c_c) mu) (m'-m)/s,      C' = (1-c_1-c_mu) C + c_1 p_c' p_c'^T + c_mu sum_i w_i y_i y_i^T.

Candidates are cut to the box, and their episodes begin alike. The least of many noisy returns is biased downwards (the winner's
curse), so the chosen parameters are judged again on fresh episodes.

Hansen, The CMA Evolution Strategy: A Tutorial, 2016 (arXiv:1604.00772); Zouitine, Geist and Rachelson 2024 (arXiv:2410.06212).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from .task import Policy, Task, returns

Score = Callable[[Tensor], Tensor]
"""Mean returns (n,) of parameters (n, n_parameters) in the unit box."""


def grid(task: Task, points: int) -> Tensor:
    """Parameters on a uniform grid of the box, ends included, (points ** n_parameters, n_parameters)."""
    axes = [torch.linspace(float(a), float(b), points) for a, b in zip(task.low, task.high, strict=True)]
    return torch.cartesian_prod(*axes).reshape(-1, len(axes))


def mean_returns(task: Task, policy: Policy, parameters_NP: Tensor, episodes: int, generator: torch.Generator) -> Tensor:
    """Mean undiscounted return of each row of parameters, (n,), over as many episodes, which begin alike for all rows."""
    n = len(parameters_NP)
    begin = task.start(episodes, generator).repeat_interleave(n, dim=0)
    return returns(task, policy, parameters_NP.repeat(episodes, 1), begin).reshape(episodes, n).mean(dim=0)


@dataclass(frozen=True)
class GridSearch:
    """Try a uniform grid of the box.

    points: along each parameter. episodes: for each point.
    """

    points: int = 10
    episodes: int = 4

    def worst(self, task: Task, policy: Policy, generator: torch.Generator) -> tuple[Tensor, float]:
        """The parameters (n_parameters,) at which the policy earns least, and a fresh estimate of that."""
        tried = grid(task, self.points)
        least = tried[int(mean_returns(task, policy, tried, self.episodes, generator).argmin())]
        return least, float(mean_returns(task, policy, least[None], 8 * self.episodes, generator))


@dataclass(frozen=True)
class CovarianceSearch:
    """The covariance matrix adaptation evolution strategy, from the middle of the box.

    generations, population: how often, and how many candidates. episodes: for each candidate. spread: first standard deviation,
    as a share of the box.
    """

    generations: int = 6
    population: int = 24
    episodes: int = 4
    spread: float = 0.5

    def worst(self, task: Task, policy: Policy, generator: torch.Generator) -> tuple[Tensor, float]:
        """The parameters (n_parameters,) at which the policy earns least, and a fresh estimate of that."""

        def score(unit_NP: Tensor) -> Tensor:
            return mean_returns(task, policy, _in_box(task, unit_NP), self.episodes, generator)

        least = _in_box(task, self.least(score, len(task.low), generator)[None])
        return least[0], float(mean_returns(task, policy, least, 8 * self.episodes, generator))

    def least(self, score: Score, size: int, generator: torch.Generator) -> Tensor:
        """The best candidate found of a function of the unit box, (size,)."""
        half = self.population // 2
        weight = math.log(half + 0.5) - torch.log(torch.arange(1, half + 1, dtype=torch.float64))
        weight /= weight.sum()
        mass = float(1 / (weight**2).sum())
        c_s, c_c = (mass + 2) / (size + mass + 5), (4 + mass / size) / (size + 4 + 2 * mass / size)
        c_1 = 2 / ((size + 1.3) ** 2 + mass)
        c_mu = min(1 - c_1, 2 * (mass - 2 + 1 / mass) / ((size + 2) ** 2 + mass))
        damping = 1 + 2 * max(0.0, math.sqrt((mass - 1) / (size + 1)) - 1) + c_s
        usual = math.sqrt(size) * (1 - 1 / (4 * size) + 1 / (21 * size**2))
        mean, step = torch.full((size,), 0.5, dtype=torch.float64), self.spread
        shape, path = torch.eye(size, dtype=torch.float64), torch.zeros(2, size, dtype=torch.float64)
        best, found = math.inf, mean
        for generation in range(self.generations):
            spectrum, axes = torch.linalg.eigh(shape)
            root = spectrum.clamp_min(1e-20).sqrt()
            noise = torch.randn(self.population, size, generator=generator, dtype=torch.float64)
            tried = (mean + step * (noise * root) @ axes.T).clamp(0.0, 1.0)
            worth = score(tried.to(torch.get_default_dtype()))
            order = worth.argsort()
            if float(worth[order[0]]) < best:
                best, found = float(worth[order[0]]), tried[order[0]]
            moves = (tried[order[:half]] - mean) / step
            move = weight @ moves
            mean = mean + step * move
            path[0] = (1 - c_s) * path[0] + math.sqrt(c_s * (2 - c_s) * mass) * axes @ ((axes.T @ move) / root)
            length = float(path[0].norm())
            straight = length / math.sqrt(1 - (1 - c_s) ** (2 * generation + 2)) < (1.4 + 2 / (size + 1)) * usual
            path[1] = (1 - c_c) * path[1] + float(straight) * math.sqrt(c_c * (2 - c_c) * mass) * move
            kept = 1 - c_1 - c_mu + (0.0 if straight else c_1 * c_c * (2 - c_c))
            shape = kept * shape + c_1 * torch.outer(path[1], path[1]) + c_mu * (moves.T * weight) @ moves
            step *= math.exp(c_s / damping * (length / usual - 1))
        return found.to(torch.get_default_dtype())


def _in_box(task: Task, unit_NP: Tensor) -> Tensor:
    return task.low + unit_NP * (task.high - task.low)
