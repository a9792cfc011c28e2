"""What the solver of one criterion hands back to `solve`, always for maximisation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Answer:
    """A proved bracket and the policy inside it, of the shapes that `banach.solvers.certificate` states.

    method: what ran. reason: why, in a sentence.
    """

    lower: np.ndarray
    upper: np.ndarray
    policy: np.ndarray
    method: Any
    reason: str
    witness: Mapping[str, np.ndarray] = field(default_factory=dict)
