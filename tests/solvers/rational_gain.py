"""Exact best gains by enumerating every deterministic policy in rational numbers. Slow, and shares no code with the solvers."""

from __future__ import annotations

import itertools
from fractions import Fraction

from banach.mdp import MDP


def rational_rows(model: MDP) -> list[dict[int, Fraction]]:
    """The true transition probabilities of each pair, weight over row sum, without zeros."""
    rows = []
    for k in range(model.n_pairs):
        row: dict[int, Fraction] = {}
        for e in range(model.row_ptr[k], model.row_ptr[k + 1]):
            if model.probability[e] > 0:
                j = int(model.successor[e])
                row[j] = row.get(j, Fraction(0)) + Fraction(float(model.probability[e]))
        total = sum(row.values())
        rows.append({j: p / total for j, p in row.items()})
    return rows


def best_gains(model: MDP) -> list[Fraction]:
    """The best gain of each state over all deterministic policies, which no other policy beats."""
    rows, best = rational_rows(model), max
    if model.criterion.minimize:
        best = min
    choices = [range(model.state_ptr[s], model.state_ptr[s + 1]) for s in range(model.n_states)]
    gains = [policy_gains([rows[k] for k in pairs], [model.reward[k] for k in pairs]) for pairs in itertools.product(*choices)]
    return [best(gain[s] for gain in gains) for s in range(model.n_states)]


def gains_of(model: MDP, policy) -> list[Fraction]:
    """The gain of each state under one policy."""
    rows, pairs = rational_rows(model), [int(model.state_ptr[s] + policy[s]) for s in range(model.n_states)]
    return policy_gains([rows[k] for k in pairs], [model.reward[k] for k in pairs])


def policy_gains(chain: list[dict[int, Fraction]], reward) -> list[Fraction]:
    """Gains of a Markov chain: each recurrent class's stationary mean, and elsewhere the mean of where the chain ends."""
    n = len(chain)
    reach = [_reachable(chain, s) for s in range(n)]
    recurrent = [all(s in reach[j] for j in reach[s]) for s in range(n)]
    gains: list[Fraction] = [Fraction(0)] * n
    for s in range(n):
        if recurrent[s]:
            members = sorted(reach[s])
            system = [[chain[i].get(j, Fraction(0)) - (i == j) for i in members] for j in members]
            system[0] = [Fraction(1)] * len(members)
            stationary = solve_exactly(system, [Fraction(1)] + [Fraction(0)] * (len(members) - 1))
            gains[s] = sum((x * Fraction(float(reward[i])) for x, i in zip(stationary, members, strict=True)), Fraction(0))
    transient = [s for s in range(n) if not recurrent[s]]
    if transient:
        system = [[(i == j) - chain[i].get(j, Fraction(0)) for j in transient] for i in transient]
        right = [sum((p * gains[j] for j, p in chain[i].items() if recurrent[j]), Fraction(0)) for i in transient]
        for s, gain in zip(transient, solve_exactly(system, right), strict=True):
            gains[s] = gain
    return gains


def _reachable(chain: list[dict[int, Fraction]], start: int) -> set[int]:
    seen, stack = {start}, [start]
    while stack:
        for j in chain[stack.pop()]:
            if j not in seen:
                seen.add(j)
                stack.append(j)
    return seen


def solve_exactly(matrix: list[list[Fraction]], right: list[Fraction]) -> list[Fraction]:
    """Gauss-Jordan elimination of a non-singular system."""
    rows = [[Fraction(x) for x in row] + [Fraction(b)] for row, b in zip(matrix, right, strict=True)]
    n = len(rows)
    for column in range(n):
        pivot = next(i for i in range(column, n) if rows[i][column])
        rows[column], rows[pivot] = rows[pivot], rows[column]
        rows[column] = [x / rows[column][column] for x in rows[column]]
        for i in range(n):
            if i != column and rows[i][column]:
                rows[i] = [x - rows[i][column] * y for x, y in zip(rows[i], rows[column], strict=True)]
    return [row[-1] for row in rows]
