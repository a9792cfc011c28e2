r"""What discounted outcomes estimate.

With the whole reward R paid at the end and T decisions in all,
E[g^(T-t) R | the first t decisions] is the action value Q_g of the
problem whose decisions are discounted by g: the average over what follows, against the recursion Q = g E U, U = E_pi Q.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import sympy
from flint import fmpq

from .bound import Measurement
from .rlvr_group import of_tokens
from .token_evidence import Table, TokenEvidence, tokens

q = sympy.Symbol("Q", real=True)

Steps = tuple[tuple[int, int], ...]


def _unbiased(evidence: Any) -> Iterator[Measurement]:
    problem = tokens(evidence, "the outcome")
    if problem.has_environment:
        return
    for name, policy in problem.policies.items():
        chance = problem.chances(policy)
        for discount in (fmpq(1, 2), fmpq(199, 200)):
            value = _action_values(problem, policy, discount)
            for steps in list(value)[:25]:
                rows = [y for y, answer in enumerate(problem.answers) if answer.steps[: len(steps)] == steps]
                mass = sum((chance[y] for y in rows), fmpq(0))
                if mass > 0:
                    paid = [chance[y] * discount ** (problem.answers[y].length - len(steps)) for y in rows]
                    found = sum((p * problem.answers[y].reward for p, y in zip(paid, rows, strict=True)), fmpq(0)) / mass
                    yield Measurement(found, {q: value[steps]}, {"policy": name, "discount": str(discount)})


def _action_values(problem: TokenEvidence, policy: Table, discount: fmpq) -> dict[Steps, fmpq]:
    """Q_g after each run of decisions, by recursion from the longest."""
    found: dict[Steps, fmpq] = {answer.steps: answer.reward for answer in problem.answers}
    for depth in range(problem.problem.horizon - 1, 0, -1):
        for answer in problem.answers:
            steps = answer.steps[:depth]
            if answer.length > depth and steps not in found:
                node = answer.steps[depth][0]
                found[steps] = discount * sum(
                    (p * found[(*steps, (node, token))] for token, p in enumerate(policy[node])), fmpq(0)
                )
    return found


UNBIASED = of_tokens(
    "a discounted outcome is an unbiased action value",
    r"\mathbb{E}[\gamma^{T-t} R \mid s_t, d_t]",
    q,
    {q: "action value, by backward induction"},
    _unbiased,
    "of Chen et al. 2025, arXiv 2511.07327; proved here",
    sense="equal to",
    assumes="no environment between the decisions, the reward paid at the end",
)

CATALOGUE = (UNBIASED,)
