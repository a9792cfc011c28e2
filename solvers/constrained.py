r"""Discounted problems with bounds on further costs, by their occupancy measures.

x_k = E_mu sum_t g^t 1[pair k at time t] runs over the polytope x >= 0, sum_{k of s} x_k - g sum_k p_ks x_k = mu_s, and the
policy's reward and costs are linear in it:

    maximise r . x   subject to   c_k . x <= C_k.

A vertex has at most n + K positive entries, so that an optimal policy, an action in proportion to x, randomises in at most K
states (Altman 1999, theorem 3.8). For every l >= 0 the unconstrained problem with reward r - l . c bounds the optimum,

    max_x r . x  <=  max_p E_mu[r - l . c] + l . C,

with equality for the multipliers of the linear program. If 0 in place of r makes the right side negative, no policy keeps the
bounds (Farkas).

HiGHS proposes policy and multipliers; the proof is made afterwards: inductive vectors of the policy's chain for the reward
from below and for every cost from above, and of the Lagrangian problem from above. Where rounding takes a cost beyond its bound
the program is solved again with that bound drawn in by twice the excess.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse
import scipy.sparse.linalg
from scipy.optimize import OptimizeResult, linprog

from ..mdp.constrained import ConstrainedMDP
from ..mdp.model import MDP
from .answer import Answer
from .certificate import Certificate
from .discounted import solve_discounted
from .errors import Infeasible, NotConverged, SolveError
from .exact_mixtures import lagrangian_reward, mixture_signs, weighted
from .watch import Watch

_UNIT = 2.0**-53
_FINEST = 1e-10
"""The tightest tolerance that HiGHS takes."""


@dataclass(frozen=True)
class OccupancyProgram:
    """The linear program over occupancies, by HiGHS' dual simplex.

    retreats: programs with bounds drawn in, after which it gives up with `NotConverged`.
    """

    retreats: int = 8


def solve_constrained(
    problem: ConstrainedMDP, method: OccupancyProgram | None, eps: float, start: np.ndarray | None, watch: Watch
) -> Answer:
    """A randomised policy that keeps every bound, and a proved bracket of the constrained optimum. For maximisation.

    The answer's policy is float64 (n_pairs,), weights of each state's actions; lower and upper have shape ().
    Raises SolveError for another method or a start, Infeasible with its proof, NotConverged with the bracket's width.
    """
    reason = "asked for" if method is not None else "constraints are linear in the occupancy"
    method = OccupancyProgram() if method is None else method
    if not isinstance(method, OccupancyProgram):
        raise SolveError(f"constrained problems are solved by OccupancyProgram(), not by {method}")
    if start is not None:
        raise SolveError("a constrained problem is one linear program, without a start or a checkpoint; leave them out")
    program, bounds = _Program.of(problem), problem.bounds.copy()
    vertex = program.maximize(bounds)
    if vertex is None:
        raise program.refuted()
    multipliers = program.multipliers(vertex)
    above = _above(problem.problem, lagrangian_reward(problem.problem.reward, problem.costs, multipliers), eps / 4)
    upper = _lagrangian_bound(problem, multipliers, above)
    for _ in range(method.retreats + 1):
        policy = program.policy(vertex.x, multipliers, above)
        costs = np.array([_bound_policy(problem.problem, policy, cost, 1, eps / 8) for cost in problem.costs])
        excess = np.array([weighted(problem.initial, cost, 1) for cost in costs]) - problem.bounds
        if (excess <= 0).all():
            below = _bound_policy(problem.problem, policy, problem.problem.reward, -1, eps / 8)
            lower = weighted(problem.initial, below, -1)
            watch(below, upper - lower)
            if upper - lower > eps:
                raise NotConverged(
                    f"policy and multipliers of the linear program leave a bracket {upper - lower:.3g} wide (asked for "
                    f"{eps:.3g}); ask for a wider eps",
                    reached=upper - lower,
                )
            witness = {"lower_value": below, "upper_lagrangian": above, "multipliers": multipliers, "costs": costs}
            return Answer(np.array(lower), np.array(upper), policy, method, reason, witness)
        bounds -= np.where(excess > 0, 2 * excess, 0.0)
        vertex = program.maximize(bounds)
        if vertex is None:
            break
    raise NotConverged(
        f"the bounds can be kept, if at all, with less than {float((problem.bounds - bounds).max()):.3g} to spare, too little "
        "to prove in floats; raise them by that much"
    )


def _lagrangian_bound(problem: ConstrainedMDP, multipliers: np.ndarray, vector: np.ndarray) -> float:
    """mu . vector + l . C, rounded up."""
    return weighted(np.concatenate((problem.initial, multipliers)), np.concatenate((vector, problem.bounds)), 1)


def _above(model: MDP, reward: np.ndarray, eps: float) -> np.ndarray:
    """A vector (n,) with T vector <= vector for another reward (m,), within eps of the fixed point."""
    return solve_discounted(model.replace(reward=reward), None, eps, None, Watch()).upper


def _bound_policy(model: MDP, weights: np.ndarray, reward: np.ndarray, side: int, eps: float) -> np.ndarray:
    """A vector (n,) near the policy's value that its operator proves to lie below (side -1) or above it (side 1)."""
    acting = ~model.terminal
    worth = model.terminal_value if side < 0 else np.zeros(model.n_states)
    share = weights / np.bincount(model.pair_state, weights, minlength=model.n_states)[model.pair_state]
    mixture = scipy.sparse.csr_array(
        (share, (model.pair_state, np.arange(model.n_pairs))), shape=(model.n_states, model.n_pairs)
    )
    transition, _, _ = model.to_sparse()
    system = (scipy.sparse.eye_array(model.n_states) - model.discount * (mixture @ transition)).tocsc()
    value = scipy.sparse.linalg.splu(system).solve(np.where(acting, mixture @ reward, worth))
    size = max(float(np.abs(value).max(initial=0.0)), float(np.abs(reward).max(initial=0.0)), 2.0**-900)
    spread = 1 - model.discount * float(np.max(transition.sum(axis=1), initial=0.0))
    shift = 8 * _UNIT * size / spread if spread > 0 else np.inf
    while shift <= eps:
        moved = np.where(acting, value + side * shift, worth)
        signs, _ = mixture_signs(model, weights, reward, moved)
        if not np.any(acting & (signs == side)):
            return moved
        shift *= 2
    raise NotConverged(f"rounding keeps the policy's value from being proved to {eps:.3g}; ask for a wider eps", reached=shift)


