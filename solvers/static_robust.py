r"""Finitely many models, of which nature picks one for good: the best deterministic stationary policy by branch and bound.

    max_p min_j  V_j^p,        V_j^p = sum_s rho(s) V_j^p(s),        rho the initial distribution.

Nature commits before the run and nobody sees to what, so her set is not rectangular and the problem is NP-hard in the number of
states (Wiesemann, Kuhn and Rustem 2013; Steimle, Kaufman and Denton 2021, multi-model problems). A node of the search fixes the
actions of some states; with the others free,

    max_p min_j V_j^p  <=  min_j max_p V_j^p                                           (weak duality),

and one ordinary problem bounds the node from above. Policies met on the way, and that of the rectangular hull, in which nature
may mix the models' rows, are evaluated in every model and bound it from below. Open nodes are taken best first; what is open
when the nodes run out still bounds the optimum, so the answer is a bracket at any time. It carries its own proof: certificates
of the policy's value in each model, and for every leaf of a cover of all policies one of the model that bounds it
(`banach.solvers.check_static`).

Randomised and history-dependent policies may do better. For any of them, and any weights q of the models,

    min_j V_j  <=  sum_s rho(s) max_a sum_j q_j Q*_j(s, a),

a matrix game in the first action (`any_policy_bound`).
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from ..mdp.ambiguity.scenarios import Scenarios
from ..mdp.criterion import Discounted
from ..mdp.dense import spread
from ..mdp.model import MDP
from ..mdp.restriction import limited, restricted
from ..mdp.robust import RobustMDP
from .certificate import Certificate
from .errors import SolveError
from .solve import solve


@dataclass(frozen=True)
class Leaf:
    """A part of the policies and a proof that none is worth more.

    fixed: int32 (n,), the action of each state that is fixed, -1 elsewhere. model: index of the model that bounds the part.
    certificate: of that model with the fixed actions only.
    """

    fixed: np.ndarray
    model: int
    certificate: Certificate


@dataclass(frozen=True)
class StaticSolution:
    """A deterministic policy, and a bracket of the best worst case over all of them.

    policy: int32 (n,). lower, upper: lower <= worst case of the policy, best worst case <= upper, exactly.
    worst: index of the model that is worst for the policy, up to rounding.
    values: certificates of the policy's value in each model, of the models restricted to it.
    leaves: a cover of all deterministic policies. nodes: how many were bounded.
    hull: lower bound of the value against a nature who may mix the models' rows; at most the optimum.
    """

    policy: np.ndarray
    lower: float
    upper: float
    worst: int
    values: tuple[Certificate, ...]
    leaves: tuple[Leaf, ...]
    nodes: int
    hull: float


def solve_static(
    models: Sequence[MDP], initial: np.ndarray | int | None = None, *, eps: float = 1e-6, max_nodes: int = 10_000
) -> StaticSolution:
    """The best worst case of a deterministic stationary policy.

    models: discounted maximisation problems with the same states, actions and discount; rewards and rows differ as they like.
    initial: distribution (n,), or a state, or None for that of the first model. eps: > 0; the search ends with a bracket
    within eps, or after max_nodes with what it has.
    Raises SolveError for models that do not fit or an initial distribution that is none, NotConverged as `solve` does.
    """
    models, weights = fitting(models), weights_of(models, initial)
    search = _Search(models, weights, eps / 4)
    hull, policy = _hull(models, weights, eps / 4)
    search.offer(policy)
    counter, node = itertools.count(), search.bound(np.full(models[0].n_states, -1, dtype=np.int32))
    heap = [(-node.upper, next(counter), node)]
    while heap and search.nodes < max_nodes and -heap[0][0] > search.lower + Fraction(eps) / 2:
        node = heapq.heappop(heap)[2]
        for child in search.branch(node):
            heapq.heappush(heap, (-child.upper, next(counter), child))
    leaves = (*search.closed, *(node for _, _, node in heap))
    upper = max([search.lower, *(leaf.upper for leaf in leaves)])
    worst = int(np.argmin([float(mean(weights, one.lower)) for one in search.values]))
    return StaticSolution(
        search.policy, _float(search.lower, -1), _float(upper, 1), worst, search.values,
        tuple(Leaf(leaf.fixed, leaf.model, leaf.certificate) for leaf in leaves), search.nodes, hull,
    )  # fmt: skip


def any_policy_bound(models: Sequence[MDP], initial: np.ndarray | int | None = None, *, eps: float = 1e-6) -> float:
    """At or above the worst case of every policy, randomised ones and those that remember included; proved up to rounding.

    models: as in `solve_static`. initial: (n,), a state, or None. eps: > 0, to which the models are solved.
    Raises SolveError for models that do not fit.
    """
    import scipy.optimize

    models, weights = fitting(models), weights_of(models, initial)
    solved = [solve(model, eps=eps / 2).certificate.upper for model in models]
    ahead = [
        model.reward + model.discount * np.add.reduceat(model.probability * value[model.successor], model.row_ptr[:-1])
        for model, value in zip(models, solved, strict=True)
    ]
    first, j = models[0], len(models)
    acting = np.flatnonzero(~first.terminal & (weights > 0))
    kept = np.isin(first.pair_state, acting)
    state = np.searchsorted(acting, first.pair_state[kept])
    ended = [float(weights[first.terminal] @ model.terminal_value[first.terminal]) for model in models]
    # Least over q of ended.q + sum_s weights_s t_s with t_s >= sum_j q_j Q_j(s, a) for every action.
    rows = np.hstack([np.array(ahead).T[kept], -np.eye(len(acting))[state]])
    found: Any = scipy.optimize.linprog(
        np.concatenate((ended, weights[acting])),
        A_ub=rows,
        b_ub=np.zeros(len(rows)),
        A_eq=np.concatenate((np.ones(j), np.zeros(len(acting))))[None],
        b_eq=[1.0],
        bounds=[(0, None)] * j + [(None, None)] * len(acting),
    )
    mixed = np.maximum(found.x[:j], 0.0)
    mixed /= mixed.sum()
    best = np.maximum.reduceat(mixed @ np.array(ahead), first.state_ptr[:-1][acting]) if len(acting) else np.zeros(0)
    bound, size = mixed @ np.array(ended) + weights[acting] @ best, max(float(np.abs(one).max()) for one in (*solved, *ahead))
    return float(bound + 1e-14 * (first.n_states + j + int(np.diff(first.row_ptr).max())) * size)


@dataclass(frozen=True)
class _Node:
    """A part of the policies: what is fixed, the model that bounds it, its proof, and the bound."""

    fixed: np.ndarray
    model: int
    certificate: Certificate
    upper: Fraction


class _Search:
    """The best policy so far, and what is known of the parts."""

    def __init__(self, models: Sequence[MDP], weights: np.ndarray, eps: float) -> None:
        self.models, self.weights, self.eps = models, weights, eps
        self.lower, self.nodes = Fraction(-(2**1023)), 0
        self.policy = np.empty(0, dtype=np.int32)
        self.values: tuple[Certificate, ...] = ()
        self.closed: list[_Node] = []
        self.seen: set[bytes] = set()

    def offer(self, policy: np.ndarray) -> None:
        """Evaluate a policy (n,) in every model, and keep it if it is the best."""
        if policy.tobytes() in self.seen:
            return
        self.seen.add(policy.tobytes())
        values, least = [], Fraction(2**1024)
        for model in self.models:
            values.append(solve(restricted(model, policy), eps=self.eps).certificate)
            least = min(least, mean(self.weights, values[-1].lower))
            if least <= self.lower:
                return
        self.lower, self.policy, self.values = least, policy, tuple(values)

    def bound(self, fixed: np.ndarray) -> _Node:
        """The part of the policies with some actions fixed, (n,), bounded by the model that bounds it best."""
        self.nodes += 1
        found = []
        for index, model in enumerate(self.models):
            certificate = solve(limited(model, fixed), eps=self.eps).certificate
            self.offer(_unlimited(fixed, certificate.policy))
            found.append(_Node(fixed, index, certificate, mean(self.weights, certificate.upper)))
        return min(found, key=lambda node: node.upper)

    def branch(self, node: _Node) -> list[_Node]:
        """The parts of a part; it is closed instead where nothing is free or nothing can be gained."""
        first, wish = self.models[0], _unlimited(node.fixed, node.certificate.policy)
        count: Any = np.diff(first.state_ptr)
        free = np.flatnonzero((node.fixed < 0) & (count > 1))
        if not len(free):
            self.closed.append(node)
            return []
        torn = free[wish[free] != self.policy[free]]
        state = int(torn[0] if len(torn) else free[0])
        children = []
        for action in range(count[state]):
            fixed = node.fixed.copy()
            fixed[state] = action
            child = self.bound(fixed)
            if child.upper > self.lower + Fraction(self.eps):
                children.append(child)
            else:
                self.closed.append(child)
        return children


def _unlimited(fixed: np.ndarray, policy: np.ndarray) -> np.ndarray:
    return np.where(fixed >= 0, fixed, policy).astype(np.int32)


def _hull(models: Sequence[MDP], weights: np.ndarray, eps: float) -> tuple[float, np.ndarray]:
    """(proved value against a nature who may mix rows, its policy). Rewards are the least of the models'."""
    wide = [spread(model) for model in models]
    reward = np.min([model.reward for model in wide], axis=0)
    value = np.min([model.terminal_value for model in wide], axis=0)
    n = models[0].n_states
    rows = np.array([model.probability.reshape(-1, n) for model in wide]).transpose(1, 0, 2)
    worst = RobustMDP(wide[0].replace(reward=reward, terminal_value=value), [Scenarios(row) for row in rows])
    answer = solve(worst, eps=eps)
    return _float(mean(weights, answer.certificate.lower), -1), answer.policy


