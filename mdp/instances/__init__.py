"""Named decision problems with their sources and, where published, their exact answers.

Each is a function of keyword parameters that returns an `MDP`. `CATALOGUE` names them all and carries what is known of their
values; `make("garnet:states=1000,discount=0.99")` builds one from its spelling.
"""

from .cancer import cancer
from .catalogue import CATALOGUE, make, parse
from .chains import combination_lock, end_component_trap, gambler, haddad_monmege, rare_exit, riverswim
from .classics import (
    blackwell,
    howard_taxi,
    howard_toymaker,
    multichain_gamble,
    puterman_two_state,
    rare_visit,
    scales,
    stay_or_move,
    tied_actions,
)
from .garnet import garnet
from .grids import frozen_lake, gridworld, random_ice, russell_norvig, ssp_grid
from .instance import Instance, Published
from .inventories import inventory, lost_sales, setup_inventory
from .lot_sizing import wagner_whitin
from .maintenance import forest, machine_replacement
from .outcomes import backlog_inventory, machine_ten, population, with_outcomes
from .protocols import consensus_coin, herman, knuth_yao_die, zeroconf
from .queues import admission, queue
from .windy import windy_walk

__all__ = [
    "CATALOGUE",
    "Instance",
    "Published",
    "admission",
    "backlog_inventory",
    "blackwell",
    "cancer",
    "combination_lock",
    "consensus_coin",
    "end_component_trap",
    "forest",
    "frozen_lake",
    "gambler",
    "garnet",
    "gridworld",
    "haddad_monmege",
    "herman",
    "howard_taxi",
    "howard_toymaker",
    "inventory",
    "knuth_yao_die",
    "lost_sales",
    "machine_replacement",
    "machine_ten",
    "make",
    "multichain_gamble",
    "parse",
    "population",
    "puterman_two_state",
    "queue",
    "random_ice",
    "rare_exit",
    "rare_visit",
    "riverswim",
    "russell_norvig",
    "scales",
    "setup_inventory",
    "ssp_grid",
    "stay_or_move",
    "tied_actions",
    "wagner_whitin",
    "windy_walk",
    "with_outcomes",
    "zeroconf",
]
