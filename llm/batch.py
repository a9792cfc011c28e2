# ruff: noqa: N802, N815 - names carry their shapes
r"""A batch of sampled sequences, as tensors of log-probabilities; validated once, at the door.

Shape suffixes, here and in every module of the objectives: B sequences, T token positions, V vocabulary.

The *policy tokens* are those that the policy emitted: `mask_BT` is true there and nowhere else (not on prompts, tool outputs,
injected prefixes or padding). Off the mask a tensor may hold anything, NaN included: nothing is read there. A row without a
policy token is padding; it counts in no mean.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from .errors import BatchError

CEILING = 1e-6
"""Log-probabilities above this are refused: rounding reaches 1e-7 or so above zero, unnormalised logits much more."""

_WHOLE = ("group_B", "turn_BT", "token_BT", "bundle_B", "first_call_B", "rounds_left_B", "mode_B")
_TRUTH = ("mask_BT", "truncated_B", "fresh_BT", "forced_B")


@dataclass(frozen=True, eq=False)
class TokenBatch:
    """Sampled sequences with what an objective may read of them. Raises BatchError where the tensors contradict each other.

    logp_BT: (B, T), log-probability of each token under the policy that is trained; carries the gradient.
    logp_old_BT: (B, T), the same under the policy that the ratio is taken to (the behaviour, or the trainer's copy of it).
    mask_BT: (B, T), true (or 1) on policy tokens.
    reward_B: (B,), total return of each sequence.
    group_B: (B,), whole numbers; sequences with one prompt share a group.
    logp_ref_BT: (B, T), under the reference policy.
    logp_sampler_BT: (B, T), under the engine that sampled, with its temperature and truncation, where it differs from the old
        policy's log-probabilities.
    entropy_BT: (B, T), entropy of the trained policy at each prefix, in nats; may carry a gradient.
    log_policy_BTV, log_reference_BTV: (B, T, V), whole log-probability tables, for divergences summed over the vocabulary.
    advantage_BT: (B, T), advantages of the user's own, read by the advantage part `Given`.
    step_reward_BT: (B, T), rewards paid on the way, part of `reward_B`; what `reward_B` holds beyond their sum falls due on the
        last policy token.
    value_BT: (B, T), the critic's value before each token; may carry a gradient.
    value_old_BT: (B, T), the critic's values when the sequences were collected; `value_BT` without gradient if not given.
    value_end_B: (B,), the critic's value after the last token, for sequences that were cut.
    turn_BT: (B, T), whole numbers: the turn of each policy token.
    truncated_B: (B,), true where a sequence was cut by the length limit.
    token_BT: (B, T), whole numbers: the tokens themselves, columns of the tables.
    hidden_BTD: (B, T, D), what the unembedding reads at each token; never carries a gradient here.
    fresh_BT: (B, T), true on tokens that were generated since the last update; a resumed sequence holds older ones.
    bundle_B: (B,), whole numbers; sequences of several prompts that are paid together share a bundle.
    first_call_B: (B,), whole numbers: policy tokens before the first tool call that was executed; negative where there is none.
    rounds_left_B: (B,), whole numbers: rounds between this one and the last of its trajectory, 0 for the last.
    mode_B: (B,), whole numbers: the mode in which a sequence was answered, 0 the cheapest; negative where it is none.
    forced_B: (B,), true where the mode was imposed and not chosen by the policy.
    """

    logp_BT: Tensor
    logp_old_BT: Tensor
    mask_BT: Tensor
    reward_B: Tensor
    group_B: Tensor
    logp_ref_BT: Tensor | None = None
    logp_sampler_BT: Tensor | None = None
    entropy_BT: Tensor | None = None
    log_policy_BTV: Tensor | None = None
    log_reference_BTV: Tensor | None = None
    advantage_BT: Tensor | None = None
    step_reward_BT: Tensor | None = None
    value_BT: Tensor | None = None
    value_old_BT: Tensor | None = None
    value_end_B: Tensor | None = None
    turn_BT: Tensor | None = None
    truncated_B: Tensor | None = None
    token_BT: Tensor | None = None
    hidden_BTD: Tensor | None = None
    fresh_BT: Tensor | None = None
    bundle_B: Tensor | None = None
    first_call_B: Tensor | None = None
    rounds_left_B: Tensor | None = None
    mode_B: Tensor | None = None
    forced_B: Tensor | None = None

    def __post_init__(self) -> None:
        if self.logp_BT.ndim != 2 or not self.logp_BT.is_floating_point():
            raise BatchError(
                f"logp_BT is of shape {tuple(self.logp_BT.shape)} and {self.logp_BT.dtype}; give floats of shape (B, T)"
            )
        self._check_shapes()
        for name in _TRUTH:
            if getattr(self, name) is not None:
                object.__setattr__(self, name, _as_bool(name, getattr(self, name)))
        for f in fields(self):
            self._check(f.name)

    @property
    def length_B(self) -> Tensor:
        """Number of policy tokens, shape (B,), whole numbers."""
        return self.mask_BT.sum(1)

    def select(self, rows: Any) -> TokenBatch:
        """The batch of some sequences, by a slice or an index tensor; gradients pass through. Nothing is validated again."""
        return self._with({f.name: None if (x := getattr(self, f.name)) is None else x[rows] for f in fields(self)})

    def renewed(self, **tensors: Tensor | None) -> TokenBatch:
        """The same sequences with fresh tensors of the given names, which alone are validated; those that are None stay.

        Raises BatchError where a fresh tensor does not fit.
        """
        fresh = {name: tensor for name, tensor in tensors.items() if tensor is not None}
        batch = self._with({f.name: getattr(self, f.name) for f in fields(self)} | fresh)
        batch._check_shapes()
        for name in fresh:
            batch._check(name)
        return batch

    def _with(self, tensors: dict[str, Tensor | None]) -> TokenBatch:
        """A batch of these tensors, not validated."""
        batch = object.__new__(TokenBatch)
        for f in fields(self):
            object.__setattr__(batch, f.name, tensors[f.name])
        return batch

    def _check_shapes(self) -> None:
        shape = tuple(self.mask_BT.shape)
        for f in fields(self):
            tensor = getattr(self, f.name)
            if tensor is None:
                continue
            rank = len(f.name.rpartition("_")[2])
            if tensor.ndim != rank or tuple(tensor.shape[:2]) != shape[:rank]:
                raise BatchError(
                    f"{f.name} is of shape {tuple(tensor.shape)}, but mask_BT of {shape}: give one entry a "
                    + ("sequence" if rank == 1 else "token")
                )

    def _check(self, name: str) -> None:
        """Raises BatchError if the numbers of one field cannot be what it stands for."""
        tensor, mask_BT = getattr(self, name), self.mask_BT
        if tensor is None or name in _TRUTH:
            return
        row_B = mask_BT.any(1)
        if name in _WHOLE:
            _check_whole(name, tensor)
        elif name.startswith("logp_"):
            _check_log_probability(name, tensor, mask_BT)
        elif name.endswith("BTV"):
            _check_table(name, tensor, mask_BT)
        elif name.endswith("BTD"):
            _check_finite(name, tensor, mask_BT[..., None].expand_as(tensor))
        elif name.endswith("_B"):
            _check_finite(name, tensor, row_B)
        else:
            _check_finite(name, tensor, row_B[:, None].expand_as(mask_BT) if name == "step_reward_BT" else mask_BT)


def _as_bool(name: str, tensor: Tensor) -> Tensor:
    if tensor.dtype == torch.bool:
        return tensor
    wrong = (tensor != 0) & (tensor != 1)
    if wrong.any():
        raise BatchError(
            f"{name} holds {tensor[wrong][0].item():g} at {_first(wrong)}; a mask is 0 or 1: weights belong elsewhere"
        )
    return tensor.bool()


def _check_whole(name: str, tensor: Tensor) -> None:
    if tensor.is_floating_point() or tensor.dtype == torch.bool:
        raise BatchError(f"{name} is of {tensor.dtype}; give whole numbers (torch.int64)")


def _check_finite(name: str, tensor: Tensor, where: Tensor) -> None:
    wrong = where & ~torch.isfinite(tensor.detach())
    if wrong.any():
        raise BatchError(
            f"{name} is {tensor[wrong][0].item():g} at {_first(wrong)}, where a policy token counts; mask it or mend it"
        )


def _check_log_probability(name: str, tensor: Tensor, mask_BT: Tensor) -> None:
    _check_finite(name, tensor, mask_BT)
    wrong = mask_BT & (tensor.detach() > CEILING)
    if wrong.any():
        raise BatchError(
            f"{name} is {tensor[wrong][0].item():g} > 0 at {_first(wrong)}: no log-probability; apply log_softmax to the logits"
        )


def _check_table(name: str, tensor: Tensor, mask_BT: Tensor) -> None:
    mass_BT = tensor.detach().double().logsumexp(-1)
    wrong = mask_BT & ~(mass_BT.abs() < 1e-2)
    if wrong.any():
        raise BatchError(
            f"{name} at {_first(wrong)} sums to exp({mass_BT[wrong][0].item():g}), not 1; apply log_softmax over the vocabulary"
        )


def _first(wrong: Tensor) -> str:
    place = wrong.nonzero()[0].tolist()
    return f"sequence {place[0]}" + (f", position {place[1]}" if len(place) > 1 else "")
