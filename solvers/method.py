"""What a method is: its own settings, and one function from a start to a vector near the fixed point."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from ..mdp.bellman import BellmanOperator
from ..mdp.model import MDP
from ..mdp.operator import Operator
from .errors import SolveError
from .watch import Watch


class Method(Protocol):
    """A fixed-point method for contractions: a frozen dataclass of its settings."""

    def run(self, operator: Operator, value: np.ndarray, eps: float, watch: Watch) -> np.ndarray:
        """A vector (n_states,) whose MacQueen-Porteus bracket should be at most eps wide. `value`, the start, is not changed.

        Raises NotConverged when the method's own budget ends first.
        """
        ...


def model_of(operator: Operator, method: Method) -> MDP:
    """The table behind a plain Bellman operator, for methods that read rows. Raises SolveError for any other operator."""
    if isinstance(operator, BellmanOperator):
        return operator.model
    raise SolveError(
        f"{type(method).__name__} reads the rows of a table and {type(operator).__name__} has none that it could read; "
        "use ValueIteration(), ModifiedPolicyIteration() or Anderson()"
    )
