r"""Domains of the robust literature, and the rewards that depend on where a step leads.

A nature who changes the rows changes the expected reward of a pair with them, so a robust problem needs the reward of every
transition: `with_outcomes` gives it beside the model whose pairs earn only the rest. In the catalogue all is expected reward.

Machine with two ways of repair. Wear 0..7, state 8 the long repair, 9 the short one; arriving in 7 costs 20, in 8 10, in 9 2.

Inventory with backlog. Stock x from -m to 2m, order z <= min(m, 2m - x), Poisson demand d cut at 3m,

    next = max(x + z - d, -m),      price (x + z - next) - unit z - fixed [z > 0] - holding (next)_+ - backlog (-next)_+.

Population of a pest of capacity C under treatment a, whose mean growth g_a(n) has a standard deviation s_a:

    next = round(n + (g - 1) n (C - n) / C) + round(e_+),    cut to 0..C,      g ~ N(g_a(n), s_a),  e ~ N(3, 1.5),

worth 1000 - n^2 - 800 c_a. Without treatment g = 2; treatments: g_a = 0.2 + (n - 25)^2 / 625.

Delage and Mannor, Oper. Res. 58(1), 2010, and Wiesemann, Kuhn and Rustem, Math. Oper. Res. 38(1), 2013 (machine); Ho, Petrik
and Wiesemann, JMLR 22(275), 2021, and the domains of its code, craam2 (inventory, population).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.special

from ..criterion import Discounted
from ..errors import ModelError
from ..model import MDP
from .chains import riverswim
from .instance import Instance
from .parameters import at_least, inside
from .rows import from_lists, start_at

_LEAST = 1e-12
"""Probabilities below this are left out of the population's rows, which are brought back to one."""


def machine_ten(discount: float = 0.9) -> MDP:
    """A machine that wears out, with a short repair and a long one; ten states.

    In states 0..6 action 0 runs on: one level of wear with probability 0.8; action 1 repairs: 0.6 the short repair, 0.1 the
    long one, 0.3 wears on. State 7 is broken: action 0 stays, action 1 repairs, or stays with probability 0.3. In state 8
    action 0 stays and action 1 moves on to the short repair with probability 0.6; from state 9 action 0 leads to state 0 with
    probability 0.8, and action 1 stays. Starts new.
    discount: in [0, 1).
    Raises ModelError for parameters out of range.
    Source: Delage and Mannor, Oper. Res. 58(1), 2010; Wiesemann, Kuhn and Rustem, Math. Oper. Res. 38(1), 2013.
    """
    return _expected(*_machine_ten(discount))


def backlog_inventory(
    order: int = 10,
    mean: float = 10.0,
    discount: float = 0.95,
    price: float = 4.99,
    unit: float = 2.49,
    fixed: float = 0.49,
    holding: float = 0.05,
    backlog: float = 0.15,
) -> MDP:
    """A stock that may be owed: orders up to m, stock up to 2 m, up to m owed, Poisson demand; 3 m + 1 states, state 0 owes m.

    Action z orders z. Starts with no stock.
    order: m >= 1. mean: > 0, of the demand, which is cut at 3 m. discount: in [0, 1). price, unit, fixed, holding, backlog: any
    numbers, see the head of the module.
    Raises ModelError for parameters out of range.
    Source: Ho, Petrik and Wiesemann, JMLR 22(275), 2021, and the domains of craam2.
    """
    return _expected(*_backlog_inventory(order, mean, discount, price, unit, fixed, holding, backlog))


def population(capacity: int = 50, discount: float = 0.9) -> MDP:
    """A pest that grows and is treated: state n is its population, action 0 waits, actions 1..4 treat at rising cost.

    Costs 0, 1, 1.05, 1.1, 1.15 times 800; standard deviations of growth 0.6, 0.6, 0.5, 0.4, 0.3. Starts at 10, or at the
    capacity.
    capacity: C >= 1. discount: in [0, 1).
    Raises ModelError for parameters out of range.
    Source: Ho, Petrik and Wiesemann, JMLR 22(275), 2021, and the domains of craam2.
    """
    at_least(1, capacity=capacity)
    size, levels = capacity + 1, np.arange(capacity + 1)
    treated = 0.2 + (levels - 25.0) ** 2 / 625
    actions = zip((0.6, 0.6, 0.5, 0.4, 0.3), (0.0, 1.0, 1.05, 1.1, 1.15), strict=True)
    rows = np.empty((size, 5, size))
    reward = np.empty((size, 5))
    for a, (deviation, cost) in enumerate(actions):
        reward[:, a] = 1000.0 - levels**2 - 800.0 * cost
        for n in levels:
            rows[n, a] = _next_population(int(n), capacity, float(treated[n]) if a else 2.0, deviation)
    rows[rows < _LEAST] = 0.0
    rows /= rows.sum(axis=2, keepdims=True)
    model = MDP.from_dense(rows, reward, layout="sas", criterion=Discounted(discount))
    return model.replace(initial=start_at(size, min(10, capacity)))


