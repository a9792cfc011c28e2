r"""What can be known of a preference game, in balls that contain it.

Policies are lists of n balls at 256 bits; oracle, reference and temperature are the game's floats as exact numbers (rewards,
where there are any, as exact rewards), and the Nash policy is enclosed by its own duality gap. A policy of floats enters as
exact weights divided by their sum.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Any

import numpy as np
from flint import arb, arb_mat, ctx, fmpq, fmpq_mat

from ..mdp.preference import PreferenceGame
from ..solvers.regularised_nash import PRECISION, enclosed_nash, gap_ball, table, weights
from .errors import BoundError
from .number import exact

Policy = list[arb]

_RATIONAL: tuple[Any, Any] = (fmpq, fmpq_mat)
_BALL: tuple[Any, Any] = (arb, arb_mat)


class PreferenceEvidence:
    """A game of n responses and the policies and numbers that measurements need of it."""

    def __init__(self, problem: PreferenceGame) -> None:
        self.problem = problem
        self.n = problem.n_responses

    @property
    def temperature(self) -> fmpq:
        """The price of a nat, exactly."""
        return exact(self.problem.temperature)

    @cached_property
    def reference(self) -> Policy:
        """q, (n,)."""
        return weights(self.problem.reference)

    @cached_property
    def uniform(self) -> Policy:
        """1/n for each response, (n,)."""
        with ctx.workprec(PRECISION):
            return [arb(fmpq(1, self.n))] * self.n

    @cached_property
    def nash(self) -> Policy:
        """p*, the regularised Nash policy, (n,)."""
        return enclosed_nash(self.problem)

    @cached_property
    def oracle(self) -> list[list[arb]]:
        """P, (n, n)."""
        return table(self.problem)

    def policies(self) -> Iterator[tuple[str, Policy]]:
        """Policies to measure at, by name: the reference, the uniform one, the Nash policy, each response nearly for sure."""
        yield "reference", self.reference
        yield "uniform", self.uniform
        yield "Nash", self.nash
        for response in range(self.n):
            sure = np.full(self.n, 2.0**-10)
            sure[response] = 1.0
            yield f"response {response}", weights(sure)

    def win_rates(self, policy: Policy) -> list[arb]:
        """P p, (n,)."""
        with ctx.workprec(PRECISION):
            return [sum((a * p for a, p in zip(row, policy, strict=True)), arb(0)) for row in self.oracle]

    def mean(self, policy: Policy, values: list[arb]) -> arb:
        """<p, v> of a policy and values, both (n,)."""
        with ctx.workprec(PRECISION):
            return sum((p * v for p, v in zip(policy, values, strict=True)), arb(0))

    def tilted(self, policy: Policy, score: list[arb]) -> Policy:
        """p e^s / Z of a policy and scores, both (n,)."""
        with ctx.workprec(PRECISION):
            heavy = [p * s.exp() for p, s in zip(policy, score, strict=True)]
            total = sum(heavy, arb(0))
            return [h / total for h in heavy]

    def mixture(self, policy: Policy, share: fmpq) -> Policy:
        """The geometric mixture p^(1 - share) q^share / Z, (n,)."""
        with ctx.workprec(PRECISION):
            logs = [arb(1 - share) * p.log() + arb(share) * q.log() for p, q in zip(policy, self.reference, strict=True)]
            return self.tilted([arb(1)] * self.n, logs)

    def best_response(self, policy: Policy) -> Policy:
        """q e^(P p / t) / Z, (n,)."""
        with ctx.workprec(PRECISION):
            return self.tilted(self.reference, [rate / arb(self.temperature) for rate in self.win_rates(policy)])

    def nash_md(self, policy: Policy, rate: fmpq) -> Policy:
        """The step of Nash-MD, (n,)."""
        mixture = self.mixture(policy, rate * self.temperature)
        with ctx.workprec(PRECISION):
            return self.tilted(mixture, [arb(rate) * win for win in self.win_rates(mixture)])

    def inpo(self, policy: Policy, inverse: fmpq) -> Policy:
        """The step of INPO, (n,)."""
        mixture = self.mixture(policy, self.temperature / inverse)
        with ctx.workprec(PRECISION):
            return self.tilted(mixture, [win / arb(inverse) for win in self.win_rates(policy)])

    def divergence(self, policy: Policy, other: Policy) -> arb:
        """KL(p | p') in nats."""
        with ctx.workprec(PRECISION):
            return sum((p * (p / o).log() for p, o in zip(policy, other, strict=True)), arb(0))

    def variation(self, policy: Policy, other: Policy) -> arb:
        """Total variation between two policies."""
        with ctx.workprec(PRECISION):
            return sum((abs(p - o) for p, o in zip(policy, other, strict=True)), arb(0)) / 2

    def gap(self, policy: Policy) -> arb:
        """The duality gap, in its closed form."""
        return gap_ball(self.problem, policy)

    def payoff(self, policy: Policy, other: Policy) -> arb:
        """J(p, p')."""
        with ctx.workprec(PRECISION):
            price = self.divergence(policy, self.reference) - self.divergence(other, self.reference)
            return self.mean(policy, self.win_rates(other)) - arb(self.temperature) * price

    def ipo_scores(self, shown: list[list[fmpq]], tau: fmpq) -> list[Any]:
        """Scores of IPO's optimum, (n,), the first zero, for symmetric weights (n, n) of pairs that join all responses.

        Rationals where the oracle is rational, balls where a reward stands behind it.
        """
        rational = self.problem.oracle.reward is None
        number, matrix = _RATIONAL if rational else _BALL
        oracle = [[exact(p) for p in row] for row in self.problem.oracle.rational()] if rational else self.oracle
        if self.n == 1:
            return [number(0)]
        others = range(1, self.n)
        with ctx.workprec(PRECISION):
            rows = [[number(sum(shown[i], fmpq(0)) if i == j else -shown[i][j]) for j in others] for i in others]
            pull = [[sum((shown[i][j] * (oracle[i][j] - fmpq(1, 2)) for j in range(self.n)), number(0)) / tau] for i in others]
            solved = matrix(rows).solve(matrix(pull))
        return [number(0), *(solved[i, 0] for i in range(self.n - 1))]


def preference(evidence: Any, what: str) -> PreferenceEvidence:
    """The evidence itself, of a preference game. Raises BoundError for any other."""
    if not isinstance(evidence, PreferenceEvidence):
        raise BoundError(f"{what} speaks of preference games; give a PreferenceGame")
    return evidence
