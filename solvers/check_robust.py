r"""The checker for robust problems; see `banach.solvers.check`. For maximisation, T with nature's choice inside:

Discounted      lower <= T_p lower and T upper <= upper, g times the mass of every row nature may choose below one, terminal
                values between. T and T_p are monotone contractions, whatever nature's sets: T_p^k lower increases to the value
                v_p that the policy guarantees, T^k upper decreases to v*, so lower <= v_p <= v* <= upper.

FiniteHorizon   lower_t <= T_p lower_{t+1} and T upper_{t+1} <= upper_t, terminal values between at the last stage.

A row is decided in floats with their rounding bounds (`banach.solvers.filter_robust`), and where these cannot tell exactly
(`banach.solvers.exact_ambiguity`), divergences with more bits until they can: a point of nature's set proves a row small, the
dual proves it large. No code is shared with the sweeps or the sets' kernels.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from flint import fmpq

from ..mdp.ambiguity.ambiguity_set import AmbiguitySet
from ..mdp.criterion import FiniteHorizon
from ..mdp.robust import RobustMDP
from .certificate import Certificate
from .errors import CertificateRejected
from .exact import row_sum_at_least, sign_of_sum
from .exact_ambiguity import rational, sigma
from .filter_robust import enclosed_rows

BITS = (64, 192, 512)
"""Accuracies at which a divergence's row is tried in turn."""


def check_robust(problem: RobustMDP, certificate: Certificate) -> tuple[int, int]:
    """Inequalities decided for a maximisation problem, and how many needed exact arithmetic.

    Raises CertificateRejected naming the state and the action where the proof fails.
    """
    lower, upper, policy = certificate.lower, certificate.upper, certificate.policy
    n, staged = problem.n_states, isinstance(problem.criterion, FiniteHorizon)
    horizon = problem.criterion.horizon if isinstance(problem.criterion, FiniteHorizon) else 1
    demand("lower", lower, (horizon + 1, n) if staged else (n,))
    demand("upper", upper, (horizon + 1, n) if staged else (n,))
    if certificate.witness:
        raise CertificateRejected(f"a robust proof needs no further vectors; it has {sorted(certificate.witness)}")
    shape = (horizon, n) if staged else (n,)
    if policy.shape != shape or policy.dtype.kind != "i":
        raise CertificateRejected(f"the policy has shape {policy.shape}, {policy.dtype}; it must be {shape}, integers")
    if not staged:
        require_contraction(problem)
        terminals(problem, lower, upper, "")
        return _stage(problem, (lower, lower), (upper, upper), policy, "")
    worth = problem.terminal_value
    for state in np.flatnonzero((lower[-1] > worth) | (upper[-1] < worth))[:1]:
        raise CertificateRejected(
            f"last stage, state {problem.problem.state_of(int(state))}: the terminal value {worth[state]} is not in "
            f"[{lower[-1, state]}, {upper[-1, state]}]"
        )
    rows = exact = 0
    for stage in range(horizon):
        where = f" at stage {stage}"
        terminals(problem, lower[stage], upper[stage], where)
        now = slice(stage, stage + 2)
        decided, needed = _stage(problem, tuple(lower[now]), tuple(upper[now]), policy[stage], where)
        rows, exact = rows + decided, exact + needed
    return rows, exact


def _stage(
    problem: RobustMDP, lower: tuple[np.ndarray, ...], upper: tuple[np.ndarray, ...], policy: np.ndarray, where: str
) -> tuple[int, int]:
    """Prove lower[0] <= T_policy lower[1] and T upper[1] <= upper[0]."""
    model = problem.problem
    acting, count = ~problem.terminal, np.diff(model.state_ptr)
    for state in np.flatnonzero(np.where(acting, (policy < 0) | (policy >= count), policy != -1))[:1]:
        raise CertificateRejected(
            f"state {model.state_of(int(state))}: the policy's action {policy[state]} is not one of its {count[state]}{where}"
        )
    pairs = (model.state_ptr[:-1] + policy)[acting].astype(np.int64)
    exact = _prove(problem, pairs, lower[1], lower[0], 1, f"lower <= T_policy lower{where}")
    exact += _prove(problem, np.arange(model.n_pairs), upper[1], upper[0], -1, f"T upper <= upper{where}")
    return len(pairs) + model.n_pairs, exact


