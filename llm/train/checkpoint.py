"""Checkpoints: written whole or not at all, checked when read, the one before used where the newest is damaged.

    FOLDER/checkpoints/00000020/tensors.safetensors    what training changes
                                optimiser.pt           the optimiser's state
                                state.json             step, settings, SHA-256 of both and of itself

Nothing random has a state: every draw belongs to (seed, step, place). So a run that resumes makes the same steps, on a CPU
bit for bit.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from ...mdp.errors import BanachError
from ..bundles import MixedRisk, QuantileTracker
from ..objective import ObjectiveSpec
from ..policy.sharding import like, whole
from .run import Run
from .settings import Settings, TrainError

STATE, TENSORS, OPTIMISER = "state.json", "tensors.safetensors", "optimiser.pt"
FREE = ("steps", "shard", "tensorboard", "keep", "checkpoint_every", "evaluate_every", "evaluate_problems", "microbatch")
"""Settings that may change when a run resumes."""


class CheckpointDamaged(BanachError, RuntimeError):  # noqa: N818 - what is so, said by the message
    """No checkpoint of a run can be read; the message says what is wrong with each."""


def save_checkpoint(run: Run, folder: Path) -> None:
    """Write the run's state as of its step, then remove the oldest beyond those that are kept.

    Every process must call it, since what is in parts is put together; the first one writes.
    """
    from safetensors.torch import save_file

    tensors = {name: whole(x).contiguous().cpu().clone() for name, x in run.tensors().items()}
    optimiser = _of_whole(run.optimiser.state_dict())
    if run.processes.rank:
        return
    place = folder / "checkpoints"
    place.mkdir(parents=True, exist_ok=True)
    target = place / f"{run.step:08d}"
    with tempfile.TemporaryDirectory(dir=place, prefix=".writing-") as work:
        made = Path(work) / "checkpoint"
        made.mkdir()
        save_file(tensors, made / TENSORS)
        torch.save(optimiser, made / OPTIMISER)
        state = {
            "step": run.step,
            "settings": run.settings.document(),
            "sha256": {name: _sha256(made / name) for name in (TENSORS, OPTIMISER)},
        }
        sealed = state | {"seal": _seal(state)}
        (made / STATE).write_text(json.dumps(sealed, indent=2), encoding="utf-8")
        if target.exists():
            shutil.rmtree(target)
        os.replace(made, target)
    for old in checkpoints(folder)[: -run.settings.keep]:
        shutil.rmtree(old)


def checkpoints(folder: Path) -> list[Path]:
    """The run's checkpoints, oldest first."""
    return sorted(path for path in (folder / "checkpoints").glob("[0-9]*") if path.is_dir())


def load_checkpoint(run: Run, folder: Path, warn: Callable[[str], None]) -> None:
    """Bring the run to its newest checkpoint that is whole; `warn` hears of damaged ones.

    Raises CheckpointDamaged if none is whole, TrainError if it is of a run with other settings.
    """
    faults = []
    for path in reversed(checkpoints(folder)):
        try:
            state, tensors, optimiser = read_checkpoint(path)
        except (OSError, ValueError, KeyError, RuntimeError, EOFError) as fault:
            faults.append(f"{path.name}: {fault}")
            warn(f"checkpoint {path.name} is damaged ({fault}); the one before is used")
            continue
        _compare(Settings(**state["settings"]), run.settings)
        _fill(run, tensors, optimiser)
        run.step = state["step"]
        return
    raise CheckpointDamaged(f"{folder} has no checkpoint that can be read: {'; '.join(faults) or 'there is none'}")


def read_checkpoint(path: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor], dict[str, Any]]:
    """State, tensors and optimiser of a checkpoint. Raises OSError, ValueError, KeyError, RuntimeError, EOFError if damaged."""
    from safetensors.torch import load_file

    state = json.loads((path / STATE).read_text(encoding="utf-8"))
    if state.pop("seal") != _seal(state):
        raise ValueError(f"{STATE} is not what was written")
    for name, wanted in state["sha256"].items():
        if _sha256(path / name) != wanted:
            raise ValueError(f"{name} is not what was written")
    return state, load_file(path / TENSORS), torch.load(path / OPTIMISER, weights_only=True)


def _compare(saved: Settings, asked: Settings) -> None:
    old, new = saved.document(), asked.document()
    other = [f"{name}={old[name]!r}, not {new[name]!r}" for name in old if name not in FREE and old[name] != new[name]]
    if other:
        raise TrainError(
            f"the run in this folder was made with {'; '.join(other)}; resume with its settings, or begin elsewhere"
        )


@torch.no_grad()
def _fill(run: Run, tensors: dict[str, torch.Tensor], optimiser: dict[str, Any]) -> None:
    pairs = {name.removeprefix("pairs."): x for name, x in tensors.items() if name.startswith("pairs.")}
    run.pairs = {name: x.to(run.policy.device) for name, x in pairs.items()} or None
    run.quantiles = _quantiles(run, tensors)
    mine = run.tensors()
    if set(mine) != set(tensors):
        raise TrainError(f"the checkpoint holds {len(tensors)} tensors, the run {len(mine)}; is it of another model?")
    for name, x in tensors.items():
        mine[name].copy_(like(x, mine[name]))
    parameters = [x for group in run.optimiser.param_groups for x in group["params"]]
    for i, state in optimiser["state"].items():
        for name, x in state.items():
            if x.shape == parameters[i].shape:
                state[name] = like(x, parameters[i])
    run.optimiser.load_state_dict(optimiser)


def _quantiles(run: Run, tensors: dict[str, torch.Tensor]) -> QuantileTracker | None:
    if "quantiles" not in tensors or not isinstance(run.spec, ObjectiveSpec) or not isinstance(run.spec.advantage, MixedRisk):
        return None
    risk, values = run.spec.advantage, tensors["quantiles"].tolist()
    return QuantileTracker((risk.low, risk.high), (values[0], values[1]), run.settings.quantile_rate)


def _of_whole(state: dict[str, Any]) -> dict[str, Any]:
    """An optimiser's state with its tensors put together."""
    each = {i: {name: whole(x) for name, x in one.items()} for i, one in state["state"].items()}
    return {"state": each, "param_groups": state["param_groups"]}


def _seal(state: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
