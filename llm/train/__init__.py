"""Training transformer policies with any objective of the catalogue: one loop, exact resume, several processes."""

from .checkpoint import CheckpointDamaged
from .diagnosis import diagnose
from .evaluation import Accuracy, evaluate_policy
from .loop import Outcome, train
from .memory import MemoryEstimate, estimate_memory
from .metrics import read_metrics
from .models import open_policy
from .pool import checkpoint_steps, policy_at
from .settings import Settings, TrainError

__all__ = [
    "Accuracy",
    "CheckpointDamaged",
    "MemoryEstimate",
    "Outcome",
    "Settings",
    "TrainError",
    "checkpoint_steps",
    "diagnose",
    "estimate_memory",
    "evaluate_policy",
    "open_policy",
    "policy_at",
    "read_metrics",
    "train",
]