def fitting(models: Sequence[MDP]) -> list[MDP]:
    """The models, as a list. Raises SolveError where they do not fit."""
    if not models or not all(isinstance(model, MDP) and isinstance(model.criterion, Discounted) for model in models):
        raise SolveError("nature needs at least one discounted MDP to choose")
    first = models[0]
    if first.criterion.minimize:
        raise SolveError("the search maximises; take the negated models")
    for index, model in enumerate(models):
        if not np.array_equal(model.state_ptr, first.state_ptr) or model.criterion != first.criterion:
            raise SolveError(f"model {index} has other states, actions or discount than model 0")
    if not first.n_pairs:
        raise SolveError("every state is terminal: there is no policy to choose")
    return list(models)


def weights_of(models: Sequence[MDP], initial: np.ndarray | int | None) -> np.ndarray:
    """The initial distribution (n,), given as (n,), a state or None. Raises SolveError where it is none."""
    n, given = models[0].n_states, models[0].initial if initial is None else initial
    if isinstance(given, int | np.integer):
        if not 0 <= given < n:
            raise SolveError(f"state {given} is not in 0..{n - 1}")
        return np.eye(n)[given]
    weights = np.zeros(0) if given is None else np.array(given, dtype=np.float64)
    if weights.shape != (n,) or not (weights >= 0).all() or not abs(weights.sum() - 1) <= 1e-9:
        raise SolveError(f"initial must be a state or a distribution over the {n} states; nature's choice depends on it")
    return weights


def mean(weights: np.ndarray, value: np.ndarray) -> Fraction:
    """Exactly weights.value, both (n,)."""
    used = np.flatnonzero(weights)
    return sum(
        (Fraction(w) * Fraction(v) for w, v in zip(weights[used].tolist(), value[used].tolist(), strict=True)), Fraction(0)
    )


def _float(number: Fraction, side: int) -> float:
    """The nearest float not below (side 1) or not above (side -1) the number."""
    near = float(number)
    return near if (Fraction(near) - number) * side >= 0 else float(np.nextafter(near, side * np.inf))
