r"""Token problems in Fractions, prefix by prefix, recursively; nothing is shared with the library.

A problem is read from its rows alone. The policy is rational: in proportion to integer weights.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np
from banach.mdp import TokenProblem

Prefix = tuple[int, tuple[int, ...]]


@dataclass
class Step:
    """What follows a prefix: who moves, and of each token its reward and, where the environment moves, its probability."""

    of_policy: bool
    node: int
    reward: dict[int, Fraction] = field(default_factory=dict)
    chance: dict[int, Fraction] = field(default_factory=dict)


class Witness:
    """A problem and a policy, exactly; weights (N, V) whole numbers."""

    def __init__(self, problem: TokenProblem, weights: np.ndarray) -> None:
        self.rho = [Fraction(float(p)) for p in problem.prompt_probability]
        self.steps: dict[Prefix, Step] = {}
        for s in range(problem.n_sequences):
            tokens = tuple(int(a) for a in problem.token[s] if a >= 0)
            for t, token in enumerate(tokens):
                prefix = (int(problem.prompt[s]), tokens[:t])
                step = self.steps.setdefault(prefix, Step(bool(problem.mask[s, t]), int(problem.node[s, t])))
                step.reward[token] = Fraction(float(problem.step_reward[s, t]))
                step.chance[token] = Fraction(float(problem.token_probability[s, t]))
        self.policy = [[Fraction(int(w)) / int(sum(row)) for w in row] for row in weights]

    def probability(self, prefix: Prefix, token: int) -> Fraction:
        """Of the token after the prefix."""
        step = self.steps[prefix]
        return self.policy[step.node][token] if step.of_policy else step.chance[token]

    def value(self, prefix: Prefix) -> Fraction:
        """Expected reward still to come."""
        if prefix not in self.steps:
            return Fraction(0)
        return sum((self.probability(prefix, a) * self.action_value(prefix, a) for a in self.steps[prefix].reward), Fraction(0))

    def action_value(self, prefix: Prefix, token: int) -> Fraction:
        """The same with the next token given, its reward included."""
        prompt, tokens = prefix
        return self.steps[prefix].reward[token] + self.value((prompt, (*tokens, token)))

    def expected_reward(self) -> Fraction:
        """J."""
        return sum((rho * self.value((prompt, ())) for prompt, rho in enumerate(self.rho)), Fraction(0))

    def sequences(self, prefix: Prefix | None = None) -> Iterator[tuple[Prefix, Fraction, Fraction, list[int]]]:
        """Every sequence with P(y | x), its reward, and the nodes that it passes, in the order of a recursion."""
        if prefix is None:
            for prompt in range(len(self.rho)):
                yield from self.sequences((prompt, ()))
        elif prefix not in self.steps:
            yield prefix, Fraction(1), Fraction(0), []
        else:
            prompt, tokens = prefix
            step = self.steps[prefix]
            for a in sorted(step.reward):
                for whole, probability, reward, nodes in self.sequences((prompt, (*tokens, a))):
                    passed = [step.node, *nodes] if step.of_policy else nodes
                    yield whole, self.probability(prefix, a) * probability, step.reward[a] + reward, passed

    def occupancy(self) -> dict[int, Fraction]:
        """Probability of passing each node."""
        found: dict[int, Fraction] = defaultdict(Fraction)
        for (prompt, _), probability, _, nodes in self.sequences():
            for node in nodes:
                found[node] += self.rho[prompt] * probability
        return found

    def gradient(self) -> dict[tuple[int, int], Fraction]:
        """dJ / dlogits by the score function: E R(y) sum_t (1{a = y_t} - pi(a | n_t)), summed over the listed sequences."""
        found: dict[tuple[int, int], Fraction] = defaultdict(Fraction)
        for (prompt, tokens), probability, reward, nodes in self.sequences():
            weight, passed = self.rho[prompt] * probability * reward, iter(nodes)
            for t, token in enumerate(tokens):
                step = self.steps[prompt, tokens[:t]]
                if step.of_policy:
                    node = next(passed)
                    for a, p in enumerate(self.policy[node]):
                        found[node, a] += weight * ((a == token) - p)
        return found
