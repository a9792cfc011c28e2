r"""Nash policies of a preference oracle without regularisation, decided in exact rationals.

The game p'P p of P + P' = 1 is symmetric, of value 1/2. A policy p is a Nash policy, a von Neumann winner, exactly if nobody
beats it more often than every other time, P p <= 1/2 in each entry; how far it is from one is its exploitability

    e(p) = max_y (P p)_y - 1/2 >= 0,

and what it guarantees is 1/2 - e(p). A linear programme (HiGHS) finds a vertex in floats; the responses that it uses and those
that tie with it then give a linear system, solved in rationals, and the answer is checked in rationals: P p <= 1/2 decides.

One or many. Let A = P - 1/2, skew, and K the responses used. p is the only Nash policy exactly if every response outside K
loses strictly to p, (A p)_y < 0, and A restricted to K has a null space of dimension one. If it is unique it has those
properties by the strict complementarity of some optimal pair (Goldman and Tucker 1956), whose mean is an equilibrium too.

Fishburn, SIAM J. Appl. Math. 44, 1984 (maximal lotteries); Swamy et al. 2024, arXiv 2401.04056; Munos et al. 2023, 2312.00886.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from flint import fmpq, fmpq_mat
from scipy.optimize import linprog

from ..mdp.preference import PreferenceOracle, distribution
from .errors import NotConverged

_TIGHT = 1e-7
"""Distance from a bound below which the float answer is taken to touch it. The check that follows is exact."""


@dataclass(frozen=True, eq=False)
class Nash:
    """A policy over n responses with proof of what it guarantees.

    policy: (n,) float64. exact: the n probabilities as fractions, of sum one. value: interval (lower, upper) of the game's
    value as the policy proves it for both players, 1/2 -+ exploitability. exploitability: max_y P(y > p) - 1/2 as a fraction,
    0 for a Nash policy. unique: whether it is the only Nash policy; None where exploitability > 0.
    """

    policy: np.ndarray
    exact: tuple[Fraction, ...]
    value: tuple[Fraction, Fraction]
    exploitability: Fraction
    unique: bool | None

    @property
    def gap(self) -> Fraction:
        """Duality gap: upper less lower end of the value."""
        return self.value[1] - self.value[0]


def exploitability(oracle: PreferenceOracle, policy: np.ndarray) -> float:
    """max_y P(y > p) - 1/2 of a policy (n,), in floats. Raises ModelError for no distribution."""
    policy = distribution(policy, oracle.n_responses, "policy")
    return max(0.0, float(oracle.win_rate(policy).max()) - 0.5)


def nash(oracle: PreferenceOracle) -> Nash:
    """A Nash policy: the one of the vertex that the linear programme finds. Raises NotConverged where HiGHS fails.

    Of an oracle with a reward the game is that of its floating-point matrix.
    """
    n = oracle.n_responses
    table = oracle.rational()
    skew = [[p - Fraction(1, 2) for p in row] for row in table]
    guess = _vertex(oracle.matrix - 0.5)
    used = guess > _TIGHT
    tied = np.abs((oracle.matrix - 0.5) @ guess) <= _TIGHT
    for rows in (tied, used):
        exact = _solved(skew, np.flatnonzero(used), np.flatnonzero(rows), n)
        if exact is not None and _excess(skew, exact) == 0:
            return _answer(exact, Fraction(0), _only(skew, exact))
    weights = [Fraction(float(p)) for p in np.maximum(guess, 0.0)]
    exact = [weight / sum(weights) for weight in weights]
    excess = _excess(skew, exact)
    return _answer(exact, excess, _only(skew, exact) if excess == 0 else None)


def _answer(exact: list[Fraction], excess: Fraction, unique: bool | None) -> Nash:
    half = Fraction(1, 2)
    policy = np.array([float(p) for p in exact])
    policy.flags.writeable = False
    return Nash(policy, tuple(exact), (half - excess, half + excess), excess, unique)


def _vertex(skew: np.ndarray) -> np.ndarray:
    """Floats p of max v, A p + v <= 0, sum p = 1, p >= 0."""
    n = len(skew)
    found = linprog(
        np.append(np.zeros(n), -1.0),
        A_ub=np.column_stack([skew, np.ones(n)]),
        b_ub=np.zeros(n),
        A_eq=np.append(np.ones(n), 0.0)[None],
        b_eq=[1.0],
        bounds=[(0.0, None)] * n + [(None, None)],
        method="highs-ds",
    )
    if not found.success:
        raise NotConverged(f"the linear programme of the game was not solved: {found.message}")
    return found.x[:n]


def _excess(skew: list[list[Fraction]], policy: list[Fraction]) -> Fraction:
    """max_y (A p)_y, never below 0 for a distribution, since p'A p = 0."""
    return max(sum((a * p for a, p in zip(row, policy, strict=True)), Fraction(0)) for row in skew)


def _solved(skew: list[list[Fraction]], used: np.ndarray, rows: np.ndarray, n: int) -> list[Fraction] | None:
    """The distribution on `used` with (A p)_y = 0 on `rows`, if there is exactly one solution and it is >= 0."""
    system = [[_fmpq(skew[y][k]) for k in used] + [fmpq(0)] for y in rows] + [[fmpq(1)] * (len(used) + 1)]
    reduced, rank = fmpq_mat(system).rref()
    if rank != len(used):
        return None
    if any(reduced[i, i] != 1 for i in range(rank)):
        return None
    policy = [Fraction(0)] * n
    for i, k in enumerate(used):
        value = reduced[i, len(used)]
        policy[k] = Fraction(int(value.p), int(value.q))
    return policy if min(policy) >= 0 else None


def _only(skew: list[list[Fraction]], policy: list[Fraction]) -> bool:
    """Whether a Nash policy is the only one; see the module."""
    used = [y for y, p in enumerate(policy) if p > 0]
    for y, row in enumerate(skew):
        if policy[y] == 0 and sum((a * p for a, p in zip(row, policy, strict=True)), Fraction(0)) == 0:
            return False
    return len(used) - fmpq_mat([[_fmpq(skew[i][j]) for j in used] for i in used]).rank() == 1


def _fmpq(number: Fraction) -> fmpq:
    return fmpq(number.numerator, number.denominator)
