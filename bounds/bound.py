r"""A theorem's promise as an expression, with the measurement that it speaks of.

A user's own bound takes ten lines:

    import sympy
    from banach.bounds import Bound, Measurement, verify

    gamma, delta = sympy.symbols("gamma delta", nonnegative=True)

    def measure(evidence):
        value = evidence.zero()
        residual = evidence.sup(evidence.apply(value) - value)
        yield Measurement(evidence.sup(value - evidence.optimal()), {gamma: evidence.discount, delta: residual})

    MINE = Bound("zero's residual", r"\|v^*\|", delta / (1 - gamma), {gamma: "discount", delta: "largest reward"}, measure)
    print(verify(MINE))

`evidence` is `banach.bounds.evidence.Evidence`: the problem in exact rationals where it is small, in certified brackets where
it is large. A measurement may use the problem's own arrays, `evidence.problem`, as well; plain floats are then compared
within rounding, and the report says so.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import sympy

from ..mdp.model import MDP
from ..mdp.preference import PreferenceGame
from ..mdp.token import TokenProblem
from .drawing import discounted_models
from .errors import BoundError
from .number import Number, approximate, evaluate
from .specimens import discounted

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

Problem = MDP | PreferenceGame | TokenProblem

SENSES = {"at most": r"\leq", "at least": r"\geq", "equal to": "="}


@dataclass(frozen=True)
class Measurement:
    """One comparison of what was found with what is promised.

    measured: the quantity that the bound speaks of. values: a number for each of the statement's symbols.
    parameters: what was varied, by name, for tables and curves: numbers or words.
    """

    measured: Number
    values: Mapping[sympy.Symbol, Number]
    parameters: Mapping[str, int | float | str] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Bound:
    """A statement about decision problems: a quantity is at most, at least, or equal to an expression.

    name: in a few words. quantity: the left-hand side, in LaTeX. statement: the right-hand side. symbols: the meaning of each
    of its symbols. measure: evidence of a problem -> measurements. assumes: the hypotheses. source: authors, year, where.
    sense: "at most", "at least" or "equal to". family: the shelf of the catalogue. axis: the parameter of the measurements
    that a curve is drawn against, or "".
    problems: the models to verify on, by name. drawn: strategy of the models that `falsify` searches. about: the class of the
    models that the statement speaks of, `MDP`, `PreferenceGame` or `TokenProblem`.
    Raises BoundError for a symbol without a meaning or an unknown sense.
    """

    name: str
    quantity: str
    statement: sympy.Expr
    symbols: Mapping[sympy.Symbol, str]
    measure: Callable[[Any], Iterable[Measurement]]
    assumes: str = "a finite discounted problem whose rows sum to one"
    source: str = ""
    sense: Literal["at most", "at least", "equal to"] = "at most"
    family: str = "own"
    axis: str = ""
    problems: Callable[[], Mapping[str, Problem]] = discounted
    drawn: Callable[[], SearchStrategy[Any]] = discounted_models
    about: type = MDP

    def __post_init__(self) -> None:
        object.__setattr__(self, "statement", sympy.sympify(self.statement))
        unknown = sorted(str(symbol) for symbol in self.statement.free_symbols if symbol not in self.symbols)
        if unknown:
            raise BoundError(f"{self.name}: no meaning is given for {', '.join(unknown)}; add it to symbols")
        if self.sense not in SENSES:
            raise BoundError(f"{self.name}: sense is {self.sense!r}; it is one of {', '.join(SENSES)}")

    @property
    def key(self) -> str:
        """The name as one lower-case word with hyphens, for command lines and files."""
        return re.sub(r"[^a-z0-9]+", "-", self.name.lower()).strip("-")

    def evaluate(self, values: Mapping[sympy.Symbol, Number]) -> float:
        """What is promised at these values; rounded once at the end. Raises BoundError where a symbol has no value."""
        return approximate(evaluate(self.statement, values))

    def require(self, problem: Problem) -> None:
        """Raise BoundError where the statement does not speak of problems of this class."""
        if not isinstance(problem, self.about):
            raise BoundError(f"{self.name}: it speaks of {self.about.__name__}, not of {type(problem).__name__}")

    def latex(self) -> str:
        """The whole statement in LaTeX, without dollar signs."""
        return f"{self.quantity} {SENSES[self.sense]} {sympy.latex(self.statement)}"

    def __str__(self) -> str:
        return f"{self.name}: {self.sense} {self.statement}"
