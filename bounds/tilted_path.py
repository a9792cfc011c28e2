r"""What happens along the path from a reference towards a proxy of the reward: which turning points there are, and why.

p_l(y) = q(y) e^{l r(y)} / Z_l, r the reward that is followed (the proxy), g another number of an answer (the gold reward, its
length), the score of d log p_l / dl being r - E r:

GOLD         d E g / dl = Cov(g, r): gold turns where it ceases to go with the proxy, and nowhere else.
PROXY        d E r / dl = Var r >= 0, so the proxy never turns.
PRICE        d KL(p_l | q) / dl = l Var r.
ENTROPY      d H(p_l) / dl = -Cov(r, log p_l): it rises first where the proxy likes what the reference gives little.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import sympy
from flint import arb, arb_series, ctx, fmpq

from .bound import Measurement
from .objective_divergences import TEXTS
from .objective_statement import of_objectives
from .token_evidence import PRECISION, TokenEvidence, tokens

length, spread = sympy.symbols("lambda v", nonnegative=True)
together = sympy.Symbol("c", real=True)

LENGTHS = (fmpq(0), fmpq(1, 2), fmpq(3))
"""Where the path is looked at."""


def path(game: TokenEvidence, prompt: int, reference: Sequence[Any], tilt: Any) -> list[Any]:
    """p_l of the answers to a prompt, in the arithmetic of the tilt l: a ball, or a power series."""
    with ctx.workprec(PRECISION):
        heavy = [
            (tilt * arb(game.answers[row].reward)).exp() * arb(reference[row]) if reference[row] > 0 else arb(0) * tilt
            for row in game.by_prompt[prompt]
        ]
        total = sum(heavy[1:], heavy[0])
        return [x / total for x in heavy]


def along(game: TokenEvidence, prompt: int, reference: Sequence[Any], at: fmpq, scalar: Callable[[list[Any]], Any]) -> arb:
    """The derivative at l of a scalar of p_l, in power series."""
    before = ctx.cap
    ctx.cap = 2
    try:
        with ctx.workprec(PRECISION):
            return arb_series(scalar(path(game, prompt, reference, arb_series([arb(at), arb(1)]))))[1]
    finally:
        ctx.cap = before


def covariance(law: Sequence[Any], one: Sequence[Any], other: Sequence[Any]) -> arb:
    """Cov of two numbers of an answer, lists like the law."""
    with ctx.workprec(PRECISION):
        mean = sum((p * a for p, a in zip(law, one, strict=True)), arb(0))
        middle = sum((p * b for p, b in zip(law, other, strict=True)), arb(0))
        return sum((p * (a - mean) * (b - middle) for p, a, b in zip(law, one, other, strict=True)), arb(0))


def _mean(law: Sequence[Any], values: Sequence[Any]) -> Any:
    found = [p * v for p, v in zip(law, values, strict=True)]
    return sum(found[1:], found[0])


def _places(evidence: Any) -> Iterator[tuple[dict[str, Any], TokenEvidence, int, list[Any], fmpq, list[Any], list[Any]]]:
    """What was varied, the prompt, the reference's chances (S,), l, the law p_l and the rewards of the prompt's answers."""
    game = tokens(evidence, "the path")
    if game.has_environment:
        return
    for name, policy in game.policies.items():
        chance = game.chances(policy)
        for prompt, rows in enumerate(game.by_prompt):
            for at in LENGTHS if rows else ():
                words = {"reference": name, "prompt": prompt, "length": str(at)}
                with ctx.workprec(PRECISION):
                    rewards = [arb(game.answers[row].reward) for row in rows]
                yield words, game, prompt, chance, at, path(game, prompt, chance, arb(at)), rewards


def _gold(evidence: Any) -> Iterator[Measurement]:
    for words, game, prompt, chance, at, law, r in _places(evidence):
        rows = game.by_prompt[prompt]
        gold = [arb(game.answers[row].steps[0][1] ** 2 - game.answers[row].length) for row in rows]  # any number would do
        found = along(game, prompt, chance, at, lambda p, gold=gold: _mean(p, gold))
        yield Measurement(found, {together: covariance(law, gold, r)}, words)


def _proxy(evidence: Any) -> Iterator[Measurement]:
    for words, game, prompt, chance, at, law, r in _places(evidence):
        found = along(game, prompt, chance, at, lambda p, r=r: _mean(p, r))
        yield Measurement(found, {spread: covariance(law, r, r)}, words)


def _price(evidence: Any) -> Iterator[Measurement]:
    for words, game, prompt, chance, at, law, r in _places(evidence):
        with ctx.workprec(PRECISION):
            rho = game.prompt_chance[prompt]
            q = [arb(chance[row] / rho) for row in game.by_prompt[prompt]]

        def divergence(p: list[Any], q: list[Any] = q) -> Any:
            return _mean(p, [x.log() - y.log() for x, y in zip(p, q, strict=True)])

        found = along(game, prompt, chance, at, divergence)
        yield Measurement(found, {length: at, spread: covariance(law, r, r)}, words)


def _entropy(evidence: Any) -> Iterator[Measurement]:
    for words, game, prompt, chance, at, law, r in _places(evidence):
        found = along(game, prompt, chance, at, lambda p: -_mean(p, [x.log() for x in p]))
        with ctx.workprec(PRECISION):
            promised = -covariance(law, r, [p.log() for p in law])
        yield Measurement(found, {together: promised}, words)


SOURCE = "Donsker and Varadhan 1975; of Shi et al. 2024, arXiv 2410.11677; proved here"

GOLD = of_objectives(
    "gold turns where it ceases to go with the proxy",
    r"\mathrm{d}\,\mathbb{E}_\lambda g / \mathrm{d}\lambda",
    together,
    {together: "covariance of gold and proxy"},
    _gold,
    SOURCE,
    assumes=TEXTS,
)

PROXY = of_objectives(
    "the proxy never turns",
    r"\mathrm{d}\,\mathbb{E}_\lambda r / \mathrm{d}\lambda",
    spread,
    {spread: "variance of the proxy"},
    _proxy,
    SOURCE,
    assumes=TEXTS,
)

PRICE = of_objectives(
    "the divergence grows with the variance of the proxy",
    r"\mathrm{d}\,\mathrm{KL}(\pi_\lambda\|q) / \mathrm{d}\lambda",
    length * spread,
    {length: "length of the path", spread: "variance of the proxy"},
    _price,
    SOURCE,
    assumes=TEXTS,
)

ENTROPY = of_objectives(
    "entropy rises where the proxy likes what is unlikely",
    r"\mathrm{d}\,H(\pi_\lambda) / \mathrm{d}\lambda",
    together,
    {together: "minus the covariance of proxy and log-probability"},
    _entropy,
    SOURCE,
    assumes=TEXTS,
)

CATALOGUE = (GOLD, PROXY, PRICE, ENTROPY)
