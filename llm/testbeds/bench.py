"""The runs that experiments share: a problem of mixed difficulty, a transformer fitted to a noisy corpus, any objective.

Each seed has one initial policy, fitted once; every method starts from a copy of it and samples with the same seed.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from scipy.stats import rankdata

from ...mdp import token_policy
from ...mdp.instances_testbeds import digit_mixture, one_answer
from ...mdp.token import TokenProblem
from ..objective import ObjectiveSpec
from ..plan import Plan
from .policies import TransformerPolicy
from .training import Dress, Recipe, SpecAt, Step, measures, noisy_corpus, train, warm_start

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


@cache
def odds() -> TokenProblem:
    """Twenty prompts with one right answer each: 800 sequences, 260 nodes."""
    return one_answer()


def digit_policies(seeds: int, right: float = 0.7, layers: int = 2, width: int = 32) -> Policies:
    """Transformers fitted to a corpus in which a chain of k bits is answered rightly with probability right^k."""
    return fitted_policies(digits(), lambda prompt: right ** len(prompt), seeds, 60, layers, width)


def odds_policies(seeds: int) -> Policies:
    """Transformers fitted to a corpus in which the prompts of `odds` are answered rightly with probability .02 ... .98."""
    chance = np.linspace(0.02, 0.98, odds().n_prompts)
    return fitted_policies(odds(), lambda prompt: float(chance[int(prompt)]), seeds, 150)


def fitted_policies(
    problem: TokenProblem, right: Callable[[Any], float], seeds: int, steps: int, layers: int = 2, width: int = 32
) -> Policies:
    """Transformers fitted to a corpus in which a prompt is answered rightly with probability right(prompt)."""

    @cache
    def fitted(seed: int) -> TransformerPolicy:
        policy = TransformerPolicy(problem, layers, width, seed=seed)
        return warm_start(problem, policy, noisy_corpus(problem, right), steps=steps)

    return lambda seed: copy.deepcopy(fitted(seed % seeds))


def digit_run(
    policies: Policies,
    spec: ObjectiveSpec | SpecAt,
    tokens: int = 12_000,
    dress: Dress | None = None,
    head: Callable[[Step], Any] | None = None,
    problem: TokenProblem | None = None,
    level: float | None = None,
    **settings: Any,
) -> Callable[[int], Mapping[str, float]]:
    """A run of `compare`: train on DigitChain, or another problem, with this objective; settings are those of `Recipe`.

    level: of the expected reward; the run's numbers then hold those of a `LevelWatch`.
    """

    def run(seed: int) -> Mapping[str, float]:
        watch = LevelWatch(level)
        where, recipe = problem or digits(), Recipe(tokens=tokens, **settings)
        found = train(where, policies(seed), spec, recipe, seed, dress, watch.see, head=head)
        return found | watch.numbers(found)

    return run


class LevelWatch:
    """What a policy is like when its expected reward first reaches a level: runs of unequal speed side by side."""

    def __init__(self, level: float | None) -> None:
        self.level, self.found = level, None

    def see(self, step: Step, reward: float) -> None:
        """The policy before a step, and its reward."""
        if self.level is not None and self.found is None and reward >= self.level:
            self.found = measures(step.problem, step.old_NV) | {"steps": float(step.number)}

    def numbers(self, end: Mapping[str, float]) -> dict[str, float]:
        """Entropy, worst and pass@16 at the level, those of the end where it was not reached; `reached`, 0 or 1."""
        if self.level is None:
            return {}
        here = self.found or end
        named = {f"{name} at {self.level:g}": here[name] for name in ("entropy", "worst", "pass@16")}
        return named | {"reached": float(self.found is not None)}


class ShiftWatch:
    """What the steps of a run do to its policy, and how well they were predicted, token by token.

    spike: the largest KL of the policy before a step to the one after it, of whole answers, in nats; at: that step's number.
    ranks: of each step that `predict` was told of, Spearman's rank correlation of predicted and realised KL.
    """

    def __init__(self) -> None:
        self.spike, self.at, self.ranks = 0.0, 0, []
        self._seen = 0
        self._before: torch.Tensor | None = None
        self._predicted: tuple[np.ndarray, np.ndarray] | None = None

    def see(self, problem: TokenProblem, now_NV: torch.Tensor) -> None:
        """The policy, log-probabilities (N, V), before the next step."""
        now_NV = now_NV.double()
        if self._before is not None:
            move_N = torch.nan_to_num(self._before.exp() * (self._before - now_NV)).sum(-1).numpy()
            moved = float(token_policy.occupancy(problem, self._before.numpy()) @ move_N)
            if moved > self.spike:
                self.spike, self.at = moved, self._seen - 1
            if self._predicted is not None:
                nodes, shift = self._predicted
                if np.ptp(move_N[nodes]) > 0:
                    self.ranks.append(float(np.corrcoef(rankdata(shift), rankdata(move_N[nodes]))[0, 1]))
        self._before, self._predicted = now_NV, None
        self._seen += 1

    def predict(self, nodes: np.ndarray, shift: np.ndarray) -> None:
        """Shifts, (M,), that the step to come is predicted to make at the nodes of its tokens, (M,)."""
        if len(set(shift.tolist())) > 1 and len(set(nodes.tolist())) > 1:
            self._predicted = nodes, shift

    def numbers(self) -> dict[str, float]:
        """`spike`, `spike at`, and `rank` where something was predicted: the mean over steps."""
        return {"spike": self.spike, "spike at": float(self.at)} | ({"rank": float(np.mean(self.ranks))} if self.ranks else {})


def stability_run(
    policies: Policies,
    spec: ObjectiveSpec | SpecAt,
    tokens: int,
    dress: Dress | None = None,
    replan: Callable[[Step, Plan], Plan] | None = None,
    watch: Callable[[], ShiftWatch] = ShiftWatch,
    dry: int = 0,
    **settings: Any,
) -> Callable[[int], Mapping[str, float]]:
    """As `digit_run`, with `collapsed`, 1 if the reward ever fell below half of the best that it had been, `lost`, 1 if it ends
    there, and the numbers of a `ShiftWatch`, which `replan` may tell of predictions.

    dry: batches at the beginning that teach the optimiser its moments and, at a rate of 0, move nothing; their tokens count.
    """

    def run(seed: int) -> Mapping[str, float]:
        rewards: list[float] = []
        shifts = watch()
        policy = policies(seed)

        def log(step: Step, reward: float) -> None:
            rewards.append(reward)
            shifts.see(step.problem, step.old_NV)

        recipe = _AfterDryBatches(tokens=tokens, dry=dry, **settings)
        found = train(digits(), policy, spec, recipe, seed, dress, log, replan)
        with torch.no_grad():
            shifts.see(digits(), policy.log_policy())
        low = np.array([*rewards, found["reward"]])
        low = low < np.maximum.accumulate(low) / 2
        return found | {"collapsed": float(low.any()), "lost": float(low[-1])} | shifts.numbers()

    return run


@dataclass(frozen=True)
class _AfterDryBatches(Recipe):
    """A recipe whose rate is 0 for its first batches."""

    dry: int = 0

    def make_optimiser(self, policy: Any, critic: Any = None) -> torch.optim.Optimizer:
        made = super().make_optimiser(policy, critic)
        first = self.dry * self.epochs * self.minibatches
        schedule = torch.optim.lr_scheduler.LambdaLR(made, lambda step: float(step >= first))
        made.register_step_post_hook(lambda *_: schedule.step())
        return made


def curvature_fields(step: Step) -> Mapping[str, torch.Tensor]:
    """Hidden states and log-policies of a step's batch, as `CurvatureFilter` reads them."""
    nodes_BT = np.maximum(step.problem.node[step.sequences], 0).astype(np.int64)
    some, place = np.unique(nodes_BT, return_inverse=True)
    with torch.no_grad():
        hidden_MD = step.policy.hidden(torch.from_numpy(some))
    hidden_BTD = hidden_MD[torch.from_numpy(place.reshape(nodes_BT.shape))]
    return {"hidden_BTD": hidden_BTD, "log_policy_BTV": step.old_NV[torch.from_numpy(nodes_BT)]}


def side_by_side(
    runs: Mapping[str, Callable[[int], Mapping[str, float]]], measures: tuple[str, ...]
) -> Callable[[int], Mapping[str, float]]:
    """One run of `compare` that makes several, by name; its measures carry the names."""

    def run(seed: int) -> Mapping[str, float]:
        found = {name: one(seed) for name, one in runs.items()}
        return {f"{measure}, {name}": found[name][measure] for measure in measures for name in runs}

    return run
