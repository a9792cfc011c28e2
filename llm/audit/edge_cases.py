"""Groups at the edge: no variance, one answer, an answer of no tokens, log-ratios that overflow; and lengths."""

from __future__ import annotations

import numpy as np
import torch

from .errors import LossFailure
from .finding import Finding
from .subject import Array, Batches, Subject

_TOKENS = 8
_MET = {"right": "rewarded", "wrong": "punished"}


def _group(reward: Array, length: Array, logp: float = -1.0, old: float = -1.0, ref: float = -1.0) -> Batches:
    """One group of answers of given rewards and lengths, both (G,), every token with the same log-probabilities."""
    mask = np.arange(_TOKENS) < np.asarray(length)[:, None]
    own, sampler, reference = (np.where(mask, value, 0.0)[None] for value in (logp, old, ref))
    return Batches(
        own, sampler, reference, mask[None], np.asarray(reward, dtype=float)[None], np.zeros(len(mask), dtype=np.int64)
    )


def zero_variance(subject: Subject, group_size: int) -> Finding:
    """What a group teaches whose rewards are all equal."""
    title = "groups without variance"
    size = max(group_size, 2)
    length = np.full(size, 4)
    mixed = np.abs(subject.evaluate(_group(np.arange(size) == 0, length))[1]).max()
    found = {}
    for name, reward in (("all wrong", 0.0), ("all right", 1.0)):
        found[name] = float(np.abs(subject.evaluate(_group(np.full(size, reward), length))[1]).max())
    broken = [name for name, value in found.items() if not np.isfinite(value)]
    if broken:
        verdict = f"NaN: a group that is {' or '.join(broken)} destroys the gradient (a standard deviation of zero divided by)."
        return Finding("zero_variance", title, verdict, "bad", float("nan"), "weight", found)
    if np.isfinite(mixed) and mixed > 0:
        found = {name: value / float(mixed) for name, value in found.items()}
        residue = 0.0
        for count in (3, 7, 10):
            try:
                single = Subject(subject.loss, torch.float32).evaluate(_group(np.full(count, 0.1), np.full(count, 4)))[1]
                other = Subject(subject.loss, torch.float32).evaluate(_group(np.arange(count) == 0, np.full(count, 4)))[1]
            except LossFailure:
                continue
            residue = max(residue, float(np.abs(single).max() / max(np.abs(other).max(), 1e-300)))
        found["all 0.1 in float32"] = residue
        if max(found["all wrong"], found["all right"]) < subject.rounding and residue > 1e-3:
            verdict = (
                "Equal rewards of 0 or 1 give zero, but equal rewards of 0.1 in float32 give weights of "
                f"{residue:.3g} of a mixed group's: rounding residue is divided by rounding residue."
            )
            return Finding("zero_variance", title, verdict, "bad", residue, "weight over a mixed group's", found)
    top = max(found["all wrong"], found["all right"])
    if top < subject.rounding:
        verdict = "A group that is all wrong or all right gives no gradient, and no NaN."
        return Finding("zero_variance", title, verdict, "good", top, "weight", found)
    verdict = (
        f"Relative to a mixed group, all wrong weighs {found['all wrong']:.3g} and all right {found['all right']:.3g}: "
        "equal rewards still move the policy."
    )
    return Finding("zero_variance", title, verdict, "note", top, "weight over a mixed group's", found)


def single_answer(subject: Subject) -> Finding:
    """What a group of one answer teaches."""
    title = "groups of one answer"
    try:
        right, wrong = (subject.evaluate(_group(np.array([reward]), np.array([4])))[1] for reward in (1.0, 0.0))
    except LossFailure as failure:
        return Finding("single", title, f"Refused: {failure}.", "note")
    if not (np.isfinite(right).all() and np.isfinite(wrong).all()):
        return Finding("single", title, "NaN: a group of one answer destroys the gradient.", "bad", float("nan"), "weight")
    top = float(np.abs(right).max())
    if max(top, np.abs(wrong).max()) < 1e-12:
        return Finding("single", title, "A group of one answer gives no gradient.", "good", 0.0, "weight")
    verdict = (
        f"A lone answer is trained without a baseline: weights {top:.3g} when right, {np.abs(wrong).max():.3g} when wrong."
    )
    return Finding("single", title, verdict, "note", top, "largest weight")


