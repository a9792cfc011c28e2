r"""Stock under random demand.

`inventory` has dense rows, for speed. The others have published optimal costs:

Lost sales with lead time L. State (x_0, ..., x_{L-1}): on hand and in the pipeline. Order z; a period costs
h E (x_0 - d)^+ + b E (d - x_0)^+ and leads to ((x_0 - d)^+ + x_1, x_2, ..., x_{L-1}, z). The optimal position x_0 + ... + z
stays at or below the newsvendor level of L + 1 periods, and one order at or below that of one period, each with a little
room added here (Morton 1969; Zipkin, Oper. Res. 56, 2008).

Set-up costs and backlogging. State x, order up to y >= x, cost K [y > x] + G(y), G(y) = h E (y - d)^+ + b E (d - y)^+, next
y - d. With y* the minimiser of G, ordering up to y* always costs at most c = K + G(y*), so levels y > y* with G(y) > c are
never used, and at or below the largest y < y* with G(y) >= c it is optimal to order; states below that one are the same as
it. An (s, S) policy costs

    c(s, S) = ( K + sum_{j < S - s} m(j) G(S - j) ) / sum_{j < S - s} m(j),     m(j) = [j = 0] + sum_i p_i m(j - i),

and the best one is optimal (Scarf 1960; Zheng and Federgruen, Oper. Res. 39, 1991).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..criterion import AverageReward, Discounted
from ..model import MDP
from .demand import geometric, overshoot, poisson, stock_model
from .instance import Instance, Published
from .parameters import at_least, one_of, within


def inventory(
    states: int = 1000,
    discount: float = 0.99,
    orders: int = 4,
    demand: int = 500,
    price: float = 2.0,
    unit: float = 1.0,
    setup: float = 20.0,
    holding: float = 0.02,
) -> MDP:
    """A stock of one good, lost sales, demand uniform on 0..demand: dense rows, about orders * demand transitions a state.

    State x is the stock; action i orders i * states // orders units, filled at once up to the last level. Reward: price * E
    min(y, d) - unit * ordered - setup [ordered > 0] - holding * x.
    states, orders, demand: >= 1. discount: in [0, 1). price, unit, setup, holding: any numbers.
    Raises ModelError for parameters out of range. Source: Puterman 2005, section 3.2.
    """
    at_least(1, states=states, orders=orders, demand=demand)
    within(1, states, orders=orders)
    stock = np.repeat(np.arange(states, dtype=np.int32), orders)
    ordered = np.tile(np.arange(orders, dtype=np.int32) * np.int32(states // orders), states)
    level = np.minimum(stock + ordered, states - 1)
    ordered = level - stock
    left = np.where(level > demand, level - demand / 2, level * (level + 1) / (2 * (demand + 1)))
    reward = price * (level - left) - unit * ordered - setup * (ordered > 0) - holding * stock
    return stock_model(
        np.arange(0, states * orders + 1, orders, dtype=np.int32), level, np.zeros_like(level), 1,
        np.arange(states, dtype=np.int32), np.full(demand + 1, 1 / (demand + 1)), reward, Discounted(discount), 0,
    )  # fmt: skip


def lost_sales(lead: int = 2, shortage: float = 4.0, demand: str = "poisson", mean: float = 5.0, holding: float = 1.0) -> MDP:
    """Lost sales with a lead time, at least average cost: the classical problem without a simple optimal policy.

    The state with on-hand stock x_0 and pipeline x_1..x_{L-1} has the rank of (x_0, x_1, ...) in lexicographic order; action
    z orders z.
    lead: L >= 1, periods. shortage: b > 0, holding: h > 0, a unit and period. demand: "poisson" or "geometric". mean: > 0.
    Raises ModelError for parameters out of range. Source: Zipkin, Oper. Res. 56, 2008.
    """
    at_least(1, lead=lead)
    at_least(1e-6, shortage=shortage, holding=holding, mean=mean)
    one_of(("poisson", "geometric"), demand=demand)
    one = {"poisson": poisson, "geometric": geometric}[demand](mean)
    several, ratio = one, shortage / (shortage + holding)
    for _ in range(lead):
        several = np.convolve(several, one)
    most, order = (int(np.searchsorted(np.cumsum(p), ratio)) + room for p, room in ((several, 1), (one, 2)))
    shape = (most + 1,) + (order + 1,) * (lead - 1)
    position = np.indices(shape).sum(axis=0).ravel()
    inside = position <= most
    number = (np.cumsum(inside) - 1).astype(np.int32)
    codes = np.flatnonzero(inside)
    orders = np.minimum(order, most - position[codes]) + 1
    state_ptr = np.concatenate(([0], np.cumsum(orders))).astype(np.int32)
    code = np.repeat(codes, orders)
    placed = np.arange(len(code)) - np.repeat(state_ptr[:-1], orders)
    stride = (order + 1) ** (lead - 1)
    on_hand = (code // stride).astype(np.int32)
    # dropping x_0 and appending z turns (x_1, ..., x_{L-1}) into on-hand stock x_1 and the pipeline behind it
    after = ((code % stride) * (order + 1) + placed).astype(np.int32)
    surplus, shortfall = overshoot(one, most + 1)
    cost = (holding * surplus + shortage * shortfall)[on_hand]
    return stock_model(state_ptr, on_hand, after, stride, number, one, cost, AverageReward(minimize=True), 0)


def setup_inventory(mean: float = 10.0, setup: float = 64.0, holding: float = 1.0, shortage: float = 9.0) -> MDP:
    """Backlogged Poisson demand with a set-up cost, at least average cost: an (s, S) policy is optimal.

    State i is inventory position lowest + i, the lowest standing for all below it too; action a orders up to state i + a.
    mean: > 0, of the demand. setup: K >= 0. holding: h > 0, shortage: b > 0, a unit and period.
    Raises ModelError for parameters out of range. Source: Zheng and Federgruen, Oper. Res. 39, 1991.
    """
    at_least(1e-6, mean=mean, holding=holding, shortage=shortage)
    at_least(0, setup=setup)
    demand, stage = _stage_cost(mean, setup, holding, shortage)
    n_states = len(stage)
    count = np.arange(n_states, 0, -1)
    state = np.repeat(np.arange(n_states), count)
    state_ptr = np.concatenate(([0], np.cumsum(count))).astype(np.int32)
    level = (state + np.arange(len(state)) - state_ptr[state]).astype(np.int32)
    cost = stage[level] + setup * (level > state)
    return stock_model(
        state_ptr, level, np.zeros_like(level), 1, np.arange(n_states, dtype=np.int32),
        demand, cost, AverageReward(minimize=True), n_states - 1,
    )  # fmt: skip


def _stage_cost(mean: float, setup: float, holding: float, shortage: float) -> tuple[np.ndarray, np.ndarray]:
    """Demand, and G(y) for the useful levels y."""
    demand = poisson(mean)
    reach = len(demand) + int((setup + 10) / min(holding, shortage)) + int(10 * mean)
    levels, atoms = np.arange(-reach, reach), np.arange(len(demand))
    gap = levels[:, None] - atoms
    cost = (holding * np.maximum(gap, 0) + shortage * np.maximum(-gap, 0)) @ demand
    best = int(np.argmin(cost))
    bound = cost[best] + setup
    first = int(np.flatnonzero(cost[:best] >= bound)[-1])
    last = int(np.flatnonzero(cost <= bound)[-1])
    return demand, cost[first : last + 1]


def _setup_inventory_exact(mean: float, setup: float, holding: float, shortage: float) -> float:
    demand, stage = _stage_cost(mean, setup, holding, shortage)
    visits = np.zeros(len(stage))
    for j in range(len(stage)):
        back = visits[max(0, j - len(demand) + 1) : j][::-1]
        visits[j] = ((j == 0) + demand[1 : len(back) + 1] @ back) / (1 - demand[0])
    cycles = []
    for top in range(1, len(stage)):
        length, cost = np.cumsum(visits[:top]), np.cumsum(visits[:top] * stage[top:0:-1])
        cycles.append(((setup + cost) / length).min())
    return float(min(cycles))


_ZIPKIN = {
    ("poisson", 1): (4.0407, 5.4382, 6.6757, 7.8359),
    ("poisson", 2): (4.3953, 6.0936, 7.6644, 9.1064),
    ("poisson", 3): (4.5987, 6.5314, 8.3625, 10.0385),
    ("poisson", 4): (4.7285, 6.8359, 8.8872, 10.7944),
    ("geometric", 1): (9.8175, 14.5082, 19.2179, 23.8657),
    ("geometric", 2): (10.2402, 15.5029, 20.8906, 26.2138),
    ("geometric", 3): (10.4667, 16.1367, 22.0645, 27.9635),
    ("geometric", 4): (10.6065, 16.5774, 22.9530, 29.3559),
}
"""(demand, lead) -> optimal average cost for shortage 4, 9, 19 and 39."""

_ZHENG_FEDERGRUEN = {
    10: 35.022, 15: 42.698, 20: 49.173, 21: 50.406, 22: 51.632, 23: 52.757, 24: 53.518, 25: 54.262, 30: 57.819,
    35: 61.215, 40: 64.512, 45: 67.776, 50: 70.975, 55: 74.149, 65: 78.518, 70: 79.037, 75: 79.554,
}  # fmt: skip
"""Mean demand -> optimal average cost for set-up 64, holding 1, shortage 9."""


def _zipkin() -> Any:
    for (demand, lead), costs in _ZIPKIN.items():
        for shortage, cost in zip((4.0, 9.0, 19.0, 39.0), costs, strict=True):
            parameters = {"demand": demand, "lead": lead, "shortage": shortage}
            yield Published(parameters, cost, 5e-5, "Zipkin, Oper. Res. 56, 2008, tables; further digits by value iteration")


INVENTORY = Instance("inventory", inventory, "Puterman 2005, section 3.2", small={"states": 40, "demand": 20, "discount": 0.9})
LOST_SALES = Instance("lost_sales", lost_sales, "Zipkin, Oper. Res. 56, 2008", small={"lead": 1}, published=tuple(_zipkin()))
SETUP_INVENTORY = Instance(
    "setup_inventory", setup_inventory, "Zheng and Federgruen, Oper. Res. 39, 1991",
    small={"mean": 6.0, "setup": 5.0, "shortage": 4.0}, exact=_setup_inventory_exact,
    published=(
        *(Published({"mean": float(mean)}, cost, 5e-4, "Zheng and Federgruen 1991, table")
          for mean, cost in _ZHENG_FEDERGRUEN.items()),
        Published(
            {"mean": 6.0, "setup": 5.0, "shortage": 4.0}, 8.0341, 5e-5, "Snyder and Shen, Fundamentals of Supply Chain Theory"
        ),
    ),
)  # fmt: skip
