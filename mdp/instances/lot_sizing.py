r"""Deterministic lot sizing with a finite horizon.

Demand d_1..d_T must be met; an order costs K whatever its size, and stock left at the end of a period costs h a unit. An
optimal plan orders only when the stock is zero, so with F(T) = 0 and t ordering for periods t..u-1,

    F(t) = min_{t < u <= T} [ K + h sum_{t <= i < u} (i - t) d_i + F(u) ]        (a period without demand may be skipped).

Wagner and Whitin, Manage. Sci. 5, 1958.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from ..criterion import FiniteHorizon
from ..errors import ModelError
from ..model import MDP
from .instance import Instance, Published
from .parameters import at_least, rational
from .rows import from_lists, start_at


def wagner_whitin(demand: str | Sequence[int] = "90/120/80/70", setup: float = 500.0, holding: float = 2.0) -> MDP:
    """When to order for known demands: set-up costs against holding costs, over as many decisions as there are periods.

    A state is a period and a stock, in multiples of the demands' greatest common divisor; action a leaves a multiples in
    stock beyond what the stock and the demand require. The states after the last period are terminal.
    demand: whole numbers >= 0, or the same as text with slashes between. setup: K >= 0, holding: h >= 0 a unit and period.
    Raises ModelError for parameters out of range. Source: Wagner and Whitin, Manage. Sci. 5, 1958.
    """
    at_least(0, setup=setup, holding=holding)
    needs = _demands(demand)
    unit = math.gcd(*needs) or 1
    lots = [need // unit for need in needs]
    ahead = [sum(lots[t:]) for t in range(len(lots) + 1)]
    first = np.concatenate(([0], np.cumsum([most + 1 for most in ahead])))
    states: list = []
    for t, lot in enumerate(lots):
        for stock in range(ahead[t] + 1):
            options = range(max(stock - lot, 0), ahead[t + 1] + 1)
            states.append(
                [(setup * (left > stock - lot) + holding * unit * left, {int(first[t + 1]) + left: 1.0}) for left in options]
            )
    states.append(0.0)
    return from_lists(states, FiniteHorizon(len(lots), minimize=True), initial=start_at(len(states), 0))


def _demands(demand: str | Sequence[int]) -> list[int]:
    words = demand.split("/") if isinstance(demand, str) else demand
    try:
        needs = [int(word) for word in words]
    except ValueError:
        needs = []
    if not needs or min(needs) < 0:
        raise ModelError(f"demand={demand!r} is not a list of whole numbers >= 0, such as 90/120/80/70")
    return needs


def _wagner_whitin_exact(demand: str | Sequence[int], setup: float, holding: float) -> Fraction:
    needs, price, hold = _demands(demand), rational(setup), rational(holding)
    cost = [Fraction(0)] * (len(needs) + 1)
    for t in range(len(needs) - 1, -1, -1):
        plans = [cost[t + 1]] if needs[t] == 0 else []
        kept = Fraction(0)
        for u in range(t, len(needs)):
            kept += hold * (u - t) * needs[u]
            plans.append(price + kept + cost[u + 1])
        cost[t] = min(plans)
    return cost[0]


WAGNER_WHITIN = Instance(
    "wagner_whitin", wagner_whitin, "Wagner and Whitin, Manage. Sci. 5, 1958", exact=_wagner_whitin_exact,
    published=(Published({}, Fraction(1380), 0.0, "Snyder and Shen, Fundamentals of Supply Chain Theory, example 3.9"),),
)  # fmt: skip
