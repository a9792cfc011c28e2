"""A task poses problems by number and says how good an answer is. Text in, text out: it knows no tokens."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

from ...mdp.errors import BanachError


class TaskError(BanachError, ValueError):
    """A task or a setting of it does not exist or does not fit; the message names what there is."""


@dataclass(frozen=True)
class Problem:
    """One problem. prompt: what the policy continues. answer: a right answer. index: its number. data: what the task keeps.

    turns: of a right answer that speaks with an environment, the policy's turn, the environment's, and so on; or empty.
    """

    prompt: str
    answer: str
    index: int
    data: Any = field(default=None, repr=False)
    turns: tuple[str, ...] = ()


@dataclass(frozen=True)
class Sample:
    """An answer to a problem. text: what was written, special tokens left out. truncated: whether the length limit cut it."""

    problem: Problem
    text: str
    truncated: bool = False


class Task(Protocol):
    """Problems and their verifier.

    A task whose answers have several turns also has a method `environment(tokenizer)`, which gives the `Respond` of
    `llm.rollout` that follows a policy's turn, or None.
    """

    @property
    def name(self) -> str:
        """How reports call it."""
        ...

    @property
    def stop(self) -> str:
        """Text that ends an answer, or an empty one if only the model's own end does."""
        ...

    def problem(self, index: int) -> Problem:
        """The problem of this number, 0 or more; the same whenever it is asked for."""
        ...

    def parse(self, text: str) -> str | None:
        """The answer within what was written, or None where there is none of the right form."""
        ...

    def score(self, problem: Problem, answer: str) -> float:
        """How good a parsed answer is, in [0, 1]; 1 if and only if it is right."""
        ...
