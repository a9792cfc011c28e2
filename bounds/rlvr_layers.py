r"""What a growing stream does to an entropy.

H(softmax(c z)) falls in c: its derivative is -c Var_{softmax(c z)}(z). At c = 2 and z = log pi it is the entropy of pi^2 /
sum pi^2.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import sympy
from flint import arb, ctx, fmpq

from .bound import Measurement
from .rlvr_group import of_tokens
from .token_evidence import PRECISION, tokens

h = sympy.Symbol("H", nonnegative=True)


def _scaled(evidence: Any) -> Iterator[Measurement]:
    problem = tokens(evidence, "the entropy")
    for name, policy in problem.policies.items():
        for node in range(min(problem.n_nodes, 3)):
            for power in (2, 5):
                total = sum((p**power for p in policy[node]), fmpq(0))
                sharp = [p**power / total for p in policy[node]]
                yield Measurement(_entropy(sharp), {h: _entropy(policy[node])}, {"policy": name, "node": node, "scale": power})


def _entropy(law: list[fmpq]) -> arb:
    with ctx.workprec(PRECISION):
        return -sum((arb(p) * arb(p).log() for p in law if p > 0), arb(0))


SCALED = of_tokens(
    "scaling logits up lowers entropy",
    r"H(\mathrm{softmax}(c z))",
    h,
    {h: "entropy at c = 1"},
    _scaled,
    "of Tan et al. 2025, arXiv 2512.19673; proved here",
)

CATALOGUE = (SCALED,)
