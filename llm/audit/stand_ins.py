r"""What a loss of log-probabilities, mask, rewards and groups lacks, where an objective reads more of its batch.

An audit enumerates answers; it knows nothing of tool calls, critics or modes. An objective that reads them is audited at the
setting at which they say nothing, and the audit tells which that was: a critic that is always 0, no call, one mode, the last
round. Where they do speak is what the `Probe` of its catalogue entry tells (`banach.llm.audit.told`); what it does with still
more is asked of a function that fills it in (`banach.llm.as_loss`).

Some things have no such setting: an entropy or a whole table carries a gradient of its own. `CurvatureFilter` reads hidden
states and tables; with hidden states of 0 nothing is predicted to move, so that nothing is masked.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..batch import TokenBatch
from ..catalogue import OBJECTIVES, Probe
from ..objective import ObjectiveSpec, evaluate
from .finding import Finding
from .subject import Loss


def _tables(logp_old_BT: Tensor, mask_BT: Tensor) -> Tensor:
    """The token and everything else, (B, T, 2): the log-probability of the token is the batch's own."""
    logp_BT = torch.where(mask_BT.bool(), logp_old_BT, -1.0).clamp(max=-1e-12)
    return torch.stack([logp_BT, torch.log(-torch.expm1(logp_BT))], dim=2)


STAND_INS: dict[str, tuple[str, Callable[[Tensor, Tensor], Tensor]]] = {
    "value_BT": ("a critic that says 0", lambda logp, _: torch.zeros_like(logp)),
    "value_old_BT": ("a critic that said 0", lambda logp, _: torch.zeros_like(logp)),
    "value_end_B": ("nothing to come after the last token", lambda logp, _: torch.zeros_like(logp[:, 0])),
    "truncated_B": ("no answer is cut", lambda _, mask: torch.zeros_like(mask[:, 0], dtype=torch.bool)),
    "fresh_BT": ("all tokens are new", lambda _, mask: torch.ones_like(mask, dtype=torch.bool)),
    "turn_BT": ("one turn", lambda _, mask: torch.zeros_like(mask, dtype=torch.int64)),
    "bundle_B": ("each answer is a bundle of its own", lambda _, mask: torch.arange(len(mask))),
    "first_call_B": ("no tool is called", lambda _, mask: torch.full((len(mask),), -1)),
    "rounds_left_B": ("each answer is the last round", lambda _, mask: torch.zeros(len(mask), dtype=torch.int64)),
    "mode_B": ("all answers are in the cheapest mode", lambda _, mask: torch.zeros(len(mask), dtype=torch.int64)),
    "forced_B": ("the mode is imposed", lambda _, mask: torch.ones(len(mask), dtype=torch.bool)),
    "step_reward_BT": ("no reward on the way", lambda logp, _: torch.zeros_like(logp)),
    "logp_sampler_BT": ("the engine samples what the trainer computes", lambda logp, _: logp.clone()),
    "token_BT": ("a vocabulary of the token and the rest", lambda _, mask: torch.zeros_like(mask, dtype=torch.int64)),
    "log_policy_BTV": ("a vocabulary of the token and the rest", _tables),
    "hidden_BTD": ("hidden states of 0: no curvature", lambda logp, _: torch.zeros_like(logp)[..., None]),
}
"""By the name of a field of `TokenBatch`: what stands there, in words, and as a function of old log-probabilities and mask."""


def loss_of_spec(spec: ObjectiveSpec, probe: Probe | None = None) -> Loss:
    """The objective as a loss of six tensors; what else it reads has stand-ins, where there are any, or what a probe tells."""
    lacking = [name for name in spec.needs if name in STAND_INS]

    def loss(
        logp_BT: Tensor, logp_old_BT: Tensor, logp_ref_BT: Tensor | None, mask_BT: Tensor, rewards_B: Tensor, groups_B: Tensor
    ) -> Tensor:
        extra = {name: STAND_INS[name][1](logp_old_BT.detach(), mask_BT) for name in lacking}
        batch = TokenBatch(logp_BT, logp_old_BT, mask_BT, rewards_B, groups_B, logp_ref_BT=logp_ref_BT, **extra)
        return evaluate(spec, batch if probe is None else probe.dress(batch)).loss

    loss.__name__ = spec.name
    return loss


def probe_of(spec: ObjectiveSpec) -> Probe | None:
    """What the catalogue has such an objective told; None where it has no entry, or needs nothing of it."""
    probe = OBJECTIVES[spec.name].probe if spec.name in OBJECTIVES else None
    return probe if probe is not None and set(probe.fields) & set(spec.needs) else None


def assumed(spec: ObjectiveSpec) -> Finding | None:
    """What stands for what the batch lacks, as a finding; None where nothing has to."""
    lacking = [name for name in spec.needs if name in STAND_INS]
    if not lacking:
        return None
    words = list(dict.fromkeys(STAND_INS[name][0] for name in lacking))
    verdict = f"It also reads {', '.join(lacking)}. What follows holds where they say nothing: {'; '.join(words)}."
    return Finding("assumed", "what it is given", verdict, "note", details={"fields": lacking})
