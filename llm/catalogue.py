r"""The named objectives, each a value of the one core.

| name | advantage | ratio and surrogate | aggregation | else |
|---|---|---|---|---|
| sft | 1 | log-likelihood | token-mean | |
| rft | 1 on accepted | log-likelihood | token-mean over accepted | |
| reinforce | R | score function | sequence-mean-token-sum | |
| rloo | R - mean of others | score function | sequence-mean-token-sum | |
| ppo | GAE | token, clip 0.2 / 0.2 | token-mean | critic |
| grpo | (R - mean) / std | token, clip 0.2 / 0.2 | sequence-mean-token-mean | 0.04 k3 in the loss |
| dr_grpo | R - mean | token, clip 0.2 / 0.2 | sequence-mean-token-sum-constant | |
| dapo | (R - mean) / std | token, clip 0.2 / 0.28 | token-mean | overlong shaping, dynamic sampling |
| gspo | (R - mean) / std | sequence-geometric, clip 3e-4 / 4e-4 | sequence-mean-token-mean | |
| cispo | (R - mean) / std | token, weight min(r, cap) A on the log-likelihood | token-mean | |

The published formulas leave the standard deviation's degrees of freedom open; ddof=1 here, as in every implementation that was
read, and epsilon=0, since groups without spread are exact zeros anyway.

`OBJECTIVES[name]` says what is known of an objective; `objective(name, **settings)` makes it. `register` adds one, and the
tests' battery then holds it against everything that every objective must satisfy.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Literal

import torch

from . import recipes
from .advantage import GroupAdvantage
from .aggregation import Aggregation
from .batch import TokenBatch
from .divergence import Divergence
from .errors import SpecError
from .objective import ObjectiveSpec
from .outcome import Overlong
from .ratio import Ratio, TruncatedImportance
from .surrogate import ClippedRatio, ImportanceWeighted


@dataclass(frozen=True)
class Probe:
    """What an audit tells an objective that reads more than log-probabilities and rewards, so that this part of it speaks.

    fields: of `TokenBatch`; an objective that needs none of them is not probed. words: what is told, after "where".
    dress: the batch with these fields, from one in which they say nothing; it may add rows below the batch's own. What it tells
    is to depend on masks and places alone, so that groups can still be enumerated by lengths and rewards.
    """

    fields: tuple[str, ...]
    words: str
    dress: Callable[[TokenBatch], TokenBatch]


@dataclass(frozen=True)
class Objective:
    """What is known of a named objective.

    build: makes the spec from keyword settings.
    source: authors, year, where.
    reward_degree: the policy term scales with this power of the scale of the rewards (0 or 1), or None if it has no such law.
    shift_invariant: adding one number to all rewards changes nothing; None if there is no such law.
    example: settings without which the builder refuses, for a small problem.
    variants: name -> settings, further points of the family that the battery tests.
    probe: what an audit tells it where it reads more than answers and their rewards, None where it does not.
    """

    name: str
    build: Callable[..., ObjectiveSpec]
    source: str
    reward_degree: Literal[0, 1] | None = None
    shift_invariant: bool | None = None
    example: Mapping[str, Any] = field(default_factory=dict)
    variants: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    probe: Probe | None = None


_SHELF: dict[str, Objective] = {}

OBJECTIVES: Mapping[str, Objective] = MappingProxyType(_SHELF)
"""Every registered objective by its name."""


def register(entry: Objective) -> Objective:
    """Puts an objective on the shelf. Raises SpecError if its name is taken."""
    if entry.name in _SHELF:
        raise SpecError(f"an objective called {entry.name!r} is registered already; choose another name")
    _SHELF[entry.name] = entry
    return entry


def objective(name: str, **settings: Any) -> ObjectiveSpec:
    """The named objective with these settings: those of its builder, or any field of `ObjectiveSpec` to be replaced.

    Raises SpecError for a name or a setting that does not exist, and ClipRangeError for a clip range that does not fit.
    """
    if name not in _SHELF:
        raise SpecError(f"no objective is called {name!r}; there are {', '.join(_SHELF)}")
    build = _SHELF[name].build
    own = inspect.signature(build).parameters
    parts = {key: value for key, value in settings.items() if key not in own}
    unknown = set(parts) - set(ObjectiveSpec.__dataclass_fields__)
    if unknown:
        raise SpecError(
            f"{name} has no setting {', '.join(sorted(unknown))}; it has {', '.join(own)} and the parts of ObjectiveSpec"
        )
    mine = {key: value for key, value in settings.items() if key in own}
    missing = [key for key, said in own.items() if said.default is inspect.Parameter.empty and key not in mine]
    if missing:
        raise SpecError(
            f"{name} needs {', '.join(missing)}, for instance {dict(_SHELF[name].example)}: no default fits every run"
        )
    return replace(build(**mine), **parts)


def example_settings(name: str, **settings: Any) -> dict[str, Any]:
    """These settings with the entry's example for what the builder needs and they do not say. Raises SpecError for a name."""
    if name not in _SHELF:
        raise SpecError(f"no objective is called {name!r}; there are {', '.join(_SHELF)}")
    entry = _SHELF[name]
    own = inspect.signature(entry.build).parameters
    missing = {key for key, said in own.items() if said.default is inspect.Parameter.empty} - set(settings)
    return settings | {key: value for key, value in entry.example.items() if key in missing}


