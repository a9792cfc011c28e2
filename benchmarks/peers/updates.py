r"""General solvers on one state's s-rectangular update, the only way to have one without a solver of its own:

    min t      with p_a.z_a <= t and p_a in the simplex for every action a,      sum_a D(p_a, pbar_a) <= kappa.

highs           the L1 program, p = pbar + gained - lost, as arrays: 2 A + 1 rows; built anew for each state
cvxpy:highs     the L1 program as it is written, with parameters (DPP): compiled once, filled in for each state
cvxpy:clarabel  the Kullback-Leibler and the chi-square program, likewise
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..competitor import Competitor, Result

METHODS = {"l1": ("highs", "cvxpy:highs"), "kl": ("cvxpy:clarabel",), "chi2": ("cvxpy:clarabel",)}


def competitor(distance: str, nominal: np.ndarray, value: np.ndarray, radius: float, method: str) -> Competitor:
    """The updates of K states in turn, nominal and value (K, A, n)."""
    build = _highs if method == "highs" else lambda *rows: _cvxpy(distance, method.partition(":")[2].upper(), *rows)
    return Competitor(method, lambda: build(nominal, value, radius), updates=len(nominal))


def _highs(nominal: np.ndarray, value: np.ndarray, radius: float) -> Callable[[], Result]:
    import highspy

    solver = highspy.Highs()
    solver.setOptionValue("output_flag", False)
    solver.setOptionValue("threads", 1)

    def update(p: np.ndarray, z: np.ndarray) -> float:
        status = solver.passModel(_program(p, z, radius))
        if status == highspy.HighsStatus.kError or solver.run() != highspy.HighsStatus.kOk:
            raise RuntimeError("HiGHS gave up")
        return solver.getInfo().objective_function_value

    return lambda: Result(np.array([update(*state) for state in zip(nominal, value, strict=True)]))


def _program(p: np.ndarray, z: np.ndarray, radius: float) -> Any:
    """Columns: gained (A, n), lost (A, n) <= pbar, t. Rows: (gained - lost).z_a - t <= -pbar.z_a; sums equal; the budget."""
    import highspy

    actions, n = p.shape
    columns, infinity = 2 * actions * n + 1, highspy.kHighsInf
    program = highspy.HighsLp()
    program.num_col_, program.num_row_ = columns, 2 * actions + 1
    program.col_cost_ = np.append(np.zeros(columns - 1), 1.0)
    program.col_lower_ = np.append(np.zeros(columns - 1), -infinity)
    program.col_upper_ = np.concatenate((np.full(actions * n, infinity), p.ravel(), [infinity]))
    program.row_lower_ = np.concatenate((np.full(actions, -infinity), np.zeros(actions), [-infinity]))
    program.row_upper_ = np.concatenate((-(p * z).sum(axis=1), np.zeros(actions), [radius]))
    action = np.repeat(np.arange(actions), n)
    rows = np.stack((action, actions + action, np.full(actions * n, 2 * actions)), axis=1)
    worth, one = z.ravel(), np.ones(actions * n)
    gained, lost = np.stack((worth, one, one), axis=1), np.stack((-worth, -one, one), axis=1)
    program.a_matrix_.format_ = highspy.MatrixFormat.kColwise
    program.a_matrix_.start_ = np.append(np.arange(0, 3 * columns - 2, 3), 3 * (columns - 1) + actions).astype(np.int32)
    program.a_matrix_.index_ = np.concatenate((rows.ravel(), rows.ravel(), np.arange(actions))).astype(np.int32)
    program.a_matrix_.value_ = np.concatenate((gained.ravel(), lost.ravel(), -np.ones(actions)))
    return program


def _cvxpy(distance: str, solver: str, nominal: np.ndarray, value: np.ndarray, radius: float) -> Callable[[], Result]:
    import cvxpy as cp

    shape = nominal.shape[1:]
    p, t = cp.Variable(shape, nonneg=True), cp.Variable()
    z, row = cp.Parameter(shape), cp.Parameter(shape)  # the nominal row, its logarithm, or its square root
    inverse = cp.Parameter(shape)
    spent = {
        "l1": cp.sum(cp.abs(p - row)),
        "kl": cp.sum(-cp.entr(p) - cp.multiply(p, row)),
        "chi2": cp.sum_squares(cp.multiply(p, inverse) - row),
    }[distance]
    problem = cp.Problem(cp.Minimize(t), [cp.sum(cp.multiply(p, z), axis=1) <= t, cp.sum(p, axis=1) == 1, spent <= radius])

    def update(pbar: np.ndarray, worth: np.ndarray) -> float:
        z.value = worth
        row.value = {"l1": pbar, "kl": np.log(pbar), "chi2": np.sqrt(pbar)}[distance]
        inverse.value = 1 / np.sqrt(pbar)
        problem.solve(solver=solver)
        return float(t.value)

    return lambda: Result(np.array([update(*state) for state in zip(nominal, value, strict=True)]))
