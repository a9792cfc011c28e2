r"""What objectives over groups of answers ascend, in expectation: leave-one-out, standardised rewards, success at k.

G answers a group, R their rewards, s(y) = grad log pi(y), p the probability that an answer is right.

LEAVE_ONE_OUT    the others' mean is independent of y_i: a baseline. The group's mean counts y_i itself with 1/G.
DEVIATION        E[s | right] = grad log p, E[s | wrong] = grad log (1 - p): with K right answers of G the mean of a group's
                 standardised rewards times scores is w grad p, w = E sqrt(K/G (1 - K/G)) / (p (1 - p)), bounded by Jensen. The
                 deviation is 1/2 in every mixed pair, sqrt(2)/3 in every mixed three: w = sqrt(G - 1). For large groups w tends
                 to 1/sqrt(p (1 - p)), that of 2 arcsin sqrt p.
DYNAMIC          groups of equal rewards have no ascent: leaving them out divides by the share of the others.
PASS             grad (1 - (1 - p)^k) = k (1 - p)^(k - 1) grad p; C(m - c, k) / C(m, k) is the chance that k of m are all wrong.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import sympy
from flint import arb, ctx, fmpq

from .bound import Measurement
from .objective_statement import FINITE, RIGHT, G, grad, in_one_logit, k, of_objectives, p, rewards, slope, times
from .token_evidence import ONE, PRECISION, ZERO, Table, TokenEvidence, tokens

kept = sympy.Symbol("P_kept", nonnegative=True)

SIZES = (2, 3, 4)
"""Answers of the groups that are listed one by one."""


def _less_the_mean(group: tuple[Any, ...]) -> list[Any]:
    mean = sum(group, ZERO) / len(group)
    return [r - mean for r in group]


def _less_the_others(group: tuple[Any, ...]) -> list[Any]:
    total = sum(group, ZERO)
    return [r - (total - r) / (len(group) - 1) for r in group]


def _of_groups(weigh: Callable[[tuple[Any, ...]], list[Any]]) -> Callable[[Any], Iterator[Measurement]]:
    def measure(evidence: Any) -> Iterator[Measurement]:
        game = tokens(evidence, "groups")
        for name, policy in game.policies.items():
            for size in _sizes(game):
                found = game.ascent(policy, game.groups(policy, size, weigh, rewards(game))[0])
                yield in_one_logit(found, game.gradient(policy), grad, {"policy": name, "G": size}, {G: size})

    return measure


def _sizes(game: TokenEvidence) -> tuple[int, ...]:
    """The group sizes whose groups of rewards can be listed in a blink."""
    most = len(set(rewards(game)))
    return tuple(size for size in SIZES if most**size <= 2000)


def right_or_wrong(game: TokenEvidence) -> list[int]:
    """1 for a right answer, 0 for a wrong one, (S,)."""
    return [int(right) for right in game.right]


def standardised(group: tuple[Any, ...]) -> list[Any]:
    """Rewards 0 and 1 less their mean, over the population's deviation; zeros where all are equal."""
    size, right = len(group), sum(group)
    if right in (0, size):
        return [ZERO] * size
    variance, mean = fmpq(right * (size - right), size * size), fmpq(right, size)
    with ctx.workprec(PRECISION):
        deviation = arb(variance).sqrt()
        return [(r - mean) / deviation for r in group]


def mean_success(game: TokenEvidence) -> Callable[[Table], Any]:
    """The probability of a right answer, prompts drawn, as a function of the policy."""
    return lambda policy: game.mean(game.chances(policy), right_or_wrong(game))


def _small_groups(evidence: Any) -> Iterator[Measurement]:
    game = tokens(evidence, "pairs and threes")
    for name, policy in game.policies.items():
        promised = game.derivatives(policy, mean_success(game))
        for size in (2, 3):
            found = game.ascent(policy, game.groups(policy, size, standardised, right_or_wrong(game))[0])
            yield in_one_logit(found, promised, slope, {"policy": name, "G": size}, {G: size})


