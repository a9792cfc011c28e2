r"""Solve a quotient, and prove the answer for the problem itself.

The states are merged (`banach.solvers.bisimulation`, actions matched by what they do), the quotient is solved, and its value w
lifted, v(s) = w([s]). What is proved is proved for the original:

Discounted      one pass over the original encloses T v - v, which gives the bracket of MacQueen and Porteus round v
                (`banach.solvers.bracket`). The residual is at most that of w plus

                    eta = eps_r + g (eps_p / 2) span(w),        eps_r, eps_p the distances of rewards and of rows from the
                    quotient's,

                so after merging within windows the bracket is at most 2 eta / (1 - g) wider than w's, and as a rule much less.

FiniteHorizon   the quotient's bounds, lifted and moved apart by E_t = eta_t + g E_{t+1}, E_H = 0: no pass at all.

TotalReward, AverageReward      the quotient's proof, lifted as it stands, and checked. Where the rounding of merged
probabilities has
                spoilt it, the original is solved from the lifted vector on.

Dean, Givan and Leach, UAI 1997; Even-Dar and Mansour, COLT 2003; Abel, Hershkowitz and Littman, ICML 2016.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.sparse

from ..mdp.criterion import Discounted, FiniteHorizon
from ..mdp.model import MDP
from ..mdp.quotient import Quotient, quotient
from ..mdp.sweeps import UNIT_ROUNDOFF
from ..mdp.validation import is_real
from .answer import Answer
from .bisimulation import coarsest_bisimulation
from .bracket import inductive_bracket
from .certificate import Certificate
from .check import check
from .errors import CertificateRejected, InfiniteValue, SolveError
from .watch import Watch

Route = Callable[..., Answer]

_SHARE = 0.5
"""Part of eps that the quotient is solved to."""


def require_reducible(problem: Any, reduce: float) -> None:
    """Raise SolveError for a `reduce` that makes no sense, or a problem whose states cannot be merged so."""
    if not (is_real(reduce) and 0 <= reduce < math.inf):
        raise SolveError(f"reduce is {reduce!r}; it must be a number >= 0, by which merged states may differ, or None")
    if not isinstance(problem, MDP):
        raise SolveError(f"reduce merges the states of an MDP; for {type(problem).__name__} leave it out")
    if reduce > 0 and not isinstance(problem.criterion, Discounted | FiniteHorizon):
        raise SolveError(f"without discount nothing bounds what merging costs; give reduce=0 for {problem.criterion}")


def solve_reduced(
    problem: MDP, route: Route, method: Any, eps: float, start: np.ndarray | None, watch: Watch, reduce: float
) -> Answer:
    """Answer of a maximisation problem, through a quotient whose classes agree within `reduce`. start: (n_states,) or None.

    Raises what the route raises. The bracket is no wider than eps if reduce is 0.
    """
    merged = quotient(problem, coarsest_bisimulation(problem, actions="any", labels=(), within=reduce))
    first = None if start is None else start[np.unique(merged.partition.states, return_index=True)[1]]
    try:
        small = route(merged.model, method, _SHARE * eps, first, watch)
    except InfiniteValue:  # told of the problem's own states
        return route(problem, method, eps, start, watch)
    reason = f"{merged.model.n_states} classes for {problem.n_states} states; {small.reason}"
    if isinstance(problem.criterion, FiniteHorizon):
        lifted = _staged(problem, merged, small)
    elif isinstance(problem.criterion, Discounted):
        lifted = _discounted(problem, merged, small)
    else:
        lifted = _as_it_stands(problem, merged, small)
    if lifted is not None and (reduce > 0 or float(np.max(lifted[1] - lifted[0], initial=0.0)) <= eps):
        lower, upper, policy = lifted
        witness = {name: merged.lift_value(vector) for name, vector in small.witness.items()}
        return Answer(lower, upper, policy, small.method, reason, witness)
    answer = route(problem, method, eps, _middle(merged, small), watch)
    return Answer(answer.lower, answer.upper, answer.policy, answer.method, f"from {reason}", answer.witness)


Lifted = tuple[np.ndarray, np.ndarray, np.ndarray]


def _middle(merged: Quotient, small: Answer) -> np.ndarray:
    """The lifted centre of the bracket, or of the bias vectors where the bracket is of a gain."""
    low, high = small.witness.get("lower_bias", small.lower), small.witness.get("upper_bias", small.upper)
    return merged.lift_value(low + (high - low) / 2)


def _discounted(problem: MDP, merged: Quotient, small: Answer) -> Lifted | None:
    if problem.operator.modulus >= 1:
        return None
    value = _middle(merged, small)
    value[problem.terminal] = problem.terminal_value[problem.terminal]
    return inductive_bracket(problem.operator, value)


def _as_it_stands(problem: MDP, merged: Quotient, small: Answer) -> Lifted | None:
    lower, upper = merged.lift_value(small.lower), merged.lift_value(small.upper)
    policy = merged.lift_policy(small.policy)
    witness = {name: merged.lift_value(vector) for name, vector in small.witness.items()}
    try:
        check(problem, Certificate(lower, upper, policy, problem, witness))
    except CertificateRejected:
        return None
    return lower, upper, policy


def _staged(problem: MDP, merged: Quotient, small: Answer) -> Lifted:
    """The bounds of every stage, (horizon + 1, n_states), moved apart by what merging may cost until the end."""
    rewards, rows, gap = distances(merged)
    lower, upper, discount = small.lower.copy(), small.upper.copy(), problem.discount
    mass = float(_row_sums(problem).max(initial=0.0)) * (1 + 1e-12)
    below = above = 0.0
    for stage in range(problem.criterion.horizon - 1, -1, -1):  # pyright: ignore[reportAttributeAccessIssue]
        below = _grown(rewards, rows, gap, discount, mass, below, small.lower[stage + 1])
        above = _grown(rewards, rows, gap, discount, mass, above, small.upper[stage + 1])
        lower[stage] = np.nextafter(lower[stage] - below, -np.inf) if below else lower[stage]
        upper[stage] = np.nextafter(upper[stage] + above, np.inf) if above else upper[stage]
    return merged.lift_value(lower), merged.lift_value(upper), merged.lift_policy(small.policy)


def _grown(rewards: float, rows: float, gap: float, discount: float, mass: float, later: float, value: np.ndarray) -> float:
    """E_t from E_{t+1} and the quotient's bound at t + 1, rounding of the moved bounds included."""
    high, low = float(value.max()), float(value.min())
    centre, size = abs(high / 2 + low / 2), max(abs(high), abs(low))
    eta = rewards + discount * (rows * (high - low) / 2 + gap * centre)
    rounding = 4 * UNIT_ROUNDOFF * (size + later) if later else 0.0
    return (eta + discount * mass * (later + rounding)) * (1 + 16 * UNIT_ROUNDOFF)


