r"""A language model that answers with given log-probabilities.

A trainer asks its model for the log-probabilities of tokens it has already sampled. The loss is a function of these numbers
alone, so a model that looks them up in a table is, to the trainer, as good as a transformer, and the gradient that comes back
to the table is the gradient of the loss in them. Row r of the table is found by the prompt, whose single token is r.

Trainers read the answer in one of two ways:

* `log_probs`, (rows, T): the number itself, zero where the label is -100, as TRL's fused head answers;
* `logits`, (rows, T + 1, 2): the trainer takes the log-softmax itself. The vocabulary is the token that was sampled (id 0) and
  all others together (id 1). With p = exp(logp), z = (log p, log(1 - p)) has sum exp(z) = 1, so log_softmax(z) = z. For the
  derivative, d log_softmax(z)_0 = (1 - p) dz_0 - (1 - p) dz_1, so dz_0 = 0 and dz_1 = -dlogp / (1 - p) make it dlogp exactly.
  Through z_1 alone nothing cancels: a trainer that computes in float32 forms 1 - p as exp(z_1), to full relative precision,
  where through z_0 it would subtract p from one. No token is quite certain: 1 - p is `UNCERTAIN` at least, which changes log p
  by as much and the derivative not at all. Masked positions that hold no log-probability get p = 1/2.

Shapes: B sequences, T tokens, L = T + 1 positions (the prompt's token first).
"""

from __future__ import annotations

import math
from types import SimpleNamespace

import torch

from .errors import PeerRefusal

SAMPLED, OTHER = 0, 1
UNCERTAIN = 1e-30
ROUNDING = 1e-6
"""Log-probabilities may exceed zero by this much."""


class LogProbTable(torch.nn.Module):
    """A model whose log-probabilities are the rows of `logp_RT`, (rows, T); the gradient flows back into it."""

    is_gradient_checkpointing = False  # a trainer asks every model

    def __init__(self, logp_RT: torch.Tensor) -> None:
        super().__init__()
        self.logp_RT = logp_RT

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        **_: object,
    ) -> SimpleNamespace:
        """What a trainer reads of a causal model's answer to `input_ids`, (B, L). Raises PeerRefusal as `two_token_logits`.

        Entropies, mean logits and the like are zero: they enter no loss that the adapters admit.
        """
        logp_BT = self.logp_RT[input_ids[:, 0]][:, : input_ids.size(1) - 1]
        if labels is not None:
            nothing = torch.zeros_like(logp_BT)
            log_probs = torch.where(labels[:, 1:] == -100, nothing, logp_BT)
            return SimpleNamespace(log_probs=log_probs, entropy=nothing, mean_logits=nothing, is_top1=nothing.bool())
        assert attention_mask is not None
        logits_BTV = two_token_logits(logp_BT, attention_mask[:, 1:].bool())
        return SimpleNamespace(logits=torch.nn.functional.pad(logits_BTV, (0, 0, 0, 1)))


def two_token_logits(logp_BT: torch.Tensor, mask_BT: torch.Tensor) -> torch.Tensor:
    """Logits (B, T, 2) whose log-softmax at token 0 is `logp_BT`, with derivative one in it.

    `mask_BT` says which entries matter. Raises PeerRefusal where one of them is no log-probability.
    """
    proper_BT = logp_BT <= ROUNDING
    if bool((~proper_BT & mask_BT).any()):
        row, position = (~proper_BT & mask_BT).nonzero()[0].tolist()
        raise PeerRefusal(
            f"token {position} of sequence {row} has log-probability {float(logp_BT[row, position]):.3g}, not below zero"
        )
    given_BT = torch.where(proper_BT, logp_BT, -math.log(2))
    fixed_BT = given_BT.detach().clamp(max=0)
    rest_BT = (-torch.expm1(fixed_BT)).clamp(min=UNCERTAIN)
    return torch.stack((fixed_BT, torch.log(rest_BT) - (given_BT - given_BT.detach()) / rest_BT), dim=-1)
