"""Methods whose policy is a network: on control tasks whose physics nature may choose, and with a stock. Needs torch."""

from .deep_iwocs import DeepSearch, PessimisticPolicy, Round, deep_iwocs
from .history_learning import HistoryAgent, HistoryLearning, HistoryNetwork, bisimulation_loss
from .pendulum import Pendulum
from .soft_learning import Agent, SoftLearning, anywhere, at
from .stock_quantiles import StockAgent, StockQuantileLearning, quantile_loss
from .stock_task import OutcomeTask, StockPolicy, StockTask, exact_law
from .task import Policy, Task, returns
from .tour_policy import TourImitation, TourPolicy, TourShape
from .worst_parameters import CovarianceSearch, GridSearch, grid, mean_returns

__all__ = [
    "Agent",
    "CovarianceSearch",
    "DeepSearch",
    "GridSearch",
    "HistoryAgent",
    "HistoryLearning",
    "HistoryNetwork",
    "OutcomeTask",
    "Pendulum",
    "PessimisticPolicy",
    "Policy",
    "Round",
    "SoftLearning",
    "StockAgent",
    "StockPolicy",
    "StockQuantileLearning",
    "StockTask",
    "Task",
    "TourImitation",
    "TourPolicy",
    "TourShape",
    "anywhere",
    "at",
    "bisimulation_loss",
    "deep_iwocs",
    "exact_law",
    "grid",
    "mean_returns",
    "quantile_loss",
    "returns",
]
