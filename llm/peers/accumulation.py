"""Is the gradient of an optimizer step the same, however many micro-batches it is cut into?

A batch of unequal lengths is given to the library in one, two and four micro-batches, as gradient accumulation over the same
sequences would. The change is the distance of the two gradients in the log-probabilities over the length of the first; `factor`
is the length of the second along the first. A library that shuffles does so with the same seed.
"""

from __future__ import annotations

from typing import Any

import torch

from ..audit.finding import Finding
from .catalogue import Peer

SPLITS = (2, 4)
SINGLE = 1e-4  # Liger's and ORPO's arithmetic is float32
BATCHES = 3


def accumulation(peer: Peer, **settings: Any) -> Finding:
    """What cutting a step into micro-batches changes; value: the largest relative change. Raises what the loss raises."""
    title = "gradient accumulation"
    changes = dict.fromkeys(SPLITS, 0.0)
    factors = dict.fromkeys(SPLITS, 1.0)
    straight = True
    for seed in range(BATCHES):
        whole = gradient(peer.loss(**settings), peer.kind, seed)
        for split in SPLITS:
            cut = gradient(peer.loss(accumulation=split, **settings), peer.kind, seed)
            factor = float((whole * cut).sum() / (whole * whole).sum())
            straight &= bool((cut - factor * whole).norm() < SINGLE * cut.norm())
            change = float((cut - whole).norm() / whole.norm())
            if change >= changes[split]:
                changes[split], factors[split] = change, factor
    largest = max(changes.values())
    details = {"changes": changes, "factors": factors}
    if largest < SINGLE:
        verdict = "The same gradient in one, two or four micro-batches."
        return Finding("accumulation", title, verdict, "good", largest, "relative change", details)
    if straight:
        verdict = (
            f"The step grows with the accumulation: the gradient is multiplied by {factors[2]:.4g} in two micro-batches and by "
            f"{factors[4]:.4g} in four."
        )
        return Finding("accumulation", title, verdict, "bad", largest, "relative change", details)
    verdict = (
        f"The gradient depends on how the step is cut: it changes by {100 * changes[2]:.3g} % in two micro-batches and by "
        f"{100 * changes[4]:.3g} % in four."
    )
    return Finding("accumulation", title, verdict, "bad", largest, "relative change", details)


def gradient(loss: Any, kind: str, seed: int) -> torch.Tensor:
    """Gradient of the loss in the log-probabilities of a batch of eight sequences in pairs, or of eight pairs."""
    generator = torch.Generator().manual_seed(seed)
    rows, tokens = 8, 5

    def noise(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    if kind == "group":
        old = -noise(rows, tokens).abs() - 0.1
        logp = (old + 0.02 * noise(rows, tokens)).requires_grad_()
        length = torch.randint(1, tokens + 1, (rows,), generator=generator)
        mask = torch.arange(tokens) < length[:, None]
        rewards = torch.tensor([1.0, 0.0] * (rows // 2), dtype=torch.float64)
        reference = old + 0.1 * noise(rows, tokens).clamp(-1, 1)
        value = loss(logp, old, reference.clamp(max=-0.01), mask, rewards, torch.arange(rows) // 2)
        return torch.autograd.grad(value, logp)[0]
    lengths = torch.randint(1, tokens + 1, (2, rows), generator=generator)
    reference = -(0.5 + noise(2, rows).abs()) * lengths
    logp = torch.minimum(reference + 2 * noise(2, rows), torch.tensor(-0.1)).requires_grad_()
    value = loss(*logp, *reference, *lengths)
    return torch.autograd.grad(value, logp)[0]
