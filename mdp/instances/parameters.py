"""Ranges of the parameters of instances."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from ..criterion import AverageReward, Discounted
from ..errors import ModelError


def at_least(least: float, **numbers: float) -> None:
    """Raise ModelError, naming it, for the first of the numbers that is below `least`."""
    for name, number in numbers.items():
        if not number >= least:
            raise ModelError(f"{name}={number!r} is too small; it must be at least {least}")


def within(low: float, high: float, **numbers: float) -> None:
    """Raise ModelError, naming it, for the first of the numbers that is not in [low, high]."""
    for name, number in numbers.items():
        if not low <= number <= high:
            raise ModelError(f"{name}={number!r} is out of range; it must be in [{low}, {high}]")


def inside(low: float, high: float, **numbers: float) -> None:
    """Raise ModelError, naming it, for the first of the numbers that is not in (low, high)."""
    for name, number in numbers.items():
        if not low < number < high:
            raise ModelError(f"{name}={number!r} is out of range; it must be between {low} and {high}, neither of them")


def one_of(choices: Sequence[str], **words: str) -> None:
    """Raise ModelError, naming it, for the first of the words that is not among the choices."""
    for name, word in words.items():
        if word not in choices:
            raise ModelError(f"{name}={word!r} is unknown; it must be one of {', '.join(choices)}")


def long_run(discount: float, minimize: bool = False) -> Discounted | AverageReward:
    """Discounted below discount 1, average reward at 1."""
    return AverageReward(minimize) if discount == 1 else Discounted(discount, minimize)


def rational(number: float) -> Fraction:
    """The rational that a decimal stands for: 7/10 for 0.7."""
    return Fraction(str(number))
