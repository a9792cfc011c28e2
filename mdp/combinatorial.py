r"""Four combinatorial problems, to be built step by step; see `banach.mdp.construction`.

                    tail                                            steps
TravelingSalesman   city u, cities R left                       j in R: -d(u, j); when R is empty close: -d(u, 0)
VehicleRouting      customer u, capacity q left, R left         j if demand_j <= q: -d(u, j); "j by the depot":
                                                                -d(u, 0) - d(0, j); when R is empty close: -d(u, 0)
Orienteering        place u, budget b left, R                   j if d(u, j) + d(j, 0) <= b: prize_j; stop
Knapsack            capacity c left, R                          j if weight_j <= c: value_j; stop

Amounts are added as fractions, so that what a step pays is the float that was given, whatever came before.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import Any

import numpy as np

from .construction import CLOSE, STOP, Prefix, Tail
from .errors import ModelError


def distances(given: Any) -> np.ndarray:
    """(n, n), float64, as a routing problem takes them. Raises ModelError for another shape, or what is not finite and >= 0."""
    distance = np.ascontiguousarray(given, dtype=np.float64)
    if distance.ndim != 2 or distance.shape[0] != distance.shape[1] or not len(distance):
        raise ModelError(f"distance has shape {distance.shape}; it must be (n, n), n >= 1, the depot first")
    for i, j in np.argwhere(~(np.isfinite(distance) & (distance >= 0)))[:1].tolist():
        raise ModelError(f"the distance from {i} to {j} is {distance[i, j]}; it must be a finite number >= 0")
    return distance


@dataclass(frozen=True, eq=False)
class TravelingSalesman:
    """The shortest round trip from place 0 through all others.

    distance: (n, n), >= 0, need not be symmetric.
    Raises ModelError for anything else.
    """

    distance: np.ndarray

    def __post_init__(self) -> None:
        object.__setattr__(self, "distance", distances(self.distance))

    def steps(self, prefix: Prefix) -> list[str]:
        """Cities not yet visited; `CLOSE` after the last."""
        return [str(j) for j in range(1, len(self.distance)) if str(j) not in prefix] or [CLOSE]

    def objective(self, prefix: Prefix) -> Fraction:
        """Less the length of the way."""
        places = [0, *(0 if step == CLOSE else int(step) for step in prefix)]
        return -_length(self.distance, places)

    def tail(self, prefix: Prefix) -> Tail:
        """The place and the cities left."""
        return (int(prefix[-1]) if prefix else 0, _left(len(self.distance), prefix))

    def continuations(self, tail: Any) -> dict[str, tuple[float, Tail | None]]:
        """See `Construction`."""
        here, left = tail
        if not left:
            return {CLOSE: (-float(self.distance[here, 0]), None)}
        return {str(j): (-float(self.distance[here, j]), (j, left - {j})) for j in sorted(left)}


@dataclass(frozen=True, eq=False)
class VehicleRouting:
    """Shortest round trips from depot 0 that serve all customers, each trip within the capacity.

    distance: (n, n), >= 0. demand: (n,), of customers, that of the depot 0, each at most the capacity. capacity: > 0.
    Raises ModelError for anything else.
    """

    distance: np.ndarray
    demand: np.ndarray
    capacity: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "distance", distances(self.distance))
        object.__setattr__(self, "demand", _amounts("demand", self.demand, len(self.distance), 0.0, self.capacity))

    def steps(self, prefix: Prefix) -> list[str]:
        """Customers left, directly where the load allows, and by the depot but at the start; `CLOSE` after the last."""
        room = self._room(prefix)
        left = [j for j in range(1, len(self.distance)) if not any(_customer(step) == j for step in prefix)]
        direct = [str(j) for j in left if Fraction(float(self.demand[j])) <= room]
        return [*direct, *(f"{j} by the depot" for j in left if prefix)] if left else [CLOSE]

    def _room(self, prefix: Prefix) -> Fraction:
        room = Fraction(float(self.capacity))
        for step in prefix:
            room = Fraction(float(self.capacity)) if " " in step else room
            room -= Fraction(float(self.demand[_customer(step)]))
        return room

    def objective(self, prefix: Prefix) -> Fraction:
        """Less the length of the way."""
        places = [0]
        for step in prefix:
            places += [0] if step == CLOSE else [0, _customer(step)] if " " in step else [_customer(step)]
        return -_length(self.distance, places)

    def tail(self, prefix: Prefix) -> Tail:
        """The place, the capacity left and the customers left."""
        here = _customer(prefix[-1]) if prefix else 0
        return (here, self._room(prefix), _left(len(self.distance), tuple(str(_customer(step)) for step in prefix)))

    def continuations(self, tail: Any) -> dict[str, tuple[float, Tail | None]]:
        """See `Construction`."""
        here, room, left = tail
        if not left:
            return {CLOSE: (-float(self.distance[here, 0]), None)}
        found: dict[str, tuple[float, Tail | None]] = {}
        for j in sorted(left):
            load = Fraction(float(self.demand[j]))
            if load <= room:
                found[str(j)] = (-float(self.distance[here, j]), (j, room - load, left - {j}))
            if here:
                way = -float(Fraction(float(self.distance[here, 0])) + Fraction(float(self.distance[0, j])))
                found[f"{j} by the depot"] = (way, (j, Fraction(float(self.capacity)) - load, left - {j}))
        return found


@dataclass(frozen=True, eq=False)
class Orienteering:
    """The most prizes on a round trip from place 0 within a budget of length.

    distance: (n, n), >= 0. prize: (n,), >= 0. budget: >= 0.
    Raises ModelError for anything else.
    """

    distance: np.ndarray
    prize: np.ndarray
    budget: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "distance", distances(self.distance))
        object.__setattr__(self, "prize", _amounts("prize", self.prize, len(self.distance), 0.0, np.inf))
        _amounts("budget", [self.budget], 1, 0.0, np.inf)

    def steps(self, prefix: Prefix) -> list[str]:
        """Places from which the way back is still within the budget, and `STOP`."""
        spent, here = _length(self.distance, [0, *map(int, prefix)]), int(prefix[-1]) if prefix else 0
        rest = Fraction(float(self.budget)) - spent
        near = (str(j) for j in range(1, len(self.distance)) if _length(self.distance, [here, j, 0]) <= rest)
        return [*(step for step in near if step not in prefix), STOP]

    def objective(self, prefix: Prefix) -> Fraction:
        """Prizes won."""
        return sum((Fraction(float(self.prize[int(step)])) for step in prefix if step != STOP), Fraction(0))

    def tail(self, prefix: Prefix) -> Tail:
        """The place, the budget left and the places not visited."""
        rest = Fraction(float(self.budget)) - _length(self.distance, [0, *map(int, prefix)])
        return (int(prefix[-1]) if prefix else 0, rest, _left(len(self.distance), prefix))

    def continuations(self, tail: Any) -> dict[str, tuple[float, Tail | None]]:
        """See `Construction`."""
        here, rest, left = tail
        found: dict[str, tuple[float, Tail | None]] = {STOP: (0.0, None)}
        for j in sorted(left):
            there = Fraction(float(self.distance[here, j]))
            if there + Fraction(float(self.distance[j, 0])) <= rest:
                found[str(j)] = (float(self.prize[j]), (j, rest - there, left - {j}))
        return found


@dataclass(frozen=True, eq=False)
class Knapsack:
    """The most valuable items within a capacity.

    weight: (n,), > 0. value: (n,), >= 0. capacity: >= 0.
    Raises ModelError for anything else.
    """

    weight: np.ndarray
    value: np.ndarray
    capacity: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "weight", _amounts("weight", self.weight, len(self.weight), np.nextafter(0, 1), np.inf))
        object.__setattr__(self, "value", _amounts("value", self.value, len(self.weight), 0.0, np.inf))
        _amounts("capacity", [self.capacity], 1, 0.0, np.inf)

    def _room(self, prefix: Prefix) -> Fraction:
        return Fraction(float(self.capacity)) - sum((Fraction(float(self.weight[int(j)])) for j in prefix), Fraction(0))

    def steps(self, prefix: Prefix) -> list[str]:
        """Items that still fit, and `STOP`."""
        room = self._room(prefix)
        fit = (str(j) for j in range(len(self.weight)) if Fraction(float(self.weight[j])) <= room)
        return [*(step for step in fit if step not in prefix), STOP]

    def objective(self, prefix: Prefix) -> Fraction:
        """Value of the items."""
        return sum((Fraction(float(self.value[int(step)])) for step in prefix if step != STOP), Fraction(0))

    def tail(self, prefix: Prefix) -> Tail:
        """The capacity and the items left."""
        return (self._room(prefix), frozenset(range(len(self.weight))) - set(map(int, prefix)))

    def continuations(self, tail: Any) -> dict[str, tuple[float, Tail | None]]:
        """See `Construction`."""
        room, left = tail
        found: dict[str, tuple[float, Tail | None]] = {STOP: (0.0, None)}
        for j in sorted(left):
            load = Fraction(float(self.weight[j]))
            if load <= room:
                found[str(j)] = (float(self.value[j]), (room - load, left - {j}))
        return found


def _customer(step: str) -> int:
    return int(step.split(" ", maxsplit=1)[0])


def _left(n: int, prefix: Prefix) -> frozenset[int]:
    return frozenset(range(1, n)) - set(map(int, prefix))


def _length(distance: np.ndarray, places: Sequence[int]) -> Fraction:
    return sum((Fraction(float(distance[i, j])) for i, j in pairwise(places)), Fraction(0))


def _amounts(name: str, given: Any, length: int, least: float, most: float) -> np.ndarray:
    amounts = np.asarray(given, dtype=np.float64)
    if amounts.shape != (length,):
        raise ModelError(f"{name} has shape {amounts.shape}; it must be ({length},)")
    for i in np.flatnonzero(~(np.isfinite(amounts) & (amounts >= least) & (amounts <= most)))[:1].tolist():
        raise ModelError(f"{name} {i} is {amounts[i]}; it must be in [{least:g}, {most:g}]")
    return amounts
