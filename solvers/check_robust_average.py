r"""The checker for robust average reward; see `banach.solvers.check`. For maximisation, rows as weights of mass m, bias h or k:

    upper + h >= r_a + min {p . (t + h) : p in U_a} / m       for every action,
    lower + k <= r_p + min {p . (t + k) : p in U_p} / m       for the policy's,

with lower and upper one number each for all states. Nature's rows that are worst at h let no policy gain more than upper; the
policy gains lower from every state, whatever nature does (`banach.solvers.robust_average_reward`). Multiplied by m, each is
decided in floats with their rounding (`banach.solvers.filter_robust`), and where these cannot tell exactly. No code is shared
with the sweeps or the sets' kernels.
"""

from __future__ import annotations

import numpy as np
from flint import fmpq

from ..mdp.robust import RobustMDP
from .certificate import Certificate
from .errors import CertificateRejected
from .exact_ambiguity import rational, sigma
from .filter_robust import enclosed_rows

_BITS = (96, 256, 640)
_UNIT = 2.0**-53


def check_robust_average(problem: RobustMDP, certificate: Certificate) -> tuple[int, int]:
    """Inequalities decided for a maximisation problem, and how many needed exact arithmetic.

    Raises CertificateRejected naming the state and the action where the proof fails.
    """
    n, model = problem.n_states, problem.problem
    if problem.rectangularity != "sa" or not problem.set_of(0).keeps_mass:
        raise CertificateRejected("robust gains are proved for (s, a)-rectangular sets whose rows keep the nominal mass")
    vectors = {"lower": certificate.lower, "upper": certificate.upper} | dict(certificate.witness)
    if sorted(certificate.witness) != ["lower_bias", "upper_bias"]:
        raise CertificateRejected(f"the witness holds {sorted(certificate.witness)}; it must hold lower_bias and upper_bias")
    for name, vector in vectors.items():
        if vector.shape != (n,) or vector.dtype != np.float64 or not np.isfinite(vector).all():
            raise CertificateRejected(f"{name} has shape {vector.shape}, {vector.dtype}; it must be {(n,)}, finite float64")
    for name in ("lower", "upper"):
        if np.ptp(vectors[name]):
            raise CertificateRejected(f"{name} is not the same in all states; a robust gain is proved for all at once")
    policy, count = certificate.policy, np.diff(model.state_ptr)
    if policy.shape != (n,) or policy.dtype.kind != "i":
        raise CertificateRejected(f"the policy has shape {policy.shape}, {policy.dtype}; it must name one action a state")
    for state in np.flatnonzero((policy < 0) | (policy >= count))[:1]:
        raise CertificateRejected(f"state {state}: the policy's action {policy[state]} is not one of its {count[state]}")
    pairs = (model.state_ptr[:-1] + policy).astype(np.int64)
    what = "lower + bias <= T_policy bias"
    exact = _prove(problem, pairs, vectors["lower_bias"], float(vectors["lower"][0]), 1, what)
    what = "T bias <= upper + bias"
    exact += _prove(problem, np.arange(model.n_pairs), vectors["upper_bias"], float(vectors["upper"][0]), -1, what)
    return n + model.n_pairs, exact


def _prove(problem: RobustMDP, pairs: np.ndarray, bias: np.ndarray, gain: float, side: int, what: str) -> int:
    """Prove side (r_k + sigma_k / m - bias_s - gain) >= 0 for all pairs; how many rows needed exact arithmetic."""
    model = problem.problem
    low, high = enclosed_rows(problem, pairs, bias)
    here = bias[model.pair_state[pairs]]
    length = np.diff(model.row_ptr)[pairs]
    mass = np.add.reduceat(model.probability, model.row_ptr[:-1])[pairs]
    with np.errstate(all="ignore"):
        rest = model.reward[pairs] - here - gain
        size = np.abs(low) + np.abs(high) + np.abs(here) + abs(gain) + np.abs(model.reward[pairs])
        off = (np.abs(mass - 1) + 2 * length * _UNIT) * np.abs(rest) * 1.01 + 16 * _UNIT * size + 2.0**-1000
        margin = low - here - gain if side > 0 else here + gain - high
        open_ = np.flatnonzero(~(margin >= off))
    for place in open_:
        if not _holds(problem, int(pairs[place]), bias, gain, side):
            raise CertificateRejected(f"{_place(problem, int(pairs[place]))}: {what} does not hold")
    return len(open_)


def _holds(problem: RobustMDP, pair: int, bias: np.ndarray, gain: float, side: int) -> bool:
    """Whether side (m (r_k - bias_s - gain) + sigma_k) >= 0 is proved in exact arithmetic."""
    model, turned = problem.problem, -1 if problem.optimistic else 1
    row = slice(int(model.row_ptr[pair]), int(model.row_ptr[pair + 1]))
    nominal = [rational(p) for p in model.probability[row].tolist()]
    z = [rational(v) for v in bias[model.successor[row]].tolist()]
    if problem.transition_reward is not None:
        z = [v + rational(t) for v, t in zip(z, problem.transition_reward[row].tolist(), strict=True)]
    here = rational(float(bias[model.pair_state[pair]]))
    rest = sum(nominal, fmpq(0)) * (rational(float(model.reward[pair])) - here - rational(gain))
    for bits in _BITS:
        low, high = sigma(problem.set_of(pair), nominal, [turned * v for v in z], problem.entries_of(pair), bits)
        low, high = (low, high) if turned > 0 else (-high, -low)
        if (rest + low >= 0) if side > 0 else (rest + high <= 0):
            return True
        if (rest + high < 0) if side > 0 else (rest + low > 0):
            return False
    return False


def _place(problem: RobustMDP, pair: int) -> str:
    model = problem.problem
    state = int(model.pair_state[pair])
    return f"state {model.state_of(state)}, action {model.action_of(state, pair - int(model.state_ptr[state]))}"
