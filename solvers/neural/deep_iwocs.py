r"""Incremental worst-case search with networks: a list of models, an agent for each, and the most pessimistic valid one acts.

    j* = argmin { Q_j(s_t, pi_j(s_t)) : |That_j(s_{t-1}, a_{t-1}) - s_t|_1 <= rho },      a_t = pi_{j*}(s_t),

in numbers of a state over their scale, with Q_j the critics without entropy. Where no model is valid, an agent acts that was
trained on parameters drawn from the whole box (domain randomisation). Then nature searches the box for the parameters at which
this policy earns least, an agent is trained there, and so on; rho is the one of a few at which nature finds least to take.

The list's least Q is the Q function of no policy, and the sets are not rectangular: nothing is proved here, worst cases are
estimates. `banach.solvers.iwocs` is the search with proofs.

Zouitine, Geist and Rachelson 2024 (arXiv:2410.06212), with soft Q-learning for soft actor-critic and networks of their own for
the heads.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .soft_learning import Agent, SoftLearning, anywhere, at
from .task import Policy, Task
from .worst_parameters import CovarianceSearch, GridSearch


@dataclass(frozen=True)
class PessimisticPolicy:
    """The agent acts whose model is valid and whose value is least; the default where none is.

    agents: one for each model. default: trained on all of the box. threshold: rho >= 0, of a model's prediction, in the L1 norm
    of state numbers over their scale.
    """

    agents: tuple[Agent, ...]
    default: Policy
    threshold: float

    def act(self, state_NS: Tensor, before: tuple[Tensor, Tensor] | None) -> Tensor:
        """Actions, int64 (n,). before: states (n, state_size) and actions (n,) of the step before; at the start all are valid.

        state_NS: (n, state_size).
        """
        rows = torch.arange(len(state_NS))
        actions_JN = torch.stack([agent.act(state_NS) for agent in self.agents])
        worth_JN = torch.stack([agent.values(state_NS)[rows, a] for agent, a in zip(self.agents, actions_JN, strict=True)])
        if before is not None:
            off_JN = torch.stack(
                [((agent.predicted(*before) - state_NS) / agent.scale).abs().sum(dim=1) for agent in self.agents]
            )
            worth_JN = torch.where(off_JN <= self.threshold, worth_JN, torch.inf)
        least, chosen = worth_JN.min(dim=0)
        return torch.where(least < torch.inf, actions_JN[chosen, rows], self.default.act(state_NS, before))


@dataclass(frozen=True)
class Round:
    """One round: the parameters (n_parameters,) at which the agent was trained, the threshold chosen with it, and the worst
    return that nature then found, at `found` (n_parameters,)."""

    trained: Tensor
    threshold: float
    worst: float
    found: Tensor


@dataclass(frozen=True)
class DeepSearch:
    """What the search ends with: the policy of the round with the best worst case, its default, and the rounds."""

    policy: PessimisticPolicy
    default: Agent
    rounds: list[Round]


def deep_iwocs(
    task: Task,
    generator: torch.Generator,
    *,
    models: int = 3,
    learning: SoftLearning | None = None,
    default_steps: int | None = None,
    search: GridSearch | CovarianceSearch | None = None,
    thresholds: tuple[float, ...] = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0),
) -> DeepSearch:
    """Search for a policy that is good in the worst case over the box of a task's parameters.

    generator: of all that is random. models: agents at most, the first at the task's reference. learning: of each agent, or
    None for the usual settings. default_steps: of the default agent, or None for twice as many. search: nature's, or None for
    `CovarianceSearch()`. thresholds: those of which the best is taken, each >= 0.
    Raises ValueError where there are no models or no thresholds.
    """
    if models < 1 or not thresholds or min(thresholds) < 0:
        raise ValueError(f"{models} models and thresholds {thresholds}: give at least one model, and thresholds >= 0")
    learning, search = learning or SoftLearning(), search or CovarianceSearch()
    longer = replace(learning, steps=default_steps or 2 * learning.steps)
    default = longer.run(task, anywhere(task), generator)
    agents: list[Agent] = []
    rounds: list[Round] = []
    policies: list[PessimisticPolicy] = []
    parameters = task.reference
    for _ in range(models):
        agents.append(learning.run(task, at(parameters), generator))
        tried = []
        for threshold in thresholds:
            policy = PessimisticPolicy(tuple(agents), default, threshold)
            found, worst = search.worst(task, policy, generator)
            tried.append((Round(parameters, threshold, worst, found), policy))
        best, policy = max(tried, key=lambda one: one[0].worst)
        rounds.append(best)
        policies.append(policy)
        parameters = best.found
    top = max(range(len(rounds)), key=lambda i: rounds[i].worst)
    return DeepSearch(policies[top], default, rounds)
