r"""Token problems from Python functions, every sequence walked depth first, and from tables of rewards.

Without an environment a prompt has f(T) sequences of at most T tokens,

    f(T) = V^T without an end of sequence,        f(0) = 1,  f(T) = 1 + (V - 1) f(T - 1) with one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .errors import ModelError
from .token import TokenProblem
from .token_validation import check_distribution
from .validation import real_array

Tokens = tuple[int, ...]


class TooManySequences(ModelError):  # noqa: N818 - it reads as the sentence that it is
    """There are more sequences than the limit; the message says how many and what to lower."""


def build(
    vocabulary_size: int,
    horizon: int,
    prompts: int | Sequence[Any],
    reward: Callable[[Any, Tokens], float] | None = None,
    *,
    eos: int | None = None,
    environment: Callable[[Any, Tokens], Any] | None = None,
    step_reward: Callable[[Any, Tokens], float] | None = None,
    prompt_probability: Any = None,
    max_sequences: int = 1_000_000,
) -> TokenProblem:
    """Every sequence of a problem that is given by functions of a prompt and a tuple of tokens.

    vocabulary_size, horizon: >= 1; a sequence ends with the token eos, or when it has `horizon` tokens, all of them counted.
    prompts: the objects that the functions receive, or their number P, for 0..P-1.
    reward: outcome of a finished sequence, a finite number. Default: 0.
    environment: of an unfinished prefix, None where the policy moves, or the probabilities, shape (V,), of the next token;
        tokens of probability zero are not followed.
    step_reward: reward of the last token of a prefix, whoever wrote it, earned beside the outcome. Default: 0.
    prompt_probability: shape (P,). Default: equal.
    max_sequences: at most so many are listed.
    Raises TooManySequences, and ModelError naming prompt, tokens and number where a function returns something else. What the
    functions themselves raise passes through.
    """
    for name, number in (("vocabulary_size", vocabulary_size), ("horizon", horizon), ("max_sequences", max_sequences)):
        _require_count(name, number)
    if eos is not None and (isinstance(eos, bool) or not isinstance(eos, int | np.integer) or not 0 <= eos < vocabulary_size):
        raise ModelError(f"eos is {eos!r}; it must be a token in 0..{vocabulary_size - 1}, or None")
    if isinstance(prompts, int | np.integer):
        _require_count("prompts", prompts)
        prompts = range(int(prompts))
    prompts = tuple(prompts)
    if not prompts:
        raise ModelError("prompts is empty; give at least one")
    if environment is None:
        _guard(vocabulary_size, horizon, len(prompts), eos, max_sequences)
    walk = _Walk(vocabulary_size, horizon, eos, environment, step_reward, reward)
    prompt, token, probability, earned = [], [], [], []
    for number, name in enumerate(prompts):
        for leaf in walk.sequences(name):
            if len(prompt) >= max_sequences:
                raise TooManySequences(
                    f"there are more than {max_sequences} sequences, the next one {leaf.tokens} of prompt {name!r}; "
                    "lower the horizon, the vocabulary or the number of prompts, or raise max_sequences"
                )
            prompt.append(number)
            token.append(leaf.tokens)
            probability.append(leaf.probability)
            earned.append(leaf.earned)
    chance = _padded(probability, -1.0)
    if prompt_probability is None:
        prompt_probability = np.full(len(prompts), 1 / len(prompts))
    return TokenProblem(
        vocabulary_size=int(vocabulary_size),
        prompt_probability=real_array("prompt_probability", prompt_probability),
        prompt=np.array(prompt),
        token=_padded(token, -1),
        mask=chance == 0,
        token_probability=np.where(chance > 0, chance, 1.0),
        step_reward=_padded(earned, 0.0),
        prompts=prompts,
        eos=None if eos is None else int(eos),
    )


def bandit(reward: Any, prompt_probability: Any = None) -> TokenProblem:
    """Horizon one: an action is a token, a context is a prompt; no end of sequence.

    reward: shape (V,) for one context, (P, V) for many, finite. prompt_probability: shape (P,). Default: equal.
    Raises ModelError for another shape and for a number that is not finite.
    """
    table = real_array("reward", reward)
    if table.ndim not in (1, 2) or table.size == 0:
        raise ModelError(f"reward has shape {table.shape}; give (V,) or (P, V), at least one number")
    table = np.atleast_2d(table)
    n_prompts, size = table.shape
    if prompt_probability is None:
        prompt_probability = np.full(n_prompts, 1 / n_prompts)
    return TokenProblem(
        vocabulary_size=size,
        prompt_probability=real_array("prompt_probability", prompt_probability),
        prompt=np.repeat(np.arange(n_prompts), size),
        token=np.tile(np.arange(size), n_prompts)[:, None],
        mask=np.ones((table.size, 1), dtype=np.bool_),
        token_probability=np.ones((table.size, 1)),
        step_reward=table.reshape(-1, 1),
    )


@dataclass(frozen=True)
class _Prefix:
    """Tokens so far; the environment's probability of each, zero for the policy's; the reward of each."""

    tokens: Tokens = ()
    probability: tuple[float, ...] = ()
    earned: tuple[float, ...] = ()


@dataclass(frozen=True)
class _Walk:
    vocabulary_size: int
    horizon: int
    eos: int | None
    environment: Callable[[Any, Tokens], Any] | None
    step_reward: Callable[[Any, Tokens], float] | None
    reward: Callable[[Any, Tokens], float] | None

    def sequences(self, prompt: Any) -> Iterator[_Prefix]:
        """The finished sequences of a prompt in the order of their tokens, the outcome with the last token."""
        waiting = [_Prefix()]
        while waiting:
            prefix = waiting.pop()
            if prefix.tokens and (prefix.tokens[-1] == self.eos or len(prefix.tokens) == self.horizon):
                outcome = 0.0 if self.reward is None else _number("reward", prompt, prefix.tokens, self.reward)
                yield _Prefix(prefix.tokens, prefix.probability, (*prefix.earned[:-1], prefix.earned[-1] + outcome))
                continue
            for token, probability in reversed(self._choices(prompt, prefix.tokens)):
                tokens = (*prefix.tokens, token)
                earned = 0.0 if self.step_reward is None else _number("step_reward", prompt, tokens, self.step_reward)
                waiting.append(_Prefix(tokens, (*prefix.probability, probability), (*prefix.earned, earned)))

    def _choices(self, prompt: Any, tokens: Tokens) -> list[tuple[int, float]]:
        given = None if self.environment is None else self.environment(prompt, tokens)
        if given is None:
            return [(token, 0.0) for token in range(self.vocabulary_size)]
        where = f"environment({prompt!r}, {tokens})"
        probability = real_array(where, given)
        if probability.shape != (self.vocabulary_size,):
            raise ModelError(f"{where} has shape {probability.shape}; return None or {self.vocabulary_size} probabilities")
        check_distribution(probability, where)
        return [(token, p) for token, p in enumerate(probability.tolist()) if p > 0]


def _guard(size: int, horizon: int, n_prompts: int, eos: int | None, max_sequences: int) -> None:
    count = 1
    for _ in range(horizon):
        count = count * size if eos is None else 1 + (size - 1) * count
        if n_prompts * count > max_sequences:
            break
    if n_prompts * count <= max_sequences:
        return
    grows = size if eos is None else size - 1
    exact = n_prompts * (size**horizon if eos is None else sum(grows**t for t in range(horizon + 1))) if horizon <= 64 else None
    number = f"{exact:,}" if exact is not None else f"more than {n_prompts * count:,}"
    raise TooManySequences(
        f"{n_prompts} prompts, {size} tokens and horizon {horizon} make {number} sequences, the limit is {max_sequences:,}; "
        "lower the horizon, the vocabulary or the number of prompts, or raise max_sequences"
    )


def _require_count(name: str, number: Any) -> None:
    if isinstance(number, bool) or not isinstance(number, int | np.integer) or number < 1:
        raise ModelError(f"{name} is {number!r}; give an integer >= 1")


def _number(name: str, prompt: Any, tokens: Tokens, function: Callable[[Any, Tokens], float]) -> float:
    given = function(prompt, tokens)
    try:
        number = float(given)
    except (TypeError, ValueError, OverflowError) as fault:
        raise ModelError(f"{name}({prompt!r}, {tokens}) is {given!r}, no number ({fault}); return a finite one") from None
    if not math.isfinite(number):
        raise ModelError(f"{name}({prompt!r}, {tokens}) is {number}; return a finite number")
    return number


def _padded(rows: list[tuple[Any, ...]], fill: float) -> np.ndarray:
    array = np.full((len(rows), max(map(len, rows))), fill)
    for row, entries in enumerate(rows):
        array[row, : len(entries)] = entries
    return array
