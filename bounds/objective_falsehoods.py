r"""False statements about objectives, for the search to break.

LENGTH_BASELINE  "A baseline is free." Of a sum over tokens it is; a mean over an answer's own tokens makes length count.
SUCCESS_RATE     "Rewards over the group's deviation ascend the success rate." A prompt's weight follows its success rate from
                 groups of four on.
K1_REGULARISES   "k1 in the loss has the divergence's gradient." It has none.
K3_DIRECTION     "k3 in the loss has the gradient of what it estimates." It has that of the other direction.
K2_SEQUENCE      "k2 of tokens in the loss has the gradient of the answers' divergence." It leaves out that a token moves what
                 comes after, which takes two tokens to see.
TOKEN_RATIO      "A token's own ratio corrects stale samples." It forgets the ratios of the rest.
CRITIC           "Whatever the critic and lambda, advantages give the gradient." Of lambda one that is true.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import sympy
from flint import fmpq

from .bound import Measurement
from .drawing import drawn_long_problems
from .group_objectives import prompt_weight
from .objective_divergences import divergence_slope, token_loss_slope
from .objective_statement import FINITE, RIGHT, of_objectives, rewards
from .policy_gradients import by_length, gae, ratios, wrong_critic
from .preference import largest
from .token_evidence import ONE, ZERO, Table, tokens

NOTHING = sympy.Integer(0)


def _apart(found: Table, promised: Table) -> Any:
    """The largest difference of two gradients (N, V)."""
    return largest([abs(f - g) for row, other in zip(found, promised, strict=True) for f, g in zip(row, other, strict=True)])


def _length_baseline(evidence: Any) -> Iterator[Measurement]:
    game = tokens(evidence, "the mean over an answer's tokens")
    for name, policy in game.policies.items():
        yield Measurement(_apart(by_length(game, policy, ONE), by_length(game, policy, ZERO)), {}, {"policy": name})


def _success_rate(evidence: Any) -> Iterator[Measurement]:
    game = tokens(evidence, "standardised rewards")
    for name, policy in game.policies.items():
        for prompt, chance in enumerate(game.success(policy)):
            if 0 < chance < 1:
                away = abs(prompt_weight(chance, 4) - prompt_weight(fmpq(1, 2), 4))
                yield Measurement(away, {}, {"policy": name, "prompt": prompt, "success rate": str(chance)})


def _k1_regularises(evidence: Any) -> Iterator[Measurement]:
    game = tokens(evidence, "k1 in the loss")
    for name, policy, reference in game.pairs():
        found = game.ascent(policy, game.chances(policy))
        yield Measurement(_apart(found, divergence_slope(game, policy, reference)), {}, {"policy": name})


def _of_tokens(estimator: str) -> Any:
    def measure(evidence: Any) -> Iterator[Measurement]:
        game = tokens(evidence, f"{estimator} of tokens")
        for name, policy, reference in game.pairs():
            found = token_loss_slope(game, policy, reference, estimator)
            yield Measurement(_apart(found, divergence_slope(game, policy, reference)), {}, {"policy": name})

    return measure


def _token_ratio(evidence: Any) -> Iterator[Measurement]:
    game = tokens(evidence, "the token's ratio")
    for name, policy, sampler in game.pairs():
        chance, ratio, worth = game.chances(sampler), ratios(game, policy, sampler), rewards(game)

        def weight(row: int, t: int, chance: Any = chance, ratio: Any = ratio, worth: Any = worth) -> fmpq:
            return chance[row] * ratio[row][t] * worth[row]

        yield Measurement(_apart(game.scores(policy, weight), game.gradient(policy)), {}, {"policy": name})


def _critic(evidence: Any) -> Iterator[Measurement]:
    game = tokens(evidence, "a critic")
    for name, policy in game.policies.items():
        found = gae(game, policy, wrong_critic(game), ZERO)
        yield Measurement(_apart(found, game.gradient(policy)), {}, {"policy": name})


def _false(name: str, quantity: str, measure: Any, source: str, **rest: Any) -> Any:
    return of_objectives(name, quantity, NOTHING, {}, measure, source, sense="at most", family="false", **rest)


LENGTH_BASELINE = _false(
    "a baseline is free in a mean over tokens",
    r"|\mathbb{E}[(R - 1)\,\partial\log\pi/|y|] - \mathbb{E}[R\,\partial\log\pi/|y|]|",
    _length_baseline,
    "false: of a sum over tokens it is true; Liu et al. 2025, arXiv 2503.20783",
)

SUCCESS_RATE = _false(
    "standardised rewards ascend the success rate",
    r"|w_4(p) - w_4(1/2)|",
    _success_rate,
    "false: true of groups of two and three; Liu et al. 2025, arXiv 2503.20783",
    assumes=RIGHT + "; w grad p is a prompt's expected ascent",
)

K1_REGULARISES = _false(
    "k1 in the loss regularises",
    r"|\mathbb{E}\sum_t\partial k_{1,t} - \partial\,\mathrm{KL}(\pi\|q)|",
    _k1_regularises,
    "false: true in the reward; Tang and Munos 2025, arXiv 2506.09477",
)

K3_DIRECTION = _false(
    "k3 in the loss has the gradient of what it estimates",
    r"|\mathbb{E}\sum_t\partial k_{3,t} - \partial\,\mathrm{KL}(\pi\|q)|",
    _of_tokens("k3"),
    "false: it has that of the other direction; Tang and Munos 2025, arXiv 2506.09477",
)

K2_SEQUENCE = _false(
    "k2 of tokens in the loss has the divergence's gradient",
    r"|\mathbb{E}\sum_t\partial k_{2,t} - \partial\,\mathrm{KL}(\pi\|q)|",
    _of_tokens("k2"),
    "false: true of answers of one token",
    drawn=drawn_long_problems,
)

TOKEN_RATIO = _false(
    "a token's ratio corrects stale samples",
    r"|\mathbb{E}_\mu\sum_t\rho_t R\,\partial\log\pi_t - \partial J|",
    _token_ratio,
    "false: the product of all ratios does; Precup, Sutton and Singh 2000",
    drawn=drawn_long_problems,
)

CRITIC = _false(
    "any critic and any lambda give the gradient",
    r"|\mathbb{E}\sum_t A_t^0\,\partial\log\pi_t - \partial J|",
    _critic,
    "false: true with lambda one, or with exact values; Schulman et al. 2016, arXiv 1506.02438",
    assumes=FINITE + "; some critic, lambda zero",
)

FALSEHOODS = (LENGTH_BASELINE, SUCCESS_RATE, K1_REGULARISES, K3_DIRECTION, K2_SEQUENCE, TOKEN_RATIO, CRITIC)
