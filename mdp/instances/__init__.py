"""Named decision problems with their sources and, where published, their exact answers.

Each is a function of keyword parameters that returns an `MDP`. `CATALOGUE` names them all and carries what is known of their
values; `make("garnet:states=1000,discount=0.99")` builds one from its spelling.
"""

from .catalogue import CATALOGUE, make, parse
from .chains import combination_lock, end_component_trap, gambler, haddad_monmege, rare_exit, riverswim
from .garnet import garnet
from .grids import frozen_lake, gridworld, random_ice, russell_norvig, ssp_grid
from .instance import Instance, Published
from .maintenance import forest, machine_replacement
from .queues import admission, queue

__all__ = [
    "CATALOGUE",
    "Instance",
    "Published",
    "admission",
    "combination_lock",
    "end_component_trap",
    "forest",
    "frozen_lake",
    "gambler",
    "garnet",
    "gridworld",
    "haddad_monmege",
    "machine_replacement",
    "make",
    "parse",
    "queue",
    "random_ice",
    "rare_exit",
    "riverswim",
    "russell_norvig",
    "ssp_grid",
]