@dataclass(frozen=True)
class _Program:
    """The linear program in units of its largest numbers. `unit` (K,) and `scale` are those units."""

    problem: ConstrainedMDP
    flow: scipy.sparse.csc_array
    reward: np.ndarray
    costs: np.ndarray
    scale: float
    unit: np.ndarray

    @classmethod
    def of(cls, problem: ConstrainedMDP) -> _Program:
        model = problem.problem
        acting = ~model.terminal
        transition, _, _ = model.to_sparse()
        own = scipy.sparse.csr_array(
            (np.ones(model.n_pairs), model.pair_state, np.arange(model.n_pairs + 1)), shape=(model.n_pairs, model.n_states)
        )
        reward = model.reward + model.discount * (transition @ model.terminal_value)
        flow = (own - model.discount * transition)[:, np.flatnonzero(acting)].T.tocsc()
        scale = float(np.abs(reward).max(initial=0.0)) or 1.0
        unit = np.abs(problem.costs).max(axis=1, initial=0.0)
        unit[unit == 0] = 1.0
        return cls(problem, flow, reward / scale, problem.costs / unit[:, None], scale, unit)

    def maximize(self, bounds: np.ndarray) -> OptimizeResult | None:
        """The optimal vertex under those bounds, (K,), or None where there is no occupancy at all."""
        return self._run(-self.reward, self.flow, self.costs, bounds / self.unit)

    def _run(self, cost: np.ndarray, flow: object, below: np.ndarray, bounds: np.ndarray) -> OptimizeResult | None:
        initial = self.problem.initial[~self.problem.terminal]
        result = linprog(
            cost, A_ub=below, b_ub=bounds, A_eq=flow, b_eq=initial, method="highs-ds",
            options={"primal_feasibility_tolerance": _FINEST, "dual_feasibility_tolerance": _FINEST},
        )  # fmt: skip
        if result.x is None and result.status != 2:
            raise NotConverged(f"HiGHS found no solution: {result.message}")
        return None if result.x is None else result

    def multipliers(self, vertex: OptimizeResult) -> np.ndarray:
        """(K,), not negative."""
        return np.maximum(0.0, -vertex.ineqlin.marginals) * self.scale / self.unit

    def policy(self, occupancy: np.ndarray, multipliers: np.ndarray, vector: np.ndarray) -> np.ndarray:
        """Weights (m,): occupancies where there are any, elsewhere one best action of the Lagrangian problem."""
        model = self.problem.problem
        weight = np.where(occupancy > 1e-9 * occupancy.max(initial=0.0), occupancy, 0.0)
        ahead = np.add.reduceat(model.probability * vector[model.successor], model.row_ptr[:-1]) if model.n_pairs else weight
        gain = model.reward - multipliers @ self.problem.costs + model.discount * ahead
        visits = np.bincount(model.pair_state, weight, minlength=model.n_states)
        for state in np.flatnonzero((visits == 0) & ~model.terminal):
            first, last = model.state_ptr[state : state + 2]
            weight[first + int(np.argmax(gain[first:last]))] = 1.0
        return weight

    def refuted(self) -> Exception:
        """Infeasible with its proof; NotConverged where floats cannot tell."""
        problem, model = self.problem, self.problem.problem
        eased = np.hstack((self.costs, -np.ones((problem.n_costs, 1))))
        relief = scipy.sparse.hstack((self.flow, scipy.sparse.csc_array((self.flow.shape[0], 1))), format="csc")  # pyright: ignore[reportOptionalSubscript]
        least = self._run(np.append(np.zeros(problem.n_pairs), 1.0), relief, eased, problem.bounds / self.unit)
        if least is None:
            return NotConverged("HiGHS finds no occupancy at all; use a smaller discount")
        gap, multipliers = float(least.x[-1]), np.maximum(0.0, -least.ineqlin.marginals) / self.unit
        charged = lagrangian_reward(np.zeros(problem.n_pairs), problem.costs, multipliers)
        vector = _above(model.replace(terminal_value=np.zeros(model.n_states)), charged, max(gap / 8, 1e-12))
        if _lagrangian_bound(problem, multipliers, vector) >= 0:
            return NotConverged(
                f"the bounds miss the least costs by {gap:.3g} of the largest one-step cost, too little to prove in floats; "
                "move them by that much"
            )
        return Infeasible(
            f"no policy keeps the bounds: each exceeds some bound by at least {gap:.3g} times its largest one-step cost; "
            f"raise bound {int(np.argmax(multipliers * self.unit))} first",
            Certificate(
                np.array(-np.inf), np.array(-np.inf), np.zeros(problem.n_pairs), problem,
                {"multipliers": multipliers, "upper_refuting": vector},
            ),
        )  # fmt: skip
