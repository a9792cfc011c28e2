r"""Distributional dynamic programming with a stock: the best law of c + G under a functional that greedy choices may follow.

At a node of the tree (see `banach.solvers.stock_tree`) with stock c and laws eta of what each successor still returns,

    eta_a = law of r + g G',  G' ~ eta(successor),      greedy: a that maximises K law(c + G), G ~ eta_a,

ties going to the larger mean, then to the first action. Value iteration does this once from the last stage to the first;
policy iteration evaluates a policy of all nodes and improves it until K rises nowhere. Both reach the best of all policies that
may remember everything, where K is indifferent to mixtures and, with a discount, to the discount; a functional that says it is
not is refused, since greedy choices for it may be wrong. What to do instead:

    CVaR             `optimal_cvar`: max_b {b + max E min(G - b, 0)/level}, b over the returns that are possible
    mean-variance    `optimal_mean_variance`: max_b max E[G - w (G - b)^2]; in b the inner maximum less its square is the upper
                     envelope of lines 2 w b E G + E[G - w G^2], whose pieces are found one by one
    any utility      `optimal_utility`: time in the state

After n decisions of a discounted problem, the plan followed by anything loses at most 2 L g^n R/(1-g), R the largest |reward|,
L the Lipschitz constant of K.

Avila Pires, Rowland, Borsa, Guo, Khetarpal, Barreto, Abel, Munos and Dabney 2025, arXiv 2501.13028; Baeuerle and Ott 2011.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np

from ..mdp.law import Law
from ..mdp.law_functional import CVaR, MeanVariance
from ..mdp.model import MDP
from ..mdp.outcome import OutcomeMDP
from .errors import SolveError
from .stock_tree import Node, StockTree, plus

Spread = dict[Any, Fraction]
"""A law of numbers or of tuples: value -> probability."""

Policy = dict[tuple[int, Node], int]
"""Action of each stage and node."""


@dataclass(frozen=True, eq=False)
class StockPlan:
    """A policy that remembers what it has earned.

    value: of the functional, at the first node. spread: probability of each return. policy: action of each (stage, (state,
    earned)). tree: the nodes. lost: what the plan, followed by anything, may lose to the best of all; infinite where K has no
    Lipschitz constant and the problem goes on. rounds: evaluations of policy iteration, one of value iteration.
    """

    value: Any
    spread: Spread = field(repr=False)
    policy: Policy = field(repr=False)
    tree: StockTree = field(repr=False)
    lost: float
    rounds: int

    @property
    def law(self) -> Law:
        """The exact law of the return, of numbers."""
        return Law.of(list(self.spread), list(self.spread.values()), exact=True)


def distributional_value_iteration(
    problem: MDP | OutcomeMDP,
    functional: Any,
    stock: Any = 0,
    *,
    state: int = 0,
    decisions: int | None = None,
    rewards: np.ndarray | None = None,
) -> StockPlan:
    """The best law of stock + G under the functional.

    stock: c, a number, or a tuple where rewards are vectors. state: the first. decisions: of a problem discounted for ever.
    rewards: (z, d), vectors in place of the model's rewards.
    Raises SolveError for a functional that breaks a condition, and as `StockTree.of`.
    """
    tree, first = _entered(problem, functional, stock, state, decisions, rewards)
    policy, laws = _backward(tree, functional, first, None)
    return _plan(tree, functional, first, policy, laws, 1)


def distributional_policy_iteration(
    problem: MDP | OutcomeMDP,
    functional: Any,
    stock: Any = 0,
    *,
    state: int = 0,
    decisions: int | None = None,
    rewards: np.ndarray | None = None,
) -> StockPlan:
    """The same by evaluating and improving policies, from the first actions; stops when the functional rises at no node.

    rewards: (z, d). Raises SolveError as `distributional_value_iteration`.
    """
    tree, first = _entered(problem, functional, stock, state, decisions, rewards)
    policy: Policy = {(t, node): 0 for t, layer in enumerate(tree.layers) for node, acts in layer.items() if acts}
    for rounds in range(1, tree.horizon + 3):
        _, laws = _backward(tree, functional, first, policy)
        improved = _improved(tree, functional, first, policy, laws)
        if improved == policy:
            return _plan(tree, functional, first, policy, laws, rounds)
        policy = improved
    raise SolveError("policy iteration did not settle within the horizon: the functional does not keep its conditions")


def optimal_utility(
    problem: MDP | OutcomeMDP,
    utility: Callable[[Any], Any],
    *,
    state: int = 0,
    decisions: int | None = None,
    rewards: np.ndarray | None = None,
) -> StockPlan:
    """The greatest E utility(G) over all policies, for any function of the return; time is part of the state.

    rewards: (z, d). `lost` is zero over a horizon and unknown, infinite, else. Raises SolveError as `StockTree.of`.
    """
    tree = StockTree.of(problem, state, decisions, rewards)
    value, policy = tree.best(utility)
    return StockPlan(value, tree.law(policy), policy, tree, 0.0 if tree.model.horizon is not None else math.inf, 1)


@dataclass(frozen=True, eq=False)
class OptimalRisk:
    """The best of a functional that dynamic programming optimises through a parameter b.

    value: the optimum. at: b, for CVaR a quantile of the optimal law, for mean-variance its mean. plan: the policy and its law.
    """

    value: Fraction
    at: Fraction
    plan: StockPlan


def optimal_cvar(problem: MDP | OutcomeMDP, level: Any, *, state: int = 0, decisions: int | None = None) -> OptimalRisk:
    """The greatest CVaR of the return over all policies, exact. level: in (0, 1].

    Raises ModelError for another level, SolveError as `StockTree.of`.
    """
    tau = Fraction(CVaR(level).level)
    tree = StockTree.of(problem, state, decisions)
    bounds: Any = np.array(tree.returns(), dtype=object)
    zero: Any = Fraction(0)
    shortfall, chosen = tree.best(lambda x: np.minimum(x - bounds, zero))
    risks = bounds + shortfall / tau
    at = max(range(len(bounds)), key=lambda i: (risks[i], -i))
    policy = {key: int(np.broadcast_to(action, bounds.shape)[at]) for key, action in chosen.items()}
    plan = StockPlan(shortfall[at], tree.law(policy), policy, tree, 0.0 if tree.model.horizon is not None else math.inf, 1)
    return OptimalRisk(risks[at], bounds[at], plan)


def optimal_mean_variance(
    problem: MDP | OutcomeMDP, weight: Any, *, state: int = 0, decisions: int | None = None
) -> OptimalRisk:
    """The greatest E G - weight Var G over all policies, exact: hard in general, one dynamic program a piece of an envelope.

    weight: >= 0. Raises ModelError for another weight, SolveError as `StockTree.of`.
    """
    w = Fraction(MeanVariance(weight).weight)
    tree = StockTree.of(problem, state, decisions)
    ends = tree.returns()
    found: dict[tuple[Fraction, Fraction], tuple[Policy, Spread]] = {}

    def line(b: Fraction) -> tuple[Fraction, Fraction]:
        """Slope and intercept of the envelope's line at b."""
        _, policy = tree.best(lambda x: x - w * x * x + 2 * w * b * x)
        spread = tree.law(policy)
        mean = sum((p * x for x, p in spread.items()), Fraction(0))
        second = sum((p * x * x for x, p in spread.items()), Fraction(0))
        found[2 * w * mean, mean - w * second] = policy, spread
        return 2 * w * mean, mean - w * second

    waiting = [(line(ends[0]), line(ends[-1]))]
    while waiting:
        one, two = waiting.pop()
        if one[0] == two[0]:
            continue
        cross = (one[1] - two[1]) / (two[0] - one[0])
        middle = line(cross)
        if middle[0] * cross + middle[1] > one[0] * cross + one[1]:
            waiting += [(one, middle), (middle, two)]
    (slope, intercept), (policy, spread) = max(found.items(), key=lambda item: _peak(*item[0], w))
    plan = StockPlan(None, spread, policy, tree, 0.0 if tree.model.horizon is not None else math.inf, len(found))
    mean = sum((p * x for x, p in spread.items()), Fraction(0))
    return OptimalRisk(_peak(slope, intercept, w), mean, plan)


