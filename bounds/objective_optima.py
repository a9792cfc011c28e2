r"""Where objectives lead: the regularised optimum, and the losses of pairs that come to rest in it.

q the reference, J_beta(pi) = J(pi) - beta KL(pi | q) with optimum p*, m(y) = log pi(y) / q(y).

GIBBS        the regularised objective is concave in the law of answers: J_beta(pi) = J_beta(p*) - beta KL(pi | p*).
ANSWERS      without an environment p*(y) = q(y) e^{R/beta} / Z: the product of soft-optimal token policies telescopes.
DPO          its population loss is a cross-entropy of Bradley-Terry labels: at least their entropy, which is reached where
             beta (m - m') = R - R', that is at p*.
IPO          squared errors about their mean: with both answers drawn from mu the loss of pi exceeds that of
             q e^{E_mu P / tau} / Z by the mean of ((m - m') - (m* - m*'))^2, m* being the projection.
BEST_OF_N    KL <= log n - (n - 1) / n, as for no ties: an answer's chance among n is at most n u^{n-1} times its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import sympy
from flint import arb, ctx, fmpq

from .bound import Measurement
from .objective_divergences import TEXTS, divergence, kl, log_ratios
from .objective_statement import of_objectives, slope
from .token_evidence import PRECISION, ZERO, Table, TokenEvidence, tokens

n = sympy.Symbol("n", integer=True, positive=True)
t, moved = sympy.symbols("beta Delta", nonnegative=True)
optimum, least = sympy.symbols("J_* L_*", real=True)

BETAS = (fmpq(1, 4), fmpq(1))
"""Prices of a nat."""


def soft_optimum(game: TokenEvidence, reference: Table, beta: fmpq) -> tuple[Table, Any]:
    """The policy (N, V) of greatest J - beta KL to the reference, and that greatest value, by soft backward induction."""
    policy: Table = [[] for _ in range(game.n_nodes)]

    def choose(node: int, worth: list[Any]) -> Any:
        tilted = [arb(q) * (arb(w) / arb(beta)).exp() for q, w in zip(reference[node], worth, strict=True)]
        total = sum(tilted, arb(0))
        policy[node] = [x / total for x in tilted]
        return arb(beta) * total.log()

    values, _ = game.backup(choose)
    with ctx.workprec(PRECISION):
        return policy, sum((arb(rho) * v for rho, v in zip(game.prompt_chance, values, strict=False)), arb(0))


def _gibbs(evidence: Any) -> Iterator[Measurement]:
    game = tokens(evidence, "the regularised optimum")
    for name, policy, reference in game.pairs():
        for beta in BETAS:
            best, value = soft_optimum(game, reference, beta)
            with ctx.workprec(PRECISION):
                found = arb(game.expected_reward(policy)) - arb(beta) * divergence(game, policy, reference)
            values = {optimum: value, t: beta, kl: divergence(game, policy, best)}
            yield Measurement(found, values, {"policy": name, "beta": float(beta)})


def gibbs(game: TokenEvidence, reference: Table, beta: fmpq) -> list[Any]:
    """q(y) e^{R/beta} / Z of each answer to its prompt, (S,), in balls."""
    theirs = game.chances(reference)
    with ctx.workprec(PRECISION):
        heavy = [arb(q) * (arb(a.reward) / arb(beta)).exp() for q, a in zip(theirs, game.answers, strict=True)]
        totals = [sum((heavy[row] for row in rows), arb(0)) for rows in game.by_prompt]
        return [
            h / totals[a.prompt] * game.prompt_chance[a.prompt] if game.prompt_chance[a.prompt] > 0 else ZERO
            for h, a in zip(heavy, game.answers, strict=True)
        ]


def _answers(evidence: Any) -> Iterator[Measurement]:
    game = tokens(evidence, "Gibbs's law of answers")
    if game.has_environment:
        return
    for name, reference in game.policies.items():
        for beta in BETAS:
            found = game.chances(soft_optimum(game, reference, beta)[0])
            likely = max(range(len(found)), key=lambda row: float(found[row].mid()))
            promised = gibbs(game, reference, beta)
            apart = [row for row, (f, g) in enumerate(zip(found, promised, strict=True)) if not (f - g).contains(0)]
            row = apart[0] if apart else likely
            yield Measurement(found[row], {slope: promised[row]}, {"reference": name, "beta": float(beta)})


def margins(game: TokenEvidence, policy: Table, reference: Table, prompt: int) -> list[Any]:
    """log pi(y)/q(y) of the answers to a prompt, in the order of `by_prompt`."""
    d = log_ratios(game, policy, reference)
    return [sum(d[row], arb(0)) for row in game.by_prompt[prompt]]


def pairs_of_answers(game: TokenEvidence, sampler: Table) -> Iterator[tuple[int, int, int, Any]]:
    """Every ordered pair of answers to one prompt: prompt, places in `by_prompt`, and the pair's probability."""
    chance = game.chances(sampler)
    for prompt, rows in enumerate(game.by_prompt):
        for i, y in enumerate(rows):
            for j, z in enumerate(rows):
                yield prompt, i, j, chance[y] * chance[z] / game.prompt_chance[prompt]


