r"""The checker for robust linear problems; see `banach.solvers.check`. For maximisation, T with nature's choice inside:

    lower <= T_p lower,    T upper <= upper,    row k of T:  r_k + sum_i phi_ki g sigma_i(v),

stage by stage where the horizon is finite, and g times the mass of every row nature may choose below one where it is not; then
lower <= v_p <= v* <= upper as for other robust problems. Each factor's sigma_i is decided exactly, or in balls as narrow as
needed (`banach.solvers.exact_ambiguity`), once for all rows; the rows are compared in floats with their rounding, and where
these cannot tell in rationals. No code is shared with the sweeps or the sets' kernels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
from flint import fmpq

from ..mdp.criterion import FiniteHorizon
from ..mdp.linear_robust import LinearRobustMDP
from .certificate import Certificate
from .errors import CertificateRejected
from .exact_ambiguity import rational, sigma

_BITS = (96, 256, 640)
"""Accuracies at which divergences are tried in turn."""

_UNIT = 2.0**-53
_TINY = 2.0**-1000

Bounds = tuple[list[fmpq], list[fmpq]]


def check_linear_robust(problem: LinearRobustMDP, certificate: Certificate) -> tuple[int, int]:
    """Inequalities decided for a maximisation problem, and how many needed exact arithmetic.

    Raises CertificateRejected naming the state and the action where the proof fails.
    """
    staged = isinstance(problem.criterion, FiniteHorizon)
    horizon = problem.criterion.horizon if isinstance(problem.criterion, FiniteHorizon) else 1
    n = problem.n_states
    _shapes(certificate, (horizon + 1, n) if staged else (n,), (horizon, n) if staged else (n,))
    lower, upper, policy = certificate.lower, certificate.upper, certificate.policy
    if not staged:
        _require_contraction(problem)
        return _stage(problem, (lower, lower), (upper, upper), policy, "")
    _held(problem, lower[-1], upper[-1], np.ones(n, dtype=np.bool_), " at the last stage")
    rows = exact = 0
    for stage in range(horizon):
        now = slice(stage, stage + 2)
        decided, needed = _stage(problem, tuple(lower[now]), tuple(upper[now]), policy[stage], f" at stage {stage}")
        rows, exact = rows + decided, exact + needed
    return rows, exact


def _stage(
    problem: LinearRobustMDP, lower: tuple[np.ndarray, ...], upper: tuple[np.ndarray, ...], policy: np.ndarray, where: str
) -> tuple[int, int]:
    """Prove lower[0] <= T_policy lower[1] and T upper[1] <= upper[0]."""
    model = problem.problem
    acting, count = ~problem.terminal, np.diff(model.state_ptr)
    for state in np.flatnonzero(np.where(acting, (policy < 0) | (policy >= count), policy != -1))[:1]:
        raise CertificateRejected(f"state {state}: the policy's action {policy[state]} is not one of its {count[state]}{where}")
    _held(problem, lower[0], upper[0], problem.terminal, where)
    pairs = (model.state_ptr[:-1] + policy)[acting].astype(np.int64)
    exact = _prove(problem, pairs, lower[1], lower[0], 1, f"lower <= T_policy lower{where}")
    exact += _prove(problem, np.arange(model.n_pairs), upper[1], upper[0], -1, f"T upper <= upper{where}")
    return len(pairs) + model.n_pairs, exact


def _prove(problem: LinearRobustMDP, pairs: np.ndarray, x: np.ndarray, y: np.ndarray, side: int, what: str) -> int:
    """Prove side (q_k(x) - y_s) >= 0 for all pairs; how many rows needed exact arithmetic."""
    factors = factors_at(problem, x, _BITS[0])
    left = pairs[~_surely(problem, pairs, factors[0 if side > 0 else 1], y, side)]
    needed = len(left)
    for bits in _BITS:
        low, high = factors_at(problem, x, bits) if len(left) and bits > _BITS[0] else factors
        left = np.array([k for k in left.tolist() if not _holds(problem, k, (low, high), y, side, what)], dtype=np.int64)
        if not len(left):
            return needed
    raise CertificateRejected(f"{_place(problem, int(left[0]))}: {what} does not hold, as far as can be told")


def factors_at(problem: LinearRobustMDP, x: np.ndarray, bits: int = _BITS[0]) -> Bounds:
    """Bounds of g sigma_i at a vector (n_states,) for each factor; equal for polyhedral sets."""
    discount, turned = rational(problem.problem.discount), -1 if problem.optimistic else 1
    worth, found = [discount * rational(v) for v in x.tolist()], []
    for part in problem.parts:
        table = part.problem
        for pair in range(table.n_pairs):
            row = slice(int(table.row_ptr[pair]), int(table.row_ptr[pair + 1]))
            z = [turned * worth[j] for j in table.successor[row].tolist()]
            nominal = [rational(p) for p in table.probability[row].tolist()]
            low, high = sigma(part.set_of(pair), nominal, z, part.entries_of(pair), bits)
            found.append((low, high) if turned > 0 else (-high, -low))
    return [low for low, _ in found], [high for _, high in found]


def _surely(problem: LinearRobustMDP, pairs: np.ndarray, factors: Sequence[fmpq], y: np.ndarray, side: int) -> np.ndarray:
    """Whether floats prove side (r_k + phi_k.factors - y_s) >= 0, bool (len(pairs),)."""
    with np.errstate(all="ignore"):
        worth = np.array([_float(number) for number in factors])
        features, reward = problem.features[pairs], problem.reward[pairs]
        floor = y[problem.problem.pair_state[pairs]]
        margin = side * (reward + features @ worth - floor)
        size = np.abs(reward) + features @ np.abs(worth) + np.abs(floor)
        return margin >= 1.01 * (problem.n_factors + 12) * _UNIT * size + _TINY


def _float(number: fmpq) -> float:
    try:
        return float(Fraction(int(number.p), int(number.q)))
    except OverflowError:
        return math.nan


def _holds(problem: LinearRobustMDP, pair: int, factors: Bounds, y: np.ndarray, side: int, what: str) -> bool:
    """Whether side (q_k - y_s) >= 0 is proved. Raises CertificateRejected where the contrary is."""
    low, high = (rational(float(problem.reward[pair])) for _ in range(2))
    for share, least, most in zip(problem.features[pair].tolist(), *factors, strict=True):
        if share:
            low, high = low + rational(share) * least, high + rational(share) * most
    floor = rational(float(y[problem.problem.pair_state[pair]]))
    if (high < floor) if side > 0 else (low > floor):
        raise CertificateRejected(f"{_place(problem, pair)}: {what} does not hold")
    return bool(low >= floor if side > 0 else high <= floor)


def _require_contraction(problem: LinearRobustMDP) -> None:
    """Demand g times the mass of every row of nature's below one."""
    discount = rational(problem.problem.discount)
    if discount * (1 + fmpq(1, 10**7)) < 1:
        return
    masses = []
    for factor, row in enumerate(problem.factors.tolist()):
        chosen = problem.set_of(factor)
        rows = [row] if chosen.keeps_mass else chosen.rows.tolist()  # pyright: ignore[reportAttributeAccessIssue]
        masses.append(max(sum(map(rational, one), fmpq(0)) for one in rows))
    for pair, shares in enumerate(problem.features.tolist()):
        if discount * sum((rational(s) * mass for s, mass in zip(shares, masses, strict=True)), fmpq(0)) >= 1:
            raise CertificateRejected(f"{_place(problem, pair)}: discount times the sum of the row is not below one")


