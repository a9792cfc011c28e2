r"""The worst row of divergence balls, proved from both sides in ball arithmetic.

In normal form d = (z - min z) / (max z - min z) nature's optimal rows lie on a path p(x), x real, on which the distance grows
and p.d falls. A point of the path whose distance is proved to be at most the radius bounds sigma from above; weak duality, at
any x, from below. With m = pbar.1:

    KL              p ~ pbar exp(-b d), b = e^x                        sigma >= -(kappa + m log(Z / m)) / b,  Z = pbar.exp(-b d)
    Burg            p ~ pbar / (d + g), g = e^{-x}                     sigma >= m exp((pbar.log(d + g) - kappa) / m) - m g
    Cressie-Read    p ~ pbar (a - d)_+^{1/(k-1)}, a = e^{-x}           sigma >= m a - (m + k (k-1) rho)^{1/k} |(a - d)_+|
                    (the norm of order k / (k - 1), weighted by pbar; chi-square of radius kappa is k = 2, rho = kappa / 2)
    L2              p = (pbar - t (d - nu))_+, t = e^x, p.1 = m      sigma >= m nu + pbar.w - psi |w|_2, w = min(d - nu, pbar/t)

x is found by the method of interpolation, truncation and projection (Oliveira and Takahashi, ACM TOMS 47, 2020) on the log of
the distance, which is nearly linear in x. Nothing depends on how well it was found but the width of what is returned: an error
h of x costs the lower side O(h^2) and the upper side O(h). Path and radius are compared in balls (Johansson, Arb, IEEE Trans.
Computers 66, 2017), with more bits for small radii, since distances are quadratic in what is summed. L2's rows are rational.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from flint import arb, fmpq

from .exact_transport import NOTHING, dot

Row = Sequence[fmpq]
Path = Callable[[arb], tuple[arb, arb]]
Dual = Callable[[arb], arb]

FARTHEST = 4096
"""|x| beyond which the path is not followed; what is left of p.d there is less than any comparison of floats can see."""

_FINEST = 20_000
"""Powers of two below 2^-20000 are not told from zero."""


def _rational(point: arb) -> fmpq:
    """The middle of a ball; powers of two beyond all use are cut off towards zero."""
    mantissa, exponent = point.mid().man_exp()
    return fmpq(mantissa) * fmpq(2) ** int(exponent) if exponent > -_FINEST else NOTHING


def _floor(ball: arb) -> fmpq:
    return max(NOTHING, _rational(ball.lower())) if ball.is_finite() else NOTHING


def _ceiling(ball: arb) -> fmpq:
    return _rational(ball.upper()) + fmpq(1, 2**_FINEST) if ball.is_finite() else fmpq(1)


def _enclosed(path: Path, dual: Dual, radius: fmpq, bits: int) -> tuple[fmpq, fmpq]:
    """Bounds of sigma in normal form from a path, x -> (value, distance), and a dual, x -> bound from below."""
    goal = arb(radius)

    def height(x: arb) -> tuple[bool, arb]:
        distance = path(x)[1]
        return bool(distance <= goal), (distance.mid() / goal).log().mid() if distance.mid() > 0 else arb(-_FINEST)

    here, step = arb(0), arb(1)
    fits, there = height(here)
    while True:
        following = here + step if fits else here - step
        fits_there, beyond = height(following)
        if fits_there != fits:
            break
        here, there, step = following, beyond, 2 * step
        if abs(here) > FARTHEST:
            return (_floor(dual(here)), _ceiling(path(here)[0])) if fits else (NOTHING, fmpq(1))
    ends = (here, there, following, beyond) if fits else (following, beyond, here, there)
    best = _root(height, *ends, bits)
    return _floor(dual(best)), _ceiling(path(best)[0])


def _root(height: Callable[[arb], tuple[bool, arb]], low: arb, below: arb, high: arb, above: arb, bits: int) -> arb:
    """A point of [low, high] that fits, and another within 2^-bits (1 + |low|) of it does not."""
    width = arb(2) ** -bits * (1 + abs(low))
    slack = high - low
    shrink = arb(0.2) / (high - low)
    while high - low > width:
        middle, reach = ((low + high) / 2).mid(), (high - low) / 2
        rise = above - below
        guess = ((low * above - high * below) / rise).mid() if rise > 0 else middle
        side = 1 if middle > guess else -1
        guess = guess + side * shrink * (high - low) ** 2 if shrink * (high - low) ** 2 <= abs(middle - guess) else middle
        guess = guess if abs(guess - middle) <= slack - reach else middle - side * (slack - reach)
        guess = guess.mid() if low < guess < high else middle
        fits, here = height(guess)
        if fits:
            low, below = guess, here
        else:
            high, above = guess, here
        slack = slack / 2
    return low


def kullback_leibler(radius: fmpq, nominal: Row, d: Row, bits: int) -> tuple[fmpq, fmpq]:
    """Bounds of min p.d over the ball, for d in normal form and positive nominal rows, both (n,)."""
    mass = sum(nominal, NOTHING)
    m, kappa, b, v = arb(mass), arb(radius), [arb(x) for x in nominal], [arb(x) for x in d]
    if kappa >= m * arb(mass / _kept(nominal, d)).log():
        return NOTHING, NOTHING

    def partition(tilt: arb) -> tuple[arb, arb]:
        weights = [x * (-tilt * y).exp() for x, y in zip(b, v, strict=True)]
        total = sum(weights, arb(0))
        return m * sum((w * y for w, y in zip(weights, v, strict=True)), arb(0)) / total, (total / m).log()

    def path(x: arb) -> tuple[arb, arb]:
        value, log = partition(x.exp())
        return value, -x.exp() * value - m * log

    def dual(x: arb) -> arb:
        return -(kappa + m * partition(x.exp())[1]) / x.exp()

    return _enclosed(path, dual, radius, bits)


def burg(radius: fmpq, nominal: Row, d: Row, bits: int) -> tuple[fmpq, fmpq]:
    """Bounds of min p.d over the ball, for d in normal form, both (n,)."""
    m, kappa = arb(sum(nominal, NOTHING)), arb(radius)
    used = [(arb(x), arb(y)) for x, y in zip(nominal, d, strict=True) if x > 0]

    def logarithms(gap: arb) -> arb:
        return sum((x * (y + gap).log() for x, y in used), arb(0))

    def scale(gap: arb) -> arb:
        return m / sum((x / (y + gap) for x, y in used), arb(0))

    def path(x: arb) -> tuple[arb, arb]:
        gap = (-x).exp()
        value = scale(gap) * sum((w * y / (y + gap) for w, y in used), arb(0))
        return value, logarithms(gap) - m * scale(gap).log()

    def dual(x: arb) -> arb:
        gap = (-x).exp()
        return m * ((logarithms(gap) - kappa) / m).exp() - m * gap

    if all(y > 0 for _, y in used) and logarithms(arb(0)) - m * scale(arb(0)).log() <= kappa:
        value = m * ((logarithms(arb(0)) - kappa) / m).exp()  # the row at gap zero, scaled down; the rest goes to the argmin
        return _floor(value), _ceiling(value)
    return _enclosed(path, dual, radius, bits)


def cressie_read(order: fmpq, radius: fmpq, nominal: Row, d: Row, bits: int) -> tuple[fmpq, fmpq]:
    """Bounds of min p.d over the ball of order > 1, for d in normal form and positive nominal rows, both (n,)."""
    mass = sum(nominal, NOTHING)
    m, k, conjugate, b, v = arb(mass), arb(order), arb(order / (order - 1)), [arb(x) for x in nominal], [arb(x) for x in d]
    most = arb(mass + order * (order - 1) * radius)
    if most >= m**k * arb(_kept(nominal, d)) ** (1 - k):
        return NOTHING, NOTHING

    def rooms(x: arb) -> list[tuple[arb, arb, arb]]:
        level = _rational((-x).exp())
        return [(b[i], v[i], arb(level - y)) for i, y in enumerate(d) if level > y]

    def path(x: arb) -> tuple[arb, arb]:
        ratios = [(room ** (conjugate - 1), w, y) for w, y, room in rooms(x)]
        scale = m / sum((ratio * w for ratio, w, _ in ratios), arb(0))
        power = sum((w * (scale * ratio) ** k for ratio, w, _ in ratios), arb(0))
        return scale * sum((ratio * w * y for ratio, w, y in ratios), arb(0)), (power - m) / (k * (k - 1))

    def dual(x: arb) -> arb:
        norm = sum((w * room**conjugate for w, _, room in rooms(x)), arb(0)) ** (1 / conjugate)
        return m * arb(_rational((-x).exp())) - most ** (1 / k) * norm

    return _enclosed(path, dual, radius, bits)


def euclidean(radius: fmpq, nominal: Row, d: Row, bits: int) -> tuple[fmpq, fmpq]:
    """Bounds of min p.d over the ball, for d in normal form, both (n,)."""
    mass, face = sum(nominal, NOTHING), [i for i, y in enumerate(d) if y == 0]
    out = [x for x, y in zip(nominal, d, strict=True) if y > 0]
    if sum((x * x for x in out), NOTHING) + sum(out, NOTHING) ** 2 / len(face) <= radius * radius:
        return NOTHING, NOTHING

    def project(x: arb) -> tuple[fmpq, fmpq]:
        """t, and nu for which (nominal - t (d - nu))_+ has the mass of the nominal row."""
        t = _rational(x.exp())
        points = sorted((b - t * y for b, y in zip(nominal, d, strict=True)), reverse=True)
        lift, total = NOTHING, NOTHING
        for size, point in enumerate(points, start=1):
            if size > 1 and point + lift <= 0:
                break
            total += point
            lift = (mass - total) / size
        return t, lift / t

    def path(x: arb) -> tuple[arb, arb]:
        t, nu = project(x)
        row = [max(NOTHING, b - t * (y - nu)) for b, y in zip(nominal, d, strict=True)]
        square = sum(((p - b) ** 2 for p, b in zip(row, nominal, strict=True)), NOTHING)
        return arb(dot(row, d)), arb(square).sqrt()

    def dual(x: arb) -> arb:
        t, nu = project(x)
        w = [min(y - nu, b / t) for b, y in zip(nominal, d, strict=True)]
        return arb(mass * nu + dot(nominal, w)) - arb(radius) * arb(sum((y * y for y in w), NOTHING)).sqrt()

    return _enclosed(path, dual, radius, bits)


def _kept(nominal: Row, d: Row) -> fmpq:
    return sum((x for x, y in zip(nominal, d, strict=True) if y == 0), NOTHING)
