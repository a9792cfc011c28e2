"""The same objectives on transformer policies: pure functions of log-probabilities, their audit, their training."""

try:
    import torch as _torch  # noqa: F401
except ImportError as missing:
    raise ImportError("banach.llm needs torch, which is not installed: pip install 'banach[llm]'") from missing

from .batch import TokenBatch
from .errors import BatchError, ClipRangeError, ObjectiveWarning, SpecError
from .evaluation import Evaluation

__all__ = ["BatchError", "ClipRangeError", "Evaluation", "ObjectiveWarning", "SpecError", "TokenBatch"]
