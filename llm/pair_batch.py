# ruff: noqa: N815 - names carry their shapes
"""What a preference objective sees: log-probabilities of compared sequences, and who won.

Every preference objective is a function of whole-sequence log-probabilities, under the policy and under what it is anchored to.
`Sequences` holds them for B sequences; a `PairBatch` is two such sides with the label of each pair, a `SingleBatch` one side
with a verdict for each sequence (KTO's data). The first side of a pair is called chosen and the label is the probability that
it is the better one: 1 for a hard label, P(y > y') where it is known, 1/2 for a tie. Swapping the sides and taking 1 - label
is the same pair.

Letters: B sequences or pairs, T tokens, M mismatched sequences. Half precision is read as float32: INPO's published target
margin is 66.7 nats, where bfloat16 counts in steps of a quarter nat.
"""

from dataclasses import dataclass, fields, replace
from typing import TypeVar

import torch
from torch import Tensor

from .errors import BatchError


@dataclass(frozen=True, eq=False)
class Sequences:
    """One side of the comparison: B sequences, every tensor of shape (B,), on one device.

    logp_B: log pi(y | x) summed over the tokens of y (or the scores of a reward model, for a Bradley-Terry reward loss).
    length_B: number of those tokens, at least 1; needed by length-normalised scores.
    ref_B: log q(y | x) under the reference, the policy that training began from.
    previous_B: log pi_t(y | x) under the previous iterate, for the self-play methods.
    win_B: P(y > pi_t), the probability in [0, 1] that y beats a response of the opponent (SPPO).
    reward_B: a reward of y, any finite number (CoPG, REBEL).
    mask_BT: (B, T) bool, the tokens that were summed; it gives the score weights their form a token.
    Only logp_B carries gradient: everything else is detached.
    Raises BatchError when shapes, types, devices or numbers do not fit, naming the row; empty sequences are refused.
    """

    logp_B: Tensor
    length_B: Tensor | None = None
    ref_B: Tensor | None = None
    previous_B: Tensor | None = None
    win_B: Tensor | None = None
    reward_B: Tensor | None = None
    mask_BT: Tensor | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.logp_B, Tensor) or self.logp_B.ndim != 1 or not self.logp_B.is_floating_point():
            raise BatchError("logp_B must be a floating-point tensor of shape (B,): one log-probability a sequence")
        if not len(self.logp_B):
            raise BatchError("the batch holds no sequences, and a mean over none does not exist; skip the batch")
        dtype = torch.promote_types(self.logp_B.dtype, torch.float32)
        object.__setattr__(self, "logp_B", self.logp_B.to(dtype))
        for name in ("length_B", "ref_B", "previous_B", "win_B", "reward_B"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, row_of_numbers(name, getattr(self, name), self.logp_B))
        require_finite("logp_B", self.logp_B)
        if self.mask_BT is not None:
            self._read_mask(self.mask_BT)
        if self.length_B is not None:
            refuse("length_B", self.length_B, self.length_B < 1, "a sequence without tokens has no mean; drop it")
        if self.win_B is not None:
            refuse("win_B", self.win_B, (self.win_B < 0) | (self.win_B > 1), "it is a probability, in [0, 1]")

    def _read_mask(self, mask_BT: Tensor) -> None:
        if mask_BT.dtype != torch.bool or mask_BT.ndim != 2 or len(mask_BT) != len(self.logp_B):
            raise BatchError(f"mask_BT must be a bool tensor of shape ({len(self.logp_B)}, T)")
        count_B = mask_BT.sum(1).to(self.logp_B.dtype)
        if self.length_B is None:
            object.__setattr__(self, "length_B", count_B)
        elif not torch.equal(self.length_B, count_B):
            row = int((self.length_B != count_B).nonzero()[0])
            raise BatchError(
                f"length_B[{row}] is {float(self.length_B[row]):g}, but mask_BT marks {int(count_B[row])}; give one of them"
            )

    @classmethod
    def from_tokens(
        cls, logp_BT: Tensor, mask_BT: Tensor, ref_BT: Tensor | None = None, previous_BT: Tensor | None = None, **rows: Tensor
    ) -> "Sequences":
        """Sums token log-probabilities, each (B, T), over mask_BT, (B, T) bool, in float32 or wider; lengths come from the
        mask.

        What stands outside the mask may be anything, infinities and NaN included: it is neither summed nor differentiated.
        `rows`: win_B or reward_B, each (B,).
        Raises BatchError as the class does, and when a token tensor is not of the mask's shape.
        """
        if mask_BT.dtype != torch.bool or mask_BT.ndim != 2:
            raise BatchError("mask_BT must be a bool tensor of shape (B, T)")

        def total(name: str, value_BT: Tensor | None) -> Tensor | None:
            if value_BT is None:
                return None
            if value_BT.shape != mask_BT.shape:
                raise BatchError(f"{name} has shape {tuple(value_BT.shape)}, its mask {tuple(mask_BT.shape)}")
            wide_BT = value_BT.to(torch.promote_types(value_BT.dtype, torch.float32))
            return torch.where(mask_BT, wide_BT, 0).sum(1)

        logp_B = total("logp_BT", logp_BT)
        assert logp_B is not None
        return cls(
            logp_B=logp_B, ref_B=total("ref_BT", ref_BT), previous_B=total("previous_BT", previous_BT), mask_BT=mask_BT, **rows
        )

    def rows(self, index: Tensor | slice) -> "Sequences":
        """The sequences that `index` picks: a slice or an integer tensor of shape (any number of,)."""
        return _rows(self, index)


