r"""What can be known of a token problem, by listing every sequence in exact numbers.

Policies are tables pi(a | n), a row of V rationals a node. In the coordinates of their logits everything stays rational,

    s(y) = grad log pi(y) = sum_t (e_{n_t, y_t} - sum_a pi(a | n_t) e_{n_t, a}),

e the unit vectors of (node, token), so that an objective's expected ascent is a rational table wherever its weights are; roots,
logarithms and exponentials are balls at 256 bits. Two routes lead to a gradient and share no code:

    `scores`        sum_{y,t} c_{y,t} grad log pi(y_t | n_t), the form in which losses are written;
    `derivatives`   a scalar of the policy evaluated in power series, logit after logit: pi(b | n) with l_{n,a} + x is
                    pi(b | n) (1 + x [b = a]) / (1 + x pi(a | n)) to first order.

The floats of prompts and environments are taken as weights and divided by their exact sums.

Legend: P prompts, S sequences, N nodes, V tokens, as in `banach.mdp.token`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from flint import arb, arb_series, ctx, fmpq, fmpq_series

from ..mdp.token import TokenProblem
from .errors import BoundError
from .number import exact

PRECISION = 256
"""Bits of the balls."""

Table = list[list[Any]]
"""A number a node and token, N lists of V."""

ZERO, ONE = fmpq(0), fmpq(1)


@dataclass(frozen=True)
class Answer:
    """A sequence. steps: (node, token) of the policy's tokens. earned: reward from each of them up to the next, what came
    before the first added to that. chance: product of the environment's probabilities. reward: the whole reward."""

    prompt: int
    steps: tuple[tuple[int, int], ...]
    earned: tuple[fmpq, ...]
    chance: fmpq
    reward: fmpq

    @property
    def length(self) -> int:
        """Tokens of the policy, at least one."""
        return len(self.steps)


