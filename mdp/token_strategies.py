r"""Hypothesis strategies that draw token problems, and tabular policies for them.

Everything is a rule with few numbers, so that examples shrink: outcomes and step rewards are read from short lists at an index
that depends on prompt, tokens and positions; the environment moves after certain pairs (position, last token), with one of
a few distributions. One token, horizon one, one prompt, a prompt of probability zero, rewards all equal, an environment that
opens, that answers with certainty, that ends the sequence, that speaks for several tokens: all of them occur.

    @given(token_problems())
    def test_something(problem): ...
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import strategies as st

from .token import TokenProblem
from .token_build import Tokens

__all__ = ["policy_weights", "token_problems", "token_specifications"]

_REWARDS = st.sampled_from([0.0, 1.0, -1.0, 0.5, -1 / 3, 100.0, 1e-6])
_BINARY = st.sampled_from([0.0, 1.0])
_WEIGHTS = st.sampled_from([1.0, 0.0, 2.0, 3.0, 1e-3])


@dataclass(frozen=True)
class Pattern:
    """A function of prompt and tokens: numbers[i], i a sum over prompt, tokens and positions."""

    numbers: tuple[float, ...]

    def __call__(self, prompt: int, tokens: Tokens) -> float:
        place = prompt + sum((position + 1) * (token + 1) for position, token in enumerate(tokens))
        return self.numbers[place % len(self.numbers)]


@dataclass(frozen=True)
class Environment:
    """Moves after the pairs (position, last token) in `after`, and before anything else where `opens`; the distributions, each
    of shape (V,), take turns. Where it opens, the policy has the next word."""

    after: frozenset[tuple[int, int]]
    distributions: tuple[tuple[float, ...], ...]
    opening: tuple[float, ...] | None

    def __call__(self, prompt: int, tokens: Tokens) -> np.ndarray | None:
        if not tokens:
            return None if self.opening is None else np.array(self.opening)
        if (len(tokens), tokens[-1]) not in self.after or (len(tokens) == 1 and self.opening is not None):
            return None
        return np.array(self.distributions[(prompt + len(tokens)) % len(self.distributions)])


@st.composite
def token_specifications(
    draw: st.DrawFn,
    *,
    max_tokens: int = 3,
    max_horizon: int = 3,
    max_prompts: int = 2,
    turns: bool | None = None,
    step_rewards: bool | None = None,
    binary: bool = False,
) -> dict[str, Any]:
    """Keyword arguments of `TokenProblem.build`.

    max_tokens, max_horizon, max_prompts: >= 1; every smaller size is drawn as well.
    turns, step_rewards: whether there are any; None draws it. binary: outcomes are 0 or 1.
    """
    size, horizon, n_prompts = (draw(st.integers(1, most)) for most in (max_tokens, max_horizon, max_prompts))
    eos = draw(st.none() | st.integers(0, size - 1))
    rewards = _BINARY if binary else _REWARDS
    return {
        "vocabulary_size": size,
        "horizon": horizon,
        "prompts": n_prompts,
        "eos": eos,
        "reward": Pattern(draw(_few(rewards))),
        "step_reward": Pattern(draw(_few(rewards))) if _whether(draw, step_rewards) else None,
        "environment": draw(_environments(size, horizon, eos)) if _whether(draw, turns) else None,
        "prompt_probability": draw(st.none() | _distributions(n_prompts)),
    }


def token_problems(**sizes: Any) -> st.SearchStrategy[TokenProblem]:
    """Token problems; the keywords are those of `token_specifications`."""
    return token_specifications(**sizes).map(lambda words: TokenProblem.build(**words))


def policy_weights(problem: TokenProblem) -> st.SearchStrategy[np.ndarray]:
    """Positive whole numbers, shape (N, V): the policy in proportion to them is rational, its logits are their logarithms."""
    shape = (problem.n_nodes, problem.vocabulary_size)
    some = st.lists(st.sampled_from([1, 2, 3, 50, 1000]), min_size=1, max_size=7)
    return some.map(lambda numbers: np.resize(np.array(numbers, dtype=np.float64), shape))


def _few(numbers: st.SearchStrategy[float]) -> st.SearchStrategy[tuple[float, ...]]:
    return st.lists(numbers, min_size=1, max_size=5).map(tuple)


def _whether(draw: st.DrawFn, asked: bool | None) -> bool:
    return draw(st.booleans()) if asked is None else asked


def _distributions(size: int, without: int | None = None) -> st.SearchStrategy[tuple[float, ...]]:
    """Distributions over 0..size-1 with zeros among them; nothing on the entry `without`."""

    def normal(weights: list[float]) -> tuple[float, ...]:
        kept = np.array([0.0 if entry == without else weight for entry, weight in enumerate(weights)])
        if not kept.any():
            kept = np.array([float(entry != without) for entry in range(size)])
        return tuple((kept / kept.sum()).tolist())

    return st.lists(_WEIGHTS, min_size=size, max_size=size).map(normal)


@st.composite
def _environments(draw: st.DrawFn, size: int, horizon: int, eos: int | None) -> Environment:
    moments = st.tuples(st.integers(1, max(horizon - 1, 1)), st.integers(0, size - 1))
    after = draw(st.frozensets(moments, max_size=6))
    distributions = tuple(draw(st.lists(_distributions(size), min_size=1, max_size=3)))
    may_open = horizon > 1 and not (size == 1 and eos == 0)
    opening = draw(st.none() | _distributions(size, without=eos)) if may_open else None
    return Environment(after, distributions, opening)
