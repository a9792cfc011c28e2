"""The state of a run: everything that the next step depends on."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ..bundles import QuantileTracker
from ..environments.catalogue import task
from ..environments.problem import Task
from ..environments.reward import Reward
from ..objective import ObjectiveSpec
from ..policy.causal import Policy
from ..policy.critic_head import CriticHead
from ..policy.reference import Reference
from ..policy.sharding import shard
from ..preference_spec import PreferenceSpec
from ..rollout.sampling import Sampling
from .models import open_policy
from .parallel import Processes
from .settings import Settings
from .supply import require_supplied


@dataclass(eq=False)
class Run:
    """A run in progress.

    spec: the objective. policy: what is trained. reference, critic: where the objective reads them. optimiser: of the policy's
    and the critic's parameters; warmer: that of a warm start, while it goes on. pairs: with preferences, the answers that are
    compared. step: how many were made. quantiles: of the bundles' scores, where they are followed.
    """

    settings: Settings
    spec: ObjectiveSpec | PreferenceSpec
    task: Task
    reward: Reward
    policy: Policy
    reference: Reference | None
    critic: CriticHead | None
    optimiser: torch.optim.Optimizer
    processes: Processes = field(default_factory=Processes)
    pairs: dict[str, Tensor] | None = None
    step: int = 0
    warmer: torch.optim.Optimizer | None = None
    quantiles: QuantileTracker | None = None

    @property
    def sampling(self) -> Sampling:
        """How answers are drawn: the task's stop text ends them too."""
        own = self.settings
        stop = self.policy.tokenizer.tokens_with(self.task.stop) if self.task.stop else ()
        return Sampling(own.max_tokens, own.temperature, own.top_p, stop)

    def tensors(self) -> dict[str, Tensor]:
        """Every tensor of any shape that training changes, or that was made when the run began, by name."""
        found: dict[str, Tensor] = {f"policy.{name}": x for name, x in self.policy.trained().items()}
        if self.critic is not None:
            found |= {f"critic.{name}": x for name, x in self.critic.named_parameters()}
        if self.reference is not None and self.reference.policy is not self.policy:
            found |= {f"reference.{name}": x for name, x in self.reference.policy.model.named_parameters()}
        if self.pairs is not None:
            found |= {f"pairs.{name}": x for name, x in self.pairs.items()}
        if self.quantiles is not None:
            found["quantiles"] = torch.tensor(self.quantiles.values, dtype=torch.float64)
        return {name: x.detach() for name, x in found.items()}


def new_run(settings: Settings, processes: Processes | None = None) -> Run:
    """The state before the first step, without warm start.

    Raises what models, tasks and objectives raise of their names, and TrainError for an objective that a run cannot supply.
    """
    spec = settings.spec()
    posed = task(settings.task, **{"seed": settings.seed, **settings.task_settings})
    policy = open_policy(settings.model, settings.seed, **settings.model_settings)
    require_supplied(spec, settings, posed, policy)
    if torch.cuda.is_available():
        policy.model.cuda()
    if settings.precision == "bfloat16" or (settings.precision == "auto" and policy.device.type == "cuda"):
        policy.precision = torch.bfloat16
    critic = CriticHead(policy.width).to(policy.device) if isinstance(spec, ObjectiveSpec) and spec.critic else None
    optimiser = adamw(settings, policy, critic)
    return Run(settings, spec, posed, Reward.of(posed), policy, None, critic, optimiser, processes or Processes())


def adamw(settings: Settings, policy: Policy, critic: CriticHead | None) -> torch.optim.Optimizer:
    """The optimiser of the policy's parameters, and of the critic's."""
    groups: list[dict[str, Any]] = [{"params": list(policy.trained().values()), "lr": settings.rate}]
    if critic is not None:
        groups.append({"params": list(critic.parameters()), "lr": settings.value_rate})
    together = None if policy.parts is None else False  # parts and whole tensors do not mix; None is torch's own choice
    return torch.optim.AdamW(groups, lr=settings.rate, weight_decay=settings.weight_decay, foreach=together)


def divide(run: Run) -> None:
    """Divide the run's policy and its optimiser's state among the processes. Raises PolicyError."""
    shard(run.policy)
    run.optimiser = adamw(run.settings, run.policy, run.critic)


def needs_reference(spec: ObjectiveSpec | PreferenceSpec, refresh: int, given: str = "") -> bool:
    """Whether log-probabilities under a reference are read that is not the policy as it stands; pairs that stay keep theirs."""
    if isinstance(spec, PreferenceSpec):
        return ("reference" in spec.uses and (refresh > 0 or given != "")) or "mismatched" in spec.uses
    return bool({"logp_ref_BT", "log_reference_BTV"} & set(spec.needs))
