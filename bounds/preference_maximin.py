r"""What the maximin policy of RPO promises when the labels are their own law, and what is said of it that is false.

r* the true reward in [0, R]^n, labels of Bradley and Terry's law of r*, pairs shown with shares S, phi, C and b as in
`banach.solvers.preference_maximin`, p^ a policy whose saddle bracket is g wide.

COVERAGE    Sums of phi at p^ and at a comparator p, the least favourable r of the latter, give
            <p - p^, r*> <= <p - b, r* - r> + (L(r*) - L(r)) / eta + beta KL(p | q) + g / eta. With D = r* - r, by Pinsker and
            the mean value theorem L(r) - L(r*) >= 2 k^2 E_S D^2, k = s(R) s(-R), and <p - b, D> <= C sqrt(E_S D^2); so
            <p - p^, r*> <= C^2 eta / (8 k^2) + beta KL(p | q) + g / eta.
SAMPLED     Theorem 5.3: N labels of the law, beta = 1/sqrt N, eta = sqrt(24 log(M/d)/N) / (1 + e^R)^2, M the balls of radius
            1/(6 (1 + e^R) N) that cover [0, R]^n in the sup norm. Then with chance 1 - d
            <p - p^, r*> <= (sqrt 6 (1 + e^R)^2 (C^2 + 1) sqrt log(M/d) + 4 KL(p | q)) / (4 sqrt N)    and g / eta.
            Measured without draws, on the best and the worst response: the least number that the left side stays below with
            chance 1 - d, by the binomial law of the labels. Intervals cover [0, R] singly, M = ceil(3 R (1 + e^R) N)^2. True
            with much room: it says more than <p - p^, r*> <= R from some thousand labels on at R = 1, some 10^5 at R = 3, and
            1/sqrt N is a rate for the worst reward: at a given one p^ is Gibbs's at beta = 1/sqrt N, and lacks e^(-R sqrt N).
NO_GAP      "maximin is minimax, whatever the class of rewards." Without labels, on {r*, r* backwards}: phi is linear in r, so
            maximin <= max_p of the mean = F((r + r') / 2), and min(F(r), F(r')) exceeds it wherever F bends.
BETA        "beta scales DPO's gradient and does not turn it." True of one pair.

After Liu et al. 2024, arXiv 2405.16436, whose theorem 5.3 has COVERAGE's terms with sampling errors in place of the law.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import sympy
from flint import arb, ctx, fmpq, fmpq_mat

from ..solvers.preference_maximin import RegularizedPO, exact_bracket, maximin
from ..solvers.regularised_nash import PRECISION, weights
from .bound import Measurement
from .drawing import drawn_rewarded_games
from .games import rewarded_games
from .number import approximate, ball, evaluate, exact
from .preference import of_games, weightings
from .preference_evidence import PreferenceEvidence, preference

draws = sympy.Symbol("N", integer=True, positive=True)
reach, risk = sympy.symbols("R delta", positive=True)
eta, beta, cover, sharp, nats, width = sympy.symbols("eta beta C^2 kappa K g", nonnegative=True)
ETA = 0.1
SAMPLES = (4, 12, 36)
"""Labels of SAMPLED."""
RISK = fmpq(1, 10)
BALLS = sympy.ceiling(3 * reach * (1 + sympy.exp(reach)) * draws) ** 2
"""That cover the rewards of two responses."""


def _rewards(game: PreferenceEvidence) -> list[fmpq] | None:
    """r* with least entry zero, (n,), exactly; None where no reward stands behind the labels."""
    if game.problem.oracle.reward is None:
        return None
    reward = [exact(x) for x in game.problem.oracle.reward]
    return [x - min(reward) for x in reward]


def _covered(apart: list[fmpq], shown: list[list[fmpq]]) -> fmpq:
    """v' S^+ v of v (n,) that sums to 0 and the shares of pairs (n, n) that join all responses."""
    n = len(apart)
    laplacian = [[-shown[i][j] if i != j else sum(shown[i], fmpq(0)) for j in range(1, n)] for i in range(1, n)]
    solved = fmpq_mat(laplacian).solve(fmpq_mat([[x] for x in apart[1:]]))
    return sum((x * solved[i, 0] for i, x in enumerate(apart[1:])), fmpq(0))


