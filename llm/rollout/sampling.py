r"""The distribution that is really sampled, and how a token is drawn from it.

With logits z, temperature tau and nucleus p (Holtzman et al. 2020, arXiv 1904.09751): q = softmax(z / tau); K is the smallest
set of likeliest tokens with q(K) >= p (of equal ones the lower number first); the sampled distribution is q / q(K) on K and 0
elsewhere. Its logarithm is the behaviour's log-probability: the logarithm of q alone would be off by log q(K).

A token is drawn by inversion, the first v with cdf(v) > u * cdf(V). The uniform numbers u of an answer belong to a key (seed,
step, prompt), its place in the group and the number of tokens it has emitted. So an answer does not depend on which other
answers are drawn beside it, on which process, or on what was drawn before: a run that resumes or is split draws the same.

Shape suffixes: B answers, V vocabulary, K stretches of it, S tokens of a stretch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own abbreviation
from torch import Tensor

from ..policy.errors import PolicyError

STRETCH = 256


@dataclass(frozen=True)
class Sampling:
    """How answers are drawn. Raises PolicyError for settings out of range.

    max_tokens: policy tokens of an answer, at least 1; what reaches it without a stop token is cut and marked.
    temperature: tau > 0. top_p: p in (0, 1].
    stop: tokens that end a turn, beside the tokenizer's ends.
    """

    max_tokens: int = 64
    temperature: float = 1.0
    top_p: float = 1.0
    stop: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.max_tokens < 1:
            raise PolicyError(f"max_tokens={self.max_tokens}; an answer has at least one token")
        if not 0 < self.temperature < float("inf") or not 0 < self.top_p <= 1:
            raise PolicyError(f"temperature={self.temperature}, top_p={self.top_p}; give a positive number, and one in (0, 1]")

    def log_distribution(self, logit_BV: Tensor) -> Tensor:
        """Log-probabilities that are sampled, (B, V), minus infinity outside the nucleus, of logits (B, V)."""
        log_BV = (logit_BV if self.temperature == 1 else logit_BV / self.temperature).log_softmax(-1)
        if self.top_p == 1:
            return log_BV
        sorted_BV, order_BV = log_BV.sort(descending=True, stable=True)
        before_BV = sorted_BV.double().exp().cumsum(-1) - sorted_BV.double().exp()
        kept_BV = torch.zeros_like(order_BV, dtype=torch.bool).scatter_(1, order_BV, before_BV < self.top_p)
        kept_BV.scatter_(1, order_BV[:, :1], True)  # the likeliest, should rounding take even that
        return log_BV.masked_fill(~kept_BV, -torch.inf).log_softmax(-1)


def draw(log_BV: Tensor, uniform_B: Tensor) -> Tensor:
    """Tokens (B,) by inversion of distributions given as log-probabilities (B, V), with uniform_B, (B,), in [0, 1).

    The cumulated distribution is formed for stretches of the vocabulary, and inside one of them only.
    """
    rows, vocabulary = log_BV.shape
    share_BV, missing = log_BV.exp(), -vocabulary % STRETCH
    share_BKS = (F.pad(share_BV, (0, missing)) if missing else share_BV).reshape(rows, -1, STRETCH)
    stretch_BK = share_BKS.sum(-1).double().cumsum(-1)  # a stretch in the type that its shares are rounded to
    level_B = uniform_B * stretch_BK[:, -1]
    k_B = torch.searchsorted(stretch_BK, level_B[:, None], right=True).clamp_(max=stretch_BK.shape[1] - 1)
    before_B = torch.where(k_B > 0, stretch_BK.gather(1, (k_B - 1).clamp(min=0)), 0.0)[:, 0]
    within_BS = share_BKS.gather(1, k_B[..., None].expand(-1, -1, STRETCH))[:, 0].double().cumsum(-1)
    s_B = torch.searchsorted(within_BS, (level_B - before_B)[:, None], right=True)
    last_B = (within_BS < within_BS[:, -1:]).sum(-1, keepdim=True)  # rounding must not lead past what has a probability
    return (k_B * STRETCH + torch.minimum(s_B, last_B))[:, 0]


def uniforms(key: Sequence[int], answers: int, tokens: int) -> np.ndarray:
    """Uniform numbers in [0, 1), (answers, tokens), that belong to `key`, non-negative whole numbers.

    A longer array begins with the shorter one in every row, and more answers begin with fewer.
    """
    streams = np.random.SeedSequence(tuple(key)).spawn(answers)
    return np.stack([np.random.Generator(np.random.Philox(stream)).random(tokens) for stream in streams])
