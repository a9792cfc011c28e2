"""Does the answer of a search over policies against finitely many models prove its bracket? Exact arithmetic.

The policy's value is at least `lower` in every model; the leaves cover all deterministic policies, each fixing the actions of
some states, and in one model none of a leaf's policies is worth more than `upper`. Certificates are verified by
`banach.solvers.check`.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from ..mdp.model import MDP
from ..mdp.restriction import limited, restricted
from .check import check
from .errors import CertificateRejected
from .static_robust import StaticSolution, fitting, mean, weights_of


def check_static(models: Sequence[MDP], solution: StaticSolution, initial: np.ndarray | int | None = None) -> int:
    """Verify a solution in exact arithmetic; how many inequalities were decided.

    initial: as in `solve_static`, a distribution (n,), a state or None.
    Raises CertificateRejected naming the model, or the leaf, whose proof fails, and SolveError for models that do not fit.
    """
    models, weights = fitting(models), weights_of(models, initial)
    if len(solution.values) != len(models):
        raise CertificateRejected(f"{len(solution.values)} certificates of the policy's value for {len(models)} models")
    rows = 0
    for index, (model, certificate) in enumerate(zip(models, solution.values, strict=True)):
        rows += check(restricted(model, solution.policy), certificate).rows
        if mean(weights, certificate.lower) < Fraction(solution.lower):
            raise CertificateRejected(f"model {index}: the policy is not proved to be worth {solution.lower!r} there")
    for number, leaf in enumerate(solution.leaves):
        if not 0 <= leaf.model < len(models):
            raise CertificateRejected(f"leaf {number}: there is no model {leaf.model}")
        rows += check(limited(models[leaf.model], leaf.fixed), leaf.certificate).rows
        if mean(weights, leaf.certificate.upper) > Fraction(solution.upper):
            raise CertificateRejected(f"leaf {number}: its policies are not proved to be worth at most {solution.upper!r}")
    everything = np.full(models[0].n_states, -1, dtype=np.int32)
    if not _covered(models[0], [leaf.fixed for leaf in solution.leaves], everything):
        raise CertificateRejected("the leaves do not cover all deterministic policies")
    return rows


def _covered(model: MDP, parts: list[np.ndarray], here: np.ndarray) -> bool:
    """Whether every policy that agrees with `here` agrees with one of the parts."""
    parts = [part for part in parts if ((part < 0) | (here < 0) | (part == here)).all()]
    if any(((part < 0) | (part == here)).all() for part in parts):
        return True
    if not parts:
        return False
    state = int(np.flatnonzero((parts[0] >= 0) & (here < 0))[0])
    for action in range(model.state_ptr[state + 1] - model.state_ptr[state]):
        there = here.copy()
        there[state] = action
        if not _covered(model, parts, there):
            return False
    return True
