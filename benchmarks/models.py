r"""The models of the families: the library's instances, and two that only the comparison needs.

riverswim: the instance with rewards in ten-thousandths, so that 1e-6 means about the same as in the other families.
taxi: gymnasium's Taxi, the latest version that is installed.
"""

from __future__ import annotations

from collections.abc import Callable

from banach.mdp import MDP, instances


def make(spelling: str) -> MDP:
    """A model from `name:key=value,...`, where the names below come before those of the catalogue."""
    name, _, rest = spelling.partition(":")
    if name not in _OWN:
        return instances.make(spelling)
    return _OWN[name](**{key: _number(value) for key, _, value in (item.partition("=") for item in rest.split(",") if item)})


def riverswim(states: int, discount: float) -> MDP:
    """The catalogue's RiverSwim with rewards 0.0005 and 0.3."""
    model = instances.riverswim(states=states, discount=discount)
    return model.replace(reward=model.reward / 10_000)


def taxi(discount: float) -> MDP:
    """See the head of the module."""
    import gymnasium

    return MDP.from_gymnasium(gymnasium.make("Taxi"), discount=discount)


_OWN: dict[str, Callable[..., MDP]] = {"riverswim": riverswim, "taxi": taxi}


def _number(text: str) -> int | float:
    return int(text) if text.isdigit() else float(text)
