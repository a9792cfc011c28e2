# ruff: noqa: N815 - names carry their shapes
r"""From problems to a batch: answers, their rewards, and every field that the objective reads (`llm.train.supply`).

Answers are drawn from the policy that is trained, so their log-probabilities under the old policy are those of the sampler, and
no pass through the model is spent on them; they are computed again where sampler and trainer differ (a nucleus, half
precision) or where the objective corrects for the difference.

Shape suffixes: B answers, T answer positions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..batch import TokenBatch
from ..environments.problem import Problem, Sample
from ..environments.reward import Failure, Rewarded
from ..objective import ObjectiveSpec
from ..policy.causal import Policy
from ..rollout.rollout import Rollout, sample
from ..rollout.score import Scores, score
from .parallel import widened
from .run import Run
from .supply import environment, require_supplied


@dataclass(frozen=True, eq=False)
class Experience:
    """Answers of one step.

    rollout: this process's. batch: of all processes. first: where in the batch this process's rows begin. answer_N: (N,), the
    answer in the rollout that each of its rows is of, not falling; itself, or one of its rounds.
    numbers: what is worth recording. failures: of this process's rewards.
    """

    rollout: Rollout
    batch: TokenBatch
    first: int
    answer_N: Tensor
    numbers: dict[str, float]
    failures: tuple[Failure, ...]


def collect(run: Run) -> Experience:
    """The batch of the run's next step. Raises TrainError for an objective that reads what no run has."""
    own, spec = run.settings, run.spec
    assert isinstance(spec, ObjectiveSpec)
    require_supplied(spec, own, run.task, run.policy)
    if own.objective == "sft":
        numbers = [run.step * own.prompts + i for i in run.processes.share(own.prompts)]
        rollout = demonstrations(run, numbers)
        rewarded, size = Rewarded(torch.ones(len(rollout)).double(), torch.zeros(len(rollout), dtype=torch.bool)), 1
    else:
        rollout, rewarded = answered(run, run.step, run.processes.share(own.prompts))
        size = own.group_size
    fields, answer_N = _fields(run, rollout, rewarded, size), torch.arange(len(rollout), device=rollout.token_BT.device)
    if "rounds_left_B" in spec.needs:
        fields, answer_N = by_rounds(fields, rollout.mask_BT)
    first = run.processes.before(len(answer_N))
    batch = TokenBatch(**run.processes.gathered(fields))
    return Experience(rollout, batch, first, answer_N, _numbers(run, rollout, rewarded), rewarded.failures)


def answered(run: Run, step: int, places: Sequence[int]) -> tuple[Rollout, Rewarded]:
    """Answers to the problems at these places of a step, and their rewards."""
    own = run.settings
    problems = [run.task.problem(step * own.prompts + place) for place in places]
    prompts = [run.policy.tokenizer.encode(problem.prompt) for problem in problems]
    keys = [(own.seed, step, place) for place in places]
    rollout = sample(run.policy, prompts, own.group_size, run.sampling, keys, environment(run.task, run.policy))
    return rollout, run.reward(read(run.policy, problems, rollout, own.group_size))


