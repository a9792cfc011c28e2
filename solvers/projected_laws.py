r"""Laws of returns of a given size: projected distributional policy evaluation, categorical or quantile, with its error proved.

    eta <- Pi T_p eta,   Pi T_p contracts by sqrt(g) in Cramer's distance (categorical), by g in W_inf (quantiles),

from the middle of the returns until a sweep changes less than (1 - q) tol in that distance, q the factor. What was found is
then judged by T alone: T_p contracts in W_1, so that W_1(eta, law of the return) <= W_1(eta, T_p eta)/(1 - g) in the worst
state, whatever eta is. In W_1 itself the quantile projection may expand, and Pi T need not contract.

The sweeps are those of `banach.mdp.law_sweeps`, over the laws of all states in one array.

Bellemare, Dabney and Munos 2017, arXiv 1707.06887 (categorical); Dabney et al. 2018, arXiv 1710.10044 (quantiles); Rowland et
al. 2018, arXiv 1802.08163.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ..mdp.law import Law
from ..mdp.law_projection import categorical, quantile_projection
from ..mdp.law_sweeps import (
    PolicyRows,
    categorical_residual,
    categorical_sweep,
    policy_rows,
    quantile_residual,
    quantile_sweep,
)
from ..mdp.model import MDP
from ..mdp.outcome import OutcomeMDP, as_outcomes
from .distributional import policy_actions
from .errors import NotConverged, SolveError

_SWEEPS = 20_000
_NARROW = 2.0**-20
"""Share of their size within which all returns lie when the grid is widened: its points must be floats apart."""

Ends = tuple[float, float]


@dataclass(frozen=True)
class Categorical:
    """Onto `points` >= 2 equally spaced values from the least to the greatest return; the mean is kept.

    Its table holds distribution functions at the points, float64 (n, points). Raises SolveError for fewer points.
    """

    points: int = 51

    def __post_init__(self) -> None:
        _require_size("points", self.points, 2)

    def project(self, law: Law, ends: Ends) -> Law:
        """The categorical projection of a law of returns between the ends."""
        return categorical(law, np.linspace(*ends, self.points))

    def factor(self, discount: float) -> float:
        """By how much a projected sweep contracts in Cramer's distance: sqrt(discount)."""
        return math.sqrt(discount)

    def begin(self, model: OutcomeMDP, ends: Ends) -> np.ndarray:
        """The middle for certain, and terminal values, float64 (n, points)."""
        at = np.full(model.n_states, sum(ends) / 2)
        at[model.problem.terminal] = model.problem.terminal_value[model.problem.terminal]
        place = np.clip((at - ends[0]) / self.spacing(ends), 0, self.points - 1)
        return np.clip(np.arange(1, self.points + 1) - place[:, None], 0.0, 1.0)

    def sweep(self, rows: PolicyRows, ends: Ends, table: np.ndarray, out: np.ndarray) -> float:
        """out = a projected sweep of the table, both float64 (n, points). The largest change in Cramer's distance."""
        return math.sqrt(categorical_sweep(rows, ends[0], self.spacing(ends), table, out))

    def residual(self, rows: PolicyRows, ends: Ends, table: np.ndarray) -> float:
        """Largest W_1 distance of a table's law, float64 (n, points), from T's, not projected."""
        return categorical_residual(rows, ends[0], self.spacing(ends), table)

    def spacing(self, ends: Ends) -> float:
        """That of the grid."""
        return (ends[1] - ends[0]) / (self.points - 1)

    def laws(self, ends: Ends, table: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Atoms (points,), weights (n, points)."""
        rising = np.maximum.accumulate(table, axis=1)  # sums of products may fall by a rounding
        return np.linspace(*ends, self.points), np.diff(rising, axis=1, prepend=0.0)


@dataclass(frozen=True)
class Quantiles:
    """Onto `atoms` >= 1 values of equal weight; the mean may move.

    Its table holds the atoms in order, float64 (n, atoms). Raises SolveError for fewer atoms.
    """

    atoms: int = 51

    def __post_init__(self) -> None:
        _require_size("atoms", self.atoms, 1)

    def project(self, law: Law, ends: Ends) -> Law:
        """The quantile projection of a law; the ends do not matter."""
        del ends
        return quantile_projection(law, self.atoms)

    def factor(self, discount: float) -> float:
        """By how much a projected sweep contracts in W_inf: the discount."""
        return discount

    def begin(self, model: OutcomeMDP, ends: Ends) -> np.ndarray:
        """The middle for certain, and terminal values, float64 (n, atoms)."""
        at = np.where(model.problem.terminal, model.problem.terminal_value, sum(ends) / 2)
        return np.repeat(at[:, None], self.atoms, axis=1)

    def sweep(self, rows: PolicyRows, ends: Ends, table: np.ndarray, out: np.ndarray) -> float:
        """out = a projected sweep of the table, both float64 (n, atoms). The largest change in W_inf."""
        del ends
        return quantile_sweep(rows, table, out)

    def residual(self, rows: PolicyRows, ends: Ends, table: np.ndarray) -> float:
        """Largest W_1 distance of a table's law, float64 (n, atoms), from T's, not projected."""
        del ends
        return quantile_residual(rows, table)

    def laws(self, ends: Ends, table: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Atoms (n, atoms), weights (atoms,)."""
        del ends
        return table, np.full(self.atoms, 1 / self.atoms)


@dataclass(frozen=True, eq=False)
class ProjectedLaws:
    """Laws of all states, of m atoms each, and how far from those of the returns.

    atoms, weights: float64, one of them (n, m), the other (m,), what all states share: the grid, or equal weights. error: at
    most so far in W_1 from the law of the return, in every state, up to rounding. sweeps: applications of the operator.
    """

    model: OutcomeMDP
    atoms: np.ndarray
    weights: np.ndarray
    error: float
    sweeps: int

    def law(self, state: int) -> Law:
        """The law of a state; in a terminal one its value for certain. Raises SolveError for a state that there is not."""
        if not 0 <= state < self.model.n_states:
            raise SolveError(f"there is no state {state}; states are 0..{self.model.n_states - 1}")
        if self.model.problem.terminal[state]:
            return Law.point(float(self.model.problem.terminal_value[state]))
        return Law.of(*(each if each.ndim == 1 else each[state] for each in (self.atoms, self.weights)))

    @property
    def mean(self) -> np.ndarray:
        """The laws' expectations, float64 (n,)."""
        found = (self.atoms * self.weights).sum(axis=1)
        return np.where(self.model.problem.terminal, self.model.problem.terminal_value, found)


def projected_evaluation(
    problem: MDP | OutcomeMDP, policy: np.ndarray, projection: Categorical | Quantiles | None = None, tol: float = 1e-6
) -> ProjectedLaws:
    """The fixed point of projected evaluation of a discounted problem's policy, within tol in the projection's distance.

    policy: int (n,), actions; anything in terminal states. projection: default Categorical(51). tol: > 0.
    Memory is 16 n atoms bytes, half as much again at the end.
    Raises SolveError for a horizon, another policy, projection or tol, NotConverged after 20,000 sweeps.
    """
    model = as_outcomes(problem)
    if model.horizon is not None:
        raise SolveError(
            "projected evaluation is of discounted problems; return_laws evaluates policies over a horizon exactly"
        )
    if not tol > 0:
        raise SolveError(f"tol is {tol}; it must be > 0")
    chosen = Categorical() if projection is None else projection
    if not isinstance(chosen, Categorical | Quantiles):
        raise SolveError(f"the projection is {chosen!r}; give Categorical(points) or Quantiles(atoms)")
    rows, ends = policy_rows(model, policy_actions(model.problem, policy)), _ends(model)
    enough = (1 - chosen.factor(model.discount)) * tol
    table = chosen.begin(model, ends)
    out, change = table.copy(), math.inf
    for sweeps in range(1, _SWEEPS + 1):
        change = chosen.sweep(rows, ends, table, out)
        table, out = out, table
        if change <= enough:
            error = chosen.residual(rows, ends, table) / (1 - model.discount)
            return ProjectedLaws(model, *chosen.laws(ends, table), error, sweeps)
    raise NotConverged(f"a sweep still changes {change:.3g} after {_SWEEPS} sweeps; ask for a larger tol", reached=change)


def _ends(model: OutcomeMDP) -> Ends:
    """The least and the greatest return, or further apart where floats could not tell a grid's points between them."""
    low, high = model.returns_within()
    size = max(1.0, abs(low), abs(high))
    return (low, high) if high - low > size * _NARROW else (low - size, high + size)


def _require_size(name: str, given: int, least: int) -> None:
    if isinstance(given, bool) or int(given) != given or given < least:
        raise SolveError(f"{name} is {given!r}; give a whole number >= {least}")