def _peak(slope: Fraction, intercept: Fraction, w: Fraction) -> Fraction:
    """max_b {intercept + slope b - w b^2}: the mean-variance of the line's policy."""
    return intercept + slope * slope / (4 * w) if w else intercept


def require_conditions(functional: Any, discount: float) -> None:
    """Raise SolveError where a functional says that greedy choices for it may be wrong, and name what to use."""
    if not functional.mixtures:
        raise SolveError(
            f"{functional} is not indifferent to mixtures, so a greedy choice for it may be wrong; use optimal_cvar, "
            "optimal_mean_variance, or an expected utility of stock and return"
        )
    if discount < 1 and functional.degree is None:
        raise SolveError(
            f"{functional} has no degree of homogeneity, so its choices change with the discount {discount}; put constants "
            "into the stock instead of the function, or use optimal_utility, which keeps the time"
        )


def _entered(
    problem: MDP | OutcomeMDP, functional: Any, stock: Any, state: int, decisions: int | None, rewards: np.ndarray | None
) -> tuple[StockTree, Any]:
    tree = StockTree.of(problem, state, decisions, rewards)
    require_conditions(functional, tree.model.discount)
    nothing = tree.root[1]
    vector = isinstance(nothing, tuple)
    if vector != isinstance(stock, tuple) or (vector and len(nothing) != len(stock)):
        raise SolveError(f"the stock is {stock!r}; it must be like what is earned, {'a tuple' if vector else 'a number'}")
    try:
        return tree, tuple(Fraction(x) for x in stock) if vector else Fraction(stock)
    except (TypeError, ValueError, OverflowError):
        raise SolveError(f"the stock is {stock!r}; it must be finite") from None


