r"""The checker of stock certificates: exact arithmetic, no code shared with the sweeps.

With F the certificate's lower function, held at lattice points and by two tails, and f of slopes p, q (lo the smaller, hi the
larger), let F' be the largest of: the cones A_i + lo (c - z_i)_+ - hi (z_i - c)_+, the left tail (q c + A_0 up to z_left, then
rising by lo), the right one (p c + A_{m+1} from z_right, before that falling by hi). F' has slopes in [lo, hi], and so has
B_a F' for every action. Hence, if

    at every lattice point from z_left to z_right        (B_a F)(z_i) >= A_i         with a the certificate's action there,
    of the tails       A_0 <= E_a[q r + g A_0'],  A_{m+1} <= E_a[p r + g A'_{m+1}],
    the tails lead into tails       z_left + r <= g z_left',  z_right + r >= g z_right',  and past the terminal values,

then B_p F' >= F' for every real stock (F <= F', where the first line reads it). By monotony, and contraction or backward
induction, F' lies below what the policy reaches that takes the action of the largest piece. The upper function likewise with
smallest in place of largest, for all actions. Whether an inequality holds is decided in floats with an error bound where that
can tell, in Fractions where it cannot.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np

from ..mdp.model import MDP
from ..mdp.outcome import OutcomeMDP, as_outcomes
from .check import Verdict
from .distributional_check import require_lattice
from .errors import CertificateRejected
from .stock_lattice import StockCertificate, held

_UNIT = 2.0**-52


def check_stock(problem: MDP | OutcomeMDP, certificate: StockCertificate) -> Verdict:
    """Verify the certificate in exact arithmetic. Verdict's width is the largest upper - lower at lattice points of stage 0.

    Raises CertificateRejected naming the first state and stock where the proof fails.
    """
    model = as_outcomes(problem)
    if certificate.fingerprint != model.fingerprint:
        raise CertificateRejected(
            f"the certificate speaks of model {certificate.fingerprint[:12]}..., this is {model.fingerprint[:12]}..."
        )
    _shapes(model, certificate)
    _tails(model, certificate)
    rows = exact = 0
    for stage in range(1 if model.horizon is None else model.horizon):
        for state in np.flatnonzero(~model.problem.terminal).tolist():
            for up in (False, True):
                done = _state(model, certificate, stage, state, up)
                rows, exact = rows + done[0], exact + done[1]
    left, right = (int(place) + 1 for place in certificate.tails[0])
    gap = (certificate.upper - certificate.lower)[0][~model.problem.terminal, left : right + 1]
    return Verdict(float(gap.max(initial=0.0)), rows, exact)


def _shapes(model: OutcomeMDP, proof: StockCertificate) -> None:
    require_lattice(proof.lattice)
    stages = 1 if model.horizon is None else model.horizon + 1
    points = proof.lattice.points
    shape = (stages, model.n_states, points + 2)
    for name, table in (("lower", proof.lower), ("upper", proof.upper)):
        if table.shape != shape or table.dtype != np.float64 or not np.isfinite(table).all():
            raise CertificateRejected(f"{name} has shape {table.shape}, {table.dtype}; it must be finite float64, {shape}")
    wanted = shape if model.horizon is None else (model.horizon, *shape[1:])
    if proof.policy.shape != wanted or proof.policy.dtype.kind != "i":
        raise CertificateRejected(f"the policy has shape {proof.policy.shape}, {proof.policy.dtype}; it must be {wanted}")
    count = np.diff(model.problem.state_ptr)[None, :, None]
    acting = ~model.problem.terminal[None, :, None]
    if (acting & ((proof.policy < 0) | (proof.policy >= count))).any():
        raise CertificateRejected("the policy names an action that a state does not have")
    tails = proof.tails
    if tails.shape != (stages, 2) or (tails < 0).any() or (tails >= points).any() or (tails[:, 0] > tails[:, 1]).any():
        raise CertificateRejected("the tails do not begin at lattice points in order")


def _tails(model: OutcomeMDP, proof: StockCertificate) -> None:
    """Tails lead into tails, whatever happens, and terminal values keep the sign."""
    g, h, first = Fraction(model.discount), Fraction(proof.lattice.spacing), proof.lattice.first
    used = model.problem.probability > 0
    least = Fraction(float(model.earned[0][used].min(initial=0.0)))
    most = Fraction(float(model.earned[1][used].max(initial=0.0)))
    worth = [Fraction(w) for w in model.problem.terminal_value[model.problem.terminal].tolist()]
    ends = [((first + int(a)) * h, (first + int(b)) * h) for a, b in proof.tails]
    following = ends if model.horizon is None else ends[1:]
    for (left, right), (left_after, right_after) in zip(ends, following, strict=False):
        if left + most > g * left_after or right + least < g * right_after:
            raise CertificateRejected(f"the tails from {float(left)} and {float(right)} do not lead into tails")
    last = [] if model.horizon is None else [Fraction(0)]
    for left, right in ends:
        if any(left + w > 0 or right + w < 0 for w in [*worth, *last]):
            raise CertificateRejected(f"the tails from {float(left)} and {float(right)} do not hold the terminal values")


def _state(model: OutcomeMDP, proof: StockCertificate, stage: int, state: int, up: bool) -> tuple[int, int]:
    """All inequalities of a state on one side: how many, and how many needed Fractions."""
    table = (proof.upper if up else proof.lower)[stage, state]
    left, right = (int(place) + 1 for place in proof.tails[stage])
    columns = np.array([0, *range(left, right + 1), len(table) - 1])
    rows = exact = 0
    for action in model.actions(state):
        mine = columns if up else columns[proof.policy[stage, state, columns] == action]
        if not len(mine):
            continue
        found, error = _approximately(model, proof, stage, state, action, up, mine)
        slack = table[mine] - found if up else found - table[mine]
        rows += len(mine)
        for at in np.flatnonzero(~((slack > error) | ((error == 0) & (slack >= 0)))).tolist():
            column = int(mine[at])
            value = _exactly(model, proof, stage, state, action, up, column)
            exact += 1
            claim = Fraction(float(table[column]))
            if (value > claim) if up else (value < claim):
                where = {0: "its left tail", len(table) - 1: "its right tail"}.get(
                    column, f"stock {(proof.lattice.first + column - 1) * proof.lattice.spacing}"
                )
                side = "B upper <= upper" if up else "lower <= B lower"
                raise CertificateRejected(f"state {state} at stage {stage}, {where}: {side} does not hold")
    return rows, exact


def _exactly(
    model: OutcomeMDP, proof: StockCertificate, stage: int, state: int, action: int, up: bool, column: int
) -> Fraction:
    g, total, after = Fraction(model.discount), Fraction(0), stage if model.horizon is None else stage + 1
    x = (proof.lattice.first + column - 1) * Fraction(proof.lattice.spacing)
    table = proof.upper if up else proof.lower
    for p, r, j in model.outcomes(state, action):
        if column in (0, table.shape[2] - 1):
            slope = Fraction(proof.utility.negative if column == 0 else proof.utility.positive)
            ended = model.problem.terminal[j] or after == model.horizon
            later = (
                slope * Fraction(float(model.problem.terminal_value[j])) if ended else Fraction(float(table[after, j, column]))
            )
            total += p * (slope * r + g * later)
        else:
            total += p * g * held(proof, model, up, after, j, (x + r) / g)
    return total


def _approximately(
    model: OutcomeMDP, proof: StockCertificate, stage: int, state: int, action: int, up: bool, columns: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The right-hand sides in floats, and bounds on their errors, (k,) each."""
    problem, g = model.problem, model.discount
    after = stage if model.horizon is None else stage + 1
    table: Any = proof.upper if up else proof.lower
    pair = int(problem.state_ptr[state]) + action
    entries = np.arange(problem.row_ptr[pair], problem.row_ptr[pair + 1])
    entries = entries[problem.probability[entries] > 0]
    p, q = float(proof.utility.positive), float(proof.utility.negative)
    lo, hi, steep = min(p, q), max(p, q), max(abs(p), abs(q))
    x = (proof.lattice.first + columns - 1) * proof.lattice.spacing
    total, size, mass = np.zeros(len(columns)), np.zeros(len(columns)), float(problem.probability[entries].sum())
    outer = (columns == 0) | (columns == table.shape[2] - 1)
    slope = np.where(columns == 0, q, p)
    for e in entries.tolist():
        weight, r, j = problem.probability[e] / mass, model.earned[0][e], int(problem.successor[e])
        c = (x + r) / g
        if problem.terminal[j] or after == model.horizon:
            sum_ = c + problem.terminal_value[j]
            inner = np.where(sum_ >= 0, p, q) * sum_
            tail = slope * problem.terminal_value[j]
            size += weight * g * steep * abs(problem.terminal_value[j])
        else:
            row = table[after, j]
            left, right = ((proof.lattice.first + proof.tails[after]) * proof.lattice.spacing).tolist()
            place = np.clip(np.floor(c / proof.lattice.spacing).astype(np.int64) - proof.lattice.first, 0, len(row) - 4)
            below = c - (proof.lattice.first + place) * proof.lattice.spacing
            one, two = row[place + 1], row[place + 2]
            above = proof.lattice.spacing - below
            inner = np.minimum(one + hi * below, two - lo * above) if up else np.maximum(one + lo * below, two - hi * above)
            inner = np.where(c <= left, q * c + row[0], np.where(c >= right, p * c + row[-1], inner))
            tail = row[columns]
            reach = np.where(outer, np.abs(tail), np.abs(inner) + steep * (np.abs(c) + proof.lattice.spacing))
            size += weight * g * reach
        total += weight * np.where(outer, slope * r + g * tail, g * inner)
        size += weight * steep * (np.abs(np.where(outer, 0, x)) + abs(r))
    return total, np.where(size > 0, (len(entries) + 10) * _UNIT * size + 2.0**-1000, 0.0)
