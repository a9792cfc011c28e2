"""The runs that experiments share: DigitChain of mixed difficulty, a transformer fitted to a noisy corpus, any objective.

Each seed has one initial policy, fitted once; every method starts from a copy of it and samples with the same seed.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import numpy as np
import torch

from ...mdp.instances_testbeds import digit_mixture
from ...mdp.token import TokenProblem
from ..objective import ObjectiveSpec
from ..plan import Plan
from .policies import TransformerPolicy
from .training import Dress, Recipe, SpecAt, Step, noisy_corpus, train, warm_start

Policies = Callable[[int], Any]
"""From a seed to a fresh copy of its initial policy."""


DIGITS = {
    "testbed": "digit_mixture(3, 2)",
    "policy": "transformer, 2 layers, width 32",
    "prompts": 8,
    "group": 8,
    "optimiser": "Adam",
}
"""What the runs have in common, for the record."""


@cache
def digits() -> TokenProblem:
    """Chains of one to three bits with a scratchpad: 14 prompts, 434 sequences, 210 nodes."""
    return digit_mixture(3, 2)


def digit_policies(seeds: int, right: float = 0.7, layers: int = 2, width: int = 32) -> Policies:
    """Transformers fitted to a corpus in which a chain of k bits is answered rightly with probability right^k."""
    problem = digits()

    @cache
    def fitted(seed: int) -> TransformerPolicy:
        policy = TransformerPolicy(problem, layers, width, seed=seed)
        return warm_start(problem, policy, noisy_corpus(problem, lambda prompt: right ** len(prompt)), steps=60)

    return lambda seed: copy.deepcopy(fitted(seed % seeds))


def digit_run(
    policies: Policies,
    spec: ObjectiveSpec | SpecAt,
    tokens: int = 12_000,
    dress: Dress | None = None,
    head: Callable[[Step], Any] | None = None,
    **settings: Any,
) -> Callable[[int], Mapping[str, float]]:
    """A run of `compare`: train on DigitChain with this objective; settings are those of `Recipe`."""

    def run(seed: int) -> Mapping[str, float]:
        return train(digits(), policies(seed), spec, Recipe(tokens=tokens, **settings), seed, dress, head=head)

    return run


def stability_run(
    policies: Policies,
    spec: ObjectiveSpec | SpecAt,
    tokens: int,
    dress: Dress | None = None,
    replan: Callable[[Step, Plan], Plan] | None = None,
    **settings: Any,
) -> Callable[[int], Mapping[str, float]]:
    """As `digit_run`, with `collapsed`: 1 if the reward ends below half of the best that it had been."""

    def run(seed: int) -> Mapping[str, float]:
        best: list[float] = []
        found = train(
            digits(),
            policies(seed),
            spec,
            Recipe(tokens=tokens, **settings),
            seed,
            dress,
            lambda _, reward: best.append(reward),
            replan,
        )
        return found | {"collapsed": float(found["reward"] < max(best) / 2)}

    return run


def curvature_fields(step: Step) -> Mapping[str, torch.Tensor]:
    """Hidden states and log-policies of a step's batch, as `CurvatureFilter` reads them."""
    nodes = torch.tensor(np.maximum(step.problem.node[step.sequences], 0).astype(np.int64))
    with torch.no_grad():
        hidden_ND = step.policy.hidden()
    return {"hidden_BTD": hidden_ND[nodes], "log_policy_BTV": step.old_NV[nodes]}


def side_by_side(
    runs: Mapping[str, Callable[[int], Mapping[str, float]]], measures: tuple[str, ...]
) -> Callable[[int], Mapping[str, float]]:
    """One run of `compare` that makes several, by name; its measures carry the names."""

    def run(seed: int) -> Mapping[str, float]:
        found = {name: one(seed) for name, one in runs.items()}
        return {f"{measure}, {name}": found[name][measure] for measure in measures for name in runs}

    return run
