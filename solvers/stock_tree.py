r"""Every stock that can be reached: the finite part of the stock-augmented problem, in exact numbers.

The node (t, s, S) says that after t decisions the process is in s with S = sum_{k<t} g^k r_k earned. Rewards may be vectors;
then S is a tuple. With c the first stock, the stock of Avila Pires et al. at the node is c_t = (c + S)/g^t, and c + G =
g^t (c_t + G_t): what matters is the same at every step up to a known scale.

`best` is classic dynamic programming on the tree for any utility of c + G, time being part of the node: the problem that
distributional dynamic programming solves without it for utilities with a degree of homogeneity.

Baeuerle and Ott, Math. Methods Oper. Res. 74, 2011; Avila Pires et al. 2025, arXiv 2501.13028.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from ..mdp.model import MDP
from ..mdp.outcome import OutcomeMDP, as_outcomes
from .errors import SolveError

Node = tuple[int, Any]
"""State and what has been earned."""

MOST = 200_000
"""Nodes of a tree before it is refused."""


@dataclass(frozen=True, eq=False)
class StockTree:
    """The nodes that some policy reaches from one state.

    model: the problem. layers: for t = 0..H, each node with its actions' outcomes, (probability, reward, next node); no actions
    at the end. An action is named by its position.
    """

    model: OutcomeMDP
    layers: list[dict[Node, list[list[tuple[Fraction, Any, Node]]]]]

    @classmethod
    def of(
        cls, problem: MDP | OutcomeMDP, state: int, decisions: int | None = None, rewards: np.ndarray | None = None
    ) -> StockTree:
        """The tree from a state.

        decisions: how many; default: the problem's horizon. rewards: (z, d), a vector of rewards of each transition in place of
        the model's own; terminal values are then not earned.
        Raises SolveError without a number of decisions, for a state that there is not, rewards that do not fit, or more than
        200,000 nodes.
        """
        model = as_outcomes(problem)
        horizon = model.horizon if decisions is None else decisions
        if horizon is None:
            raise SolveError("the problem is discounted for ever; say how many decisions to plan, decisions=...")
        if not 0 <= state < model.n_states:
            raise SolveError(f"there is no state {state}; states are 0..{model.n_states - 1}")
        table = _Outcomes(model, rewards)
        scale, g = Fraction(1), Fraction(model.discount)
        layers: list[dict[Node, Any]] = [{(state, table.nothing): []}]
        total = 1
        for _ in range(horizon):
            following: dict[Node, Any] = {}
            for (s, earned), actions in layers[-1].items():
                for rows in table.of(s):
                    outcomes = [(p, r, (j, plus(earned, r, scale))) for p, r, j in rows]
                    actions.append(outcomes)
                    for _, _, node in outcomes:
                        following.setdefault(node, [])
            total += len(following)
            if total > MOST:
                raise SolveError(f"more than {MOST} stocks can be reached; take fewer decisions, or a lattice of stocks")
            layers.append(following)
            scale *= g
        return cls(model, layers)

    @property
    def horizon(self) -> int:
        """Number of decisions."""
        return len(self.layers) - 1

    @property
    def root(self) -> Node:
        """The first node."""
        return next(iter(self.layers[0]))

    @property
    def nodes(self) -> int:
        """How many there are."""
        return sum(len(layer) for layer in self.layers)

    def scale(self, stage: int) -> Fraction:
        """g^stage."""
        return Fraction(self.model.discount) ** stage

    def left(self, node: Node) -> Any:
        """What is still earned at a node without actions: its terminal value; of vectors, nothing."""
        state, earned = node
        return tuple(Fraction(0) for _ in earned) if isinstance(earned, tuple) else self.worth(state)

    def worth(self, state: int) -> Fraction:
        """The terminal value of a state."""
        return Fraction(float(self.model.problem.terminal_value[state]))

    def ends(self) -> dict[tuple[int, Node], Any]:
        """Stage, node and whole return wherever the process may end."""
        found = {}
        for stage, layer in enumerate(self.layers):
            for node, actions in layer.items():
                if not actions:
                    found[stage, node] = plus(node[1], self.left(node), self.scale(stage))
        return found

    def returns(self) -> list[Any]:
        """Every return that some policy may have, in order."""
        return sorted(set(self.ends().values()))

    def best(self, utility: Callable[[Any], Any]) -> tuple[Any, dict[tuple[int, Node], int]]:
        """Greatest E utility(return) over all policies, and an action of every node; lowest index on ties.

        utility may return numbers, or arrays (k,): many utilities at once; then actions are arrays, too.
        """
        value: dict[Node, Any] = {}
        policy: dict[tuple[int, Node], Any] = {}
        for stage in range(self.horizon, -1, -1):
            here: dict[Node, Any] = {}
            for node, actions in self.layers[stage].items():
                if not actions:
                    here[node] = utility(plus(node[1], self.left(node), self.scale(stage)))
                    continue
                worth = [sum(p * value[after] for p, _, after in rows) for rows in actions]
                best, chosen = worth[0], 0
                for action, other in enumerate(worth[1:], 1):
                    better = other > best
                    if isinstance(better, np.ndarray):
                        best, chosen = np.where(better, other, best), np.where(better, action, chosen)
                    elif better:
                        best, chosen = other, action
                here[node] = best
                policy[stage, node] = chosen
            value = here
        return value[self.root], policy

    def law(self, policy: Mapping[tuple[int, Node], int]) -> dict[Any, Fraction]:
        """Probability of each return under a policy of the nodes."""
        found: dict[Any, Fraction] = {}
        reached = {self.root: Fraction(1)}
        for stage, layer in enumerate(self.layers):
            after: dict[Node, Fraction] = {}
            for node, chance in reached.items():
                if not layer[node]:
                    whole = plus(node[1], self.left(node), self.scale(stage))
                    found[whole] = found.get(whole, Fraction(0)) + chance
                    continue
                for p, _, child in layer[node][int(policy[stage, node])]:
                    after[child] = after.get(child, Fraction(0)) + p * chance
            reached = after
        return found


class _Outcomes:
    """Outcomes of every state's actions, made once."""

    def __init__(self, model: OutcomeMDP, rewards: np.ndarray | None) -> None:
        self.model, self.rewards, self._known = model, None, {}
        self.nothing: Any = Fraction(0)
        if rewards is not None:
            self.rewards = np.asarray(rewards, dtype=np.float64)
            if (
                self.rewards.ndim != 2
                or len(self.rewards) != model.problem.n_transitions
                or not np.isfinite(self.rewards).all()
            ):
                raise SolveError(
                    f"rewards must be finite vectors, one a stored transition, ({model.problem.n_transitions}, d); their "
                    f"shape is {self.rewards.shape}"
                )
            self.nothing = (Fraction(0),) * self.rewards.shape[1]

    def of(self, state: int) -> list[list[tuple[Fraction, Any, int]]]:
        """Of each action (probability, reward, successor)."""
        if state not in self._known:
            self._known[state] = [self._rows(state, action) for action in self.model.actions(state)]
        return self._known[state]

    def _rows(self, state: int, action: int) -> list[tuple[Fraction, Any, int]]:
        rows = self.model.outcomes(state, action)
        if self.rewards is None:
            return rows
        problem = self.model.problem
        pair = int(problem.state_ptr[state]) + action
        entries = np.arange(problem.row_ptr[pair], problem.row_ptr[pair + 1])
        entries = entries[problem.probability[entries] > 0]
        vectors = [tuple(Fraction(x) for x in self.rewards[e].tolist()) for e in entries]
        return [(p, vector, j) for (p, _, j), vector in zip(rows, vectors, strict=True)]


def plus(earned: Any, reward: Any, scale: Fraction) -> Any:
    """earned + scale reward, of numbers or of tuples."""
    if isinstance(earned, tuple):
        return tuple(a + scale * b for a, b in zip(earned, reward, strict=True))
    return earned + scale * reward
