"""`python -m banach.llm.systems NAME...`: repeat experiments of the catalogue and write their numbers beside the entries."""

from __future__ import annotations

import sys

import torch

from . import SYSTEMS, system
from .system import RESULTS


def main(names: list[str]) -> None:
    """Run the experiments of these systems, of all if none is named."""
    torch.set_num_threads(1)
    for name in names or list(SYSTEMS):
        experiment = system(name).experiment
        if experiment is None:
            continue
        found = experiment()
        found.save(RESULTS / f"{name}.json")
        print(f"{found.title}\n{found.table()}\n", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
