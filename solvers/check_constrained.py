r"""The checker for constrained problems; see `banach.solvers.check`. For maximisation:

    lower_value <= T_w lower_value                 for the policy's weights w, hence lower <= mu . lower_value <= its value,
    T_w^{c_k} u_k <= u_k,  mu . u_k <= C_k         for every cost, hence the policy keeps every bound,
    l >= 0,  T^{r - l . c} v <= v                  for every action, hence every policy that keeps the bounds is worth at most
                                                   mu . v + l . C <= upper.

A refutation has no policy and claims the optimum over nothing, minus infinity: l >= 0, T^{- l . c} v <= v with terminal states
worth nothing, and mu . v + l . C < 0, while a policy that kept the bounds would make it at least zero.
"""

from __future__ import annotations

import numpy as np

from ..mdp.constrained import ConstrainedMDP
from .certificate import Certificate
from .errors import CertificateRejected
from .exact import row_signs, row_sum_at_least
from .exact_mixtures import lagrangian_reward, mixture_signs, weighted

_PROOF = {"lower_value", "upper_lagrangian", "multipliers", "costs"}
_REFUTATION = {"multipliers", "upper_refuting"}


def check_constrained(problem: ConstrainedMDP, certificate: Certificate) -> tuple[int, int]:
    """Inequalities decided for a maximisation problem, and how many needed integers. Raises CertificateRejected."""
    witness = dict(certificate.witness)
    names = set(witness)
    if names not in (_PROOF, _REFUTATION):
        raise CertificateRejected(
            f"a constrained proof needs {sorted(_PROOF)}, a refutation {sorted(_REFUTATION)}; it has {sorted(names)}"
        )
    n, m, k = problem.n_states, problem.n_pairs, problem.n_costs
    shapes = {"lower_value": (n,), "upper_lagrangian": (n,), "upper_refuting": (n,), "multipliers": (k,), "costs": (k, n)}
    for name, vector in witness.items():
        _demand(vector, shapes[name], name)
    for name in ("lower", "upper"):
        if getattr(certificate, name).shape != ():
            raise CertificateRejected(f"{name} has shape {getattr(certificate, name).shape}; it must be one number")
    for cost in np.flatnonzero(witness["multipliers"] < 0)[:1]:
        raise CertificateRejected(f"multiplier {cost} is {witness['multipliers'][cost]}; it must not be negative")
    model = problem.problem
    for pair in range(m) if model.discount * (1 + 2e-9) >= 1 else ():
        if row_sum_at_least(model, pair, model.discount):
            raise CertificateRejected(f"{_place(problem, pair)}: discount times the sum of the row is not below one")
    if names == _REFUTATION:
        return _refutation(problem, certificate, witness["multipliers"], witness["upper_refuting"])
    return _proof(problem, certificate, witness)