@dataclass(frozen=True, eq=False)
class PairBatch:
    """B pairs of sequences of one prompt each.

    chosen, rejected: the two sides, of equal size, type and device.
    label_B: (B,), the probability in [0, 1] that the chosen one is the better; None: 1 throughout.
    weight_B: (B,), non-negative and not all zero, how much each pair counts in the mean; None: all alike. Enumerating a
        population is a batch of all pairs with their probabilities as weights.
    log_ratio_mismatched_M: (M,), log pi/q of sequences drawn apart from the pairs, from which KTO may estimate KL(pi || q); an
        exact divergence is one such number. Detached.
    Raises BatchError when sides, labels or weights do not fit.
    """

    chosen: Sequences
    rejected: Sequences
    label_B: Tensor | None = None
    weight_B: Tensor | None = None
    log_ratio_mismatched_M: Tensor | None = None

    def __post_init__(self) -> None:
        chosen, rejected = self.chosen.logp_B, self.rejected.logp_B
        if (chosen.shape, chosen.dtype, chosen.device) != (rejected.shape, rejected.dtype, rejected.device):
            raise BatchError(
                f"the sides of the pairs differ: chosen {tuple(chosen.shape)} {chosen.dtype} on {chosen.device}, "
                f"rejected {tuple(rejected.shape)} {rejected.dtype} on {rejected.device}"
            )
        _read_common(self, "label_B", chosen)

    @property
    def sides(self) -> tuple[Sequences, ...]:
        """(chosen, rejected)."""
        return self.chosen, self.rejected

    @property
    def verdicts(self) -> tuple[Tensor, ...]:
        """For each side the probability that its sequence is the better one, each (B,)."""
        label_B = torch.ones_like(self.chosen.logp_B.detach()) if self.label_B is None else self.label_B
        return label_B, 1 - label_B

    def rows(self, index: Tensor | slice) -> "PairBatch":
        """The pairs that `index` picks, a slice or an integer tensor of shape (any number of,); mismatched sequences stay
        whole.
        """
        return _rows(self, index)


@dataclass(frozen=True, eq=False)
class SingleBatch:
    """B sequences, each judged alone: desirable or not.

    sequences: the side that holds them.
    desirable_B: (B,), bool or the probability in [0, 1] that the sequence is desirable.
    weight_B, log_ratio_mismatched_M: as in `PairBatch`, of shapes (B,) and (M,).
    Raises BatchError when verdicts or weights do not fit.
    """

    sequences: Sequences
    desirable_B: Tensor
    weight_B: Tensor | None = None
    log_ratio_mismatched_M: Tensor | None = None

    def __post_init__(self) -> None:
        _read_common(self, "desirable_B", self.sequences.logp_B)

    @property
    def sides(self) -> tuple[Sequences, ...]:
        """The one side."""
        return (self.sequences,)

    @property
    def verdicts(self) -> tuple[Tensor, ...]:
        """The probability that each sequence is desirable, (B,)."""
        return (self.desirable_B,)

    def rows(self, index: Tensor | slice) -> "SingleBatch":
        """The sequences that `index` picks, a slice or an integer tensor of shape (any number of,)."""
        return _rows(self, index)


PreferenceBatch = PairBatch | SingleBatch
Rows = TypeVar("Rows", Sequences, PairBatch, SingleBatch)


def row_of_numbers(name: str, value: Tensor, like: Tensor) -> Tensor:
    """`value` detached, in the type of `like`, both of shape (B,). Raises BatchError when shape, device or a number is
    wrong.
    """
    if not isinstance(value, Tensor) or value.shape != like.shape or value.device != like.device:
        found = f"a tensor {tuple(value.shape)} on {value.device}" if isinstance(value, Tensor) else repr(type(value))
        raise BatchError(f"{name} must be a tensor of shape {tuple(like.shape)} on {like.device}, not {found}")
    value = value.detach().to(like.dtype)
    require_finite(name, value)
    return value


def require_finite(name: str, value: Tensor) -> None:
    """Raises BatchError, naming the first row, when a number of `value`, of any number of rows, is infinite or NaN."""
    refuse(name, value, ~value.isfinite(), "a response that a policy never gives cannot be compared; remove it")


def refuse(name: str, value: Tensor, wrong: Tensor, why: str) -> None:
    """Raises BatchError, naming the first row of `wrong`, a mask over the rows of `value`, any number of them."""
    if bool(wrong.any()):
        row = int(wrong.nonzero()[0])
        raise BatchError(f"{name}[{row}] is {float(value[row]):g}: {why}")


def _read_common(batch: PreferenceBatch, verdict: str, like: Tensor) -> None:
    label = getattr(batch, verdict)
    if label is not None:
        label = row_of_numbers(verdict, label, like)
        refuse(verdict, label, (label < 0) | (label > 1), "it is a probability, in [0, 1]")
        object.__setattr__(batch, verdict, label)
    if batch.weight_B is not None:
        weight = row_of_numbers("weight_B", batch.weight_B, like)
        refuse("weight_B", weight, weight < 0, "a pair cannot count less than nothing")
        object.__setattr__(batch, "weight_B", weight)
    apart = batch.log_ratio_mismatched_M
    if apart is not None:
        if apart.ndim != 1 or not len(apart) or not apart.is_floating_point():
            raise BatchError("log_ratio_mismatched_M must be a floating-point tensor of shape (M,), M at least 1")
        require_finite("log_ratio_mismatched_M", apart)
        object.__setattr__(batch, "log_ratio_mismatched_M", apart.detach().to(like))


def _rows(batch: Rows, index: Tensor | slice) -> Rows:
    picked = {}
    for field in fields(batch):
        value = getattr(batch, field.name)
        if isinstance(value, Sequences):
            picked[field.name] = value.rows(index)
        elif value is not None and not field.name.endswith("_M"):
            picked[field.name] = value[index]
    return replace(batch, **picked)