def _held(problem: LinearRobustMDP, lower: np.ndarray, upper: np.ndarray, states: np.ndarray, where: str) -> None:
    worth = problem.problem.terminal_value
    for state in np.flatnonzero(states & ((lower > worth) | (upper < worth)))[:1]:
        raise CertificateRejected(
            f"terminal state {state}: its value {worth[state]} is not in [{lower[state]}, {upper[state]}]{where}"
        )


def _shapes(certificate: Certificate, values: tuple[int, ...], actions: tuple[int, ...]) -> None:
    for name in ("lower", "upper"):
        vector = getattr(certificate, name)
        if vector.shape != values or vector.dtype != np.float64 or not np.isfinite(vector).all():
            raise CertificateRejected(f"{name} has shape {vector.shape}, {vector.dtype}; it must be {values}, finite float64")
    if certificate.policy.shape != actions or certificate.policy.dtype.kind != "i":
        raise CertificateRejected(f"the policy has shape {certificate.policy.shape}; it must be {actions}, integers")
    if certificate.witness:
        raise CertificateRejected(f"a robust proof needs no further vectors; it has {sorted(certificate.witness)}")


def _place(problem: LinearRobustMDP, pair: int) -> str:
    state = int(problem.problem.pair_state[pair])
    return f"state {state}, action {pair - int(problem.problem.state_ptr[state])}"
