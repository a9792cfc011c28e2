r"""What INPO promises beyond its last iterate: one step, the span of its losses, the average of its policies.

c >= t the inverse step, q first, g_k = -P p_k + t log(p_k / q) the loss of step k, p* the regularised Nash policy. Proofs:

ONE_STEP   the three-point identity of mirror descent, <g_k, p_k - p*> >= t KL(p_k | p*) + t KL(p* | p_k) by monotonicity,
           and Hoeffding's lemma for <g_k, p_k - p_{k+1}>:
           KL(p* | p_{k+1}) <= (1 - t/c) KL(p* | p_k) - (t/c) KL(p_k | p*) + span(g_k)^2 / (8 c^2).
SPAN       log(p_{k+1} / q) = (1 - t/c) log(p_k / q) + P p_k / c + const: spans of at most 1/t stay so.
AVERAGE    J(p', .) is convex, J(., p_k) concave: G(mean) <= 2 max_p' (1/T) sum_k [J(p', p_k) - 1/2], the regret of mirror
           descent with spans of at most 2: G <= 2 c L / T + 1/c, L = max_y log 1/q_y, which is 2 sqrt(2 L / T) at the best c.

Zhang et al. 2024, arXiv 2407.00617; constants proved here.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import sympy
from flint import arb, ctx

from ..solvers.regularised_nash import PRECISION
from .bound import Measurement
from .preference import GAME, STEPS, c, k, largest, of_games, t
from .preference_evidence import Policy, PreferenceEvidence, preference

before, behind, span, rare = sympy.symbols("KL_k KL'_k S L", nonnegative=True)

RATIOS = (1, 3, 30)
"""Inverse steps over the temperature; 3 is the published one."""


def _spread(numbers: list[arb]) -> arb:
    return largest([a - b for a in numbers for b in numbers])


def _ratios(game: PreferenceEvidence, policy: Policy) -> list[arb]:
    """log(p / q), (n,)."""
    return [(p / q).log() for p, q in zip(policy, game.reference, strict=True)]


def _walk(game: PreferenceEvidence) -> Iterator[tuple[int, int, Any, Policy, Policy]]:
    """Ratio, number of the step, inverse step, the policies before and after it."""
    for ratio in RATIOS:
        inverse, policy = game.temperature * ratio, game.reference
        for step in range(1, STEPS[5] + 1):
            following = game.inpo(policy, inverse)
            yield ratio, step, inverse, policy, following
            policy = following


def _one_step(evidence: Any) -> Iterator[Measurement]:
    game = preference(evidence, "INPO's step")
    for ratio, step, inverse, policy, following in _walk(game):
        if step not in STEPS:
            continue
        with ctx.workprec(PRECISION):
            wins = game.win_rates(policy)
            loss = [arb(game.temperature) * r - w for r, w in zip(_ratios(game, policy), wins, strict=True)]
            values = {t: game.temperature, c: inverse, span: _spread(loss)}
        values |= {before: game.divergence(game.nash, policy), behind: game.divergence(policy, game.nash)}
        found = game.divergence(game.nash, following)
        yield Measurement(found, values, {"steps": step, "inverse step over temperature": ratio})


def _span(evidence: Any) -> Iterator[Measurement]:
    game = preference(evidence, "INPO's span")
    for ratio, step, _, _, following in _walk(game):
        if step in STEPS:
            found = _spread(_ratios(game, following))
            yield Measurement(found, {t: game.temperature}, {"steps": step, "inverse step over temperature": ratio})


def _average(evidence: Any) -> Iterator[Measurement]:
    game = preference(evidence, "INPO's average")
    with ctx.workprec(PRECISION):
        least = largest([-q.log() for q in game.reference])
    total, at = [arb(0)] * game.n, 0
    for ratio, step, inverse, policy, _ in _walk(game):
        total = [a + p for a, p in zip(total, policy, strict=True)] if ratio == at else list(policy)
        at = ratio
        if step in STEPS:
            with ctx.workprec(PRECISION):
                mean = [a / step for a in total]
            values = {c: inverse, rare: least, k: step}
            yield Measurement(game.gap(mean), values, {"steps": step, "inverse step over temperature": ratio})


ONE_STEP = of_games(
    "a step of INPO comes nearer up to its span",
    r"\mathrm{KL}(\pi^*\|\pi_{k+1})",
    (1 - t / c) * before - t / c * behind + span**2 / (8 * c**2),
    {
        c: "inverse step, at least tau",
        before: "KL of the Nash policy to the policy before",
        behind: "KL of the policy before to the Nash policy",
        span: "span of the step's loss",
    },
    _one_step,
    "after Zhang et al. 2024, arXiv 2407.00617; constants proved here",
    axis="steps",
)

SPAN = of_games(
    "INPO stays within a win probability of the reference",
    r"\max_y \log\frac{\pi_k}{q} - \min_y \log\frac{\pi_k}{q}",
    1 / t,
    {},
    _span,
    "the coverage assumption of Zhang et al. 2024, arXiv 2407.00617, proved here",
    axis="steps",
    assumes=GAME + "; from the reference, inverse step at least tau",
)

AVERAGE = of_games(
    "the average of INPO has a small duality gap",
    r"\max J(\cdot, \bar\pi_k) - \min J(\bar\pi_k, \cdot)",
    2 * c * rare / k + 1 / c,
    {c: "inverse step, at least tau", rare: "largest -log q"},
    _average,
    "after Zhang et al. 2024, arXiv 2407.00617; constants proved here",
    axis="steps",
    assumes=GAME + "; from the reference, inverse step at least tau",
)

CATALOGUE = (ONE_STEP, SPAN, AVERAGE)
