r"""What routing between modes costs, and what a charge on the dear one makes of it.

BETWEEN    on one query a router that mixes two modes with accuracies a, b and costs c, d pays (s c + (1 - s) d)/(s a +
           (1 - s) b), the mediant of c/a and d/b, and lies between them. Across queries it may beat both.
SQUARE     the success rate of rho forced rollouts in each of M modes has mean p, the modes' mean accuracy, and variance
           sum_m a_m (1 - a_m)/(M^2 rho): its square is too large by that.
ROUTER     a charge that is computed from forced rollouts alone is independent of an adaptive one. With rewards centred in the
           group of N its mean ascent of the router's logit is (N - 1)/N times the slope of the accuracy in which the dear
           mode counts E f as much, f the factor 1 - p^2 where the cheap mode's forced rollouts are right more often than not.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any

import sympy
from flint import fmpq

from .bound import Measurement
from .rlvr_group import of_tokens
from .token_evidence import ONE, ZERO, TokenEvidence, tokens

x, y, p, v, s, f = sympy.symbols("x y p v s f", nonnegative=True)
M, N, rho = sympy.symbols("M N rho", integer=True, positive=True)


def _between(evidence: Any) -> Iterator[Measurement]:
    problem = tokens(evidence, "the router")
    for name, one, two in problem.pairs():
        for prompt, rows in enumerate(problem.by_prompt):
            chance_of_prompt = problem.prompt_chance[prompt]
            passes, costs = [], []
            for policy in (one, two):
                chance = problem.chances(policy)
                passes.append(sum((chance[y] for y in rows if problem.right[y]), ZERO))
                costs.append(sum((chance[y] * problem.answers[y].length for y in rows), ZERO))
            if min(passes) == 0 or chance_of_prompt == 0:
                continue
            single = [c / p for c, p in zip(costs, passes, strict=True)]
            for share in (fmpq(1, 4), fmpq(9, 10)):
                mixed = [share * a + (1 - share) * b for a, b in (costs, passes)]
                yield Measurement(mixed[0] / mixed[1], {x: single[0], y: single[1]}, {"policies": name, "prompt": prompt})


def _accuracies(problem: TokenEvidence) -> Iterator[tuple[dict[str, Any], list[fmpq]]]:
    """Two policies as modes, the first the cheap one: what to call them, and their accuracies for each prompt that occurs."""
    for name, one, two in problem.pairs():
        for prompt, modes in enumerate(zip(problem.success(one), problem.success(two), strict=True)):
            if problem.by_prompt[prompt]:
                yield {"policies": name, "prompt": prompt}, list(modes)


def _verdicts(accuracy: Sequence[fmpq], rollouts: int) -> Iterator[tuple[fmpq, tuple[int, ...]]]:
    """Every outcome of `rollouts` forced ones in each mode, mode after mode, with its probability."""
    mode = [m for m in range(len(accuracy)) for _ in range(rollouts)]
    for verdict in itertools.product((0, 1), repeat=len(mode)):
        yield math.prod((accuracy[m] if r else 1 - accuracy[m] for m, r in zip(mode, verdict, strict=True)), start=ONE), verdict


def _square(evidence: Any) -> Iterator[Measurement]:
    for parameters, a in _accuracies(tokens(evidence, "the rate")):
        for rollouts in (1, 2, 3):
            found = sum((chance * fmpq(sum(r), len(r)) ** 2 for chance, r in _verdicts(a, rollouts)), ZERO)
            mean, variance = sum(a, ZERO) / len(a), sum((q * (1 - q) for q in a), ZERO) / len(a)
            values = {p: mean, v: variance, M: len(a), rho: rollouts}
            yield Measurement(found, values, parameters | {"rollouts": rollouts})


def _mean_factor(a: Sequence[fmpq], rollouts: int) -> fmpq:
    """1 - E p^2 1[easy], by the binomial laws of two modes."""
    law = [[math.comb(rollouts, k) * q**k * (1 - q) ** (rollouts - k) for k in range(rollouts + 1)] for q in a]
    charge = ZERO
    for k, first in enumerate(law[0]):
        for other, second in enumerate(law[1]):
            charge += first * second * fmpq(k + other, 2 * rollouts) ** 2 if 2 * k > rollouts else ZERO
    return 1 - charge


def _router(evidence: Any) -> Iterator[Measurement]:
    for parameters, a in _accuracies(tokens(evidence, "the router")):
        for rollouts, share in itertools.product((1, 2), (fmpq(1, 4), fmpq(9, 10))):
            found, size = ZERO, 2 * rollouts + 1
            for chance, verdict in _verdicts(a, rollouts):
                easy = 2 * sum(verdict[:rollouts]) > rollouts
                paid = (ONE, 1 - fmpq(sum(verdict), len(verdict)) ** 2 if easy else ONE)
                forced = paid[0] * sum(verdict[:rollouts]) + paid[1] * sum(verdict[rollouts:])
                for mode, right in itertools.product((0, 1), (0, 1)):
                    q = chance * (1 - share if mode else share) * (a[mode] if right else 1 - a[mode])
                    advantage = paid[mode] * right - (forced + paid[mode] * right) / size
                    found += q * advantage * ((0 if mode else 1) - share)
            values = {x: a[0], y: a[1], f: _mean_factor(a, rollouts), s: share, N: size}
            yield Measurement(found, values, parameters | {"rollouts": rollouts, "share": str(share)})


BETWEEN = of_tokens(
    "a router's cost of a pass lies between its modes'",
    r"\mathrm{CoP}(s \pi + (1 - s) \pi')",
    sympy.Max(x, y),
    {x: "cost of a pass of the one mode", y: "of the other"},
    _between,
    "the mediant; of Chen et al. 2025, arXiv 2510.12838",
    assumes="one query, two modes that can succeed, costs in tokens",
)

SQUARE = of_tokens(
    "the square of a success rate is too large by its variance",
    r"\mathbb{E} \hat p^2",
    p**2 + v / (M * rho),
    {p: "mean accuracy of the modes", v: "mean variance of a mode's verdict", M: "modes", rho: "forced rollouts a mode"},
    _square,
    "of the charge of Chen et al. 2025, arXiv 2510.12838; proved here",
    sense="equal to",
    assumes="one query, modes forced equally often",
)

ROUTER = of_tokens(
    "an adaptive rollout gives the router the slope of the charged accuracy",
    r"\mathbb{E}[A\,\partial \log s]",
    (N - 1) / N * s * (1 - s) * (x - y * f),
    {
        x: "accuracy of the cheap mode",
        y: "accuracy of the dear mode",
        f: "mean factor that the dear mode is paid",
        s: "the router's chance of the cheap mode",
        N: "rollouts of the group, one of them adaptive",
    },
    _router,
    "of Chen et al. 2025, arXiv 2510.12838; proved here",
    sense="equal to",
    assumes="one query, two modes, advantages centred and not scaled, a charge that is computed from forced rollouts alone",
)

CATALOGUE = (BETWEEN, SQUARE, ROUTER)
