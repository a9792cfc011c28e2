r"""The inner problem of a robust row, min {p.z : p in U(pbar)}, as the checker decides it.

`exact_sigma` returns lower <= sigma <= upper for floats taken as exact numbers: equal for polyhedral sets
(`banach.solvers.exact_transport`), as narrow as bits allow for divergences (`banach.solvers.exact_divergence`). It shares no
code with the kernels of `banach.mdp.ambiguity`; it reads a set's numbers, and what they mean:

    every row keeps the mass of the nominal row exactly (a scenario has its own);
    a ball's distance is at most the radius in exact arithmetic;
    with support "nominal", or a divergence that demands p << pbar, nature keeps to the positive entries of the nominal row.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

import numpy as np
from flint import ctx, fmpq

from ..mdp.ambiguity.ambiguity_set import AmbiguitySet, Ball
from ..mdp.ambiguity.burg import Burg
from ..mdp.ambiguity.chi_square import ChiSquare
from ..mdp.ambiguity.contamination import Contamination
from ..mdp.ambiguity.cressie_read import CressieRead
from ..mdp.ambiguity.euclidean import L2
from ..mdp.ambiguity.interval import CVaR, Interval, LInfinity
from ..mdp.ambiguity.kullback_leibler import KL
from ..mdp.ambiguity.model_risk import ModelCVaR, ModelVaR
from ..mdp.ambiguity.nested_var import NestedVaR
from ..mdp.ambiguity.polytope import Polytope
from ..mdp.ambiguity.scenarios import Scenarios
from ..mdp.ambiguity.total_variation import L1, TotalVariation
from ..mdp.ambiguity.wasserstein import Wasserstein
from ..mdp.ambiguity.weighted_l1 import WeightedL1
from .errors import SolveError
from .exact_divergence import burg, cressie_read, euclidean, kullback_leibler
from .exact_program import least
from .exact_transport import NOTHING, ball, box, by_metric, by_weights, dot

Row = Sequence[fmpq]
Bounds = tuple[fmpq, fmpq]

BITS = 96
"""Relative accuracy, in bits, to which a point of a divergence's path is found."""


def rational(number: float) -> fmpq:
    """The rational that a finite float stores."""
    return fmpq(*float(number).as_integer_ratio())


def exact_sigma(
    ambiguity_set: AmbiguitySet, nominal: np.ndarray, z: Sequence[Fraction], bits: int = BITS
) -> tuple[Fraction, Fraction]:
    """lower <= min {p.z : p in the set of the nominal row} <= upper; equal for polyhedral sets.

    nominal: (n,) floats. z: n fractions. bits: to which divergences are narrowed.
    Raises SolveError for a set that has no exact solver.
    """
    narrow = ambiguity_set.contains_nominal and (ambiguity_set.dominated or ambiguity_set.support == "nominal")
    keep = np.flatnonzero(nominal) if narrow else np.arange(len(nominal))
    entries = ambiguity_set.entries(nominal)
    entries = ambiguity_set.restrict(entries, keep) if narrow else entries
    worth = [fmpq(z[i].numerator, z[i].denominator) for i in keep.tolist()]
    low, high = sigma(ambiguity_set, [rational(nominal[i]) for i in keep], worth, entries, bits)
    return Fraction(int(low.p), int(low.q)), Fraction(int(high.p), int(high.q))


def sigma(ambiguity_set: AmbiguitySet, nominal: Row, z: Row, entries: np.ndarray, bits: int = BITS) -> Bounds:
    """The same for rationals, of the entries (n,) that nature may use, with the set's numbers of those alone, (k, n).

    Raises SolveError for a set that has no exact solver.
    """
    solve = _SOLVERS.get(type(ambiguity_set))
    if solve is None:
        raise SolveError(f"{type(ambiguity_set).__name__} has no exact solver; use one of the sets of banach.mdp.ambiguity")
    if isinstance(ambiguity_set, Ball):
        least = min(z)
        if least == max(z) or ambiguity_set.radius == np.inf:
            return _point(sum(nominal, NOTHING) * least)
        if ambiguity_set.radius == 0 and not isinstance(ambiguity_set, Wasserstein):
            return _point(dot(nominal, z))
    return solve(ambiguity_set, nominal, z, entries, bits)


def _point(number: fmpq) -> Bounds:
    return number, number


def _transport(weight: fmpq) -> Callable[..., Bounds]:
    def solve(ambiguity_set: Any, nominal: Row, z: Row, *_: Any) -> Bounds:
        return _point(ball(rational(ambiguity_set.radius), nominal, z, by_weights([weight] * len(z), nominal, z)))

    return solve


def _weighted(ambiguity_set: WeightedL1, nominal: Row, z: Row, entries: np.ndarray, _: int) -> Bounds:
    weights = [rational(w) for w in entries[0]]
    return _point(ball(rational(ambiguity_set.radius), nominal, z, by_weights(weights, nominal, z)))


