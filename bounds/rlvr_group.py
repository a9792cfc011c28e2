r"""What advantages that compare answers of a group, or of a batch, promise.

pi a policy, R rewards, m(x) and v(x) their mean and variance for prompt x, W = E v, B = Var m, J = E R.

STEP_SIZE    the pooled variance is W + B, so dividing centred rewards by the batch's deviation leaves mean square W / (W + B).
DIRECTION    R_k - (1/K) sum_j R_j = ((K - 1)/K) (R_k - mean of the others), and the others are independent of y_k: their part
             has mean zero against the score. Dividing by a frozen number c keeps that. Measured over groups of two and three.
FILTERED     an advantage below t in size times a score: dropping it moves the mean gradient by at most t E |score|, in each
             coordinate.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from math import prod
from typing import Any

import sympy
from flint import fmpq

from ..mdp.token import TokenProblem
from .bound import Bound, Measurement
from .drawing import drawn_token_problems
from .token_evidence import Table, TokenEvidence, tokens
from .token_specimens import token_problems

W, B, c, g, s, t = sympy.symbols("W B c g s t", nonnegative=True)
K = sympy.Symbol("K", integer=True, positive=True)

POLICY = "a finite token problem, any policy that gives every token a chance"

FROZEN = ((2, fmpq(2, 5)), (3, fmpq(3)))
"""Answers a group and deviations that are measured with."""


def moments(problem: TokenEvidence, policy: Table) -> list[tuple[fmpq, fmpq]]:
    """Mean and variance of the rewards of each prompt, (P,) pairs; zeros for a prompt that never occurs."""
    chance, found = problem.chances(policy), []
    for rows, rho in zip(problem.by_prompt, problem.prompt_chance, strict=True):
        answers = [(chance[row] / rho, problem.answers[row].reward) for row in rows]
        mean = sum((p * r for p, r in answers), fmpq(0))
        found.append((mean, sum((p * (r - mean) ** 2 for p, r in answers), fmpq(0))))
    return found


def _step_size(evidence: Any) -> Iterator[Measurement]:
    problem = tokens(evidence, "the step's size")
    for name, policy in problem.policies.items():
        pairs, rho, chance = moments(problem, policy), problem.prompt_chance, problem.chances(policy)
        within = sum((p * v for p, (_, v) in zip(rho, pairs, strict=True)), fmpq(0))
        mean = sum((p * m for p, (m, _) in zip(rho, pairs, strict=True)), fmpq(0))
        between = sum((p * (m - mean) ** 2 for p, (m, _) in zip(rho, pairs, strict=True)), fmpq(0))
        total = problem.mean(chance, [(answer.reward - mean) ** 2 for answer in problem.answers])
        centred = problem.mean(chance, [(answer.reward - pairs[answer.prompt][0]) ** 2 for answer in problem.answers])
        if total > 0:
            yield Measurement(centred / total, {W: within, B: between}, {"policy": name})


def group_advantages(problem: TokenEvidence, policy: Table, size: int) -> list[fmpq]:
    """E[R_1 - (R_1 + ... + R_size) / size | y_1], (S,), over all rewards of size - 1 further answers to the same prompt."""
    chance, found = problem.chances(policy), [fmpq(0)] * len(problem.answers)
    for rows, rho in zip(problem.by_prompt, problem.prompt_chance, strict=True):
        law: dict[fmpq, fmpq] = {}
        for row in rows:
            reward = problem.answers[row].reward
            law[reward] = law.get(reward, fmpq(0)) + chance[row] / rho
        expected: dict[fmpq, fmpq] = dict.fromkeys(law, fmpq(0))
        for others in product(law, repeat=size - 1):
            p = prod((law[r] for r in others), start=fmpq(1))
            for own in law:
                expected[own] += p * (own - (own + sum(others, fmpq(0))) / size)
        for row in rows:
            found[row] = expected[problem.answers[row].reward]
    return found


def _direction(evidence: Any) -> Iterator[Measurement]:
    problem = tokens(evidence, "the direction")
    for name, policy in problem.policies.items():
        slope, chance = problem.gradient(policy), problem.chances(policy)
        for size, deviation in FROZEN:
            worth = [p * a / deviation for p, a in zip(chance, group_advantages(problem, policy, size), strict=True)]
            found = problem.ascent(policy, worth)
            entries = [(f, e) for row, other in zip(found, slope, strict=True) for f, e in zip(row, other, strict=True)]
            for f, e in entries[:: max(1, len(entries) // 6)]:
                yield Measurement(f, {K: size, c: deviation, g: e}, {"policy": name, "deviation": str(deviation)})


def _filtered(evidence: Any) -> Iterator[Measurement]:
    problem = tokens(evidence, "the filter")
    for name, policy in problem.policies.items():
        size, chance, worth = score_size(problem, policy), problem.chances(policy), group_advantages(problem, policy, 2)
        for threshold in (fmpq(1, 100), fmpq(1, 10), fmpq(1, 2)):
            small = [p * a if abs(a) < threshold else fmpq(0) for p, a in zip(chance, worth, strict=True)]
            found = max(abs(x) for row in problem.ascent(policy, small) for x in row)
            yield Measurement(found, {t: threshold, s: size}, {"policy": name, "threshold": str(threshold)})


def score_size(problem: TokenEvidence, policy: Table) -> fmpq:
    """The largest E |d log pi(y) / d logit| over the logits."""
    total = [[fmpq(0)] * problem.n_tokens for _ in range(problem.n_nodes)]
    for p, answer in zip(problem.chances(policy), problem.answers, strict=True):
        for node, a in answer.steps:
            for b in range(problem.n_tokens):
                total[node][b] += p * abs((1 if a == b else 0) - policy[node][b])
    return max(x for row in total for x in row)


def of_tokens(
    name: str, quantity: str, statement: Any, symbols: dict[Any, str], measure: Any, source: str, **rest: Any
) -> Bound:
    """A statement about policies on token problems; the rest as in `Bound`, with this shelf's own where it is left out."""
    own = {"assumes": POLICY, "family": "rlvr", "problems": token_problems, "drawn": drawn_token_problems}
    return Bound(
        name=name, quantity=quantity, statement=statement, symbols=symbols, measure=measure, source=source,
        about=TokenProblem, **(own | rest),
    )  # fmt: skip


STEP_SIZE = of_tokens(
    "prompts of unlike difficulty shrink Lite PPO's step",
    r"\mathbb{E} A^2",
    W / (W + B),
    {W: "mean variance of a prompt's rewards", B: "variance of the prompts' means"},
    _step_size,
    "of Liu et al. 2025, arXiv 2508.08221; proved here",
    sense="equal to",
)

DIRECTION = of_tokens(
    "a frozen batch deviation keeps the direction",
    r"\mathbb{E}[A\,\partial \log\pi]",
    (K - 1) / K * g / c,
    {K: "answers a group", c: "deviation, frozen", g: "derivative of the expected reward"},
    _direction,
    "of Liu et al. 2025, arXiv 2508.08221; proved here",
    sense="equal to",
)

FILTERED = of_tokens(
    "dropping small advantages moves the gradient by little",
    r"|\mathbb{E}[A\,1\{|A| < t\}\,\partial\log\pi]|",
    t * s,
    {t: "threshold", s: "mean size of the score"},
    _filtered,
    "of Chen et al. 2025, arXiv 2502.01600; proved here",
)

CATALOGUE = (STEP_SIZE, DIRECTION, FILTERED)
