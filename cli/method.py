"""The methods of `banach.solvers`, by name: `ModifiedPolicyIteration(sweeps=50)` is modified-policy-iteration:sweeps=50."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

from .. import solvers
from .spelling import SpellingError, spelled

_KINDS = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}


def methods() -> dict[str, type]:
    """Every method by its name: the public dataclasses of `banach.solvers` that are made of settings alone."""
    public = (getattr(solvers, name) for name in solvers.__all__)
    return {_kebab(kind.__name__): kind for kind in public if isinstance(kind, type) and _is_settings(kind)}


def method_named(text: str) -> Any:
    """The method that `name:setting=value,...` spells. Raises SpellingError naming what there is instead."""
    name, settings = spelled(text)
    known = methods()
    if name not in known:
        raise SpellingError(f"no method is called {name!r}; there are {', '.join(sorted(known))}")
    defaults = {field.name: field.default for field in dataclasses.fields(known[name])}
    for setting, value in settings.items():
        if setting not in defaults:
            raise SpellingError(f"{name} has no setting {setting!r}; it has {', '.join(defaults) or 'none'}")
        default = defaults[setting]
        if isinstance(default, float) and type(value) is int:
            settings[setting] = float(value)
        elif isinstance(default, bool | int | float | str) and type(value) is not type(default):
            raise SpellingError(f"{name}:{setting}={value!r} is not {_KINDS[type(default)]}; for instance {setting}={default}")
    return known[name](**settings)


def spelling_of(method: Any) -> str:
    """The word that spells a method: its name, and the settings that differ from their defaults."""
    fields = [field for field in dataclasses.fields(method) if getattr(method, field.name) != field.default]
    settings = ",".join(f"{field.name}={getattr(method, field.name)}" for field in fields)
    return _kebab(type(method).__name__) + (f":{settings}" if settings else "")


def _is_settings(kind: type) -> bool:
    if not dataclasses.is_dataclass(kind):
        return False
    missing = dataclasses.MISSING
    return all(f.default is not missing or f.default_factory is not missing for f in dataclasses.fields(kind))


def _kebab(name: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "-", name).lower()
