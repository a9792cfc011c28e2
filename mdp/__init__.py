"""What a decision problem is: models, criteria, operators, instances, file formats, simulation, strategies."""

from .constrained import ConstrainedMDP
from .criterion import AverageReward, Criterion, Discounted, FiniteHorizon, TotalReward
from .errors import BanachError, FileFormatError, ModelError
from .history import HistoryTree, history_tree
from .law import Law
from .linear_robust import LinearRobustMDP
from .model import MDP
from .operator import Operator
from .outcome import OutcomeMDP
from .pomdp import POMDP, Episodes
from .preference import PreferenceGame, PreferenceOracle
from .quotient import Partition, Quotient, quotient
from .robust import RobustMDP
from .simulate import Trajectories, returns, simulate
from .time_varying import TimeVaryingMDP
from .token import TokenProblem

__all__ = [
    "MDP",
    "POMDP",
    "AverageReward",
    "BanachError",
    "ConstrainedMDP",
    "Criterion",
    "Discounted",
    "Episodes",
    "FileFormatError",
    "FiniteHorizon",
    "HistoryTree",
    "Law",
    "LinearRobustMDP",
    "ModelError",
    "Operator",
    "OutcomeMDP",
    "Partition",
    "PreferenceGame",
    "PreferenceOracle",
    "Quotient",
    "RobustMDP",
    "TimeVaryingMDP",
    "TokenProblem",
    "TotalReward",
    "Trajectories",
    "history_tree",
    "quotient",
    "returns",
    "simulate",
]