def log_sigmoid(x: arb) -> arb:
    """log 1/(1 + e^-x)."""
    return -((-x).exp() + 1).log()


def dpo_loss(game: TokenEvidence, policy: Table, reference: Table, beta: fmpq) -> tuple[arb, arb]:
    """DPO's population loss, and the entropy of its labels.

    Pairs are two answers of the uniform policy to one prompt, labels Bradley and Terry's with the problem's rewards.
    """
    loss = entropy = arb(0)
    with ctx.workprec(PRECISION):
        m = [margins(game, policy, reference, prompt) for prompt in range(game.n_prompts)]
        for prompt, i, j, weight in pairs_of_answers(game, game.policies["uniform"]):
            likely = preferred(game, prompt, i, j)
            loss -= weight * likely * log_sigmoid(arb(beta) * (m[prompt][i] - m[prompt][j]))
            entropy -= weight * likely * likely.log()
    return loss, entropy


def _dpo(evidence: Any) -> Iterator[Measurement]:
    game = tokens(evidence, "DPO")
    if not game.has_environment:
        for name, policy, reference in game.pairs():
            loss, entropy = dpo_loss(game, policy, reference, BETAS[0])
            yield Measurement(loss, {least: entropy}, {"policy": name})


def _dpo_rest(evidence: Any) -> Iterator[Measurement]:
    game = tokens(evidence, "DPO's rest")
    if not game.has_environment:
        for name, reference in game.policies.items():
            for beta in BETAS:
                loss, entropy = dpo_loss(game, soft_optimum(game, reference, beta)[0], reference, beta)
                yield Measurement(loss, {least: entropy}, {"reference": name, "beta": float(beta)})


def preferred(game: TokenEvidence, prompt: int, i: int, j: int) -> arb:
    """Bradley and Terry's probability that the i-th answer to a prompt is preferred to the j-th, by the problem's rewards."""
    y, z = (game.answers[game.by_prompt[prompt][place]] for place in (i, j))
    return log_sigmoid(arb(y.reward - z.reward)).exp()


def ipo_scores(game: TokenEvidence, sampler: Table, tau: fmpq) -> list[list[arb]]:
    """E_mu P(y beats y') / tau of the answers to each prompt, in the order of `by_prompt`: log p*/q up to a constant."""
    chance, found = game.chances(sampler), []
    for prompt, rows in enumerate(game.by_prompt):
        rho, places = game.prompt_chance[prompt], range(len(rows))
        found.append(
            [sum((chance[rows[j]] / rho * preferred(game, prompt, i, j) for j in places), arb(0)) / tau for i in places]
        )
    return found


def ipo_loss(game: TokenEvidence, sampler: Table, tau: fmpq, scores: list[list[Any]]) -> arb:
    """IPO's population loss of scores log pi/q of the answers to each prompt, both answers of a pair the sampler's."""
    half, loss = arb(1 / (2 * tau)), arb(0)
    for prompt, i, j, weight in pairs_of_answers(game, sampler):
        margin, likely = scores[prompt][i] - scores[prompt][j], preferred(game, prompt, i, j)
        over, under = margin - half, margin + half
        loss += weight * (likely * over * over + (1 - likely) * under * under)
    return loss


