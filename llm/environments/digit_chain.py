"""DigitChain: k digits are given, their sum modulo the base is asked for.

Difficulty is k; the chance of a guess is 1 / base. With a scratchpad the running sums are written, and the last one counts:

    "314="  ->  "8"            with a scratchpad  ->  "348"            (base 10)
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate

import numpy as np

from .problem import Problem, TaskError


@dataclass(frozen=True)
class DigitChain:
    """Chains of `shortest` to `longest` digits. Raises TaskError for settings out of range.

    shortest, longest: k, drawn uniformly in between. base: 2 to 10. scratchpad: whether running sums are written.
    seed: of the problems.
    """

    shortest: int = 2
    longest: int = 4
    base: int = 10
    scratchpad: bool = False
    seed: int = 0

    name = "digit_chain"
    stop = "\n"

    def __post_init__(self) -> None:
        if not 1 <= self.shortest <= self.longest or not 2 <= self.base <= 10:
            raise TaskError(
                f"digit_chain of {self.shortest} to {self.longest} digits in base {self.base}; give 1 <= shortest <= longest "
                "and a base from 2 to 10"
            )

    def problem(self, index: int) -> Problem:
        """The chain of this number, 0 or more."""
        rng = np.random.default_rng((self.seed, index))
        digits = rng.integers(0, self.base, rng.integers(self.shortest, self.longest + 1)).tolist()
        sums = [total % self.base for total in accumulate(digits)]
        answer = "".join(map(str, sums if self.scratchpad else sums[-1:]))
        return Problem("".join(map(str, digits)) + "=", answer, index, digits)

    def parse(self, text: str) -> str | None:
        """The digits of the first line; None if it holds none, another character, or more than one without a scratchpad."""
        line = text.partition(self.stop)[0].strip()
        digits = set("0123456789"[: self.base])
        if not line or not set(line) <= digits or (len(line) > 1 and not self.scratchpad):
            return None
        return line

    def score(self, problem: Problem, answer: str) -> float:
        """1 if the last digit is the sum modulo the base, else 0."""
        return float(answer[-1:] == problem.answer[-1])
