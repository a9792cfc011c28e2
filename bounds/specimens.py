"""The named models on which the catalogue's bounds are measured: small ones for exact rationals, larger ones for brackets."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

from ..mdp.instances import catalogue
from ..mdp.model import MDP
from .extremal import extremal

DISCOUNTED = (
    "howard_toymaker",
    "riverswim",
    "forest",
    "machine_replacement",
    "combination_lock:length=12",
    "gridworld:side=10,discount=0.95",
    "queue:capacity=14,discount=0.95",
    "inventory:states=60,demand=30,discount=0.9",
    "garnet:states=300,actions=4,successors=5,discount=0.95",
)
"""Spellings of the discounted models, from two states to some hundreds."""

FEW_ROWS = ("howard_toymaker", "puterman_two_state", "riverswim", "forest", "machine_replacement", "garnet:states=50,actions=3")
"""Spellings of models whose rows can all be compared with each other."""

EXACT = ("howard_toymaker", "puterman_two_state", "riverswim", "forest", "howard_taxi:discount=0.9")
"""Spellings of models small enough for rational arithmetic."""

LARGE = ("garnet:states=10000,actions=4,successors=5,discount=0.95", "queue:capacity=99,discount=0.95")
"""Spellings of models of ten thousand states."""

REACHABILITY = ("haddad_monmege", "haddad_monmege:n=5", "gambler:fortune=4,goal=16")
"""Spellings of reachability problems."""

LONG_RUN = ("howard_taxi", "riverswim:discount=1", "machine_replacement:discount=1", "forest:discount=1", "stay_or_move")
"""Spellings of average-reward models with one gain for all states."""


def discounted(*extreme: str) -> Mapping[str, MDP]:
    """The named extremal models, then discounted ones by spelling."""
    return _extremal(extreme) | named(*DISCOUNTED)


def few_rows(*extreme: str) -> Mapping[str, MDP]:
    """The named extremal models, then discounted ones small enough to compare every row with every other."""
    return _extremal(extreme) | named(*FEW_ROWS)


def exact(*extreme: str) -> Mapping[str, MDP]:
    """The named extremal models, then discounted ones for rational arithmetic."""
    return _extremal(extreme) | named(*EXACT)


def with_large(*extreme: str) -> Mapping[str, MDP]:
    """As `discounted`, and two models of ten thousand states."""
    return {**discounted(*extreme), **named(*LARGE)}


def reachability() -> Mapping[str, MDP]:
    """Greatest probabilities of reaching a goal."""
    return named(*REACHABILITY)


def long_run() -> Mapping[str, MDP]:
    """Average-reward models."""
    return named(*LONG_RUN)


def named(*spellings: str) -> dict[str, MDP]:
    """The models of some spellings, in their order; each is made once. Raises ModelError as `instances.make`."""
    return {spelling: _make(spelling) for spelling in spellings}


def _extremal(names: tuple[str, ...]) -> dict[str, MDP]:
    models = extremal()
    return {name: models[name] for name in names}


_make = cache(catalogue.make)