def _wasserstein(ambiguity_set: Wasserstein, nominal: Row, z: Row, entries: np.ndarray, _: int) -> Bounds:
    metric = [[rational(cost) for cost in row] for row in entries]
    return _point(ball(rational(ambiguity_set.radius), nominal, z, by_metric(metric, nominal, z)))


def _interval(_: Interval, nominal: Row, z: Row, entries: np.ndarray, bits: int) -> Bounds:
    mass = sum(nominal, NOTHING)
    lower, upper = [rational(x) for x in entries[0]], [mass if x >= 2 else rational(x) for x in entries[1]]
    return box(lower, upper, mass, z)


def _maximum(ambiguity_set: LInfinity, nominal: Row, z: Row, *_: Any) -> Bounds:
    radius = rational(ambiguity_set.radius)
    return box([max(NOTHING, x - radius) for x in nominal], [x + radius for x in nominal], sum(nominal, NOTHING), z)


def _tail(ambiguity_set: CVaR, nominal: Row, z: Row, *_: Any) -> Bounds:
    level = rational(ambiguity_set.level)
    return box([NOTHING] * len(z), [x / level for x in nominal], sum(nominal, NOTHING), z)


def _contamination(ambiguity_set: Contamination, nominal: Row, z: Row, *_: Any) -> Bounds:
    radius = rational(ambiguity_set.radius)
    return _point((1 - radius) * dot(nominal, z) + radius * sum(nominal, NOTHING) * min(z))


def _scenarios(_: Scenarios, nominal: Row, z: Row, entries: np.ndarray, bits: int) -> Bounds:
    return _point(min(dot([rational(x) for x in row], z) for row in entries))


def _polytope(ambiguity_set: Polytope, nominal: Row, z: Row, *_: Any) -> Bounds:
    used = np.flatnonzero(ambiguity_set.bound < np.inf)
    matrix = [[rational(a) for a in row] for row in ambiguity_set.matrix[used]]
    return _point(least(matrix, [rational(b) for b in ambiguity_set.bound[used]], sum(nominal, NOTHING), z))


def _quantile(weights: Row, level: float, worth: Row) -> fmpq:
    goal, reached = rational(level) * sum(weights, NOTHING), NOTHING
    for value, weight in sorted((v, w) for v, w in zip(worth, weights, strict=True) if w > 0):
        reached += weight
        if reached >= goal:
            return value
    raise SolveError("no outcome has positive weight")


def _nested(ambiguity_set: NestedVaR, nominal: Row, z: Row, *_: Any) -> Bounds:
    return _point(sum(nominal, NOTHING) * _quantile(nominal, ambiguity_set.level, z))


def _of_models(solve: Callable[[Row, float, Row], fmpq]) -> Callable[..., Bounds]:
    def extreme(ambiguity_set: Any, nominal: Row, z: Row, *_: Any) -> Bounds:
        worth = [dot([rational(x) for x in row], z) for row in ambiguity_set.rows]
        return _point(solve([rational(w) for w in ambiguity_set.weights], ambiguity_set.level, worth))

    return extreme


def _worst_mean(weights: Row, level: float, worth: Row) -> fmpq:
    caps = [weight / (rational(level) * sum(weights, NOTHING)) for weight in weights]
    return box([NOTHING] * len(worth), caps, fmpq(1), worth)[0]


def _divergence(bounds: Callable[..., Bounds], distance: Callable[[Any], tuple[Any, ...]]) -> Callable[..., Bounds]:
    def solve(ambiguity_set: Any, nominal: Row, z: Row, entries: np.ndarray, bits: int) -> Bounds:
        least, span, mass = min(z), max(z) - min(z), sum(nominal, NOTHING)
        d = [(v - least) / span for v in z]
        centre = dot(nominal, d)
        if centre == 0:
            return _point(mass * least)
        # Distances are quadratic in what is summed: small radii need bits of their own.
        finer = max(0, -int(np.frexp(ambiguity_set.radius)[1]))
        with ctx.workprec(bits + 64 + 3 * finer):
            low, high = bounds(*distance(ambiguity_set), nominal, d, bits)
        return mass * least + span * low, mass * least + span * min(high, centre)

    return solve


_SOLVERS: dict[type[AmbiguitySet], Callable[..., Bounds]] = {
    TotalVariation: _transport(fmpq(1, 2)),
    L1: _transport(fmpq(1)),
    WeightedL1: _weighted,
    Wasserstein: _wasserstein,
    Interval: _interval,
    LInfinity: _maximum,
    CVaR: _tail,
    Contamination: _contamination,
    Scenarios: _scenarios,
    Polytope: _polytope,
    NestedVaR: _nested,
    ModelCVaR: _of_models(_worst_mean),
    ModelVaR: _of_models(_quantile),
    KL: _divergence(kullback_leibler, lambda s: (rational(s.radius),)),
    Burg: _divergence(burg, lambda s: (rational(s.radius),)),
    L2: _divergence(euclidean, lambda s: (rational(s.radius),)),
    ChiSquare: _divergence(cressie_read, lambda s: (fmpq(2), rational(s.radius) / 2)),
    CressieRead: _divergence(cressie_read, lambda s: (rational(s.order), rational(s.radius))),
}
