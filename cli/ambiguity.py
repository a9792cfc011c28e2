"""The sets of `banach.mdp.ambiguity`, by name: l1:0.1 is L1(0.1), cressie-read:order=3,radius=0.1 its namesake."""

from __future__ import annotations

import dataclasses
import re
from typing import Literal

from ..mdp import ambiguity
from ..mdp.ambiguity import AmbiguitySet
from .spelling import SpellingError, spelled

_SCALARS = (float, int, "float", "int")


def sets() -> dict[str, type[AmbiguitySet]]:
    """Every set that numbers alone describe, by its name in lower case."""
    public = (getattr(ambiguity, name) for name in ambiguity.__all__)
    families = (kind for kind in public if isinstance(kind, type) and issubclass(kind, AmbiguitySet) and _numbers(kind))
    return {_kebab(kind.__name__): kind for kind in families if hasattr(kind, "family")}


def set_named(text: str, support: Literal["nominal", "all"]) -> AmbiguitySet:
    """The set that `name:number` or `name:setting=number,...` spells. Raises SpellingError naming what there is instead."""
    name, _, rest = text.partition(":")
    known = sets()
    if name not in known:
        raise SpellingError(f"no ambiguity set is called {name!r}; there are {', '.join(sorted(known))}")
    wanted = _numbers(known[name])
    bare = rest and "=" not in rest
    settings = {wanted[0]: _number(text, rest)} if bare and len(wanted) == 1 else {} if bare else spelled(text)[1]
    if sorted(settings) != sorted(wanted):
        example = ",".join(f"{setting}=0.1" for setting in wanted)
        raise SpellingError(f"{text!r}: {name} is given by {' and '.join(wanted)}; write for instance {name}:{example}")
    return known[name](**settings, support=support)  # pyright: ignore[reportCallIssue]


def _numbers(kind: type[AmbiguitySet]) -> list[str]:
    """The settings of a set that is made of numbers alone; else none."""
    fields = [field for field in dataclasses.fields(kind) if field.name != "support"]
    return [field.name for field in fields] if all(field.type in _SCALARS for field in fields) else []


def _number(text: str, rest: str) -> float:
    try:
        return float(rest)
    except ValueError:
        raise SpellingError(f"{text!r}: {rest!r} is no number; write for instance l1:0.1") from None


def _kebab(name: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z][a-z])", "-", name).lower()
