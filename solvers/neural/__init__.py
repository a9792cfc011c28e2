"""Methods whose policy is a network, on control tasks whose physics nature may choose. Needs torch."""

from .deep_iwocs import DeepSearch, PessimisticPolicy, Round, deep_iwocs
from .history_learning import HistoryAgent, HistoryLearning, HistoryNetwork, bisimulation_loss
from .pendulum import Pendulum
from .soft_learning import Agent, SoftLearning, anywhere, at
from .task import Policy, Task, returns
from .worst_parameters import CovarianceSearch, GridSearch, grid, mean_returns

__all__ = [
    "Agent",
    "CovarianceSearch",
    "DeepSearch",
    "GridSearch",
    "HistoryAgent",
    "HistoryLearning",
    "HistoryNetwork",
    "Pendulum",
    "PessimisticPolicy",
    "Policy",
    "Round",
    "SoftLearning",
    "Task",
    "anywhere",
    "at",
    "bisimulation_loss",
    "deep_iwocs",
    "grid",
    "mean_returns",
    "returns",
]
