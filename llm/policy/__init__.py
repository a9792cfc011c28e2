"""Transformer policies: any causal language model of Hugging Face's, its references, its critic, and two to begin with."""

from .causal import Policy, Prompts
from .critic_head import CriticHead
from .errors import ModelMissing, PolicyError
from .lora import with_lora
from .reference import Reference
from .smollm2 import fetch_smollm2, load_smollm2
from .streams import Streams, model_entropy_flow, residual_streams
from .tiny import tiny_policy
from .tokenizer import CharacterTokenizer, PretrainedTokenizer, Tokenizer

__all__ = [
    "CharacterTokenizer",
    "CriticHead",
    "ModelMissing",
    "Policy",
    "PolicyError",
    "PretrainedTokenizer",
    "Prompts",
    "Reference",
    "Streams",
    "Tokenizer",
    "fetch_smollm2",
    "load_smollm2",
    "model_entropy_flow",
    "residual_streams",
    "tiny_policy",
    "with_lora",
]
