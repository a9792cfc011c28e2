"""How a thing with settings is spelled in one word: `name:setting=value,setting=value`.

A value is a number, true, false or none where it reads as one, and otherwise text.
"""

from __future__ import annotations

import ast
from typing import Any

from ..mdp.errors import BanachError

_WORDS = {"true": True, "false": False, "none": None}


class SpellingError(BanachError, ValueError):
    """A word of the command cannot be read, or names nothing."""


def spelled(text: str) -> tuple[str, dict[str, Any]]:
    """Name and settings of `name:setting=value,...`. Raises SpellingError naming the part that cannot be read."""
    name, _, rest = text.partition(":")
    settings: dict[str, Any] = {}
    for part in filter(None, rest.split(",")):
        key, equals, value = part.partition("=")
        if not (equals and key.isidentifier()):
            raise SpellingError(f"{text!r}: {part!r} is not setting=value; write for instance {name}:setting=3")
        settings[key] = _value(value)
    return name, settings


def _value(text: str) -> Any:
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
