"""The same objectives on transformer policies: pure functions of log-probabilities, their audit, their training."""

try:
    import torch as _torch  # noqa: F401
except ImportError as missing:
    raise ImportError("banach.llm needs torch, which is not installed: pip install 'banach[llm]'") from missing

from .advantage import Accepted, Given, GroupAdvantage, Likelihood
from .aggregation import Aggregation
from .batch import TokenBatch
from .catalogue import OBJECTIVES, Objective, objective, register
from .critic import GeneralisedAdvantage, ValueLoss
from .divergence import Divergence
from .errors import BatchError, ClipRangeError, ObjectiveWarning, SpecError
from .evaluation import Evaluation
from .likelihood_displacement import likelihood_displacement
from .mask import AcceptedOnly, AdvantageFilter, DynamicSampling, OverlongFilter
from .objective import ObjectiveSpec, as_loss, evaluate
from .outcome import Outcome, Overlong
from .pair_batch import PairBatch, Sequences, SingleBatch
from .plan import Plan, plan
from .preference_bench import PreferenceBench, preference_bench
from .preference_catalogue import PREFERENCES, preference
from .preference_kernel import as_preference_loss, evaluate_preference, per_token
from .preference_plan import plan_preference
from .preference_spec import PreferenceSpec
from .ratio import Ratio, TruncatedImportance
from .surrogate import ClippedRatio, ClippedWeight, ImportanceWeighted, PolicyGradient

__all__ = [
    "OBJECTIVES",
    "PREFERENCES",
    "Accepted",
    "AcceptedOnly",
    "AdvantageFilter",
    "Aggregation",
    "BatchError",
    "ClipRangeError",
    "ClippedRatio",
    "ClippedWeight",
    "Divergence",
    "DynamicSampling",
    "Evaluation",
    "GeneralisedAdvantage",
    "Given",
    "GroupAdvantage",
    "ImportanceWeighted",
    "Likelihood",
    "Objective",
    "ObjectiveSpec",
    "ObjectiveWarning",
    "Outcome",
    "Overlong",
    "OverlongFilter",
    "PairBatch",
    "Plan",
    "PolicyGradient",
    "PreferenceBench",
    "PreferenceSpec",
    "Ratio",
    "Sequences",
    "SingleBatch",
    "SpecError",
    "TokenBatch",
    "TruncatedImportance",
    "ValueLoss",
    "as_loss",
    "as_preference_loss",
    "evaluate",
    "evaluate_preference",
    "likelihood_displacement",
    "objective",
    "per_token",
    "plan",
    "plan_preference",
    "preference",
    "preference_bench",
    "register",
]
