r"""How much memory a run will need, told before it begins.

With W weights of which W' are trained, R microbatch answers, S prompt and T answer positions, L layers, widths D (stream) and F
(feed-forward), K keys and values a position and layer, V tokens and p = 256 tokens whose logits are held at once, in numbers:

    weights    W, and W again for a reference that is a copy        gradient W'        optimiser 2 W'
    update     L (14 D + 4 F) (answers' T + prompts' S), what a layer keeps for the backward pass, and R S L K of prompts' keys
    head       2 p V, and V D for its gradient while it is added up
    sampling   2 L K (S + T) a running answer (a cache and its successor), and 4 V of its distribution in double precision

With mixed precision the body's products are kept in 2 bytes, and its weights once more in 2.
The constants 14 and 4 are those of a Llama block. It is an estimate: measured peaks lie within a factor of 1.5.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..policy.causal import Policy
from .run import needs_reference
from .settings import Settings, TrainError

PIECE = 256


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes by purpose. available: what the machine says is free, or None where it does not say."""

    weights: int
    reference: int
    gradient: int
    optimiser: int
    update: int
    sampling: int
    available: int | None = None

    @property
    def peak(self) -> int:
        """Of the whole run: sampling and updating take turns."""
        return self.weights + self.reference + self.gradient + self.optimiser + max(self.update, self.sampling)

    def check(self) -> None:
        """Raises TrainError, with the estimate, where the peak is more than what is available."""
        if self.available is not None and self.peak > self.available:
            raise TrainError(f"the run would not fit: {self}; lower microbatch, group_size, prompts or max_tokens")

    def __str__(self) -> str:
        parts = ("weights", "reference", "gradient", "optimiser", "update", "sampling")
        each = ", ".join(f"{name} {getattr(self, name) / 1e9:.2f}" for name in parts)
        free = "" if self.available is None else f"; available {self.available / 1e9:.1f}"
        return f"estimated peak {self.peak / 1e9:.2f} GB ({each}{free})"


def estimate_memory(settings: Settings, policy: Policy, prompt_length: int, processes: int = 1) -> MemoryEstimate:
    """The estimate, for one process, of a policy on prompts of this many tokens; processes: how many train it."""
    parts = processes if settings.shard else 1
    config, size = policy.model.config, next(policy.model.parameters()).element_size()
    layers, width = config.num_hidden_layers, config.hidden_size
    inner = getattr(config, "intermediate_size", None) or 4 * width
    heads = config.num_attention_heads
    keys = 2 * (getattr(config, "num_key_value_heads", None) or heads) * (getattr(config, "head_dim", None) or width // heads)
    total, trained = sum(p.numel() for p in policy.model.parameters()), sum(p.numel() for p in policy.trained().values())
    spec = settings.spec()
    spared = policy.adapter is not None and settings.reference_decay == 1 and not settings.reference
    copied = needs_reference(spec, settings.refresh, settings.reference) and not spared
    group = min(settings.microbatch, settings.prompts)
    rows = 2 * group if settings.prefers else group * settings.group_size
    every = max(settings.prompts, settings.pool if settings.prefers else 0) * settings.group_size
    span, answer = prompt_length + settings.max_tokens, settings.max_tokens
    kept = layers * (14 * width + 4 * inner) * (rows * answer + group * prompt_length)
    mixed = policy.precision is not None
    cast = 2 * (total - policy.vocabulary * width) * mixed
    inside = min(size, 2) if mixed else size
    head = 2 * min(PIECE, rows * answer) * policy.vocabulary + policy.vocabulary * width
    return MemoryEstimate(
        weights=size * total // parts,
        reference=size * total * copied,
        gradient=size * trained // parts,
        optimiser=2 * size * trained // parts,
        update=inside * (kept + rows * prompt_length * layers * keys) + size * head + cast,
        sampling=every * (2 * inside * layers * keys * span + 32 * policy.vocabulary) + cast,
        available=_available(),
    )


def _available() -> int | None:
    """Free memory of the device that trains, in bytes."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.mem_get_info()[0]
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            return next(int(line.split()[1]) * 1024 for line in file if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        return None
