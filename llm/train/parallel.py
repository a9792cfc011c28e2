r"""Several processes that train one policy: each samples and scores its share of the prompts.

What couples answers (advantages, filters, normalisers) is planned on the whole batch, which every process has: the fields of
its answers, numbers a token, are exchanged. Each process then adds up the gradient of its own answers, and the sum over
processes is the gradient of the batch, up to the order of additions. A process alone exchanges nothing. Weights, gradients
and the optimiser's state are whole in every process, or, with `Settings.shard`, divided among them (`llm.policy.sharding`).

Shape suffixes: B answers, T answer positions.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.distributed as dist
import torch.nn.functional as F  # noqa: N812 - torch's own abbreviation
from torch import Tensor

from .settings import TrainError


@dataclass(frozen=True)
class Processes:
    """The processes of a run. rank: of this one. size: how many there are."""

    rank: int = 0
    size: int = 1

    @classmethod
    def joined(cls) -> Processes:
        """Those that `torchrun` started, joined by gloo, or by NCCL where there is CUDA; this process alone without it."""
        if "WORLD_SIZE" not in os.environ:
            return cls()
        if not dist.is_initialized():
            if torch.cuda.is_available():
                torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
            dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
        return cls(dist.get_rank(), dist.get_world_size())

    def share(self, total: int) -> range:
        """The numbers among 0 ... total - 1 that are this process's, contiguous. Raises TrainError where shares are uneven."""
        if total % self.size:
            raise TrainError(f"{total} prompts a step are not divided evenly by {self.size} processes")
        each = total // self.size
        return range(self.rank * each, (self.rank + 1) * each)

    def gathered(self, fields: dict[str, Tensor]) -> dict[str, Tensor]:
        """Fields (B, ...) or (B, T, ...) of all processes' answers, in their order, of the largest T."""
        if self.size == 1:
            return fields
        parts: list[dict[str, Tensor]] = [{} for _ in range(self.size)]
        dist.all_gather_object(parts, {name: x.cpu() for name, x in fields.items()})
        device = next(iter(fields.values())).device
        width = max(part["mask_BT"].shape[1] for part in parts)
        return {
            name: torch.cat([widened(part[name], width) if "BT" in name else part[name] for part in parts]).to(device)
            for name in fields
        }

    def numbers(self, local: dict[str, float]) -> dict[str, float]:
        """Sums over the processes of numbers by name."""
        if self.size == 1:
            return local
        total = torch.tensor(list(local.values()), dtype=torch.float64)
        dist.all_reduce(total)
        return dict(zip(local, total.tolist(), strict=True))

    def add(self, tensors: Iterable[Tensor]) -> None:
        """Replace each tensor, of any number of dimensions, by its sum over the processes."""
        if self.size > 1:
            for tensor in tensors:
                dist.all_reduce(tensor)

    def most(self, mine: int) -> int:
        """The largest of the processes' numbers."""
        if self.size == 1:
            return mine
        number = torch.tensor(mine)
        dist.all_reduce(number, dist.ReduceOp.MAX)
        return int(number)

    def before(self, mine: int) -> int:
        """The sum of the numbers of the processes before this one."""
        if self.size == 1:
            return 0
        counts = torch.zeros(self.size, dtype=torch.int64)
        counts[self.rank] = mine
        dist.all_reduce(counts)
        return int(counts[: self.rank].sum())

    def wait(self) -> None:
        """Until all processes are here."""
        if self.size > 1:
            dist.barrier()


def widened(x_BT: Tensor, width: int) -> Tensor:
    """(B, width, ...) with zeros in the new columns."""
    missing = width - x_BT.shape[1]
    return F.pad(x_BT, (*(0, 0) * (x_BT.ndim - 2), 0, missing)) if missing else x_BT
