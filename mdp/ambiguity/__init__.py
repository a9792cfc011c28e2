"""Ambiguity sets: the rows that nature may choose in place of a nominal one, and the exact worst one."""

from .ambiguity_set import AmbiguitySet, Ball, WorstCase
from .burg import Burg
from .chi_square import ChiSquare
from .contamination import Contamination
from .cressie_read import CressieRead
from .euclidean import L2
from .interval import CVaR, Interval, LInfinity
from .kullback_leibler import KL
from .model_risk import ModelCVaR, ModelVaR
from .nested_var import NestedVaR
from .polytope import Polytope
from .s_rectangular import SRectangular, StateWorstCase
from .scenarios import Scenarios
from .total_variation import L1, TotalVariation
from .wasserstein import Wasserstein
from .weighted_l1 import WeightedL1

__all__ = [
    "KL",
    "L1",
    "L2",
    "AmbiguitySet",
    "Ball",
    "Burg",
    "CVaR",
    "ChiSquare",
    "Contamination",
    "CressieRead",
    "Interval",
    "LInfinity",
    "ModelCVaR",
    "ModelVaR",
    "NestedVaR",
    "Polytope",
    "SRectangular",
    "Scenarios",
    "StateWorstCase",
    "TotalVariation",
    "Wasserstein",
    "WeightedL1",
    "WorstCase",
]
