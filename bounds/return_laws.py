r"""Laws of returns for measurements: the distributional Bellman operator, its projected fixed points, and brackets, all exact.

The policy takes the first action everywhere. Laws are in Fractions; the categorical fixed point on a grid is the one solution,
with mass one in every state, of

    w_s[i] = sum p(e) C_{r}[i, j] w_{s'}[j],        C_r[i, j] the share of r + g z_j that the projection gives to z_i,

a linear system, for every row conserves mass. The law of the return itself is known between two laws of a certificate that
`banach.solvers.distributional_check` has accepted; distances to it are balls, by the triangle inequality.

Rowland et al. 2018, arXiv 1802.08163.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from fractions import Fraction
from functools import cached_property
from typing import Any

import numpy as np
from flint import arb, fmpq, fmpq_mat

from ..mdp.law import Law, mixture
from ..mdp.law_distance import cramer_squared, wasserstein
from ..mdp.law_projection import categorical
from ..mdp.outcome import OutcomeMDP
from ..solvers.distributional import ReturnLaws, return_laws
from ..solvers.distributional_check import check_laws
from .number import ball
from .rational import rational

Laws = list[Law]
"""A law a state."""

ATOMS = 300
"""Points of the brackets' lattice."""


class ReturnEvidence:
    """A small discounted problem's returns under its first actions. Raises BoundError for large problems."""

    def __init__(self, evidence: Any) -> None:
        self.evidence = rational(evidence, "laws of returns")
        self.problem = self.evidence.problem
        self.model = OutcomeMDP(self.problem)
        self.policy = np.where(self.problem.terminal, -1, 0).astype(np.int32)
        self.discount = Fraction(self.problem.discount)
        self.acting = np.flatnonzero(~self.problem.terminal).tolist()
        self.rows = {s: self.model.outcomes(s, 0) for s in self.acting}

    @property
    def n_states(self) -> int:
        """Number of states."""
        return self.problem.n_states

    def constant(self, law: Law) -> Laws:
        """The law in every state, and the terminal value in terminal ones."""
        return [self._worth(s) if self.problem.terminal[s] else law for s in range(self.n_states)]

    def apply(self, laws: Laws, project: Callable[[Law], Law] | None = None) -> Laws:
        """T laws, projected where the state is not terminal."""
        found = list(laws)
        for s in self.acting:
            rows = self.rows[s]
            law = mixture([p for p, _, _ in rows], [laws[j].affine(r, self.discount) for _, r, j in rows])
            found[s] = law if project is None else project(law)
        return found

    def ends(self) -> tuple[Fraction, Fraction]:
        """Bounds on every return, apart by more than a bracket's own width."""
        low, high = (Fraction(end) for end in self.model.returns_within())
        return (low, high) if (high - low) * 2**20 > max(1, abs(low), abs(high)) else (low - 1, high + 1)

    def grid(self, points: int) -> list[Fraction]:
        """Equally spaced points from the least to the greatest return."""
        low, high = self.ends()
        return [low + (high - low) * i / (points - 1) for i in range(points)]

    @cached_property
    def bracket(self) -> ReturnLaws:
        """Two laws around that of the return, proved."""
        found = return_laws(self.model, self.policy, ATOMS)
        check_laws(self.model, found.certificate)
        return found

    def categorical_fixed_point(self, points: int) -> Laws:
        """The fixed point of the categorical projection of T on `grid(points)`."""
        grid, size = self.grid(points), self.n_states * points
        system, right = fmpq_mat(size, size), fmpq_mat(size, 1)
        shares = {r: [categorical(Law.point(r + self.discount * z), grid) for z in grid] for r in self._rewards()}
        place = {z: i for i, z in enumerate(grid)}
        for s in range(self.n_states):
            for i in range(points):
                system[s * points + i, s * points + i] = fmpq(1)
            if self.problem.terminal[s]:
                for z, p in _pairs(categorical(self._worth(s), grid)):
                    right[s * points + place[z], 0] = _fmpq(p)
                continue
            for p, r, j in self.rows[s]:
                for k, law in enumerate(shares[r]):
                    for z, q in _pairs(law):
                        system[s * points + place[z], j * points + k] -= _fmpq(p * q)
            last = s * points + points - 1
            for k in range(size):
                system[last, k] = fmpq(int(k // points == s))
            right[last, 0] = fmpq(1)
        solved = system.solve(right)
        weights = [Fraction(int(solved[k, 0].p), int(solved[k, 0].q)) for k in range(size)]
        return [Law.of(grid, weights[s * points : (s + 1) * points], exact=True) for s in range(self.n_states)]

    def variance(self) -> list[Any]:
        """Exact variance of the return from each state: E G^2 solves a linear system of discount g^2."""
        value = self.evidence.policy_value(self.policy)
        n, g = self.n_states, _fmpq(self.discount)
        system, right = fmpq_mat(n, n), fmpq_mat(n, 1)
        for s in range(n):
            system[s, s] += fmpq(1)
            if self.problem.terminal[s]:
                right[s, 0] = value[s] * value[s]
                continue
            for p, r, j in self.rows[s]:
                system[s, j] -= _fmpq(p) * g * g
                right[s, 0] += _fmpq(p) * (_fmpq(r) * _fmpq(r) + 2 * g * _fmpq(r) * value[j])
        second = system.solve(right)
        return [second[s, 0] - value[s] * value[s] for s in range(n)]

    def value(self) -> list[Any]:
        """Exact value of the policy, (n,)."""
        return list(self.evidence.policy_value(self.policy))

    def distance(self, laws: Laws, square: bool) -> arb:
        """Largest distance of laws to those of the returns: W_1, or, where square, l_2^2."""
        found = arb(0)
        for s in self.acting:
            low, high = self.bracket.lower(s), self.bracket.upper(s)
            near, width = (_metric(law, low, square) for law in (laws[s], high))
            least = (near - width).max(arb(0))
            between = least.union(near + width)
            found = found.max(between * between if square else between)
        return found

    def pairs(self) -> Iterator[tuple[int, Law]]:
        """Laws of one step of every state and action onto the optimal values for certain."""
        value = [Fraction(int(v.p), int(v.q)) for v in self.evidence.optimal()]
        for s in self.acting:
            for action in self.model.actions(s):
                rows = self.model.outcomes(s, action)
                yield s, Law.of([r + self.discount * value[j] for _, r, j in rows], [p for p, _, _ in rows], exact=True)

    def _rewards(self) -> set[Fraction]:
        return {r for rows in self.rows.values() for _, r, _ in rows}

    def _worth(self, state: int) -> Law:
        return Law.point(Fraction(float(self.problem.terminal_value[state])))


def _metric(law: Law, other: Law, square: bool) -> arb:
    return ball(cramer_squared(law, other)).sqrt() if square else ball(wasserstein(law, other))


def _pairs(law: Law) -> Iterator[tuple[Fraction, Fraction]]:
    return zip(law.atoms.tolist(), law.weights.tolist(), strict=True)


def _fmpq(x: Fraction) -> fmpq:
    return fmpq(x.numerator, x.denominator)