def with_outcomes(name: str, **parameters: Any) -> tuple[MDP, np.ndarray]:
    """A domain's model without what depends on the successor, and that, the reward of each stored transition, float64 (z,).

    name: "machine_ten", "backlog_inventory" or "riverswim", with the parameters of the instance.
    Raises ModelError for another name or parameters out of range.
    """
    if name not in _OUTCOMES:
        raise ModelError(f"{name!r} has no rewards by outcome; there are {', '.join(_OUTCOMES)}")
    instance, build = _OUTCOMES[name]
    unknown = set(parameters) - set(instance.defaults)
    if unknown:
        raise ModelError(f"{name} has no parameter {min(unknown)!r}; it has {', '.join(instance.defaults)}")
    return build(**(instance.defaults | parameters))


def _machine_ten(discount: float) -> tuple[MDP, np.ndarray]:
    repair = {9: 0.6, 8: 0.1}
    states: list[Any] = [[(0.0, {s + 1: 0.8, s: 0.2}), (0.0, {s + 1: 0.3, **repair})] for s in range(7)]
    states += [[(0.0, {7: 1.0}), (0.0, {7: 0.3, **repair})], [(0.0, {8: 1.0}), (0.0, {9: 0.6, 8: 0.4})]]
    states += [[(0.0, {0: 0.8, 9: 0.2}), (0.0, {9: 1.0})]]
    model = from_lists(states, Discounted(discount), initial=start_at(10, 0))
    arrival = np.zeros(10)
    arrival[7:] = -20.0, -10.0, -2.0
    return model, arrival[model.successor]


def _backlog_inventory(
    order: int, mean: float, discount: float, price: float, unit: float, fixed: float, holding: float, backlog: float
) -> tuple[MDP, np.ndarray]:
    at_least(1, order=order)
    inside(0, np.inf, mean=mean)
    atoms = np.arange(3 * order + 1)
    demand = scipy.special.pdtr(atoms, mean)
    demand[-1] = 1.0
    demand = np.diff(demand, prepend=0.0)
    stocks = np.arange(-order, 2 * order + 1)
    orders = np.minimum(order, 2 * order - stocks) + 1
    stock = np.repeat(stocks, orders)
    ordered = np.concatenate([np.arange(k) for k in orders])
    level = stock + ordered
    width = np.minimum(level + order, 3 * order) + 1
    row_ptr = np.concatenate(([0], np.cumsum(width)))
    taken = np.arange(row_ptr[-1]) - np.repeat(row_ptr[:-1], width)
    after = np.repeat(level, width) - taken
    probability = demand[taken]
    last = row_ptr[1:] - 1
    probability[last] = np.cumsum(demand[::-1])[::-1][taken[last]]
    gain = price * taken - holding * np.maximum(after, 0) - backlog * np.maximum(-after, 0)
    model = MDP(
        np.concatenate(([0], np.cumsum(orders))), row_ptr, (after + order).astype(np.int32), probability,
        -unit * ordered - fixed * (ordered > 0), Discounted(discount), initial=start_at(len(stocks), order),
    )  # fmt: skip
    return model, gain


def _riverswim(states: int, discount: float) -> tuple[MDP, np.ndarray]:
    model = riverswim(states, discount)
    pair = np.repeat(np.arange(model.n_pairs), np.diff(model.row_ptr))
    top = (pair == model.n_pairs - 1) & (model.successor == states - 1)
    reward = model.reward.copy()
    reward[-1] = 0.0
    return model.replace(reward=reward), np.where(top, 10_000.0, 0.0)


def _expected(model: MDP, gain: np.ndarray) -> MDP:
    ahead = np.add.reduceat(model.probability * gain, model.row_ptr[:-1])
    return model.replace(reward=model.reward + ahead)


def _next_population(n: int, capacity: int, growth: float, deviation: float) -> np.ndarray:
    """P(next = k) for k = 0..capacity, (capacity + 1,)."""
    force = n * (capacity - n) / capacity
    low, high = -12 * capacity - 12, 14 * capacity + 12
    ends = np.arange(low, high + 1) + 0.5
    mean, spread = n + (growth - 1) * force, deviation * force
    below = scipy.special.ndtr((ends - mean) / spread) if spread else (ends > n).astype(float)
    grown = np.diff(below, prepend=0.0)
    arrivals = np.diff(scipy.special.ndtr((np.arange(20) + 0.5 - 3.0) / 1.5), prepend=0.0)
    arrivals[-1] += 1.0 - arrivals.sum()
    after = np.convolve(grown, arrivals)
    levels = np.clip(np.arange(len(after)) + low, 0, capacity)
    return np.bincount(levels, weights=after, minlength=capacity + 1)


MACHINE_TEN = Instance("machine_ten", machine_ten, "Delage and Mannor, Oper. Res. 58(1), 2010; Wiesemann, Kuhn and Rustem 2013")
BACKLOG_INVENTORY = Instance(
    "backlog_inventory", backlog_inventory, "Ho, Petrik and Wiesemann, JMLR 22(275), 2021; domains of craam2",
    small={"order": 4, "mean": 4.0},
)  # fmt: skip
POPULATION = Instance(
    "population", population, "Ho, Petrik and Wiesemann, JMLR 22(275), 2021; domains of craam2", small={"capacity": 12}
)
_OUTCOMES: dict[str, tuple[Instance, Callable[..., tuple[MDP, np.ndarray]]]] = {
    "machine_ten": (MACHINE_TEN, _machine_ten),
    "backlog_inventory": (BACKLOG_INVENTORY, _backlog_inventory),
    "riverswim": (Instance("riverswim", riverswim, "Strehl and Littman 2008"), _riverswim),
}
