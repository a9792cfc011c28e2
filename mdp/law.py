r"""Probability laws on the real line with finitely many atoms, in floating point or in exact rationals.

    nu = sum_i p_i delta_{x_i},    x_1 < ... < x_n,    p_i > 0,    sum_i p_i = 1

with distribution function F(x) = sum_{x_i <= x} p_i, left quantile F^{-1}(u) = min {x : F(x) >= u} and lower tail integral

    T(u) = int_0^u F^{-1}(v) dv,

a convex piecewise linear function of u that determines the law. Orders: nu <=_st mu when F_nu >= F_mu everywhere (every
increasing function has the smaller mean under nu); nu <=_icv mu when T_nu <= T_mu everywhere (every increasing and concave one
has).

One interface, two arithmetics: arrays of float64, or object arrays of `fractions.Fraction`, in which nothing is ever rounded.

Bellemare, Dabney and Rowland, Distributional Reinforcement Learning, MIT Press 2023, chapters 2 and 5; Shaked and
Shanthikumar, Stochastic Orders, Springer 2007, chapters 1 and 4.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Any

import numpy as np

from .errors import ModelError

Number = float | Fraction

_MASS_TOLERANCE = 1e-9
"""How far floating-point weights may be from one before they are refused instead of normalised."""

JUMP = 1e-12
"""Levels of floating-point laws that exceed a jump of F by less are taken for it: sums of weights round."""


@dataclass(frozen=True, eq=False)
class Law:
    """A law with finitely many atoms; made by `Law.of`, `Law.point` or `mixture`.

    atoms: (n,), strictly increasing. weights: (n,), positive, sum one. Both float64, or both objects, `Fraction`.
    """

    atoms: np.ndarray
    weights: np.ndarray

    @classmethod
    def of(
        cls, atoms: Iterable[Any], weights: Iterable[Any] | None = None, *, exact: bool = False, tolerance: float = 0.0
    ) -> Law:
        """The law with weights (n,) at atoms (n,), in any order, equal atoms merged, atoms of weight zero left out.

        weights: >= 0, summing to one: exactly where exact, else within 1e-9, and normalised. Default: equal.
        exact: in Fractions; floats are the rationals that they store. Also where a given number is a Fraction.
        tolerance: >= 0; from left to right, an atom within it of the first of its cluster joins that one. For floats only.
        Raises ModelError for no atoms, numbers that are not finite, negative weights, or a wrong sum.
        """
        points = list(atoms)
        shares = (
            [Fraction(1, len(points))] * len(points) if weights is None and points else list(() if weights is None else weights)
        )
        if not points or len(points) != len(shares):
            raise ModelError(f"a law has {len(points)} atoms and {len(shares)} weights; give as many of both, at least one")
        exact = exact or any(isinstance(x, Fraction) for x in points)
        exact = exact or (weights is not None and any(isinstance(p, Fraction) for p in shares))
        x, p = (_numbers(name, numbers, exact) for name, numbers in (("atom", points), ("weight", shares)))
        for at in np.flatnonzero(p < 0)[:1]:
            raise ModelError(f"weight {at} is {p[at]}; weights must not be negative")
        total = p.sum()
        if (exact and total != 1) or abs(total - 1) > _MASS_TOLERANCE:
            raise ModelError(f"the weights sum to {total}; they must sum to 1")
        if exact and tolerance:
            raise ModelError(f"tolerance is {tolerance}, but exact laws merge equal atoms only; leave it out")
        return _collected(x, p if exact else p / total, tolerance)

    @classmethod
    def point(cls, x: Number) -> Law:
        """The law of a number that is certain. Raises ModelError where it is not finite."""
        return cls.of([x], [Fraction(1) if isinstance(x, Fraction) else 1.0])

    @property
    def exact(self) -> bool:
        """Whether the numbers are Fractions."""
        return self.atoms.dtype == object

    def rational(self) -> Law:
        """The law in Fractions: the atoms that the floats store, their weights divided by their exact sum."""
        if self.exact:
            return self
        weights = _fractions(self.weights)
        return Law(_fractions(self.atoms), weights / weights.sum())

    def approximate(self) -> Law:
        """The law in floats, each number rounded once; atoms that become equal are merged."""
        return self if not self.exact else Law.of(self.atoms.astype(float), self.weights.astype(float))

    @property
    def mean(self) -> Number:
        """The expectation."""
        return (self.weights * self.atoms).sum()

    @property
    def variance(self) -> Number:
        """E (X - E X)^2."""
        return (self.weights * (self.atoms - self.mean) ** 2).sum()

    @cached_property
    def levels(self) -> np.ndarray:
        """F at the atoms, (n,); the last is one."""
        return _levels(self.weights)

    @cached_property
    def tails(self) -> np.ndarray:
        """T at the levels, (n,)."""
        return np.cumsum(self.weights * self.atoms)

    def expect(self, function: Callable[[Any], Any]) -> Any:
        """E function(X); called once an atom."""
        values = [function(x) for x in self.atoms.tolist()]
        return sum((p * v for p, v in zip(self.weights.tolist(), values, strict=True)), 0 * self.weights[0])

    def cdf(self, x: Number) -> Number:
        """F(x)."""
        point: Any = x
        below = int(np.searchsorted(self.atoms, point, side="right"))
        return self.levels[below - 1] if below else 0 * self.levels[0]

    def quantile(self, level: Number) -> Number:
        """The left quantile F^{-1}(level), level in (0, 1]. Raises ModelError for another level."""
        return self.atoms[self._at(level)]

    def tail(self, level: Number) -> Number:
        """T(level), level in [0, 1]. Raises ModelError for another level."""
        if level == 0:
            return 0 * self.atoms[0]
        level = Fraction(level) if self.exact else float(level)
        at = self._at(level)
        before, taken = (self.tails[at - 1], self.levels[at - 1]) if at else (0, 0)
        return before + (level - taken) * self.atoms[at]

    def affine(self, shift: Number, scale: Number) -> Law:
        """The law of shift + scale X."""
        move: Any = Fraction(shift) if self.exact else float(shift)
        if scale == 0:
            return Law.point(move)
        stretch: Any = Fraction(scale) if self.exact else float(scale)
        return _collected(move + stretch * self.atoms, self.weights, 0.0)

    def _at(self, level: Number) -> int:
        """Place of the atom at a level."""
        if not 0 < level <= 1:
            raise ModelError(f"level is {level}; a quantile's level lies in (0, 1]")
        sought: Any = Fraction(level) if self.exact else float(level) - JUMP
        return min(int(np.searchsorted(self.levels, sought)), len(self.atoms) - 1)

    def __str__(self) -> str:
        return " + ".join(f"{p} at {x}" for x, p in zip(self.atoms.tolist(), self.weights.tolist(), strict=True))


def mixture(weights: Sequence[Number], laws: Sequence[Law]) -> Law:
    """sum_i weights[i] laws[i]; exact where all of them are. Raises ModelError as `Law.of`."""
    if len(weights) != len(laws) or not laws:
        raise ModelError(f"{len(weights)} weights for {len(laws)} laws; give one each, at least one")
    exact = all(law.exact for law in laws)
    share = _numbers("weight", list(weights), exact)
    for at in np.flatnonzero(share < 0)[:1]:
        raise ModelError(f"weight {at} is {share[at]}; weights must not be negative")
    total = share.sum()
    if (exact and total != 1) or abs(total - 1) > _MASS_TOLERANCE:
        raise ModelError(f"the weights sum to {total}; they must sum to 1")
    share = share if exact else share / total
    parts = [law if law.exact == exact else law.approximate() for law in laws]
    return _collected(
        np.concatenate([law.atoms for law in parts]),
        np.concatenate([w * law.weights for w, law in zip(share, parts, strict=True)]),
        0.0,
    )


def stochastically_below(law: Law, other: Law) -> bool:
    """Whether law <=_st other: F_law >= F_other at every atom of either, in their arithmetic."""
    grid = np.union1d(law.atoms, other.atoms)
    return bool(np.all(cdf_at(law, grid) >= cdf_at(other, grid)))


def concavely_below(law: Law, other: Law) -> bool:
    """Whether law <=_icv other, so that the other has the larger CVaR at every level."""
    levels = np.union1d(law.levels, other.levels)
    return all(law.tail(u) <= other.tail(u) for u in levels.tolist())


def concave_supremum(laws: Sequence[Law]) -> Law:
    """The least law above all of them in the increasing concave order: T is the largest of theirs, convex since they are.

    Shaked and Shanthikumar 2007, section 4.A.
    """
    found = laws[0]
    for law in laws[1:]:
        found = _join(found, law)
    return found


def _join(law: Law, other: Law) -> Law:
    """Of two laws: between levels where either bends, T's differ linearly, so they cross at most once there."""
    levels = [0 * law.levels[0], *np.union1d(law.levels, other.levels).tolist()]
    atoms: list[Any] = []
    weights: list[Any] = []
    for low, high in itertools.pairwise(levels):
        before, after = law.tail(low) - other.tail(low), law.tail(high) - other.tail(high)
        one, two = law.quantile(high), other.quantile(high)
        if before * after < 0:
            split = low + (high - low) * before / (before - after)
            atoms += [one, two] if before > 0 else [two, one]
            weights += [split - low, high - split]
        else:
            atoms.append(one if before + after > 0 else two)
            weights.append(high - low)
    return _collected(np.array(atoms, dtype=law.atoms.dtype), np.array(weights, dtype=law.atoms.dtype), 0.0)


