"""A small token problem as a tree, to be changed here and there; see `banach.bounds.draft`.

A sequence's reward stands at its end, and a sequence may be cut short anywhere: where the policy chose, all tokens that
followed go together. Rewards and weights stay on short grids, so that what is found can be read.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ..mdp.token import TokenProblem
from .draft import bits, number

_REWARDS = (0.0, 1.0, -1.0, 2.0, 0.5, 4.0)
_PARTS = 8


@dataclass(frozen=True)
class Prefix:
    """What follows a prefix. tokens: empty where the sequence ends, worth `reward` then. chance: the environment's
    probabilities of the tokens, or empty where the policy moves. below: the prefix after each token."""

    reward: float = 0.0
    tokens: tuple[int, ...] = ()
    chance: tuple[float, ...] = ()
    below: tuple[Prefix, ...] = ()


Path = tuple[int, ...]
"""Which of the prefixes below is meant, from the prompt on."""


@dataclass(frozen=True)
class TokenDraft:
    """vocabulary: V. weights: of the prompts. trees: what follows each prompt."""

    vocabulary: int
    weights: tuple[float, ...]
    trees: tuple[Prefix, ...]

    @classmethod
    def of(cls, problem: TokenProblem) -> TokenDraft:
        """The draft of a problem, step rewards added up at the end."""
        rows: list[list[int]] = [[] for _ in range(problem.n_prompts)]
        for row, prompt in enumerate(problem.prompt):
            rows[prompt].append(row)

        def grown(members: list[int], depth: int) -> Prefix:
            first = members[0]
            if depth == problem.horizon or problem.token[first, depth] < 0:
                return Prefix(float(problem.reward[first]))
            after: dict[int, list[int]] = {}
            for row in members:
                after.setdefault(int(problem.token[row, depth]), []).append(row)
            chance = (
                ()
                if problem.mask[first, depth]
                else tuple(float(problem.token_probability[some[0], depth]) for some in after.values())
            )
            return Prefix(0.0, tuple(after), chance, tuple(grown(some, depth + 1) for some in after.values()))

        weights = tuple(map(float, problem.prompt_probability))
        return cls(problem.vocabulary_size, weights, tuple(grown(members, 0) for members in rows))

    def model(self) -> TokenProblem:
        """The problem. Raises ModelError when it is none."""
        prompt, token, chance, reward = [], [], [], []
        for number_, tree in enumerate(self.trees):
            for tokens, chances, worth in _sequences(tree):
                prompt.append(number_)
                token.append(tokens)
                chance.append(chances)
                reward.append(worth)
        shape = (len(prompt), max(map(len, token)))
        tokens, mask = np.full(shape, -1), np.zeros(shape, dtype=np.bool_)
        probability, earned = np.ones(shape), np.zeros(shape)
        for row, (words, chances, worth) in enumerate(zip(token, chance, reward, strict=True)):
            tokens[row, : len(words)] = words
            mask[row, : len(words)] = [p == 0 for p in chances]
            probability[row, : len(words)] = [p if p > 0 else 1.0 for p in chances]
            earned[row, len(words) - 1] = worth
        weights = np.array(self.weights)
        return TokenProblem(self.vocabulary, weights / weights.sum(), np.array(prompt), tokens, mask, probability, earned)

    @property
    def size(self) -> tuple[int, int, int, int]:
        """What shrinking makes smaller, in order: sequences, tokens, different numbers, bits."""
        ends = [end for tree in self.trees for end in _sequences(tree)]
        numbers = [worth for _, _, worth in ends] + [p for _, chances, _ in ends for p in chances] + list(self.weights)
        return len(ends), sum(len(words) for words, _, _ in ends), len(set(numbers)), sum(map(bits, numbers))

    def changed(self, rng: np.random.Generator) -> TokenDraft:
        """A neighbour: one or two numbers changed at random, or a sequence cut short."""
        draft = self
        for _ in range(int(rng.integers(1, 3))):
            ends = list(draft._places(inner=False))
            inner = [path for path in draft._places(inner=True) if len(path) > 1]
            kind = rng.choice(["reward", "reward", "reward", "reward", "weight", "cut"])
            if kind == "weight" and len(draft.weights) > 1:
                at = int(rng.integers(len(draft.weights)))
                draft = draft._weighing(at, int(rng.integers(1, _PARTS)) / _PARTS)
            elif kind == "cut" and inner and rng.random() < 0.5:
                draft = draft._put(inner[int(rng.integers(len(inner)))], Prefix(float(rng.choice(_REWARDS))))
            else:
                draft = draft._put(ends[int(rng.integers(len(ends)))], Prefix(float(rng.choice(_REWARDS))))
        return draft

    def simpler(self) -> Iterator[TokenDraft]:
        """Drafts of smaller `size`, the boldest first."""
        for gone in range(len(self.trees)):
            keep = [prompt for prompt in range(len(self.trees)) if prompt != gone]
            if not sum(self.weights[prompt] for prompt in keep):
                continue
            yield dataclasses.replace(
                self, weights=tuple(self.weights[p] for p in keep), trees=tuple(self.trees[p] for p in keep)
            )
        for path in self._places(inner=True):
            if len(path) > 1:
                for reward in (0.0, 1.0):
                    yield self._put(path, Prefix(reward))
            if self._at(path).chance:
                yield from (self._put(path, below) for below in self._at(path).below if len(path) > 1 or below.tokens)
        yield dataclasses.replace(self, weights=(1.0,) * len(self.weights))
        for path in self._places(inner=False):
            for simple in (0.0, 1.0, -1.0, float(round(self._at(path).reward))):
                yield self._put(path, Prefix(simple))
        for path in self._places(inner=True):
            here = self._at(path)
            if here.chance:
                yield self._put(path, dataclasses.replace(here, chance=(1 / len(here.chance),) * len(here.chance)))

    def __str__(self) -> str:
        total, lines = sum(self.weights), [f"{self.vocabulary} tokens"]
        for prompt, (weight, tree) in enumerate(zip(self.weights, self.trees, strict=True)):
            lines.append(f"prompt {prompt}, drawn with probability {number(weight / total)}")
            for words, chances, worth in _sequences(tree):
                said = [str(word) if p == 0 else f"[{word} with {number(p)}]" for word, p in zip(words, chances, strict=True)]
                lines.append(f"  {' '.join(said)}: reward {number(worth)}")
        return "\n".join(lines)

    def _places(self, inner: bool) -> Iterator[Path]:
        waiting: list[Path] = [(prompt,) for prompt in range(len(self.trees))]
        while waiting:
            path = waiting.pop(0)
            here = self._at(path)
            if bool(here.tokens) == inner:
                yield path
            waiting += [(*path, branch) for branch in range(len(here.below))]

    def _at(self, path: Path) -> Prefix:
        here = self.trees[path[0]]
        for branch in path[1:]:
            here = here.below[branch]
        return here

    def _put(self, path: Path, there: Prefix) -> TokenDraft:
        def put(here: Prefix, rest: Path) -> Prefix:
            if not rest:
                return there
            below = tuple(put(old, rest[1:]) if branch == rest[0] else old for branch, old in enumerate(here.below))
            return dataclasses.replace(here, below=below)

        trees = tuple(put(old, path[1:]) if prompt == path[0] else old for prompt, old in enumerate(self.trees))
        return dataclasses.replace(self, trees=trees)

    def _weighing(self, at: int, weight: float) -> TokenDraft:
        return dataclasses.replace(self, weights=(*self.weights[:at], weight, *self.weights[at + 1 :]))


def _sequences(
    here: Prefix, tokens: tuple[int, ...] = (), chances: tuple[float, ...] = ()
) -> Iterator[tuple[tuple[int, ...], tuple[float, ...], float]]:
    """Tokens, probabilities (zero for the policy's) and reward of each sequence below, in order."""
    if not here.tokens:
        yield tokens, chances, here.reward
        return
    for token, p, below in zip(here.tokens, here.chance or (0.0,) * len(here.tokens), here.below, strict=True):
        yield from _sequences(below, (*tokens, token), (*chances, p))