def read(policy: Policy, problems: Sequence[Problem], rollout: Rollout, group_size: int) -> list[Sample]:
    """What the reward sees of each answer."""
    cut = rollout.truncated_B.tolist()
    return [
        Sample(problems[b // group_size], policy.tokenizer.decode(tokens), cut[b]) for b, tokens in enumerate(rollout.answers())
    ]


def demonstrations(run: Run, numbers: Sequence[int]) -> Rollout:
    """Right answers to the problems of these numbers as if they had been sampled; a share of wrong ones, `noise`, among them.

    A wrong answer is the right one of another problem. Of an answer in turns the environment's are shown and not imitated.
    """
    own, tokenizer = run.settings, run.policy.tokenizer
    end = tokenizer.encode(run.task.stop)[:1] if run.task.stop else [tokenizer.eos[0]]
    prompts, answers, spoken = [], [], []
    for number in numbers:
        rng = np.random.default_rng((own.seed, 7, number))
        other = run.task.problem(number + 1 + int(rng.integers(10**6)))
        problem = run.task.problem(number)
        shown = other if rng.random() < own.noise else problem
        space = " " if problem.prompt.endswith(":") else ""
        prompts.append(tokenizer.encode(problem.prompt))
        parts = [tokenizer.encode(text) for text in shown.turns or (space + shown.answer,)]
        parts[-1] = parts[-1] + end
        answers.append([token for part in parts for token in part])
        spoken.append([i for i, part in enumerate(parts) for _ in part])
    width, device = max(map(len, answers)), run.policy.device
    token_BT = torch.tensor([answer + [tokenizer.pad] * (width - len(answer)) for answer in answers], device=device)
    length_B = torch.tensor([len(answer) for answer in answers], device=device)
    real_BT = torch.arange(width, device=device) < length_B[:, None]
    part_BT = torch.tensor([row + [0] * (width - len(row)) for row in spoken], device=device)
    return Rollout(
        run.policy.pack(prompts),
        torch.arange(len(answers), device=device),
        token_BT,
        real_BT,
        real_BT & (part_BT % 2 == 0),
        torch.zeros(real_BT.shape, dtype=torch.float64, device=device),
        part_BT // 2,
        torch.zeros_like(length_B, dtype=torch.bool),
        run.sampling,
    )


def rescored(run: Run, policy: Policy, rollout: Rollout, **wanted: Any) -> Scores:
    """Scores of all answers, without gradient, so many prompts at a time as a microbatch holds."""
    width, parts, taken = rollout.token_BT.shape[1], [], []
    with torch.no_grad():
        for groups in torch.unique(rollout.group_B).split(run.settings.microbatch):
            taken.append(torch.isin(rollout.group_B, groups).nonzero()[:, 0])
            parts.append(score(policy, rollout.select(taken[-1]), entropy=False, **wanted))
    back_B = torch.cat(taken).argsort()
    names = [name for name in vars(parts[0]) if getattr(parts[0], name) is not None]
    return Scores(**{name: torch.cat([widened(getattr(part, name), width) for part in parts])[back_B] for name in names})


def _fields(run: Run, rollout: Rollout, rewarded: Rewarded, size: int) -> dict[str, Tensor]:
    """The batch's fields for this process's answers."""
    own, spec, device = run.settings, run.spec, rollout.token_BT.device
    assert isinstance(spec, ObjectiveSpec)
    needs, rows = set(spec.needs), torch.arange(len(rollout), device=device)
    place_B = run.processes.share(own.prompts).start + rows // size
    mask_BT = rollout.mask_BT & ~rewarded.failed_B.to(device)[:, None]
    fields = {
        "mask_BT": mask_BT,
        "reward_B": rewarded.reward_B.to(device),
        "group_B": place_B,
        "logp_sampler_BT": rollout.logp_sampler_BT,
        "truncated_B": rollout.truncated_B,
        "token_BT": rollout.token_BT,
        "turn_BT": rollout.turn_BT,
        "bundle_B": place_B // own.bundle * size + rows % size,
        "first_call_B": _first_call(rollout),
    }
    half = run.policy.precision is not None or next(run.policy.model.parameters()).element_size() < 4
    differs = own.top_p < 1 or spec.behaviour is not None or half
    if differs or own.objective == "sft" or needs & {"value_BT", "hidden_BTD", "log_policy_BTV"}:
        wanted = {"critic": run.critic, "hidden": "hidden_BTD" in needs, "table": "log_policy_BTV" in needs}
        old = rescored(run, run.policy, rollout, **wanted)
        found = {"logp_old_BT": old.logp_BT, "hidden_BTD": old.hidden_BTD, "log_policy_BTV": old.log_policy_BTV}
        fields |= {name: x for name, x in (found | {"value_BT": old.value_BT}).items() if x is not None}
    else:
        fields["logp_old_BT"] = rollout.logp_sampler_BT
    if run.reference is not None:
        with run.reference.active():
            reference = rescored(run, run.reference.policy, rollout, table="log_reference_BTV" in needs)
        fields["logp_ref_BT"] = reference.logp_BT
        if reference.log_policy_BTV is not None:
            fields["log_reference_BTV"] = reference.log_policy_BTV
    if "value_BT" in fields:
        fields["value_old_BT"] = fields["value_BT"]
    fields["logp_old_BT"] = fields["logp_old_BT"].to(torch.promote_types(run.policy.model.dtype, torch.float32))
    if spec.entropy:
        fields["entropy_BT"] = torch.zeros_like(fields["logp_old_BT"])
    return fields | {"logp_BT": fields["logp_old_BT"]}


def by_rounds(fields: dict[str, Tensor], spoken_BT: Tensor) -> tuple[dict[str, Tensor], Tensor]:
    """Fields with a row for each round of each answer, (N, ...), N rounds in all, and the answer of each row, (N,).

    A round is the policy's tokens of one turn, masked alone; spoken_BT, (B, T), are those of all its turns. `rounds_left_B`
    counts the answer's rounds that come after it, so that the answering one has 0.
    """
    turn_BT, row_B = torch.where(spoken_BT, fields["turn_BT"], -1), torch.arange(len(spoken_BT), device=spoken_BT.device)
    answer_of_BT = row_B[:, None].expand_as(turn_BT)
    answer_N, turn_N = torch.unique(torch.stack([answer_of_BT, turn_BT], -1)[spoken_BT], dim=0).unbind(1)
    count_B = torch.bincount(answer_N, minlength=len(turn_BT))
    place_N = torch.arange(len(answer_N), device=answer_N.device) - (count_B.cumsum(0) - count_B)[answer_N]
    found = {name: x[answer_N] for name, x in fields.items()}
    found["mask_BT"] = found["mask_BT"] & (turn_BT[answer_N] == turn_N[:, None])
    return found | {"rounds_left_B": count_B[answer_N] - 1 - place_N}, answer_N


def _first_call(rollout: Rollout) -> Tensor:
    """(B,): policy tokens before the environment first spoke, -1 where it never did."""
    spoke_BT = rollout.real_BT & ~rollout.mask_BT
    before_B = (rollout.mask_BT & (spoke_BT.cumsum(1) == 0)).sum(1)
    return torch.where(spoke_BT.any(1), before_B, -1)


def _numbers(run: Run, rollout: Rollout, rewarded: Rewarded) -> dict[str, float]:
    """Shares and means over all processes' answers."""
    n, tokens = len(rollout), int(rollout.mask_BT.sum())
    sums = run.processes.numbers(
        {
            "answers": n,
            "tokens": tokens,
            "turns": float((rollout.turn_BT.amax(1) + 1).sum()),
            "right": float((rewarded.reward_B >= 1).sum()),
            "unparsed": float(sum(rewarded.closed.values())),
            "failed": float(len(rewarded.failures)),
            "surprise": -float(rollout.logp_sampler_BT.sum()),
        }
    )
    return {
        "right_share": sums["right"] / sums["answers"],
        "unparsed_share": sums["unparsed"] / sums["answers"],
        "reward_failures": sums["failed"],
        "length_mean": sums["tokens"] / sums["answers"],
        "turns_mean": sums["turns"] / sums["answers"],
        "entropy_sampled": sums["surprise"] / max(sums["tokens"], 1),
    }
