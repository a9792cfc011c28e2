r"""Finite-horizon problems whose transitions, rewards and actions change with the stage.

Stage t = 0, ..., H-1 is a model M_t on the same n states. With w the terminal values after the last decision,

    v_H = w,      v_t(s) = max_a [ r_t(s, a) + g sum_j p_t(j | s, a) v_{t+1}(j) ].

A state may be terminal at some stages only: whoever is in it at such a stage stops there with that stage's terminal value.

Puterman, Markov Decision Processes, Wiley 2005, chapter 4.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from .criterion import FiniteHorizon
from .errors import ModelError
from .model import MDP


@dataclass(frozen=True, eq=False)
class TimeVaryingMDP:
    """A decision problem with one model a stage. n states, H = len(stages) decisions.

    stages: at least one MDP, all of n states, first decision first; the same object may stand at many stages. Their own
        criteria are ignored and replaced by this problem's.
    discount: in [0, 1], between consecutive stages.
    minimize: the rewards are costs, to be made small.
    terminal_value: float64 (n,), what each state is worth after the last decision. Default: the last stage's terminal values,
        zero in the states that are not terminal there.

    Raises ModelError when the stages differ in size, and for what `FiniteHorizon` refuses.
    """

    stages: tuple[MDP, ...]
    discount: float = 1.0
    minimize: bool = False
    terminal_value: np.ndarray = None  # pyright: ignore[reportAssignmentType]

    def __post_init__(self) -> None:
        stages = tuple(self.stages)
        if not stages:
            raise ModelError("a time-varying problem needs at least one stage")
        for number, stage in enumerate(stages):
            if not isinstance(stage, MDP):
                raise ModelError(f"stage {number} is a {type(stage).__name__}; every stage is an MDP")
            if stage.n_states != stages[0].n_states:
                raise ModelError(
                    f"stage {number} has {stage.n_states} states, stage 0 has {stages[0].n_states}; add what is missing"
                )
        criterion = FiniteHorizon(1, self.discount, self.minimize)
        own = {id(stage): stage if stage.criterion == criterion else stage.replace(criterion=criterion) for stage in stages}
        object.__setattr__(self, "stages", tuple(own[id(stage)] for stage in stages))
        worth = stages[-1].terminal_value if self.terminal_value is None else np.array(self.terminal_value, dtype=np.float64)
        if worth.shape != (self.n_states,) or not np.isfinite(worth).all():
            raise ModelError(f"terminal_value must be {self.n_states} finite numbers; its shape is {worth.shape}")
        worth.setflags(write=False)
        object.__setattr__(self, "terminal_value", worth)

    @property
    def n_states(self) -> int:
        """Number of states."""
        return self.stages[0].n_states

    @property
    def horizon(self) -> int:
        """Number of decisions."""
        return len(self.stages)

    @property
    def criterion(self) -> FiniteHorizon:
        """The criterion: this horizon, discount and sense."""
        return FiniteHorizon(self.horizon, self.discount, self.minimize)

    @property
    def terminal(self) -> np.ndarray:
        """States that are terminal at every stage, bool (n,)."""
        return np.logical_and.reduce([stage.terminal for stage in self._distinct.values()])

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the criterion and of every number that the value depends on, as hexadecimal."""
        digest = hashlib.sha256(repr(self.criterion).encode())
        for stage in self.stages:
            digest.update(stage.fingerprint.encode())
        digest.update(self.terminal_value.tobytes())
        return digest.hexdigest()

    def negated(self) -> TimeVaryingMDP:
        """The same problem with every reward's sign, and the sense of optimisation, turned round. Exact."""
        turned = {key: stage.negated() for key, stage in self._distinct.items()}
        stages = tuple(turned[id(stage)] for stage in self.stages)
        return TimeVaryingMDP(stages, self.discount, not self.minimize, -self.terminal_value)

    @cached_property
    def _distinct(self) -> dict[int, MDP]:
        return {id(stage): stage for stage in self.stages}
