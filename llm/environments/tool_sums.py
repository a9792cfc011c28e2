r"""Sums that are too long to guess and easy with a tool: whether a policy calls it, and copies what it says.

    Question: What is 482 + 917?\n<python>print(482 + 917)</python>\n<output>1399</output>\nAnswer: 1399\n\n   (shots of these)
    Question: What is 64 + 805?\n

A turn is a line. One that ends in a program gets the program's output as the environment's turn; one that does not is the
answer. Nothing forces the call: `Answer: 869` at once is as right.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import numpy as np

from ..policy.tokenizer import Tokenizer
from .problem import Problem, TaskError
from .python_tool import PythonTool, PythonTurns

ANSWER = re.compile(r"Answer: *(-?\d+)")


@dataclass(frozen=True)
class ToolSums:
    """Sums of `terms` numbers of `digits` digits, with a Python tool. Raises TaskError for settings out of range.

    terms: 2 or more. digits: 1 or more. shots: solved examples before the question. calls: programs an answer may run; 0 takes
    the tool away, and the examples then answer at once. seed: of the problems; the examples are of another.
    """

    terms: int = 2
    digits: int = 3
    shots: int = 3
    calls: int = 1
    seed: int = 0
    tool: PythonTool = field(default=PythonTool(cpu_seconds=1), repr=False)

    name = "tool_sums"
    stop = "\n"

    def __post_init__(self) -> None:
        if self.terms < 2 or self.digits < 1 or self.shots < 0 or self.calls < 0:
            raise TaskError(
                f"tool_sums with {self.terms} terms of {self.digits} digits, {self.shots} shots and {self.calls} calls; give 2 "
                "or more terms, 1 or more digits, and no negative number"
            )

    def problem(self, index: int) -> Problem:
        """The sum of this number, 0 or more."""
        examples = [self._sum((self.seed + 1_000_003, i)) for i in range(self.shots)]
        shown = "".join(question + "".join(turns) + "\n\n" for question, turns in examples)
        question, turns = self._sum((self.seed, index))
        return Problem(shown + question, turns[-1], index, turns=turns)

    def parse(self, text: str) -> str | None:
        """The number on the last line that is an answer; None if there is none."""
        found = ANSWER.findall(text)
        return found[-1] if found else None

    def score(self, problem: Problem, answer: str) -> float:
        """1 if it is the sum, else 0."""
        return float(int(answer or "-1") == int(problem.answer.removeprefix("Answer: ")))

    def environment(self, tokenizer: Tokenizer) -> PythonTurns | None:
        """What answers a turn that ends in a program. Raises SandboxUnavailable where no program can be confined."""
        if not self.calls:
            return None
        self.tool.run("")
        return PythonTurns(tokenizer, self.tool, self.calls)

    def _sum(self, key: tuple[int, int]) -> tuple[str, tuple[str, ...]]:
        """A question, and the turns of its solution: the policy's, the environment's, the policy's."""
        rng = np.random.default_rng(key)
        terms = rng.integers(10 ** (self.digits - 1), 10**self.digits, self.terms).tolist()
        asked, total = " + ".join(map(str, terms)), sum(terms)
        calling = (f"<python>print({asked})</python>\n", f"<output>{total}</output>\n") if self.calls else ()
        return f"Question: What is {asked}?\n", (*calling, f"Answer: {total}")
