r"""What tools cost text.

A policy that spends a share c of every decision on one token, and is q on the others, gives a sequence of n decisions without
that
token (1 - c)^n times its probability under q: for one fixed policy {P >= e} is not contained in what it was, at (1 - c)^n e
it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import sympy
from flint import fmpq

from .bound import Measurement
from .rlvr_group import of_tokens
from .token_evidence import tokens

c, q = sympy.symbols("c q", nonnegative=True)
n = sympy.Symbol("n", integer=True, nonnegative=True)


def _kept(evidence: Any) -> Iterator[Measurement]:
    problem = tokens(evidence, "the support")
    if problem.n_tokens < 2:
        return
    for name, policy in problem.policies.items():
        without = [[fmpq(0), *(p / (1 - row[0]) for p in row[1:])] for row in policy]
        for share in (fmpq(1, 100), fmpq(1, 2)):
            table = [[share, *((1 - share) * p for p in row[1:])] for row in without]
            plain, spent = problem.chances(without), problem.chances(table)
            for y, answer in enumerate(problem.answers[:60]):
                if plain[y] > 0:
                    yield Measurement(
                        spent[y], {c: share, q: plain[y], n: answer.length}, {"policy": name, "share": str(share)}
                    )


KEPT = of_tokens(
    "spending a share on tools keeps text within that share",
    r"P_{\mathrm{tool}}(y)",
    (1 - c) ** n * q,
    {c: "share of each decision", q: "probability without", n: "decisions of the sequence"},
    _kept,
    "in place of a step of Lin and Xu 2025, arXiv 2508.19201, theorem 3.4; proved here",
    sense="equal to",
)

CATALOGUE = (KEPT,)
