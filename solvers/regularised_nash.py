r"""The Nash policy of the KL-regularised preference game, with a certificate that needs no other Nash policy.

J(p, p') = <p, P p'> - t KL(p | q) + t KL(p' | q) is strictly concave-convex: one Nash policy p*, the fixed point of the best
response BR(p) = q e^(P p / t) / Z. Its scores solve

    g(s) = P p(s) / t - s = 0 up to a constant,    p(s) = q e^s / Z,

by Newton's method. With A = P - 1/2 skew and C = diag p - p p' >= 0, g' = A C / t - 1 up to constants: A C has the eigenvalues
of the skew C^(1/2) A C^(1/2), imaginary, so g' is never singular and |g| can always be made smaller.

Certificate. G(p) = max J(., p) - min J(p, .) = 2 t KL(p | BR(p)), zero at p* alone, and KL(p | p*) <= G(p) / (2 t): the players
are symmetric, J(p, p) = 1/2, and J(p*, p) - 1/2 = t KL(p | p*). So the total variation to p* is at most sqrt(G / t) / 2.
G is computed in ball arithmetic from the floats of p as exact weights, and rounded up.

Munos et al. 2023, arXiv 2312.00886; Ye et al. 2024, 2402.07314; balls: Johansson, IEEE Trans. Computers 66, 2017.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from flint import arb, arb_mat, ctx, fmpq

from ..mdp.preference import PreferenceGame, distribution
from .errors import NotConverged, SolveError
from .gibbs import gibbs

PRECISION = 256
"""Bits of ball arithmetic."""


@dataclass(frozen=True, eq=False)
class RegularisedNash:
    """The Nash policy of a regularised game of n responses, and how near it is.

    policy: (n,). win_rate: (n,), P(y > policy). gap: an upper bound of the duality gap G, rounded up. divergence: an upper
    bound of KL(policy | p*), nats. distance: an upper bound of the total variation to p*. steps: Newton steps taken.
    """

    policy: np.ndarray
    win_rate: np.ndarray
    gap: float
    divergence: float
    distance: float
    steps: int


def best_response(game: PreferenceGame, policy: np.ndarray) -> np.ndarray:
    """BR(p) = q e^(P p / t) / Z, (n,), to a policy (n,)."""
    return gibbs(game.reference, game.oracle.win_rate(policy) / game.temperature)


def duality_gap(game: PreferenceGame, policy: np.ndarray) -> float:
    """An upper bound of G(p) = 2 t KL(p | BR(p)) of a policy (n,), rounded up from ball arithmetic; tight to a relative 1e-15.

    The floats of policy and reference are weights, divided by their exact sum. Raises ModelError for no distribution.
    """
    policy = distribution(policy, game.n_responses, "policy")
    return _rounded_up(gap_ball(game, weights(policy)))


def regularised_nash(game: PreferenceGame, eps: float = 1e-12, max_steps: int = 200) -> RegularisedNash:
    """The Nash policy, its duality gap proved to be at most eps.

    Raises SolveError for eps <= 0, NotConverged, with the gap that was reached, where max_steps or float64 end before eps.
    """
    if not eps > 0:
        raise SolveError(f"eps is {eps!r}; ask for a duality gap > 0")
    score, taken = np.zeros(game.n_responses), 0
    hottest = max(1.0, game.temperature)
    for temperature in np.geomspace(hottest, game.temperature, max(1, int(np.ceil(np.log2(hottest / game.temperature))) + 1)):
        score = score * hottest / temperature
        hottest = temperature
        score, steps = _newton(game, score, float(temperature), max_steps - taken)
        taken += steps
    policy = gibbs(game.reference, score)
    policy.flags.writeable = False
    gap = duality_gap(game, policy)
    if gap > eps:
        raise NotConverged(
            f"the duality gap is {gap:.3g} after {taken} Newton steps (asked for {eps:.3g}); raise max_steps, or eps where "
            "float64 ends",
            reached=gap,
        )
    divergence = _rounded_up(arb(gap) / (2 * arb(game.temperature)))
    distance = _rounded_up((arb(divergence) / 2).sqrt())
    return RegularisedNash(policy, game.oracle.win_rate(policy), gap, divergence, distance, taken)


def _newton(game: PreferenceGame, score: np.ndarray, temperature: float, max_steps: int) -> tuple[np.ndarray, int]:
    """Damped Newton on g at one temperature; scores (n,) of mean zero, and steps."""
    n = len(score)
    skew = game.oracle.matrix - 0.5

    def missing(at: np.ndarray) -> np.ndarray:
        wanted = skew @ gibbs(game.reference, at) / temperature - at
        return wanted - wanted.mean()

    here = missing(score)
    for step in range(max_steps):
        policy = gibbs(game.reference, score)
        slope = skew @ (np.diag(policy) - np.outer(policy, policy)) / temperature
        direction = np.linalg.solve(np.eye(n) - slope + slope.mean(axis=0), here)
        for length in 0.5 ** np.arange(40.0):
            following = score + length * direction
            there = missing(following)
            if np.linalg.norm(there) < (1 - 1e-4 * length) * np.linalg.norm(here):
                break
        else:
            return score, step
        score, here = following - following.mean(), there
    return score, max_steps


def weights(policy: np.ndarray) -> list[arb]:
    """Floats (n,) as exact weights divided by their exact sum, as balls."""
    with ctx.workprec(PRECISION):
        exact = [fmpq(*float(p).as_integer_ratio()) for p in policy]
        total = sum(exact, fmpq(0))
        return [arb(p / total) for p in exact]


def table(game: PreferenceGame) -> list[list[arb]]:
    """P as balls: the rational oracle, or the logistic of its rewards."""
    with ctx.workprec(PRECISION):
        if game.oracle.reward is not None:
            reward = [arb(float(r)) for r in game.oracle.reward]
            return [[1 / (1 + (b - a).exp()) for b in reward] for a in reward]
        return [[arb(fmpq(p.numerator, p.denominator)) for p in row] for row in game.oracle.rational()]


def gap_ball(game: PreferenceGame, policy: list[arb]) -> arb:
    """The duality gap of a policy in balls: 2 t (KL(p | q) + log Z) - 2 <p, P p>, <p, P p> = 1/2."""
    with ctx.workprec(PRECISION):
        t, reference = arb(game.temperature), weights(game.reference)
        rates = [sum((a * p for a, p in zip(row, policy, strict=True)), arb(0)) for row in table(game)]
        inside = sum((p * (p / q).log() for p, q in zip(policy, reference, strict=True) if not p.is_zero()), arb(0))
        total = sum((q * (rate / t).exp() for q, rate in zip(reference, rates, strict=True)), arb(0))
        return 2 * t * (inside + total.log()) - 1


def enclosed_nash(game: PreferenceGame, steps: int = 4) -> list[arb]:
    """Balls that contain p*, n of them: Newton's method at 256 bits, and the radius that its duality gap proves.

    Raises NotConverged where the gap stays above 1e-40.
    """
    n = game.n_responses
    start = regularised_nash(game, eps=1e-6).policy
    with ctx.workprec(PRECISION):
        t, reference, rows = arb(game.temperature), weights(game.reference), table(game)
        half = arb(1) / 2
        score = [arb(float(np.log(p) - np.log(q))) for p, q in zip(start, game.reference, strict=True)]
        for _ in range(steps):
            policy = _gibbs(reference, score)
            rates = [sum(((a - half) * p for a, p in zip(row, policy, strict=True)), arb(0)) for row in rows]
            slope = [
                [(rows[i][j] - half - rates[i]) * policy[j] / t - (1 if i == j else 0) for j in range(n)] + [arb(1)]
                for i in range(n)
            ]
            system = arb_mat([*slope, [arb(1)] * n + [arb(0)]])
            right = arb_mat([[s - rate / t] for s, rate in zip(score, rates, strict=True)] + [[-sum(score, arb(0))]])
            step = system.solve(right)
            score = [(s + step[i, 0]).mid() for i, s in enumerate(score)]
        policy = [p.mid() for p in _gibbs(reference, score)]
        total = sum(policy, arb(0))
        policy = [(p / total) for p in policy]
        gap = gap_ball(game, policy)
        if not gap < arb("1e-40"):
            raise NotConverged(f"the duality gap is still {float(gap.mid()):.3g} at 256 bits", float(gap.mid()))
        radius = (arb(gap.abs_upper()) / t).sqrt() / 2
        return [p + arb(0, radius.abs_upper()) for p in policy]


def _gibbs(reference: list[arb], score: list[arb]) -> list[arb]:
    heavy = [q * s.exp() for q, s in zip(reference, score, strict=True)]
    total = sum(heavy, arb(0))
    return [h / total for h in heavy]


def _rounded_up(number: arb) -> float:
    """A float that is not below the ball, nor below zero."""
    above = float(number.upper())
    while not arb(above) >= number:
        above = float(np.nextafter(above, np.inf))
    return max(above, 0.0)
