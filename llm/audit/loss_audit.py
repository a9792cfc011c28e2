"""The audit of a policy-gradient loss: one function, and the order in which it asks."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch

from ...mdp.token import TokenProblem
from ..errors import BatchError
from . import batching, divergence, edge_cases, fixed_point, noise, on_policy, prompt_weight, stale
from .errors import AuditError, LossFailure
from .finding import Audit, Finding
from .subject import Loss, Subject, first_line, resolve
from .told import TITLE, told

Asked = Callable[[], Finding | Iterable[Finding] | None]
Probing = Callable[[on_policy.OnPolicy], list[Finding]]


def audit(
    loss: Any, problem: TokenProblem | None = None, *, group_size: int = 3, seed: int = 0, name: str | None = None
) -> Audit:
    """Everything the audit can find out about a loss, most of it by enumeration of all groups of answers.

    loss: callable (logp_BT, logp_old_BT, logp_ref_BT, mask_BT, rewards_B, groups_B) -> scalar tensor, to be MINIMISED; or an
        `ObjectiveSpec`, for whose critic, calls, modes and the like see `banach.llm.audit.stand_ins` and `.told`; or
        "package.module:function". What it raises, and NaN, becomes a finding.
    problem: the token problem that is enumerated; default `banach.mdp.instances_token.tiny_enum()`.
    group_size: answers a group, at least 1. seed: of the random policies and draws. name: shown instead of the loss's own.

    Where weights look at log-probabilities (reference terms, stale samplers), groups are of at most two answers.
    Raises AuditError when group_size is below 1, the problem too large or the name leads nowhere.
    """
    began = time.perf_counter()
    if group_size < 1:
        raise AuditError(f"group_size {group_size} is no number of answers; give 1 or more, and 2 or more for group baselines")
    function = loss_of(loss)
    problem = default_problem() if problem is None else problem
    subject, findings = _opened(function, problem, group_size, seed)
    findings = [*_assumed(loss), *findings]
    if subject is not None:
        findings += _asked(subject, problem, group_size, np.random.default_rng(seed), _told(loss, subject, seed))
    setting = {
        "prompts": problem.n_prompts,
        "sequences": problem.n_sequences,
        "horizon": problem.horizon,
        "problem": problem.fingerprint,
        "group_size": group_size,
        "seed": seed,
        "dtype": "float64" if subject is None else str(subject.dtype).removeprefix("torch."),
        "rounding": None if subject is None else subject.rounding,
    }
    calls = 0 if subject is None else subject.calls
    return Audit(name or name_of(loss), "loss", setting, tuple(findings), calls, time.perf_counter() - began)


def loss_of(loss: Any) -> Loss:
    """The callable behind a callable, a spec or a name. Raises AuditError when there is none."""
    if isinstance(loss, str):
        return resolve(loss)
    if callable(loss):
        return loss
    from ..objective import ObjectiveSpec
    from .stand_ins import loss_of_spec

    if isinstance(loss, ObjectiveSpec):
        return loss_of_spec(loss)
    raise AuditError(f"a {type(loss).__name__} is no loss; give a function, an ObjectiveSpec or 'package.module:function'")


def _assumed(loss: Any) -> list[Finding]:
    from ..objective import ObjectiveSpec
    from .stand_ins import assumed

    finding = assumed(loss) if isinstance(loss, ObjectiveSpec) else None
    return [] if finding is None else [finding]


def _told(loss: Any, subject: Subject, seed: int) -> Probing | None:
    """The questions under the probe of the loss's catalogue entry, None where it has none."""
    from ..objective import ObjectiveSpec
    from .stand_ins import loss_of_spec, probe_of

    probe = probe_of(loss) if isinstance(loss, ObjectiveSpec) else None
    if probe is None:
        return None
    speaking = Subject(loss_of_spec(loss, probe), subject.dtype)
    speaking.rounding = subject.rounding
    return lambda ground: _counted(subject, speaking, lambda: told(ground, speaking, probe, np.random.default_rng(seed)))


def _counted(subject: Subject, other: Subject, question: Callable[[], list[Finding]]) -> list[Finding]:
    """What is found out by asking another subject, whose calls count."""
    try:
        return question()
    finally:
        subject.calls += other.calls


def name_of(loss: Any) -> str:
    """What a loss is called in a report."""
    if isinstance(loss, str):
        return loss
    return str(getattr(loss, "name", None) or getattr(loss, "__name__", None) or type(loss).__name__)


def default_problem() -> TokenProblem:
    """Two prompts of different difficulty, three tokens, at most three of them an answer: small enough to list every group."""
    from ...mdp.instances_token import tiny_enum

    return tiny_enum()


