"""Projected evaluation by the book: one `Law` a state, mixed, shifted and projected as those are defined. Slow."""

from __future__ import annotations

import math

from banach.mdp.law import Law, mixture
from banach.mdp.law_distance import cramer, wasserstein, wasserstein_sup
from banach.solvers.projected_laws import Categorical

Laws = list[Law]


def begin(model, projection, ends) -> Laws:
    """The middle of the returns, projected, and terminal values."""
    problem = model.problem
    middle = projection.project(Law.point(sum(ends) / 2), ends)
    return [Law.point(float(problem.terminal_value[s])) if problem.terminal[s] else middle for s in range(model.n_states)]


def applied(model, policy, laws) -> Laws:
    """T, not projected."""
    found = []
    for s, law in enumerate(laws):
        if not model.problem.terminal[s]:
            rows = model.outcomes(s, int(policy[s]))
            moved = [laws[j].affine(float(r), model.discount) for _, r, j in rows]
            found.append(mixture([float(p) for p, _, _ in rows], moved))
        else:
            found.append(law)
    return found


def swept(model, policy, projection, ends, laws) -> tuple[Laws, float]:
    """A projected sweep, and the largest change in the projection's distance."""
    moved, problem = applied(model, policy, laws), model.problem
    after = [law if problem.terminal[s] else projection.project(law, ends) for s, law in enumerate(moved)]
    distance = cramer if isinstance(projection, Categorical) else wasserstein_sup
    return after, max(float(distance(a, b)) for a, b in zip(laws, after, strict=True))


def residual(model, policy, laws) -> float:
    """Largest W_1 distance of laws from T's."""
    return max(float(wasserstein(a, b)) for a, b in zip(laws, applied(model, policy, laws), strict=True))


def evaluated(model, policy, projection, ends, tol) -> tuple[Laws, float, int]:
    """The fixed point within tol, its error, and the sweeps."""
    laws, change, sweeps = begin(model, projection, ends), math.inf, 0
    while change > (1 - projection.factor(model.discount)) * tol:
        laws, change = swept(model, policy, projection, ends, laws)
        sweeps += 1
    return laws, residual(model, policy, laws) / (1 - model.discount), sweeps