def _labelled(game: PreferenceEvidence, reward: list[fmpq], shown: list[list[fmpq]]) -> list[tuple[int, int, arb]]:
    """(preferred, other, share) of Bradley and Terry's law."""
    with ctx.workprec(PRECISION):
        return [
            (i, j, arb(shown[i][j]) / (1 + (arb(reward[j]) - arb(reward[i])).exp()))
            for i in range(game.n)
            for j in range(game.n)
            if shown[i][j] != 0
        ]


def _coverage(evidence: Any) -> Iterator[Measurement]:
    game = preference(evidence, "the maximin policy")
    reward = _rewards(game)
    if reward is None or not any(reward):  # one response, or all alike: nothing is lacking, and the box is a point
        return
    top, q = float(max(reward)), game.problem.reference
    for name, counts in weightings(game):
        total = sum((x for i, row in enumerate(counts) for x in row[i:]), fmpq(0))
        shown = [[x / total for x in row] for row in counts]
        labels = _labelled(game, reward, shown)
        wins = np.zeros((game.n, game.n))
        for i, j, share in labels:
            wins[i, j] = float(share)
        problem = RegularizedPO(wins, q, np.full(game.n, 1 / game.n), ETA, game.problem.temperature)
        answer = maximin(problem, top)
        lower, upper = exact_bracket(problem, labels, answer.policy, answer.reward, top)
        best = int(np.argmax([float(x) for x in reward]))
        baseline = [exact(x) for x in problem.baseline]
        baseline = [x / sum(baseline, fmpq(0)) for x in baseline]
        apart = [fmpq(int(i == best)) - x for i, x in enumerate(baseline)]
        with ctx.workprec(PRECISION):
            lacking = arb(reward[best]) - sum((p * arb(x) for p, x in zip(weights(answer.policy), reward, strict=True)), arb(0))
            steep = 1 / ((1 + arb(-max(reward)).exp()) * (1 + arb(max(reward)).exp()))
            surprise = -weights(q)[best].log()
            gap = arb(upper) - arb(lower)
        promised = {
            cover: _covered(apart, shown),
            eta: exact(ETA),
            sharp: steep,
            beta: game.temperature,
            nats: surprise,
            width: gap,
        }
        yield Measurement(lacking, promised, {"pairs": name})


def _sampled(evidence: Any) -> Iterator[Measurement]:
    game = preference(evidence, "the maximin policy of drawn labels")
    reward = _rewards(game)
    if reward is None or not any(reward):
        return
    height = max(reward)
    ends = [reward.index(min(reward)), reward.index(height)]
    q = game.problem.reference[ends] / game.problem.reference[ends].sum()
    with ctx.workprec(PRECISION):
        right = 1 / (1 + (-arb(height)).exp())
        for count in SAMPLES:
            balls = evaluate(BALLS, {reach: height, draws: count})
            strict = float((24 * ball(balls / RISK).log() / count).sqrt() / (1 + arb(height).exp()) ** 2)
            lacking, chance, gaps = [], [], []
            for won in range(count + 1):
                wins = np.array([[0.0, count - won], [won, 0.0]])
                problem = RegularizedPO(wins, q, np.full(2, 0.5), strict, count**-0.5)
                answer = maximin(problem, float(height))
                lacking.append(arb(height) * weights(answer.policy)[0])
                chance.append(math.comb(count, won) * right**won * (1 - right) ** (count - won))
                gaps.append(answer.gap)
            kept, total = arb(0), arb(0)
            for row in sorted(range(count + 1), key=lambda row: approximate(lacking[row])):
                kept, total = lacking[row], total + chance[row]
                if total > 1 - RISK:
                    break
            promised = {
                draws: count,
                reach: height,
                risk: RISK,
                cover: fmpq(1, 4),  # v = (-1/2, 1/2) and one pair
                nats: -weights(q)[1].log(),
                eta: exact(strict),
                width: exact(max(gaps)),
            }
            yield Measurement(kept, promised, {"labels": count})


