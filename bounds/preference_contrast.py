r"""What contrasts of two answers promise under any law that draws them.

q the reference, b the price of a nat, R_b = R - b log pi(y)/q(y), J_b its mean under pi, pi* the optimum of J_b, V its value,
m a law of answers, l = (R_b(y) - R_b(y'))^2 / (2 b) the contrast of a pair, s the score of an answer.

ON_POLICY   with both answers from pi the ascent is E[(R_b - R_b')(s - s')] = 2 E[(R_b - E R_b) s] = 2 grad J_b.
VARIANCE    R_b = V - b log pi/pi*, so E_m l = b Var_m log pi/pi*, whatever m.
REGRET      u = log pi/pi*. E_pi e^-u = 1, so by Hoeffding's lemma KL(pi | pi*) = E_pi u <= span(u)^2 / 8. For any i, j, by
            Cauchy and Schwarz, (u_i - u_j)^2 <= (1/m_i + 1/m_j) Var_m u <= (2 / min m) Var_m u. Hence what pi lacks of the
            optimum is at most E_m l / (4 min m): data of any law certify a policy.
BASELINE    at pi* the weight R_b - c is V - c for every answer, so the ascent of a single answer from m is (V - c) E_m s:
            any baseline but V moves away from the optimum, unless m = pi*.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import sympy
from flint import arb, ctx, fmpq

from .bound import Measurement
from .objective_divergences import TEXTS, divergence_slope
from .objective_optima import BETAS, margins, soft_optimum
from .objective_statement import in_one_logit, of_objectives, slope
from .token_evidence import PRECISION, ZERO, Table, TokenEvidence, tokens

t, least, contrast, spread = sympy.symbols("beta mu_min L v", nonnegative=True)


def regularised(game: TokenEvidence, policy: Table, reference: Table, beta: fmpq) -> list[Any]:
    """R - beta log pi(y)/q(y) of each answer, (S,), zero for prompts that never occur."""
    found: list[Any] = [ZERO] * len(game.answers)
    for prompt, rows in enumerate(game.by_prompt):
        with ctx.workprec(PRECISION):
            for row, m in zip(rows, margins(game, policy, reference, prompt), strict=True):
                found[row] = arb(game.answers[row].reward) - arb(beta) * m
    return found


def pair_ascent(game: TokenEvidence, chance: list[Any], worth: list[Any]) -> list[Any]:
    """E[(w - w')(s - s')] of two independent answers to a prompt, as coefficients of the scores, (S,), by listing the pairs.

    chance: of each answer, its prompt drawn too, (S,). worth: w, (S,).
    """
    found: list[Any] = [ZERO] * len(chance)
    with ctx.workprec(PRECISION):
        for rows, rho in zip(game.by_prompt, game.prompt_chance, strict=True):
            for i in rows:
                for j in rows:
                    pull = chance[i] * chance[j] / rho * (worth[i] - worth[j])
                    found[i], found[j] = found[i] + pull, found[j] - pull
    return found


def _on_policy(evidence: Any) -> Iterator[Measurement]:
    game = tokens(evidence, "the contrast")
    if game.has_environment:
        return
    for name, policy, reference in game.pairs():
        beta = BETAS[0]
        found = game.ascent(policy, pair_ascent(game, game.chances(policy), regularised(game, policy, reference, beta)))
        price, gain = divergence_slope(game, policy, reference), game.gradient(policy)
        with ctx.workprec(PRECISION):
            promised = [[arb(g) - arb(beta) * k for g, k in zip(*row, strict=True)] for row in zip(gain, price, strict=True)]
        yield in_one_logit(found, promised, slope, {"policy": name, "beta": float(beta)})


def _cases(evidence: Any) -> Iterator[tuple[dict[str, Any], TokenEvidence, int, fmpq, list[Any], list[Any], list[Any]]]:
    """For each prompt: what was varied, beta, the sampler's chances, R_b and log pi/pi* of its answers, in lists."""
    game = tokens(evidence, "the contrast")
    if game.has_environment:
        return
    for name, policy, reference in game.pairs():
        for beta in BETAS:
            best, _ = soft_optimum(game, reference, beta)
            worth = regularised(game, policy, reference, beta)
            for sampler in ("uniform", "sharp"):
                chance = game.chances(game.policies[sampler])
                for prompt, rows in enumerate(game.by_prompt):
                    if rows:
                        law = [chance[row] / game.prompt_chance[prompt] for row in rows]
                        words = {"policy": name, "sampler": sampler, "beta": float(beta), "prompt": prompt}
                        with ctx.workprec(PRECISION):
                            apart = margins(game, policy, best, prompt)
                        yield words, game, prompt, beta, law, [worth[row] for row in rows], apart


