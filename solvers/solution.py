"""What `solve` returns."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from .certificate import Certificate


@dataclass(frozen=True)
class Trace:
    """How an answer came about.

    method: the method that ran. reason: why that one.
    sweeps: operator applications, counted in passes over the model. seconds: wall time of the solve, proof included.
    history: (sweeps, bracket width) at each outer iteration.
    """

    method: object
    reason: str
    sweeps: float = 0
    seconds: float = 0.0
    history: list[tuple[float, float]] = field(default_factory=list, repr=False)


@dataclass(frozen=True)
class Solution:
    """A certified answer.

    value: centre of the bracket, shape (n_states,) or (horizon + 1, n_states); the gain of each state for average reward.
    policy: action of each state among its own, int32; or weights of each state's actions, float64 (n_pairs,), where the best
        policy may have to randomise (constrained and s-rectangular problems). Its own value lies in the bracket too.
    certificate: the bracket and its proof.
    trace: method, reason, sweeps, seconds.
    """

    value: np.ndarray
    policy: np.ndarray
    certificate: Certificate
    trace: Trace

    def __str__(self) -> str:
        least, most = self.value.min(), self.value.max()
        return f"values from {least:.6g} to {most:.6g}, each +- {self.certificate.width / 2:.2g}, by {self.trace.method}"
