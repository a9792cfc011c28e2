"""The inner problem min p.z a second time: cvxpy for the definition, Fractions and balls of arb for the exact value.

Nothing here shares code with the kernels. `SETS` is the register: what stands in it passes the battery.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import cvxpy as cp
import numpy as np
from banach.mdp import ambiguity
from banach.mdp.ambiguity import AmbiguitySet

Row = list[Fraction]


@dataclass(frozen=True)
class Registered:
    """A family as the battery sees it.

    at: (strength, nominal, side, support) -> the set; it grows with the strength and is the nominal row at zero; `side` seeds
    whatever else the set needs. define: cvxpy constraints of (p, nominal row, set) beside p >= 0 and p.1 = nominal.1.
    exact: (set, nominal, z) -> bounds of sigma as Fractions. full: a strength that reaches every row of the support.
    """

    name: str
    at: Callable[[float, np.ndarray, int, str], AmbiguitySet]
    define: Callable[[Any, np.ndarray, Any], list]
    exact: Callable[[Any, Row, Row], tuple[Fraction, Fraction]]
    full: float
    solver: str = "CLARABEL"
    dominated: bool = False


def fractions(numbers) -> Row:
    return [Fraction(float(x)) for x in numbers]


def free(ambiguity_set: AmbiguitySet, nominal: np.ndarray) -> np.ndarray:
    """Entries that may carry mass."""
    narrow = ambiguity_set.contains_nominal and (ambiguity_set.support == "nominal" or ambiguity_set.dominated)
    return np.flatnonzero(nominal) if narrow else np.arange(len(nominal))


def conic(registered: Registered, ambiguity_set: AmbiguitySet, nominal: np.ndarray, z: np.ndarray) -> float:
    """min p.z as cvxpy finds it."""
    p = cp.Variable(len(nominal))
    outside = np.setdiff1d(np.arange(len(nominal)), free(ambiguity_set, nominal))
    constraints = [p >= 0, cp.sum(p) == nominal.sum(), *registered.define(p, nominal, ambiguity_set)]
    if len(outside):
        constraints.append(p[outside] == 0)
    problem = cp.Problem(cp.Minimize(p @ z), constraints)
    problem.solve(solver=registered.solver)
    assert problem.status in ("optimal", "optimal_inaccurate"), problem.status
    return float(problem.value)


def narrowed(ambiguity_set: AmbiguitySet, nominal: Row, z: Row) -> tuple[Row, Row, np.ndarray]:
    keep = free(ambiguity_set, np.array([float(x) for x in nominal]))
    return [nominal[i] for i in keep], [z[i] for i in keep], keep


def variation(budget: Fraction, nominal: Row, z: Row) -> Fraction:
    """The dual of total variation at each of its breakpoints."""
    least = min(z)
    return max(
        sum(b * min(v, theta) for b, v in zip(nominal, z, strict=True)) - (theta - least) * min(budget, Fraction(4)) for theta in z
    )


def box(lower: Row, upper: Row, mass: Fraction, z: Row) -> Fraction:
    """The dual of a box at each of its breakpoints."""
    return max(
        mass * theta + sum(low * max(v - theta, 0) - high * max(theta - v, 0) for low, high, v in zip(lower, upper, z, strict=True))
        for theta in z
    )


def weighted(weights: Row, radius: Fraction, nominal: Row, z: Row) -> Fraction:
    """The dual of the weighted L1 ball at every price where two of its lines could cross."""
    n, prices = len(z), {Fraction(0)}
    for i in range(n):
        for k in range(n):
            prices.add((z[i] - z[k]) / (weights[i] + weights[k]))
            if weights[i] != weights[k]:
                prices.add((z[i] - z[k]) / (weights[k] - weights[i]))

    def dual(price: Fraction) -> Fraction:
        nu = min(v + price * w for v, w in zip(z, weights, strict=True))
        moved = sum(b * min(v - nu, price * w) for b, v, w in zip(nominal, z, weights, strict=True))
        return moved + sum(nominal) * nu - price * radius

    return max(dual(price) for price in prices if price >= 0)


def exact_variation(ambiguity_set, nominal, z):
    nominal, z, _ = narrowed(ambiguity_set, nominal, z)
    share = 2 if isinstance(ambiguity_set, ambiguity.L1) else 1
    budget = Fraction(min(ambiguity_set.radius, 8.0)) / share
    return (variation(budget, nominal, z),) * 2


def exact_weighted(ambiguity_set, nominal, z):
    nominal, z, keep = narrowed(ambiguity_set, nominal, z)
    weights = fractions(ambiguity_set.weights[keep])
    radius = Fraction(min(ambiguity_set.radius, 1e6))
    return (weighted(weights, radius, nominal, z),) * 2


def exact_interval(ambiguity_set, nominal, z):
    return (box(fractions(ambiguity_set.lower), fractions(np.minimum(ambiguity_set.upper, 9)), sum(nominal), z),) * 2


def exact_maximum(ambiguity_set, nominal, z):
    nominal, z, _ = narrowed(ambiguity_set, nominal, z)
    radius = Fraction(min(ambiguity_set.radius, 8.0))
    lower, upper = [max(b - radius, Fraction(0)) for b in nominal], [b + radius for b in nominal]
    return (box(lower, upper, sum(nominal), z),) * 2


def exact_tail(ambiguity_set, nominal, z):
    nominal, z, _ = narrowed(ambiguity_set, nominal, z)
    level = Fraction(ambiguity_set.level)
    return (box([Fraction(0)] * len(z), [b / level for b in nominal], sum(nominal), z),) * 2


def exact_contamination(ambiguity_set, nominal, z):
    nominal, z, _ = narrowed(ambiguity_set, nominal, z)
    radius = Fraction(ambiguity_set.radius)
    nominal_value = sum(b * v for b, v in zip(nominal, z, strict=True))
    return ((1 - radius) * nominal_value + radius * sum(nominal) * min(z),) * 2


def exact_scenarios(ambiguity_set, nominal, z):
    return (min(sum(x * v for x, v in zip(fractions(row), z, strict=True)) for row in ambiguity_set.rows),) * 2


def weights_of(n: int, side: int) -> np.ndarray:
    return np.random.default_rng(side).choice([0.25, 0.5, 1.0, 1.0, 2.0, 3.7], n)


def interval_at(strength, nominal, side, support):
    reach = strength * weights_of(len(nominal), side)
    return ambiguity.Interval(np.maximum(nominal - reach, 0), nominal + reach)


def scenarios_at(strength, nominal, side, support):
    n = len(nominal)
    share = min(1.0, strength)
    return ambiguity.Scenarios(np.vstack([nominal, (1 - share) * nominal + share * np.eye(n)]))


def define_scenarios(p, b, s):
    mixture = cp.Variable(len(s.rows), nonneg=True)
    return [p == mixture @ s.rows, cp.sum(mixture) == 1]


SETS = [
    Registered(
        "L1",
        lambda s, b, side, support: ambiguity.L1(s, support=support),
        lambda p, b, s: [cp.norm1(p - b) <= s.radius],
        exact_variation,
        2.5,
    ),
    Registered(
        "TotalVariation",
        lambda s, b, side, support: ambiguity.TotalVariation(s, support=support),
        lambda p, b, s: [cp.norm1(p - b) <= 2 * s.radius],
        exact_variation,
        1.5,
    ),
    Registered(
        "WeightedL1",
        lambda s, b, side, support: ambiguity.WeightedL1(s, weights_of(len(b), side), support=support),
        lambda p, b, s: [s.weights @ cp.abs(p - b) <= s.radius],
        exact_weighted,
        8.0,
    ),
    Registered(
        "Interval",
        interval_at,
        lambda p, b, s: [p >= s.lower, p <= s.upper],
        exact_interval,
        5.0,
    ),
    Registered(
        "LInfinity",
        lambda s, b, side, support: ambiguity.LInfinity(s, support=support),
        lambda p, b, s: [cp.norm_inf(p - b) <= s.radius],
        exact_maximum,
        1.5,
    ),
    Registered(
        "CVaR",
        lambda s, b, side, support: ambiguity.CVaR(1 / (1 + s), support=support),
        lambda p, b, s: [p <= b / s.level],
        exact_tail,
        1e6,
        dominated=True,
    ),
    Registered(
        "Contamination",
        lambda s, b, side, support: ambiguity.Contamination(min(1.0, s), support=support),
        lambda p, b, s: [p >= (1 - s.radius) * b],
        exact_contamination,
        1.0,
    ),
    Registered("Scenarios", scenarios_at, define_scenarios, exact_scenarios, 1.0),
]