def distances(merged: Quotient) -> tuple[float, float, float]:
    """By how much the original's pairs differ from those of the quotient that they are merged into, rounded upwards.

    The greatest |reward difference|, L1 distance of rows over classes, and |difference of row sums|.
    """
    original, small = merged.original, merged.model
    if not original.n_pairs:
        return 0.0, 0.0, 0.0
    into = merged.quotient_pair
    rows = scipy.sparse.csr_array(
        (original.probability, merged.partition.states[original.successor], original.row_ptr),
        shape=(original.n_pairs, small.n_states),
    )
    theirs = scipy.sparse.csr_array((small.probability, small.successor, small.row_ptr), shape=(small.n_pairs, small.n_states))
    gap = scipy.sparse.csr_array(rows - theirs[into])
    error = 8.0 * (int(np.diff(original.row_ptr).max()) + int(np.diff(small.row_ptr).max()) + 4) * UNIT_ROUNDOFF
    far = np.asarray(abs(gap).sum(axis=1)).max() + error
    sums = np.abs(np.asarray(gap.sum(axis=1))).max() + error
    reward = float(np.abs(original.reward - small.reward[into]).max())
    return (float(np.nextafter(reward, np.inf)) if reward else 0.0), float(far), float(sums)


def _row_sums(problem: MDP) -> np.ndarray:
    return np.add.reduceat(problem.probability, problem.row_ptr[:-1]) if problem.n_pairs else np.zeros(0)
