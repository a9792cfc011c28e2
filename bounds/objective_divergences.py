r"""What estimators of a divergence, as losses and as rewards, hold a policy to; and what a nat is worth.

q the reference, d = log pi(y_t | n_t) / q(y_t | n_t) at a token and D the sum over an answer; k1 = d, k2 = d^2 / 2,
k3 = e^-d - 1 + d; s_t the score of a token, s of the answer; pi_n the policy at node n, d(n) its occupancy.

ESTIMATES    E d = KL at a node, and E e^-d = 1.
K1_LOSS      grad k1 = s, and E s = 0: as a loss k1 does nothing.
K1_REWARD    grad KL(pi | q) = E[D s], the rest of the product rule being E s; D s is the gradient of k2 of whole answers, too.
K3_ANSWERS   grad k3 of whole answers is (1 - e^-D) s, and -E_pi[(q/pi) s] = -E_q s = grad KL(q | pi).
K2_TOKENS    token by token a loss does not move what comes before: sum d(n) grad KL(pi_n | q_n), d held fixed;
K3_TOKENS    and sum d(n) grad KL(q_n | pi_n), the other direction.
ENTROPY      H = sum_n d(n) H(pi_n), and no policy's is above the log of the number of answers.
PINSKER      J(pi) - J(q) <= span(R) TV <= span(R) sqrt(KL / 2).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import sympy
from flint import arb, ctx, fmpq

from .bound import Measurement
from .objective_statement import FINITE, in_one_logit, of_objectives, slope, times
from .policy_gradients import ratios
from .token_evidence import PRECISION, ZERO, Table, TokenEvidence, tokens

kl, span, answers = sympy.symbols("KL sigma N", nonnegative=True)

TEXTS = "a finite token problem without an environment, a policy and a reference that give every token a chance"


def log_ratios(game: TokenEvidence, policy: Table, reference: Table) -> list[list[Any]]:
    """d of each of the policy's tokens, S lists of balls or series."""
    with ctx.workprec(PRECISION):
        return [[arb(r).log() for r in row] for row in ratios(game, policy, reference)]


def log_of(number: Any) -> Any:
    """The logarithm of a rational, a ball or a power series."""
    return arb(number).log() if isinstance(number, fmpq) else number.log()


def divergence(game: TokenEvidence, policy: Table, reference: Table) -> Any:
    """KL(pi | q) of the answers, prompts drawn; in balls, or in power series where the policy is."""
    chance = game.chances(policy)
    with ctx.workprec(PRECISION):
        logs = {
            (node, token): log_of(a) - log_of(b)
            for node, rows in enumerate(zip(policy, reference, strict=True))
            for token, (a, b) in enumerate(zip(*rows, strict=True))
        }
        return game.mean(chance, [sum((logs[step] for step in answer.steps), arb(0)) for answer in game.answers])


def divergence_slope(game: TokenEvidence, policy: Table, reference: Table) -> Table:
    """The derivative of KL(pi | q), (N, V), in power series."""
    return game.derivatives(policy, lambda table: divergence(game, table, reference), balls=True)


def node_divergences(game: TokenEvidence, policy: Table, reference: Table) -> list[Any]:
    """KL(pi(. | n) | q(. | n)), (N,)."""
    with ctx.workprec(PRECISION):
        return [
            sum((a * (log_of(a) - log_of(b)) for a, b in zip(*rows, strict=True)), arb(0))
            for rows in zip(policy, reference, strict=True)
        ]


def _estimates(evidence: Any) -> Iterator[Measurement]:
    game = tokens(evidence, "estimators of the divergence")
    for name, policy, reference in game.pairs():
        d, chance = log_ratios(game, policy, reference), game.chances(policy)
        exact = game.mean(game.occupancy(policy), node_divergences(game, policy, reference))
        with ctx.workprec(PRECISION):
            for what, estimate in (("k1", lambda x: x), ("k3", lambda x: (-x).exp() - 1 + x)):
                found = game.mean(chance, [sum(map(estimate, row), arb(0)) for row in d])
                yield Measurement(found, {kl: exact}, {"policy": name, "estimator": what})


def _k1_loss(evidence: Any) -> Iterator[Measurement]:
    game = tokens(evidence, "k1 in the loss")
    for name, policy in game.policies.items():
        found = game.ascent(policy, game.chances(policy))
        zero = [[ZERO] * game.n_tokens for _ in range(game.n_nodes)]
        yield in_one_logit(found, zero, slope, {"policy": name})


def _k1_reward(evidence: Any) -> Iterator[Measurement]:
    game = tokens(evidence, "k1 in the reward")
    for name, policy, reference in game.pairs():
        with ctx.workprec(PRECISION):
            whole = [sum(row, arb(0)) for row in log_ratios(game, policy, reference)]
        found = game.ascent(policy, times(game.chances(policy), whole))
        yield in_one_logit(found, divergence_slope(game, policy, reference), slope, {"policy": name})


def _k3_answers(evidence: Any) -> Iterator[Measurement]:
    game = tokens(evidence, "k3 of whole answers")
    for name, policy, reference in game.pairs():
        chance, theirs = game.chances(policy), game.chances(reference)
        found = game.ascent(policy, [p - q for p, q in zip(chance, theirs, strict=True)])
        promised = game.derivatives(policy, lambda table, q=reference: divergence(game, q, table), balls=True)
        yield in_one_logit(found, promised, slope, {"policy": name})


