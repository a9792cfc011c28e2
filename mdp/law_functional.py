r"""Functionals of a law, larger is better, with the conditions that decide what dynamic programming may do with them.

    expected utility    E f(X)
    value at risk       F^{-1}(tau), the left quantile
    CVaR                T(tau)/tau = max_b {b - E(b - X)_+ / tau}, the mean of the worst part tau
    entropic            -(1/b) log E exp(-b X)
    EVaR                sup_{b>0} {entropic_b + log(tau)/b}  <=  CVaR; the least atom where its weight is at least tau
    mean-variance       E X - lam Var X
    distortion          int_0^1 F^{-1}(u) dg(u) = sum_i x_i [g(F(x_i)) - g(F(x_{i-1}))], g increasing, g(0) = 0, g(1) = 1
    mixed VaR           w T(a) + T(b): weight 1 + w on the tail below level a, 1 up to b, none above

Conditions, each declared as a field:

    monotone        nu <=_st mu implies K nu <= K mu: then laws below and above bracket K
    mixtures        K nu_i >= K nu'_i for all i implies the same of every mixture: what greedy choices need
    degree          K law(g X) = g^degree K law(X) for g > 0 (None: no such degree): choices do not change with the discount
    lipschitz       |K nu - K mu| <= lipschitz W_1(nu, mu)

Rockafellar and Uryasev 2000; Ahmadi-Javid 2012 (EVaR); Wang 2000 (distortion); Ren et al. 2025, arXiv 2510.00911 (mixed);
Avila Pires et al. 2025, arXiv 2501.13028 (conditions).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Protocol, runtime_checkable

import numpy as np
from flint import arb, fmpq
from scipy.optimize import minimize_scalar

from .errors import ModelError
from .law import Law, Number


@runtime_checkable
class Functional(Protocol):
    """A number of a law, and what is known of it; see the head of the module."""

    @property
    def monotone(self) -> bool:
        """Whether it respects stochastic order."""
        ...

    @property
    def mixtures(self) -> bool:
        """Whether it is indifferent to mixtures."""
        ...

    @property
    def degree(self) -> int | None:
        """Degree of positive homogeneity, or None."""
        ...

    @property
    def lipschitz(self) -> float:
        """Lipschitz constant in W_1, infinite where there is none."""
        ...

    def __call__(self, law: Law) -> Any:
        """The number; a Fraction of an exact law where it is rational."""
        ...


@dataclass(frozen=True)
class ExpectedUtility:
    """E f(X). f takes a number (or, of vectors of rewards, a tuple) and keeps Fractions where it can.

    function: f. degree, lipschitz, monotone: what is known of f. name: for messages.
    """

    function: Callable[[Any], Any]
    degree: int | None = None
    lipschitz: float = math.inf
    monotone: bool = False
    name: str = "a utility"
    mixtures: bool = field(default=True, init=False)

    def __call__(self, law: Law) -> Any:
        return law.expect(self.function)

    def __str__(self) -> str:
        return f"E {self.name}"


@dataclass(frozen=True)
class TwoSlopes:
    """E f(X), f(x) = positive x where x >= 0 and negative x where x <= 0: every utility of degree one on the line.

    Raises ModelError for slopes that are not finite.
    """

    positive: float
    negative: float
    degree: int = field(default=1, init=False)
    mixtures: bool = field(default=True, init=False)

    def __post_init__(self) -> None:
        if not (math.isfinite(self.positive) and math.isfinite(self.negative)):
            raise ModelError(f"slopes are {self.positive}, {self.negative}; they must be finite")

    @property
    def monotone(self) -> bool:
        """Whether f increases."""
        return self.positive >= 0 and self.negative >= 0

    @property
    def lipschitz(self) -> float:
        """The steeper slope."""
        return max(abs(self.positive), abs(self.negative))

    def function(self, x: Any) -> Any:
        """f(x)."""
        slope = self.positive if x >= 0 else self.negative
        return (Fraction(slope) if isinstance(x, Fraction) else slope) * x

    def __call__(self, law: Law) -> Any:
        return law.expect(self.function)


MEAN = TwoSlopes(1, 1)
"""E X."""

SHORTFALL = TwoSlopes(0, 1)
"""E min(X, 0), by which CVaR is optimised."""

TARGET = TwoSlopes(-1, 1)
"""-E |X|: to end at a target."""

REACH = ExpectedUtility(lambda x: int(x >= 0), degree=0, monotone=True, name="1{x >= 0}")
"""P(X >= 0): to reach at least a target."""


def homeostasis(order: int = 1) -> ExpectedUtility:
    """-E ||X||_order of vectors of rewards, order 1 or 2 (squared to stay rational, degree 2). Raises ModelError for others."""
    if order == 1:
        return ExpectedUtility(lambda x: -sum(abs(part) for part in x), degree=1, lipschitz=1.0, name="-|x|_1")
    if order == 2:
        return ExpectedUtility(lambda x: -sum(part * part for part in x), degree=2, name="-|x|_2^2")
    raise ModelError(f"order is {order!r}; the norms are 1 and 2")


def exponential(risk: float) -> ExpectedUtility:
    """-E exp(-risk X), risk > 0; monotone, of no degree. Raises ModelError for another risk."""
    _positive("risk", risk)
    return ExpectedUtility(lambda x: -math.exp(-risk * x), monotone=True, name=f"-exp(-{risk} x)")


@dataclass(frozen=True)
class VaR:
    """The left quantile F^{-1}(level). Raises ModelError unless 0 < level <= 1."""

    level: Number
    monotone: bool = field(default=True, init=False)
    mixtures: bool = field(default=False, init=False)
    degree: int = field(default=1, init=False)
    lipschitz: float = field(default=math.inf, init=False)

    def __post_init__(self) -> None:
        _level(self.level)

    def __call__(self, law: Law) -> Number:
        return law.quantile(self.level)


@dataclass(frozen=True)
class CVaR:
    """T(level)/level, the mean of the worst part. Raises ModelError unless 0 < level <= 1."""

    level: Number
    monotone: bool = field(default=True, init=False)
    degree: int = field(default=1, init=False)

    def __post_init__(self) -> None:
        _level(self.level)

    @property
    def mixtures(self) -> bool:
        """At level one it is the mean."""
        return self.level == 1

    @property
    def lipschitz(self) -> float:
        """1/level."""
        return float(1 / self.level)

    def __call__(self, law: Law) -> Number:
        return law.tail(self.level) / (Fraction(self.level) if law.exact else self.level)


@dataclass(frozen=True)
class MixedVaR:
    """weight T(low) + T(high), not divided by anything. Raises ModelError unless 0 <= low < high <= 1 and weight is finite.

    weight = 0: the lower tail below `high`; weight = -1: the part between the levels.
    """

    low: Number
    high: Number
    weight: Number
    mixtures: bool = field(default=False, init=False)
    degree: int = field(default=1, init=False)

    def __post_init__(self) -> None:
        if not 0 <= self.low < self.high <= 1 or not math.isfinite(self.weight):
            raise ModelError(
                f"low={self.low}, high={self.high}, weight={self.weight}: levels 0 <= low < high <= 1, a finite weight"
            )

    @property
    def monotone(self) -> bool:
        """Where no part of the law is weighed negatively."""
        return self.weight >= -1

    @property
    def lipschitz(self) -> float:
        """The largest weight of a part."""
        return float(max(abs(1 + self.weight) if self.low else 0, 1))

    def __call__(self, law: Law) -> Number:
        weight = Fraction(self.weight) if law.exact else self.weight
        return weight * law.tail(self.low) + law.tail(self.high)


@dataclass(frozen=True)
class Distortion:
    """int F^{-1} dg. function: g, increasing from g(0) = 0 to g(1) = 1. lipschitz: sup g'.

    Raises ModelError where the ends are wrong.
    """

    function: Callable[[Any], Any]
    lipschitz: float = math.inf
    name: str = "a distortion"
    monotone: bool = field(default=True, init=False)
    mixtures: bool = field(default=False, init=False)
    degree: int = field(default=1, init=False)

    def __post_init__(self) -> None:
        if self.function(0) != 0 or self.function(1) != 1:
            raise ModelError(f"{self.name} is {self.function(0)} at 0 and {self.function(1)} at 1; it must be 0 and 1")

    def __call__(self, law: Law) -> Any:
        seen = [0 * law.levels[0], *(self.function(u) for u in law.levels.tolist())]
        return sum(x * (b - a) for x, a, b in zip(law.atoms.tolist(), seen, seen[1:], strict=False))


@dataclass(frozen=True)
class MeanVariance:
    """E X - weight Var X, weight >= 0; neither monotone nor indifferent to mixtures. Raises ModelError for another weight."""

    weight: Number
    monotone: bool = field(default=False, init=False)
    mixtures: bool = field(default=False, init=False)
    degree: None = field(default=None, init=False)
    lipschitz: float = field(default=math.inf, init=False)

    def __post_init__(self) -> None:
        if not (math.isfinite(self.weight) and self.weight >= 0):
            raise ModelError(f"weight is {self.weight}; it must be a finite number >= 0")

    def __call__(self, law: Law) -> Number:
        return law.mean - (Fraction(self.weight) if law.exact else self.weight) * law.variance


@dataclass(frozen=True)
class Entropic:
    """-(1/risk) log E exp(-risk X), risk > 0: a float. It orders laws as a utility does. Raises ModelError otherwise."""

    risk: float
    monotone: bool = field(default=True, init=False)
    mixtures: bool = field(default=True, init=False)
    degree: None = field(default=None, init=False)
    lipschitz: float = field(default=math.inf, init=False)

    def __post_init__(self) -> None:
        _positive("risk", self.risk)

    def __call__(self, law: Law) -> float:
        law = law.approximate()
        least = law.atoms[0]
        return float(least - math.log(np.sum(law.weights * np.exp(-self.risk * (law.atoms - least)))) / self.risk)

    def enclose(self, law: Law) -> tuple[float, float]:
        """Floats below and above the number of an exact law, by ball arithmetic."""
        risk, least = arb(_fmpq(Fraction(self.risk))), _fmpq(law.atoms[0])
        total = arb(0)
        for x, p in zip(law.atoms.tolist(), law.weights.tolist(), strict=True):
            total += arb(_fmpq(p)) * (-risk * arb(_fmpq(x) - least)).exp()
        found = arb(least) - total.log() / risk
        return _outward(found)


@dataclass(frozen=True)
class EVaR:
    """sup_{b>0} {entropic_b + log(level)/b}: a float. Raises ModelError unless 0 < level <= 1."""

    level: float
    monotone: bool = field(default=True, init=False)
    mixtures: bool = field(default=False, init=False)
    degree: int = field(default=1, init=False)
    lipschitz: float = field(default=math.inf, init=False)

    def __post_init__(self) -> None:
        _level(self.level)

    def __call__(self, law: Law) -> float:
        law = law.approximate()
        least, width = float(law.atoms[0]), float(law.atoms[-1] - law.atoms[0])
        if self.level == 1:
            return float(law.mean)
        if width == 0 or law.weights[0] >= self.level:
            return least
        gaps, logs = (law.atoms - least) / width, math.log(self.level)

        def lost(log_risk: float) -> float:
            b = math.exp(log_risk)
            return (math.log(np.sum(law.weights * np.exp(-b * gaps))) - logs) / b

        starts = np.linspace(-12.0, 16.0, 57)
        at = starts[int(np.argmin([lost(s) for s in starts]))]
        best = minimize_scalar(lost, bounds=(at - 0.5, at + 0.5), method="bounded", options={"xatol": 1e-12})
        return least - width * min(float(best.fun), lost(float(at)))  # pyright: ignore[reportAttributeAccessIssue]


@dataclass(frozen=True)
class Lexicographic:
    """Utilities in order of importance: a tuple, compared entry by entry. Raises ModelError where one mixes differently.

    parts: at least one, each indifferent to mixtures.
    """

    parts: tuple[Any, ...]
    mixtures: bool = field(default=True, init=False)
    lipschitz: float = field(default=math.inf, init=False)

    def __post_init__(self) -> None:
        if not self.parts or not all(part.mixtures for part in self.parts):
            raise ModelError("a lexicographic order needs at least one part, each an expected utility")

    @property
    def monotone(self) -> bool:
        """Where every part is."""
        return all(part.monotone for part in self.parts)

    @property
    def degree(self) -> int | None:
        """The first part's, where every part has a degree: choices do not change with the discount."""
        return self.parts[0].degree if all(part.degree is not None for part in self.parts) else None

    def __call__(self, law: Law) -> tuple[Any, ...]:
        return tuple(part(law) for part in self.parts)


