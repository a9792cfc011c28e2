# ruff: noqa: N815 - names carry their shapes
r"""Sampling a group of answers to each prompt.

Prompts pass through the model once a group; then one token a step for all answers that go on, against a cache. An answer of
several turns is one sequence: when a stop token ends a turn, the environment says which tokens follow (`Respond`), they are fed
in one by one in place of sampled ones, and the mask is false there. Nothing is ever decoded and encoded again.

Shape suffixes: G prompts, B answers (the answers to a prompt stand together), T answer positions, V vocabulary.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from ..policy.causal import Policy, Prompts
from ..policy.errors import PolicyError
from .sampling import Sampling, draw, uniforms

Respond = Callable[[int, list[int]], Sequence[int] | None]
"""(answer's number, its tokens so far) -> the environment's tokens, or None to end the answer."""


@dataclass(frozen=True, eq=False)
class Rollout:
    """Sampled answers.

    prompts: of the groups. group_B: (B,), int64, the row of `prompts` that each answer continues.
    token_BT: (B, T), int64, padded on the right. real_BT: (B, T), bool, false on padding.
    mask_BT: (B, T), bool, true on tokens that the policy emitted, stop tokens included; false on the environment's.
    logp_sampler_BT: (B, T), their log-probabilities under the distribution that was sampled, 0 elsewhere.
    turn_BT: (B, T), int64, the turn of each token; an environment's tokens belong to the turn that they end.
    truncated_B: (B,), bool, true where the length limit cut the answer.
    sampling: how it was drawn.
    """

    prompts: Prompts
    group_B: Tensor
    token_BT: Tensor
    real_BT: Tensor
    mask_BT: Tensor
    logp_sampler_BT: Tensor
    turn_BT: Tensor
    truncated_B: Tensor
    sampling: Sampling

    def __len__(self) -> int:
        return len(self.group_B)

    def select(self, row_B: Tensor) -> Rollout:
        """Some of the answers, by an index of any number of them, with the prompts that they need and no columns in vain."""
        needed_G, group_B = torch.unique(self.group_B[row_B], return_inverse=True)
        width = max(int(self.real_BT[row_B].sum(1).max()), 1)
        names = ("token_BT", "real_BT", "mask_BT", "logp_sampler_BT", "turn_BT")
        parts = {name: getattr(self, name)[row_B, :width] for name in names}
        return Rollout(
            self.prompts.select(needed_G), group_B, truncated_B=self.truncated_B[row_B], sampling=self.sampling, **parts
        )

    def answers(self) -> list[list[int]]:
        """Tokens of each answer without padding."""
        return [tokens[:length] for tokens, length in zip(self.token_BT.tolist(), self.real_BT.sum(1).tolist(), strict=True)]


@dataclass
class _Answer:
    """An answer that is being written."""

    number: int
    group: int
    uniform: np.ndarray
    tokens: list[int] = field(default_factory=list)
    emitted: list[bool] = field(default_factory=list)
    logp: list[float] = field(default_factory=list)
    turn: list[int] = field(default_factory=list)
    waiting: deque[int] = field(default_factory=deque)
    spent: int = 0
    turns: int = 0
    truncated: bool = False

    def next_uniform(self) -> float:
        """For the next token of its own; 0 while the environment speaks."""
        return 0.0 if self.waiting else float(self.uniform[self.spent])

    def take(self, token: int, logp: float, limit: int, stops: frozenset[int], respond: Respond | None) -> bool:
        """Write the token drawn, or the environment's in its place; whether the answer goes on."""
        if self.waiting:
            self._write(self.waiting.popleft(), False, 0.0)
        else:
            self._write(token, True, logp)
            self.spent += 1
            if token in stops:
                reply = None if respond is None else respond(self.number, list(self.tokens))
                if not reply:
                    return False
                self.waiting.extend(reply)
        self.turns += bool(self.tokens and not self.emitted[-1] and not self.waiting)
        self.truncated = not self.waiting and self.spent == limit
        return not self.truncated

    def _write(self, token: int, emitted: bool, logp: float) -> None:
        self.tokens.append(token)
        self.emitted.append(emitted)
        self.logp.append(logp)
        self.turn.append(self.turns)


@torch.no_grad()
def sample(
    policy: Policy,
    prompts: Sequence[Sequence[int]],
    group_size: int,
    sampling: Sampling,
    keys: Sequence[Sequence[int]],
    respond: Respond | None = None,
) -> Rollout:
    """`group_size` answers to each prompt (lists of tokens), drawn by the uniform numbers of each prompt's key.

    Answers are numbered group by group. Raises PolicyError for an empty prompt, no prompts, or keys of another number.
    """
    if not prompts or len(keys) != len(prompts) or group_size < 1:
        raise PolicyError(f"{len(prompts)} prompts, {len(keys)} keys, groups of {group_size}; give a key a prompt, and some")
    packed = policy.pack(prompts)
    streams = [stream for key in keys for stream in uniforms(key, group_size, sampling.max_tokens)]
    answers = [_Answer(b, b // group_size, stream) for b, stream in enumerate(streams)]
    stops = frozenset((*policy.tokenizer.eos, *sampling.stop))
    with policy.mixed():
        _write_all(policy, packed, answers, sampling, stops, respond)
    return _rectangle(policy, packed, answers, sampling)


def _write_all(
    policy: Policy, packed: Prompts, answers: list[_Answer], sampling: Sampling, stops: frozenset[int], respond: Respond | None
) -> None:
    device = policy.device
    row_A = torch.tensor([answer.group for answer in answers], device=device)
    cache, last_GD = policy.prefill(packed)
    hidden_AD, real_AS = last_GD[row_A], packed.real_GP[row_A]
    position_A = real_AS.sum(1)
    for layer in cache.layers:
        layer.reorder_cache(row_A)
    active = answers
    while policy.anyone(bool(active)):
        if not active:
            policy.idle(sampling=True)
            continue
        log_AV = sampling.log_distribution(policy.logits(hidden_AD))
        uniform_A = torch.tensor([answer.next_uniform() for answer in active], dtype=torch.float64, device=device)
        token_A = draw(log_AV, uniform_A)
        logp_A = log_AV.gather(1, token_A[:, None])[:, 0]
        drawn = zip(active, token_A.tolist(), logp_A.tolist(), strict=True)
        going = [answer.take(token, logp, sampling.max_tokens, stops, respond) for answer, token, logp in drawn]
        active = [answer for answer, goes in zip(active, going, strict=True) if goes]
        if not active:
            if policy.parts is not None:
                policy.idle(sampling=True)
            continue
        if not all(going):
            keep_A = torch.tensor(going, device=device).nonzero()[:, 0]
            real_AS, position_A = real_AS[keep_A], position_A[keep_A]
            for layer in cache.layers:
                layer.reorder_cache(keep_A)
        written_A1 = torch.tensor([[answer.tokens[-1]] for answer in active], device=device)
        real_AS = torch.cat([real_AS, torch.ones_like(real_AS[:, :1])], 1)
        hidden_AD = policy.extend(cache, written_A1, real_AS, position_A[:, None])[:, 0]
        position_A = position_A + 1


def _rectangle(policy: Policy, packed: Prompts, answers: list[_Answer], sampling: Sampling) -> Rollout:
    width = max(len(answer.tokens) for answer in answers)
    device = policy.device

    def table(name: str, fill: int | float | bool, dtype: torch.dtype) -> Tensor:
        rows = [list(getattr(answer, name)) + [fill] * (width - len(answer.tokens)) for answer in answers]
        return torch.tensor(rows, dtype=dtype, device=device)

    length_B = torch.tensor([len(answer.tokens) for answer in answers], device=device)
    return Rollout(
        packed,
        torch.tensor([answer.group for answer in answers], device=device),
        table("tokens", policy.tokenizer.pad, torch.int64),
        torch.arange(width, device=device) < length_B[:, None],
        table("emitted", False, torch.bool),
        table("logp", 0.0, torch.float64),
        table("turn", 0, torch.int64),
        torch.tensor([answer.truncated for answer in answers], device=device),
        sampling,
    )