def token_loss_slope(game: TokenEvidence, policy: Table, reference: Table, estimator: str) -> Table:
    """E sum_t grad k of each token, (N, V), samples held fixed; estimator: "k2" or "k3"."""
    chance = game.chances(policy)
    if estimator == "k3":
        ratio = ratios(game, reference, policy)
        return game.scores(policy, lambda row, t: chance[row] * (1 - ratio[row][t]))
    d = log_ratios(game, policy, reference)
    return game.scores(policy, lambda row, t: chance[row] * d[row][t])


def _of_tokens(estimator: str) -> Any:
    def measure(evidence: Any) -> Iterator[Measurement]:
        game = tokens(evidence, f"{estimator} of tokens")
        for name, policy, reference in game.pairs():
            visits = game.occupancy(policy)

            def frozen(table: Table, reference: Table = reference, visits: list[fmpq] = visits) -> Any:
                pair = (table, reference) if estimator == "k2" else (reference, table)
                return game.mean(visits, node_divergences(game, *pair))

            found = token_loss_slope(game, policy, reference, estimator)
            yield in_one_logit(found, game.derivatives(policy, frozen, balls=True), slope, {"policy": name})

    return measure


def _entropy(evidence: Any) -> Iterator[Measurement]:
    game = tokens(evidence, "the entropy of answers")
    numbers = {len(rows) for rows in game.by_prompt if rows}
    if game.has_environment or len(numbers) > 1:
        return
    for name, policy in [*game.policies.items(), ("even over answers", even(game))]:
        with ctx.workprec(PRECISION):
            inside = [-sum((p * log_of(p) for p in row), arb(0)) for row in policy]
            yield Measurement(game.mean(game.occupancy(policy), inside), {answers: min(numbers)}, {"policy": name})


def even(game: TokenEvidence) -> Table:
    """The policy under which every answer to a prompt is equally likely, (N, V)."""
    count = [[0] * game.n_tokens for _ in range(game.n_nodes)]
    for answer in game.answers:
        for node, token in answer.steps:
            count[node][token] += 1
    return [[fmpq(c, sum(row)) for c in row] for row in count]


def _pinsker(evidence: Any) -> Iterator[Measurement]:
    game = tokens(evidence, "what a nat can buy")
    worth = [answer.reward for answer in game.answers]
    for name, policy, reference in game.pairs():
        found = game.expected_reward(policy) - game.expected_reward(reference)
        values = {kl: divergence(game, policy, reference), span: max(worth) - min(worth)}
        yield Measurement(found, values, {"policy": name})


ESTIMATES = of_objectives(
    "k1 and k3 estimate the divergence without bias",
    r"\mathbb{E}\sum_t k_t",
    kl,
    {kl: "divergence of policy and reference, node by node"},
    _estimates,
    "Schulman 2020, Approximating KL divergence",
)


K1_LOSS = of_objectives(
    "k1 in the loss does nothing",
    r"\mathbb{E}\sum_t\partial k_1",
    slope,
    {slope: "zero"},
    _k1_loss,
    "of Tang and Munos 2025, arXiv 2506.09477; score identity",
)


K1_REWARD = of_objectives(
    "k1 in the reward regularises the divergence",
    r"\mathbb{E}[\sum_t k_{1,t}\,\partial\log\pi]",
    slope,
    {slope: "derivative of KL(policy, reference)"},
    _k1_reward,
    "of Tang and Munos 2025, arXiv 2506.09477",
    assumes=FINITE + "; the same as k2 of whole answers in the loss",
)


K3_ANSWERS = of_objectives(
    "k3 of answers in the loss regularises the other direction",
    r"\mathbb{E}\,\partial k_3",
    slope,
    {slope: "derivative of KL(reference, policy)"},
    _k3_answers,
    "of Tang and Munos 2025, arXiv 2506.09477; proved here",
)


K2_TOKENS = of_objectives(
    "k2 of tokens in the loss regularises each node where it stands",
    r"\mathbb{E}\sum_t\partial k_{2,t}",
    slope,
    {slope: "derivative of sum d(n) KL(policy, reference) at n, d held fixed"},
    _of_tokens("k2"),
    "of Tang and Munos 2025, arXiv 2506.09477; proved here",
)


K3_TOKENS = of_objectives(
    "k3 of tokens in the loss regularises each node the other way",
    r"\mathbb{E}\sum_t\partial k_{3,t}",
    slope,
    {slope: "derivative of sum d(n) KL(reference, policy) at n, d held fixed"},
    _of_tokens("k3"),
    "of Shao et al. 2024, arXiv 2402.03300; proved here",
)


ENTROPY = of_objectives(
    "the entropy of answers is below the log of their number",
    r"\sum_n d(n) H(\pi_n)",
    sympy.log(answers),
    {answers: "answers to each prompt"},
    _entropy,
    "Shannon 1948",
    sense="at most",
    assumes=TEXTS + "; as many answers to each prompt",
)


PINSKER = of_objectives(
    "what a nat can buy",
    r"J(\pi) - J(q)",
    span * sympy.sqrt(kl / 2),
    {span: "span of the rewards", kl: "KL(policy, reference)"},
    _pinsker,
    "Pinsker 1964; of Gao et al. 2023, arXiv 2210.10760",
    sense="at most",
)

CATALOGUE = (
    ESTIMATES,
    K1_LOSS,
    K1_REWARD,
    K3_ANSWERS,
    K2_TOKENS,
    K3_TOKENS,
    ENTROPY,
    PINSKER,
)
