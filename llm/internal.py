r"""Policies inside a transformer: what the residual stream says after each layer, read by the last unembedding.

Pre-norm, L layers: X^l = X^{l-1} + A^l + F^l, X^0 the embeddings; hence X^L = X^l + S, S the later writes. With U the
unembedding,

    final            pi      = softmax(norm(X^L) U^T)
    layer l          pi^l    = softmax(X^l U^T)            no final norm (the logit lens applies it)
    one module       softmax(A^l U^T), softmax(F^l U^T)

Without a final norm pi^L is proportional to pi^l softmax(S U^T), a product of experts; with an RMS norm so after every write is
scaled by the same gain / rms(X^L). Entropies of layers that are not normed fall as the stream grows, whatever it says:
softmax(c z) has less entropy than softmax(z) for c > 1. `entropy_flow` gives both.

Layer l here counts from 0 to L - 1, after block l: libraries' lists begin with the embeddings, so it is entry l + 1, and end
with a state that is normed already.

Tan, Wang, He et al. 2025, BuPO, arXiv 2512.19673; nostalgebraist 2020 (the logit lens).

Shape suffixes: N positions, D width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from .errors import SpecError


def internal_log_policy(
    stream_ND: Tensor, unembedding_VD: Tensor, norm: Callable[[Tensor], Tensor] | None = None, temperature: float = 1.0
) -> Tensor:
    """log softmax(norm(X) U^T / temperature), (N, V), in single precision at least.

    norm: None for the internal policy, the final norm for the logit lens. Raises SpecError for a temperature that is not
    positive.
    """
    if not temperature > 0:
        raise SpecError(f"temperature={temperature}; give a positive number, the one that sampled")
    wide = torch.promote_types(stream_ND.dtype, torch.float32)
    read_ND = stream_ND.to(wide) if norm is None else norm(stream_ND).to(wide)
    return (read_ND @ unembedding_VD.to(wide).T / temperature).log_softmax(-1)


def entropy(log_policy_NV: Tensor) -> Tensor:
    """Entropy of each row in nats, (N,), between 0 and log V."""
    return -(log_policy_NV.exp() * log_policy_NV).nan_to_num().sum(-1)


@dataclass(frozen=True, eq=False)
class EntropyFlow:
    """Mean entropies along the stream, in nats, layer by layer, L + 1 entries each but for the modules' L.

    stream: of X^l as it is. normed: of X^l after the final norm, free of the stream's growth. attention, mlp: of the writes.
    before_mlp: of what the MLP reads, normed. size: rms of X^l.
    """

    stream: tuple[float, ...]
    normed: tuple[float, ...]
    attention: tuple[float, ...]
    mlp: tuple[float, ...]
    before_mlp: tuple[float, ...]
    size: tuple[float, ...]


@torch.no_grad()
def entropy_flow(
    streams: Sequence[Tensor],
    writes: Sequence[tuple[Tensor, Tensor]],
    unembedding_VD: Tensor,
    norm: Callable[[Tensor], Tensor],
) -> EntropyFlow:
    """The flow of streams X^0 ... X^L and writes (A^l, F^l), each (N, D)."""

    def mean(x_ND: Tensor, by: Callable[[Tensor], Tensor] | None = None) -> float:
        return float(entropy(internal_log_policy(x_ND.detach(), unembedding_VD.detach(), by)).mean())

    return EntropyFlow(
        stream=tuple(mean(x) for x in streams),
        normed=tuple(mean(x, norm) for x in streams),
        attention=tuple(mean(a) for a, _ in writes),
        mlp=tuple(mean(f) for _, f in writes),
        before_mlp=tuple(mean(x + a, norm) for x, (a, _) in zip(streams, writes, strict=False)),
        size=tuple(float(x.detach().square().mean().sqrt()) for x in streams),
    )


class LayerPolicy:
    """The internal policy of layer l of a model with `streams(nodes)`, `blocks` and `unembedding`, as a policy of its own.

    layer: 0 ... L - 1. normed: read through the final norm (the logit lens). temperature: that of the sampler.
    Raises SpecError for a layer that there is not.
    """

    def __init__(self, model: Any, layer: int, normed: bool = False, temperature: float = 1.0) -> None:
        if not 0 <= layer < len(model.blocks):
            raise SpecError(f"layer={layer}; the model has layers 0 to {len(model.blocks) - 1}")
        self.model, self.layer, self.normed, self.temperature = model, layer, normed, temperature

    def log_policy(self, nodes: Tensor | None = None) -> Tensor:
        """log pi^l, (N, V), or of some nodes."""
        stream_ND = self.model.streams(nodes)[self.layer + 1]
        norm = self.model.final_norm if self.normed else None
        return internal_log_policy(stream_ND, self.model.unembedding.weight, norm, self.temperature)

    def parameters(self) -> Iterator[nn.Parameter]:
        """What the layer's policy depends on: later layers are left out, which an optimiser's decay would move all the same."""
        later = {id(p) for block in self.model.blocks[self.layer + 1 :] for p in block.parameters()}
        if not self.normed:
            later |= {id(p) for p in self.model.final_norm.parameters()}
        return (p for p in self.model.parameters() if id(p) not in later)


@dataclass(frozen=True)
class BottomUp:
    """Which head learns at a step: the layer's below `switch` steps, the final one from there. Raises SpecError below zero.

    layer: 0 ... L - 1. switch: steps of the first phase; long ones collapsed in the paper.
    """

    layer: int
    switch: int

    def __post_init__(self) -> None:
        if self.layer < 0 or self.switch < 0:
            raise SpecError(f"layer={self.layer}, switch={self.switch}: give 0 or more of each")

    def head(self, model: Any, number: int) -> Any:
        """The policy that step `number`, counted from 0, trains; its own old log-probabilities go with it."""
        return LayerPolicy(model, self.layer) if number < self.switch else model


def last_exploring_layer(flow: EntropyFlow) -> int:
    """The paper's choice: the last layer whose MLP writes with more entropy than it read; 0 where none does."""
    rises = [after > before for after, before in zip(flow.mlp, flow.before_mlp, strict=True)]
    return max((layer for layer, up in enumerate(rises) if up), default=0)
