"""From text to tokens and back: once before sampling, once for the reward. What is sampled stays tokens in between.

Decoding and encoding again may give other tokens than were sampled, with other probabilities; nothing here ever does it.
"""

from __future__ import annotations

import string
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from .errors import PolicyError


class Tokenizer(Protocol):
    """Text and tokens."""

    @property
    def size(self) -> int:
        """Of the vocabulary."""
        ...

    @property
    def eos(self) -> tuple[int, ...]:
        """Every token that ends an answer."""
        ...

    @property
    def pad(self) -> int:
        """What fills rectangles; nothing is read there."""
        ...

    def encode(self, text: str) -> list[int]:
        """Tokens of a text, without special ones."""
        ...

    def decode(self, tokens: Sequence[int]) -> str:
        """Text of tokens; special ones are left out."""
        ...

    def tokens_with(self, text: str) -> tuple[int, ...]:
        """Every token whose own text contains `text`."""
        ...


class CharacterTokenizer:
    """One token a character, and one that ends an answer. Raises PolicyError for an alphabet that repeats a character.

    alphabet: the characters, tokens 0, 1, ... in this order. size: of the vocabulary, at least one more than the alphabet;
        tokens beyond are never produced by `encode` and have no text.
    """

    def __init__(self, alphabet: str = string.printable[:95] + "\n", size: int | None = None) -> None:
        if len(set(alphabet)) != len(alphabet):
            raise PolicyError(f"the alphabet {alphabet!r} repeats a character; each is one token")
        self.alphabet = alphabet
        self.size = len(alphabet) + 1 if size is None else size
        if self.size <= len(alphabet):
            raise PolicyError(f"size={size} has no room for {len(alphabet)} characters and the end of an answer")
        self.eos: tuple[int, ...] = (len(alphabet),)
        self.pad = len(alphabet)
        self._token = {character: i for i, character in enumerate(alphabet)}

    def encode(self, text: str) -> list[int]:
        """One token a character. Raises PolicyError naming a character outside the alphabet."""
        unknown = sorted(set(text) - set(self._token))
        if unknown:
            raise PolicyError(f"{unknown[0]!r} is not in the alphabet of this tokenizer")
        return [self._token[character] for character in text]

    def decode(self, tokens: Sequence[int]) -> str:
        """The characters; the end of an answer and tokens beyond the alphabet have none."""
        return "".join(self.alphabet[t] for t in tokens if t < len(self.alphabet))

    def tokens_with(self, text: str) -> tuple[int, ...]:
        """The token of a single character. Raises PolicyError for more than one."""
        if len(text) != 1:
            raise PolicyError(f"{text!r}: a character's token contains one character")
        return tuple(self.encode(text))


@dataclass(frozen=True, eq=False)
class PretrainedTokenizer:
    """A tokenizer of transformers.

    inner: the object. also_ends: tokens that end an answer beside its own end-of-sequence token.
    """

    inner: Any
    also_ends: tuple[int, ...] = ()

    @classmethod
    def load(cls, folder: str | Path) -> PretrainedTokenizer:
        """From a folder with the tokenizer's files."""
        from transformers import AutoTokenizer

        return cls(AutoTokenizer.from_pretrained(folder))

    @property
    def size(self) -> int:
        """Of the vocabulary."""
        return len(self.inner)

    @property
    def eos(self) -> tuple[int, ...]:
        """Every token that ends an answer."""
        return tuple(dict.fromkeys((self.inner.eos_token_id, *self.also_ends)))

    @property
    def pad(self) -> int:
        """What fills rectangles; nothing is read there."""
        return self.eos[0] if self.inner.pad_token_id is None else self.inner.pad_token_id

    def encode(self, text: str) -> list[int]:
        """Tokens of a text, without special ones."""
        return self.inner.encode(text, add_special_tokens=False)

    def decode(self, tokens: Sequence[int]) -> str:
        """Text of tokens; special ones are left out."""
        return self.inner.decode(list(tokens), skip_special_tokens=True)

    def tokens_with(self, text: str) -> tuple[int, ...]:
        """Every token whose own text contains `text`."""
        return tuple(i for i, own in enumerate(self._texts) if text in own)

    @cached_property
    def _texts(self) -> list[str]:
        return self.inner.batch_decode([[i] for i in range(len(self.inner))])
