"""What a loss minds beside its answers: their order, their padding, what else lies in the batch, and its dtype."""

from __future__ import annotations

import numpy as np
import torch

from ...mdp.token import TokenProblem
from .enumeration import token_logp
from .errors import LossFailure
from .finding import Finding
from .subject import Array, Batches, Subject


class Draw:
    """Batches of random answers to random prompts under a random policy (sampler slightly stale, reference its own)."""

    def __init__(self, problem: TokenProblem, group_size: int, generator: np.random.Generator) -> None:
        self.problem, self.group_size, self.generator = problem, group_size, generator
        shape = (problem.n_nodes, problem.vocabulary_size)
        self.logits = generator.normal(size=shape)
        self.old = self.logits + 0.05 * generator.normal(size=shape)
        self.ref = generator.normal(size=shape)

    def group(self) -> Array:
        """Sequence numbers (group_size,) of answers to one prompt, drawn evenly, not all of one reward where that can be."""
        prompt = self.generator.integers(self.problem.n_prompts)
        own = np.flatnonzero(self.problem.prompt == prompt)
        chosen = self.generator.choice(own, self.group_size)
        for _ in range(50):
            chosen = self.generator.choice(own, self.group_size)
            if self.group_size == 1 or np.ptp(self.problem.reward[chosen]) > 0:
                break
        return chosen

    def batch(self, groups: list[Array]) -> Batches:
        """One batch of several groups, each of sequence numbers (group_size,)."""
        chosen = np.concatenate(groups)
        logp, old, ref = (token_logp(self.problem, table)[chosen][None] for table in (self.logits, self.old, self.ref))
        group = np.repeat(np.arange(len(groups)), [len(rows) for rows in groups])
        return Batches(logp, old, ref, self.problem.mask[chosen][None], self.problem.reward[chosen][None], group)


def permutation(subject: Subject, draw: Draw, trials: int = 6) -> tuple[Finding, bool]:
    """Does the order of the answers of a group matter? Also whether the group may be enumerated as a multiset."""
    worst = 0.0
    for _ in range(trials):
        group = draw.group()
        order = draw.generator.permutation(len(group))
        straight = subject.evaluate(draw.batch([group]))[1]
        turned = subject.evaluate(draw.batch([group[order]]))[1]
        worst = max(worst, _gap(turned, straight[order]))
    title = "order of the answers"
    if worst < max(1e-7, subject.rounding):
        return Finding("order", title, "The order of a group's answers does not matter.", "good", worst, "change"), True
    verdict = f"The order matters: a permuted group gets weights that differ by {100 * worst:.3g} %."
    return Finding("order", title, verdict, "bad", worst, "relative change of weights under permutation"), False


def determinism(subject: Subject, draw: Draw) -> Finding | None:
    """A finding when two identical calls differ."""
    batch = draw.batch([draw.group()])
    gap = _gap(subject.evaluate(batch)[1], subject.evaluate(batch)[1])
    if gap == 0:
        return None
    verdict = f"Two identical calls give weights that differ by {100 * gap:.3g} %: the loss draws at random or keeps a state."
    return Finding("determinism", "same call twice", verdict, "bad", gap, "relative change")


def microbatching(subject: Subject, draw: Draw, trials: int = 6) -> Finding:
    """Is the gradient of a batch of two groups the mean, or the sum, of the gradients of its groups?"""
    as_mean = as_sum = 0.0
    for _ in range(trials):
        first, second = draw.group(), draw.group()
        whole = subject.evaluate(draw.batch([first, second]))[1]
        parts = np.concatenate([subject.evaluate(draw.batch([group]))[1] for group in (first, second)])
        as_mean, as_sum = max(as_mean, _gap(whole, parts / 2)), max(as_sum, _gap(whole, parts))
    title = "microbatches"
    details = {"against_mean": as_mean, "against_sum": as_sum}
    allowed = max(1e-6, subject.rounding)
    if as_mean < allowed:
        verdict = "The gradient of a batch is the mean over microbatches of whole groups, however they are cut evenly."
        return Finding("microbatch", title, verdict, "good", as_mean, "gap to the mean of microbatches", details)
    if as_sum < allowed:
        verdict = "The gradient of a batch is the sum over microbatches of whole groups: sum them, never average."
        return Finding("microbatch", title, verdict, "note", as_sum, "gap to the sum of microbatches", details)
    gap = min(as_mean, as_sum)
    verdict = (
        f"Cutting the batch changes the gradient: the mean over microbatches is off by up to {100 * as_mean:.3g} % and "
        f"the sum by {100 * as_sum:.3g} %. Groups act on each other, through a normaliser or a statistic that must be "
        "the whole batch's."
    )
    return Finding("microbatch", title, verdict, "bad", gap, "gap to the nearer of mean and sum", details)


