"""What a training run is, as one value that is written into its folder; with its seed it determines the run.

A step poses `prompts` problems, draws `group_size` answers to each, and takes `epochs * minibatches` optimiser steps on them,
each on whole groups. A minibatch's loss is multiplied by their number, so that its size does not depend on how a batch is cut.
"""

from __future__ import annotations

import difflib
import math
from dataclasses import asdict, dataclass, field
from typing import Any

from ...mdp.errors import BanachError
from ..catalogue import OBJECTIVES, objective
from ..objective import ObjectiveSpec
from ..preference_catalogue import PREFERENCES, preference
from ..preference_spec import PreferenceSpec


class TrainError(BanachError, ValueError):
    """A run cannot be made or continued as asked; the message says what does not fit and what to do."""


PRECISIONS = ("auto", "float32", "bfloat16")


@dataclass(frozen=True)
class Settings:
    """A run. Raises TrainError for numbers out of range, and for an objective that does not exist, with the nearest names.

    objective, task, model: their names; objective_settings, task_settings, model_settings: what is set of them.
    steps: to make in all. prompts, group_size: problems a step and answers to each.
    max_tokens, temperature, top_p: of sampling. rate: of AdamW, reached linearly over `warmup` steps; weight_decay, clip_norm
    (largest norm of a gradient, 0 for any).
    epochs, minibatches: passes over a batch, and parts of it. microbatch: prompts whose answers are held at once; it changes
    memory, not the gradient.
    shard: whether several processes divide weights, gradients and the optimiser's state among them.
    precision: of the products inside the model, float32, bfloat16, or auto: bfloat16 on a GPU, float32 elsewhere. Weights,
    residual stream, head and optimiser are in float32 in any case.
    reference_decay: 1 frozen, 0 previous iterate, in between an average. reference: FOLDER or FOLDER@STEP, a checkpoint of
    another run that stands in for the initial policy, and stays. value_rate: of a critic's own AdamW.
    bundle: prompts whose answers are paid together, for objectives that bundle. quantile_rate: of the tracker that follows the
    quantiles of the bundles' scores through the steps, in units of a score; 0 takes each batch's own, and an objective that
    takes each set's own is left to it.
    pool, refresh: with preferences, prompts whose answers are compared, and steps after which they are drawn anew; 0 for
    answers of the initial policy throughout. Which objectives a run can supply, and with what: `llm.train.supply`.
    warm_start: steps of maximum likelihood on right answers before the first step, at `warm_rate`; noise: share of wrong ones
    among them.
    evaluate_every, evaluate_problems: steps between measurements on held-out problems (0 never), and how many.
    checkpoint_every, keep: steps between checkpoints, and how many are kept. tensorboard: whether its files are written.
    top: k of the top mass. seed: of everything.
    """

    objective: str = "grpo"
    task: str = "digit_chain"
    model: str = "tiny"
    objective_settings: dict[str, Any] = field(default_factory=dict)
    task_settings: dict[str, Any] = field(default_factory=dict)
    model_settings: dict[str, Any] = field(default_factory=dict)
    steps: int = 100
    prompts: int = 8
    group_size: int = 8
    max_tokens: int = 16
    temperature: float = 1.0
    top_p: float = 1.0
    rate: float = 1e-5
    warmup: int = 0
    weight_decay: float = 0.0
    clip_norm: float = 1.0
    epochs: int = 1
    minibatches: int = 1
    microbatch: int = 4
    precision: str = "auto"
    shard: bool = False
    reference_decay: float = 1.0
    reference: str = ""
    value_rate: float = 1e-3
    bundle: int = 4
    quantile_rate: float = 0.1
    refresh: int = 0
    pool: int = 64
    warm_start: int = 0
    warm_rate: float = 1e-3
    noise: float = 0.0
    evaluate_every: int = 0
    evaluate_problems: int = 64
    checkpoint_every: int = 20
    keep: int = 2
    tensorboard: bool = False
    top: int = 8
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("prompts", "group_size", "max_tokens", "epochs", "minibatches", "microbatch", "keep", "bundle", "pool"):
            if getattr(self, name) < 1:
                raise TrainError(f"{name}={getattr(self, name)}; give 1 or more")
        for name in ("steps", "warmup", "refresh", "warm_start", "evaluate_every", "checkpoint_every", "top", "seed"):
            if getattr(self, name) < 0:
                raise TrainError(f"{name}={getattr(self, name)}; give 0 or more")
        if not 0 <= self.quantile_rate < math.inf:
            raise TrainError(f"quantile_rate={self.quantile_rate}; give 0 for each batch's own quantiles, or a positive number")
        if self.minibatches > self.prompts:
            raise TrainError(f"minibatches={self.minibatches} of {self.prompts} prompts; a minibatch holds whole groups")
        if not (self.rate > 0 and self.warm_rate > 0 and 0 <= self.noise <= 1):
            raise TrainError(f"rate={self.rate}, warm_rate={self.warm_rate}, noise={self.noise}; give positive rates, a share")
        if self.reference and self.reference_decay != 1:
            raise TrainError(f"reference={self.reference!r} and reference_decay={self.reference_decay}; a checkpoint stays")
        if self.precision not in PRECISIONS:
            raise TrainError(f"precision={self.precision!r}; give {', '.join(PRECISIONS)}")
        known = (*OBJECTIVES, *PREFERENCES)
        if self.objective not in known:
            raise TrainError(f"no objective is called {self.objective!r}; {nearest(self.objective, known)}")

    @property
    def prefers(self) -> bool:
        """Whether the objective is of the preference family, which learns from pairs."""
        return self.objective in PREFERENCES

    def spec(self) -> ObjectiveSpec | PreferenceSpec:
        """The objective. Raises SpecError for settings that do not fit it.

        Where it needs a generation budget that is not set, that is `max_tokens`.
        """
        if self.prefers:
            return preference(self.objective, **self.objective_settings)
        given = dict(self.objective_settings)
        if "budget" in OBJECTIVES[self.objective].example:
            given.setdefault("budget", self.max_tokens)
        return objective(self.objective, **given)

    def document(self) -> dict[str, Any]:
        """As plain data."""
        return asdict(self)


def nearest(name: str, known: tuple[str, ...]) -> str:
    """What to say to a name that is not among the known ones."""
    near = difflib.get_close_matches(name, known, n=4, cutoff=0.5)
    return f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(known)}"