def cdf_at(law: Law, grid: np.ndarray) -> np.ndarray:
    """F at increasing points (k,), shape (k,)."""
    below = np.searchsorted(law.atoms, grid, side="right")
    return np.concatenate([[0 * law.levels[0]], law.levels])[below]


def _collected(atoms: np.ndarray, weights: np.ndarray, tolerance: float) -> Law:
    order = np.argsort(atoms, kind="stable")
    atoms, weights = atoms[order], weights[order]
    kept = weights > 0
    atoms, weights = atoms[kept], weights[kept]
    if tolerance:
        first = [0]
        for at in range(1, len(atoms)):
            if atoms[at] - atoms[first[-1]] > tolerance:
                first.append(at)
        heads = np.array(first)
    else:
        heads = np.flatnonzero(np.concatenate([[True], atoms[1:] != atoms[:-1]]))
    return Law(atoms[heads], np.add.reduceat(weights, heads))


def _levels(weights: np.ndarray) -> np.ndarray:
    levels = np.cumsum(weights)
    levels[-1] = 1 if weights.dtype != object else Fraction(1)
    return np.minimum(levels, levels[-1])


def _numbers(name: str, numbers: list[Any], exact: bool) -> np.ndarray:
    try:
        if exact:
            found = np.empty(len(numbers), dtype=object)
            found[:] = [Fraction(x) for x in numbers]
            return found
        array = np.array([float(x) for x in numbers])
    except (TypeError, ValueError, OverflowError) as fault:
        raise ModelError(f"{name}s must be finite real numbers: {fault}") from None
    for at in np.flatnonzero(~np.isfinite(array))[:1]:
        raise ModelError(f"{name} {at} is {array[at]}; it must be finite")
    return array


def _fractions(array: np.ndarray) -> np.ndarray:
    found = np.empty(len(array), dtype=object)
    found[:] = [Fraction(x) for x in array.tolist()]
    return found
