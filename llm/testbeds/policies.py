# ruff: noqa: N812 - torch's own abbreviation
r"""Policies of token problems: a table of logits, and a transformer that reads the prompt and what was written.

Both answer one question, log pi(. | n) at nodes n of a `TokenProblem`, so that everything an objective does to them can be
measured by enumeration. The transformer is of the pre-norm kind. With X the stream, E the embedding, U the unembedding,

    X_0 = E + positions,    X_l = X_{l-1} + A_l + F_l,    A_l = attention(norm(X_{l-1})),    F_l = mlp(norm(X_{l-1} + A_l)),
    log pi = log softmax(U norm(X_L)),

RMS norms with a gain, causal attention, read at the last position (Vaswani et al. 2017, arXiv 1706.03762; Zhang and Sennrich
2019, arXiv 1910.07467). `streams` returns X_0 ... X_L there, `writes` the A_l and F_l.

Shape suffixes: N nodes, L context length, D width, V vocabulary.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...mdp.token import TokenProblem


def contexts(problem: TokenProblem) -> np.ndarray:
    """What stands before each node, int64 (N, L), padded on the left: prompt, separator, tokens written so far.

    A prompt that is a tuple of tokens is spelled with them; any other is a word of its own. Words: 0..V-1 the tokens, V the
    separator, V + 1 padding, V + 2 + p prompt p.
    """
    tree, size = problem.tree, problem.vocabulary_size
    spelled = [
        list(prompt)
        if isinstance(prompt, tuple) and all(isinstance(t, int) and 0 <= t < size for t in prompt)
        else [size + 2 + p]
        for p, prompt in enumerate(problem.prompts)
    ]
    written: list[list[int]] = [[*words, size] for words in spelled]
    for parent, token in zip(tree.parent.tolist(), tree.token.tolist(), strict=True):
        written.append([*written[parent], token])
    rows = [written[prefix] for prefix in problem.node_prefix.tolist()]
    longest = max(map(len, rows))
    return np.array([[size + 1] * (longest - len(row)) + row for row in rows], dtype=np.int64)


class TablePolicy(nn.Module):
    """One row of logits a node, float64 (N, V), zero unless given."""

    def __init__(self, problem: TokenProblem, logits: np.ndarray | None = None) -> None:
        super().__init__()
        start = np.zeros((problem.n_nodes, problem.vocabulary_size)) if logits is None else logits
        self.logits = nn.Parameter(torch.tensor(start, dtype=torch.float64))

    def log_policy(self, nodes: Tensor | None = None) -> Tensor:
        """log pi, (N, V), or of some nodes."""
        return (self.logits if nodes is None else self.logits[nodes]).log_softmax(-1)


class RMSNorm(nn.Module):
    """x / rms(x) times a gain, over the last axis of width D."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        """x of any shape (..., D)."""
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6) * self.gain


class Block(nn.Module):
    """One attention and one MLP, each writing to the stream; returns both writes."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.before_attention, self.before_mlp = RMSNorm(width), RMSNorm(width)
        self.read, self.write = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width, bias=False)
        self.up, self.down = nn.Linear(width, 4 * width, bias=False), nn.Linear(4 * width, width, bias=False)

    def forward(self, x_NLD: Tensor, visible: Tensor) -> tuple[Tensor, Tensor]:
        """Writes of attention and of the MLP, each (N, L, D); visible: bool (N, 1, L, L)."""
        n, length, width = x_NLD.shape
        parts = self.read(self.before_attention(x_NLD)).reshape(n, length, 3, self.heads, width // self.heads)
        q, k, v = parts.permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=visible)
        attention = self.write(mixed.transpose(1, 2).reshape(n, length, width))
        return attention, self.down(F.gelu(self.up(self.before_mlp(x_NLD + attention))))


class TransformerPolicy(nn.Module):
    """A small pre-norm transformer over `contexts`, float32; the unembedding has no bias and is not tied.

    layers, width, heads: of the trunk. seed: of the initial weights; no global generator is touched.
    """

    context: Tensor

    def __init__(self, problem: TokenProblem, layers: int = 2, width: int = 32, heads: int = 2, seed: int = 0) -> None:
        super().__init__()
        self.register_buffer("context", torch.from_numpy(contexts(problem)))
        words = problem.vocabulary_size + 2 + problem.n_prompts
        self.pad = problem.vocabulary_size + 1
        self.embedding = nn.Embedding(words, width)
        self.position = nn.Parameter(torch.zeros(self.context.shape[1], width))
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(layers))
        self.final_norm = RMSNorm(width)
        self.unembedding = nn.Linear(width, problem.vocabulary_size, bias=False)
        generator = torch.Generator().manual_seed(seed)
        for name, parameter in self.named_parameters():
            if parameter.ndim > 1:
                scale = 0.5 if "embedding.weight" in name and "un" not in name else 1 / parameter.shape[1] ** 0.5
                with torch.no_grad():
                    parameter.normal_(0.0, scale, generator=generator)

    def streams(self, nodes: Tensor | None = None) -> list[Tensor]:
        """The residual stream X_0 ... X_L at the last position, each (N, D), or of some nodes."""
        return self.read(nodes)[0]

    def read(self, nodes: Tensor | None = None) -> tuple[list[Tensor], list[tuple[Tensor, Tensor]]]:
        """The streams, and the writes (A_l, F_l) of each block, all (N, D) at the last position."""
        words = self.context if nodes is None else self.context[nodes]
        length = words.shape[1]
        x = self.embedding(words) + self.position
        causal = torch.ones(length, length, dtype=torch.bool, device=x.device).tril()
        visible = causal & (words != self.pad)[:, None, None, :] | torch.eye(length, dtype=torch.bool, device=x.device)
        streams, writes = [x[:, -1]], []
        for block in self.blocks:
            attention, mlp = block(x, visible)
            x = x + attention + mlp
            streams.append(x[:, -1])
            writes.append((attention[:, -1], mlp[:, -1]))
        return streams, writes

    def hidden(self, nodes: Tensor | None = None) -> Tensor:
        """What the unembedding reads, (N, D): the last stream after the final norm."""
        return self.final_norm(self.streams(nodes)[-1])

    def log_policy(self, nodes: Tensor | None = None) -> Tensor:
        """log pi, (N, V), or of some nodes."""
        return self.unembedding(self.hidden(nodes)).log_softmax(-1)
