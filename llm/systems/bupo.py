r"""BuPO: first the policy inside an early layer learns, by GRPO's loss on rollouts of the final policy, then the final one.

The heads are those of `banach.llm.internal`; `bupo` is the loss of both phases, with the log-probabilities of the phase's
head, old ones
included. In the first phase nothing later than the layer moves. With samples y ~ pi of the final policy and centred
advantages the first
step's gradient by the layer's logits is pi A, whatever the layer's policy: it is no policy gradient of pi^l, has no fixed
point, and a long first phase drives pi^l to a corner. The ratio to the behaviour, pi^l / pi_old, would make it one.

Tan, Wang, He et al. 2025, arXiv 2512.19673.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from ..advantage import GroupAdvantage
from ..aggregation import Aggregation
from ..batch import TokenBatch
from ..catalogue import Objective, objective, register
from ..internal import BottomUp, entropy, internal_log_policy
from ..objective import ObjectiveSpec
from ..ratio import Ratio
from ..surrogate import ClippedRatio
from .system import Reduction, System, add

if TYPE_CHECKING:
    from ..testbeds.comparison import Comparison


def bupo(low: float = 0.2, high: float = 0.2, dual: float | None = 10.0, ddof: int = 1) -> ObjectiveSpec:
    """The loss of both phases: GRPO's without a divergence, token mean, dual clip. low, high, dual: clip. ddof: 0 or 1."""
    return ObjectiveSpec(
        "bupo",
        GroupAdvantage("group-mean", "group-std", ddof),  # pyright: ignore[reportArgumentType]
        ClippedRatio(low, high, dual),
        Ratio("token"),
        Aggregation("token-mean"),
    )


register(
    Objective(
        "bupo",
        bupo,
        "Tan et al. 2025, arXiv 2512.19673",
        reward_degree=0,
        shift_invariant=True,
        variants={"plain": {"dual": None}},
    )
)


def with_head(
    batch: TokenBatch, logp_BT: Tensor, logp_old_BT: Tensor, denominator: Literal["self", "behaviour"] = "self"
) -> TokenBatch:
    """A batch of final log-probabilities with those of a head, (B, T) each, in their place.

    denominator: self, the head's own old log-probabilities (published), or behaviour, those of the policy that sampled, which
    the batch holds as `logp_old_BT`; then the ratio is a true importance weight.
    """
    old_BT = logp_old_BT if denominator == "self" else batch.logp_old_BT
    return batch.renewed(logp_BT=logp_BT, logp_old_BT=old_BT)


def experiment(seeds: int = 5, tokens: int = 5_000) -> Comparison:
    """A transformer of four layers on DigitChain: first phases of 0 to 30 steps at layers 0 and 1."""
    from ...mdp import token_policy
    from ..testbeds.bench import DIGITS, digit_policies, digits
    from ..testbeds.comparison import compare
    from ..testbeds.training import Recipe, train

    policies, problem = digit_policies(seeds, right=0.7, layers=4), digits()

    def method(layer: int, switch: int):
        def run(seed: int) -> dict[str, float]:
            policy, schedule = policies(seed), BottomUp(layer, switch)
            with torch.no_grad():
                before = policy.log_policy().double().numpy()
            recipe = Recipe(tokens=tokens, rate=2e-3)
            found = train(problem, policy, bupo(), recipe, seed, head=lambda step: schedule.head(policy, step.number))
            with torch.no_grad():
                after, stream = policy.log_policy().double().numpy(), policy.streams()[layer + 1]
                inner = internal_log_policy(stream, policy.unembedding.weight)
            return {
                "reward": found["reward"],
                "area": found["area"],
                "entropy": found["entropy"],
                "entropy of the layer": float(entropy(inner).mean()),
                "size of the stream": float(stream.square().mean().sqrt()),
                "KL to the start": token_policy.divergence(problem, after, before),
            }

        return run

    methods = {"GRPO": method(1, 0)} | {
        f"BuPO, layer {layer}, {switch} steps": method(layer, switch) for layer, switch in ((1, 4), (1, 10), (1, 30), (0, 10))
    }
    return compare(
        "BuPO's first phase on a transformer of four layers, equal sampled tokens",
        methods,
        "GRPO",
        seeds,
        "python -m banach.llm.systems bupo",
        {"tokens": tokens, "rate": 2e-3, **DIGITS, "policy": "transformer, 4 layers, width 32"},
    )


BUPO = add(
    System(
        name="bupo",
        title="Bottom-up Policy Optimization: Your Language Model Policy Secretly Contains Internal Policies",
        authors="Tan, Wang, He et al.",
        year=2025,
        arxiv="2512.19673",
        summary="GRPO's loss on the policy inside an early layer for some steps, then on the final policy",
        optimizes="in the first phase nothing: its field is pi A in the layer's logits, constant while the sampler stands "
        "still, and no "
        "policy gradient of the layer's policy; then what GRPO optimizes",
        objective="bupo",
        parts=("bupo", "BottomUp", "LayerPolicy", "internal_log_policy", "entropy_flow"),
        reductions=(
            Reduction(
                "the final head, no dual clip",
                "grpo with the token mean",
                bupo(dual=None),
                objective("grpo", beta=0.0, aggregation=Aggregation("token-mean")),
            ),
        ),
        findings=(
            "The layer objective has no fixed point: with E_pi A = 0 its gradient by the layer's logits is pi A, whatever "
            "pi^l is; held "
            "long enough the layer's policy is the argmax of pi A.",
            "It is not the policy gradient of pi^l; with the behaviour's probability in the ratio it is.",
            "Entropies of layers fall as the stream's norm grows, whatever it says; norm them before reading convergence "
            "off them.",
            "Later layers do move under weight decay although their gradient is zero, unless the optimiser leaves them out.",
        ),
        published=(
            "Qwen3-4B average 55.08 to 58.51, Qwen3-8B 64.23 to 66.36; layer 6, 30, 50, 70 steps: 58.51, 42.11, 9.89",
            "layers 6, 26, 35 at 30 steps: 58.51, 59.68, 58.34",
        ),
        measured="No first phase helps: 4, 10 and 30 steps at layer 1 end at 0.561, 0.574 and 0.514 against GRPO's 0.622 "
        "at equal samples, the longest one, which fills the whole run of some 23 steps, beyond the noise. The final policy's "
        "entropy is higher the longer the phase, and the layer's stream grows.",
        bounds=("scaling logits up lowers entropy",),
        experiment=experiment,
    )
)
