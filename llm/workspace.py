"""A workspace of constant size in place of a growing history: question, report, the last action and its result.

    s_t = (q, M_t, a_{t-1}, TR_{t-1}),    d_t = (thought, M_{t+1}, a_t),    s_{t+1} = (q, M_{t+1}, a_t, TR_t),

and everything else is forgotten. Its length is bounded by the capacities, where a history grows linearly. Nothing is lost to an
optimal policy exactly when the report can hold a sufficient statistic; whether it does is a property to test, not a premise.

G. Chen et al. 2025, IterResearch, arXiv 2511.07327.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from .errors import SpecError

Tokens = tuple[int, ...]


@dataclass(frozen=True)
class Workspace:
    """What a round reads. Raises SpecError for capacities below zero, and for pieces that exceed them: `next` cuts, this does
    not.

    question: tokens, kept as they are. report, action, result: of the last round, cut at their capacities. overflowed: how
    often something had to be cut so far, >= 0.
    """

    question: Tokens
    report_capacity: int
    action_capacity: int
    result_capacity: int
    report: Tokens = ()
    action: Tokens = ()
    result: Tokens = ()
    overflowed: int = 0

    def __post_init__(self) -> None:
        if min(self.report_capacity, self.action_capacity, self.result_capacity) < 0:
            raise SpecError("a capacity of the workspace is below zero; give tokens")
        if self.overflowed < 0:
            raise SpecError(f"overflowed={self.overflowed}; it counts cuts, give 0 for a fresh workspace")
        for name in ("report", "action", "result"):
            size, capacity = len(getattr(self, name)), getattr(self, f"{name}_capacity")
            if size > capacity:
                raise SpecError(f"the {name} has {size} tokens where {capacity} fit; hand it to next(), which cuts and counts")

    def next(self, report: Sequence[int], action: Sequence[int], result: Sequence[int]) -> Workspace:
        """The workspace of the next round; what exceeds a capacity is cut at its end, and counted."""
        pieces = ((report, self.report_capacity), (action, self.action_capacity), (result, self.result_capacity))
        kept = [tuple(piece)[:capacity] for piece, capacity in pieces]
        cut = sum(len(piece) > capacity for piece, capacity in pieces)
        return replace(self, report=kept[0], action=kept[1], result=kept[2], overflowed=self.overflowed + cut)

    @property
    def tokens(self) -> Tokens:
        """What the policy reads."""
        return (*self.question, *self.report, *self.action, *self.result)

    @property
    def longest(self) -> int:
        """No round reads more tokens than this."""
        return len(self.question) + self.report_capacity + self.action_capacity + self.result_capacity
