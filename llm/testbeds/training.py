# ruff: noqa: N815 - names carry their shapes
r"""Training a small policy on a token problem with any objective, on a budget of sampled tokens.

A step draws prompts from the problem's distribution and a group of answers for each from the policy as it stands, makes the
objective's plan on the whole batch, and takes `epochs * minibatches` optimiser steps on parts of it, each scaled to be a mean
over its own share; later parts are off the policy. Runs are compared at equal numbers of sampled policy tokens.

Shape suffixes: B sequences, N nodes, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import torch
from torch import Tensor

from ...mdp import token_policy
from ...mdp.token import TokenProblem
from ..objective import ObjectiveSpec
from ..plan import Plan, plan
from .rollout import batch_of, draw, token_table


class Policy(Protocol):
    """What is trained: log-probabilities (N, V) at nodes, and parameters."""

    def log_policy(self, nodes: Tensor | None = None, /) -> Tensor:
        """log pi, (N, V), or of some nodes."""
        ...

    def parameters(self) -> Any:
        """What an optimiser moves."""
        ...


@dataclass(frozen=True)
class Recipe:
    """How a run is made.

    tokens: policy tokens to sample in all. prompts, group: prompts a step and answers a prompt. rate: of the optimiser.
    optimiser: adam (0.9, 0.999; of AdamW's decay none) or sgd. minibatches, epochs: parts of a batch and passes over it.
    clip: largest gradient norm, None for any. critic_rate: of a critic, as the policy's if None.
    """

    tokens: int
    prompts: int = 8
    group: int = 8
    rate: float = 1e-3
    optimiser: Literal["adam", "sgd"] = "adam"
    minibatches: int = 1
    epochs: int = 1
    clip: float | None = None
    critic_rate: float | None = None

    def make_optimiser(self, policy: Policy, critic: TableCritic | None = None) -> torch.optim.Optimizer:
        """The optimiser of a policy's parameters and of its critic's."""
        kind = torch.optim.Adam if self.optimiser == "adam" else torch.optim.SGD
        made = kind([p for p in policy.parameters() if p.requires_grad], lr=self.rate)
        if critic is not None:
            made.add_param_group({"params": [critic.value], "lr": self.rate if self.critic_rate is None else self.critic_rate})
        return made


class TableCritic:
    """One value a node, float64 (N,), zero at the beginning, of policies of any kind."""

    def __init__(self, problem: TokenProblem) -> None:
        self.value = torch.zeros(problem.n_nodes, dtype=torch.float64, requires_grad=True)

    def at(self, problem: TokenProblem, sequences: np.ndarray) -> Tensor:
        """Values before each token, (B, T), of sequences (B,)."""
        return self.value[torch.from_numpy(np.maximum(problem.node[sequences], 0).astype(np.int64))]


@dataclass(eq=False)
class Step:
    """What a step hands to hooks: its number, the sampled sequences (B,) and groups (B,), the old policy (N, V)."""

    number: int
    problem: TokenProblem
    policy: Any
    sequences: np.ndarray
    groups: np.ndarray
    old_NV: Tensor
    rng: np.random.Generator


Dress = Callable[[Step], Mapping[str, Tensor]]
"""Further fields of a step's batch."""

SpecAt = Callable[[Step], ObjectiveSpec]
"""The objective of a step."""


def train(
    problem: TokenProblem,
    policy: Any,
    spec: ObjectiveSpec | SpecAt,
    recipe: Recipe,
    seed: int,
    dress: Dress | None = None,
    log: Callable[[Step, float], None] | None = None,
    replan: Callable[[Step, Plan], Plan] | None = None,
    head: Callable[[Step], Policy] | None = None,
    critic: TableCritic | None = None,
) -> dict[str, float]:
    """Train until the budget of tokens is spent, and return `measures` of the policy, `area` (mean reward over the run) and
    `gradient tail` (99 % quantile of the gradient norms over their median, steps without a gradient left out).

    dress: more fields of each batch. log: called before each step's update with the
    expected reward. replan: changes a step's plan.
    head: the policy whose log-probabilities learn, where it is not the one that samples. critic: learns beside the policy, for
    objectives that read one.
    """
    rng, optimiser = np.random.default_rng(seed), recipe.make_optimiser(policy, critic)
    spent, number, area, norms = 0, 0, [], []
    while spent < recipe.tokens:
        with torch.no_grad():
            old_NV = policy.log_policy()
        chosen = rng.choice(problem.n_prompts, recipe.prompts, p=problem.prompt_probability)
        prompts = np.repeat(chosen, recipe.group)
        sequences = draw(problem, old_NV, prompts, rng)
        groups = np.repeat(np.arange(recipe.prompts), recipe.group)
        step = Step(number, problem, policy, sequences, groups, old_NV, rng)
        area.append(token_policy.expected_reward(problem, old_NV.double().numpy()))
        if log is not None:
            log(step, area[-1])
        own = spec if isinstance(spec, ObjectiveSpec) else spec(step)
        norms += update(step, own, recipe, optimiser, dress, replan, head, critic)
        spent += int(problem.length[sequences].sum())
        number += 1
    with torch.no_grad():
        return measures(problem, policy.log_policy()) | {
            "area": float(np.mean(area)),
            "gradient tail": _tail(np.array(norms)),
        }


def update(
    step: Step,
    spec: ObjectiveSpec,
    recipe: Recipe,
    optimiser: torch.optim.Optimizer,
    dress: Dress | None = None,
    replan: Callable[[Step, Plan], Plan] | None = None,
    head: Callable[[Step], Policy] | None = None,
    critic: TableCritic | None = None,
) -> list[float]:
    """The optimiser steps of one batch; returns the gradients' norms."""
    problem, actor, old_NV = step.problem, step.policy, step.old_NV
    if head is not None:
        actor = head(step)
        with torch.no_grad():
            old_NV = actor.log_policy()
    more = {} if dress is None else dict(dress(step))
    if critic is not None:
        more["value_BT"] = critic.at(problem, step.sequences).detach()
    planned = plan(spec, batch_of(problem, step.sequences, step.groups, old_NV, old_NV, **more))
    if replan is not None:
        planned = replan(step, planned)
    n_rows, norms = len(step.sequences), []
    for _ in range(recipe.epochs):
        order = step.rng.permutation(n_rows) if recipe.minibatches > 1 else np.arange(n_rows)
        for rows in np.array_split(order, recipe.minibatches):
            nodes, inverse = np.unique(problem.node[step.sequences[rows]], return_inverse=True)
            table = actor.log_policy(torch.from_numpy(np.maximum(nodes, 0).astype(np.int64)))
            token = torch.from_numpy(np.maximum(problem.token[step.sequences[rows]], 0).astype(np.int64))
            fresh = table[torch.from_numpy(inverse.reshape(token.shape)), token]
            values = None if critic is None else critic.at(problem, step.sequences[rows])
            found = planned.select(torch.from_numpy(rows)).evaluate(fresh, value_BT=values)
            optimiser.zero_grad()
            loss = found.loss if found.value_loss is None else found.loss + found.value_loss
            (loss * recipe.minibatches).backward()
            moved = [p for p in step.policy.parameters() if p.grad is not None]
            norms.append(float(torch.nn.utils.clip_grad_norm_(moved, float("inf") if recipe.clip is None else recipe.clip)))
            optimiser.step()
    return norms


def measures(problem: TokenProblem, log_policy_NV: Tensor) -> dict[str, float]:
    """Of a policy (N, V), by enumeration: reward (J), pass@16, entropy a token, length, worst (success on the worst fifth)."""
    logits = log_policy_NV.detach().double().numpy()
    chance = token_policy.sequence_probability(problem, logits)
    weight = problem.prompt_probability[problem.prompt] * chance
    p = np.bincount(problem.prompt, chance * problem.reward, problem.n_prompts)
    solved = np.clip(np.bincount(problem.prompt, chance * (problem.reward >= 1), problem.n_prompts), 0, 1)
    order = np.argsort(p)
    share = np.cumsum(problem.prompt_probability[order])
    tail = order[: max(1, int(np.searchsorted(share, 0.2, side="right")))]
    return {
        "reward": float(weight @ problem.reward),
        "pass@16": float(problem.prompt_probability @ (1 - (1 - solved) ** 16)),
        "entropy": token_policy.mean_token_entropy(problem, logits),
        "length": float(weight @ problem.length),
        "worst": float(np.average(p[tail], weights=problem.prompt_probability[tail])),
    }


def _tail(norms: np.ndarray) -> float:
    moved = norms[norms > 1e-9]
    return float(np.quantile(moved, 0.99) / np.median(moved)) if len(moved) else 1.0


def noisy_corpus(problem: TokenProblem, right: Callable[[Any], float]) -> np.ndarray:
    """Weights (S,), summing to one, of sequences that end by themselves: right with the probability that `right` says of the
    prompt, and evenly spread among the right ones and among the wrong ones."""
    ended = (problem.token == problem.eos).any(axis=1) & (problem.length > 1)
    weight = np.zeros(problem.n_sequences)
    for prompt, name in enumerate(problem.prompts):
        mine = ended & (problem.prompt == prompt)
        good, bad = mine & (problem.reward >= 1), mine & (problem.reward < 1)
        share = right(name) if bad.any() else 1.0
        weight[good] = problem.prompt_probability[prompt] * share / max(good.sum(), 1)
        weight[bad] = problem.prompt_probability[prompt] * (1 - share) / max(bad.sum(), 1)
    return weight / weight.sum()


def warm_start(problem: TokenProblem, policy: Any, corpus: np.ndarray, steps: int = 200, rate: float = 1e-2) -> Any:
    """Fit the policy to a corpus, weights (S,) of sequences that sum to one, by Adam on the exact likelihood; returns it.

    The problem's own distribution of prompts need not be the corpus's.
    """
    optimiser = torch.optim.Adam(policy.parameters(), lr=rate)
    weight = torch.from_numpy(corpus)
    for _ in range(steps):
        optimiser.zero_grad()
        loss = -(weight * token_table(problem, policy.log_policy()).sum(1)).sum()
        loss.backward()
        optimiser.step()
    return policy