def _arcsine(evidence: Any) -> Iterator[Measurement]:
    game = tokens(evidence, "large groups")
    for name, policy in game.policies.items():
        success = game.success(policy)
        mixed = [0 < chance < 1 for chance in success]
        with ctx.workprec(PRECISION):
            root = [arb(c * (1 - c)).sqrt() if ok else arb(1) for c, ok in zip(success, mixed, strict=True)]
            worth = [
                (right - success[answer.prompt]) / root[answer.prompt] if mixed[answer.prompt] else ZERO
                for answer, right in zip(game.answers, right_or_wrong(game), strict=True)
            ]
            found = game.ascent(policy, times(game.chances(policy), worth))

        def arcsine(table: Table, mixed: list[bool] = mixed) -> Any:
            parts = zip(game.prompt_chance, game.success(table), mixed, strict=True)
            return sum((2 * arb(rho) * chance.sqrt().asin() for rho, chance, ok in parts if ok), arb(0))

        if any(mixed):
            yield in_one_logit(found, game.derivatives(policy, arcsine, balls=True), slope, {"policy": name})


def prompt_weight(chance: fmpq, size: int) -> arb:
    """w with w grad p the expected ascent of a prompt under standardised rewards in groups of that size, p in (0, 1)."""
    total = arb(0)
    with ctx.workprec(PRECISION):
        for right in range(1, size):
            likely = math.comb(size, right) * chance**right * (1 - chance) ** (size - right)
            high, low = (standardised((1,) * right + (0,) * (size - right))[i] for i in (0, -1))
            share = fmpq(right, size)
            total += likely * (high * share / chance - low * (1 - share) / (1 - chance))
    return total


def _weight_of_a_prompt(evidence: Any) -> Iterator[Measurement]:
    game = tokens(evidence, "a prompt's weight")
    for name, policy in game.policies.items():
        for prompt, chance in enumerate(game.success(policy)):
            if 0 < chance < 1:
                for size in (2, 3, 4, 8, 16, 32):
                    yield Measurement(
                        prompt_weight(chance, size), {G: size, p: chance}, {"policy": name, "prompt": prompt, "G": size}
                    )


def _dynamic(evidence: Any) -> Iterator[Measurement]:
    game = tokens(evidence, "dynamic sampling")

    def mixed(group: tuple[Any, ...]) -> list[Any] | None:
        return None if len(set(group)) == 1 else _less_the_mean(group)

    for name, policy in game.policies.items():
        for size in _sizes(game):
            coefficient, share = game.groups(policy, size, mixed, rewards(game))
            whole = sum((rho * s for rho, s in zip(game.prompt_chance, share, strict=True)), ZERO)
            if whole > 0:
                found = game.ascent(policy, [c / whole for c in coefficient])
                values = {G: size, kept: whole}
                yield in_one_logit(found, game.gradient(policy), grad, {"policy": name, "G": size}, values)


def _accepted(evidence: Any) -> Iterator[Measurement]:
    game = tokens(evidence, "rejection fine-tuning")
    for name, policy in game.policies.items():
        whole = mean_success(game)(policy)
        found = game.ascent(policy, [c / whole for c in times(game.chances(policy), right_or_wrong(game))])
        promised = [[s / whole for s in row] for row in game.derivatives(policy, mean_success(game))]
        yield in_one_logit(found, promised, slope, {"policy": name})


def _pass(evidence: Any) -> Iterator[Measurement]:
    game = tokens(evidence, "success at k")
    for name, policy in game.policies.items():
        success = game.success(policy)
        for attempts in (1, 2, 4, 8):
            factor = [attempts * (1 - c) ** (attempts - 1) for c in success]
            worth = [factor[answer.prompt] * r for answer, r in zip(game.answers, right_or_wrong(game), strict=True)]

            def passed(table: Table, attempts: int = attempts) -> Any:
                parts = zip(game.prompt_chance, game.success(table), strict=True)
                return sum((rho * (1 - math.prod([1 - chance] * attempts, start=ONE)) for rho, chance in parts), ZERO)

            found = game.ascent(policy, times(game.chances(policy), worth))
            yield in_one_logit(found, game.derivatives(policy, passed), slope, {"policy": name, "k": attempts})


def _pass_estimate(evidence: Any) -> Iterator[Measurement]:
    game = tokens(evidence, "the estimate of success at k")
    attempts = 8
    for name, policy in game.policies.items():
        for prompt, chance in enumerate(game.success(policy)):
            for wanted in (1, 3, 8):
                found = ZERO
                for right in range(attempts + 1):
                    likely = math.comb(attempts, right) * chance**right * (1 - chance) ** (attempts - right)
                    found += likely * (1 - fmpq(math.comb(attempts - right, wanted), math.comb(attempts, wanted)))
                yield Measurement(found, {k: wanted, p: chance}, {"policy": name, "prompt": prompt, "k": wanted})


