"""The same objectives on transformer policies: pure functions of log-probabilities, their audit, their training."""

try:
    import torch as _torch  # noqa: F401
except ImportError as missing:
    raise ImportError("banach.llm needs torch, which is not installed: pip install 'banach[llm]'") from missing

from .advantage import Accepted, Given, GroupAdvantage, Likelihood
from .aggregation import Aggregation
from .batch import TokenBatch
from .bundles import MixedRisk, QuantileTracker, bundled
from .catalogue import OBJECTIVES, Objective, Probe, objective, register
from .critic import GeneralisedAdvantage, ValueLoss, completion_loss
from .curvature import AdamStep, CurvatureFilter, Moments, SGDStep
from .divergence import Divergence
from .errors import BatchError, ClipRangeError, ObjectiveWarning, SpecError
from .evaluation import Evaluation
from .group_pairs import group_pairs
from .implicit_policy import ImplicitNegative, SuccessWeighted
from .internal import BottomUp, LayerPolicy, entropy_flow, internal_log_policy
from .likelihood_displacement import likelihood_displacement
from .log_ratio import GapFilter, LogRatioRegression, Tempered
from .mask import AcceptedOnly, AdvantageFilter, DynamicSampling, OverlongFilter
from .modes import LeaveOneOutModes, ModeCost, best_mode, cost_of_pass, silent_groups, without_tags
from .objective import ObjectiveSpec, as_loss, evaluate
from .outcome import Outcome, Overlong
from .over_optimisation import (
    OverOptimisationWatch,
    Stop,
    TopK,
    expectation_adjusted_distinct,
    over_optimisation_signals,
    top_k_signals,
    win_probability,
)
from .pair_batch import PairBatch, Sequences, SingleBatch
from .plan import Plan, plan
from .preference_bench import PreferenceBench, preference_bench
from .preference_catalogue import PREFERENCES, preference
from .preference_kernel import as_preference_loss, evaluate_preference, per_token
from .preference_plan import plan_preference
from .preference_spec import PreferenceSpec
from .ratio import Ratio, TruncatedImportance
from .rounds import RoundDiscount, SpreadGroups, downsampled
from .shaping import EarlyCalls, RewardedCalls, first_calls
from .surrogate import ClippedRatio, ClippedWeight, ImportanceWeighted, PolicyGradient
from .systems import (
    SYSTEMS,
    LogLinearBandit,
    System,
    WindowedRun,
    apo,
    aspo,
    bupo,
    capo,
    collected,
    copg,
    dapo_direct,
    eapo,
    inpo,
    lite_ppo,
    loop,
    nft,
    risk_po,
    risk_po_released,
    step_numbers,
    system,
    t_ppo,
    unique_steps,
    with_likelihood,
)
from .windows import FreshTokens, Windows, speed_limit
from .workspace import Workspace

__all__ = [
    "OBJECTIVES",
    "PREFERENCES",
    "SYSTEMS",
    "Accepted",
    "AcceptedOnly",
    "AdamStep",
    "AdvantageFilter",
    "Aggregation",
    "BatchError",
    "BottomUp",
    "ClipRangeError",
    "ClippedRatio",
    "ClippedWeight",
    "CurvatureFilter",
    "Divergence",
    "DynamicSampling",
    "EarlyCalls",
    "Evaluation",
    "FreshTokens",
    "GapFilter",
    "GeneralisedAdvantage",
    "Given",
    "GroupAdvantage",
    "ImplicitNegative",
    "ImportanceWeighted",
    "LayerPolicy",
    "LeaveOneOutModes",
    "Likelihood",
    "LogLinearBandit",
    "LogRatioRegression",
    "MixedRisk",
    "ModeCost",
    "Moments",
    "Objective",
    "ObjectiveSpec",
    "ObjectiveWarning",
    "Outcome",
    "OverOptimisationWatch",
    "Overlong",
    "OverlongFilter",
    "PairBatch",
    "Plan",
    "PolicyGradient",
    "PreferenceBench",
    "PreferenceSpec",
    "Probe",
    "QuantileTracker",
    "Ratio",
    "RewardedCalls",
    "RoundDiscount",
    "SGDStep",
    "Sequences",
    "SingleBatch",
    "SpecError",
    "SpreadGroups",
    "Stop",
    "SuccessWeighted",
    "System",
    "Tempered",
    "TokenBatch",
    "TopK",
    "TruncatedImportance",
    "ValueLoss",
    "WindowedRun",
    "Windows",
    "Workspace",
    "apo",
    "as_loss",
    "as_preference_loss",
    "aspo",
    "best_mode",
    "bundled",
    "bupo",
    "capo",
    "collected",
    "completion_loss",
    "copg",
    "cost_of_pass",
    "dapo_direct",
    "downsampled",
    "eapo",
    "entropy_flow",
    "evaluate",
    "evaluate_preference",
    "expectation_adjusted_distinct",
    "first_calls",
    "group_pairs",
    "inpo",
    "internal_log_policy",
    "likelihood_displacement",
    "lite_ppo",
    "loop",
    "nft",
    "objective",
    "over_optimisation_signals",
    "per_token",
    "plan",
    "plan_preference",
    "preference",
    "preference_bench",
    "register",
    "risk_po",
    "risk_po_released",
    "silent_groups",
    "speed_limit",
    "step_numbers",
    "system",
    "t_ppo",
    "top_k_signals",
    "unique_steps",
    "win_probability",
    "with_likelihood",
    "without_tags",
]