def padding(subject: Subject, draw: Draw) -> Finding:
    """Do columns of padding, or what stands in them, change the gradient?"""
    title = "padding and masked tokens"
    plain = draw.batch([draw.group()])
    before = subject.evaluate(plain)[1]
    width = ((0, 0), (0, 0), (0, 3))
    logp, old, ref, mask = (np.pad(array, width) for array in (plain.logp, plain.old, plain.ref, plain.mask))
    wider = Batches(logp, old, ref, mask, plain.reward, plain.group)
    after = subject.evaluate(wider)[1]
    grows = _gap(after[:, : before.shape[1]], before)
    noise = draw.generator.normal(-4.0, 1.0, (3, *wider.logp.shape))
    logp, old, ref = (np.where(mask, array, junk) for array, junk in zip((logp, old, ref), noise, strict=True))
    filled = Batches(logp, old, ref, mask, plain.reward, plain.group)
    leak = subject.evaluate(filled)[1]
    off = float(np.abs(np.where(wider.mask[0], 0.0, leak)).max() / max(np.abs(after).max(), 1e-300))
    moved = _gap(np.where(wider.mask[0], leak, 0.0), np.where(wider.mask[0], after, 0.0))
    allowed = max(1e-7, subject.rounding)
    details = {"extra_columns": grows, "weight_on_masked": off, "values_under_the_mask": moved}
    if not off <= allowed:
        verdict = f"Masked tokens are trained: they carry weights up to {off:.3g} of the largest weight of a policy token."
        return Finding("padding", title, verdict, "bad", off, "weight on masked tokens", details)
    if not moved <= allowed:
        verdict = f"What stands under the mask leaks into the others' weights: they change by {100 * moved:.3g} %."
        return Finding("padding", title, verdict, "bad", moved, "change by values under the mask", details)
    if not grows <= allowed:
        verdict = (
            f"Padding is counted: three more columns of it change the weights by {100 * grows:.3g} % (factor "
            f"{_factor(after[:, : before.shape[1]], before):.4g}), so the step depends on the longest answer of the batch."
        )
        return Finding("padding", title, verdict, "bad", grows, "change by three columns of padding", details)
    return Finding(
        "padding", title, "Neither padding nor what stands in it changes anything.", "good", grows, "change", details
    )


def precision(subject: Subject, draw: Draw) -> Finding:
    """The weights in single precision against those in double."""
    title = "single precision"
    batch = draw.batch([draw.group()])
    single, double = Subject(subject.loss, torch.float32), Subject(subject.loss, torch.float64)
    try:
        other = single.evaluate(batch)[1] if subject.dtype == torch.float64 else subject.evaluate(batch)[1]
    except LossFailure as failure:
        return Finding("precision", title, f"In float32 {failure}.", "bad")
    try:
        gap = _gap(other, double.evaluate(batch)[1])
    except LossFailure as failure:
        return Finding("precision", title, f"In float64 {failure}; everything else was audited in float32.", "note")
    if gap < 1e-4:
        return Finding("precision", title, "float32 and float64 agree.", "good", gap, "relative difference of weights")
    verdict = f"float32 and float64 differ by {100 * gap:.3g} %."
    return Finding("precision", title, verdict, "bad", gap, "relative difference of weights")


def _gap(found: Array, wanted: Array) -> float:
    """Largest difference over the largest weight; infinite where one is not finite and the other is."""
    if not (np.isfinite(found).all() and np.isfinite(wanted).all()):
        return 0.0 if np.array_equal(found, wanted, equal_nan=True) else float("inf")
    size = max(np.abs(wanted).max(), np.abs(found).max())
    return float(np.abs(found - wanted).max() / size) if size else 0.0


def _factor(found: Array, before: Array) -> float:
    size = float((before**2).sum())
    return float((found * before).sum() / size) if size else 1.0
