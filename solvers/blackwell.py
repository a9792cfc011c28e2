r"""Blackwell optimality: one policy for every discount close enough to one.

For rational data the value of a policy is a vector of rational functions of the discount, v = (I - g P)^{-1} r = N(g) / D(g),
with D = det(I - g P) > 0 on [0, 1), and pair k of state s is better than the policy at discount g exactly if

    q_k(g) = r_k D(g) + g sum_j p_kj N_j(g) - N_s(g) > 0.

Polynomials are ordered by their sign just below one: that of the first nonzero coefficient in powers of 1 - g. Howard's
iteration in this order ends, since each step raises the value for all discounts near one, at a policy that is optimal on some
interval (g_bw, 1) (Blackwell 1962; Hordijk, Dekker and Kallenberg 1985; Puterman 2005, section 10.1). Below one, the policy
stops being optimal where some q_k changes sign, at a root of odd multiplicity; the greatest such root is g_bw. Other actions
are Blackwell optimal too exactly if their q_k vanishes identically.

N and D have degree at most n. They are interpolated from exact solutions at n + 1 rational discounts. Rows are weights, as for
undiscounted criteria: p_kj / sum p_k.
"""

from __future__ import annotations

import functools
import itertools
from dataclasses import dataclass
from fractions import Fraction

import flint
import numpy as np

from ..mdp.model import MDP
from .errors import SolveError

MAX_STATES = 60
"""States above which polynomials of that degree are refused."""


@dataclass(frozen=True)
class BlackwellOptimum:
    """A policy that is optimal for every discount in (threshold, 1).

    policy: int32 (n_states,), -1 in terminal states. actions: all Blackwell-optimal actions of each state, ascending.
    threshold: (below, above), exact bounds of the least discount from which on the policy stays optimal; equal where that is
        rational, (0, 0) where the policy is optimal for every discount, else some 1e-16 apart.
    """

    policy: np.ndarray
    actions: list[list[int]]
    threshold: tuple[Fraction, Fraction]


def blackwell(problem: MDP) -> BlackwellOptimum:
    """The Blackwell-optimal actions of a problem, of whatever discount or none, with at most `MAX_STATES` states.

    Raises SolveError for a larger one, or for one that is no stationary `MDP`.
    """
    if not isinstance(problem, MDP):
        raise SolveError(f"{type(problem).__name__} has no discount to take to one; give an MDP")
    if problem.n_states > MAX_STATES:
        raise SolveError(f"{problem.n_states} states are more than {MAX_STATES}; AverageReward() finds a gain-optimal policy")
    rows = _Rows.of(problem.negated() if problem.criterion.minimize else problem)
    policy = [0 if pairs else -1 for pairs in rows.pairs]
    while True:
        advantages = rows.advantages(policy)
        better = [
            next((a for a, pair in enumerate(pairs) if _sign_below_one(advantages[pair]) > 0), policy[s])
            for s, pairs in enumerate(rows.pairs)
        ]
        if better == policy:
            break
        policy = better
    actions = [[a for a, pair in enumerate(pairs) if not advantages[pair]] for pairs in rows.pairs]
    threshold = functools.reduce(_later, (_last_change(q) for q in advantages if q), (Fraction(0), Fraction(0)))
    return BlackwellOptimum(np.array(policy, dtype=np.int32), actions, threshold)


