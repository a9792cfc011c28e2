"""Past policies: the checkpoints of a run as policies again, to be used, measured, or made the reference of another run."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from ..policy.causal import Policy
from .checkpoint import CheckpointDamaged, checkpoints, read_checkpoint
from .models import open_policy
from .settings import Settings, TrainError


def checkpoint_steps(folder: str | Path) -> list[int]:
    """The steps of which a run's folder holds checkpoints, in order (`Settings.keep` says how many are kept)."""
    return [int(path.name) for path in checkpoints(Path(folder))]


@torch.no_grad()
def policy_at(folder: str | Path, step: int | None = None) -> Policy:
    """The policy of a run after a step, the last one kept if none is named.

    Raises TrainError if there is no such checkpoint, naming those that there are; CheckpointDamaged if it cannot be read.
    """
    folder, known = Path(folder), checkpoint_steps(folder)
    if not known or (step is not None and step not in known):
        there = f"it has those of steps {', '.join(map(str, known))}" if known else "it has none"
        raise TrainError(f"{folder} has no checkpoint{'' if step is None else f' of step {step}'}; {there}")
    path = folder / "checkpoints" / f"{known[-1] if step is None else step:08d}"
    try:
        _, tensors, _ = read_checkpoint(path)
    except (OSError, ValueError, KeyError, RuntimeError, EOFError) as fault:
        raise CheckpointDamaged(f"{path} cannot be read: {fault}") from None
    settings = Settings(**json.loads((folder / "settings.json").read_text(encoding="utf-8")))
    policy = open_policy(settings.model, settings.seed, **settings.model_settings)
    for name, x in policy.trained().items():
        x.copy_(tensors[f"policy.{name}"])
    return policy


def policy_named(name: str) -> Policy:
    """`FOLDER`, or `FOLDER@STEP`: the policy of a run's checkpoint. Raises what `policy_at` raises."""
    folder, _, step = name.rpartition("@")
    if folder and step.isdigit():
        return policy_at(folder, int(step))
    return policy_at(name)
