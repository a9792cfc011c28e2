"""A critic on the policy's own hidden states: V(s) = w . h(s) + b.

The hidden states are detached: the value loss moves w and b alone, and the policy's gradient is that of its objective. w and b
begin at 0, so that the first advantages are those of no baseline.

Shape suffixes: B answers, T answer positions, D hidden width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class CriticHead(nn.Module):
    """A linear value of hidden states of some width."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight_D = nn.Parameter(torch.zeros(width))
        self.bias = nn.Parameter(torch.zeros(()))

    def forward(self, hidden_BTD: Tensor) -> Tensor:
        """Values (B, T) before each token, of what predicts it, (B, T, D); in float32, or float64 for a float64 critic."""
        return hidden_BTD.detach().to(self.weight_D.dtype) @ self.weight_D + self.bias
