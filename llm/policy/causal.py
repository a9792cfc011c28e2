# ruff: noqa: N815 - names carry their shapes
r"""A policy: a causal language model, read through the two things that training needs of it.

Hidden states. With prompts x_g and answers y_i of the groups g(i), what predicts y_{i,t} is the last hidden state at y_{i,t-1},
for t = 0 that of the prompt. The keys and values of a prompt are the same for all answers of its group, so the prompt passes
through the model once a group and not once an answer, and its cache is indexed by g(i). Indexing is differentiable, so this is
the gradient too: that of a key adds up over the group before it passes back through the prompt. In the same way what all
prompts of a batch begin with (the examples of a few-shot prompt) passes through once for all of them.

Log-probabilities. The head turns hidden states into log-probability, entropy and top mass of each token (`cuda.head`); the
table of logits, answers x positions x vocabulary, is never held.

Temperature tau belongs to the policy: pi(. | s) = softmax(z(s) / tau), sampled and trained alike.

Precision. Weights, residual stream and head keep their type; with mixed precision the products inside the body are taken in
half precision. The head is left out of it: log p is a difference of logits of size 10 to 30, and bfloat16 rounds those by 0.06.

Shape suffixes: G prompts, P prompt positions, B answers, T answer positions, D hidden width, V vocabulary, N policy tokens.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own abbreviation
from torch import Tensor, nn

from ...cuda.head import HeadValues, linear_log_prob
from .errors import PolicyError
from .tokenizer import Tokenizer

WORTHWHILE = 64
"""So many tokens must a common beginning save to be passed through the model by itself."""


@dataclass(frozen=True, eq=False)
class Prompts:
    """Prompts of a batch: what they all begin with, then padding, then the rest, so that all end in the last column. (A model
    whose attention counts columns needs the padding first.)

    token_GP: (G, P), int64. real_GP: (G, P), bool, false on padding.
    """

    token_GP: Tensor
    real_GP: Tensor

    @classmethod
    def of(
        cls, tokens: Sequence[Sequence[int]], pad: int, device: torch.device | str = "cpu", *, padding_first: bool = False
    ) -> Prompts:
        """From lists of tokens. Raises PolicyError for an empty prompt."""
        for i, prompt in enumerate(tokens):
            if not len(prompt):
                raise PolicyError(f"prompt {i} is empty, and nothing predicts its first token; begin it with one token")
        width, head = max(map(len, tokens)), 0 if padding_first else common(tokens)
        rows = [[*prompt[:head], *[pad] * (width - len(prompt)), *prompt[head:]] for prompt in tokens]
        place_P, length_G = torch.arange(width, device=device), torch.tensor([len(prompt) for prompt in tokens], device=device)
        return cls(torch.tensor(rows, device=device), (place_P < head) | (place_P >= head + width - length_G[:, None]))

    def select(self, index_G: Tensor) -> Prompts:
        """Some of the prompts, by an index of any number of them; columns that are padding in all of them fall away."""
        real_GP = self.real_GP[index_G]
        used_P = real_GP.any(0)
        return Prompts(self.token_GP[index_G][:, used_P], real_GP[:, used_P])

    @property
    def shared(self) -> int:
        """How many leading columns hold the same tokens in all rows; the last column is not counted."""
        same_P = ((self.token_GP == self.token_GP[:1]) & self.real_GP).all(0)[:-1]
        return int(same_P.to(torch.int8).cumprod(0).sum())


@dataclass(eq=False)
class Policy:
    """A causal language model of Hugging Face's (`transformers`). Raises PolicyError if its logits are not a linear map of
    its last hidden states, which the head assumes.

    model: the model; it is put in evaluation mode, so that sampling and training see one function.
    tokenizer: its tokenizer.
    name: how messages and checkpoints call it.
    adapter: the peft model around it, where there is one.
    precision: half-precision type of the products inside the body (torch.bfloat16), None for the weights' own.
    parts, anyone: of a policy that is divided among processes (`sharding`), its trained parameters, and the question whether
        any process still has something to do.
    """

    model: Any
    tokenizer: Tokenizer
    name: str = "policy"
    adapter: Any = field(default=None, repr=False)
    precision: torch.dtype | None = None
    parts: dict[str, nn.Parameter] | None = field(default=None, repr=False)
    anyone: Callable[[bool], bool] = field(default=bool, repr=False)

    def __post_init__(self) -> None:
        self.model.eval()
        with torch.no_grad():
            token_BT = torch.arange(3, device=self.device)[None] % self.vocabulary
            wanted = self.model(input_ids=token_BT).logits
            out = self.body(input_ids=token_BT, use_cache=True)
            self.tied = self.model.get_output_embeddings().weight is self.model.get_input_embeddings().weight
            weight_VD, last_BTD = self._head(out.last_hidden_state)
            found = last_BTD @ weight_VD.T
        self._shares = shareable(out.past_key_values)
        if not torch.allclose(found.float(), wanted.float(), rtol=1e-2, atol=1e-3 + 1e-2 * float(wanted.abs().max())):
            raise PolicyError(
                f"{type(self.model).__name__} does more to its last hidden states than a linear map (a cap or a scale of the "
                "logits); its log-probabilities would be others than the head's"
            )

    @property
    def body(self) -> nn.Module:
        """The transformer below the head."""
        return self.model.base_model

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return next(self.model.parameters()).device

    @property
    def vocabulary(self) -> int:
        """Rows of the head."""
        return self.model.get_output_embeddings().weight.shape[0]

    @property
    def width(self) -> int:
        """Of the hidden states."""
        return self.model.get_output_embeddings().weight.shape[1]

    def trained(self) -> dict[str, nn.Parameter]:
        """The parameters that carry a gradient, by name."""
        if self.parts is not None:
            return self.parts
        return {name: parameter for name, parameter in self.model.named_parameters() if parameter.requires_grad}

    def copy(self) -> Policy:
        """The same function, without gradient, that stays as it is. Raises PolicyError for a policy in parts."""
        if self.parts is not None:
            raise PolicyError(f"{self.name} is divided among processes; copy it before")
        frozen = copy.copy(self)
        frozen.model = copy.deepcopy(self.model).requires_grad_(False)
        frozen.adapter = None
        return frozen

    def pack(self, tokens: Sequence[Sequence[int]]) -> Prompts:
        """Prompts for this model from lists of tokens. Raises PolicyError for an empty prompt."""
        return Prompts.of(tokens, self.tokenizer.pad, self.device, padding_first=not self._shares)

    def mixed(self) -> AbstractContextManager[Any]:
        """While it is entered, the body's weights are rounded to `precision` once and not once a call."""
        return nullcontext() if self.precision is None else torch.autocast(self.device.type, dtype=self.precision)

    def prefill(self, prompts: Prompts) -> tuple[Any, Tensor]:
        """The prompts' cache, and the hidden states that predict the first token of an answer, (G, D)."""
        position_GP = (prompts.real_GP.cumsum(1) - 1).clamp(min=0)
        head, rows = prompts.shared, len(prompts.token_GP)
        if self._shares and self.parts is None and head * (rows - 1) >= WORTHWHILE:
            one, _ = self.prefill(Prompts(prompts.token_GP[:1, :head], prompts.real_GP[:1, :head]))
            cache = indexed(one, torch.zeros(rows, dtype=torch.int64, device=self.device))
            rest_GPD = self.extend(cache, prompts.token_GP[:, head:], prompts.real_GP, position_GP[:, head:])
            return cache, rest_GPD[:, -1]
        with self.mixed():
            out = self.body(
                input_ids=prompts.token_GP,
                attention_mask=prompts.real_GP.long(),
                use_cache=True,
                **self._positions(position_GP),
            )
        return out.past_key_values, self._own(out.last_hidden_state[:, -1])

    def extend(self, cache: Any, token_BT: Tensor, real_BS: Tensor, position_BT: Tensor) -> Tensor:
        """Hidden states (B, T, D) at further tokens (B, T); the cache grows by them.

        real_BS: (B, S), bool, over what the cache holds and the new tokens. position_BT: (B, T), places in the sequence.
        """
        with self.mixed():
            out = self.body(
                input_ids=token_BT,
                attention_mask=real_BS.long(),
                past_key_values=cache,
                use_cache=True,
                **self._positions(position_BT),
            )
        return self._own(out.last_hidden_state)

    def hidden_states(self, prompts: Prompts, group_B: Tensor, token_BT: Tensor, real_BT: Tensor) -> Tensor:
        """What predicts each token of the answers, (B, T, D), differentiable.

        group_B: (B,), int64, the row of `prompts` that each answer continues. token_BT, real_BT: (B, T), the answers, padded
        on the right, and where they are no padding.
        """
        if self.parts is not None and token_BT.shape[1] == 1:
            wider = F.pad(token_BT, (0, 1)), F.pad(real_BT, (0, 1))
            return self.hidden_states(prompts, group_B, *wider)[:, :1]
        position_BT = prompts.real_GP.sum(1)[group_B, None] + torch.arange(token_BT.shape[1], device=token_BT.device)
        real_BS = torch.cat([prompts.real_GP[group_B], real_BT], 1)[:, :-1]
        if not self._shares:
            return self._hidden_unshared(prompts, group_B, token_BT, real_BS)
        cache, last_GD = self.prefill(prompts)
        first_B1D = last_GD[group_B, None]
        if token_BT.shape[1] == 1:
            return first_B1D
        rest_BTD = self.extend(indexed(cache, group_B), token_BT[:, :-1], real_BS, position_BT[:, :-1])
        return torch.cat([first_B1D, rest_BTD], 1)

    def idle(self, *, sampling: bool = False) -> None:
        """Make the calls of a pass over answers, with gradients of zero, or of a token's sampling, and nothing else."""
        token_11 = torch.zeros((1, 1), dtype=torch.int64, device=self.device)
        real_11 = torch.ones_like(token_11, dtype=torch.bool)
        if sampling:
            with self.mixed():
                self.body(input_ids=token_11, attention_mask=real_11.long(), use_cache=False)
            return
        hidden_BTD = self.hidden_states(Prompts(token_11, real_11), token_11[0], token_11, real_11)
        if hidden_BTD.requires_grad:
            (0.0 * hidden_BTD.sum()).backward()

    def head(
        self, hidden_ND: Tensor, token_N: Tensor, *, temperature: float = 1.0, entropy: bool = True, top: int = 0
    ) -> HeadValues:
        """Log-probability, entropy and top mass of tokens (N,) predicted by hidden states (N, D)."""
        weight_VD, hidden_ND = self._head(hidden_ND)
        return linear_log_prob(hidden_ND, weight_VD, token_N, temperature=temperature, entropy=entropy, top=top)

    def logits(self, hidden_BD: Tensor) -> Tensor:
        """Logits (B, V) in float32 at hidden states (B, D), for sampling."""
        with torch.autocast(self.device.type, enabled=False):
            return self._logits(hidden_BD)

    def _logits(self, hidden_BD: Tensor) -> Tensor:
        weight_VD, hidden_BD = self._head(hidden_BD)
        return (hidden_BD @ weight_VD.T).float() if hidden_BD.dtype != torch.float64 else hidden_BD @ weight_VD.T

    def _head(self, hidden_ND: Tensor) -> tuple[Tensor, Tensor]:
        """Weight and hidden states of one type; a bias of the head is one more column of both."""
        head = self.model.get_output_embeddings()
        weight_VD = (self.model.get_input_embeddings() if self.tied else head).weight.to(hidden_ND.dtype)
        bias_V = getattr(head, "bias", None)
        if bias_V is None:
            return weight_VD, hidden_ND
        one_N1 = torch.ones_like(hidden_ND[..., :1])
        return torch.cat([weight_VD, bias_V.to(hidden_ND.dtype)[:, None]], 1), torch.cat([hidden_ND, one_N1], -1)

    def _own(self, hidden_BTD: Tensor) -> Tensor:
        """Hidden states in the weights' type, whatever mixed precision made of them."""
        return hidden_BTD if self.precision is None else hidden_BTD.to(self.model.dtype)

    def _positions(self, position_BT: Tensor) -> dict[str, Tensor]:
        """Position ids, for bodies that take them."""
        return {"position_ids": position_BT} if "position_ids" in inspect.signature(self.body.forward).parameters else {}

    def _hidden_unshared(self, prompts: Prompts, group_B: Tensor, token_BT: Tensor, real_BS: Tensor) -> Tensor:
        """As `hidden_states`, each prompt computed once an answer: for caches that cannot be indexed (sliding windows)."""
        token_BS = torch.cat([prompts.token_GP[group_B], token_BT], 1)[:, :-1]
        position_BS = (real_BS.cumsum(1) - 1).clamp(min=0)
        named = self._positions(position_BS)
        with self.mixed():
            out = self.body(input_ids=token_BS, attention_mask=real_BS.long(), use_cache=False, **named)
        return self._own(out.last_hidden_state[:, prompts.token_GP.shape[1] - 1 :])


def common(tokens: Sequence[Sequence[int]]) -> int:
    """How many tokens all of these begin with, less than the shortest has."""
    first, limit = tokens[0], min(map(len, tokens)) - 1
    return next((i for i in range(limit) if any(prompt[i] != first[i] for prompt in tokens)), limit)


def shareable(cache: Any) -> bool:
    """Whether a cache holds all keys and values of all layers, and nothing else, so that its rows can be indexed."""
    return all(type(layer).__name__ == "DynamicLayer" for layer in getattr(cache, "layers", [None]))


def indexed(cache: Any, row_B: Tensor) -> Any:
    """The cache of some rows (any number of them, with repetition), differentiable; the given one stays as it is."""
    picked = copy.copy(cache)
    picked.layers = [copy.copy(layer) for layer in cache.layers]
    for layer in picked.layers:
        layer.keys, layer.values = layer.keys[row_B], layer.values[row_B]
    return picked
