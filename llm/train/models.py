"""The policies that a run can begin with, by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..policy.causal import Policy
from ..policy.lora import with_lora
from ..policy.smollm2 import load_smollm2
from ..policy.tiny import tiny_policy
from ..policy.tokenizer import CharacterTokenizer, PretrainedTokenizer
from .settings import TrainError, nearest

MODELS = ("tiny", "smollm2")


def open_policy(name: str, seed: int = 0, **settings: Any) -> Policy:
    """`tiny` (random weights; settings: layers, width, vocabulary), `smollm2`, or a folder with a model of Hugging Face's.

    lora=r in the settings adapts the model by matrices of rank r. Raises TrainError for another name, and for settings that
    the model does not have; ModelMissing where the files are not there.
    """
    rank = settings.pop("lora", None)
    policy = _opened(name, seed, settings)
    return policy if rank is None else with_lora(policy, rank=rank, alpha=2 * rank, seed=seed)


def _opened(name: str, seed: int, settings: dict[str, Any]) -> Policy:
    if name == "tiny":
        vocabulary = settings.pop("vocabulary", None)
        try:
            return tiny_policy(seed, tokenizer=CharacterTokenizer(size=vocabulary), **settings)
        except TypeError as fault:
            raise TrainError(f"the tiny model: {fault}; it has layers, width, vocabulary and lora") from None
    if settings:
        raise TrainError(f"{name} has no settings {', '.join(settings)}; it has lora")
    if name == "smollm2":
        return load_smollm2()
    if not (Path(name) / "config.json").exists():
        raise TrainError(f"{name!r} is no model here and no folder with a config.json; {nearest(name, MODELS)}")
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(name, dtype=torch.float32, local_files_only=True)
    return Policy(model, PretrainedTokenizer.load(name), Path(name).name)