def _proof(problem: ConstrainedMDP, certificate: Certificate, witness: dict[str, np.ndarray]) -> tuple[int, int]:
    model, policy, exact = problem.problem, certificate.policy, 0
    _demand(policy, (problem.n_pairs,), "policy")
    if (policy < 0).any():
        raise CertificateRejected(f"{_place(problem, int(np.argmin(policy)))}: the policy's weight is negative")
    visits = np.bincount(model.pair_state, policy, minlength=model.n_states)
    for state in np.flatnonzero((visits <= 0) & ~model.terminal)[:1]:
        raise CertificateRejected(f"state {model.state_of(int(state))}: the policy gives weight to no action")
    tasks = [("lower_value", witness["lower_value"], model.reward, model.terminal_value, -1)]
    nothing = np.zeros(model.n_states)
    tasks += [(f"costs[{k}]", witness["costs"][k], problem.costs[k], nothing, 1) for k in range(problem.n_costs)]
    for name, vector, reward, worth, side in tasks:
        _terminals(problem, vector, worth, side, name)
        signs, needed = mixture_signs(model, policy, reward, vector)
        exact += needed
        for state in np.flatnonzero(~model.terminal & (signs == side))[:1]:
            relation = ">=" if side < 0 else "<="
            raise CertificateRejected(f"state {model.state_of(int(state))}: T_policy {name} {relation} {name} does not hold")
    for k, cost in enumerate(witness["costs"]):
        spent = weighted(problem.initial, cost, 1)
        if spent > problem.bounds[k]:
            raise CertificateRejected(
                f"cost {k} of the policy is only proved to be at most {spent!r}; its bound is {problem.bounds[k]!r}"
            )
    proved = weighted(problem.initial, witness["lower_value"], -1)
    if not certificate.lower <= proved:
        raise CertificateRejected(f"lower is {float(certificate.lower)!r}; the policy is only proved to be worth {proved!r}")
    vector, multipliers = witness["upper_lagrangian"], witness["multipliers"]
    needed = _above(problem, vector, model.reward, multipliers, "upper_lagrangian")
    _terminals(problem, vector, model.terminal_value, 1, "upper_lagrangian")
    most = weighted(*_dual(problem, multipliers, vector), 1)
    if not certificate.upper >= most:
        raise CertificateRejected(f"upper is {float(certificate.upper)!r}; the multipliers only prove {most!r}")
    return (2 + problem.n_costs) * (model.n_states + 1) + problem.n_pairs, exact + needed


def _refutation(
    problem: ConstrainedMDP, certificate: Certificate, multipliers: np.ndarray, vector: np.ndarray
) -> tuple[int, int]:
    if certificate.lower != -np.inf or certificate.upper != -np.inf:
        raise CertificateRejected("a refutation claims minus infinity, the optimum over no policy, from below and above")
    exact = _above(problem, vector, np.zeros(problem.n_pairs), multipliers, "upper_refuting")
    _terminals(problem, vector, np.zeros(problem.n_states), 1, "upper_refuting")
    most = weighted(*_dual(problem, multipliers, vector), 1)
    if most >= 0:
        raise CertificateRejected(
            f"the multipliers prove no contradiction: mu . v + l . C is only known to be at most {most!r}"
        )
    return problem.n_pairs + problem.n_states + 1, exact


def _dual(problem: ConstrainedMDP, multipliers: np.ndarray, vector: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.concatenate((problem.initial, multipliers)), np.concatenate((vector, problem.bounds))


def _above(problem: ConstrainedMDP, vector: np.ndarray, reward: np.ndarray, multipliers: np.ndarray, name: str) -> int:
    pairs = np.arange(problem.n_pairs)
    charged = lagrangian_reward(reward, problem.costs, multipliers)
    signs, exact = row_signs(problem.problem, pairs, vector, [vector], weights=False, reward=charged)
    for pair in np.flatnonzero(signs > 0)[:1]:
        raise CertificateRejected(f"{_place(problem, int(pair))}: r - l . c + g P {name} <= {name} does not hold")
    return exact


def _terminals(problem: ConstrainedMDP, vector: np.ndarray, worth: np.ndarray, side: int, name: str) -> None:
    model = problem.problem
    for state in np.flatnonzero(model.terminal & ((vector - worth) * side < 0))[:1]:
        raise CertificateRejected(
            f"terminal state {model.state_of(int(state))}: {name} is {vector[state]}, beyond its value {worth[state]}"
        )


def _demand(vector: np.ndarray, shape: tuple[int, ...], name: str) -> None:
    if vector.shape != shape or vector.dtype != np.float64:
        raise CertificateRejected(f"{name} has shape {vector.shape}, {vector.dtype}; it must be {shape}, float64")
    if not np.isfinite(vector).all():
        raise CertificateRejected(f"{name} is not finite at {np.argwhere(~np.isfinite(vector))[0].tolist()}")


def _place(problem: ConstrainedMDP, pair: int) -> str:
    model = problem.problem
    state = int(model.pair_state[pair])
    return f"state {model.state_of(state)}, action {model.action_of(state, pair - int(model.state_ptr[state]))}"