def _ipo(evidence: Any) -> Iterator[Measurement]:
    game, tau = tokens(evidence, "IPO"), BETAS[0]
    if game.has_environment:
        return
    for name, policy, sampler in game.pairs():
        with ctx.workprec(PRECISION):
            mine = [margins(game, policy, game.policies["uniform"], prompt) for prompt in range(game.n_prompts)]
            best, apart = ipo_scores(game, sampler, tau), arb(0)
            for prompt, i, j, weight in pairs_of_answers(game, sampler):
                away = mine[prompt][i] - mine[prompt][j] - best[prompt][i] + best[prompt][j]
                apart += weight * away * away  # not a power: that of a ball which holds zero is NaN
            loss, floor = (ipo_loss(game, sampler, tau, scores) for scores in (mine, best))
        yield Measurement(loss, {least: floor, moved: apart}, {"policy": name})


def best_of(game: TokenEvidence, reference: Table, size: int) -> list[fmpq]:
    """The law of the best of n answers of a reference, (S,), prompts drawn, the later of two equals preferred."""
    chance, found = game.chances(reference), [ZERO] * len(game.answers)
    for prompt, rows in enumerate(game.by_prompt):
        below, rho = ZERO, game.prompt_chance[prompt]
        for row in sorted(rows, key=lambda row: game.answers[row].reward):
            above = below + chance[row] / rho
            found[row] = rho * (above**size - below**size)
            below = above
    return found


def _best_of_n(evidence: Any) -> Iterator[Measurement]:
    game = tokens(evidence, "the best of n")
    for name, reference in game.policies.items():
        theirs = game.chances(reference)
        for size in (1, 2, 4, 16):
            best = best_of(game, reference, size)
            with ctx.workprec(PRECISION):
                found = sum((p * arb(p / q).log() for p, q in zip(best, theirs, strict=True) if p > 0), arb(0))
            yield Measurement(found, {n: size}, {"reference": name, "n": size})


GIBBS = of_objectives(
    "what a policy lacks of the regularised optimum is a divergence",
    r"J(\pi) - \beta\,\mathrm{KL}(\pi\|q)",
    optimum - t * kl,
    {optimum: "best regularised reward", t: "price of a nat", kl: "KL(policy, optimum)"},
    _gibbs,
    "Donsker and Varadhan 1975; Korbak et al. 2022, arXiv 2205.11275",
)


ANSWERS = of_objectives(
    "the regularised optimum is Gibbs's law of answers",
    r"\pi^*(y)",
    slope,
    {slope: "q(y) exp(R / beta) / Z"},
    _answers,
    "Rafailov et al. 2023, arXiv 2305.18290; Todorov 2009",
    assumes=TEXTS,
)


DPO = of_objectives(
    "DPO's loss is at least its labels' entropy",
    r"L_{\mathrm{DPO}}(\pi)",
    least,
    {least: "mean entropy of the labels"},
    _dpo,
    "Gibbs's inequality; of Rafailov et al. 2023, arXiv 2305.18290",
    sense="at least",
    assumes=TEXTS + "; pairs of the uniform policy, Bradley-Terry labels",
)


DPO_REST = of_objectives(
    "DPO's loss is least at the regularised optimum",
    r"L_{\mathrm{DPO}}(\pi^*)",
    least,
    {least: "mean entropy of the labels, which no policy goes below"},
    _dpo_rest,
    "Rafailov et al. 2023, arXiv 2305.18290",
    assumes=TEXTS + "; pairs of the uniform policy, Bradley-Terry labels",
)


IPO = of_objectives(
    "IPO's loss is a distance to its closed form",
    r"L_{\mathrm{IPO}}(\pi)",
    least + moved,
    {least: "loss of q exp(E P / tau) / Z", moved: "mean squared difference of the margins to that policy's"},
    _ipo,
    "of Azar et al. 2024, arXiv 2310.12036; proved here",
    assumes=TEXTS + "; both answers of a pair drawn from one sampler",
)


BEST_OF_N = of_objectives(
    "the best of n stays near",
    r"\mathrm{KL}(\mathrm{best\ of}\ n\,\|\,q)",
    sympy.log(n) - (n - 1) / n,
    {n: "answers to choose from"},
    _best_of_n,
    "Beirami et al. 2024, arXiv 2401.01879",
    sense="at most",
    axis="n",
)

CATALOGUE = (
    GIBBS,
    ANSWERS,
    DPO,
    DPO_REST,
    IPO,
    BEST_OF_N,
)
