r"""The word of another engine on sampled answers: llama.cpp, on the same weights in its own arithmetic.

A policy that is sampled by one engine and trained by another is two policies. llama.cpp on a CPU is a third engine beside torch
in single and in half precision, and 4-bit weights multiply otherwise than the same weights dequantised; so the gap can be
measured (`mismatch`; figures stand in `score`) and the correction tried (`TruncatedImportance`) without a GPU.
"""

from __future__ import annotations

import contextlib
import importlib
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..policy.errors import ModelMissing
from .rollout import Rollout


def llama_log_probs(gguf: str | Path, rollout: Rollout, *, threads: int = 1) -> Tensor:
    """Log-probabilities (B, T), float64, of a rollout's policy tokens under the model in a GGUF file; 0 elsewhere.

    The tokens are given to the engine as they are. Raises ModelMissing if llama-cpp-python or the file is missing.
    """
    try:
        engines: Any = importlib.import_module("llama_cpp")
    except ImportError as fault:
        raise ModelMissing(f"llama.cpp is not installed ({fault}): pip install llama-cpp-python") from None
    if not Path(gguf).is_file():
        raise ModelMissing(f"{gguf} is no file; give a model in the GGUF format, with the rollout's tokenizer")
    prompts, answers = rollout.prompts, rollout.answers()
    longest = prompts.token_GP.shape[1] + max(map(len, answers))
    with open(os.devnull, "w") as silence, contextlib.redirect_stderr(silence):
        room = {"n_ctx": longest + 8, "n_batch": longest + 8}
        engine = engines.Llama(str(gguf), n_threads=threads, logits_all=True, verbose=False, **room)
    found = torch.zeros(rollout.token_BT.shape, dtype=torch.float64)
    for b, answer in enumerate(answers):
        group = int(rollout.group_B[b])
        prompt = prompts.token_GP[group][prompts.real_GP[group]].tolist()
        engine.reset()
        engine.eval([*prompt, *answer])
        logits = np.array(engine.scores[len(prompt) - 1 : len(prompt) + len(answer) - 1], dtype=np.float64)
        log_TV = torch.from_numpy(logits / rollout.sampling.temperature).log_softmax(-1)
        found[b, : len(answer)] = log_TV.gather(1, torch.tensor(answer)[:, None])[:, 0]
    return torch.where(rollout.mask_BT.cpu(), found, 0.0)
