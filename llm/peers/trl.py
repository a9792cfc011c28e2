r"""TRL's losses, as TRL backpropagates them.

Nothing of a loss is written here. A real trainer is built from its real configuration with its defaults, and its own
`training_step` is run. Three things are given instead of computed: what the models answer (`LogProbTable`), what was sampled
(the batch), and the rewards. What `training_step` hands to `accelerator.backward` is recorded instead of differentiated, and
summed over the `accumulation` micro-batches of one optimizer step: the function returned is the one whose gradient TRL's
optimizer sees, with TRL's advantages, masks, normalisers, clipping and division by the accumulation steps.

What the stand-ins imply:

* A group is a prompt of one token; groups have equal size, as TRL demands.
* num_iterations is 2 for GRPO: with its default of 1, TRL replaces the sampler's log-probabilities by the policy's own and the
  ratio is one for ever. On the policy (logp = logp_old) the two agree.
* With more than one micro-batch TRL shuffles the batch over them; here by the fixed `seed`.
* A loss that needs whole distributions (entropy bonus, top-entropy masks, WPO's weights) is refused: log-probabilities of the
  sampled tokens do not determine them. So are rewards from several functions and vLLM's corrections.
* KTO estimates its reference point on completions rotated by one within the micro-batch. Among completions of one prompt, the
  rotation is a permutation of the batch, and that is what is fed.
* ORPO also maximises the likelihood of the prompt's tokens after the first; the prompt here has one.

Written against trl 1.16.0. Shapes: B sequences, T tokens; pairs: B pairs.
"""

from __future__ import annotations

import importlib.metadata
import json
from dataclasses import dataclass
from typing import Any

import torch

from .batch import group_rows, pair_rows
from .errors import PeerMissing, PeerRefusal
from .table import LogProbTable
from .trl_trainer import BATCHES, build

GROUP_LOSSES = ("grpo", "dr_grpo", "dapo", "bnpo", "cispo", "sapo", "luspo", "vespo")
PAIR_LOSSES = (
    "sigmoid", "hinge", "ipo", "exo_pair", "nca_pair", "robust", "bco_pair", "sppo_hard", "aot", "aot_unpaired",
    "apo_zero", "apo_down", "discopop", "sft", "sigmoid_norm",
)  # fmt: skip
CPO_LOSSES = ("sigmoid", "hinge", "ipo", "simpo", "alphapo")

_NEEDS_DISTRIBUTIONS = {"entropy_coef": 0.0, "use_adaptive_entropy": False, "top_entropy_quantile": 1.0, "use_weighting": False}
_NEEDS_MORE = {"use_vllm": False, "mask_truncated_completions": False, "reward_weights": None, "missing_eos_penalty": None}


def version() -> str:
    """The installed release of TRL. Raises PeerMissing without one."""
    try:
        return importlib.metadata.version("trl")
    except importlib.metadata.PackageNotFoundError:
        raise PeerMissing("trl is not installed; install the tested release with: pip install trl==1.16.0") from None


