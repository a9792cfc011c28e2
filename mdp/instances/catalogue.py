"""Every named instance, and the spelling `name:key=value,key=value` by which commands and files call for one."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any

from ..errors import ModelError
from ..model import MDP
from . import cancer, chains, classics, garnet, grids, inventories, lot_sizing, maintenance, outcomes, protocols, queues, windy
from .instance import Instance

_MODULES = (garnet, grids, chains, maintenance, queues, inventories, lot_sizing, protocols, classics, outcomes, windy, cancer)

CATALOGUE: dict[str, Instance] = {
    instance.name: instance for module in _MODULES for instance in vars(module).values() if isinstance(instance, Instance)
}
"""Name -> instance."""


def make(spelling: str) -> MDP:
    """The model of a spelling such as "garnet:states=1000,actions=5,discount=0.99"; keys left out have their defaults.

    Raises ModelError naming the instance, key or value that is wrong and the nearest names there are.
    """
    instance, parameters = parse(spelling)
    return instance.make(**parameters)


def parse(spelling: str) -> tuple[Instance, dict[str, Any]]:
    """The instance and the parameters of a spelling, as in `make`. Raises ModelError."""
    name, _, rest = spelling.partition(":")
    name = name.strip()
    if name not in CATALOGUE:
        raise ModelError(f"there is no instance {name!r}; {_nearest(name, CATALOGUE)}")
    instance, parameters = CATALOGUE[name], {}
    for item in filter(None, (item.strip() for item in rest.split(","))):
        key, equals, text = (part.strip() for part in item.partition("="))
        if not equals:
            raise ModelError(f"{name}: {item!r} is not of the form key=value")
        if key not in instance.defaults:
            raise ModelError(f"{name} has no parameter {key!r}; {_nearest(key, instance.defaults)}")
        if key in parameters:
            raise ModelError(f"{name}: {key} is given twice")
        parameters[key] = _read(f"{name}: {key}", text, instance.defaults[key])
    return instance, parameters


def _read(where: str, text: str, default: Any) -> int | float | str:
    if isinstance(default, str):
        return text
    try:
        number = float(text)
        if not isinstance(default, int):
            return number
        whole = int(text) if text.lstrip("+-").isdigit() else int(number)
    except (ValueError, OverflowError):
        kind = "a whole number" if isinstance(default, int) else "a number"
        raise ModelError(f"{where}={text!r} is not {kind}; the default is {default!r}") from None
    if whole != number:
        raise ModelError(f"{where}={text!r} is not a whole number; the default is {default!r}")
    return whole


def _nearest(word: str, names: Iterable[str]) -> str:
    names = sorted(names)
    close = difflib.get_close_matches(word, names, n=3, cutoff=0.5)
    if close:
        return f"did you mean {' or '.join(close)}?"
    return f"there are {', '.join(names)}" if names else "it has none"