def _no_gap(evidence: Any) -> Iterator[Measurement]:
    game = preference(evidence, "the minimax value")
    reward = _rewards(game)
    if reward is None:
        return
    with ctx.workprec(PRECISION):
        b, t = arb(fmpq(1, game.n)), arb(game.temperature)

        def worth(r: list[fmpq]) -> arb:
            total = sum((q * (arb(x) / t).exp() for q, x in zip(game.reference, r, strict=True)), arb(0))
            return t * total.log() - b * sum((arb(x) for x in r), arb(0))

        back = reward[::-1]
        middle = [(x + y) / 2 for x, y in zip(reward, back, strict=True)]
        yield Measurement(worth(reward).min(worth(back)) - worth(middle), {})


def _beta(evidence: Any) -> Iterator[Measurement]:
    game = preference(evidence, "DPO's gradient")
    reward = _rewards(game)
    if reward is None or game.n < 3:
        return
    with ctx.workprec(PRECISION):

        def ascent(price: fmpq) -> list[arb]:
            found = [arb(0)] * game.n
            for i in range(game.n):
                for j in range(game.n):
                    if i != j:
                        pull = game.oracle[i][j] / (1 + (arb(price) * (arb(reward[i]) - arb(reward[j]))).exp())
                        found[i], found[j] = found[i] + pull, found[j] - pull
            return found

        small, large = ascent(fmpq(1, 10)), ascent(fmpq(5))

        def inner(x: list[arb], y: list[arb]) -> arb:
            return sum((a * c for a, c in zip(x, y, strict=True)), arb(0))

        sides = inner(small, small) * inner(large, large)
        if not sides.contains(0):
            yield Measurement(1 - inner(small, large) ** 2 / sides, {})


COVERAGE = of_games(
    "what the maximin policy lacks is bounded by coverage",
    r"\langle p - \hat p, r^*\rangle",
    cover * eta / (8 * sharp**2) + beta * nats + width / eta,
    {
        cover: "coverage of the best response, squared",
        eta: "the adversary's",
        sharp: "s(R) s(-R)",
        beta: "the price of a nat",
        nats: "KL of the best response to the reference",
        width: "of the saddle bracket",
    },
    _coverage,
    "after Liu et al. 2024, arXiv 2405.16436; constants and proof here",
    assumes="Bradley-Terry labels that are their own law, pairs that join all responses, rewards in [0, R]",
    problems=rewarded_games,
    drawn=drawn_rewarded_games,
)

SAMPLED = of_games(
    "drawn labels leave the maximin policy lacking by the root of their number",
    r"\mathrm{quantile}_{1 - \delta} \langle p - \hat p, r^*\rangle",
    (sympy.sqrt(6) * (1 + sympy.exp(reach)) ** 2 * (cover + 1) * sympy.sqrt(sympy.log(BALLS / risk)) + 4 * nats)
    / (4 * sympy.sqrt(draws))
    + width / eta,
    {
        draws: "labels",
        reach: "the largest reward",
        risk: "the chance that is left",
        cover: "coverage of the best response, squared",
        nats: "KL of the best response to the reference",
        eta: "the adversary's",
        width: "of the saddle bracket",
    },
    _sampled,
    "Liu et al. 2024, arXiv 2405.16436, theorem 5.3; covering number and quantile by the binomial law here",
    assumes="Bradley-Terry labels of the best and the worst response, rewards in [0, R]",
    problems=rewarded_games,
    drawn=drawn_rewarded_games,
)

NO_GAP = of_games(
    "maximin is minimax whatever the rewards",
    r"\min_R\max_p\varphi - \max_p\min_R\varphi",
    sympy.Integer(0),
    {},
    _no_gap,
    "false: true on convex classes; Liu et al. 2024, arXiv 2405.16436, theorem 5.6, asks for convex-like",
    assumes="two rewards, one the other backwards, no labels",
    family="false",
    problems=rewarded_games,
    drawn=drawn_rewarded_games,
)

BETA = of_games(
    "beta scales DPO's gradient and does not turn it",
    r"\sin^2\angle(g_{0.1}, g_5)",
    sympy.Integer(0),
    {},
    _beta,
    "false: true of one pair; remark in Liu et al. 2024, arXiv 2405.16436",
    assumes="scores equal to the rewards, every pair shown",
    family="false",
    problems=rewarded_games,
    drawn=drawn_rewarded_games,
)

CATALOGUE = (COVERAGE, SAMPLED)
FALSEHOODS = (NO_GAP, BETA)
