"""The inner problem min p.z a second time: cvxpy for the definition, Fractions and balls of arb for the exact value.

Nothing here shares code with the kernels. `SETS` is the register: what stands in it passes the battery.
"""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import cvxpy as cp
import flint
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
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # "may be inaccurate": the comparison decides that
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
        sum(b * min(v, theta) for b, v in zip(nominal, z, strict=True)) - (theta - least) * min(budget, Fraction(4))
        for theta in z
    )


def box(lower: Row, upper: Row, mass: Fraction, z: Row) -> Fraction:
    """The dual of a box at each of its breakpoints."""
    return max(
        mass * theta
        + sum(low * max(v - theta, 0) - high * max(theta - v, 0) for low, high, v in zip(lower, upper, z, strict=True))
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


def exact_wasserstein(ambiguity_set, nominal, z):
    nominal, z, keep = narrowed(ambiguity_set, nominal, z)
    n, cost = len(z), [fractions(row) for row in ambiguity_set.metric[np.ix_(keep, keep)]]
    radius, prices = Fraction(min(ambiguity_set.radius, 1e6)), {Fraction(0)}
    for i, j, k in itertools.product(range(n), repeat=3):
        if cost[i][j] != cost[i][k]:
            prices.add((z[j] - z[k]) / (cost[i][k] - cost[i][j]))

    def dual(price):
        return sum(b * min(z[j] + price * cost[i][j] for j in range(n)) for i, b in enumerate(nominal)) - price * radius

    return (max(dual(price) for price in prices if price >= 0),) * 2


def rational(ball: flint.arb) -> Fraction:
    """An exact ball, as a Fraction."""
    mantissa, exponent = ball.mid().man_exp()
    return Fraction(int(mantissa)) * Fraction(2) ** int(exponent)


def ball(x: Fraction) -> flint.arb:
    return flint.arb(x.numerator) / flint.arb(x.denominator)


def smooth(radius: Fraction, path, dual, nominal: Row, z: Row) -> tuple[Fraction, Fraction]:
    """Bounds of sigma by bisection on nature's path in balls of arb.

    path(x) -> (value, distance) and dual(x) -> a lower bound of the value, of normal form, for a parameter x on a log scale;
    the distance increases in x and a row at a distance below the radius proves the upper bound.
    """
    least, mass = min(z), sum(nominal)
    low, high = Fraction(-1300), Fraction(10**6)
    while high - low > Fraction(1, 2**150):
        middle = (low + high) / 2
        if path(ball(middle))[1] <= ball(radius):
            low = middle
        else:
            high = middle
    below, above = dual(ball(low)).lower(), path(ball(low))[0].upper()
    return mass * least + max(Fraction(0), rational(below)), mass * least + rational(above)


def precise(decide):
    """Run with bits enough for the radius at hand: distances are quadratic in what is summed."""

    def run(ambiguity_set, nominal, z):
        nominal, z, _ = narrowed(ambiguity_set, nominal, z)
        before = flint.ctx.prec
        radius = min(ambiguity_set.radius, 1e6)
        flint.ctx.prec = 600 + (int(3 * max(0.0, -math.log2(radius))) if radius else 0)
        try:
            nominal_value = sum(b * v for b, v in zip(nominal, z, strict=True))
            if radius == 0 or max(z) == min(z):
                return nominal_value, nominal_value
            return decide(ambiguity_set, Fraction(radius), nominal, z)
        finally:
            flint.ctx.prec = before

    return run


@precise
def exact_kl(ambiguity_set, radius, nominal, z):
    mass, least = sum(nominal), min(z)
    m, d, b = ball(mass), [ball(v - least) for v in z], [ball(x) for x in nominal]
    kept = ball(sum(x for x, v in zip(nominal, z, strict=True) if v == least))
    if not ball(radius) < m * (m / kept).log():
        return mass * least, mass * least

    def partition(tilt):
        weights = [x * (-tilt * v).exp() for x, v in zip(b, d, strict=True)]
        total = sum(weights)
        return sum(w * v for w, v in zip(weights, d, strict=True)) / total * m, (total / m).log()

    def path(x):
        value, log = partition(x.exp())
        return value, -x.exp() * value - m * log

    def dual(x):
        return -(ball(radius) + m * partition(x.exp())[1]) / x.exp()

    return smooth(radius, path, dual, nominal, z)


@precise
def exact_burg(ambiguity_set, radius, nominal, z):
    mass, least = sum(nominal), min(z)
    m, d, b = ball(mass), [ball(v - least) for v in z], [ball(x) for x in nominal]
    shifted = sum(x * v for x, v in zip(b, d, strict=True))
    if radius > 10**4:
        return mass * least, mass * least + rational((shifted * (-ball(radius) / m).exp()).upper())
    used = [(x, v) for x, v in zip(b, d, strict=True) if x > 0]
    if all(v > 0 for _, v in used):
        logs = sum(x * v.log() for x, v in used)
        if logs + m * (sum(x / v for x, v in used) / m).log() <= ball(radius):
            value = m * ((logs - ball(radius)) / m).exp()
            return mass * least + rational(value.lower()), mass * least + rational(value.upper())
    if not any(v > 0 for _, v in used):
        return mass * least, mass * least

    def path(x):
        gap = (-x).exp()
        scale = m / sum(w / (v + gap) for w, v in used)
        value = sum(scale * w * v / (v + gap) for w, v in used)
        return value, sum(w * ((v + gap) / scale).log() for w, v in used)

    def dual(x):
        gap = (-x).exp()
        return m * (((sum(w * (v + gap).log() for w, v in used) - ball(radius)) / m).exp() - gap)

    return smooth(radius, path, dual, nominal, z)


def exact_power(order_of, radius_of):
    @precise
    def decide(ambiguity_set, radius, nominal, z):
        k, radius = Fraction(order_of(ambiguity_set)), radius_of(radius)
        mass, least = sum(nominal), min(z)
        m, d, b, order = ball(mass), [ball(v - least) for v in z], [ball(x) for x in nominal], ball(k)
        most = m + order * (order - 1) * ball(radius)
        kept = ball(sum(x for x, v in zip(nominal, z, strict=True) if v == least))
        if not most < m**order * kept ** (1 - order):
            return mass * least, mass * least
        conjugate = order / (order - 1)

        def rooms(x):
            level = (-x).exp()
            return [(w, v, level - v) for w, v in zip(b, d, strict=True) if level > v]

        def path(x):
            weights = [(w * room ** (1 / (order - 1)), w, v) for w, v, room in rooms(x)]
            scale = m / sum(weight for weight, _, _ in weights)
            power = sum(w * (scale * weight / w) ** order for weight, w, _ in weights)
            return sum(scale * weight * v for weight, _, v in weights), (power - m) / (order * (order - 1))

        def dual(x):
            norm = sum(w * room**conjugate for w, _, room in rooms(x)) ** (1 / conjugate)
            return m * (-x).exp() - most ** (1 / order) * norm

        return smooth(radius, path, dual, nominal, z)

    return decide


@precise
def exact_euclidean(ambiguity_set, radius, nominal, z):
    """The least value over the faces of the simplex on which the ball's own minimiser is nonnegative."""
    n, found = len(z), []
    for size in range(1, n + 1):
        for face in itertools.combinations(range(n), size):
            out = [nominal[i] for i in range(n) if i not in face]
            lost = sum(out, Fraction(0))
            left = radius**2 - lost**2 / size - sum((x**2 for x in out), Fraction(0))
            mean = sum(z[i] for i in face) / size
            spread = sum((z[i] - mean) ** 2 for i in face)
            if left < 0:
                continue
            centre = [nominal[i] + lost / size for i in face]
            step = (ball(left) / ball(spread)).sqrt() if spread else ball(Fraction(0))
            row = [ball(c) - step * ball(z[i] - mean) for c, i in zip(centre, face, strict=True)]
            if all(x > -(flint.arb(2) ** -400) for x in row):
                at_centre = sum(c * z[i] for c, i in zip(centre, face, strict=True))
                found.append(at_centre - rational((ball(left) * ball(spread)).sqrt()))
    return (min(found),) * 2


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


def polytope_at(strength, nominal, side, support):
    """Contamination by at most the strength, and not too much of it on some entries: {p >= (1 - s) b, c.p <= c.b + s / 4}."""
    n = len(nominal)
    kept = -np.maximum(1 - strength, 0) * nominal
    counted = np.random.default_rng(side).integers(0, 2, n).astype(float)
    room = counted @ nominal + min(strength, 8.0) / 4 + 1e-15
    return ambiguity.Polytope(np.vstack([-np.eye(n), counted]), np.append(kept, room))


def exact_polytope(ambiguity_set, nominal, z):
    """What is not kept goes to the least entry of those that count, while there is room, or of those that do not."""
    kept = [-x for x in fractions(ambiguity_set.bound[:-1])]
    counted = ambiguity_set.matrix[-1] > 0
    rest = sum(nominal) - sum(kept)
    room = Fraction(float(ambiguity_set.bound[-1])) - sum(x for x, c in zip(kept, counted, strict=True) if c)
    inside, outside = ([v for v, c in zip(z, counted, strict=True) if c == side] for side in (True, False))
    shares = {rest} if not outside else {Fraction(0)} if not inside else {Fraction(0), min(room, rest)}
    assert rest >= 0
    least = min(s * min(inside, default=0) + (rest - s) * min(outside, default=0) for s in shares)
    return (sum(x * v for x, v in zip(kept, z, strict=True)) + least,) * 2


def models_at(strength, nominal, side, support):
    return ambiguity.ModelCVaR(np.eye(len(nominal)), nominal + 5e-13, max(1 / (1 + strength), 1e-15))


def define_models(p, b, s):
    mixture = cp.Variable(len(s.rows), nonneg=True)
    return [p == mixture @ s.rows, cp.sum(mixture) == 1, mixture <= s.weights / (s.level * s.weights.sum())]


def exact_models(ambiguity_set, nominal, z):
    weights = fractions(ambiguity_set.weights)
    worth = [sum(x * v for x, v in zip(fractions(row), z, strict=True)) for row in ambiguity_set.rows]
    caps = [w / (Fraction(ambiguity_set.level) * sum(weights)) for w in weights]
    return (box([Fraction(0)] * len(caps), caps, Fraction(1), worth),) * 2


def order_of(side: int) -> float:
    return [1.5, 2.0, 3.0][side % 3]


def metric_of(n: int, side: int) -> np.ndarray:
    metric = np.random.default_rng(side).choice([0.5, 1.0, 1.0, 2.0, 3.3], (n, n))
    return metric * (1 - np.eye(n))


def define_burg(p, b, s):
    used = np.flatnonzero(b)
    return [-b[used] @ cp.log(p[used]) <= s.radius - b[used] @ np.log(b[used])]


def define_power(p, b, k, radius):
    used = np.flatnonzero(b)
    return [b[used] @ cp.power(cp.multiply(p[used], 1 / b[used]), k) <= b.sum() + k * (k - 1) * radius]


def define_wasserstein(p, b, s):
    plan = cp.Variable((len(b), len(b)), nonneg=True)
    return [cp.sum(plan, axis=1) == b, cp.sum(plan, axis=0) == p, cp.sum(cp.multiply(plan, s.metric)) <= s.radius]


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
    Registered("Polytope", polytope_at, lambda p, b, s: [s.matrix @ p <= s.bound], exact_polytope, 8.0),
    Registered("ModelCVaR", models_at, define_models, exact_models, 1e15),
    Registered(
        "L2",
        lambda s, b, side, support: ambiguity.L2(s, support=support),
        lambda p, b, s: [cp.norm2(p - b) <= s.radius],
        exact_euclidean,
        2.0,
    ),
    Registered(
        "KL",
        lambda s, b, side, support: ambiguity.KL(s, support=support),
        lambda p, b, s: [cp.sum(cp.kl_div(p[np.flatnonzero(b)], b[np.flatnonzero(b)])) <= s.radius],
        exact_kl,
        5.0,
        dominated=True,
    ),
    Registered(
        "Burg",
        lambda s, b, side, support: ambiguity.Burg(s, support=support),
        define_burg,
        exact_burg,
        100.0,
    ),
    Registered(
        "ChiSquare",
        lambda s, b, side, support: ambiguity.ChiSquare(s, support=support),
        lambda p, b, s: define_power(p, b, 2.0, s.radius / 2),
        exact_power(lambda s: 2.0, lambda radius: radius / 2),
        40.0,
        dominated=True,
    ),
    Registered(
        "CressieRead",
        lambda s, b, side, support: ambiguity.CressieRead(s, order_of(side), support=support),
        lambda p, b, s: define_power(p, b, s.order, s.radius),
        exact_power(lambda s: s.order, lambda radius: radius),
        300.0,
        dominated=True,
    ),
    Registered(
        "Wasserstein",
        lambda s, b, side, support: ambiguity.Wasserstein(s, metric_of(len(b), side), support=support),
        define_wasserstein,
        exact_wasserstein,
        10.0,
    ),
]
