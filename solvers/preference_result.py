"""What is known of the optimum of a preference loss: whether there is one, where, and how well it meets its conditions."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from .errors import SolveError


class Existence(StrEnum):
    """Whether a population loss has a minimiser; see `banach.solvers.preference_optimum` for the words."""

    UNIQUE = "unique"
    NOT_UNIQUE = "not unique"
    UNBOUNDED = "unbounded"
    BOUNDARY = "boundary"
    STATIONARY = "stationary"


@dataclass(frozen=True, eq=False)
class PreferenceOptimum:
    """The minimisers of a population loss, on n responses.

    status: whether there are any. policies: (k, n), minimisers: two that differ if NOT_UNIQUE, none if UNBOUNDED, else one.
    value: the least expected loss of a label, or its infimum, -inf where it falls without end, NaN where it is not known.
    residual: largest violation of the first-order conditions at `policies`, per label, or duality gap; 0 where there are none.
    message: why, in a sentence. direction: (n,), scores along which the loss falls for ever, where UNBOUNDED; else None.
    """

    status: Existence
    policies: np.ndarray
    value: float
    residual: float
    message: str
    direction: np.ndarray | None = None

    @property
    def policy(self) -> np.ndarray:
        """The optimum, (n,). Raises SolveError, with the reason, where there is none or more than one."""
        if len(self.policies) != 1:
            raise SolveError(f"there is no one optimal policy ({self.status}): {self.message}")
        return self.policies[0]

    def __str__(self) -> str:
        return f"{self.status}: {self.message} (value {self.value:.6g}, residual {self.residual:.2g})"


def only_response() -> PreferenceOptimum:
    """The optimum when there is one response, policies (1, 1): it has probability one, and every loss is constant."""
    return PreferenceOptimum(Existence.UNIQUE, np.ones((1, 1)), 0.0, 0.0, "there is one response only")
