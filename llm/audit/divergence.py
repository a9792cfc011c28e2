r"""Which divergence from the reference the loss's reference term descends.

The reference term is what changes when the loss is shown a reference other than the policy: g(ref) - g(ref = pi), on policy, at
the same rewards. Its expectation is held against the fields of `scalars.divergence_fields`. (A "k1" penalty inside the loss has
expectation zero, "k2" descends KL(pi || ref), "k3" KL(ref || pi), all token by token: Tang and Munos 2025, arXiv 2506.09477.)
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from .batching import Draw
from .enumeration import Setting
from .finding import Finding
from .on_policy import OnPolicy
from .scalars import best_match, divergence_fields
from .subject import Batches


def divergence(ground: OnPolicy) -> Finding:
    """Which divergence from the reference is descended, and how strongly."""
    title = "which divergence it regularises"
    problem, group_size = ground.problem, min(ground.group_size, 2)
    shown = _shown_at_all(ground)
    if shown < ground.tolerance and not _value_moves(ground):
        return Finding("divergence", title, "None: the loss does not look at the reference.", "note", 0.0, "strength")
    if shown < ground.tolerance:
        verdict = (
            'None: the reference enters the value of the loss but no gradient, as a "k1" penalty does that is differentiated '
            "through its samples. It regularises nothing."
        )
        return Finding("divergence", title, verdict, "bad", 0.0, "strength of the expected term")
    terms, candidates, size = [], [], 0.0
    for logits in ground.policies[:2]:
        ref = ground.generator.normal(size=logits.shape)
        without = ground.enumerated(Setting(logits))
        terms.append(without - ground.enumerated(Setting(logits, ref=ref)))
        size += float(np.linalg.norm(without))
        candidates.append(divergence_fields(problem, logits, ref, group_size))
    if float(np.linalg.norm(terms)) < ground.tolerance * max(size, 1e-300):
        verdict = (
            f"None in expectation: the reference changes every sample's weights, by up to {shown:.3g}, and the changes cancel. "
            "It regularises nothing and adds noise."
        )
        return Finding("divergence", title, verdict, "bad", 0.0, "strength of the expected term")
    matches = best_match(terms, candidates, positive=True)
    ranking = {match.name: {"residual": match.residual, "scale": match.scale} for match in matches}
    best = matches[0]
    if best.residual < 10 * ground.tolerance and best.scale > 0:
        wrong = "length" in best.name and "divergence" in best.name
        verdict = f"It descends {best.name}, with coefficient {best.scale:.6g} (residual {best.residual:.1e})."
        return Finding(
            "divergence",
            title,
            verdict,
            "bad" if wrong else "note",
            best.scale,
            "coefficient",
            {"name": best.name, "all": ranking},
        )
    verdict = f"No known divergence; the nearest is {best.name} (cosine {best.cosine:.4f}, coefficient {best.scale:.3g})."
    grade = "bad" if best.cosine < 0.5 else "note"
    return Finding("divergence", title, verdict, grade, best.cosine, "cosine", {"name": best.name, "all": ranking})


def _shown_at_all(ground: OnPolicy) -> float:
    """Largest relative change of a sample's weights when the reference moves."""
    change = 0.0
    for own, moved in _pairs(ground):
        before, after = ground.subject.evaluate(own)[1], ground.subject.evaluate(moved)[1]
        change = max(change, float(np.abs(after - before).max() / max(np.abs(before).max(), 1e-300)))
    return change


def _value_moves(ground: OnPolicy) -> bool:
    """Whether the value of the loss, and not its weights, moves with the reference."""
    pairs = [(ground.subject.evaluate(own)[0], ground.subject.evaluate(moved)[0]) for own, moved in _pairs(ground)]
    return any(abs(after - before) > ground.tolerance * max(abs(before), 1e-3) for before, after in pairs)


def _pairs(ground: OnPolicy) -> list[tuple[Batches, Batches]]:
    """Random groups on policy, shown once with the policy as the reference and once with another."""
    draw = Draw(ground.problem, max(ground.group_size, 2), ground.generator)
    batches = [draw.batch([draw.group()]) for _ in range(8)]
    return [
        (
            replace(batch, old=batch.logp, ref=batch.logp),
            replace(batch, old=batch.logp),
        )
        for batch in batches
    ]
