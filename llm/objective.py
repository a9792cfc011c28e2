r"""An objective is a value: a few frozen parts.

    rewards -> advantage -> filters -> aggregation          (what couples sequences: `banach.llm.plan`)
    ratio -> surrogate, behaviour weight, divergence, entropy, critic        (a token at a time)

    loss = - agg( behaviour * surrogate(ratio, logp, A) ) + beta agg( divergence ) - eta agg( entropy ),

minimised. Its gradient is -sum w grad logp, with the score weights w of `Evaluation.weight_BT` in closed form.

A system of the literature is this value with other parts. A part of one's own is an object with the part's few methods: an
advantage is any callable of an `Outcome`, a filter any callable of outcome and advantage, a reward transform any callable of
reward and batch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor

from .advantage import Advantage
from .aggregation import Aggregation
from .batch import TokenBatch
from .critic import ValueLoss
from .divergence import Divergence
from .errors import SpecError
from .evaluation import Evaluation
from .mask import Filter
from .outcome import RewardTransform
from .plan import plan
from .ratio import Ratio, Ratios, TruncatedImportance
from .surrogate import Surrogate


@dataclass(frozen=True)
class ObjectiveSpec:
    """A policy-gradient objective. Raises SpecError for settings, and ClipRangeError for clip ranges, that do not fit together.

    name: how messages call it.
    advantage: from outcomes to advantages.
    surrogate: what is maximised a token.
    ratio: the level of the importance ratio.
    aggregation: from tokens to one number.
    rewards: reward transforms, in order.
    filters: which tokens take part; all must keep a token.
    divergence: penalty on the distance to a reference, in the loss or in the reward.
    entropy: coefficient of the entropy bonus, 0 or more; reads `entropy_BT`.
    behaviour: weights that correct for the engine that sampled.
    critic: the value loss, returned beside the loss.
    unusual_clip: accept a clip range that is refused otherwise.
    """

    name: str
    advantage: Advantage
    surrogate: Surrogate
    ratio: Ratio = field(default_factory=Ratio)
    aggregation: Aggregation = field(default_factory=Aggregation)
    rewards: tuple[RewardTransform, ...] = ()
    filters: tuple[Filter, ...] = ()
    divergence: Divergence | None = None
    entropy: float = 0.0
    behaviour: TruncatedImportance | None = None
    critic: ValueLoss | None = None
    unusual_clip: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.entropy < float("inf"):
            raise SpecError(f"entropy={self.entropy}: the bonus has a coefficient of 0 or more")
        if not self.unusual_clip:
            self.surrogate.check(self.ratio.level)

    @property
    def needs(self) -> tuple[str, ...]:
        """Names of the optional fields of `TokenBatch` that the objective reads."""
        stages = (self.advantage, self.ratio, self.aggregation, *self.rewards, *self.filters)
        parts = (*stages, self.divergence, self.behaviour, self.critic)
        names = [name for part in parts for name in getattr(part, "needs", ())]
        return tuple(dict.fromkeys([*names, *(["entropy_BT"] if self.entropy else [])]))

    @property
    def loss_divergence(self) -> Divergence | None:
        """The divergence, if it stands in the loss."""
        return self.divergence if self.divergence is not None and self.divergence.where == "loss" else None

    @property
    def reward_divergence(self) -> Divergence | None:
        """The divergence, if it is charged to the reward."""
        return self.divergence if self.divergence is not None and self.divergence.where == "reward" else None

    def token_ratio(self, logp_BT: Tensor, batch: TokenBatch) -> Ratios:
        """Ratios at the token level, whatever level the surrogate has; log-probabilities (B, T) are 0 off the mask."""
        return replace(self.ratio, level="token")(logp_BT, batch)


def evaluate(spec: ObjectiveSpec, batch: TokenBatch) -> Evaluation:
    """Loss, score weights and diagnostics of a whole batch. Raises BatchError where the batch lacks what the objective reads.

    For microbatches use `plan(spec, batch)` and evaluate selections of its rows: their losses add up to this one.
    """
    return plan(spec, batch).evaluate()


def as_loss(spec: ObjectiveSpec, **more: Tensor | Callable[[Tensor], Tensor]) -> Callable[..., Tensor]:
    """The objective as a function loss(logp_BT, logp_old_BT, logp_ref_BT, mask_BT, rewards_B, groups_B) -> scalar tensor.

    Log-probabilities and mask are of shape (B, T), rewards and groups of shape (B,); logp_ref_BT may be None. `more` names
    further fields of the batch: tensors, or functions of the mask that make them (a critic: value_BT=lambda mask_BT: ...).
    The function raises BatchError where the batch lacks what the objective reads.
    """

    def loss(
        logp_BT: Tensor,
        logp_old_BT: Tensor,
        logp_ref_BT: Tensor | None,
        mask_BT: Tensor,
        rewards_B: Tensor,
        groups_B: Tensor,
    ) -> Tensor:
        extra: dict[str, Any] = {name: x(mask_BT) if callable(x) else x for name, x in more.items()}
        batch = TokenBatch(logp_BT, logp_old_BT, mask_BT, rewards_B, groups_B, logp_ref_BT=logp_ref_BT, **extra)
        return evaluate(spec, batch).loss

    loss.__name__ = spec.name
    return loss