def example_objective(name: str, **settings: Any) -> ObjectiveSpec:
    """As `objective`, at the entry's example where a setting has no default. Raises what `objective` raises."""
    return objective(name, **example_settings(name, **settings))


def _constant_critic(batch: TokenBatch) -> TokenBatch:
    return replace(batch, value_BT=torch.full_like(batch.logp_old_BT, 0.5))


_SHORT = Overlong(maximum=3, cache=2)

for _entry in (
    Objective("sft", recipes.sft, "maximum likelihood", reward_degree=0, shift_invariant=True),
    Objective(
        "rft",
        recipes.rft,
        "Anthony et al. 2017, arXiv 1705.08439; Yuan et al. 2023, arXiv 2308.01825",
        variants={"sampled": {"average": "sampled"}},
    ),
    Objective(
        "reinforce",
        recipes.reinforce,
        "Williams 1992, Machine Learning 8",
        reward_degree=1,
        shift_invariant=False,
        variants={
            "corrected": {"surrogate": ImportanceWeighted(), "ratio": Ratio("token")},
            "whole sequences": {"surrogate": ImportanceWeighted(), "ratio": Ratio("sequence")},
            "entropy": {"entropy": 0.01},
        },
    ),
    Objective(
        "rloo",
        recipes.rloo,
        "Kool et al. 2019; Ahmadian et al. 2024, arXiv 2402.14740",
        reward_degree=1,
        shift_invariant=True,
        variants={
            "charged": {"beta": 0.05},
            "turns": {"surrogate": ClippedRatio(), "ratio": Ratio("turn")},
        },
    ),
    Objective(
        "ppo",
        recipes.ppo,
        "Schulman et al. 2017, arXiv 1707.06347; Ouyang et al. 2022, arXiv 2203.02155",
        reward_degree=1,
        variants={
            "dual, charged": {"dual": 3.0, "beta": 0.05, "discount": 0.9},
            "cut": {"bootstrap": "repeat", "trace": 1.0, "value_clip": None},
            "value at the cut": {"bootstrap": "given", "trace": 0.0},
        },
        probe=Probe(("value_BT",), "the critic says 1/2 everywhere", _constant_critic),
    ),
    Objective(
        "grpo",
        recipes.grpo,
        "Shao et al. 2024, DeepSeekMath, arXiv 2402.03300",
        reward_degree=0,
        shift_invariant=True,
        variants={
            "k1": {"estimator": "k1"},
            "k2": {"estimator": "k2"},
            "straight-through": {"estimator": "k3+"},
            "full": {"estimator": "full"},
            "weighted k3": {"divergence": Divergence(0.04, "k3", importance=True)},
            "dual": {"dual": 3.0, "ddof": 0},
            "sampler": {"behaviour": TruncatedImportance()},
            "spread of the batch": {"advantage": GroupAdvantage("group-mean", "batch-std", 1, std_of="centred")},
            "batch for a group": {"advantage": GroupAdvantage("batch-mean", "batch-std", 0)},
        },
    ),
    Objective(
        "dr_grpo",
        recipes.dr_grpo,
        "Liu et al. 2025, arXiv 2503.20783",
        reward_degree=1,
        shift_invariant=True,
        example={"budget": 4},
    ),
    Objective(
        "dapo",
        recipes.dapo,
        "Yu et al. 2025, arXiv 2503.14476",
        reward_degree=0,
        shift_invariant=True,
        variants={
            "short": {"overlong": _SHORT},
            "without the cut": {"overlong_filter": True},
            "groups alike": {"aggregation": Aggregation("token-mean", scope="group"), "overlong": None},
            "sequences sampled": {"behaviour": TruncatedImportance(1.5, "sequence", "drop")},
        },
    ),
    Objective(
        "gspo",
        recipes.gspo,
        "Zheng et al. 2025, arXiv 2507.18071",
        reward_degree=0,
        shift_invariant=True,
        variants={"wide": {"low": 0.04, "high": 0.05}},
    ),
    Objective(
        "cispo",
        recipes.cispo,
        "MiniMax 2025, arXiv 2506.13585",
        reward_degree=0,
        shift_invariant=True,
        variants={"tight": {"cap": 1.28, "floor": 0.8}},
    ),
):
    register(_entry)
