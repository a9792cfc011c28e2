"""What is known of a named family of problems: how to make one, where it comes from, and its exact answers."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from ..model import MDP

Number = Fraction | float


@dataclass(frozen=True)
class Published:
    """A number somebody printed.

    parameters: of the instance; the others have their defaults. value: of the optimum at the initial distribution.
    tolerance: half a unit of the last printed digit, >= 0; zero means that the number is exact. source: who printed it.
    """

    parameters: Mapping[str, Any]
    value: Number
    tolerance: float
    source: str


@dataclass(frozen=True)
class Instance:
    """A named family.

    make: keyword parameters -> MDP. source: who introduced it.
    small: parameters of a member with at most a few hundred states, for tests.
    exact: the same keyword parameters -> the optimal value at the initial distribution (the gain, for average reward), in
        closed form or by exact arithmetic on the ideal model, whose probabilities are the rationals that the floats stand for;
        a callable that returns None says that nothing is known for those parameters.
    published: printed values.
    """

    name: str
    make: Callable[..., MDP]
    source: str
    small: Mapping[str, Any] = field(default_factory=dict)
    exact: Callable[..., Number | None] | None = None
    published: tuple[Published, ...] = ()

    @property
    def title(self) -> str:
        """One sentence."""
        return inspect.getdoc(self.make).split("\n")[0].rstrip(".")  # pyright: ignore[reportOptionalMemberAccess]

    @property
    def defaults(self) -> dict[str, Any]:
        """Every parameter with its default."""
        return {name: parameter.default for name, parameter in inspect.signature(self.make).parameters.items()}

    def answer(self, **parameters: Any) -> Number | None:
        """The exact optimal value at the initial distribution, or None where it is not known."""
        return None if self.exact is None else self.exact(**{**self.defaults, **parameters})
