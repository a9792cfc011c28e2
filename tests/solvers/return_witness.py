"""Exact laws of returns by listing what happens, in Fractions. Reads a model's arrays and shares nothing with the library."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from fractions import Fraction

import numpy as np

Spread = dict[Fraction, Fraction]
"""A law: value -> probability."""


def outcomes(problem, gain, state: int, action: int) -> list[tuple[Fraction, Fraction, int]]:
    """(probability, reward, successor), the row's floats as weights."""
    pair = int(problem.state_ptr[state]) + action
    entries = range(int(problem.row_ptr[pair]), int(problem.row_ptr[pair + 1]))
    total = sum(Fraction(float(problem.probability[e])) for e in entries)
    reward = Fraction(float(problem.reward[pair]))
    return [
        (Fraction(float(problem.probability[e])) / total, reward + Fraction(float(gain[e])), int(problem.successor[e]))
        for e in entries
        if problem.probability[e] > 0
    ]


def returns(problem, gain, policy, state: int, steps: int, last: Fraction | None = None) -> Spread:
    """Law of the return of `steps` decisions under the first rows of a policy (H, n); `last` for what comes after them."""
    if problem.terminal[state]:
        return {Fraction(float(problem.terminal_value[state])): Fraction(1)}
    if steps == 0:
        return {Fraction(0) if last is None else last: Fraction(1)}
    found: Spread = {}
    g = Fraction(problem.discount)
    for p, r, j in outcomes(problem, gain, state, int(policy[0][state])):
        for x, q in returns(problem, gain, policy[1:], j, steps - 1, last).items():
            found[r + g * x] = found.get(r + g * x, Fraction(0)) + p * q
    return found


def all_laws(problem, gain, state: int, steps: int) -> list[Spread]:
    """Laws of the returns of all deterministic policies that may remember everything, without repetition."""
    if problem.terminal[state]:
        return [{Fraction(float(problem.terminal_value[state])): Fraction(1)}]
    if steps == 0:
        return [{Fraction(0): Fraction(1)}]
    g, found = Fraction(problem.discount), {}
    for action in range(int(problem.state_ptr[state + 1] - problem.state_ptr[state])):
        rows = outcomes(problem, gain, state, action)
        for choice in itertools.product(*(all_laws(problem, gain, j, steps - 1) for _, _, j in rows)):
            law: Spread = {}
            for (p, r, _), after in zip(rows, choice, strict=True):
                for x, q in after.items():
                    law[r + g * x] = law.get(r + g * x, Fraction(0)) + p * q
            found[tuple(sorted(law.items()))] = law
    return list(found.values())


def markov_policies(problem, steps: int) -> Iterator[list[Sequence[int]]]:
    """Every deterministic policy that sees state and time only."""
    counts = np.diff(problem.state_ptr)
    one = list(itertools.product(*(range(c) if c else (-1,) for c in counts)))
    yield from (list(rows) for rows in itertools.product(one, repeat=steps))


def tail_mean(law: Spread, level: Fraction) -> Fraction:
    """CVaR by its definition."""
    left, total = level, Fraction(0)
    for x, p in sorted(law.items()):
        taken = min(left, p)
        total, left = total + taken * x, left - taken
    return total / level
