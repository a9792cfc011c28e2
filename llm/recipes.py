"""How the named objectives are put together: one function each, from settings to a frozen spec. The table is in `catalogue`.

Common settings. low, high: the ratio is clipped to [1 - low, 1 + high]. dual: the floor c under negative advantages. ddof,
epsilon: of the standard deviation. group_size: if given, every group must have this many sequences. beta: coefficient of the
divergence, 0 for none. unusual_clip: accept a clip range that is refused otherwise. Sources are in `catalogue`.
"""

from __future__ import annotations

from typing import Literal

from .advantage import Accepted, GroupAdvantage, Likelihood
from .aggregation import Aggregation
from .critic import GeneralisedAdvantage, ValueLoss
from .divergence import Divergence
from .mask import AcceptedOnly, DynamicSampling, Filter, OverlongFilter
from .objective import ObjectiveSpec
from .outcome import Overlong
from .ratio import Ratio
from .surrogate import ClippedRatio, ClippedWeight, PolicyGradient


def sft() -> ObjectiveSpec:
    """Supervised fine-tuning: every given token counts alike."""
    return ObjectiveSpec("sft", Likelihood(), PolicyGradient(), aggregation=Aggregation("token-mean"))


def rft(threshold: float = 1.0, average: Literal["accepted", "sampled"] = "accepted") -> ObjectiveSpec:
    """Rejection fine-tuning, averaged over the accepted (gradient of log p on the policy) or the sampled (gradient of p)."""
    if average == "accepted":
        return ObjectiveSpec("rft", Likelihood(), PolicyGradient(), filters=(AcceptedOnly(threshold),))
    aggregation = Aggregation("sequence-mean-token-sum")
    return ObjectiveSpec("rft", Accepted(threshold), PolicyGradient(), aggregation=aggregation)


def reinforce(baseline: Literal["none", "group-mean", "batch-mean"] = "none") -> ObjectiveSpec:
    """The score function estimator with the sum over tokens, which is the policy gradient."""
    aggregation = Aggregation("sequence-mean-token-sum")
    return ObjectiveSpec("reinforce", GroupAdvantage(baseline), PolicyGradient(), aggregation=aggregation)


def rloo(group_size: int | None = None, beta: float = 0.0) -> ObjectiveSpec:
    """Leave-one-out baseline, whole-sequence policy gradient; `beta` charges k1 to the reward."""
    return ObjectiveSpec(
        "rloo",
        GroupAdvantage("leave-one-out", group_size=group_size),
        PolicyGradient(),
        aggregation=Aggregation("sequence-mean-token-sum"),
        divergence=Divergence(beta, "k1", "reward") if beta else None,
    )


def ppo(
    low: float = 0.2,
    high: float = 0.2,
    dual: float | None = None,
    discount: float = 1.0,
    trace: float = 0.95,
    value_clip: float | None = 0.2,
    bootstrap: Literal["zero", "repeat", "given"] = "zero",
    whiten: bool = False,
    beta: float = 0.0,
    unusual_clip: bool = False,
) -> ObjectiveSpec:
    """Clipped surrogate with generalised advantages of a critic; `beta` charges k1 to the reward."""
    return ObjectiveSpec(
        "ppo",
        GeneralisedAdvantage(discount, trace, bootstrap, whiten),
        ClippedRatio(low, high, dual),
        Ratio("token"),
        Aggregation("token-mean"),
        divergence=Divergence(beta, "k1", "reward") if beta else None,
        critic=ValueLoss(GeneralisedAdvantage(discount, trace, bootstrap), value_clip),
        unusual_clip=unusual_clip,
    )


def grpo(
    low: float = 0.2,
    high: float = 0.2,
    dual: float | None = None,
    beta: float = 0.04,
    estimator: Literal["k1", "k2", "k3", "k3+", "full"] = "k3",
    ddof: Literal[0, 1] = 1,
    epsilon: float = 0.0,
    group_size: int | None = None,
    unusual_clip: bool = False,
) -> ObjectiveSpec:
    """Group-normalised advantages, clipped token ratios, means over tokens and then sequences, k3 in the loss."""
    return ObjectiveSpec(
        "grpo",
        GroupAdvantage("group-mean", "group-std", ddof, epsilon, group_size=group_size),
        ClippedRatio(low, high, dual),
        Ratio("token"),
        Aggregation("sequence-mean-token-mean"),
        divergence=Divergence(beta, estimator) if beta else None,
        unusual_clip=unusual_clip,
    )


def dr_grpo(
    budget: int,
    low: float = 0.2,
    high: float = 0.2,
    dual: float | None = None,
    group_size: int | None = None,
    unusual_clip: bool = False,
) -> ObjectiveSpec:
    """Centred advantages and a constant normaliser. `budget`: the generation budget in tokens, the same for the whole run."""
    return ObjectiveSpec(
        "dr_grpo",
        GroupAdvantage("group-mean", group_size=group_size),
        ClippedRatio(low, high, dual),
        Ratio("token"),
        Aggregation("sequence-mean-token-sum-constant", constant=budget),
        unusual_clip=unusual_clip,
    )


def dapo(
    low: float = 0.2,
    high: float = 0.28,
    dual: float | None = None,
    overlong: Overlong | None = Overlong(),  # noqa: B008 - frozen
    dynamic_sampling: bool = True,
    overlong_filter: bool = False,
    ddof: Literal[0, 1] = 1,
    epsilon: float = 0.0,
    group_size: int | None = None,
    unusual_clip: bool = False,
) -> ObjectiveSpec:
    """Clip-higher and token mean. `dynamic_sampling` drops groups without signal; `overlong` None shapes nothing."""
    filters: list[Filter] = []
    if dynamic_sampling:
        filters.append(DynamicSampling())
    if overlong_filter:
        filters.append(OverlongFilter())
    return ObjectiveSpec(
        "dapo",
        GroupAdvantage("group-mean", "group-std", ddof, epsilon, group_size=group_size),
        ClippedRatio(low, high, dual),
        Ratio("token"),
        Aggregation("token-mean"),
        rewards=() if overlong is None else (overlong,),
        filters=tuple(filters),
        unusual_clip=unusual_clip,
    )


def gspo(
    low: float = 3e-4,
    high: float = 4e-4,
    ddof: Literal[0, 1] = 1,
    epsilon: float = 0.0,
    group_size: int | None = None,
    unusual_clip: bool = False,
) -> ObjectiveSpec:
    """Group-normalised advantages, ratios of geometric means of sequences."""
    return ObjectiveSpec(
        "gspo",
        GroupAdvantage("group-mean", "group-std", ddof, epsilon, group_size=group_size),
        ClippedRatio(low, high),
        Ratio("sequence-geometric"),
        Aggregation("sequence-mean-token-mean"),
        unusual_clip=unusual_clip,
    )


def cispo(
    cap: float = 5.0,
    floor: float = 0.0,
    ddof: Literal[0, 1] = 1,
    epsilon: float = 0.0,
    group_size: int | None = None,
    unusual_clip: bool = False,
) -> ObjectiveSpec:
    """Clipped importance weights. `cap`: the largest weight itself; Khatri et al. 2025, arXiv 2510.13786, find 4 to 8 alike."""
    return ObjectiveSpec(
        "cispo",
        GroupAdvantage("group-mean", "group-std", ddof, epsilon, group_size=group_size),
        ClippedWeight(cap, floor),
        Ratio("token"),
        Aggregation("token-mean"),
        unusual_clip=unusual_clip,
    )