LEAVE_ONE_OUT = of_objectives(
    "leave-one-out groups give the gradient",
    r"\mathbb{E}\frac{1}{G}\sum_i (R_i - \bar R_{-i})\,\partial\log\pi(y_i)",
    grad,
    {},
    _of_groups(_less_the_others),
    "Kool et al. 2019; Ahmadian et al. 2024, arXiv 2402.14740",
)


GROUP_MEAN = of_objectives(
    "a group's mean as baseline shrinks the gradient",
    r"\mathbb{E}\frac{1}{G}\sum_i (R_i - \bar R)\,\partial\log\pi(y_i)",
    (1 - 1 / G) * grad,
    {},
    _of_groups(_less_the_mean),
    "of Liu et al. 2025, arXiv 2503.20783; Kool et al. 2019",
)


SMALL_GROUPS = of_objectives(
    "standardised pairs and threes ascend the success rate",
    r"\mathbb{E}\frac{1}{G}\sum_i \frac{R_i - \bar R}{\sigma}\,\partial\log\pi(y_i)",
    sympy.sqrt(G - 1) * slope,
    {slope: "derivative of the success rate"},
    _small_groups,
    "of Shao et al. 2024, arXiv 2402.03300; proved here",
    assumes=RIGHT + "; rewards 0 and 1, the population's deviation",
)


ARCSINE = of_objectives(
    "standardised rewards of large groups ascend an arcsine",
    r"\mathbb{E}\frac{R - p}{\sqrt{p(1 - p)}}\,\partial\log\pi",
    slope,
    {slope: "derivative of the mean of 2 arcsin sqrt p"},
    _arcsine,
    "of Shao et al. 2024, arXiv 2402.03300; proved here",
    assumes=RIGHT + "; rewards 0 and 1, mean and deviation of infinitely many answers",
)


PROMPT_WEIGHT = of_objectives(
    "standardised groups weigh a prompt by its deviation at most",
    r"w_G(p)",
    sympy.sqrt((1 - 1 / G) / (p * (1 - p))),
    {},
    _weight_of_a_prompt,
    "of Shao et al. 2024, arXiv 2402.03300; Jensen 1906; proved here",
    sense="at most",
    axis="G",
    assumes=RIGHT + "; w grad p is a prompt's expected ascent, rewards 0 and 1",
)


DYNAMIC = of_objectives(
    "dynamic sampling rescales the gradient",
    r"\mathbb{E}[\frac{1}{G}\sum_i (R_i - \bar R)\,\partial\log\pi(y_i) \mid \mathrm{mixed}]",
    (1 - 1 / G) * grad / kept,
    {kept: "share of groups whose rewards are not all equal"},
    _dynamic,
    "of Yu et al. 2025, arXiv 2503.14476; proved here",
    assumes=FINITE + "; rewards less the group's mean, prompts drawn again with their groups",
)


ACCEPTED = of_objectives(
    "fine-tuning on accepted answers ascends the log of the success rate",
    r"\mathbb{E}[\partial\log\pi \mid \mathrm{right}]",
    slope,
    {slope: "derivative of log p, prompts drawn"},
    _accepted,
    "Dayan and Hinton 1997; of Yuan et al. 2023, arXiv 2308.01825",
    assumes=RIGHT,
)


PASS = of_objectives(
    "success at k weighs a prompt by its failures",
    r"\mathbb{E}[k(1 - p)^{k-1} R\,\partial\log\pi]",
    slope,
    {slope: "derivative of success at k"},
    _pass,
    "of Walder and Karkhanis 2025, arXiv 2505.15201",
    assumes=RIGHT + "; rewards 0 and 1",
    axis="k",
)


PASS_ESTIMATE = of_objectives(
    "the estimate of success at k has no bias",
    r"\mathbb{E}[1 - \binom{m - c}{k} / \binom{m}{k}]",
    1 - (1 - p) ** k,
    {},
    _pass_estimate,
    "Chen et al. 2021, arXiv 2107.03374",
    assumes=RIGHT + "; m = 8 attempts, c of them right",
    axis="k",
)

CATALOGUE = (
    LEAVE_ONE_OUT,
    GROUP_MEAN,
    SMALL_GROUPS,
    ARCSINE,
    PROMPT_WEIGHT,
    DYNAMIC,
    ACCEPTED,
    PASS,
    PASS_ESTIMATE,
)
