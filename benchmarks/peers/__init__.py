"""Other people's solvers, each with the settings that reach a sup-norm error of 1e-6 soonest."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence

from banach.mdp import MDP

from ..competitor import Competitor
from . import mdpsolver, quantecon, storm

_LIBRARIES = {"quantecon": ("quantecon", quantecon), "mdpsolver": ("mdpsolver", mdpsolver), "storm": ("stormpy", storm)}


def competitors(model: MDP, names: Sequence[str]) -> list[Competitor]:
    """The competitors of `names`, spelled library:method, that are installed and take a model of this kind and size."""
    found = []
    for name in names:
        library, _, method = name.partition(":")
        package, peer = _LIBRARIES[library]
        competitor = peer.competitor(model, method) if importlib.util.find_spec(package) else None
        if competitor is not None:
            found.append(competitor)
    return found