def _mean_contrast(law: list[Any], worth: list[Any], beta: fmpq) -> arb:
    """E_m (R_b - R_b')^2 / (2 b), by listing the pairs."""
    with ctx.workprec(PRECISION):
        pairs = [(p * q, a - b) for p, a in zip(law, worth, strict=True) for q, b in zip(law, worth, strict=True)]
        return sum((w * d * d for w, d in pairs), arb(0)) / (2 * arb(beta))


def _variance(evidence: Any) -> Iterator[Measurement]:
    for words, _, _, beta, law, worth, apart in _cases(evidence):
        with ctx.workprec(PRECISION):
            mean = sum((arb(p) * u for p, u in zip(law, apart, strict=True)), arb(0))
            found = sum((arb(p) * (u - mean) ** 2 for p, u in zip(law, apart, strict=True)), arb(0))
        yield Measurement(_mean_contrast(law, worth, beta), {t: beta, spread: found}, words)


def _regret(evidence: Any) -> Iterator[Measurement]:
    for words, game, prompt, beta, law, worth, apart in _cases(evidence):
        chance = game.chances(next(one for name, one, _ in game.pairs() if name == words["policy"]))
        with ctx.workprec(PRECISION):
            drawn = [arb(chance[row] / game.prompt_chance[prompt]) for row in game.by_prompt[prompt]]
            lacking = arb(beta) * sum((p * u for p, u in zip(drawn, apart, strict=True)), arb(0))
        yield Measurement(lacking, {least: min(law), contrast: _mean_contrast(law, worth, beta)}, words)


def _baseline(evidence: Any) -> Iterator[Measurement]:
    game = tokens(evidence, "the baseline")
    if game.has_environment or game.n_prompts > 1:
        return
    for name, reference in game.policies.items():
        for beta in BETAS:
            best, top = soft_optimum(game, reference, beta)
            worth, chance = regularised(game, best, reference, beta), game.chances(game.policies["rising"])
            for constant in (fmpq(0), fmpq(3, 2)):
                with ctx.workprec(PRECISION):
                    weights = [arb(p) * (w - arb(constant)) for p, w in zip(chance, worth, strict=True)]
                found, scores = game.ascent(best, weights), game.ascent(best, [arb(p) for p in chance])
                with ctx.workprec(PRECISION):
                    promised = [[(top - arb(constant)) * x for x in row] for row in scores]
                words = {"reference": name, "beta": float(beta), "constant": str(constant)}
                yield in_one_logit(found, promised, slope, words)


SOURCE = "of Flet-Berliac et al. 2024, arXiv 2406.19185; proved here"

ON_POLICY = of_objectives(
    "on the policy a contrast is twice the gradient",
    r"\mathbb{E}[(R_\beta - R_\beta')\,\partial(\log\pi(y) - \log\pi(y'))]",
    2 * slope,
    {slope: "derivative of the regularised value"},
    _on_policy,
    "Flet-Berliac et al. 2024, arXiv 2406.19185, property 1",
    assumes=TEXTS,
)

VARIANCE = of_objectives(
    "a contrast off the policy is a variance about the optimum",
    r"\mathbb{E}_{\mu\times\mu}(R_\beta - R_\beta')^2 / (2\beta)",
    t * spread,
    {t: "price of a nat", spread: "variance under mu of log pi/pi*"},
    _variance,
    SOURCE,
    assumes=TEXTS + "; answers from any law mu",
)

REGRET = of_objectives(
    "a contrast off the policy bounds the regret",
    r"J_\beta(\pi^*) - J_\beta(\pi)",
    contrast / (4 * least),
    {contrast: "mean contrast under mu", least: "smallest chance of an answer under mu"},
    _regret,
    SOURCE,
    sense="at most",
    assumes=TEXTS + "; one prompt, answers from a law mu that gives each a chance",
)

BASELINE = of_objectives(
    "off the policy only the optimal value is a baseline",
    r"\mathbb{E}_\mu[(R_\beta - c)\,\partial\log\pi^*]",
    slope,
    {slope: "(V - c) times the mean score under mu"},
    _baseline,
    SOURCE,
    assumes=TEXTS + "; one prompt, at the regularised optimum",
)

CATALOGUE = (ON_POLICY, VARIANCE, REGRET, BASELINE)
