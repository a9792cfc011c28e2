r"""Variance of a group's gradient, by enumeration of groups, beside REINFORCE's and leave-one-out's.

Of one group of G answers to one prompt, tr Cov(ghat) = E|ghat|^2 - |E ghat|^2. Scale is no merit, so what is compared is the
noise, tr Cov / |E ghat|^2, of three estimators of a direction:

    REINFORCE   (1/G) sum_i R_i grad log pi(y_i)          leave-one-out   (1/G) sum_i (R_i - mean_{j != i} R_j) grad log pi(y_i)

(Williams 1992; Kool, van Hoof and Welling 2019; Ahmadian et al. 2024, arXiv 2402.14740).
"""

from __future__ import annotations

import numpy as np

from .enumeration import BlindTable, group_gradients
from .finding import Finding
from .on_policy import OnPolicy
from .subject import Array


def variance(ground: OnPolicy) -> Finding | None:
    """Noise of the loss, of REINFORCE and of leave-one-out, at the same groups; moot where the weights move with the policy."""
    title = "variance of a group's gradient"
    if ground.table is None:
        verdict = "Not asked: weights that look at log-probabilities have no table of groups to sum over."
        return Finding("variance", title, verdict, "moot")
    own = ground.table
    group_size = own.table.ndim - 2
    rivals = {"REINFORCE": _table(own, group_size, baseline=False)}
    if group_size > 1:
        rivals["leave-one-out"] = _table(own, group_size, baseline=True)
    prompts = range(ground.problem.n_prompts)
    noise = {"this loss": [], **{name: [] for name in rivals}}
    raw = []
    for logits in ground.policies[:3]:
        for prompt in prompts:
            trace, mean = _moments(own, logits, prompt, ground.exchangeable)
            if mean == 0:
                continue
            raw.append(trace)
            noise["this loss"].append(trace / mean)
            for name, table in rivals.items():
                noise[name].append(np.divide(*_moments(table, logits, prompt, True)))
    if not raw:
        return None
    mean_noise = {name: float(np.exp(np.mean(np.log(np.maximum(values, 1e-300))))) for name, values in noise.items()}
    beside = mean_noise["leave-one-out" if group_size > 1 else "REINFORCE"]
    ratio = mean_noise["this loss"] / beside
    other = "leave-one-out's" if group_size > 1 else "REINFORCE's"
    verdict = (
        f"With groups of {group_size}, the noise tr Cov / |mean|^2 of one group's gradient is {mean_noise['this loss']:.3g}: "
        f"{ratio:.3g} times {other}"
        + (f", {mean_noise['this loss'] / mean_noise['REINFORCE']:.3g} times REINFORCE's" if group_size > 1 else "")
        + " (geometric mean over prompts and policies)."
    )
    details = {"noise": mean_noise, "trace": float(np.mean(raw)), "group_size": group_size, "per_case": noise}
    return Finding("variance", title, verdict, "note", ratio, f"noise over {other}", details)


def _table(like: BlindTable, group_size: int, baseline: bool) -> BlindTable:
    """The table of REINFORCE or leave-one-out over the same classes."""
    problem, n_classes = like.problem, len(like.table)
    first = np.array([np.flatnonzero(like.class_of == c)[0] for c in range(n_classes)])
    reward, mask = problem.reward[first], problem.mask[first]
    grids = np.meshgrid(*[np.arange(n_classes)] * group_size, indexing="ij")
    rewards = np.stack([reward[grid] for grid in grids], axis=-1)
    advantage = rewards
    if baseline:
        advantage = group_size / (group_size - 1) * (rewards - rewards.mean(axis=-1, keepdims=True))
    masks = np.stack([mask[grid] for grid in grids], axis=-2)
    return BlindTable(problem, like.class_of, advantage[..., None] * masks / group_size)


def _moments(table: BlindTable, logits: Array, prompt: int, exchangeable: bool) -> tuple[float, float]:
    """tr Cov and |mean|^2 of a group's gradient."""
    probability, gradient = group_gradients(table, logits, prompt, exchangeable)
    mean = probability @ gradient
    square = float(mean @ mean)
    return float(probability @ (gradient**2).sum(axis=1)) - square, square
