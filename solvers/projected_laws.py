r"""Laws of returns of a given size: projected distributional policy evaluation, categorical or quantile, with its error proved.

    eta <- Pi T_p eta,   Pi T_p contracts by sqrt(g) in Cramer's distance (categorical), by g in W_inf (quantiles),

from the middle of the returns until a sweep changes less than (1 - q) tol in that distance, q the factor. What was found is
then judged by T alone: T_p contracts in W_1, so that W_1(eta, law of the return) <= W_1(eta, T_p eta)/(1 - g) in the worst
state, whatever eta is. In W_1 itself the quantile projection may expand, and Pi T need not contract.

Bellemare, Dabney and Munos 2017, arXiv 1707.06887 (categorical); Dabney et al. 2018, arXiv 1710.10044 (quantiles); Rowland et
al. 2018, arXiv 1802.08163.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from ..mdp.law import Law, mixture
from ..mdp.law_distance import cramer, wasserstein, wasserstein_sup
from ..mdp.law_projection import categorical, quantile_projection
from ..mdp.model import MDP
from ..mdp.outcome import OutcomeMDP, as_outcomes
from .errors import NotConverged, SolveError

_SWEEPS = 20_000


class Projection(Protocol):
    """Brings laws to a size, and knows in which distance it does not expand."""

    def project(self, law: Law, ends: tuple[float, float]) -> Law:
        """The projection of a law of returns between the ends."""
        ...

    def factor(self, discount: float) -> float:
        """By how much a projected sweep contracts."""
        ...

    def distance(self, law: Law, other: Law) -> float:
        """The distance in which it does."""
        ...


@dataclass(frozen=True)
class Categorical:
    """Onto `points` >= 2 equally spaced values from the least to the greatest return; the mean is kept."""

    points: int = 51

    def project(self, law: Law, ends: tuple[float, float]) -> Law:
        """The categorical projection."""
        return categorical(law, np.linspace(*ends, self.points))

    def factor(self, discount: float) -> float:
        """sqrt(discount)."""
        return math.sqrt(discount)

    def distance(self, law: Law, other: Law) -> float:
        """Cramer's."""
        return cramer(law, other)


@dataclass(frozen=True)
class Quantiles:
    """Onto `atoms` >= 1 values of equal weight; the mean may move."""

    atoms: int = 51

    def project(self, law: Law, ends: tuple[float, float]) -> Law:
        """The quantile projection."""
        return quantile_projection(law, self.atoms)

    def factor(self, discount: float) -> float:
        """The discount."""
        return discount

    def distance(self, law: Law, other: Law) -> float:
        """W_inf."""
        return float(wasserstein_sup(law, other))


@dataclass(frozen=True, eq=False)
class ProjectedLaws:
    """laws: one a state. error: at most so far in W_1 from the law of the return, in every state, up to rounding. sweeps."""

    laws: list[Law]
    error: float
    sweeps: int


def projected_evaluation(
    problem: MDP | OutcomeMDP, policy: np.ndarray, projection: Projection | None = None, tol: float = 1e-6
) -> ProjectedLaws:
    """The fixed point of projected evaluation of a discounted problem's policy, within tol in the projection's distance.

    policy: int (n,), actions; anything in terminal states. projection: default Categorical(51). tol: > 0.
    Raises SolveError for a horizon, another policy or tol, NotConverged after 20,000 sweeps.
    """
    model = as_outcomes(problem)
    if model.horizon is not None:
        raise SolveError(
            "projected evaluation is of discounted problems; return_laws evaluates policies over a horizon exactly"
        )
    if not tol > 0:
        raise SolveError(f"tol is {tol}; it must be > 0")
    chosen: Any = Categorical() if projection is None else projection
    rows, (low, high) = _rows(model, policy), model.returns_within()
    ends = (low, high) if low < high else (low - 1.0, high + 1.0)
    worth = model.problem.terminal_value.tolist()
    laws = [Law.point((low + high) / 2) if rows[s] else Law.point(worth[s]) for s in range(model.n_states)]
    enough = (1 - chosen.factor(model.discount)) * tol
    change = math.inf
    for sweeps in range(1, _SWEEPS + 1):
        after = [chosen.project(law, ends) if rows[s] else law for s, law in enumerate(_applied(model, rows, laws))]
        change = max(chosen.distance(a, b) for a, b in zip(laws, after, strict=True))
        laws = after
        if change <= enough:
            residual = max(float(wasserstein(a, b)) for a, b in zip(laws, _applied(model, rows, laws), strict=True))
            return ProjectedLaws(laws, residual / (1 - model.discount), sweeps)
    raise NotConverged(f"a sweep still changes {change:.3g} after {_SWEEPS} sweeps; ask for a larger tol", reached=change)


def _rows(model: OutcomeMDP, policy: np.ndarray) -> list[list[tuple[float, float, int]]]:
    """(probability, reward, successor) of the policy's action in every state; none where it is terminal."""
    given = np.asarray(policy)
    if given.dtype.kind not in "iu" or given.shape != (model.n_states,):
        raise SolveError(
            f"the policy has shape {given.shape}, {given.dtype}; give an action of each state, ({model.n_states},)"
        )
    found = []
    for state in range(model.n_states):
        actions = model.actions(state)
        if len(actions) and int(given[state]) not in actions:
            raise SolveError(f"state {state}: the policy's action {given[state]} is not one of its {len(actions)}")
        rows = model.outcomes(state, int(given[state])) if len(actions) else []
        found.append([(float(p), float(r), j) for p, r, j in rows])
    return found


def _applied(model: OutcomeMDP, rows: list[list[tuple[float, float, int]]], laws: list[Law]) -> list[Law]:
    return [
        mixture([p for p, _, _ in row], [laws[j].affine(r, model.discount) for _, r, j in row]) if row else laws[s]
        for s, row in enumerate(rows)
    ]
