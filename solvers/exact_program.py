r"""The least p.z over {p >= 0 : A p <= b, p.1 = m}, a linear program in rational arithmetic.

With slacks s = b - A p, the row with all mass on the least z is optimal but for slacks below zero: a dual simplex method needs
no first phase, takes the entry or slack of the lowest index out and lets the one of the least ratio in, the lowest index on
ties, and so ends (Lemke 1954; Bland 1977). What it ends with is not believed but checked, by weak duality: for every y >= 0

    m min_j (z_j + (A^T y)_j) - b.y  <=  min p.z  <=  p.z of any row that obeys.
"""

from __future__ import annotations

from collections.abc import Sequence

from flint import fmpq

from .errors import SolveError

Row = Sequence[fmpq]
_NOTHING = fmpq(0)


def least(matrix: Sequence[Row], bound: Row, mass: fmpq, z: Row) -> fmpq:
    """min p.z over p >= 0 with matrix p <= bound and sum mass >= 0, exactly.

    matrix: c rows of n, bound: c, z: n. Raises SolveError where no row obeys.
    """
    n, start = len(z), min(range(len(z)), key=lambda j: (z[j], j))
    cost = [value - z[start] for value in z] + [_NOTHING] * len(bound)
    table = [[fmpq(1)] * n + [_NOTHING] * len(bound) + [mass]]
    for i, (row, most) in enumerate(zip(matrix, bound, strict=True)):
        slack = [fmpq(int(i == j)) for j in range(len(bound))]
        table.append([a - row[start] for a in row] + slack + [most - row[start] * mass])
    basis = [start, *range(n, n + len(bound))]
    while True:
        short = [(variable, r) for r, variable in enumerate(basis) if table[r][-1] < 0]
        if not short:
            break
        r = min(short)[1]
        ratios = [(cost[j] / -table[r][j], j) for j in range(n + len(bound)) if table[r][j] < 0]
        if not ratios:
            raise SolveError("no row obeys the inequalities of a polytope")
        _pivot(table, cost, r, min(ratios)[1])
        basis[r] = min(ratios)[1]
    row = [_NOTHING] * n
    for r, variable in enumerate(basis):
        if variable < n:
            row[variable] = table[r][-1]
    found = _dot(row, z)
    _prove(matrix, bound, mass, z, row, cost[n:], found)
    return found


def _pivot(table: list[list[fmpq]], cost: list[fmpq], r: int, j: int) -> None:
    scale = table[r][j]
    pivot = table[r] = [x / scale for x in table[r]]
    for i, line in enumerate(table):
        if i != r and line[j]:
            factor = line[j]
            table[i] = [x - factor * y for x, y in zip(line, pivot, strict=True)]
    factor = cost[j]
    cost[:] = [x - factor * y for x, y in zip(cost, pivot[:-1], strict=True)]


def _prove(matrix: Sequence[Row], bound: Row, mass: fmpq, z: Row, row: Row, price: Row, found: fmpq) -> None:
    """Demand that a row and prices y show the value to be the least."""
    obeys = min(row) >= 0 and sum(row, _NOTHING) == mass and all(_dot(a, row) <= b for a, b in zip(matrix, bound, strict=True))
    worth = [value + sum((y * a[j] for y, a in zip(price, matrix, strict=True)), _NOTHING) for j, value in enumerate(z)]
    if not obeys or min(price, default=_NOTHING) < 0 or mass * min(worth) - _dot(price, bound) != found:
        raise SolveError("the simplex method ended at no optimum; this is a fault of the solver")


def _dot(a: Row, b: Row) -> fmpq:
    return sum((x * y for x, y in zip(a, b, strict=True)), _NOTHING)
