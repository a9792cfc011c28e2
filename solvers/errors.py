"""What solvers raise when an answer cannot be had or a proof does not hold."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..mdp.errors import BanachError

if TYPE_CHECKING:
    from .certificate import Certificate
    from .solution import Solution


class SolveError(BanachError, ValueError):
    """The request makes no sense: an impossible eps, or a method that does not fit the criterion."""


class NotConverged(BanachError, RuntimeError):  # noqa: N818 - the field's word for it
    """The bracket is wider than eps. `reached` is its width; `solution` is the best certified answer, where there is one."""

    def __init__(self, message: str, reached: float = float("inf"), solution: Solution | None = None) -> None:
        super().__init__(message)
        self.reached = reached
        self.solution = solution


class InfiniteValue(BanachError, ValueError):  # noqa: N818
    """The total reward is infinite or undefined; the message names a state and an action of the loop that makes it so."""


class Infeasible(BanachError, ValueError):  # noqa: N818
    """No policy keeps the bounds of a constrained problem. `certificate` is the proof, for `check`."""

    def __init__(self, message: str, certificate: Certificate) -> None:
        super().__init__(message)
        self.certificate = certificate


class CertificateRejected(BanachError, ValueError):  # noqa: N818
    """A certificate does not prove what it claims; the message names the first place where the proof fails."""
