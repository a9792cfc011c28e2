r"""What routing between modes costs.

On one query a router that mixes two modes with accuracies a, b and costs c, d pays (s c + (1 - s) d)/(s a + (1 - s) b), the
mediant of c/a and d/b, and lies between them. Across queries it may beat both.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import sympy
from flint import fmpq

from .bound import Measurement
from .rlvr_group import of_tokens
from .token_evidence import ZERO, tokens

x, y = sympy.symbols("x y", nonnegative=True)


def _between(evidence: Any) -> Iterator[Measurement]:
    problem = tokens(evidence, "the router")
    for name, one, two in problem.pairs():
        for prompt, rows in enumerate(problem.by_prompt):
            rho = problem.prompt_chance[prompt]
            passes, costs = [], []
            for policy in (one, two):
                chance = problem.chances(policy)
                passes.append(sum((chance[y] for y in rows if problem.right[y]), ZERO))
                costs.append(sum((chance[y] * problem.answers[y].length for y in rows), ZERO))
            if min(passes) == 0 or rho == 0:
                continue
            single = [c / p for c, p in zip(costs, passes, strict=True)]
            for share in (fmpq(1, 4), fmpq(9, 10)):
                mixed = [share * a + (1 - share) * b for a, b in (costs, passes)]
                yield Measurement(mixed[0] / mixed[1], {x: single[0], y: single[1]}, {"policies": name, "prompt": prompt})


BETWEEN = of_tokens(
    "a router's cost of a pass lies between its modes'",
    r"\mathrm{CoP}(s \pi + (1 - s) \pi')",
    sympy.Max(x, y),
    {x: "cost of a pass of the one mode", y: "of the other"},
    _between,
    "the mediant; of Chen et al. 2025, arXiv 2510.12838",
    assumes="one query, two modes that can succeed, costs in tokens",
)

CATALOGUE = (BETWEEN,)
