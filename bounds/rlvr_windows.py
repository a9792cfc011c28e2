r"""What advantages of unfinished answers are worth.

A' the generalised advantage of the first l tokens with the last value repeated, A that of the whole answer, any values V,

    A_t - A'_t = (g lambda)^(l-1-t) (A_{l-1} - (g - 1) V_{l-1}),

for both satisfy X_t = delta_t + g lambda X_{t+1} below l - 1, and at l - 1 they are A_{l-1} and (g - 1) V_{l-1} + r_{l-1};
the reward of an unfinished answer is not paid before its end. And

    A_{l-1} - (g - 1) V_{l-1} - r_{l-1} = g (G - V_{l-1}),

G a mean of the k-step returns from l on, r_l + ... + g^(k-1) r_{l+k-1} + g^k V_{l+k}, k = 0, 1, ..., of weights
(1 - lambda) lambda^k, the last one taking the rest: no larger than W, the largest of them in size.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import sympy
from flint import fmpq

from .bound import Measurement
from .rlvr_group import of_tokens
from .token_evidence import tokens

g, lam = sympy.symbols("gamma lambda", nonnegative=True)
n = sympy.Symbol("n", integer=True, nonnegative=True)
m, v, w = sympy.symbols("m V W", nonnegative=True)


def _hidden(evidence: Any) -> Iterator[Measurement]:
    for cut in _cuts(evidence):
        last = cut.whole[cut.end - 1] - (cut.discount - 1) * cut.values[cut.end - 1] - cut.earned[cut.end - 1]
        for t, error in enumerate(cut.errors):
            yield Measurement(error, {g: cut.discount, lam: cut.trace, n: cut.end - 1 - t, m: abs(last)}, cut.where)


def _within(evidence: Any) -> Iterator[Measurement]:
    for cut in _cuts(evidence):
        paid, returns = fmpq(0), []
        for k, value in enumerate(cut.values[cut.end :]):
            returns.append(abs(paid + cut.discount**k * value))
            paid += cut.discount**k * cut.earned[cut.end + k] if cut.end + k < len(cut.earned) else 0
        sizes = {v: abs(cut.values[cut.end - 1]), w: max(returns)}
        for t, error in enumerate(cut.errors):
            yield Measurement(error, {g: cut.discount, lam: cut.trace, n: cut.end - 1 - t, **sizes}, cut.where)


@dataclass(frozen=True)
class _Cut:
    """An answer's rewards and values, one more than rewards, its advantages, and their errors when it is cut after `end`."""

    earned: tuple[fmpq, ...]
    values: list[fmpq]
    discount: fmpq
    trace: fmpq
    end: int
    whole: list[fmpq]
    errors: list[fmpq]
    where: dict[str, Any]


def _cuts(evidence: Any) -> Iterator[_Cut]:
    problem = tokens(evidence, "the cut")
    for name, policy in problem.policies.items():
        value, _ = problem.values(policy)
        for row, answer in list(enumerate(problem.answers))[:40]:
            values = [value[node] for node, _ in answer.steps] + [fmpq(0)]
            for discount, trace in ((fmpq(1), fmpq(1)), (fmpq(9, 10), fmpq(1, 2))):
                whole = _advantages(answer.earned, values, discount, trace)
                for end in range(1, answer.length):
                    part = _advantages(answer.earned[:end], [*values[:end], values[end - 1]], discount, trace)
                    errors = [abs(whole[t] - part[t]) for t in range(end)]
                    where = {"policy": name, "answer": row, "cut": end}
                    yield _Cut(answer.earned, values, discount, trace, end, whole, errors, where)


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

WITHIN = of_tokens(
    "a cut's error is within returns and values",
    r"|A_t - A'_t|",
    (g * lam) ** n * g * (w + v),
    {g: "discount", lam: "trace", n: "tokens to the cut", w: "largest k-step return from the cut", v: "last value before it"},
    _within,
    "of Fan et al. 2025, arXiv 2506.15050; proved here",
    assumes="any values; here those of the policy",
)

CATALOGUE = (HIDDEN, WITHIN)
