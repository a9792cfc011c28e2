r"""The checker of laws: does a law certificate prove its brackets? Exact arithmetic, no code shared with the sweeps.

For every state, its action's outcomes of weight w, reward r and successor j, and every lattice point z_i,

    lower_s[i] sum w  >=  sum w lower_j((z_{i+1} - r)/g -)      so that lower <=_st T lower,
    upper_s[i] sum w  <=  sum w upper_j((z_i - r)/g)            so that T upper <=_st upper,

distribution functions being constant between lattice points, zero before the first and one from the last; where an argument
lies is decided in integers. No return lies outside the lattice, so nothing is asked of x below z_0 in the first line and of
x >= z_{m-1} in the second: the return's law is also the fixed point of T followed by moving every atom into the lattice. Then
lower <=_st T^k lower, which converges in W_inf to the law of the return, and so above. Over a horizon, stage by stage from the
laws of terminal values. Signs of sums of products of two floats are decided by an a-priori rounding bound, and in integers
where that cannot tell.
"""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np

from ..mdp.law_lattice import Lattice
from ..mdp.model import MDP
from ..mdp.outcome import OutcomeMDP, as_outcomes
from .check import Verdict
from .distributional import LawCertificate
from .errors import CertificateRejected
from .exact import sign_of_sum

_UNIT = 2.0**-53


def check_laws(problem: MDP | OutcomeMDP, certificate: LawCertificate) -> Verdict:
    """Verify the certificate against the problem in exact arithmetic. Verdict's width is the largest W_1 between the laws.

    Raises CertificateRejected naming the first state and lattice point where the proof fails.
    """
    model = as_outcomes(problem)
    if certificate.fingerprint != model.fingerprint:
        raise CertificateRejected(
            f"the certificate speaks of model {certificate.fingerprint[:12]}..., this is {model.fingerprint[:12]}..."
        )
    _shapes(model, certificate)
    ledger = _Ledger(model, certificate.lattice)
    for up, side in enumerate((certificate.lower, certificate.upper)):
        stages = side[None] if model.horizon is None else side
        policies = certificate.policy[None] if model.horizon is None else certificate.policy
        following = stages if model.horizon is None else stages[1:]
        for stage, policy in enumerate(policies):
            ledger.prove(stages[stage], following[stage], policy, bool(up), f" at stage {stage}" if len(stages) > 1 else "")
        if model.horizon is not None:
            ledger.worth(stages[-1], np.ones(model.n_states, dtype=bool), bool(up))
    return Verdict(certificate.width, ledger.rows, ledger.exact)


def _shapes(model: OutcomeMDP, certificate: LawCertificate) -> None:
    n, horizon, lattice = model.n_states, model.horizon, certificate.lattice
    shape = (n, lattice.points) if horizon is None else (horizon + 1, n, lattice.points)
    require_lattice(lattice)
    ends = [Fraction(lattice.spacing) * (lattice.first + i) for i in (0, lattice.points - 1)]
    low, high = model.returns_within()
    if not ends[0] <= low <= high <= ends[1]:
        raise CertificateRejected(f"returns lie within [{low}, {high}], which the lattice does not hold")
    for name, cdf in (("lower", certificate.lower), ("upper", certificate.upper)):
        if cdf.shape != shape or cdf.dtype != np.float64:
            raise CertificateRejected(f"{name} has shape {cdf.shape}, {cdf.dtype}; it must be {shape}, float64")
        rising = (np.diff(cdf, axis=-1) >= 0).all() and (cdf >= 0).all() and (cdf[..., -1] == 1).all()
        if not rising:
            raise CertificateRejected(f"{name} is no distribution function: it must rise from at least 0 to 1 exactly")
    expected = (n,) if horizon is None else (horizon, n)
    count = np.diff(model.problem.state_ptr)
    policy = certificate.policy
    if policy.shape != expected or policy.dtype.kind != "i":
        raise CertificateRejected(f"the policy has shape {policy.shape}, {policy.dtype}; it must be {expected}, integers")
    if (np.where(model.problem.terminal, policy != -1, (policy < 0) | (policy >= count))).any():
        raise CertificateRejected("the policy names an action that a state does not have")


def require_lattice(lattice: Lattice) -> None:
    """Raise CertificateRejected where the points of a lattice are not floats, in order."""
    spacing = float(lattice.spacing)
    if not (math.isfinite(spacing) and math.frexp(spacing)[0] == 0.5) or lattice.points < 2:
        raise CertificateRejected(
            f"the lattice has spacing {lattice.spacing} and {lattice.points} points; no power of two, or too few"
        )
    if abs(lattice.first) + lattice.points > 2**53:
        raise CertificateRejected(f"the lattice begins {lattice.first} spacings from zero; its points are no floats")


