"""Low-rank adapters (Hu et al. 2022, LoRA, arXiv 2106.09685): W + (alpha / rank) B A, of which A and B alone are trained.

B begins at 0, so the adapted policy begins as the policy. Needs `peft`.
"""

from __future__ import annotations

import warnings
from dataclasses import replace

import torch

from .causal import Policy
from .errors import PolicyError


def with_lora(policy: Policy, rank: int = 16, alpha: int = 32, targets: tuple[str, ...] = (), *, seed: int) -> Policy:
    """The policy with adapters on its linear layers; the layers themselves are frozen. The given policy is used up.

    targets: ends of the names of the adapted layers; peft's choice for the architecture if empty.
    seed: of the initial A. Raises PolicyError if peft is not installed or finds nothing to adapt.
    """
    try:
        from peft import LoraConfig, get_peft_model
    except ImportError:
        raise PolicyError("LoRA needs peft, which is not installed: pip install 'banach[train]'") from None
    settings = LoraConfig(
        r=rank, lora_alpha=alpha, lora_dropout=0.0, target_modules=list(targets) or None, task_type="CAUSAL_LM"
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            with warnings.catch_warnings():  # peft reads attributes that transformers renames
                warnings.simplefilter("ignore", FutureWarning)
                adapter = get_peft_model(policy.model, settings)
        except ValueError as fault:
            raise PolicyError(f"no adapter for {policy.name}: {fault}") from None
    return replace(policy, model=adapter.get_base_model(), adapter=adapter)
