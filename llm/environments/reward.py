# ruff: noqa: N815 - names carry their shapes
r"""A reward made of parts: R = sum_k weight_k component_k(sample), or `floor` where a gate is closed.

A part that raises or returns a number that is not finite has said nothing about its sample. Zero would be a statement, a
wrong one; so the sample is set aside (`failed_B`, and the training masks it), counted, and reported with its text. Where more
than `tolerated` of a batch fails the reward itself is broken, and that is an error.

Shape suffix: B samples.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ...mdp.errors import BanachError
from .problem import Problem, Sample, Task


class RewardFailed(BanachError, RuntimeError):  # noqa: N818 - what happened, said by the message
    """The reward failed on more samples than is tolerated; the message shows the first of them."""


@dataclass(frozen=True)
class Component:
    """A weighted part of the reward: any function of a sample."""

    name: str
    of: Callable[[Sample], float]
    weight: float = 1.0


@dataclass(frozen=True)
class Gate:
    """A condition without which nothing is paid but the floor: any truth about a sample."""

    name: str
    holds: Callable[[Sample], bool]


@dataclass(frozen=True)
class Failure:
    """A part of the reward that failed. sample: its number in the batch. part: its name. fault: what it raised or returned."""

    sample: int
    part: str
    fault: str
    problem: Problem
    text: str

    def __str__(self) -> str:
        place = f"sample {self.sample} (problem {self.problem.index})"
        return f"{place}, {self.part}: {self.fault}; the answer was {self.text[:200]!r}"


@dataclass(frozen=True, eq=False)
class Rewarded:
    """Rewards of a batch.

    reward_B: (B,), float64, 0 where `failed_B`, (B,), bool. parts: component -> its unweighted values (B,), NaN where it was
    not asked or failed. closed: gate -> how many samples it stopped. failures: in order.
    """

    reward_B: Tensor
    failed_B: Tensor
    parts: dict[str, Tensor] = field(default_factory=dict)
    closed: dict[str, int] = field(default_factory=dict)
    failures: tuple[Failure, ...] = ()


@dataclass(frozen=True)
class Reward:
    """Components and gates. floor: what is paid where a gate is closed. tolerated: largest share of failures, in [0, 1]."""

    components: tuple[Component, ...]
    gates: tuple[Gate, ...] = ()
    floor: float = 0.0
    tolerated: float = 0.5

    @classmethod
    def of(cls, task: Task) -> Reward:
        """The task's own: its verifier's score, gated by an answer of the right form."""
        return cls(
            (Component("score", lambda sample: task.score(sample.problem, task.parse(sample.text) or "")),),
            (Gate("parses", lambda sample: task.parse(sample.text) is not None),),
        )

    def __call__(self, samples: Sequence[Sample]) -> Rewarded:
        """Rewards of the samples. Raises RewardFailed where more than the tolerated share fails."""
        total, failed, failures = [0.0] * len(samples), [False] * len(samples), []
        parts = {component.name: [math.nan] * len(samples) for component in self.components}
        closed = {gate.name: 0 for gate in self.gates}
        for i, sample in enumerate(samples):
            try:
                total[i] = self._one(i, sample, parts, closed)
            except _PartFailed as fault:
                total[i], failed[i] = 0.0, True
                failures.append(Failure(i, fault.part, fault.fault, sample.problem, sample.text))
        if len(failures) > self.tolerated * len(samples):
            raise RewardFailed(f"the reward failed on {len(failures)} of {len(samples)} samples: {failures[0]}")
        return Rewarded(
            torch.tensor(total, dtype=torch.float64),
            torch.tensor(failed),
            {name: torch.tensor(values, dtype=torch.float64) for name, values in parts.items()},
            closed,
            tuple(failures),
        )

    def _one(self, i: int, sample: Sample, parts: dict[str, list[float]], closed: dict[str, int]) -> float:
        for gate in self.gates:
            if not _asked(gate.name, lambda gate=gate: bool(gate.holds(sample))):
                closed[gate.name] += 1
                return self.floor
        for component in self.components:
            parts[component.name][i] = _asked(component.name, lambda component=component: float(component.of(sample)))
        return math.fsum(component.weight * parts[component.name][i] for component in self.components)


class _PartFailed(Exception):  # noqa: N818
    def __init__(self, part: str, fault: str) -> None:
        super().__init__(part, fault)
        self.part, self.fault = part, fault


def _asked(part: str, question: Callable[[], float]) -> float:
    """What a part says. Raises _PartFailed if it raises or says no finite number."""
    try:
        value = question()
    except Exception as fault:  # a reward is anybody's code: whatever it raises is a fact about the sample
        raise _PartFailed(part, f"raised {type(fault).__name__}: {fault}") from fault
    if not math.isfinite(value):
        raise _PartFailed(part, f"returned {value}")
    return value
