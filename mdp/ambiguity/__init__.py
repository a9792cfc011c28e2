"""Ambiguity sets: the rows that nature may choose in place of a nominal one, and the exact worst one."""

from .ambiguity_set import AmbiguitySet, Ball, WorstCase
from .contamination import Contamination
from .interval import CVaR, Interval, LInfinity
from .scenarios import Scenarios
from .total_variation import L1, TotalVariation
from .weighted_l1 import WeightedL1

__all__ = [
    "L1",
    "AmbiguitySet",
    "Ball",
    "CVaR",
    "Contamination",
    "Interval",
    "LInfinity",
    "Scenarios",
    "TotalVariation",
    "WeightedL1",
    "WorstCase",
]
