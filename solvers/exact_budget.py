r"""A state whose actions share nature's budget, as the checker decides it: rationals, and balls for logarithms.

`priced` bounds min_p (d p.z + l D(p, pbar)) of one action from below; with prices l of the budget the sum over actions, less
l kappa, is below the worth of the decision d (weak duality). In normal form, with y = d span / l:

    L1, total variation, weighted L1    sum pbar min(y d, nu + w), nu = min_j (y d_j + w_j): exact in rationals
    chi-square                          the level a with sum pbar (a - d)_+ = 2 m / y, by sorting: exact in rationals
    KL                                  -m log(pbar.exp(-y d) / m) in balls
    Burg                                m (1 + log(y g) - y g) + sum pbar log(1 + d / g) in balls, at any gap g > 0

For the polyhedral sets neither price nor shares are needed: `worth` is the exact least worth of a decision, and `spent` the
exact distance at which an action is worth no more than a given number, both by the cutting planes of `exact_transport`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from flint import arb, ctx, fmpq

from ..mdp.ambiguity.ambiguity_set import Ball
from ..mdp.ambiguity.chi_square import ChiSquare
from ..mdp.ambiguity.kullback_leibler import KL
from ..mdp.ambiguity.total_variation import L1, TotalVariation
from ..mdp.ambiguity.weighted_l1 import WeightedL1
from .exact_transport import NOTHING, Plan, ball, by_weights, dot

Row = Sequence[fmpq]


def is_polyhedral(chosen: Ball) -> bool:
    """Whether `worth` and `spent` speak of this set."""
    return isinstance(chosen, L1 | TotalVariation | WeightedL1)


def weights_of(chosen: Ball, entries: np.ndarray, n: int) -> Row:
    """What a unit moved away from or to each of the n entries costs, in units of the kernels' budget; entries: (k, n)."""
    if isinstance(chosen, WeightedL1):
        return [fmpq(*float(w).as_integer_ratio()) for w in entries[0]]
    return [fmpq(1, 2)] * n


def priced(chosen: Ball, decision: fmpq, price: fmpq, nominal: Row, z: Row, weights: Row, bits: int) -> fmpq:
    """A number below min_p (decision p.z + price D(p, nominal)), decision > 0; rows (n,)."""
    least, span, mass = min(z), max(z) - min(z), sum(nominal, NOTHING)
    base = decision * mass * least
    if price == 0 or span == 0:
        return base
    tilt, d = decision * span / price, [(v - least) / span for v in z]
    if is_polyhedral(chosen):
        nu = min(tilt * v + w for v, w in zip(d, weights, strict=True))
        return base + price * dot(nominal, [min(tilt * v, nu + w) for v, w in zip(d, weights, strict=True)])
    if isinstance(chosen, ChiSquare):
        return base + price * _chi_square(tilt, nominal, d)
    with ctx.workprec(bits + 64):
        bound = _kullback_leibler(tilt, nominal, d) if isinstance(chosen, KL) else _burg(tilt, nominal, d)
        if not bound.is_finite():
            return base
        mantissa, exponent = bound.lower().man_exp()
    return base + price * max(NOTHING, fmpq(mantissa) * fmpq(2) ** int(exponent))


def _chi_square(tilt: fmpq, nominal: Row, d: Row) -> fmpq:
    mass = sum(nominal, NOTHING)
    below, first, level = NOTHING, NOTHING, NOTHING
    for v, b in sorted(zip(d, nominal, strict=True)):
        if below > 0 and v * below - first >= 2 * mass / tilt:
            break
        below, first = below + b, first + b * v
        level = (2 * mass / tilt + first) / below if below > 0 else NOTHING
    kept = [min(v, level) for v in d]
    gain = dot(nominal, kept)
    centre = gain / mass
    return tilt * gain - tilt * tilt / 4 * sum((b * (v - centre) ** 2 for b, v in zip(nominal, kept, strict=True)), NOTHING)


def _kullback_leibler(tilt: fmpq, nominal: Row, d: Row) -> arb:
    mass = sum(nominal, NOTHING)
    return -arb(mass) * sum((arb(b / mass) * arb(-tilt * v).exp() for b, v in zip(nominal, d, strict=True)), arb(0)).log()


def _burg(tilt: fmpq, nominal: Row, d: Row) -> arb:
    mass, used = sum(nominal, NOTHING), [(b, v) for b, v in zip(nominal, d, strict=True) if b > 0]
    y, rows = float(tilt), [(float(b), float(v)) for b, v in used]
    low, high = -700.0, 700.0
    while high - low > 1e-13 * max(1.0, abs(low)):
        middle = (low + high) / 2
        gap = math.exp(middle)
        wants = sum(b / (1 + v / gap) for b, v in rows) > float(mass) * y * gap
        low, high = (middle, high) if wants else (low, middle)
    gap = fmpq(*math.exp(low).as_integer_ratio())
    logs = sum((arb(b) * arb(1 + v / gap).log() for b, v in used), arb(0))
    return arb(mass) * (1 + arb(tilt * gap).log() - arb(tilt * gap)) + logs


def worth(budget: fmpq, decision: Row, nominal: Sequence[Row], z: Sequence[Row], weights: Sequence[Row]) -> fmpq:
    """min sum_a decision_a p_a.z_a over rows whose weighted distances sum to the budget at most; a row (n_a,) an action."""
    used = [a for a, share in enumerate(decision) if share > 0]
    plans = {a: by_weights(weights[a], nominal[a], z[a]) for a in used}

    def answer(price: fmpq) -> tuple[fmpq, fmpq]:
        cost = value = NOTHING
        for a in used:
            part, here = plans[a](price / decision[a])
            cost, value = cost + part, value + decision[a] * here
        return cost, value

    together = [decision[a] * b for a in used for b in nominal[a]]
    return ball(budget, together, [v for a in used for v in z[a]], answer)


def spent(goal: fmpq, nominal: Row, z: Row, weights: Row) -> fmpq | None:
    """The least weighted distance of a row p (n,) with p.z <= goal; None where there is no such row."""
    answer: Plan = by_weights(weights, nominal, z)
    (high_cost, high_value), (low_cost, low_value) = answer(NOTHING), (NOTHING, dot(nominal, z))
    if low_value <= goal:
        return NOTHING
    if high_value > goal:
        return None
    while True:
        price = (low_value - high_value) / (high_cost - low_cost)
        height = low_value + price * low_cost
        cost, value = answer(price)
        if value + price * cost == height:
            return low_cost + (low_value - goal) / price
        if value > goal:
            low_cost, low_value = cost, value
        else:
            high_cost, high_value = cost, value
