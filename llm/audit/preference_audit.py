"""The audit of a preference loss: what it looks at in a pair, and what it asks of a population of pairs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch

from ...mdp.preference import PreferenceOracle
from . import pair_rest, pair_shape
from .errors import AuditError, LossFailure
from .finding import Audit, Finding
from .loss_audit import name_of
from .pairs import Pairs, Population, single
from .subject import SINGLE, Loss, Subject, resolve

ANNOTATORS = np.array([[4.0, 2.0, 0.0, 1.0], [0.0, 4.0, 2.0, 1.0], [2.0, 0.0, 4.0, 1.0]])
"""Rewards (3, 4) of three annotators whose majority goes round in a circle."""
REWARDS = (1.0, 0.0)
"""Of chosen and rejected, for objectives that read rewards."""


def audit_preference(loss: Any, oracle: PreferenceOracle | None = None, *, seed: int = 0, name: str | None = None) -> Audit:
    """Everything the audit can find out about a preference loss.

    loss: callable (logp_chosen_B, logp_rejected_B, ref_chosen_B, ref_rejected_B, length_chosen_B, length_rejected_B) -> scalar
        tensor, to be MINIMISED; or a `PreferenceSpec`; or "package.module:function". What it raises becomes a finding.
    oracle: who is preferred among n >= 2 responses; default four responses, preferences with a cycle that no reward explains.
    seed: of the random pairs, of the reference and of how often pairs are shown. name: shown instead of the loss's own.

    Lengths are one token where nothing else is said. Raises AuditError when the name leads nowhere or there is one response.
    """
    began = time.perf_counter()
    oracle = PreferenceOracle.population(ANNOTATORS, np.array([0.4, 0.35, 0.25])) if oracle is None else oracle
    n = oracle.n_responses
    if n < 2:
        raise AuditError("one response is no preference; give an oracle of two or more")
    subject, told = Subject(_loss_of(loss)), _told(loss)
    generator = np.random.default_rng(seed)
    reference = generator.dirichlet(np.full(n, 4.0)) * 0.9 + 0.1 / n
    population = Population(oracle, reference, generator.uniform(0.5, 2.0, (n, n)))
    findings = _opened(subject, generator)
    if findings[-1].grade != "bad":
        trial = np.random.default_rng(seed)
        subject.measure_rounding([_random(trial, 4) for _ in range(9)])
        findings += _asked(subject, population, generator)
    setting = {
        "responses": n,
        "oracle": oracle.fingerprint,
        "seed": seed,
        "dtype": str(subject.dtype).removeprefix("torch."),
        "rounding": subject.rounding,
    }
    seconds = time.perf_counter() - began
    return Audit(name or name_of(loss), "preference loss", setting, (*told, *findings), subject.calls, seconds)


def _loss_of(loss: Any) -> Loss:
    if isinstance(loss, str):
        return resolve(loss)
    if callable(loss):
        return loss
    from ..preference_kernel import as_preference_loss
    from ..preference_spec import PreferenceSpec

    if isinstance(loss, PreferenceSpec):
        return as_preference_loss(loss, REWARDS if "reward" in loss.uses else None)
    raise AuditError(f"a {type(loss).__name__} is no loss; give a function, a PreferenceSpec or 'package.module:function'")


def _told(loss: Any) -> list[Finding]:
    """What a spec is given beside log-probabilities."""
    from ..preference_spec import PreferenceSpec

    if not isinstance(loss, PreferenceSpec) or "reward" not in loss.uses:
        return []
    verdict = "It also reads rewards. What follows holds where the chosen answer's is 1 and the rejected one's 0."
    return [Finding("given", "what it is given", verdict, "note", details={"rewards": REWARDS})]


def _opened(subject: Subject, generator: np.random.Generator) -> list[Finding]:
    """Whether one call gives one finite scalar with a gradient; in single precision where double fails."""
    pairs = _random(generator, 4)
    title = "does it run"
    try:
        value, weight = subject.evaluate(pairs)
    except LossFailure as failure:
        subject.dtype, subject.rounding = torch.float32, SINGLE
        try:
            value, weight = subject.evaluate(pairs)
        except LossFailure:
            return [Finding("runs", title, f"No: {failure}.", "bad")]
    if not np.isfinite(value) or not np.isfinite(weight).all():
        return [Finding("runs", title, f"NaN or infinite on ordinary pairs: loss {value}.", "bad", float("nan"), "loss")]
    if subject.detached:
        return [
            Finding("runs", title, "The value has no gradient in the log-probabilities: nothing would be learnt.", "bad", 0.0)
        ]
    return [Finding("runs", title, f"Yes: one finite scalar with a gradient ({value:.4g}).", "good", value, "loss")]


def _asked(subject: Subject, population: Population, generator: np.random.Generator) -> list[Finding]:
    """Every question in turn; where the loss fails, that is the finding."""
    found: list[Finding] = []

    def ask(key: str, title: str, question: Callable[[], Finding | Iterable[Finding]]) -> None:
        try:
            answer = question()
        except LossFailure as failure:
            found.append(Finding(key, title, f"Could not be found out: {failure}.", "bad"))
            return
        found.extend([answer] if isinstance(answer, Finding) else answer)

    ask("microbatch", "microbatches", lambda: _microbatching(subject, generator))
    try:
        shape = pair_shape.look(subject, generator)
    except LossFailure as failure:
        return [*found, Finding("margin", "what it looks at in a pair", f"Could not be found out: {failure}.", "bad")]
    ask("direction", "direction", lambda: pair_shape.direction(subject, generator))
    if found[-1].quantity == "weight":
        return found
    ask("margin", "what it looks at in a pair", lambda: pair_shape.margin_curve(shape))
    ask("optimum", "which optimum its minimiser is", lambda: pair_rest.optimum(subject, shape, population))
    ask("noise", "noise, and preferences without any", lambda: pair_rest.noise(subject))
    ask("swap", "label turned round", lambda: pair_shape.swap(subject, generator))
    ask("displacement", "likelihood displacement", lambda: pair_shape.displacement(subject, generator))
    ask("reference", "reference", lambda: pair_shape.reference(shape))
    ask("length", "length", lambda: pair_shape.length(subject, generator))
    ask("extremes", "extreme inputs", lambda: _extremes(subject))
    return found


def _random(generator: np.random.Generator, pairs: int) -> Pairs:
    """One call of that many random pairs of responses of 3 to 8 tokens."""
    logp = -generator.exponential(2.0, (4, 1, pairs)) - 0.5
    lengths = generator.integers(3, 9, (2, 1, pairs))
    return Pairs(*logp, *lengths)


def _microbatching(subject: Subject, generator: np.random.Generator) -> Finding:
    """Is the gradient of a batch the mean, or the sum, of the gradients of its pairs?"""
    as_mean = as_sum = 0.0
    for _ in range(4):
        pairs = _random(generator, 4)
        whole = subject.evaluate(pairs)[1]
        arrays = (getattr(pairs, key) for key in vars(pairs))
        split = Pairs(*(array.reshape(4, 1) for array in arrays))
        parts = np.stack([subject.evaluate(split, k)[1][:, 0] for k in range(4)], axis=1)
        size = max(float(np.abs(whole).max()), 1e-300)
        as_mean = max(as_mean, float(np.abs(whole - parts / 4).max() / size))
        as_sum = max(as_sum, float(np.abs(whole - parts).max() / size))
    title, allowed = "microbatches", max(1e-7, subject.rounding)
    details = {"against_mean": as_mean, "against_sum": as_sum}
    if as_mean < allowed:
        verdict = "The gradient of a batch is the mean over its pairs, however it is cut evenly."
        return Finding("microbatch", title, verdict, "good", as_mean, "gap to the mean", details)
    if as_sum < allowed:
        verdict = "The gradient of a batch is the sum over its pairs: sum microbatches, never average."
        return Finding("microbatch", title, verdict, "note", as_sum, "gap to the sum", details)
    verdict = (
        f"Pairs of a batch act on each other: the mean of single pairs is off by {100 * as_mean:.3g} %. What follows shows the "
        "loss one pair at a time."
    )
    return Finding("microbatch", title, verdict, "bad", min(as_mean, as_sum), "gap to the nearer of mean and sum", details)


def _extremes(subject: Subject) -> Finding:
    """Margins of hundreds of nats in single precision."""
    single_precision = Subject(subject.loss, torch.float32)
    margins = np.array([-2000.0, -300.0, 300.0, 2000.0])
    pairs = single(-2500 + margins / 2, -2500 - margins / 2, np.full(4, -2500.0), np.full(4, -2500.0), lengths=(500, 500))
    broken = [m for k, m in enumerate(margins) if not _finite(single_precision, pairs, k)]
    title = "extreme inputs"
    if broken:
        verdict = f"Not finite in float32 at margins of {', '.join(f'{m:g}' for m in broken)} nats."
        return Finding("extremes", title, verdict, "bad", float(len(broken)), "faults")
    return Finding("extremes", title, "Margins of 2000 nats leave value and weights finite in float32.", "good", 0.0, "faults")


def _finite(subject: Subject, pairs: Pairs, k: int) -> bool:
    value, weight = subject.evaluate(pairs, k)
    return bool(np.isfinite(value) and np.isfinite(weight).all())