def extremes(subject: Subject, group_size: int) -> Finding:
    """An answer without tokens, and log-ratios that overflow single precision."""
    size = max(group_size, 2)
    reward, length = np.arange(size) == 0, np.full(size, 4)
    faults, sizes, grade = [], {}, "note"
    single = Subject(subject.loss, torch.float32)
    cases = {
        "an answer without tokens": (subject, _group(reward, np.where(np.arange(size) == 1, 0, 4))),
        "a sampler 200 nats below the policy": (single, _group(reward, length, old=-201.0)),
        "a reference 200 nats above the policy": (single, _group(reward, length, logp=-201.0, old=-201.0)),
        "a reference 200 nats below the policy": (single, _group(reward, length, ref=-201.0)),
    }
    for name, (who, batch) in cases.items():
        try:
            weight = np.abs(who.evaluate(batch)[1]).max()
        except LossFailure as failure:
            faults.append(f"{name}: {failure}")
            grade = "bad"
            continue
        sizes[name] = float(weight)
        if not np.isfinite(weight):
            faults.append(f"{name} gives {'NaN' if np.isnan(weight) else 'an infinite weight'}")
            grade = "bad" if who is subject else grade
    if faults:
        said = "; ".join(faults)
        verdict = f"{said[0].upper()}{said[1:]}."
        return Finding("extremes", "extreme inputs", verdict, grade, float(len(faults)), "faults", sizes)
    verdict = "Answers without tokens and log-ratios of 200 nats leave the weights finite."
    return Finding("extremes", "extreme inputs", verdict, "good", 0.0, "faults", sizes)


def length_bias(subject: Subject, group_size: int) -> Finding:
    """How the weight of a token moves with the length of its answer, of right and of wrong ones."""
    size = max(group_size, 2)
    lengths = np.arange(1, _TOKENS + 1)
    curves, slopes = {}, {}
    for name, reward in (("wrong", 1 - (np.arange(size) == 0)), ("right", np.arange(size) == 0)):
        weights = [subject.evaluate(_group(reward, np.where(np.arange(size) == 0, n, 4)))[1][0, 0] for n in lengths]
        curves[name] = np.array(weights)
        size_of = np.abs(weights)
        if size_of.min() > 0 and np.isfinite(size_of).all():
            slopes[name] = float(np.polyfit(np.log(lengths), np.log(size_of), 1)[0])
    title = "length bias"
    details = {"length": lengths, **{f"weight_{name}": curve for name, curve in curves.items()}, "slopes": slopes}
    if not slopes:
        return Finding(
            "length", title, "No weight to measure: neither right nor wrong answers are weighed.", "note", None, "", details
        )
    which = max(slopes, key=lambda name: (round(abs(slopes[name]), 6), name == "wrong"))
    steepest = slopes[which]
    share = float(curves[which][-1] / curves[which][0])
    allowed = max(1e-6, subject.rounding)
    if abs(steepest) < allowed:
        verdict = "None: a token's weight does not depend on the length of its answer."
        return Finding("length", title, verdict, "good", steepest, "slope of log weight in log length", details)
    exact = {-1: "falls like 1/length exactly", 1: "rises like the length exactly"}.get(round(steepest))
    if exact is None or any(abs(slope - round(steepest)) > allowed for slope in slopes.values()):
        exact = f"{'falls' if steepest < 0 else 'rises'} about like length^{steepest:.2f}"
    beside = f"in a {which} answer of {_TOKENS} tokens it is {share:.3g} times that in one of 1"
    effect = f"long {which} answers are {_MET[which]} {'less' if share < 1 else 'more'} per token"
    verdict = f"A token's weight {exact}; {beside}: {effect}."
    return Finding("length", title, verdict, "bad", steepest, "slope of log weight in log length", details)