def _prove(problem: RobustMDP, pairs: np.ndarray, x: np.ndarray, y: np.ndarray, side: int, what: str) -> int:
    """Prove side (r_k + sigma_k(z) - y_s) >= 0 for all pairs; how many rows needed exact arithmetic."""
    low, high = enclosed_rows(problem, pairs, x)
    floor = y[problem.problem.pair_state[pairs]]
    holds, fails = (low >= floor, high < floor) if side > 0 else (high <= floor, low > floor)
    for place in np.flatnonzero(fails)[:1]:
        raise CertificateRejected(f"{place_of(problem, int(pairs[place]))}: {what} does not hold")
    open_ = np.flatnonzero(~holds)
    for place in open_:
        pair = int(pairs[place])
        if not _holds(problem, pair, x, float(floor[place]), side):
            raise CertificateRejected(f"{place_of(problem, pair)}: {what} does not hold")
    return len(open_)


def _holds(problem: RobustMDP, pair: int, x: np.ndarray, floor: float, side: int) -> bool:
    """Whether side (r_k + sigma_k(z) - floor) >= 0 is proved in exact arithmetic."""
    model, chosen = problem.problem, problem.set_of(pair)
    row = slice(int(model.row_ptr[pair]), int(model.row_ptr[pair + 1]))
    discount, turned = rational(model.discount), -1 if problem.optimistic else 1
    z = [discount * rational(v) for v in x[model.successor[row]].tolist()]
    if problem.transition_reward is not None:
        z = [v + rational(r) for v, r in zip(z, problem.transition_reward[row].tolist(), strict=True)]
    nominal, goal = (
        [rational(p) for p in model.probability[row].tolist()],
        rational(floor) - rational(float(model.reward[pair])),
    )
    for bits in BITS:
        low, high = _extreme(chosen, nominal, z, problem.entries_of(pair), turned, bits)
        if (low >= goal) if side > 0 else (high <= goal):
            return True
        if (high < goal) if side > 0 else (low > goal):
            return False
    return False


def _extreme(
    chosen: AmbiguitySet, nominal: list[fmpq], z: list[fmpq], entries: np.ndarray, turned: int, bits: int
) -> tuple[fmpq, fmpq]:
    """Bounds of what nature makes of z: the least, or for turned = -1 the greatest, p.z."""
    low, high = sigma(chosen, nominal, [turned * v for v in z], entries, bits)
    return (low, high) if turned > 0 else (-high, -low)


def require_contraction(problem: RobustMDP) -> None:
    """Demand g times the mass of every row of nature's below one. Raises CertificateRejected."""
    model = problem.problem
    for pair in range(model.n_pairs) if model.discount * (1 + 2e-9) >= 1 else ():
        chosen: Any = problem.set_of(pair)
        rows = np.empty((0, 0)) if chosen.keeps_mass else chosen.rows
        heavy = [sign_of_sum([(model.discount, p) for p in row] + [(-1.0,)]) >= 0 for row in rows.tolist()]
        if any(heavy) or (not heavy and row_sum_at_least(model, pair, model.discount)):
            raise CertificateRejected(f"{place_of(problem, pair)}: discount times the sum of the row is not below one")


def terminals(problem: RobustMDP, lower: np.ndarray, upper: np.ndarray, where: str) -> None:
    """Demand the terminal values between the bounds (n_states,). Raises CertificateRejected."""
    worth = problem.terminal_value
    for state in np.flatnonzero(problem.terminal & ((lower > worth) | (upper < worth)))[:1]:
        raise CertificateRejected(
            f"terminal state {problem.problem.state_of(int(state))}: its value {worth[state]} is not in "
            f"[{lower[state]}, {upper[state]}]{where}"
        )


def demand(name: str, vector: np.ndarray, shape: tuple[int, ...], infinite: bool = False) -> None:
    """Demand float64 of a shape, without NaN, and unless `infinite` finite. Raises CertificateRejected."""
    if vector.shape != shape or vector.dtype != np.float64:
        raise CertificateRejected(f"{name} has shape {vector.shape}, {vector.dtype}; it must be {shape}, float64")
    for place in np.argwhere(np.isnan(vector) if infinite else ~np.isfinite(vector))[:1]:
        raise CertificateRejected(f"{name} of state {int(place[-1])} is not finite")


def place_of(problem: RobustMDP, pair: int) -> str:
    """The words for a pair."""
    model = problem.problem
    state = int(model.pair_state[pair])
    return f"state {model.state_of(state)}, action {model.action_of(state, pair - int(model.state_ptr[state]))}"
