r"""The checker for robust problems in which the actions of a state share nature's budget; see `banach.solvers.check`.

For maximisation and a hostile nature, with the weights d of the certificate's policy:

Discounted      lower <= T_d lower and T upper <= upper, g times the mass of every row below one, terminal values between.
FiniteHorizon   lower_t <= T_d lower_{t+1} and T upper_{t+1} <= upper_t, terminal values between at the last stage.

Both prove their bracket as in `banach.solvers.check_robust`. Two witnesses prove the rows of a state: its price l of a unit of
the budget proves the least worth of d large (weak duality, any l >= 0), and shares of the budget, one an action, that sum to
the budget at most prove it small, since nature may spend them so: r_k + min { p.z : D(p, pbar_k) <= share_k } <= upper for
every action. Where the problem names the decision, d of both sides, the last is the mean by d. Where nature helps, the two
change sides.

A state is decided in floats with their rounding bounds (`banach.solvers.filter_s_rectangular`), and where these cannot tell,
exactly (`banach.solvers.exact_budget`). No code is shared with the sweeps or the sets' kernels.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
from flint import fmpq

from ..mdp.ambiguity.ambiguity_set import Ball
from ..mdp.ambiguity.total_variation import L1, TotalVariation
from ..mdp.criterion import FiniteHorizon
from ..mdp.robust import RobustMDP
from ..mdp.validation import ROW_SUM_TOLERANCE
from .certificate import Certificate
from .check_robust import BITS, demand, require_contraction, terminals
from .errors import CertificateRejected
from .exact_ambiguity import rational, sigma
from .exact_budget import is_polyhedral, priced, spent, weights_of, worth
from .exact_transport import NOTHING, dot
from .filter_polyhedral import slack
from .filter_s_rectangular import budgets, worth_at_least, worth_at_most


def check_s_rectangular(problem: RobustMDP, certificate: Certificate) -> tuple[int, int]:
    """Inequalities decided for a maximisation problem, and how many needed exact arithmetic.

    Raises CertificateRejected naming the state where the proof fails.
    """
    lower, upper, policy = certificate.lower, certificate.upper, certificate.policy
    n, m, staged = problem.n_states, problem.n_pairs, isinstance(problem.criterion, FiniteHorizon)
    horizon = problem.criterion.horizon if isinstance(problem.criterion, FiniteHorizon) else 1
    demand("lower", lower, (horizon + 1, n) if staged else (n,))
    demand("upper", upper, (horizon + 1, n) if staged else (n,))
    if set(certificate.witness) != {"price", "share"}:
        raise CertificateRejected(f"an s-rectangular proof needs price and share; it has {sorted(certificate.witness)}")
    price, share = certificate.witness["price"], certificate.witness["share"]
    for name, array, width in (("price", price, n), ("share", share, m), ("the policy", policy, m)):
        demand(name, array, (horizon, width) if staged else (width,), infinite=name == "share")
        if array.min(initial=0.0) < 0:
            raise CertificateRejected(f"{name} has the entry {array.min()}; it must not be negative")
    if not staged:
        require_contraction(problem)
        terminals(problem, lower, upper, "")
        return _Stage(problem, policy, price, share, "").prove((lower, lower), (upper, upper))
    held = problem.terminal_value
    for state in np.flatnonzero((lower[-1] > held) | (upper[-1] < held))[:1]:
        raise CertificateRejected(
            f"last stage, state {problem.problem.state_of(int(state))}: the terminal value {held[state]} is not in "
            f"[{lower[-1, state]}, {upper[-1, state]}]"
        )
    rows = exact = 0
    for stage in range(horizon):
        where = f" at stage {stage}"
        terminals(problem, lower[stage], upper[stage], where)
        now = slice(stage, stage + 2)
        decided, needed = _Stage(problem, policy[stage], price[stage], share[stage], where).prove(
            tuple(lower[now]), tuple(upper[now])
        )
        rows, exact = rows + decided, exact + needed
    return rows, exact


class _Stage:
    """One decision: its weights and its witnesses."""

    def __init__(self, problem: RobustMDP, policy: np.ndarray, price: np.ndarray, share: np.ndarray, where: str) -> None:
        self.problem, self.policy, self.price, self.share, self.where = problem, policy, price, share, where
        self.turned = -1 if problem.optimistic else 1
        model = problem.problem
        total = np.bincount(model.pair_state, policy, model.n_states)
        for state in np.flatnonzero(~model.terminal & (np.abs(total - 1) > ROW_SUM_TOLERANCE))[:1]:
            raise CertificateRejected(
                f"state {model.state_of(int(state))}: the weights of its actions sum to {total[state]}, not to one{where}"
            )
        if problem.decision is not None and not np.array_equal(policy, problem.decision):
            raise CertificateRejected(f"the policy is not the decision that the problem names{where}")
        self._shares_fit()

    def prove(self, lower: tuple[np.ndarray, ...], upper: tuple[np.ndarray, ...]) -> tuple[int, int]:
        """Prove lower[0] <= T_policy lower[1] and T upper[1] <= upper[0]."""
        acting, t = np.flatnonzero(~self.problem.terminal), self.turned
        (below, low), (above, high) = (lower, upper) if t > 0 else (upper, lower)
        words = ("lower <= T_policy lower", "T upper <= upper")
        found = worth_at_least(self.problem, self.policy, self.price, low)
        exact = self._all(acting[found[acting] < t * below[acting]], self._is_worth, low, t * below, words[t < 0])
        found = worth_at_most(self.problem, self.policy, self.share, high)
        exact += self._all(acting[found[acting] > t * above[acting]], self._is_held, high, t * above, words[t > 0])
        return len(acting) + self.problem.n_pairs, exact

    def _all(
        self, states: np.ndarray, holds: Callable[[_State, fmpq], bool], x: np.ndarray, goal: np.ndarray, what: str
    ) -> int:
        for state in states.tolist():
            if not holds(_State(self.problem, state, x), rational(float(goal[state]))):
                raise CertificateRejected(f"state {self.problem.problem.state_of(state)}: {what} does not hold{self.where}")
        return len(states)

    def _is_worth(self, here: _State, goal: fmpq) -> bool:
        """Whether the least worth of the decision is proved to be at least the goal."""
        decision = [rational(d) for d in self.policy[here.pairs].tolist()]
        norm, price = sum(decision, NOTHING), rational(float(self.price[here.state]))
        fixed = sum((d * r for d, r in zip(decision, here.reward, strict=True)), NOTHING)
        needed = goal * norm - fixed
        if here.budget == 0:
            return sum((d * dot(b, z) for d, b, z in zip(decision, here.nominal, here.z, strict=True)), NOTHING) >= needed
        for bits in BITS:
            bound = -price * here.budget if price > 0 else NOTHING
            for d, nominal, z, weights in zip(decision, here.nominal, here.z, here.weights, strict=True):
                bound += priced(here.ball, d, price, nominal, z, weights, bits) if d > 0 else NOTHING
            if bound >= needed:
                return True
            if is_polyhedral(here.ball):
                return worth(here.budget, decision, here.nominal, here.z, here.weights) >= needed
        return False

    def _is_held(self, here: _State, goal: fmpq) -> bool:
        """Whether nature is proved to hold every action, or the decision that the problem names, at the goal at most."""
        for bits in BITS:
            worst = [
                reward + here.held(a, float(self.share[pair]), bits)
                for a, (pair, reward) in enumerate(zip(here.pairs, here.reward, strict=True))
            ]
            if self.problem.decision is not None:
                decision = [rational(d) for d in self.policy[here.pairs].tolist()]
                mean = sum((d * w for d, w in zip(decision, worst, strict=True)), NOTHING)
                if mean <= goal * sum(decision, NOTHING):
                    return True
            elif max(worst) <= goal:
                return True
            if is_polyhedral(here.ball):
                return self._is_held_by_any(here, goal)
        return False

    def _is_held_by_any(self, here: _State, goal: fmpq) -> bool:
        """The same for polyhedral sets, whatever the shares."""
        if self.problem.decision is not None:
            decision = [rational(d) for d in self.policy[here.pairs].tolist()]
            fixed = sum((d * r for d, r in zip(decision, here.reward, strict=True)), NOTHING)
            return worth(here.budget, decision, here.nominal, here.z, here.weights) + fixed <= goal * sum(decision, NOTHING)
        total = NOTHING
        for reward, nominal, z, weights in zip(here.reward, here.nominal, here.z, here.weights, strict=True):
            distance = spent(goal - reward, nominal, z, weights)
            if distance is None:
                return False
            total += distance
        return total <= here.budget

    def _shares_fit(self) -> None:
        """Demand that the shares of every state sum to its budget at most, exactly."""
        model, budget = self.problem.problem, budgets(self.problem)
        total = np.bincount(model.pair_state, self.share, model.n_states)
        room = slack(int(np.diff(model.state_ptr).max(initial=1)))
        for state in np.flatnonzero(~(total * (1 + room) <= budget)).tolist():
            parts = self.share[model.state_ptr[state] : model.state_ptr[state + 1]].tolist()
            if np.isinf(budget[state]) or sum(map(Fraction, parts)) <= Fraction(float(budget[state])):
                continue
            raise CertificateRejected(
                f"state {model.state_of(state)}: the shares sum to more than the budget {budget[state]}{self.where}"
            )


class _State:
    """The numbers of one state as rationals, on nature's side: z and rewards are turned where she helps."""

    def __init__(self, problem: RobustMDP, state: int, x: np.ndarray) -> None:
        model, self.state = problem.problem, state
        self.pairs = list(range(int(model.state_ptr[state]), int(model.state_ptr[state + 1])))
        turned, discount = -1 if problem.optimistic else 1, rational(model.discount)
        chosen: Any = problem.set_of(self.pairs[0])
        self.ball: Ball = chosen
        self.entries = [problem.entries_of(pair) for pair in self.pairs]
        self.reward = [turned * rational(float(model.reward[pair])) for pair in self.pairs]
        self.nominal: list[list[fmpq]] = []
        self.z: list[list[fmpq]] = []
        for pair in self.pairs:
            row = slice(int(model.row_ptr[pair]), int(model.row_ptr[pair + 1]))
            z = [discount * rational(v) for v in x[model.successor[row]].tolist()]
            if problem.transition_reward is not None:
                z = [v + rational(r) for v, r in zip(z, problem.transition_reward[row].tolist(), strict=True)]
            self.z.append([turned * v for v in z])
            self.nominal.append([rational(p) for p in model.probability[row].tolist()])
        self.weights = [weights_of(self.ball, entries, len(z)) for entries, z in zip(self.entries, self.z, strict=True)]

    @property
    def budget(self) -> fmpq:
        """The budget, in total variation for L1; what reaches everything where it is infinite."""
        if np.isinf(self.ball.radius):
            return sum((2 * sum(n, NOTHING) * max(w) for n, w in zip(self.nominal, self.weights, strict=True)), NOTHING)
        return rational(self.ball.radius) / (2 if isinstance(self.ball, L1) else 1)

    def held(self, action: int, share: float, bits: int) -> fmpq:
        """A number above the least worth of the action's row within its share, without the reward."""
        entries = self.entries[action]
        chosen = TotalVariation(share) if isinstance(self.ball, L1) else dataclasses.replace(self.ball, radius=share)
        return sigma(chosen, self.nominal[action], self.z[action], entries, bits)[1]