def _backward(
    tree: StockTree, functional: Any, first: Any, policy: Mapping[tuple[int, Node], int] | None
) -> tuple[Policy, dict[tuple[int, Node], Spread]]:
    """Laws of what is still returned at every node, under a policy, or under greedy choices."""
    laws: dict[tuple[int, Node], Spread] = {}
    chosen: Policy = {}
    for stage in range(tree.horizon, -1, -1):
        for node, actions in tree.layers[stage].items():
            if not actions:
                laws[stage, node] = {tree.left(node): Fraction(1)}
                continue
            if policy is not None:
                action = policy[stage, node]
                law = _lookahead(tree, laws, stage, actions[action])
            else:
                ahead = [_lookahead(tree, laws, stage, rows) for rows in actions]
                keys = [_key(tree, functional, first, stage, node, law) for law in ahead]
                action = max(range(len(ahead)), key=lambda a: (keys[a], -a))
                law = ahead[action]
            chosen[stage, node] = action
            laws[stage, node] = law
    return chosen, laws


def _improved(tree: StockTree, functional: Any, first: Any, policy: Policy, laws: dict[tuple[int, Node], Spread]) -> Policy:
    """The policy with a greedy action wherever one beats the policy's own."""
    found = dict(policy)
    for (stage, node), own in policy.items():
        ahead = [_lookahead(tree, laws, stage, rows) for rows in tree.layers[stage][node]]
        keys = [_key(tree, functional, first, stage, node, law) for law in ahead]
        best = max(range(len(keys)), key=lambda a: (keys[a], -a))
        if keys[best] > keys[own]:
            found[stage, node] = best
    return found


def _lookahead(tree: StockTree, laws: Mapping[tuple[int, Node], Spread], stage: int, rows: Any) -> Spread:
    g, found = Fraction(tree.model.discount), {}
    for p, reward, child in rows:
        for x, q in laws[stage + 1, child].items():
            whole = plus(reward, x, g)
            found[whole] = found.get(whole, Fraction(0)) + p * q
    return found


def _key(tree: StockTree, functional: Any, first: Any, stage: int, node: Node, law: Spread) -> tuple[Any, Any]:
    """K of the law of stock and return, then the mean."""
    scale = tree.scale(stage)
    if isinstance(first, tuple):
        held = tuple((c + e) / scale for c, e in zip(first, node[1], strict=True))
        moved = {tuple(c + y for c, y in zip(held, x, strict=True)): p for x, p in law.items()}
        return _of_vectors(functional, moved), sum(p * sum(x) for x, p in moved.items())
    held = (first + node[1]) / scale
    moved = Law.of([held + x for x in law], list(law.values()), exact=True)
    return functional(moved), moved.mean


def _of_vectors(functional: Any, spread: Spread) -> Any:
    if hasattr(functional, "parts"):
        return tuple(_of_vectors(part, spread) for part in functional.parts)
    if not hasattr(functional, "function"):
        raise SolveError(f"{functional} is not a utility; of vectors of rewards only utilities can be taken")
    return sum(p * functional.function(x) for x, p in spread.items())


def _plan(
    tree: StockTree, functional: Any, first: Any, policy: Policy, laws: dict[tuple[int, Node], Spread], rounds: int
) -> StockPlan:
    root = tree.root
    value = _key(tree, functional, first, 0, root, laws[0, root])[0]
    return StockPlan(value, laws[0, root], policy, tree, _lost(tree, functional), rounds)


def _lost(tree: StockTree, functional: Any) -> float:
    if tree.model.horizon is not None:
        return 0.0
    g, most = tree.model.discount, max(abs(end) for end in tree.model.returns_within())
    return 2 * functional.lipschitz * g**tree.horizon * most
