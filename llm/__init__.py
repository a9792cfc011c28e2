"""The same objectives on transformer policies: pure functions of log-probabilities, their audit, their training."""

try:
    import torch as _torch  # noqa: F401
except ImportError as missing:
    raise ImportError("banach.llm needs torch, which is not installed: pip install 'banach[llm]'") from missing

from .batch import TokenBatch
from .errors import BatchError, ClipRangeError, ObjectiveWarning, SpecError
from .evaluation import Evaluation
from .likelihood_displacement import likelihood_displacement
from .pair_batch import PairBatch, Sequences, SingleBatch
from .preference_catalogue import PREFERENCES, preference
from .preference_kernel import as_preference_loss, evaluate_preference, per_token
from .preference_plan import plan_preference
from .preference_spec import PreferenceSpec

__all__ = [
    "PREFERENCES",
    "BatchError",
    "ClipRangeError",
    "Evaluation",
    "ObjectiveWarning",
    "PairBatch",
    "PreferenceSpec",
    "Sequences",
    "SingleBatch",
    "SpecError",
    "TokenBatch",
    "as_preference_loss",
    "evaluate_preference",
    "likelihood_displacement",
    "per_token",
    "plan_preference",
    "preference",
]
