"""Batches on which objectives are tested: ragged, with tokens of an environment, on and off the policy, every field filled."""

from dataclasses import fields

import numpy as np
import torch
from banach.llm.batch import TokenBatch
from hypothesis import strategies as st

V = 3
BINARY, REAL = (0.0, 1.0), (-1.0, 0.0, 0.1, 0.5, 1.0, 1.5)


def random_batch(seed=0, groups=2, size=3, horizon=4, drift=0.3, rewards=BINARY, dtype=torch.float64, edges=True):
    """A batch of groups of one size. drift: spread of the log-ratios; edges: prompts on the left, an environment in between."""
    rng = np.random.default_rng(seed)
    B, T = groups * size, horizon + 1
    mask = np.arange(T) < rng.integers(1, horizon + 1, (B, 1))
    if edges:
        mask = np.roll(mask, 1, axis=1)
        mask &= (rng.random((B, T)) < 0.8) | (mask.sum(1, keepdims=True) == 1)
        mask[~mask.any(1), 1] = True

    def tensor(x, kind=dtype):
        return torch.tensor(x, dtype=kind)

    def near(x, spread):
        return np.minimum(x + spread * rng.normal(size=(B, T)), 0.0)

    old = -rng.exponential(1.0, (B, T))
    table = rng.normal(size=(2, B, T, V))
    table -= np.log(np.exp(table).sum(-1, keepdims=True))
    value = rng.normal(size=(2, B, T))
    step = 0.1 * rng.integers(0, 3, (B, T))
    return TokenBatch(
        logp_BT=tensor(near(old, drift)).requires_grad_(),
        logp_old_BT=tensor(old),
        mask_BT=torch.tensor(mask),
        reward_B=tensor(rng.choice(rewards, B)),
        group_B=torch.tensor(np.repeat(rng.permutation(groups) * 7, size)),
        logp_ref_BT=tensor(near(old, 0.7)),
        logp_sampler_BT=tensor(near(old, 0.5)),
        entropy_BT=tensor(rng.random((B, T))).requires_grad_(),
        log_policy_BTV=tensor(table[0]).requires_grad_(),
        log_reference_BTV=tensor(table[1]),
        advantage_BT=tensor(rng.normal(size=(B, T))),
        step_reward_BT=tensor(step),
        value_BT=tensor(value[0]).requires_grad_(),
        value_old_BT=tensor(value[0] + 0.3 * value[1]),
        value_end_B=tensor(rng.normal(size=B)),
        turn_BT=torch.tensor(np.cumsum(rng.random((B, T)) < 0.4, axis=1)),
        truncated_B=torch.tensor(rng.random(B) < 0.3),
        token_BT=torch.tensor(rng.integers(0, V, (B, T))),
        hidden_BTD=tensor(rng.normal(size=(B, T, 2))),
        fresh_BT=torch.tensor(rng.random((B, T)) < 0.7),
        bundle_B=torch.tensor(np.concatenate([rng.permutation(size) for _ in range(groups)]) * 3),
        first_call_B=torch.tensor(rng.integers(-1, horizon + 1, B)),
        rounds_left_B=torch.tensor(rng.integers(0, 4, B)),
        mode_B=torch.tensor(np.where(np.arange(B) % size == 0, 0, rng.integers(-1, 3, B))),
        forced_B=torch.tensor((rng.random(B) < 0.7) | (np.arange(B) % size == 0)),
    )


def batches(**fixed):
    """Strategy of such batches."""
    free = {
        "seed": st.integers(0, 10**6),
        "groups": st.integers(1, 3),
        "size": st.integers(2, 4),
        "horizon": st.integers(1, 4),
        "drift": st.sampled_from([0.0, 3e-4, 0.3, 1.5]),
        "rewards": st.sampled_from([BINARY, REAL]),
        "edges": st.booleans(),
    }
    return st.builds(random_batch, **(free | {name: st.just(value) for name, value in fixed.items()}))


def tensors(batch):
    """The batch's fields, leaves of their own: name -> tensor or None."""
    leaves = {f.name: getattr(batch, f.name) for f in fields(batch)}
    return {name: None if x is None else x.detach().clone() for name, x in leaves.items()}


def rebuilt(batch, **changes):
    """The batch with other tensors; what carries a gradient does so again."""
    parts = tensors(batch) | changes
    for name in ("logp_BT", "entropy_BT", "log_policy_BTV", "value_BT"):
        if parts[name] is not None:
            parts[name] = parts[name].detach().clone().requires_grad_()
    return TokenBatch(**parts)
