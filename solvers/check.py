r"""The checker: does a certificate prove its bracket? Exact arithmetic, no code shared with the solvers' sweeps.

For maximisation (for minimisation everything is turned round), with T_p the operator of the certificate's policy, exact:

Discounted      lower <= T_p lower and T upper <= upper, g times every row sum below one, terminal values between.
                Then T_p^k lower increases to v_p and T^k upper decreases to v*, so lower <= v_p <= v* <= upper.

FiniteHorizon   lower_t <= T_p lower_{t+1} and T upper_{t+1} <= upper_t, terminal values between at the last stage.

TotalReward     lower <= T_p lower, strictly where lower > 0, and T upper <= upper, strictly where upper < 0.
                Let the slack be at least s > 0 on N = {upper < 0}. The reward of K steps is at most
                upper - E upper(X_K) - s E[visits of N before K]. If N is visited finitely often in expectation,
                P(X_K in N) -> 0 and the limit is at most upper; if not, the value is minus infinity. The same below.

AverageReward   witness vectors h, k: upper >= P_a upper and upper + h >= r_a + P_a h for every action, and
                lower <= P_p lower, lower + k <= r_p + P_p k. Summing K steps and dividing by K gives
                lower <= gain of p <= best gain <= upper, whatever the chain structure.

Linear robust   see `banach.solvers.check_linear_robust`; robust average reward, `banach.solvers.check_robust_average`.

Constrained     see `banach.solvers.check_constrained`; robust problems, `banach.solvers.check_robust` and
                `banach.solvers.check_s_rectangular`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..mdp.constrained import ConstrainedMDP
from ..mdp.criterion import AverageReward, Discounted, FiniteHorizon, TotalReward
from ..mdp.linear_robust import LinearRobustMDP
from ..mdp.model import MDP
from ..mdp.robust import RobustMDP
from ..mdp.time_varying import TimeVaryingMDP
from .certificate import Certificate
from .check_constrained import check_constrained
from .check_linear_robust import check_linear_robust
from .check_robust import check_robust
from .check_robust_average import check_robust_average
from .check_s_rectangular import check_s_rectangular
from .errors import CertificateRejected
from .exact import row_signs, row_sum_at_least
from .problem import Problem


@dataclass(frozen=True)
class Verdict:
    """A proof that held. Truthy.

    width: of the proved bracket, sup norm. rows: inequalities decided. exact: of those, the ones that needed integers.
    """

    width: float
    rows: int
    exact: int

    def __str__(self) -> str:
        return f"proved: bracket {self.width:.3g} wide, {self.rows} inequalities, {self.exact} of them in integers"


def check(problem: Problem, certificate: Certificate) -> Verdict:
    """Verify the certificate against the problem in exact arithmetic.

    Returns a truthy Verdict. Raises CertificateRejected naming the first place where the proof fails: another model, a wrong
    shape, a state, a state and action.
    """
    if certificate.fingerprint != problem.fingerprint:
        raise CertificateRejected(
            f"the certificate speaks of model {certificate.fingerprint[:12]}..., this is {problem.fingerprint[:12]}..."
        )
    maximal = problem.negated() if problem.criterion.minimize else problem
    lower, upper, witness = certificate.lower, certificate.upper, dict(certificate.witness)
    if problem.criterion.minimize:
        lower, upper = np.asarray(-upper), np.asarray(-lower)
        witness = dict(_turned_round(name, vector) for name, vector in witness.items())
    averaged = isinstance(maximal, RobustMDP) and isinstance(maximal.criterion, AverageReward)
    if averaged or isinstance(maximal, LinearRobustMDP):
        claim = Certificate(lower, upper, certificate.policy, maximal.fingerprint, witness)
        own: Any = check_robust_average if averaged else check_linear_robust
        rows, exact = own(maximal, claim)
        return Verdict(certificate.width, rows, exact)
    if isinstance(maximal, ConstrainedMDP | RobustMDP):
        claim = Certificate(lower, upper, certificate.policy, maximal.fingerprint, witness)
        rows, exact = _over_table(maximal, claim)
        return Verdict(certificate.width, rows, exact)
    prove = {
        Discounted: _discounted,
        FiniteHorizon: _finite_horizon,
        TotalReward: _total_reward,
        AverageReward: _average_reward,
    }[type(problem.criterion)]
    ledgers = prove(maximal, lower, upper, certificate.policy, witness)
    return Verdict(certificate.width, sum(ledger.rows for ledger in ledgers), sum(ledger.exact for ledger in ledgers))


def _over_table(problem: ConstrainedMDP | RobustMDP, claim: Certificate) -> tuple[int, int]:
    if isinstance(problem, ConstrainedMDP):
        return check_constrained(problem, claim)
    return check_s_rectangular(problem, claim) if problem.randomised else check_robust(problem, claim)


def _turned_round(name: str, vector: np.ndarray) -> tuple[str, np.ndarray]:
    """What bounds from one side bounds the negated problem from the other; what is no bound stays."""
    for side, other in (("lower_", "upper_"), ("upper_", "lower_")):
        if name.startswith(side):
            return other + name.removeprefix(side), -vector
    return name, vector


class _Ledger:
    """Counts what has been decided, and says where a proof fails."""

    def __init__(self, model: MDP) -> None:
        self.model = model
        self.rows = self.exact = 0
        self.all_pairs = np.arange(model.n_pairs)
        self.acting: np.ndarray = ~model.terminal

    def actions(self, policy: np.ndarray) -> None:
        """Demand one action of each state's own, -1 in terminal states."""
        model, count = self.model, np.diff(self.model.state_ptr)
        if policy.shape != (model.n_states,) or policy.dtype.kind != "i":
            raise CertificateRejected(f"the policy has shape {policy.shape}, {policy.dtype}; it must name one action a state")
        for state in np.flatnonzero(np.where(self.acting, (policy < 0) | (policy >= count), policy != -1))[:1]:
            raise CertificateRejected(f"state {state}: the policy's action {policy[state]} is not one of its {count[state]}")

    def pairs_of(self, policy: np.ndarray) -> np.ndarray:
        return (self.model.state_ptr[:-1] + policy)[self.acting].astype(np.int64)

    def below(self, x: np.ndarray, minus: list[np.ndarray], pairs: np.ndarray, what: str, **how: Any) -> np.ndarray:
        """Prove r + P x <= sum(minus) for all pairs; returns the exact signs."""
        return self._prove(x, minus, pairs, 1, what, **how)

    def above(self, x: np.ndarray, minus: list[np.ndarray], pairs: np.ndarray, what: str, **how: Any) -> np.ndarray:
        """Prove r + P x >= sum(minus) for all pairs; returns the exact signs."""
        return self._prove(x, minus, pairs, -1, what, **how)

    def _prove(
        self, x: np.ndarray, minus: list[np.ndarray], pairs: np.ndarray, wrong: int, what: str, **how: Any
    ) -> np.ndarray:
        signs, exact = row_signs(self.model, pairs, x, minus, **how)
        self.rows += len(pairs)
        self.exact += exact
        self.forbid(signs == wrong, pairs, what)
        return signs

    def forbid(self, faults: np.ndarray, pairs: np.ndarray, what: str) -> None:
        for fault in np.flatnonzero(faults)[:1]:
            state = int(self.model.pair_state[pairs[fault]])
            action = int(pairs[fault] - self.model.state_ptr[state])
            raise CertificateRejected(
                f"state {self.model.state_of(state)}, action {self.model.action_of(state, action)}: {what} does not hold"
            )

    def terminals(self, lower: np.ndarray, upper: np.ndarray) -> None:
        worth = self.model.terminal_value
        for state in np.flatnonzero(~self.acting & ((lower > worth) | (upper < worth)))[:1]:
            where, bracket = self.model.state_of(state), f"[{lower[state]}, {upper[state]}]"
            raise CertificateRejected(f"terminal state {where}: its value {worth[state]} is not in {bracket}")


