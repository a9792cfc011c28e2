"""The rows of the comparison, by family. Discounts, sizes and transitions a state follow the literature's benchmarks."""

from __future__ import annotations

from dataclasses import dataclass

from .peers.updates import METHODS

_QUANTECON = ("quantecon:mpi20", "quantecon:mpi100")
_STORM = ("storm:native", "storm:default", "storm:ovi", "storm:ii")
_ALL = (*_QUANTECON, "mdpsolver:mpi", *_STORM)
_LARGE = (*_QUANTECON, "storm:native", "storm:ovi")


@dataclass(frozen=True)
class Row:
    """One model and who runs on it.

    spelling: of the model, for `benchmarks.models.make`.
    peers: library:method of each; those that do not take such a model are left out.
    mixes: fast-mixing, so that the target against certified peers holds.
    local: successors are near their state in memory, so that a sweep should be near the bandwidth's floor.
    kind: "model"; "updates" of single robust states, see `benchmarks.updates`; "robust" models, see `benchmarks.robust`;
        "search" for the worst case, see `benchmarks.searches`; "published" timings, see `benchmarks.published`.
    """

    spelling: str
    peers: tuple[str, ...] = _ALL
    mixes: bool = False
    local: bool = False
    kind: str = "model"


def _garnet(states: int, discount: float, peers: tuple[str, ...] = _ALL) -> Row:
    return Row(f"garnet:states={states},actions=5,successors=5,discount={discount}", peers, mixes=True)


def _grid(side: int, discount: float, peers: tuple[str, ...] = _ALL) -> Row:
    return Row(f"gridworld:side={side},walls=0.1,discount={discount}", peers, local=True)


def _ssp(side: int) -> Row:
    return Row(f"ssp_grid:side={side},walls=0.1", ("storm:vi", "storm:default", "storm:ovi", "storm:ii"), local=True)


def _inventory(states: int, demand: int, discount: float) -> str:
    """Money in hundreds, so that 1e-6 means about the same as in the other families."""
    money = "price=0.02,unit=0.01,setup=0.2,holding=0.0002"
    return f"inventory:states={states},demand={demand},{money},discount={discount}"


def _updates(distance: str, successors: int, rewards: str) -> Row:
    return Row(f"{distance}:successors={successors},rewards={rewards}", METHODS[distance], kind="updates")


def _intervals(nominal: str, kind: str = "intervals") -> Row:
    return Row(f"{kind}:{nominal}", ("storm",), kind="robust")


def _search(*spellings: str) -> tuple[Row, ...]:
    return tuple(Row(spelling, (), kind="search") for spelling in spellings)


_SMALL_GARNET = "garnet:states=50,actions=4,successors=5"
_DISCOUNTS = (0.95, 0.99, 0.999)

FAMILIES: dict[str, tuple[Row, ...]] = {
    "garnet": (
        *(_garnet(1_000, discount) for discount in _DISCOUNTS),
        *(_garnet(10_000, discount) for discount in _DISCOUNTS),
        *(_garnet(100_000, discount, _LARGE) for discount in _DISCOUNTS[:2]),
        _garnet(100_000, 0.999, _QUANTECON),
        *(_garnet(1_000_000, discount, ("quantecon:mpi20",)) for discount in _DISCOUNTS),
    ),
    "grid": (
        _grid(105, 0.99),
        _grid(105, 0.999),
        _grid(333, 0.99, _LARGE),
        _grid(333, 0.999, _LARGE),
        _grid(1054, 0.99, ("quantecon:mpi20",)),
        _grid(1054, 0.999, ()),
    ),
    "inventory": (
        Row(_inventory(1000, 500, 0.99), _ALL, mixes=True),
        Row(_inventory(4000, 518, 0.999), _QUANTECON, mixes=True),
    ),
    "queue": (
        Row("queue:capacity=99,discount=0.999", _ALL, local=True),
        Row("queue:capacity=315,discount=0.999", (*_QUANTECON, "storm:ovi"), local=True),
    ),
    "ssp": (_ssp(105), _ssp(333)),
    "chain": (
        Row("riverswim:states=1000,discount=0.999", (*_ALL, "mdpsolver:mpi-gs", "storm:pi"), local=True),
        Row("haddad_monmege:n=20,p=0.7", ("storm:default", "storm:ovi", "storm:ii", "storm:pi"), local=True),
    ),
    "frozen_lake": (Row("random_ice:side=100,discount=0.99", _ALL, local=True),),
    "forest": (Row("forest:states=10000,discount=0.99", _ALL, mixes=True, local=True),),
    "taxi": (Row("taxi:discount=0.99", _ALL),),
    "robust_updates": tuple(
        _updates(distance, successors, rewards)
        for distance in METHODS
        for rewards in ("pairs", "transitions")
        for successors in (50, 100, 200, 500)
    ),
    "intervals": (
        _intervals("garnet:states=10000,actions=5,successors=5,discount=0.95"),
        _intervals("garnet:states=10000,actions=5,successors=5,discount=0.99"),
        _intervals("gridworld:side=105,walls=0.1,discount=0.99"),
        _intervals("garnet:states=100000,actions=5,successors=5,discount=0.95"),
        _intervals("gridworld:side=333,walls=0.1,discount=0.99"),
        _intervals("gridworld:side=1054,walls=0.1,discount=0.99", "linf"),
    ),
    "searches": _search(
        "winds=25:windy_walk",
        "l1=0.2:riverswim:states=20,discount=0.9",
        "l1=0.2:backlog_inventory",
        *(f"scenarios={number}:{_SMALL_GARNET}" for number in (2, 4, 8, 16)),
        f"l1=0.2:{_SMALL_GARNET}",
        f"kl=0.05:{_SMALL_GARNET}",
        f"wasserstein=1.0:{_SMALL_GARNET}",
    ),
    "published": tuple(Row(task, (), kind="published") for task in ("sweep", "inventory", "projection", "update")),
    "robust_large": (
        Row("l1=0.2:garnet:states=1000000,actions=5,successors=5,discount=0.95", kind="robust"),
        Row("l1=0.2:garnet:states=1000000,actions=5,successors=5,discount=0.99", kind="robust"),
        Row("l1=0.2:gridworld:side=1054,walls=0.1,discount=0.99", kind="robust"),
    ),
    "large": (
        Row("garnet:states=10000000,actions=2,successors=4,discount=0.99", ()),
        Row("gridworld:side=2582,discount=0.99", (), local=True),
    ),
}
"""Name -> rows, small ones first."""

BY_NAME_ONLY = ("large", "robust_large")
"""Families that run only when they are named: they take minutes, and gigabytes."""
