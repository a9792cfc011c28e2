r"""What a policy gradient ascends, in expectation: rewards, baselines, critics, lengths, stale samples.

s(y) = grad log pi(y), the sum over the policy's tokens y_t of s_t; J = E R. A statement about gradients is measured in the
logit where its two sides differ most.

POLICY_GRADIENT  J is a sum of products: grad J = E[R s].
GAE              with the policy's own values, E[A_t^lambda | n_t, y_t] = Q - U whatever lambda: every later difference has mean
                 zero. With lambda = 1 the sum telescopes to reward to go less a baseline, so that any critic will do.
BASELINE         E s_t = 0 at each node: grad 1 = 0, summed over tokens.
LENGTH           with 1/|y| the sum is grad E[(R - b)/|y|] for a frozen b, and E[s/|y|] = grad E[1/|y|] is not zero.
BEST_BASELINE    E (R - b)^2 |s|^2 is a parabola in b, its vertex at E[R |s|^2] / E |s|^2.
IMPORTANCE       E_mu[(pi/mu) f] = E_pi f, of sequences; of prefixes with the policy's own advantages.
PESSIMISM        min(rho A, clip(rho) A) <= rho A.
DIFFERENCE       J' - J = sum_n d'(n) sum_a pi'(a | n) A(n, a), telescoping; with d for d' it errs by at most e sum |d' - d|, e
                 the largest mean advantage, and d moves by at most 2 t D in total at a sequence's t-th token, D the largest
                 total variation at a node: e T (T - 1) D.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import sympy
from flint import fmpq

from .bound import Measurement
from .objective_statement import FINITE, grad, in_one_logit, of_objectives, rewards, slope, times
from .token_evidence import ONE, ZERO, Table, TokenEvidence, tokens

e, D, T, square, apart = sympy.symbols("epsilon D T m_2 Delta", nonnegative=True)
gain, least = sympy.symbols("L m_*", real=True)

LAMBDAS = (fmpq(0), fmpq(1, 2), fmpq(1))
"""Decays of generalised advantages."""


def _policy_gradient(evidence: Any) -> Iterator[Measurement]:
    game = tokens(evidence, "the policy gradient")
    for name, policy in game.policies.items():
        found = game.ascent(policy, times(game.chances(policy), rewards(game)))
        yield in_one_logit(found, game.gradient(policy), grad, {"policy": name})


def gae(game: TokenEvidence, policy: Table, critic: Sequence[fmpq], decay: fmpq) -> Table:
    """E[sum_t A_t s_t], (N, V), of generalised advantages with a critic (N,) of the nodes and lambda = decay."""
    advantage = []
    for answer in game.answers:
        known = [*(critic[node] for node, _ in answer.steps), ZERO]
        row, after = [], ZERO
        for t in reversed(range(answer.length)):
            after = answer.earned[t] + known[t + 1] - known[t] + decay * after
            row.append(after)
        advantage.append(row[::-1])
    chance = game.chances(policy)
    return game.scores(policy, lambda row, t: chance[row] * advantage[row][t])


def _gae(evidence: Any) -> Iterator[Measurement]:
    game = tokens(evidence, "generalised advantages")
    for name, policy in game.policies.items():
        critic = game.values(policy)[0]
        for decay in LAMBDAS:
            found = gae(game, policy, critic, decay)
            yield in_one_logit(found, game.gradient(policy), grad, {"policy": name, "lambda": float(decay)})


def wrong_critic(game: TokenEvidence) -> list[fmpq]:
    """Some critic, right about nothing: a number of the node, (N,)."""
    return [fmpq(node % 3 - 1, 2) for node in range(game.n_nodes)]


def _any_critic(evidence: Any) -> Iterator[Measurement]:
    game = tokens(evidence, "reward to go with a critic")
    for name, policy in game.policies.items():
        found = gae(game, policy, wrong_critic(game), ONE)
        yield in_one_logit(found, game.gradient(policy), grad, {"policy": name})


def _baseline(evidence: Any) -> Iterator[Measurement]:
    game = tokens(evidence, "baselines")
    for name, policy in game.policies.items():
        for constant in (ONE, fmpq(-10)):
            found = game.ascent(policy, times(game.chances(policy), [r - constant for r in rewards(game)]))
            yield in_one_logit(found, game.gradient(policy), grad, {"policy": name, "baseline": float(constant)})


def by_length(game: TokenEvidence, policy: Table, constant: fmpq) -> Table:
    """E[(R - b) s / |y|], (N, V): the mean over an answer's own tokens, with a constant baseline."""
    worth = [(answer.reward - constant) / answer.length for answer in game.answers]
    return game.ascent(policy, times(game.chances(policy), worth))


