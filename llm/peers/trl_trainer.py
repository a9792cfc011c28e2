"""TRL's trainers, built for real on a placeholder model, fed with a batch instead of sampling one.

`build` runs the trainer's own `__init__` on its own configuration, so that every default, check and derived attribute is the
release's. The subclass made here replaces generation and reward functions by the batch in `fed`, and nothing else.
"""

from __future__ import annotations

import functools
import json
import logging
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from .batch import GroupRows, PairRows
from .errors import PeerMissing, PeerRefusal
from .table import SAMPLED

_HUGGING_FACE = ("trl", "transformers", "accelerate", "datasets")


@contextmanager
def quiet() -> Iterator[None]:
    """The library's warnings, progress bars and log lines below error are not ours to repeat on every call."""
    loggers = [logging.getLogger(name) for name in _HUGGING_FACE]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@functools.lru_cache(maxsize=64)
def build(kind: str, settings: str, n_sequences: int, group_size: int, accumulation: int) -> Any:
    """A trainer of `kind` for batches of `n_sequences` sequences, split over `accumulation` micro-batches.

    `settings` are fields of its configuration as JSON. Raises PeerMissing without TRL, PeerRefusal when TRL refuses them.
    """
    if n_sequences % accumulation:
        raise PeerRefusal(f"{n_sequences} sequences do not split into {accumulation} micro-batches of equal size")
    with quiet():
        try:
            configuration, trainer = _classes(kind)
        except ImportError as fault:
            raise PeerMissing(
                f"trl cannot be imported ({fault}); install the tested release with: pip install trl==1.16.0"
            ) from fault
        fields: dict[str, Any] = json.loads(settings)
        fields |= {"gradient_accumulation_steps": accumulation, "per_device_train_batch_size": n_sequences // accumulation}
        if kind in ("grpo", "rloo"):
            fields["num_generations"] = group_size
        elif kind == "online_dpo":
            if group_size != 2:
                raise PeerRefusal(f"online DPO compares two completions of a prompt; the groups have {group_size}")
            fields["per_device_train_batch_size"] //= 2
        elif kind != "kto":  # an example of KTO's is one response, of the others' a pair
            fields["per_device_train_batch_size"] //= 2
        try:
            return _initialised(kind, configuration, trainer, fields)
        except (ValueError, TypeError) as fault:
            _restore_accelerator()
            raise PeerRefusal(f"TRL refuses {kind} with {settings}: {fault}") from fault


def _classes(kind: str) -> tuple[Any, Any]:
    if kind in ("grpo", "rloo", "dpo", "kto"):
        import trl

        name = kind.upper()
        return getattr(trl, f"{name}Config"), getattr(trl, f"{name}Trainer")
    if kind == "cpo":
        from trl.experimental.cpo import CPOConfig, CPOTrainer

        return CPOConfig, CPOTrainer
    if kind == "orpo":
        from trl.experimental.orpo import ORPOConfig, ORPOTrainer

        return ORPOConfig, ORPOTrainer
    from trl.experimental.online_dpo import OnlineDPOConfig, OnlineDPOTrainer

    return OnlineDPOConfig, OnlineDPOTrainer


def _initialised(kind: str, configuration: Any, trainer: Any, fields: dict[str, Any]) -> Any:
    from datasets import Dataset, are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    arguments = configuration(output_dir=_scratch().name, use_cpu=True, bf16=False, report_to="none", **fields)
    model, tokenizer = _placeholder()
    given: dict[str, Any] = {"model": model, "args": arguments, "processing_class": tokenizer}
    prompts = {"prompt": ["0"] * 8}
    if kind in ("grpo", "rloo", "online_dpo"):
        given |= {"reward_funcs": _no_reward, "train_dataset": Dataset.from_dict(prompts)}
    elif kind == "kto":
        given["train_dataset"] = Dataset.from_dict(prompts | {"completion": ["0"] * 8, "label": [True, False] * 4})
    else:
        given["train_dataset"] = Dataset.from_dict(prompts | {"chosen": ["0"] * 8, "rejected": ["0"] * 8})
    if kind in ("dpo", "kto", "online_dpo"):
        given["ref_model"] = _placeholder()[0]
    beta = getattr(arguments, "beta", 0.0)
    if kind in ("grpo", "rloo"):  # with a coefficient, __init__ would load the reference from the hub by the model's name
        arguments.beta = 0.0
    shown = not are_progress_bars_disabled()
    disable_progress_bars()
    try:
        built = _fed(trainer)(**given)
    finally:
        if shown:
            enable_progress_bars()
    if kind in ("grpo", "rloo"):
        built.beta = arguments.beta = beta
    return built


def _restore_accelerator() -> None:
    """A configuration empties the state that all trainers of a process share; one that failed has not filled it again."""
    from accelerate import Accelerator

    Accelerator(cpu=True)


@functools.cache
def _scratch() -> tempfile.TemporaryDirectory[str]:
    """The folder that trainers insist on; removed at exit."""
    return tempfile.TemporaryDirectory(prefix="banach-trl-")


def _placeholder() -> tuple[Any, Any]:
    """A model and a tokenizer for `__init__` to inspect; neither is ever asked for a number."""
    from tokenizers import Tokenizer, models
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel({"0": SAMPLED, "<pad>": 1}, unk_token="0"))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, eos_token="0", pad_token="<pad>")
    with torch.random.fork_rng(devices=[]):
        configuration = LlamaConfig(
            vocab_size=2,
            hidden_size=2,
            intermediate_size=2,
            num_hidden_layers=1,
            num_attention_heads=1,
            num_key_value_heads=1,
            bos_token_id=None,
            eos_token_id=SAMPLED,
        )
        return LlamaForCausalLM(configuration), tokenizer


