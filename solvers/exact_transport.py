r"""The exact worst row of polyhedral sets, in rational arithmetic.

Balls in total variation, L1, weighted L1 and Wasserstein distance are balls in the cost of moving mass from i to j,

    D_ij = w_i + w_j  (i /= j),  D_ii = 0,          or a given matrix,

since what one entry gains another loses. With a price l >= 0 on the cost, each entry sends its mass to its best j at once, and

    g(l) = sum_i pbar_i min_j (z_j + l D_ij) - l psi        is concave and piecewise linear, g <= sigma for every l.

Two plans with costs a > psi >= b are two lines above g. Where they cross, either g is as high, and then the mixture of the two
plans that costs psi proves sigma <= g; or a plan of a lower line takes the place of one of the two. Every plan comes once at
most, so this ends (Kelley's cutting planes in one dimension; Eisner and Severance, J. ACM 23, 1976).

A box lower <= p <= upper is filled in the order of z; the dual of `banach.mdp.ambiguity.interval` at the last entry filled is
the proof from below.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from flint import fmpq

Row = Sequence[fmpq]
Plan = Callable[[fmpq], tuple[fmpq, fmpq]]

NOTHING = fmpq(0)


def dot(p: Row, z: Row) -> fmpq:
    """sum_i p_i z_i of rows (n,)."""
    return sum((a * b for a, b in zip(p, z, strict=True)), NOTHING)


def ball(radius: fmpq, nominal: Row, z: Row, answer: Plan) -> fmpq:
    """sigma of {p : the cost of moving the nominal row into p is at most the radius}.

    nominal, z: (n,). answer: price -> (cost, value) of a plan that is best at that price.
    """
    high_cost, high_value = answer(NOTHING)
    if high_cost <= radius:
        return high_value
    low_cost, low_value = NOTHING, dot(nominal, z)
    while True:
        price = (low_value - high_value) / (high_cost - low_cost)
        height = low_value + price * (low_cost - radius)
        cost, value = answer(price)
        if value + price * (cost - radius) == height:
            return height
        if cost > radius:
            high_cost, high_value = cost, value
        else:
            low_cost, low_value = cost, value


def by_weights(weights: Row, nominal: Row, z: Row) -> Plan:
    """Best plans where moving a unit from i to j costs w_i + w_j; all (n,)."""

    def answer(price: fmpq) -> tuple[fmpq, fmpq]:
        worth, receiver = min((v + price * w, k) for k, (v, w) in enumerate(zip(z, weights, strict=True)))
        cost = value = NOTHING
        for i, (mass, v, w) in enumerate(zip(nominal, z, weights, strict=True)):
            if i != receiver and v > worth + price * w:
                cost, value = cost + mass * (w + weights[receiver]), value + mass * z[receiver]
            else:
                value += mass * v
        return cost, value

    return answer


def by_metric(metric: Sequence[Row], nominal: Row, z: Row) -> Plan:
    """Best plans where moving a unit from i to j costs metric[i][j], (n, n); nominal and z (n,)."""

    def answer(price: fmpq) -> tuple[fmpq, fmpq]:
        cost = value = NOTHING
        for mass, costs in zip(nominal, metric, strict=True):
            _, step, worth = min((v + price * d, d, v) for v, d in zip(z, costs, strict=True))
            cost, value = cost + mass * step, value + mass * worth
        return cost, value

    return answer


def box(lower: Row, upper: Row, mass: fmpq, z: Row) -> tuple[fmpq, fmpq]:
    """Bounds, equal, of sigma of {p : lower <= p <= upper, p.1 = mass}; all rows (n,). The box must not be empty."""
    row, rest, theta = list(lower), mass - sum(lower, NOTHING), min(z)
    for i in sorted(range(len(z)), key=lambda i: z[i]):
        if rest <= 0:
            break
        theta, step = z[i], min(rest, upper[i] - lower[i])
        row[i], rest = row[i] + step, rest - step
    gained = sum((low * (v - theta) for low, v in zip(lower, z, strict=True) if v > theta), NOTHING)
    spent = sum((high * (theta - v) for high, v in zip(upper, z, strict=True) if v < theta), NOTHING)
    return mass * theta + gained - spent, dot(row, z)
