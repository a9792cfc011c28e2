r"""What likelihood of right answers promises.

pi+ ~ pi s, s(y) in [0, 1] the probability that the verifier accepts y: J(pi+) = E s^2 / E s = r + Var(s) / r, r = E s, a
prompt at a time. It is the optimum of negative-aware fine-tuning, and of maximum likelihood on accepted answers.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import sympy

from .bound import Measurement
from .rlvr_group import moments, of_tokens
from .token_evidence import ZERO, tokens

r, v = sympy.symbols("r v", nonnegative=True)


def _gain(evidence: Any) -> Iterator[Measurement]:
    problem = tokens(evidence, "the step")
    if any(not 0 <= answer.reward <= 1 for answer in problem.answers):
        return
    for name, policy in problem.policies.items():
        chance, pairs = problem.chances(policy), moments(problem, policy)
        for prompt, rows in enumerate(problem.by_prompt):
            accepted = sum((chance[row] * problem.answers[row].reward for row in rows), ZERO)
            if accepted > 0:
                kept = [chance[row] * problem.answers[row].reward / accepted for row in rows]
                found = sum((p * problem.answers[row].reward for p, row in zip(kept, rows, strict=True)), ZERO)
                yield Measurement(found, {r: pairs[prompt][0], v: pairs[prompt][1]}, {"policy": name, "prompt": prompt})


GAIN = of_tokens(
    "an exact step of NFT gains the variance over the mean",
    r"J(\pi^+)",
    r + v / r,
    {r: "acceptance of the old policy", v: "variance of the acceptance probability"},
    _gain,
    "of Chen et al. 2025, arXiv 2505.18116; proved here",
    sense="equal to",
    assumes="rewards in [0, 1], some of them positive under the policy",
)

CATALOGUE = (GAIN,)
