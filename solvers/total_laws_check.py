r"""The checker of laws of total rewards: does a certificate prove its brackets? In exact arithmetic, apart from the sweeps.

For every state that is not terminal, its action's weights w and successors j, its reward of k lattice steps, and every point of
the window,

    lower_s[i] sum w  >=  sum w lower_j[i - k],    lower_j read at 0 below the window, 1 above,
    upper_s[i] sum w  <=  sum w upper_j[i - k],    0 below the window, upper_j read at its last point above,

both rise, and in terminal states they are the step at the terminal value. Why that suffices stands in `total_laws`; it needs a
policy that ends with probability one, which is a path to a terminal state from everywhere.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from ..mdp.model import MDP
from .check import Verdict
from .distributional import LawCertificate
from .distributional_check import Decisions, require_lattice
from .errors import CertificateRejected
from .total_laws import require_total


def check_total_laws(problem: MDP, certificate: LawCertificate) -> Verdict:
    """Verify the certificate against the problem in exact arithmetic. Verdict's width is the largest gap of the two F.

    Raises CertificateRejected naming the first state and lattice point where the proof fails, SolveError for another problem.
    """
    require_total(problem)
    if certificate.fingerprint != problem.fingerprint:
        raise CertificateRejected(
            f"the certificate speaks of model {certificate.fingerprint[:12]}..., this is {problem.fingerprint[:12]}..."
        )
    _shapes(problem, certificate)
    _ends(problem, certificate.policy)
    decisions, steps = Decisions(certificate.lattice), _steps(problem, certificate)
    for up, cdf in enumerate((certificate.lower, certificate.upper)):
        _terminal(problem, certificate, cdf)
        for state in np.flatnonzero(~problem.terminal).tolist():
            pair = int(problem.state_ptr[state] + certificate.policy[state])
            row = slice(int(problem.row_ptr[pair]), int(problem.row_ptr[pair + 1]))
            terms = np.stack([_shifted(cdf[j], steps[pair], bool(up)) for j in problem.successor[row].tolist()])
            decisions.decide(problem.probability[row], terms, cdf[state], bool(up), f"state {problem.state_of(state)}")
    return Verdict(float((certificate.lower - certificate.upper).max()), decisions.rows, decisions.exact)


def _shifted(cdf: np.ndarray, steps: int, up: bool) -> np.ndarray:
    """The function (m,) at i - steps, and what stands for it outside."""
    m = len(cdf)
    below, above = (0.0, float(cdf[-1])) if up else (float(cdf[0]), 1.0)
    found = np.full(m, above if steps < 0 else below)
    if 0 <= steps < m:
        found[steps:] = cdf[: m - steps]
    elif -m < steps < 0:
        found[:steps] = cdf[-steps:]
    return found


def _shapes(problem: MDP, certificate: LawCertificate) -> None:
    require_lattice(certificate.lattice)
    shape = (problem.n_states, certificate.lattice.points)
    for name, cdf in (("lower", certificate.lower), ("upper", certificate.upper)):
        if cdf.shape != shape or cdf.dtype != np.float64:
            raise CertificateRejected(f"{name} has shape {cdf.shape}, {cdf.dtype}; it must be {shape}, float64")
        if not ((np.diff(cdf, axis=1) >= 0).all() and (cdf >= 0).all() and (cdf <= 1).all()):
            raise CertificateRejected(f"{name} is no distribution function: it must rise, between 0 and 1")
    policy, count = certificate.policy, np.diff(problem.state_ptr)
    if policy.shape != (problem.n_states,) or policy.dtype.kind != "i":
        raise CertificateRejected(f"the policy has shape {policy.shape}, {policy.dtype}; not an action of each state")
    if (np.where(problem.terminal, policy != -1, (policy < 0) | (policy >= count))).any():
        raise CertificateRejected("the policy names an action that a state does not have")


def _ends(problem: MDP, policy: np.ndarray) -> None:
    """Backward from the terminal states, along transitions of positive probability."""
    before: list[list[int]] = [[] for _ in range(problem.n_states)]
    for state in np.flatnonzero(~problem.terminal).tolist():
        pair = int(problem.state_ptr[state] + policy[state])
        for entry in range(int(problem.row_ptr[pair]), int(problem.row_ptr[pair + 1])):
            if problem.probability[entry] > 0:
                before[int(problem.successor[entry])].append(state)
    found, ahead = problem.terminal.copy(), np.flatnonzero(problem.terminal).tolist()
    while ahead:
        for state in before[ahead.pop()]:
            if not found[state]:
                found[state] = True
                ahead.append(state)
    for state in np.flatnonzero(~found)[:1]:
        raise CertificateRejected(f"state {problem.state_of(int(state))}: the policy may never end from there")


def _steps(problem: MDP, certificate: LawCertificate) -> list[int]:
    """The reward of each pair, in lattice steps."""
    found = [Fraction(r) / Fraction(certificate.lattice.spacing) for r in problem.reward.tolist()]
    for pair, steps in enumerate(found):
        if steps.denominator != 1:
            raise CertificateRejected(f"reward {problem.reward[pair]} is no multiple of {certificate.lattice.spacing}")
    return [int(steps) for steps in found]


def _terminal(problem: MDP, certificate: LawCertificate, cdf: np.ndarray) -> None:
    lattice = certificate.lattice
    for state in np.flatnonzero(problem.terminal).tolist():
        worth = Fraction(float(problem.terminal_value[state])) / Fraction(lattice.spacing) - lattice.first
        if not np.array_equal(cdf[state], [float(i >= worth) for i in range(lattice.points)]):
            raise CertificateRejected(f"state {problem.state_of(state)}: its law is not the terminal value for certain")
