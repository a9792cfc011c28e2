r"""What advantages that compare answers of a group, or of a batch, promise.

pi a policy, R rewards, m(x) and v(x) their mean and variance for prompt x, W = E v, B = Var m, J = E R.

STEP_SIZE    the pooled variance is W + B, so dividing centred rewards by the batch's deviation leaves mean square W / (W + B).
DIRECTION    R_k - (1/K) sum_j R_j = ((K - 1)/K) (R_k - mean of the others), and the others are independent of y_k: their part
             has mean zero against the score. Dividing by a frozen number c keeps that. Measured over groups of two and three.
FILTERED     a leave-one-out advantage below t in size times a score: dropping it moves the mean gradient by at most
             t E |score|, in each coordinate. Measured over pairs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
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


def _direction(evidence: Any) -> Iterator[Measurement]:
    problem = tokens(evidence, "the direction")
    for name, policy in problem.policies.items():
        slope = problem.gradient(policy)
        for size, deviation in FROZEN:
            found = problem.ascent(policy, expected_weights(problem, policy, size, partial(_centred, deviation)))
            entries = [(f, e) for row, other in zip(found, slope, strict=True) for f, e in zip(row, other, strict=True)]
            for f, e in entries[:: max(1, len(entries) // 6)]:
                yield Measurement(f, {K: size, c: deviation, g: e}, {"policy": name, "deviation": str(deviation)})


def _centred(deviation: fmpq, group: Sequence[fmpq]) -> list[fmpq]:
    mean = sum(group, fmpq(0)) / len(group)
    return [(reward - mean) / deviation for reward in group]


def _filtered(evidence: Any) -> Iterator[Measurement]:
    problem = tokens(evidence, "the filter")
    for name, policy in problem.policies.items():
        size = weighed_scores(problem, policy, problem.chances(policy))
        for threshold in (fmpq(1, 100), fmpq(1, 2), fmpq(11, 10)):
            small = expected_weights(problem, policy, 2, partial(_dropped, threshold))
            found = max(abs(x) for row in problem.ascent(policy, small) for x in row)
            yield Measurement(found, {t: threshold, s: size}, {"policy": name, "threshold": str(threshold)})


def _dropped(threshold: fmpq, pair: Sequence[fmpq]) -> list[fmpq]:
    """Leave-one-out advantages of two rewards where they are below the threshold, 0 where they are kept."""
    apart = pair[0] - pair[1]
    return [apart, -apart] if abs(apart) < threshold else [fmpq(0)] * 2


def expected_weights(
    problem: TokenEvidence, policy: Table, size: int, weigh: Callable[[tuple[fmpq, ...]], Sequence[fmpq]]
) -> list[fmpq]:
    """Probability of each answer, (S,), times its mean weight, over all groups of so many; weigh: of a group's rewards."""
    return problem.groups(policy, size, weigh, [answer.reward for answer in problem.answers])[0]


def weighed_scores(problem: TokenEvidence, policy: Table, weight: Sequence[fmpq]) -> fmpq:
    """The largest sum_y w_y |d log pi(y) / d logit| over the logits; weights (S,), each node once a sequence."""
    total = [[fmpq(0)] * problem.n_tokens for _ in range(problem.n_nodes)]
    for w, answer in zip(weight, problem.answers, strict=True):
        for node, a in answer.steps:
            for b in range(problem.n_tokens):
                total[node][b] += w * abs((1 if a == b else 0) - policy[node][b])
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
