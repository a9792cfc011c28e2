r"""What advantages of unfinished answers are worth.

A' the generalised advantage of the first l tokens with the last value repeated, A that of the whole answer, any values V,

    A_t - A'_t = (g lambda)^(l-1-t) (A_{l-1} - (g - 1) V_{l-1}),

for both satisfy X_t = delta_t + g lambda X_{t+1} below l - 1, and at l - 1 they are A_{l-1} and (g - 1) V_{l-1} + r_{l-1};
the reward of an unfinished answer is not paid before its end.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import sympy
from flint import fmpq

from .bound import Measurement
from .rlvr_group import of_tokens
from .token_evidence import tokens

g, lam = sympy.symbols("gamma lambda", nonnegative=True)
n = sympy.Symbol("n", integer=True, nonnegative=True)
m = sympy.Symbol("m", nonnegative=True)


def _hidden(evidence: Any) -> Iterator[Measurement]:
    problem = tokens(evidence, "the cut")
    for name, policy in problem.policies.items():
        value, _ = problem.values(policy)
        for row, answer in list(enumerate(problem.answers))[:40]:
            values = [value[node] for node, _ in answer.steps] + [fmpq(0)]
            for discount, trace in ((fmpq(1), fmpq(1)), (fmpq(9, 10), fmpq(1, 2))):
                whole = _advantages(answer.earned, values, discount, trace)
                for cut in range(1, answer.length):
                    part = _advantages(answer.earned[:cut], [*values[:cut], values[cut - 1]], discount, trace)
                    last = whole[cut - 1] - (discount - 1) * values[cut - 1] - answer.earned[cut - 1]
                    for t in range(cut):
                        where = {g: discount, lam: trace, n: cut - 1 - t, m: abs(last)}
                        yield Measurement(abs(whole[t] - part[t]), where, {"policy": name, "answer": row, "cut": cut})


def _advantages(earned: Any, values: list[fmpq], discount: fmpq, trace: fmpq) -> list[fmpq]:
    """Generalised advantages by the backward recursion; one value more than rewards."""
    found, after = [], fmpq(0)
    for t in reversed(range(len(earned))):
        after = earned[t] + discount * values[t + 1] - values[t] + discount * trace * after
        found.append(after)
    return found[::-1]


HIDDEN = of_tokens(
    "what a cut hides decays geometrically",
    r"|A_t - A'_t|",
    (g * lam) ** n * m,
    {g: "discount", lam: "trace", n: "tokens to the cut", m: "error at the last token before it"},
    _hidden,
    "of Fan et al. 2025, arXiv 2506.15050; proved here",
    sense="equal to",
    assumes="any values; here those of the policy",
)

CATALOGUE = (HIDDEN,)
