r"""The residual stream of a language model, and what each layer writes to it, for `banach.llm.internal`.

    X^l = X^{l-1} + A^l + F^l,    A^l the attention's write, F^l the MLP's,    logits = norm(X^L) U^T,

read off a pre-norm decoder (Llama, SmolLM2, Qwen) by hooks on its modules; nothing of the model is changed.

Shape suffixes: B sequences, T positions, N positions of all sequences, D width.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

from ..internal import EntropyFlow, entropy_flow
from .causal import Policy
from .errors import PolicyError


@dataclass(frozen=True, eq=False)
class Streams:
    """What a pass left: streams X^0 ... X^L, each (N, D), and the writes (A^l, F^l) of the L layers."""

    streams: tuple[Tensor, ...]
    writes: tuple[tuple[Tensor, Tensor], ...]


@torch.no_grad()
def residual_streams(policy: Policy, token_BT: Tensor, real_BT: Tensor | None = None) -> Streams:
    """The stream at the real positions of token sequences.

    token_BT: (B, T), whole numbers. real_BT: (B, T), true on tokens that are no padding (which stands on the right); None: all.
    Raises PolicyError for a model whose layers have no `self_attn` and `mlp`, or whose writes do not add up to its stream.
    """
    layers = list(getattr(policy.body, "layers", ()))
    if not layers or not all(hasattr(layer, "self_attn") and hasattr(layer, "mlp") for layer in layers):
        raise PolicyError(f"a {type(policy.model).__name__} has no layers of self_attn and mlp; take a pre-norm decoder")
    real_BT = torch.ones_like(token_BT, dtype=torch.bool) if real_BT is None else real_BT.bool()
    kept: dict[tuple[str, int], Tensor] = {}

    def keep(kind: str, number: int) -> Any:
        def hook(_module: Any, _given: Any, out: Any) -> None:
            x_BTD = out[0] if isinstance(out, tuple) else out
            kept[kind, number] = x_BTD[real_BT]

        return hook

    hooks = [policy.model.get_input_embeddings().register_forward_hook(keep("stream", 0))]
    for number, layer in enumerate(layers):
        hooks += [
            layer.self_attn.register_forward_hook(keep("attention", number)),
            layer.mlp.register_forward_hook(keep("mlp", number)),
            layer.register_forward_hook(keep("stream", number + 1)),
        ]
    try:
        policy.model(input_ids=token_BT, attention_mask=real_BT.long(), use_cache=False)
    finally:
        for hook in hooks:
            hook.remove()
    streams = tuple(kept["stream", number] for number in range(len(layers) + 1))
    writes = tuple((kept["attention", number], kept["mlp", number]) for number in range(len(layers)))
    for number, (A, F) in enumerate(writes):
        gap = (streams[number + 1] - streams[number] - A - F).abs().max()
        if gap > 1e-3 * streams[number + 1].abs().max():
            raise PolicyError(f"layer {number}'s writes do not add up to its stream (by {float(gap):.2g}); it is not pre-norm")
    return Streams(streams, writes)


def model_entropy_flow(policy: Policy, token_BT: Tensor, real_BT: Tensor | None = None) -> EntropyFlow:
    """Mean entropies along the model's stream, layer by layer, of tokens as `residual_streams` takes them, with its errors."""
    found = residual_streams(policy, token_BT, real_BT)
    norm = cast("Callable[[Tensor], Tensor]", policy.body.norm)
    return entropy_flow(found.streams, found.writes, policy.model.get_output_embeddings().weight, norm)
