"""The loss at the head of a language model, forward and backward, without a model below it: `python -m benchmarks.head`.

8 x 256 tokens, width 576, 49152 words, float32, one thread: SmolLM2's head. From hidden states and weight to both gradients,

    naive       log_softmax over the whole table, gather
    chunked     banach.cuda.head, 256 tokens at a time, logits formed again in the backward pass
    sparse      the same where half of the tokens have no weight (masked, clipped, of a group without spread)

in turn, in one process. Extra memory is what was resident at the peak beyond the inputs and what was there before.
"""

from __future__ import annotations

import argparse
import datetime
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from banach.cuda.head import linear_log_prob
from torch import Tensor

from . import machine, memory
from .storage import write_json

TOKENS, WIDTH, VOCABULARY = 8 * 256, 576, 49152


def main(words: list[str] | None = None) -> int:
    """Measure, write the JSON, print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.head", description=(__doc__ or "").partition(":")[0])
    parser.add_argument("--repeat", type=int, default=5, metavar="N", help="repetitions, of which medians are shown (5)")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results", help="folder of the JSON file")
    options = parser.parse_args(words)
    torch.set_num_threads(1)
    found: dict[str, list[dict[str, float]]] = {name: [] for name in ROADS}
    for turn in range(options.repeat + 1):
        for name, road in ROADS.items():
            numbers = _measured(road)
            if turn:
                found[name].append(numbers)
    medians = {name: {key: statistics.median(x[key] for x in rows) for key in rows[0]} for name, rows in found.items()}
    run = {
        "command": f"python -m benchmarks.head --repeat {options.repeat}",
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "machine": machine.description() | {"torch": torch.__version__},
        "load": os.getloadavg()[0],
        "shape": {"tokens": TOKENS, "width": WIDTH, "vocabulary": VOCABULARY},
        "medians": medians,
    }
    write_json(options.out / "head.json", run)
    print("| head | CPU s | against naive | extra GB |\n|---|---|---|---|")
    for name, row in medians.items():
        ratio = row["cpu_seconds"] / medians["naive"]["cpu_seconds"]
        print(f"| {name} | {row['cpu_seconds']:.2f} | {ratio:.2f} | {row['extra_gb']:.2f} |")
    return 0


def _naive(hidden: Tensor, weight: Tensor, target: Tensor) -> Tensor:
    return (hidden @ weight.T).log_softmax(-1).gather(1, target[:, None])[:, 0]


def _chunked(hidden: Tensor, weight: Tensor, target: Tensor) -> Tensor:
    return linear_log_prob(hidden, weight, target, entropy=False).logp_N


ROADS: dict[str, tuple[Callable[..., Tensor], float]] = {
    "naive": (_naive, 1.0),
    "chunked": (_chunked, 1.0),
    "sparse": (_chunked, 0.5),
}
"""Name -> the function, and the share of tokens with weight."""


def _measured(road: tuple[Callable[..., Tensor], float]) -> dict[str, Any]:
    function, share = road
    rng = torch.Generator().manual_seed(0)
    hidden = torch.randn(TOKENS, WIDTH, generator=rng).requires_grad_()
    weight = (0.05 * torch.randn(VOCABULARY, WIDTH, generator=rng)).requires_grad_()
    target = torch.randint(VOCABULARY, (TOKENS,), generator=rng)
    advantage = torch.randn(TOKENS, generator=rng) * (torch.rand(TOKENS, generator=rng) < share)
    memory.give_back()
    memory.reset_peak()
    before, start, cpu = memory.resident(), time.perf_counter(), time.process_time()
    gradients = torch.autograd.grad(-(advantage * function(hidden, weight, target)).sum(), (hidden, weight))
    numbers = {"cpu_seconds": time.process_time() - cpu, "seconds": time.perf_counter() - start}
    return numbers | {"extra_gb": (memory.peak() - before) / 1e9, "norm": float(gradients[1].norm())}


if __name__ == "__main__":
    sys.exit(main())
