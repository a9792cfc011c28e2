"""Tasks of reasoning-gym (Stojanovski et al. 2025, arXiv 2505.24760) in few-shot form, for models that continue text.

    Question: ...\\nAnswer: ...\\n\\n    (shots of these, of another seed)    Question: ...\\nAnswer:

The first line that follows is the answer. The library's own verifier scores it in [0, 1]; many give a little for any text, so
that 1 alone means right; some raise on an answer of the wrong form, which the reward catches and counts.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from .problem import Problem, TaskError

SIZE = 1_000_000
"""Problems of a dataset; they are made when they are asked for."""


@dataclass(frozen=True)
class ReasoningTask:
    """A dataset of reasoning-gym. Raises TaskError if the library is missing or refuses name or settings.

    name: of the dataset. settings: of its configuration. shots: examples before the question. seed: of the problems; the
        examples are of another.
    """

    name: str
    settings: dict[str, Any] = field(default_factory=dict)
    shots: int = 4
    seed: int = 0

    stop = "\n"

    def __post_init__(self) -> None:
        _ = self._data

    def problem(self, index: int) -> Problem:
        """The problem of this number, 0 or more."""
        entry = self._data[index % SIZE]
        return Problem(f"{self._examples}Question: {entry['question']}\nAnswer:", str(entry["answer"]), index, entry)

    def parse(self, text: str) -> str | None:
        """The first line; None if it is empty."""
        return text.strip(" ").partition(self.stop)[0].strip() or None

    def score(self, problem: Problem, answer: str) -> float:
        """What the library's verifier gives; it may raise."""
        return float(self._data.score_answer(answer, problem.data))

    @cached_property
    def _data(self) -> Any:
        return self._made(self.seed)

    @cached_property
    def _examples(self) -> str:
        data = self._made(self.seed + 1_000_003)
        return "".join(f"Question: {data[i]['question']}\nAnswer: {data[i]['answer']}\n\n" for i in range(self.shots))

    def _made(self, seed: int) -> Any:
        try:
            import reasoning_gym
        except ImportError:
            raise TaskError(f"the task {self.name} needs reasoning-gym: pip install 'banach[train]'") from None
        try:
            return reasoning_gym.create_dataset(self.name, seed=seed, size=SIZE, **self.settings)
        except (ValueError, TypeError, AssertionError) as fault:
            raise TaskError(f"reasoning-gym refuses {self.name} with {self.settings}: {fault}") from None
