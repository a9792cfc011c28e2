"""The loop: pose problems, sample answers, reward them, update, write the numbers down; again.

A folder holds a run: `settings.json`, `metrics.jsonl` (a line a step), `failures.jsonl` (answers whose reward failed, with
their text), `checkpoints/`, and `tensorboard/` if it is wished. It can be stopped at any point and resumed: the steps are the
same as without the stop.
"""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from ...mdp.storage import atomic_file
from ..environments.catalogue import task
from ..objective import ObjectiveSpec
from ..policy.reference import Reference
from ..rollout.score import score
from .checkpoint import checkpoints, load_checkpoint, save_checkpoint
from .diagnosis import diagnose
from .evaluation import Accuracy, evaluate_policy
from .experience import collect, demonstrations
from .memory import estimate_memory
from .metrics import append_failures, append_metrics, board, cut_metrics, read_metrics, show
from .parallel import Processes
from .pool import policy_named
from .preference import refreshed, update_pairs
from .run import Run, divide, needs_reference, new_run
from .settings import Settings, TrainError
from .update import update

HELD_OUT = 500_009
"""Added to the seed of a task for the problems that a run is measured on."""

Report = Callable[[int, int, str], None]
"""(steps done, of how many, a note)."""


@dataclass(frozen=True, eq=False)
class Outcome:
    """What became of a run. folder: where it is. policy: as trained. metrics: a line a step. findings: of `diagnose`."""

    folder: Path
    policy: Any
    metrics: list[dict[str, Any]]
    findings: list[str]


def train(
    settings: Settings, folder: str | Path, *, resume: bool = False, report: Report = lambda done, of, note: None
) -> Outcome:
    """Make the run's steps, or those that are left of it.

    Raises TrainError for a folder that holds a run already (unless it resumes, with the same settings) or a run that does not
    fit in memory; CheckpointDamaged where nothing is left to resume from; RewardFailed where the reward is broken.
    """
    folder = Path(folder)
    run = _opened(settings, folder, resume, report)
    writer = board(folder, run.step) if settings.tensorboard and run.processes.rank == 0 else None
    while run.step < settings.steps:
        start = time.perf_counter()
        numbers = step(run, folder)
        run.step += 1
        if settings.evaluate_every and run.step % settings.evaluate_every == 0:
            numbers |= _measured(run)
        numbers["seconds"] = time.perf_counter() - start
        if run.processes.rank == 0:
            append_metrics(folder, run.step, numbers)
            if writer is not None:
                show(writer, run.step, numbers)
        if run.step == settings.steps or (settings.checkpoint_every and run.step % settings.checkpoint_every == 0):
            save_checkpoint(run, folder)
        report(run.step, settings.steps, f"reward {numbers.get('reward_mean', numbers.get('accuracy', 0.0)):.3f}")
    run.processes.wait()
    if writer is not None:
        writer.close()
    lines = read_metrics(folder)
    return Outcome(folder, run.policy, lines, diagnose(lines))


def step(run: Run, folder: Path) -> dict[str, Any]:
    """One step of a run, not counted yet; answers whose reward failed are written to the folder."""
    if not isinstance(run.spec, ObjectiveSpec):
        return refreshed(run) | update_pairs(run)
    if run.reference is not None and run.reference.decay == 0:
        run.reference.follow(run.policy)
    experience = collect(run)
    append_failures(folder, run.step + 1, experience.failures)
    numbers = experience.numbers | update(run, experience)
    if run.reference is not None and run.reference.decay > 0:
        run.reference.follow(run.policy)
    return numbers


def held_out(run: Run) -> Accuracy:
    """Greedy accuracy on problems of another seed."""
    own = run.settings
    seed = own.task_settings.get("seed", own.seed) + HELD_OUT
    posed = task(own.task, **{**own.task_settings, "seed": seed})
    return evaluate_policy(run.policy, posed, range(own.evaluate_problems), run.sampling)


def _opened(settings: Settings, folder: Path, resume: bool, report: Report) -> Run:
    processes = Processes.joined()
    if resume and not checkpoints(folder):
        raise TrainError(f"{folder} holds no checkpoint to resume from; begin the run without resuming")
    if not resume and (folder / "settings.json").exists():
        raise TrainError(f"{folder} holds a run already; resume it, or give another folder")
    run = new_run(settings, processes)
    _fits(run)
    if not resume:
        for done in range(settings.warm_start):
            _fit(run, done)
            report(done + 1, settings.warm_start, "warm start")
    if needs_reference(run.spec, settings.refresh, settings.reference):
        given = policy_named(settings.reference) if settings.reference else None
        run.reference = Reference(run.policy, settings.reference_decay, given)
    if settings.shard and processes.size > 1:
        divide(run)
    if resume:
        load_checkpoint(run, folder, lambda text: warnings.warn(text, stacklevel=4))
    processes.wait()
    if processes.rank == 0:
        folder.mkdir(parents=True, exist_ok=True)
        with atomic_file(folder / "settings.json") as temporary:
            Path(temporary).write_text(json.dumps(settings.document(), indent=2), encoding="utf-8")
        if resume:
            cut_metrics(folder, run.step)
    if not resume:
        save_checkpoint(run, folder)
    return run


def _fits(run: Run) -> None:
    longest = max(len(run.policy.tokenizer.encode(run.task.problem(i).prompt)) for i in range(8))
    estimate_memory(run.settings, run.policy, longest, run.processes.size).check()


def _fit(run: Run, done: int) -> None:
    """A step of maximum likelihood on right answers, a share of `noise` among them wrong; every process makes the same."""
    own = run.settings
    rollout = demonstrations(run, range(done * 32, done * 32 + 32))
    if done == 0:
        run.warmer = torch.optim.AdamW(run.policy.trained().values(), lr=own.warm_rate, weight_decay=0.0)
    assert run.warmer is not None
    run.warmer.zero_grad(set_to_none=True)
    scores = score(run.policy, replace(rollout, sampling=replace(rollout.sampling, temperature=1.0)), entropy=False)
    (-scores.logp_BT.sum() / rollout.mask_BT.sum()).backward()
    torch.nn.utils.clip_grad_norm_(list(run.policy.trained().values()), 1.0)
    run.warmer.step()
    if done == own.warm_start - 1:
        run.warmer = None
        run.optimiser.zero_grad(set_to_none=True)


def _measured(run: Run) -> dict[str, Any]:
    found = held_out(run)
    low, high = found.interval
    return {"held_out": found.share, "held_out_low": low, "held_out_high": high}
