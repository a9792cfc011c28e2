"""A small transformer of random weights, of a real architecture: what tests and first runs train."""

from __future__ import annotations

import torch

from .causal import Policy
from .tokenizer import CharacterTokenizer


def tiny_policy(
    seed: int = 0, *, layers: int = 2, width: int = 64, tokenizer: CharacterTokenizer | None = None, tied: bool = True
) -> Policy:
    """A Llama of `layers` layers and `width` columns with random weights, one token a character; needs transformers.

    The same seed gives the same weights. 4 heads (2 of keys), so width is a multiple of 8.
    """
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = CharacterTokenizer() if tokenizer is None else tokenizer
    config = LlamaConfig(
        vocab_size=tokenizer.size,
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=4096,
        tie_word_embeddings=tied,
        initializer_range=width**-0.5,  # the usual 0.02 is meant for widths of a thousand: here attention would start near zero
        bos_token_id=None,
        eos_token_id=tokenizer.eos[0],
        pad_token_id=tokenizer.pad,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config)
    return Policy(model, tokenizer, "tiny")