def _length(evidence: Any) -> Iterator[Measurement]:
    game = tokens(evidence, "the mean over an answer's tokens")
    for name, policy in game.policies.items():
        constant = game.expected_reward(policy)
        worth = [(answer.reward - constant) / answer.length for answer in game.answers]
        promised = game.derivatives(policy, lambda table, worth=worth: game.mean(game.chances(table), worth))
        yield in_one_logit(by_length(game, policy, constant), promised, slope, {"policy": name})


def _best_baseline(evidence: Any) -> Iterator[Measurement]:
    game = tokens(evidence, "the best baseline")
    for name, policy in game.policies.items():
        chance, squares = game.chances(policy), squared_scores(game, policy)
        whole = game.mean(chance, squares)
        if whole == 0:
            continue
        best = game.mean(chance, times(rewards(game), squares)) / whole

        def moment(constant: fmpq, chance: list[Any] = chance, squares: list[fmpq] = squares) -> fmpq:
            return game.mean(chance, [(r - constant) ** 2 * s for r, s in zip(rewards(game), squares, strict=True)])

        for what, constant in (("none", ZERO), ("the mean reward", game.expected_reward(policy)), ("best + 1", best + 1)):
            values = {least: moment(best), apart: abs(constant - best), square: whole}
            yield Measurement(moment(constant), values, {"policy": name, "baseline": what})


def squared_scores(game: TokenEvidence, policy: Table) -> list[fmpq]:
    """|s(y)|^2 of each sequence, (S,): the nodes of a sequence are different ones, so the squares add up."""
    size = {}
    for node, row in enumerate(policy):
        whole = sum((q * q for q in row), ZERO)
        for token, q in enumerate(row):
            size[node, token] = whole - 2 * q + 1
    return [sum((size[step] for step in answer.steps), ZERO) for answer in game.answers]


def ratios(game: TokenEvidence, policy: Table, sampler: Table) -> list[list[fmpq]]:
    """pi/mu at each of the policy's tokens, S lists."""
    return [[policy[n][a] / sampler[n][a] for n, a in answer.steps] for answer in game.answers]


def _importance(evidence: Any) -> Iterator[Measurement]:
    game = tokens(evidence, "importance weights")
    for name, policy, sampler in game.pairs():
        whole = [math.prod(row, start=ONE) for row in ratios(game, policy, sampler)]
        found = game.ascent(policy, times(game.chances(sampler), whole, rewards(game)))
        yield in_one_logit(found, game.gradient(policy), grad, {"policy": name, "weight": "sequence"})
        worth, chance, ratio = game.advantages(policy), game.chances(sampler), ratios(game, policy, sampler)

        def prefix(row: int, t: int, worth: Table = worth, chance: Any = chance, ratio: Any = ratio) -> fmpq:
            node, token = game.answers[row].steps[t]
            return chance[row] * math.prod(ratio[row][: t + 1], start=ONE) * worth[node][token]

        yield in_one_logit(game.scores(policy, prefix), game.gradient(policy), grad, {"policy": name, "weight": "prefix"})


def _pessimism(evidence: Any) -> Iterator[Measurement]:
    game = tokens(evidence, "the clipped surrogate")
    for name, policy, sampler in game.pairs():
        worth, ratio, chance = game.advantages(sampler), ratios(game, policy, sampler), game.chances(sampler)
        for width in (fmpq(1, 5), fmpq(4, 5)):
            clipped = plain = ZERO
            for row, answer in enumerate(game.answers):
                for rho, (node, token) in zip(ratio[row], answer.steps, strict=True):
                    a = worth[node][token]
                    clipped += chance[row] * min(rho * a, max(1 - width, min(rho, 1 + width)) * a)
                    plain += chance[row] * rho * a
            yield Measurement(clipped, {gain: plain}, {"policy": name, "epsilon": float(width)})


def mean_advantages(game: TokenEvidence, policy: Table, other: Table) -> list[fmpq]:
    """sum_a pi'(a | n) A(n, a) of each node, (N,), pi' the other policy and A the advantages of the first."""
    worth = game.advantages(policy)
    return [sum((q * a for q, a in zip(row, gains, strict=True)), ZERO) for row, gains in zip(other, worth, strict=True)]


def _difference(evidence: Any) -> Iterator[Measurement]:
    game = tokens(evidence, "the performance difference")
    for name, policy, other in game.pairs():
        found = game.expected_reward(other) - game.expected_reward(policy)
        promised = game.mean(game.occupancy(other), mean_advantages(game, policy, other))
        yield Measurement(found, {gain: promised}, {"policy": name})