@dataclass(frozen=True)
class TrlGroupLoss:
    """A loss of GRPOTrainer, RLOOTrainer or OnlineDPOTrainer; `settings` are fields of its configuration, as JSON."""

    trainer: str
    settings: str
    accumulation: int = 1
    seed: int = 0

    @property
    def name(self) -> str:
        """What a report calls it."""
        return _name(self.trainer, self.settings)

    def __call__(
        self,
        logp: torch.Tensor,
        logp_old: torch.Tensor,
        logp_ref: torch.Tensor | None,
        mask: torch.Tensor,
        rewards: torch.Tensor,
        groups: torch.Tensor,
    ) -> torch.Tensor:
        """The scalar that TRL differentiates in one optimizer step; log-probabilities and mask (B, T), rewards, groups (B,).

        Raises PeerRefusal when groups differ in size, do not split into `accumulation` parts, or lack a reference that the
        configuration asks for; RLOO also where a token before the last is not the policy's.
        """
        rows = group_rows(logp, logp_old, logp_ref, mask, rewards, groups)
        trainer = build(self.trainer, self.settings, rows.n_sequences, rows.group_size, self.accumulation)
        if rows.logp_ref_BT is None and trainer.beta != 0:
            raise PeerRefusal(f"{self.trainer} with beta = {trainer.beta:g} needs log-probabilities of the reference policy")
        trainer.fed = rows
        trainer.model = LogProbTable(rows.logp_old_BT.detach())
        trainer.ref_model = None if rows.logp_ref_BT is None else LogProbTable(rows.logp_ref_BT.detach())
        per_step = rows.n_sequences // self.accumulation
        inputs: Any = [{"prompt": str(row)} for row in range(rows.n_sequences)]
        if self.trainer == "online_dpo":  # its batch is prompts; completions 2i and 2i + 1 are those of prompt i
            prompts = range(rows.n_sequences // 2)
            parts = [{"prompt": [str(row) for row in prompts[start : start + per_step // 2]]}
                     for start in range(0, len(prompts), per_step // 2)]  # fmt: skip
        else:
            parts = [inputs] * self.accumulation
        return _optimizer_step(trainer, LogProbTable(rows.logp_BT), parts, self.seed)


@dataclass(frozen=True)
class TrlPairLoss:
    """A loss of DPOTrainer, KTOTrainer, CPOTrainer or ORPOTrainer; `settings` are fields of its configuration, as JSON."""

    trainer: str
    settings: str
    accumulation: int = 1

    @property
    def name(self) -> str:
        """What a report calls it."""
        return _name(self.trainer, self.settings)

    def __call__(
        self,
        logp_chosen: torch.Tensor,
        logp_rejected: torch.Tensor,
        ref_chosen: torch.Tensor,
        ref_rejected: torch.Tensor,
        length_chosen: torch.Tensor,
        length_rejected: torch.Tensor,
    ) -> torch.Tensor:
        """The scalar that TRL differentiates in one optimizer step; all arguments (B,), lengths in tokens.

        A sequence of n tokens is fed as n tokens of log-probability logp / n. Raises PeerRefusal when the pairs do not split
        into `accumulation` parts or a length is not positive.
        """
        rows = pair_rows(logp_chosen, logp_rejected, ref_chosen, ref_rejected, length_chosen, length_rejected)
        if rows.n_pairs % self.accumulation:
            raise PeerRefusal(f"{rows.n_pairs} pairs do not split into {self.accumulation} micro-batches of equal size")
        per_step = rows.n_pairs // self.accumulation
        trainer = build(self.trainer, self.settings, 2 * rows.n_pairs, 2, self.accumulation)
        trainer.model = LogProbTable(rows.logp_RT)
        trainer.ref_model = LogProbTable(rows.ref_RT.detach())
        pairs = torch.arange(rows.n_pairs).split(per_step)
        parts = [BATCHES[self.trainer](rows, part) for part in pairs]
        return _optimizer_step(trainer, trainer.model, parts, 0)


def grpo(loss_type: str = "dapo", *, accumulation: int = 1, seed: int = 0, **settings: Any) -> TrlGroupLoss:
    """GRPOTrainer's loss; `loss_type` one of GROUP_LOSSES, `settings` any field of GRPOConfig.

    GSPO is importance_sampling_level="sequence" with loss_type="grpo". Raises PeerRefusal, PeerMissing.
    """
    _require_known("GRPO", loss_type, GROUP_LOSSES)
    return TrlGroupLoss("grpo", _spelled({"num_iterations": 2, "loss_type": loss_type} | settings), accumulation, seed)


def rloo(*, accumulation: int = 1, seed: int = 0, **settings: Any) -> TrlGroupLoss:
    """RLOOTrainer's loss; `settings` any field of RLOOConfig. Raises PeerRefusal, PeerMissing."""
    return TrlGroupLoss("rloo", _spelled(settings), accumulation, seed)


def online_dpo(loss_type: str = "sigmoid", *, accumulation: int = 1, **settings: Any) -> TrlGroupLoss:
    """The experimental OnlineDPOTrainer's loss, a loss of groups of two. Raises PeerRefusal, PeerMissing."""
    _require_known("online DPO", loss_type, ("sigmoid", "ipo"))
    return TrlGroupLoss("online_dpo", _spelled({"loss_type": loss_type} | settings), accumulation)


def dpo(loss_type: str = "sigmoid", *, accumulation: int = 1, **settings: Any) -> TrlPairLoss:
    """DPOTrainer's loss; `loss_type` one of PAIR_LOSSES, `settings` any field of DPOConfig. Raises PeerRefusal, PeerMissing."""
    _require_known("DPO", loss_type, PAIR_LOSSES)
    return TrlPairLoss("dpo", _spelled({"loss_type": [loss_type]} | settings), accumulation)


def kto(loss_type: str = "kto", *, accumulation: int = 1, **settings: Any) -> TrlPairLoss:
    """KTOTrainer's loss on the chosen as desirable, the rejected as undesirable. Raises PeerRefusal, PeerMissing."""
    _require_known("KTO", loss_type, ("kto", "apo_zero_unpaired"))
    return TrlPairLoss("kto", _spelled({"loss_type": loss_type} | settings), accumulation)


def cpo(loss_type: str = "sigmoid", *, accumulation: int = 1, **settings: Any) -> TrlPairLoss:
    """The experimental CPOTrainer's loss; "simpo" is SimPO plus the NLL of `cpo_alpha`. Raises PeerRefusal, PeerMissing."""
    _require_known("CPO", loss_type, CPO_LOSSES)
    return TrlPairLoss("cpo", _spelled({"loss_type": loss_type} | settings), accumulation)


def orpo(*, accumulation: int = 1, **settings: Any) -> TrlPairLoss:
    """The experimental ORPOTrainer's loss; `settings` any field of ORPOConfig. Raises PeerRefusal, PeerMissing."""
    return TrlPairLoss("orpo", _spelled(settings), accumulation)


def _name(trainer: str, settings: str) -> str:
    loss_type = json.loads(settings).get("loss_type", "")
    return f"TRL {trainer} {loss_type[0] if isinstance(loss_type, list) else loss_type}".strip()


def _require_known(trainer: str, loss_type: str, known: tuple[str, ...]) -> None:
    if loss_type not in known:
        raise PeerRefusal(f"TRL's {trainer} has no loss {loss_type!r}; it has {', '.join(known)}")


def _spelled(settings: dict[str, Any]) -> str:
    """The settings as a hashable word, after refusing those whose loss is no function of the log-probabilities."""
    version()
    for name, off in (_NEEDS_DISTRIBUTIONS | _NEEDS_MORE).items():
        if settings.get(name, off) != off:
            why = "the distribution of every token" if name in _NEEDS_DISTRIBUTIONS else "more than one reward and one sampler"
            raise PeerRefusal(f"{name} = {settings[name]!r}: the loss then depends on {why}, which a batch here does not carry")
    return json.dumps(settings, sort_keys=True)


def _optimizer_step(trainer: Any, policy: LogProbTable, parts: list[Any], seed: int) -> torch.Tensor:
    """Sum of what `training_step` backpropagates over the micro-batches `parts`."""
    recorded: list[torch.Tensor] = []
    scale = trainer.accelerator.gradient_accumulation_steps  # what Accelerator.backward divides by
    trainer.accelerator.backward = lambda loss, **_: recorded.append(loss / scale)
    trainer._step, trainer._buffered_inputs = 0, None
    trainer.current_gradient_accumulation_steps = len(parts)
    before = torch.get_rng_state()
    torch.set_rng_state(torch.Generator().manual_seed(seed).get_state())
    try:
        for part in parts:
            trainer.training_step(policy, part, num_items_in_batch=None)
    finally:
        torch.set_rng_state(before)
    for name in ("_metrics", "_stored_metrics", "stats"):  # what a logger would have emptied
        for values in getattr(trainer, name, {}).values():
            values.clear()
    return torch.stack(recorded).sum()
