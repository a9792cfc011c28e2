r"""A policy in parts: every process keeps a part of each weight, of its gradient and of the optimiser's state (FSDP2).

The body's layers are gathered when they are needed and given up afterwards; the embeddings, with a head that is tied to them,
stay gathered from the first forward pass of a step to its backward pass; a head of its own stays whole in every process.
Gathering is a rendezvous, so all processes must call the body equally often. A sharded policy therefore calls it the same
number of times whatever the batch (no common beginning apart, no shortcut for answers of one token), `idle` makes the calls of
a process that has nothing to do, and `anyone` asks whether another still has.

Zhao et al. 2023 (PyTorch FSDP, arXiv 2304.11277); Rajbhandari et al. 2020 (ZeRO, arXiv 1910.02054).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from .causal import Policy
from .errors import PolicyError


def shard(policy: Policy) -> None:
    """Divide a policy among the processes of the default group; it stays the same function.

    Raises PolicyError for a policy with an adapter, whose trained weights are few.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    if policy.adapter is not None:
        raise PolicyError(f"{policy.name} has an adapter; its trained weights are few, train it without sharding")
    mesh = init_device_mesh(policy.device.type, (dist.get_world_size(),))
    names = list(policy.trained())
    layers = max((part for part in policy.body.modules() if isinstance(part, nn.ModuleList)), key=len)
    for part in (*layers, policy.body):
        made: Any = fully_shard(part, mesh=mesh, reshard_after_forward=part is not policy.body)
        made.set_force_sum_reduction_for_comms(True)  # the other kind gloo has not
        made.set_gradient_divide_factor(1.0)
    if policy.tied:
        policy.model.get_output_embeddings().weight = policy.model.get_input_embeddings().weight
    found = dict(policy.model.named_parameters())
    policy.parts = {name: found[name] for name in names}
    policy.anyone = _anyone(policy.device)


def _anyone(device: torch.device) -> Any:
    def ask(mine: bool) -> bool:
        flag = torch.tensor(int(mine), device=device)
        dist.all_reduce(flag, dist.ReduceOp.MAX)
        return bool(flag)

    return ask


def whole(x: Tensor) -> Tensor:
    """A tensor that may be in parts as one; every process must ask."""
    full = getattr(x, "full_tensor", None)
    return x if full is None else full()


def like(x: Tensor, pattern: Tensor) -> Tensor:
    """A whole tensor divided as `pattern` is, if it is."""
    if not in_parts(pattern):
        return x.to(pattern.device)
    from torch.distributed.tensor import distribute_tensor

    divided: Any = pattern
    return distribute_tensor(x.to(pattern.device), divided.device_mesh, divided.placements)


def in_parts(x: Tensor) -> bool:
    """Whether a tensor is divided among processes."""
    return hasattr(x, "full_tensor")


@torch.no_grad()
def clip_norm(parameters: Sequence[nn.Parameter], limit: float) -> float:
    """Scale gradients, some of them in parts, to a joint norm of at most `limit`; their norm before."""
    local = [x.grad.to_local() if in_parts(x.grad) else x.grad for x in parameters if x.grad is not None]  # pyright: ignore
    divided = [in_parts(x.grad) for x in parameters if x.grad is not None]
    square = torch.stack([x.double().square().sum() * part for x, part in zip(local, divided, strict=True)]).sum()
    dist.all_reduce(square)
    square += sum(x.double().square().sum() for x, part in zip(local, divided, strict=True) if not part)
    norm = float(square.sqrt())
    if math.isfinite(norm) and norm > limit:
        for x in local:
            x.mul_(limit / (norm + 1e-6))
    return norm