def wang(theta: float) -> Distortion:
    """Wang's distortion g(u) = Phi(Phi^{-1}(u) + theta): averse to risk for theta > 0."""
    from scipy.special import ndtr, ndtri

    return Distortion(lambda u: float(ndtr(ndtri(float(u)) + theta)), name=f"Wang's distortion at {theta}")


def enclosure(functional: Any, law: Law) -> tuple[float, float]:
    """Floats below and above the functional of an exact law.

    Raises ModelError for a functional that is neither rational nor encloses itself.
    """
    if hasattr(functional, "enclose"):
        return functional.enclose(law)
    found = functional(law)
    if not isinstance(found, int | Fraction):
        raise ModelError(f"{functional} of an exact law is {type(found).__name__}; only rational functionals are enclosed")
    nearest = float(found)
    low = nearest if Fraction(nearest) <= found else math.nextafter(nearest, -math.inf)
    high = nearest if Fraction(nearest) >= found else math.nextafter(nearest, math.inf)
    return low, high


def _outward(ball: Any) -> tuple[float, float]:
    low, high = float(ball.lower()), float(ball.upper())
    return math.nextafter(low, -math.inf), math.nextafter(high, math.inf)


def _fmpq(x: Fraction) -> Any:
    return fmpq(x.numerator, x.denominator)


def _level(level: Number) -> None:
    if not 0 < level <= 1:
        raise ModelError(f"level is {level}; it must lie in (0, 1]")


def _positive(name: str, number: float) -> None:
    if not (math.isfinite(number) and number > 0):
        raise ModelError(f"{name} is {number}; it must be a finite number > 0")
