r"""Answers that outlast a step: windows, what is fresh in them, and how slots stay busy.

A step generates at most l tokens for each of N slots; what is unfinished stays, what is finished makes room. The policy learns
from fresh tokens alone, so that each token enters once, under the policy that wrote it; the critic learns from all tokens of
finished answers. Advantages before a cut are those of `GeneralisedAdvantage(bootstrap="repeat")`: with V_l = V_{l-1} the last
fresh token has delta = (g - 1) V_{l-1}, no signal at g = 1, and is left out of the policy's loss.

With lengths L and cost the longest generation of a step, waiting for whole answers keeps a slot busy for E L / E max_N L of the
time, so no windowing can be faster than E max_N L / E L.

Fan et al. 2025, T-PPO, arXiv 2506.15050.

Shape suffixes: B sequences, T token positions.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from .errors import BatchError, SpecError
from .outcome import Outcome


@dataclass(frozen=True)
class FreshTokens:
    """Keeps the tokens of this step, without the last `drop_last` of sequences that were cut. Raises SpecError for less
    than 0.
    """

    drop_last: int = 1

    needs = ("fresh_BT", "truncated_B")

    def __post_init__(self) -> None:
        if not self.drop_last >= 0:
            raise SpecError(f"drop_last={self.drop_last} tokens before a cut; give 0 or more")

    def __call__(self, out: Outcome, advantage_BT: Tensor) -> Tensor:
        """(B, T), bool. Raises BatchError where the batch does not say what is fresh and what was cut."""
        batch = out.batch
        if batch.fresh_BT is None or batch.truncated_B is None:
            raise BatchError("FreshTokens() reads fresh_BT and truncated_B, which the batch lacks")
        to_come_BT = batch.mask_BT.flip(1).cumsum(1).flip(1)  # policy tokens from here on, this one included
        near_cut_BT = batch.truncated_B[:, None] & (to_come_BT <= self.drop_last)
        return batch.fresh_BT & ~near_cut_BT


@dataclass(eq=False)
class Windows:
    """N slots, at most `window` tokens a step. Raises SpecError for less than one of either.

    `advance(lengths)` moves every slot and says what was fresh and what is finished; slots refill from `queue`.
    oldest: windows after which an unfinished answer is given up, for its first tokens are of as many policies; None keeps all.
    `abandoned` lists those answers: their tokens have taught the policy, and never teach the critic.
    """

    slots: int
    window: int
    oldest: int | None = None

    def __post_init__(self) -> None:
        if self.slots < 1 or self.window < 1:
            raise SpecError(f"slots={self.slots}, window={self.window}: give at least one of each")
        require_age(self.oldest)
        self.abandoned: list[int] = []
        self.running: list[tuple[int, int, int]] = []  # answer, tokens written, tokens in all
        self.clock = 0

    def advance(self, queue: list[tuple[int, int]]) -> list[tuple[int, int, int, bool]]:
        """One step: for each slot (answer, first fresh token, first token after them, whether finished).

        queue: (answer, length) of what waits, taken from its front. The clock moves by the longest generation.
        """
        while len(self.running) < self.slots and queue:
            answer, length = queue.pop(0)
            self.running.append((answer, 0, length))
        report = []
        for answer, start, length in self.running:
            stop = min(start + self.window, length)
            report.append((answer, start, stop, stop == length))
        self.clock += max((stop - start for _, start, stop, _ in report), default=0)
        lengths = {answer: length for answer, _, length in self.running}
        open_ = [(answer, stop) for answer, _, stop, finished in report if not finished]
        self.abandoned += [answer for answer, stop in open_ if too_old(stop, self.window, self.oldest)]
        self.running = [
            (answer, stop, lengths[answer]) for answer, stop in open_ if not too_old(stop, self.window, self.oldest)
        ]
        return report


def require_age(oldest: int | None) -> None:
    """Raises SpecError for an age limit of less than one window."""
    if oldest is not None and oldest < 1:
        raise SpecError(f"oldest={oldest} windows: give 1 or more, or None to keep every answer until it ends")


def too_old(written: int, window: int, oldest: int | None) -> bool:
    """Whether an unfinished answer of so many tokens has been through `oldest` windows."""
    return oldest is not None and written >= oldest * window


def speed_limit(lengths: np.ndarray, slots: int) -> float:
    """E max_N L / E L of a sample of lengths, (n,): the largest speed-up that any windowing can have, at `slots` at a time.

    Raises SpecError for lengths that are not positive.
    """
    ordered = np.sort(np.asarray(lengths, dtype=np.float64))
    if not len(ordered) or ordered[0] <= 0 or slots < 1:
        raise SpecError("lengths must be positive and at least one, and slots at least 1")
    rank = np.arange(1, len(ordered) + 1) / len(ordered)
    weight = np.diff(np.concatenate([[0.0], rank**slots]))
    return float((weight @ ordered) / ordered.mean())