class Decisions:
    """Inequalities between laws on a lattice. Counts what has been decided, and says where a proof fails."""

    def __init__(self, lattice: Lattice) -> None:
        self.lattice = lattice
        self.rows = self.exact = 0

    def decide(self, weights: np.ndarray, terms: np.ndarray, claim: np.ndarray, up: bool, where: str) -> None:
        """claim sum w >= sum w terms at the lattice's first k points, or <= where up; weights (e,), terms (e, k), claim (k,).

        Raises CertificateRejected where it fails.
        """
        used = weights > 0
        weights, terms = weights[used], terms[used]
        gap = weights @ (claim - terms)
        margin = 1.01 * (len(weights) + 8) * _UNIT * (weights @ (claim + terms)) + 2.0**-1000
        sign = np.where(np.abs(gap) > margin, np.sign(gap), 2.0)
        sign[(terms == claim).all(axis=0)] = 0
        for at in np.flatnonzero(sign == 2).tolist():
            c, w = float(claim[at]), weights.tolist()
            sign[at] = sign_of_sum([(p, c) for p in w] + [(p, -float(t)) for p, t in zip(w, terms[:, at], strict=True)])
            self.exact += 1
        self.rows += len(claim)
        for at in np.flatnonzero(sign > 0 if up else sign < 0)[:1]:
            point = (self.lattice.first + int(at)) * self.lattice.spacing
            side = "T upper <= upper" if up else "lower <= T lower"
            raise CertificateRejected(f"{where}: {side} in stochastic order does not hold at {point}")


class _Ledger(Decisions):
    """The proofs of a model's laws."""

    def __init__(self, model: OutcomeMDP, lattice: Lattice) -> None:
        super().__init__(lattice)
        self.model = model
        self._places: dict[tuple[Fraction, bool], np.ndarray] = {}

    def places(self, reward: Fraction, up: bool) -> np.ndarray:
        """For i = 0..m-2, the last j with g z_j + r <= z_i (up) or < z_{i+1} (down), at most m-1 and at least -1; (m - 1,)."""
        key = (reward, up)
        if key not in self._places:
            first, m = self.lattice.first, self.lattice.points
            shift, scale = reward / Fraction(self.lattice.spacing), Fraction(self.model.discount)
            den = shift.denominator * scale.numerator
            found = np.empty(m - 1, dtype=np.int64)
            for i in range(m - 1):
                point = first + i if up else first + i + 1
                top = (point * shift.denominator - shift.numerator) * scale.denominator
                j = (top // den if up else -(-top // den) - 1) - first
                found[i] = min(max(j, -1), m - 1)
            self._places[key] = found
        return self._places[key]

    def prove(self, here: np.ndarray, there: np.ndarray, policy: np.ndarray, up: bool, where: str) -> None:
        """here <=_st T there, or T there <=_st here where up; both (n, m)."""
        problem = self.model.problem
        self.worth(here, problem.terminal, up)
        for state in np.flatnonzero(~problem.terminal).tolist():
            pair = int(problem.state_ptr[state] + policy[state])
            row = slice(int(problem.row_ptr[pair]), int(problem.row_ptr[pair + 1]))
            weights = problem.probability[row]
            certain = Fraction(float(problem.reward[pair]))
            terms = np.zeros((len(weights), self.lattice.points - 1))
            for k, (gain, j) in enumerate(
                zip(self.model.transition_reward[row].tolist(), problem.successor[row].tolist(), strict=True)
            ):
                terms[k] = np.concatenate(([0.0], there[j]))[self.places(certain + Fraction(gain), up) + 1]
            self.decide(weights, terms, here[state][:-1], up, f"state {problem.state_of(state)}{where}")

    def worth(self, here: np.ndarray, states: np.ndarray, up: bool) -> None:
        """The law of the terminal value lies on its side of here, (n, m), in the given states, bool (n,)."""
        first, h = self.lattice.first, Fraction(self.lattice.spacing)
        for state in np.flatnonzero(states).tolist():
            worth = Fraction(float(self.model.problem.terminal_value[state])) / h
            cdf = here[state]
            self.rows += self.lattice.points
            if up:  # no mass before the first lattice point at or above the worth
                reached = -(-worth.numerator // worth.denominator) - first
                holds = 0 <= reached <= len(cdf) - 1 and not (cdf[:reached] > 0).any()
                holds = holds or (reached < 0)
            else:  # all mass at or before the last lattice point at or below it
                reached = worth.numerator // worth.denominator - first
                holds = reached >= 0 and bool((cdf[reached:] == 1).all())
            if not holds:
                raise CertificateRejected(
                    f"state {self.model.problem.state_of(state)}: the terminal value {float(worth * h)} is not on its side of "
                    f"the {'upper' if up else 'lower'} law"
                )
