"""Bisimulation metrics by linear programs (HiGHS), written down from their definitions."""

from __future__ import annotations

import itertools
from fractions import Fraction

import numpy as np
from banach.mdp import MDP
from scipy.optimize import linprog

from .. import witness
from . import bisimulation_witness as slow


def kantorovich(p, q, cost):
    """Optimal transport of rows (n,) as a linear program over the support."""
    rows, cols = np.flatnonzero(p), np.flatnonzero(q)
    k, n = len(rows), len(cols)
    if k == 1 or n == 1:
        return float(p @ cost @ q)
    system = np.vstack((np.kron(np.eye(k), np.ones(n)), np.kron(np.ones(k), np.eye(n))))
    return linprog(cost[np.ix_(rows, cols)].ravel(), A_eq=system, b_eq=np.concatenate((p[rows], q[cols])), method="highs").fun


def table(problem: MDP) -> list[list[tuple[float, np.ndarray]]]:
    """(reward, normalised row) of every action; terminal states stay and pay (1 - g) times their value."""
    n, found = problem.n_states, []
    for state, rows in enumerate(witness.rows(problem)):
        if not rows:
            found.append([((1 - problem.discount) * float(problem.terminal_value[state]), np.eye(n)[state])])
            continue
        dense = []
        for reward, row in rows:
            p = np.zeros(n)
            for j, mass in row.items():
                p[j] = float(mass)
            dense.append((float(reward), p / p.sum()))
        found.append(dense)
    return found


def classes(problem: MDP, actions: str) -> np.ndarray:
    """The coarsest bisimulation of rows divided by their sums, terminal states taken for loops that are worth the same."""
    most, found = int(np.diff(problem.state_ptr).max(initial=1)), []
    for state, rows in enumerate(witness.rows(problem)):
        if rows:
            found.append([(r, {j: p / sum(row.values()) for j, p in row.items()}) for r, row in rows])
        else:
            pays = (1 - Fraction(problem.discount)) * Fraction(float(problem.terminal_value[state]))
            found.append([(pays, {state: Fraction(1)})] * (most if actions == "position" else 1))
    return np.array(slow.coarsest(problem, actions, found))


def metric(problem: MDP, kind: str, sweeps: int, c_r: float = 1.0, c_t: float | None = None) -> np.ndarray:
    """F^sweeps 0, for kind "strict" or "lax"."""
    rows, n = table(problem), problem.n_states
    c_t = problem.discount if c_t is None else c_t
    d = np.zeros((n, n))
    for _ in range(sweeps):
        new = np.zeros((n, n))
        for s, t in itertools.combinations(range(n), 2):
            between = np.array([[c_r * abs(r - x) + c_t * kantorovich(p, q, d) for x, q in rows[t]] for r, p in rows[s]])
            if kind == "lax":
                value = max(between.min(axis=1).max(), between.min(axis=0).max())
            else:
                a, b = between.shape
                value = max(between[k if a > 1 else 0, k if b > 1 else 0] for k in range(max(a, b)))
            new[s, t] = new[t, s] = value
        d = new
    return d
