r"""What the mixed value at risk of rewards promises, and what bundling does.

T(s) = min {q.r : 0 <= q <= p, sum q = s} is convex in p, for the feasible sets of two distributions mix into the mixture's.
MVaR = w T(a) + T(b), w >= 0.

MIXTURE       MVaR of a mixture of policies is at most the mixture of theirs.
NO_SIGNAL     all G bundles of B independent answers, each right with probability p, score alike with probability
              sum_k P(S=k)^G, the G-th power of a G-norm, which convolution with a distribution does not raise (Young).
ENTROPY       with w = 0 and log pi rising with the reward, A = min(R, Q_b) - Q_b and R - A = (R - Q_b)^+ + const rises too:
              Chebyshev's inequality gives Cov(log pi, R - A) >= 0.
TAILS         R - A = w (Q_a - R)^+ + (R - Q_b)^+ + Q_b, whatever w >= 0; the first two are zero between the quantiles, so that
              log pi >= E log pi below Q_a and above Q_b gives the same.
RISING        "with w = 1/2 it is enough that log pi rises with the reward": (Q_a - R)^+ falls.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import comb
from typing import Any

import sympy
from flint import arb, ctx, fmpq

from .bound import Bound, Measurement
from .rlvr_group import of_tokens
from .token_evidence import PRECISION, tokens
from .token_specimens import bandits

x, y, c = sympy.symbols("x y c", real=True)
s, p = sympy.symbols("s p", nonnegative=True)
G = sympy.Symbol("G", integer=True, positive=True)

LOW, HIGH = fmpq(1, 5), fmpq(4, 5)
"""Levels of the published setting."""

Law = list[tuple[fmpq, fmpq]]
"""(probability, value)."""


def tail(law: Law, level: fmpq) -> fmpq:
    """T(level)."""
    left, total = level, fmpq(0)
    for chance, value in sorted(law, key=lambda pair: pair[1]):
        taken = min(left, chance)
        total, left = total + taken * value, left - taken
    return total


def mixed(law: Law, weight: fmpq) -> fmpq:
    """MVaR at the published levels."""
    return weight * tail(law, LOW) + tail(law, HIGH)


def _mixture(evidence: Any) -> Iterator[Measurement]:
    problem = tokens(evidence, "a mixture of policies")
    for name, policy, other in problem.pairs():
        one, two = problem.chances(policy), problem.chances(other)
        reward = [answer.reward for answer in problem.answers]
        for weight in (fmpq(0), fmpq(1, 2), fmpq(7, 2)):
            laws = [list(zip(chance, reward, strict=True)) for chance in (one, two)]
            share = fmpq(1, 3)
            blend = [(share * a + (1 - share) * b, r) for a, b, r in zip(one, two, reward, strict=True)]
            values = {x: mixed(laws[0], weight), y: mixed(laws[1], weight), s: share}
            yield Measurement(mixed(blend, weight), values, {"policies": name, "weight": str(weight)})


def _no_signal(evidence: Any) -> Iterator[Measurement]:
    problem = tokens(evidence, "bundling")
    for name, policy in problem.policies.items():
        for prompt, chance in enumerate(problem.success(policy)):
            for size in (2, 5):
                scores = [comb(size, k) * chance**k * (1 - chance) ** (size - k) for k in range(size + 1)]
                found = sum((score**5 for score in scores), fmpq(0))
                yield Measurement(found, {p: chance, G: 5}, {"policy": name, "prompt": prompt, "bundle": size})


def _entropy(evidence: Any) -> Iterator[Measurement]:
    yield from _slower(evidence, "the entropy", fmpq(0), "rising")


def _tails(evidence: Any) -> Iterator[Measurement]:
    yield from _slower(evidence, "the entropy at the published weight", fmpq(1, 2), "outward")


def _rising(evidence: Any) -> Iterator[Measurement]:
    yield from _slower(evidence, "the entropy at the published weight", fmpq(1, 2), "rising")


def _slower(evidence: Any, name: str, weight: fmpq, where: str) -> Iterator[Measurement]:
    """Cov(log pi, A) against Cov(log pi, R), the chances of each policy dealt out anew: rising in the reward, or outward.

    Of the latter those are kept whose outcomes below Q_a and above Q_b are likelier than average.
    """
    problem = tokens(evidence, name)
    if problem.problem.horizon != 1:
        return
    reward = [answer.reward for answer in problem.answers[: problem.n_tokens]]
    order = sorted(range(len(reward)), key=lambda a: reward[a])
    if where == "outward":  # from the middle to the ends
        order = [order[place] for place in sorted(range(len(order)), key=lambda place: abs(2 * place - len(order) + 1))]
    for title, policy in problem.policies.items():
        law: list[fmpq] = [fmpq(0)] * len(reward)
        for a, chance in zip(order, sorted(policy[0]), strict=True):
            law[a] = chance
        low, high = (quantile(list(zip(law, reward, strict=True)), level) for level in (LOW, HIGH))
        advantage = [-(1 + weight) * max(low - r, fmpq(0)) + min(max(r, low), high) - high for r in reward]
        with ctx.workprec(PRECISION):
            logs = [arb(q).log() for q in law]
            middle = sum((q * x for q, x in zip(law, logs, strict=True)), arb(0))
            ends = [x - middle for r, x in zip(reward, logs, strict=True) if not low <= r <= high]
            if where == "outward" and not all(x >= 0 for x in ends):
                continue
            found, plain = (covariance(law, logs, weights) for weights in (advantage, reward))
        yield Measurement(found, {c: plain}, {"policy": title})


def quantile(law: Law, level: fmpq) -> fmpq:
    """inf {x : F(x) >= level}."""
    total = fmpq(0)
    for chance, value in sorted(law, key=lambda pair: pair[1]):
        total += chance
        if total >= level:
            return value
    return max(value for _, value in law)


def covariance(law: list[fmpq], one: list[Any], two: list[Any]) -> Any:
    """Of two functions of a finite variable, three lists (n,)."""
    mean, other = (sum((q * v for q, v in zip(law, values, strict=True)), arb(0)) for values in (one, two))
    return sum((q * a * b for q, a, b in zip(law, one, two, strict=True)), arb(0)) - mean * other


MIXTURE: Bound = of_tokens(
    "the mixed value at risk of a mixture is at most the mixture's",
    r"\mathrm{MVaR}(s \pi + (1 - s) \pi')",
    s * x + (1 - s) * y,
    {x: "risk under the one policy", y: "under the other", s: "share"},
    _mixture,
    "of Ren et al. 2025, arXiv 2510.00911; proved here",
    assumes="a finite token problem, two policies, a weight of at least zero on the lower tail",
)

NO_SIGNAL = of_tokens(
    "bundling makes groups without signal rarer",
    r"P(\text{all bundles score alike})",
    p**G + (1 - p) ** G,
    {p: "success of one answer", G: "bundles a set"},
    _no_signal,
    "of Ren et al. 2025, arXiv 2510.00911; by Young's inequality, proved here",
    assumes="independent answers of one success probability",
)

ENTROPY = of_tokens(
    "entropy falls more slowly where the likely answers are the better ones",
    r"\mathrm{Cov}(\log\pi, A_{\mathrm{MVaR}})",
    c,
    {c: "covariance of log probability and reward"},
    _entropy,
    "the part of theorem 2 of Ren et al. 2025, arXiv 2510.00911, that holds; proved here",
    assumes="a bandit, w = 0, log pi not falling in the reward",
    problems=bandits,
)

TAILS = of_tokens(
    "entropy falls more slowly where answers in the tails of the reward are likelier than average",
    r"\mathrm{Cov}(\log\pi, A_{\mathrm{MVaR}})",
    c,
    {c: "covariance of log probability and reward"},
    _tails,
    "theorem 2 of Ren et al. 2025, arXiv 2510.00911, under a condition that is enough for every weight; proved here",
    assumes="a bandit, w = 1/2, log pi at least its mean where R < Q_a or R > Q_b",
    problems=bandits,
)

RISING = of_tokens(
    "entropy falls more slowly at the published weight where likely answers are better",
    r"\mathrm{Cov}(\log\pi, A_{\mathrm{MVaR}})",
    c,
    {c: "covariance of log probability and reward"},
    _rising,
    "false: true for w = 0; after theorem 2 of Ren et al. 2025, arXiv 2510.00911",
    assumes="a bandit, w = 1/2, log pi not falling in the reward",
    family="false",
    problems=bandits,
)

CATALOGUE = (MIXTURE, NO_SIGNAL, ENTROPY, TAILS)
FALSEHOODS = (RISING,)