def _vectors(shape: tuple[int, ...], **named: np.ndarray) -> None:
    for name, vector in named.items():
        if vector.shape != shape or vector.dtype != np.float64:
            raise CertificateRejected(f"{name} has shape {vector.shape}, {vector.dtype}; it must be {shape}, float64")
        if not np.isfinite(vector).all():
            raise CertificateRejected(f"{name} of state {int(np.argwhere(~np.isfinite(vector))[0][-1])} is not finite")


def _stationary(
    model: MDP, lower: np.ndarray, upper: np.ndarray, policy: np.ndarray, witness: dict[str, np.ndarray]
) -> _Ledger:
    ledger = _Ledger(model)
    _vectors((model.n_states,), lower=lower, upper=upper, **witness)
    ledger.actions(policy)
    return ledger


def _discounted(
    model: MDP, lower: np.ndarray, upper: np.ndarray, policy: np.ndarray, witness: dict[str, np.ndarray]
) -> list[_Ledger]:
    ledger = _stationary(model, lower, upper, policy, witness)
    if model.discount * (1 + 2e-9) >= 1:
        for pair in ledger.all_pairs:
            if row_sum_at_least(model, int(pair), model.discount):
                ledger.forbid(np.array([True]), np.array([pair]), "discount times the sum of the row below one")
    ledger.terminals(lower, upper)
    ledger.above(lower, [lower], ledger.pairs_of(policy), "lower <= T_policy lower", weights=False)
    ledger.below(upper, [upper], ledger.all_pairs, "T upper <= upper", weights=False)
    return [ledger]