@dataclass(frozen=True)
class _Rows:
    """The model in rationals. pairs: those of each state. row: successors and probabilities of each pair."""

    pairs: list[range]
    row: list[list[tuple[int, flint.fmpq]]]
    reward: list[flint.fmpq]
    worth: list[flint.fmpq]

    @classmethod
    def of(cls, problem: MDP) -> _Rows:
        rows = []
        for pair in range(problem.n_pairs):
            part = slice(int(problem.row_ptr[pair]), int(problem.row_ptr[pair + 1]))
            weights = [_rational(p) for p in problem.probability[part]]
            total = sum(weights, flint.fmpq(0))
            rows.append([(j, w / total) for j, w in zip(problem.successor[part].tolist(), weights, strict=True)])
        ends = problem.state_ptr.tolist()
        pairs = [range(first, last) for first, last in itertools.pairwise(ends)]
        return cls(pairs, rows, [_rational(r) for r in problem.reward], [_rational(v) for v in problem.terminal_value])

    def advantages(self, policy: list[int]) -> list[flint.fmpq_poly]:
        """q of every pair against the policy."""
        n, discount = len(policy), flint.fmpq_poly([0, 1])
        points = [flint.fmpq(i, n + 1) for i in range(n + 1)]
        samples = [self._solved(policy, g) for g in points]
        basis = _lagrange_basis(points)
        determinant = _interpolated(basis, [d for d, _ in samples])
        value = [_interpolated(basis, [d * v[s, 0] for d, v in samples]) for s in range(n)]
        found = []
        for s, pairs in enumerate(self.pairs):
            for pair in pairs:
                ahead = sum((p * value[j] for j, p in self.row[pair]), flint.fmpq_poly())
                found.append(self.reward[pair] * determinant + discount * ahead - value[s])
        return found

    def _solved(self, policy: list[int], discount: flint.fmpq) -> tuple[flint.fmpq, flint.fmpq_mat]:
        n = len(policy)
        system, constant = flint.fmpq_mat(n, n), flint.fmpq_mat(n, 1)
        for s, action in enumerate(policy):
            system[s, s] = 1
            constant[s, 0] = self.worth[s] if action < 0 else self.reward[self.pairs[s][action]]
            for j, p in self.row[self.pairs[s][action]] if action >= 0 else ():
                system[s, j] -= discount * p
        return system.det(), system.solve(constant)


def _rational(number: float) -> flint.fmpq:
    return flint.fmpq(*float(number).as_integer_ratio())


def _lagrange_basis(points: list[flint.fmpq]) -> list[flint.fmpq_poly]:
    whole = flint.fmpq_poly([1])
    for x in points:
        whole *= flint.fmpq_poly([-x, 1])
    others = [divmod(whole, flint.fmpq_poly([-x, 1]))[0] for x in points]
    return [polynomial / polynomial(x) for polynomial, x in zip(others, points, strict=True)]


def _interpolated(basis: list[flint.fmpq_poly], values: list[flint.fmpq]) -> flint.fmpq_poly:
    return sum((v * polynomial for v, polynomial in zip(values, basis, strict=True)), flint.fmpq_poly())


def _sign_below_one(polynomial: flint.fmpq_poly) -> int:
    """Sign on (1 - e, 1) for small e."""
    first = next((c for c in polynomial(flint.fmpq_poly([1, -1])).coeffs() if c), flint.fmpq(0))
    return (first > 0) - (first < 0)


def _last_change(polynomial: flint.fmpq_poly) -> tuple[Fraction, Fraction]:
    """Bounds of the greatest root in (0, 1) at which the sign changes; zeros where there is none."""
    last = (Fraction(0), Fraction(0))
    for factor, multiplicity in polynomial.numer().factor()[1]:
        if multiplicity % 2 == 0:
            continue
        if factor.degree() == 1:
            root = Fraction(-int(factor[0]), int(factor[1]))
            if 0 < root < 1:
                last = _later(last, (root, root))
            continue
        for root, _ in factor.complex_roots():  # pyright: ignore[reportGeneralTypeIssues]
            if root.imag == 0 and root.real > 0 and root.real < 1:
                last = _later(last, _ends(root.real))
    return last


def _ends(ball: flint.arb) -> tuple[Fraction, Fraction]:
    lower, upper = (Fraction(int(m)) * Fraction(2) ** int(e) for m, e in (ball.lower().man_exp(), ball.upper().man_exp()))
    return lower, upper


def _later(one: tuple[Fraction, Fraction], other: tuple[Fraction, Fraction]) -> tuple[Fraction, Fraction]:
    return max(one[0], other[0]), max(one[1], other[1])
