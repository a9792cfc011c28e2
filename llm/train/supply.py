"""What a run tells an objective beside answers and rewards. What it cannot tell is refused before anything is sampled.

| field | in a run |
|---|---|
| `logp_old_BT`, `logp_sampler_BT`, `entropy_BT`, `log_policy_BTV`, `token_BT`, `hidden_BTD` | of the policy that answers |
| `logp_ref_BT`, `log_reference_BTV` | of the initial policy, an average, or another run's checkpoint |
| `value_BT`, `value_old_BT` | of a critic that is trained beside the policy |
| `turn_BT`, `truncated_B` | as the answers came out |
| `bundle_B` | whole bundles of `bundle` prompts, each with one answer to every prompt; quantiles are tracked |
| `first_call_B`, `rounds_left_B` | on a task whose environment speaks; elsewhere they say nothing, and are refused |
| `fresh_BT`, `mode_B`, `forced_B`, `value_end_B`, `advantage_BT` | refused |

An objective of reasoning steps (the direct advantage) is refused: a run has no steps and no critic of them.

Preference objectives are told the reference, the policy that drew the pair, rewards and wins. One whose theory compares answers
of the current policy is refused a pool that is older than its step, and a reward model's loss is refused altogether: a policy's
log-probabilities are no rewards.
"""

from __future__ import annotations

from ..bundles import MixedRisk
from ..environments.problem import Task
from ..log_ratio import LogRatioRegression
from ..objective import ObjectiveSpec
from ..policy.causal import Policy
from ..preference_spec import PreferenceSpec
from ..rollout.rollout import Respond
from .settings import Settings, TrainError

SUPPLIED = (
    "logp_ref_BT",
    "logp_sampler_BT",
    "entropy_BT",
    "log_policy_BTV",
    "log_reference_BTV",
    "value_BT",
    "value_old_BT",
    "turn_BT",
    "truncated_B",
    "token_BT",
    "hidden_BTD",
    "bundle_B",
    "first_call_B",
    "rounds_left_B",
)
"""Optional fields of a batch that a run can fill with what they stand for."""

SPOKEN = {"first_call_B": "the first call of a tool", "rounds_left_B": "the rounds of an answer"}
"""Fields that speak only where an environment does."""

UNSUPPLIED = {
    "fresh_BT": "whose tokens differ only where cut answers are resumed, but a run draws every answer whole. Let "
    "banach.llm.Windows say what is fresh",
    "mode_B": "but a run imposes no mode on an answer. Inject the modes' tags and mask them with banach.llm.without_tags",
    "forced_B": "but a run imposes no mode on an answer. Inject the modes' tags and mask them with banach.llm.without_tags",
}
"""Why a run does not have a field, and what makes it."""


def environment(task: Task, policy: Policy) -> Respond | None:
    """What answers a turn of the policy's on this task, if anything does."""
    of = getattr(task, "environment", None)
    return None if of is None else of(policy.tokenizer)


def require_supplied(spec: ObjectiveSpec | PreferenceSpec, settings: Settings, task: Task, policy: Policy) -> None:
    """Raises TrainError where a run of these settings cannot tell the objective truly what it reads."""
    if isinstance(spec, PreferenceSpec):
        _require_pairs(spec, settings)
        return
    missing = [name for name in spec.needs if name not in SUPPLIED]
    if missing:
        why = next((UNSUPPLIED[name] for name in missing if name in UNSUPPLIED), "which sampled answers do not have. Fill it")
        raise TrainError(
            f"{spec.name} reads {', '.join(missing)}, {why}, in a banach.llm.TokenBatch of your own, and call "
            "banach.llm.evaluate on it"
        )
    spoken = [name for name in spec.needs if name in SPOKEN]
    if spoken and environment(task, policy) is None:
        raise TrainError(
            f"{spec.name} reads {spoken[0]}, {SPOKEN[spoken[0]]}, but no environment speaks in the answers to {task.name}, so "
            "that the objective would be the one that it is built on; take a task with a tool (tool_sums with calls of 1 or "
            "more), or name that objective"
        )
    if isinstance(spec.surrogate, LogRatioRegression):
        raise TrainError(
            f"{spec.name} regresses the log-ratios of reasoning steps on advantages by a critic of steps, and a run has whole "
            "answers with one reward each; cut answers by banach.llm.step_numbers, put the steps of a state in one group "
            "(banach.llm.unique_steps), and call banach.llm.evaluate"
        )
    if "bundle_B" in spec.needs and settings.prompts % settings.bundle:
        raise TrainError(
            f"{spec.name} pays bundles of {settings.bundle} prompts together, and {settings.prompts} prompts a step make no "
            "whole number of them; set prompts to a multiple of bundle"
        )
    risk = spec.advantage
    if not isinstance(risk, MixedRisk) or risk.quantiles is not None or risk.pool == "set":
        return
    if risk.high == 1 and settings.quantile_rate > 0:
        raise TrainError(
            f"high=1 and quantile_rate={settings.quantile_rate:g}; a largest score has no quantile to follow: set "
            "quantile_rate=0 for that of each batch, or give quantiles"
        )


def _require_pairs(spec: PreferenceSpec, settings: Settings) -> None:
    if any(term.score.learned for term in spec.terms):
        raise TrainError(
            f"{spec.name} fits a reward model, and a policy's log-probabilities are no rewards; give a reward model's scores "
            "to banach.llm.evaluate_preference, or train the policy with dpo"
        )
    if settings.group_size < 2:
        raise TrainError(f"group_size={settings.group_size}; {spec.name} compares answers to one prompt: give 2 or more")
    if spec.pairs in ("policy", "mixture") and settings.refresh != 1:
        raise TrainError(
            f"refresh={settings.refresh}; {spec.name} compares answers of the policy as it stands at each step: set refresh=1, "
            "or name the objective for a fixed set of pairs (dpo, ipo)"
        )