def _finite_horizon(
    problem: MDP | TimeVaryingMDP, lower: np.ndarray, upper: np.ndarray, policy: np.ndarray, _: object
) -> list[_Ledger]:
    horizon, worth = problem.criterion.horizon, problem.terminal_value  # pyright: ignore[reportAttributeAccessIssue]
    stages = problem.stages if isinstance(problem, TimeVaryingMDP) else (problem,) * horizon
    _vectors((horizon + 1, problem.n_states), lower=lower, upper=upper)
    if policy.shape != (horizon, problem.n_states):
        raise CertificateRejected(f"the policy has shape {policy.shape}; it must be {(horizon, problem.n_states)}")
    for state in np.flatnonzero((lower[-1] > worth) | (upper[-1] < worth))[:1]:
        raise CertificateRejected(
            f"last stage, state {state}: the terminal value is not in [{lower[-1, state]}, {upper[-1, state]}]"
        )
    ledgers = {id(model): _Ledger(model) for model in stages}
    for stage, model in enumerate(stages):
        ledger, where = ledgers[id(model)], f" at stage {stage}"
        ledger.actions(policy[stage])
        ledger.terminals(lower[stage], upper[stage])
        pairs = ledger.pairs_of(policy[stage])
        ledger.above(lower[stage + 1], [lower[stage]], pairs, "lower <= T_policy lower" + where, weights=False)
        ledger.below(upper[stage + 1], [upper[stage]], ledger.all_pairs, "T upper <= upper" + where, weights=False)
    return list(ledgers.values())


def _total_reward(
    model: MDP, lower: np.ndarray, upper: np.ndarray, policy: np.ndarray, witness: dict[str, np.ndarray]
) -> list[_Ledger]:
    ledger = _stationary(model, lower, upper, policy, witness)
    pairs = ledger.pairs_of(policy)
    ledger.terminals(lower, upper)
    signs = ledger.above(lower, [lower], pairs, "lower <= T_policy lower", weights=True)
    ledger.forbid(
        (signs == 0) & (lower[model.pair_state[pairs]] > 0), pairs, "lower < T_policy lower, strictly where lower > 0,"
    )
    signs = ledger.below(upper, [upper], ledger.all_pairs, "T upper <= upper", weights=True)
    ledger.forbid((signs == 0) & (upper[model.pair_state] < 0), ledger.all_pairs, "T upper < upper, strictly where upper < 0,")
    return [ledger]


def _average_reward(
    model: MDP, lower: np.ndarray, upper: np.ndarray, policy: np.ndarray, witness: dict[str, np.ndarray]
) -> list[_Ledger]:
    ledger = _stationary(model, lower, upper, policy, witness)
    pairs = ledger.pairs_of(policy)
    if set(witness) != {"lower_bias", "upper_bias"}:
        raise CertificateRejected(f"an average-reward proof needs lower_bias and upper_bias; it has {sorted(witness)}")
    below, above, nothing = witness["lower_bias"], witness["upper_bias"], np.zeros(model.n_pairs)
    ledger.above(lower, [lower], pairs, "lower <= P_policy lower", weights=True, reward=nothing)
    ledger.above(below, [lower, below], pairs, "lower + bias <= r + P_policy bias", weights=True)
    ledger.below(upper, [upper], ledger.all_pairs, "P upper <= upper", weights=True, reward=nothing)
    ledger.below(above, [upper, above], ledger.all_pairs, "r + P bias <= upper + bias", weights=True)
    return [ledger]