def _opened(function: Loss, problem: TokenProblem, group_size: int, seed: int) -> tuple[Subject | None, list[Finding]]:
    """The subject at the first precision in which one call succeeds, or the finding that none does."""
    draw = batching.Draw(problem, group_size, np.random.default_rng(seed))
    batch, failure = draw.batch([draw.group()]), None
    for dtype in (torch.float64, torch.float32):
        subject = Subject(function, dtype)
        try:
            value, weight = subject.evaluate(batch)
        except LossFailure as fault:
            failure = failure or fault
            continue
        if not np.isfinite(value) or not np.isfinite(weight).all():
            verdict = (
                f"NaN or infinite on an ordinary group: loss {value}, {int((~np.isfinite(weight)).sum())} weights not finite."
            )
            return None, [Finding("runs", "does it run", verdict, "bad", float("nan"), "loss")]
        if subject.detached:
            verdict = "The value has no gradient in logp: it was detached, or never computed from it. Nothing would be learnt."
            return None, [Finding("runs", "does it run", verdict, "bad", 0.0, "gradient")]
        subject.measure_rounding([draw.batch([draw.group()]) for _ in range(9)])
        return subject, [
            Finding("runs", "does it run", f"Yes: one finite scalar with a gradient ({value:.4g}).", "good", value, "loss")
        ]
    return None, [Finding("runs", "does it run", f"No: {failure}.", "bad")]


def _asked(
    subject: Subject, problem: TokenProblem, group_size: int, generator: np.random.Generator, probing: Probing | None
) -> list[Finding]:
    """Every question in turn; one at which the loss fails becomes the finding that it failed there.

    Where an objective of ours refuses what a question would show it, rewards beyond 1 for instance, the question is moot.
    """
    draw = batching.Draw(problem, group_size, generator)
    found: list[Finding] = []

    def ask(key: str, title: str, question: Asked) -> None:
        try:
            answer = question()
        except LossFailure as failure:
            if isinstance(failure.__cause__, BatchError):
                verdict = f"Not asked: it refuses such a batch: {first_line(failure.__cause__)}."
                found.append(Finding(key, title, verdict, "moot"))
                return
            found.append(Finding(key, title, f"Could not be found out: {failure}.", "bad"))
            return
        if isinstance(answer, Finding):
            found.append(answer)
        elif answer is not None:
            found.extend(answer)

    def held() -> bool:
        return any(finding.key == "divergence" and finding.value for finding in found)

    ask("determinism", "same call twice", lambda: batching.determinism(subject, draw))
    order, exchangeable = batching.permutation(subject, draw)
    if any(finding.key == "determinism" for finding in found):
        verdict = "Not asked: of a loss that answers one question in two ways no expectation is enumerated."
        return [*found, order, Finding("direction", "expected gradient against grad J", verdict, "moot")]
    try:
        ground = on_policy.OnPolicy(subject, problem, group_size, exchangeable, generator)
    except LossFailure as failure:
        found.append(Finding("direction", "expected gradient against grad J", f"Could not be found out: {failure}.", "bad"))
    else:
        share = 0.0 if ground.table is None else ground.table.failed
        if share or subject.broken:
            many = f"{100 * share:.3g} % of the kinds of groups" if share else f"{subject.broken} groups"
            verdict = f"{many} give NaN; what follows takes their gradients as zero."
            found.append(Finding("finite", "NaN among all groups", verdict, "bad", share or float(subject.broken), "groups"))
        ask("direction", "expected gradient against grad J", lambda: on_policy.direction(ground))
        ask("scalar", "which scalar it ascends", lambda: on_policy.which_scalar(ground))
        ask("prompt_weight", "weight of a prompt", lambda: prompt_weight.prompt_weight(subject, group_size, problem.horizon))
        ask("variance", "variance of a group's gradient", lambda: noise.variance(ground))
        ask("shift", "a constant added to the rewards", lambda: on_policy.reward_shift(ground))
        ask("scale", "rewards doubled", lambda: on_policy.reward_scale(ground))
        ask("length", "length bias", lambda: edge_cases.length_bias(subject, group_size))
        ask("divergence", "which divergence it regularises", lambda: divergence.divergence(ground))
        ask("fixed_point", "where it comes to rest", lambda: fixed_point.fixed_point(ground, held()))
        ask("off_policy", "expected gradient off policy", lambda: stale.off_policy(ground))
        if probing is not None:
            ask("told", TITLE, lambda: probing(ground))
    ask("response", "response to the ratio", lambda: stale.response(subject, group_size))
    ask("zero_variance", "groups without variance", lambda: edge_cases.zero_variance(subject, group_size))
    ask("single", "groups of one answer", lambda: edge_cases.single_answer(subject))
    ask("microbatch", "microbatches", lambda: batching.microbatching(subject, draw))
    ask("padding", "padding and masked tokens", lambda: batching.padding(subject, draw))
    found.append(order)
    ask("precision", "single precision", lambda: batching.precision(subject, draw))
    ask("extremes", "extreme inputs", lambda: edge_cases.extremes(subject, group_size))
    return found