class TokenEvidence:
    """A problem's sequences, policies for it, and what measurements need of them."""

    def __init__(self, problem: TokenProblem) -> None:
        self.problem = problem
        self.n_nodes, self.n_tokens, self.n_prompts = problem.n_nodes, problem.vocabulary_size, problem.n_prompts
        self._known: dict[Any, Any] = {}

    @cached_property
    def prompt_chance(self) -> list[fmpq]:
        """rho, (P,)."""
        return _normalised([exact(p) for p in self.problem.prompt_probability])

    @cached_property
    def edge_chance(self) -> list[fmpq]:
        """The environment's probability of each edge of the prefix tree, one for the policy's."""
        given, tree = [exact(p) for p in self.problem.edge_probability], self.problem.tree
        chance = [ONE] * tree.n_edges
        for prefix, edges in enumerate(self._children):
            if prefix not in self._node_at:
                for edge, p in zip(edges, _normalised([given[edge] for edge in edges]), strict=True):
                    chance[edge] = p
        return chance

    @cached_property
    def edge_reward(self) -> list[fmpq]:
        """Reward of each edge of the prefix tree."""
        return [exact(r) for r in self.problem.edge_reward]

    @cached_property
    def answers(self) -> list[Answer]:
        """Every sequence, (S,)."""
        return [self._answer(row) for row in range(self.problem.n_sequences)]

    @cached_property
    def by_prompt(self) -> list[list[int]]:
        """The sequences of each prompt that occurs; empty for one of probability zero."""
        found: list[list[int]] = [[] for _ in range(self.n_prompts)]
        for row, answer in enumerate(self.answers):
            if self.prompt_chance[answer.prompt] > 0:
                found[answer.prompt].append(row)
        return found

    @cached_property
    def right(self) -> list[bool]:
        """Whether an answer earns the largest reward of the problem, (S,)."""
        best = max(answer.reward for answer in self.answers)
        return [answer.reward == best for answer in self.answers]

    @property
    def has_environment(self) -> bool:
        """Whether some token is not the policy's."""
        return not bool(self.problem.mask[self.problem.token >= 0].all())

    @cached_property
    def policies(self) -> dict[str, Table]:
        """Policies to measure at, by name."""
        size = self.n_tokens

        def table(weight: Callable[[int, int], int]) -> Table:
            return [_normalised([fmpq(weight(n, a)) for a in range(size)]) for n in range(self.n_nodes)]

        return {
            "uniform": table(lambda n, a: 1),
            "rising": table(lambda n, a: 1 + a),
            "mixed": table(lambda n, a: 1 + (2 * a + n) % 3),
            "sharp": table(lambda n, a: 16 if a == n % size else 1),
        }

    def pairs(self) -> Iterator[tuple[str, Table, Table]]:
        """A policy and another one, which samples or is the reference, with the names of both."""
        names = list(self.policies)
        for name, other in zip(names, names[1:] + names[:1], strict=True):
            yield f"{name} from {other}", self.policies[name], self.policies[other]

    def chances(self, policy: Table) -> list[Any]:
        """Probability of each sequence, its prompt drawn too, (S,), in the arithmetic of the policy."""
        found = []
        with ctx.workprec(PRECISION):
            for answer in self.answers:
                p: Any = self.prompt_chance[answer.prompt] * answer.chance
                for node, token in answer.steps:
                    p = p * policy[node][token]
                found.append(p)
        return found

    def mean(self, chances: Sequence[Any], values: Sequence[Any]) -> Any:
        """sum_y P(y) v(y), of two lists (S,)."""
        with ctx.workprec(PRECISION):
            return sum((p * v for p, v in zip(chances, values, strict=True)), ZERO)

    def expected_reward(self, policy: Table) -> Any:
        """J, in the arithmetic of the policy (N, V)."""
        return self.mean(self.chances(policy), [answer.reward for answer in self.answers])

    def success(self, policy: Table) -> list[Any]:
        """Probability of a right answer to each prompt, (P,); zero for a prompt that never occurs."""
        chance = self.chances(policy)
        return [
            sum((chance[row] for row in rows if self.right[row]), ZERO) / (rho if rho > 0 else ONE)
            for rows, rho in zip(self.by_prompt, self.prompt_chance, strict=True)
        ]

    def scores(self, policy: Table, weight: Callable[[int, int], Any]) -> Table:
        """sum_{y,t} c_{y,t} grad log pi(y_t | n_t), (N, V); weight(y, t) is c for the t-th of the policy's tokens of y."""
        found: Table = [[ZERO] * self.n_tokens for _ in range(self.n_nodes)]
        leaving: list[Any] = [ZERO] * self.n_nodes
        with ctx.workprec(PRECISION):
            for row, answer in enumerate(self.answers):
                for t, (node, token) in enumerate(answer.steps):
                    c = weight(row, t)
                    found[node][token] = found[node][token] + c
                    leaving[node] = leaving[node] + c
            return [
                [f - c * p for f, p in zip(row, policy[node], strict=True)]
                for node, (row, c) in enumerate(zip(found, leaving, strict=True))
            ]

    def ascent(self, policy: Table, coefficient: Sequence[Any]) -> Table:
        """sum_y c_y s(y), (N, V); coefficients (S,), probabilities included."""
        return self.scores(policy, lambda row, t: coefficient[row])

    def derivatives(self, policy: Table, scalar: Callable[[Table], Any], balls: bool = False) -> Table:
        """d scalar / d logits, (N, V), in power series; balls: whether the scalar leaves the rationals."""
        kind: Any = arb_series if balls else fmpq_series
        number: Any = arb if balls else fmpq
        found: Table = []
        before = ctx.cap
        ctx.cap = 2
        try:
            with ctx.workprec(PRECISION):
                whole = [[kind([number(p)]) for p in row] for row in policy]
                for node in range(self.n_nodes):
                    slopes = []
                    for token, p in enumerate(policy[node]):
                        below = kind([number(1), number(p)])
                        moved = [kind([number(q), number(q if b == token else 0)]) / below for b, q in enumerate(policy[node])]
                        value = kind(scalar([*whole[:node], moved, *whole[node + 1 :]]))
                        slopes.append(value[1])
                    found.append(slopes)
        finally:
            ctx.cap = before
        return found

    def gradient(self, policy: Table) -> Table:
        """dJ / dlogits, (N, V), in power series; kept."""
        key = ("gradient", *(p for row in policy for p in row))
        if key not in self._known:
            self._known[key] = self.derivatives(policy, self.expected_reward)
        return self._known[key]

    def backup(self, choose: Callable[[int, list[Any]], Any]) -> tuple[list[Any], Table]:
        """U at every prefix of the tree, prompts first, and Q at the nodes (N, V), as `banach.mdp.token_backup` has them."""
        values: list[Any] = [ZERO] * len(self._children)
        action_value: Table = [[] for _ in range(self.n_nodes)]
        with ctx.workprec(PRECISION):
            for prefix in reversed(range(len(self._children))):
                edges = self._children[prefix]
                worth = [self.edge_reward[edge] + values[self.n_prompts + edge] for edge in edges]
                node = self._node_at.get(prefix)
                if node is not None:
                    action_value[node] = worth
                    values[prefix] = choose(node, worth)
                elif edges:
                    values[prefix] = sum((self.edge_chance[e] * w for e, w in zip(edges, worth, strict=True)), ZERO)
        return values, action_value

    def values(self, policy: Table) -> tuple[list[Any], Table]:
        """U at the nodes (N,), and Q (N, V), of a policy."""
        prefixes, action_value = self.backup(
            lambda node, worth: sum((p * w for p, w in zip(policy[node], worth, strict=True)), ZERO)
        )
        return [prefixes[prefix] for prefix in self._node_at], action_value

    def advantages(self, policy: Table) -> Table:
        """Q less U, (N, V)."""
        value, action_value = self.values(policy)
        return [[q - u for q in row] for row, u in zip(action_value, value, strict=True)]

    def occupancy(self, policy: Table) -> list[Any]:
        """Probability that a sequence passes through each node, (N,), by a forward pass."""
        reach: list[Any] = [*self.prompt_chance, *[ZERO] * self.problem.tree.n_edges]
        with ctx.workprec(PRECISION):
            for prefix, edges in enumerate(self._children):
                node = self._node_at.get(prefix)
                for token, edge in enumerate(edges):
                    step = self.edge_chance[edge] if node is None else policy[node][token]
                    reach[self.n_prompts + edge] = reach[prefix] * step
        return [reach[prefix] for prefix in self._node_at]

    def groups(
        self, policy: Table, size: int, weigh: Callable[[tuple[Any, ...]], Sequence[Any] | None], kind: Sequence[Any]
    ) -> tuple[list[Any], list[fmpq]]:
        """Expected ascent of (1/G) sum_i w_i s(y_i), as coefficients of the scores, (S,); each prompt's share of groups kept.

        size: G, answers a group, drawn from the policy. kind: of each answer what the loss sees of it, (S,). weigh: of a group
        of kinds the weight of each member, or None for a group that is dropped. Every group of kinds is listed with its
        probability.
        """
        chance = self.chances(policy)
        coefficient: list[Any] = [ZERO] * len(chance)
        kept = [ZERO] * self.n_prompts
        with ctx.workprec(PRECISION):
            for prompt, rows in enumerate(self.by_prompt):
                rho = self.prompt_chance[prompt]
                share: dict[Any, fmpq] = {}
                for row in rows:
                    share[kind[row]] = share.get(kind[row], ZERO) + chance[row] / rho
                pull: dict[Any, Any] = dict.fromkeys(share, ZERO)
                for group in itertools.product(share, repeat=size) if rows else ():
                    given = weigh(group)
                    if given is None:
                        continue
                    p = ONE
                    for member in group:
                        p *= share[member]
                    kept[prompt] += p
                    for member, w in zip(group, given, strict=True):
                        pull[member] = pull[member] + p * w / size
                for row in rows:
                    coefficient[row] = pull[kind[row]] * (chance[row] / share[kind[row]])
        return coefficient, kept

    @cached_property
    def _children(self) -> list[list[int]]:
        tree = self.problem.tree
        found: list[list[int]] = [[] for _ in range(tree.n_prompts + tree.n_edges)]
        for edge, parent in enumerate(tree.parent.tolist()):
            found[parent].append(edge)
        return found

    @cached_property
    def _node_at(self) -> dict[int, int]:
        return {int(prefix): node for node, prefix in enumerate(self.problem.node_prefix)}

    def _answer(self, row: int) -> Answer:
        problem, steps, earned, before, chance = self.problem, [], [], ZERO, ONE
        for t, edge in enumerate(problem.tree.edge[row].tolist()):
            if edge < 0:
                break
            reward = self.edge_reward[edge]
            if problem.mask[row, t]:
                steps.append((int(problem.node[row, t]), int(problem.token[row, t])))
                earned.append(reward)
            else:
                chance *= self.edge_chance[edge]
                if steps:
                    earned[-1] += reward
                else:
                    before += reward
        earned[0] += before
        return Answer(int(problem.prompt[row]), tuple(steps), tuple(earned), chance, sum(earned, ZERO))


def _normalised(weights: list[fmpq]) -> list[fmpq]:
    total = sum(weights, ZERO)
    return [weight / total for weight in weights]


def tokens(evidence: Any, what: str) -> TokenEvidence:
    """The evidence itself, of a token problem. Raises BoundError for any other."""
    if not isinstance(evidence, TokenEvidence):
        raise BoundError(f"{what} speaks of token problems; give a TokenProblem")
    return evidence