def _surrogate(evidence: Any) -> Iterator[Measurement]:
    game = tokens(evidence, "the surrogate")
    for name, policy, far in game.pairs():
        for step in (ONE, fmpq(1, 8)):
            other = [[(1 - step) * a + step * b for a, b in zip(*rows, strict=True)] for rows in zip(policy, far, strict=True)]
            means = mean_advantages(game, policy, other)
            promised = game.expected_reward(policy) + game.mean(game.occupancy(policy), means)
            moved = [
                sum((abs(a - b) for a, b in zip(*rows, strict=True)), ZERO) / 2 for rows in zip(policy, other, strict=True)
            ]
            values = {
                e: max(abs(m) for m in means),
                D: max(moved),
                T: max(answer.length for answer in game.answers),
            }
            yield Measurement(abs(game.expected_reward(other) - promised), values, {"policy": name, "step": float(step)})


POLICY_GRADIENT = of_objectives(
    "rewards times scores are the gradient",
    r"\mathbb{E}[R\,\partial\log\pi]",
    grad,
    {},
    _policy_gradient,
    "Williams 1992; Sutton et al. 2000",
)


GAE = of_objectives(
    "with exact values every lambda gives the gradient",
    r"\mathbb{E}\sum_t A_t^\lambda\,\partial\log\pi_t",
    grad,
    {},
    _gae,
    "Schulman et al. 2016, arXiv 1506.02438",
    axis="lambda",
)


ANY_CRITIC = of_objectives(
    "with lambda one any critic gives the gradient",
    r"\mathbb{E}\sum_t A_t^1\,\partial\log\pi_t",
    grad,
    {},
    _any_critic,
    "Schulman et al. 2016, arXiv 1506.02438",
)


BASELINE = of_objectives(
    "a baseline is free in a sum over tokens",
    r"\mathbb{E}[(R - b)\,\partial\log\pi]",
    grad,
    {},
    _baseline,
    "Williams 1992; of Liu et al. 2025, arXiv 2503.20783",
)


LENGTH = of_objectives(
    "the mean over an answer's tokens ascends reward over length",
    r"\mathbb{E}[(R - b)\,\partial\log\pi / |y|]",
    slope,
    {slope: "derivative of E[(R - b) / |y|], b held at E R"},
    _length,
    "of Liu et al. 2025, arXiv 2503.20783; proved here",
)


BEST_BASELINE = of_objectives(
    "a baseline away from the best costs variance",
    r"\mathbb{E}(R - b)^2|\partial\log\pi|^2",
    least + square * apart**2,
    {least: "the same with the best baseline", square: "mean square of the score", apart: "distance to the best baseline"},
    _best_baseline,
    "Weaver and Tao 2001; Greensmith et al. 2004",
)


IMPORTANCE = of_objectives(
    "products of ratios correct stale samples",
    r"\mathbb{E}_\mu[\rho R\,\partial\log\pi]",
    grad,
    {},
    _importance,
    "Precup, Sutton and Singh 2000",
    assumes=FINITE + "; whole ratios with rewards, or ratios of prefixes with the policy's advantages",
)


PESSIMISM = of_objectives(
    "the clipped surrogate is never above the plain one",
    r"\mathbb{E}_\mu\sum_t\min(\rho_t A_t, \mathrm{clip}(\rho_t) A_t)",
    gain,
    {gain: "the same without the clip"},
    _pessimism,
    "Schulman et al. 2017, arXiv 1707.06347",
    sense="at most",
)


DIFFERENCE = of_objectives(
    "the difference of two policies is a sum of advantages",
    r"J(\pi') - J(\pi)",
    gain,
    {gain: "the first's advantages on the second's occupancy"},
    _difference,
    "Kakade and Langford 2002",
)


SURROGATE = of_objectives(
    "advantages on old samples err by the square of the step",
    r"|J(\pi') - J(\pi) - \sum_n d(n)\sum_a\pi'(a|n)A(n,a)|",
    e * T * (T - 1) * D,
    {e: "largest mean advantage at a node", T: "longest answer", D: "largest total variation at a node"},
    _surrogate,
    "after Achiam et al. 2017, arXiv 1705.10528; finite horizon, proved here",
    sense="at most",
)

CATALOGUE = (
    POLICY_GRADIENT,
    GAE,
    ANY_CRITIC,
    BASELINE,
    LENGTH,
    BEST_BASELINE,
    IMPORTANCE,
    PESSIMISM,
    DIFFERENCE,
    SURROGATE,
)