def _no_reward(**_: Any) -> list[float]:
    raise AssertionError("rewards are read from the batch")


@functools.cache
def _fed(trainer: Any) -> Any:
    """The trainer's class with sampling and rewards read from `fed`, a GroupRows; silent to the network."""

    class Fed(trainer):
        fed: GroupRows
        rows: list[int]

        def _send_telemetry(self) -> None:
            pass

        def _generate(self, *arguments: Any) -> Any:
            if trainer.__name__ == "OnlineDPOTrainer":
                prompts = [int(prompt) for prompt in arguments[1]]
                self.rows = [2 * prompt for prompt in prompts] + [2 * prompt + 1 for prompt in prompts]
                tokens = torch.full(self.fed.mask_BT[self.rows].shape, SAMPLED)
                row = torch.tensor(self.rows)[:, None]
                return row, torch.ones_like(row), tokens, self.fed.mask_BT[self.rows].long(), None
            self.rows = [int(prompt) for prompt in arguments[0]]
            lengths = self.fed.length_B[self.rows].tolist()
            completions = [[SAMPLED] * length for length in lengths]
            prompts = [[row] for row in self.rows]
            if trainer.__name__ == "RLOOTrainer":
                if self.fed.has_holes:
                    raise PeerRefusal("TRL's RLOO trains on every token of a completion; it cannot mask the environment's")
                return prompts, completions, [""] * len(prompts)
            policy = [self.fed.mask_BT[row, :length].long().tolist() for row, length in zip(self.rows, lengths, strict=True)]
            return prompts, completions, policy if self.fed.has_holes else None, [""] * len(prompts), None, {}, None, None

        def _calculate_rewards(self, *_: Any) -> torch.Tensor:
            return self.fed.reward_B[self.rows, None]

        def _calculate_rewards_from_functions(self, **_: Any) -> torch.Tensor:
            return self.fed.reward_B[self.rows]

    return Fed


def dpo_batch(rows: PairRows, part: torch.Tensor) -> dict[str, torch.Tensor]:
    """Pairs `part` (B,) as DPOTrainer's collator hands them over: chosen rows, then rejected rows."""
    return _tokens(rows, torch.cat((part, part + rows.n_pairs)))


def kto_batch(rows: PairRows, part: torch.Tensor) -> dict[str, torch.Tensor]:
    """Pairs `part` (B,) as KTOTrainer's collator hands them over, each completion on its own and rotated by one for the KL."""
    row = torch.stack((part, part + rows.n_pairs), dim=1).flatten()
    rotated = {f"KL_{name}": value for name, value in _tokens(rows, row.roll(1)).items()}
    return _tokens(rows, row) | rotated | {"label": (row < rows.n_pairs)}


def cpo_batch(rows: PairRows, part: torch.Tensor) -> dict[str, torch.Tensor]:
    """Pairs `part` (B,) as the collator of CPOTrainer and ORPOTrainer hands them over, with labels -100 off the completion."""
    batch = {}
    for side, row in (("chosen", part), ("rejected", part + rows.n_pairs)):
        tokens = _tokens(rows, row)
        labels = tokens["input_ids"].masked_fill(tokens["completion_mask"] == 0, -100)
        batch |= {f"{side}_input_ids": tokens["input_ids"], f"{side}_attention_mask": tokens["attention_mask"]}
        batch |= {f"{side}_labels": labels}
    return batch


BATCHES: dict[str, Callable[[PairRows, torch.Tensor], dict[str, torch.Tensor]]] = {
    "dpo": dpo_batch,
    "kto": kto_batch,
    "cpo": cpo_batch,
    "orpo": cpo_batch,
}


def _tokens(rows: PairRows, row: torch.Tensor) -> dict[str, torch.Tensor]:
    """Ids (the row, then the sampled token), attention and completion masks of rows `row`, each (len(row), T + 1)."""
    mask = rows.mask_RT[row].long()
    one = torch.ones_like(row)[:, None]
    ids = torch.cat((row[:, None], torch.full_like(mask, SAMPLED)), dim=1)
    return {
        "input_ids": ids,
        "attention_mask": torch.cat((one, mask), dim=1),
        "completion_mask": torch.cat((0 * one, mask), dim=1),
    }
