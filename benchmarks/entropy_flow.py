"""What SmolLM2's layers say of the next token while it reads solved sums: entropies along the residual stream.

    python -m benchmarks.entropy_flow              SmolLM2-135M, as `banach model smollm2` fetched it; writes the JSON

The sums are the first problems of the held-out seed, each with its solved examples before it; means are over all tokens.
"""

from __future__ import annotations

import argparse
import datetime
import sys
from dataclasses import asdict
from pathlib import Path

import torch

from . import machine
from .storage import write_json

HERE = Path(__file__).parent


def main(words: list[str] | None = None) -> int:
    """Measure and write; 0."""
    from banach.llm.environments import task
    from banach.llm.internal import last_exploring_layer
    from banach.llm.policy import model_entropy_flow
    from banach.llm.train import open_policy

    parser = argparse.ArgumentParser(prog="python -m benchmarks.entropy_flow", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--model", default="smollm2", help="tiny, smollm2 or a folder (smollm2)")
    parser.add_argument("--problems", type=int, default=16, metavar="N", help="read (16)")
    parser.add_argument("--out", type=Path, default=HERE / "results", help="folder of the JSON file (benchmarks/results)")
    options = parser.parse_args(words)
    policy, posed = open_policy(options.model), task("chain_sum", seed=500_000)
    texts = [posed.problem(number).prompt for number in range(options.problems)]
    rows = [policy.tokenizer.encode(text) for text in texts]
    longest = max(map(len, rows))
    token_BT = torch.tensor([row + [0] * (longest - len(row)) for row in rows])
    real_BT = torch.tensor([[True] * len(row) + [False] * (longest - len(row)) for row in rows])
    flow = model_entropy_flow(policy, token_BT, real_BT)
    document = {
        "command": f"python -m benchmarks.entropy_flow --model {options.model} --problems {options.problems}",
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "machine": machine.description(),
        "tokens": int(real_BT.sum()),
        "vocabulary": int(policy.model.config.vocab_size),
        "last_exploring_layer": last_exploring_layer(flow),
        **asdict(flow),
    }
    write_json(options.out / f"entropy_flow_{options.model}.json", document)
    print(f"{document['tokens']} tokens; the last MLP with more entropy than it read: layer {document['last_exploring_layer']}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
