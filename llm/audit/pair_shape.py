r"""What a preference loss looks at in one pair, and the curve that it is where it looks at the margin alone.

With m = log(pi_c / pi_r) - log(q_c / q_r), or without the reference's part, the slope f'(m) names the loss:

    DPO      -log sigma(beta m)                      f' = -beta sigma(-beta m)
    cDPO     the same with flipped labels            f' = beta (sigma(beta m) - (1 - e))
    robust   unbiased under flipped labels           f' = -beta ((1 - e) sigma(-beta m) + e sigma(beta m)) / (1 - 2e)
    IPO      (m - 1/(2 tau))^2                       f' = 2 m - 1/tau
    hinge    max(0, 1 - beta m)                      f' = -beta [beta m < 1]
    SimPO    -log sigma(beta m - gamma)              f' = -beta sigma(gamma - beta m)

(Rafailov et al. 2023, arXiv 2305.18290; Chowdhury et al. 2024, 2403.00409; Azar et al. 2024, 2310.12036; Zhao et al. 2023,
2305.10425; Meng et al. 2024, 2405.14734.)
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from scipy import optimize
from scipy.special import expit

from .finding import Finding
from .pairs import single
from .subject import Array, Subject

MARGINS = np.linspace(-12.0, 12.0, 97)
NAMED = 1e-6
"""Relative misfit of a slope curve under which it has a name."""


@dataclass(frozen=True)
class Shape:
    """What a pair's weights depend on.

    margin_only: on the difference chosen minus rejected alone. uses_reference: on the reference. name and parameters: of the
    curve, where it has one; scale: factor on it. slope: f' at MARGINS (97,), of a pair as far apart as that.
    """

    margin_only: bool
    uses_reference: bool
    slope: Array
    name: str | None = None
    parameters: dict[str, float] = field(default_factory=dict)
    scale: float = 1.0
    misfit: float = float("nan")


def look(subject: Subject, generator: np.random.Generator) -> Shape:
    """The shape of a loss, from random pairs and from a curve. Raises LossFailure."""
    policy, ref, other = -generator.exponential(3.0, (3, 2, 40)) - 0.5
    shift = -generator.exponential(2.0, (2, 40))
    here, elsewhere, moved, together = (
        subject.weights(single(*pair, *base))[:, :, 0]
        for pair, base in ((policy, ref), (policy, other), (policy + shift, ref + shift), (policy + shift[0], ref))
    )
    allowed = max(1e-7, subject.rounding) * max(float(np.abs(here).max()), 1e-300)
    uses_reference = bool(np.abs(elsewhere - here).max() > allowed)
    opposed = np.abs(here.sum(axis=1)).max() < allowed
    apart = (
        np.abs(together - here).max() if not uses_reference else max(np.abs(together - here).max(), np.abs(moved - here).max())
    )
    margin_only = bool(opposed and apart < allowed)
    slope = _slope_at(subject, MARGINS)
    if not margin_only or not np.isfinite(slope).all():
        return Shape(margin_only, uses_reference, slope)
    return _named(subject, slope, uses_reference)


def _named(subject: Subject, slope: Array, uses_reference: bool) -> Shape:
    """The first of the known curves that fits."""
    m, found, named_below = MARGINS, [], max(NAMED, subject.rounding)
    for name, curve, start in _CURVES:
        for beta in (0.1, 1.0):

            def miss(free: Array, curve=curve) -> Array:
                shape = curve(m, *np.exp(free))
                scale = slope @ shape / max(shape @ shape, 1e-300)
                return (scale * shape - slope) / max(np.linalg.norm(slope), 1e-300)

            guess = np.log([beta, *start])
            best = optimize.least_squares(miss, guess, xtol=1e-15, ftol=1e-15, gtol=1e-15, max_nfev=200)
            parameters = np.exp(best.x)
            shape = curve(m, *parameters)
            found.append((float(np.linalg.norm(best.fun)), name, parameters, float(slope @ shape / (shape @ shape))))
        if min(entry[0] for entry in found) < named_below:
            break
    line = np.polyfit(m, slope, 1)
    off = float(np.linalg.norm(np.polyval(line, m) - slope) / max(np.linalg.norm(slope), 1e-300))
    if off < named_below and line[0] > 0 and line[1] < 0:
        return Shape(True, uses_reference, slope, "IPO", {"tau": -line[0] / (2 * line[1])}, line[0] / 2, off)
    hinge = _hinge(subject, slope)
    if hinge is not None:
        return Shape(True, uses_reference, slope, "hinge", {"beta": hinge}, -slope[0] / hinge, 0.0)
    misfit, name, parameters, scale = min(found, key=lambda entry: entry[0])
    sane = scale > 0 and (name not in _FLIPPED or parameters[1] < 0.5)
    named = name if misfit < named_below and sane else None
    keys = {"DPO": ("beta",), "cDPO": ("beta", "flip"), "robust DPO": ("beta", "flip"), "SimPO": ("beta", "gamma")}[name]
    return Shape(True, uses_reference, slope, named, dict(zip(keys, map(float, parameters), strict=True)), scale, misfit)


def _hinge(subject: Subject, slope: Array) -> float | None:
    """beta of a curve that is constant up to some margin and zero from there on; the edge by bisection."""
    on = slope < 0
    last = int(on.sum())
    if (
        not 0 < last < len(slope)
        or on[last:].any()
        or slope[last:].any()
        or np.ptp(slope[:last]) > subject.rounding * abs(slope[0])
    ):
        return None
    low, high = float(MARGINS[last - 1]), float(MARGINS[last])
    for _ in range(50):
        middle = (low + high) / 2
        falls = _slope_at(subject, np.array([middle]))[0] < 0
        low, high = (middle, high) if falls else (low, middle)
    return float(1 / high) if high > 0 else None


def _slope_at(subject: Subject, margin: Array) -> Array:
    """f' of pairs that far apart, (K,), responses of about e^-8 and a reference that holds them equal."""
    return -subject.weights(single(margin / 2 - 8.0, -margin / 2 - 8.0, np.array(-8.0), np.array(-8.0)))[:, 0, 0]


_FLIPPED = ("cDPO", "robust DPO")
_CURVES = (
    ("DPO", lambda m, beta: -beta * expit(-beta * m), ()),
    ("SimPO", lambda m, beta, gamma: -beta * expit(gamma - beta * m), (0.5,)),
    ("cDPO", lambda m, beta, flip: beta * (expit(beta * m) - (1 - flip)), (0.1,)),
    (
        "robust DPO",
        lambda m, beta, flip: -beta * ((1 - flip) * expit(-beta * m) + flip * expit(beta * m)) / (1 - 2 * flip),
        (0.1,),
    ),
)


def margin_curve(shape: Shape) -> Finding:
    """What the loss looks at, and its name."""
    title = "what it looks at in a pair"
    details = {"margin": MARGINS, "slope": shape.slope, "parameters": shape.parameters, "uses_reference": shape.uses_reference}
    base = "log-ratios to the reference" if shape.uses_reference else "log-probabilities without a reference"
    if not shape.margin_only:
        verdict = f"More than the margin: the two {base} act by themselves, not by their difference."
        return Finding("margin", title, verdict, "note", None, "", details)
    if shape.name is None:
        verdict = f"The margin of {base} alone; its curve is none of the known (nearest misfit {shape.misfit:.1e})."
        return Finding("margin", title, verdict, "note", shape.misfit, "misfit of the nearest curve", details)
    said = ", ".join(f"{key} = {value:.5g}" for key, value in shape.parameters.items())
    verdict = f"The margin of {base} alone, as {shape.name} does: {said}."
    value = next(iter(shape.parameters.values()))
    return Finding("margin", title, verdict, "good", value, next(iter(shape.parameters)), details | {"name": shape.name})


def displacement(subject: Subject, generator: np.random.Generator) -> Finding:
    """Does the loss hold the chosen response's own likelihood, or only its lead?"""
    title = "likelihood displacement"
    logp = -generator.exponential(2.0, (4, 24)) - 0.5
    weight = subject.weights(single(*logp))[:, :, 0]
    anchor = float(weight.sum() / max(np.abs(weight).sum(), 1e-300))
    if abs(anchor) < subject.rounding:
        verdict = (
            "Nothing holds the likelihoods: chosen and rejected are pushed by equal and opposite weights, so both may sink "
            "together while mass moves to responses that were never shown, at no change of the loss."
        )
        return Finding("displacement", title, verdict, "note", 0.0, "net weight on the pair's likelihood")
    if abs(anchor) < 0.01:
        way = "raising" if anchor > 0 else "lowering"
        verdict = f"Next to nothing holds the likelihoods: of all weight only {100 * abs(anchor):.3g} % net goes to {way} them."
        return Finding("displacement", title, verdict, "note", anchor, "net weight on the pair's likelihood")
    if anchor > 0:
        verdict = f"The pair's likelihood is held up: of all weight, {100 * anchor:.3g} % net goes to raising it."
        return Finding("displacement", title, verdict, "good", anchor, "net weight on the pair's likelihood")
    which = "even the chosen response's" if weight[:, 0].sum() < 0 else "more than it raises the chosen one's"
    verdict = f"The pair's likelihood is pushed down, {which}: of all weight, {-100 * anchor:.3g} % net goes to lowering it."
    return Finding("displacement", title, verdict, "bad", anchor, "net weight on the pair's likelihood")


def direction(subject: Subject, generator: np.random.Generator) -> Finding:
    """Is the chosen response raised and the rejected one lowered, in random pairs and where policy and reference agree?"""
    logp = -generator.exponential(2.0, (4, 24)) - 0.5
    weight = subject.weights(single(*logp))[:, :, 0]
    lead = weight[:, 0] - weight[:, 1]
    share = float((lead > 0).mean())
    agreed = np.array(-2.0)
    even = subject.weights(single(agreed, agreed, agreed, agreed))[0, :, 0]
    title = "direction"
    if not weight.any():
        verdict = "A pair by itself gives no gradient: whatever is learnt comes from other pairs of the batch."
        return Finding("direction", title, verdict, "bad", 0.0, "weight")
    if (lead >= 0).all() and (lead > 0).any():
        return Finding("direction", title, "The chosen response gains on the rejected one.", "good", share, "share of pairs")
    if share < 0.1:
        return Finding("direction", title, "The sign is wrong: the rejected response gains.", "bad", share, "share of pairs")
    often = f"it gains in {100 * share:.3g} % of random pairs"
    if even[0] < even[1]:
        verdict = f"Training starts the wrong way: where policy and reference agree the chosen response loses; {often}."
        return Finding("direction", title, verdict, "bad", share, "share of pairs")
    verdict = f"The chosen response gains in {100 * share:.3g} % of random pairs; in the others it is held back."
    return Finding("direction", title, verdict, "note", share, "share of pairs")


def swap(subject: Subject, generator: np.random.Generator) -> Finding:
    """What turning a pair's label round does to the weights of its two responses."""
    title = "label turned round"
    at = generator.normal(0.0, 1.5, 12)
    straight = subject.weights(single(at - 6, -at - 6, np.full(12, -6.0), np.full(12, -6.0)))[:, :, 0]
    turned = subject.weights(single(-at - 6, at - 6, np.full(12, -6.0), np.full(12, -6.0)))[:, :, 0]
    size = max(float(np.abs(straight).max()), 1e-300)
    gap = float(np.abs(straight.sum(axis=1)).max() + np.abs(turned.sum(axis=1)).max()) / size
    if np.abs(straight - turned[:, ::-1]).max() < subject.rounding * size:
        return Finding(
            "swap", title, "Turning the label round does not change the weights: the label is ignored.", "bad", 0.0, "change"
        )
    if gap < subject.rounding:
        verdict = "Antisymmetric: what the chosen response gains the rejected one loses, whichever way the label points."
        return Finding("swap", title, verdict, "good", gap, "sum of both weights")
    verdict = f"Not antisymmetric: chosen and rejected weights add up to {gap:.3g} of the largest."
    return Finding("swap", title, verdict, "note", gap, "sum of both weights")


def reference(shape: Shape) -> Finding:
    """Does the reference matter?"""
    if shape.uses_reference:
        return Finding("reference", "reference", "Weights move with the reference's log-probabilities.", "good", 1.0, "used")
    return Finding(
        "reference", "reference", "The reference is not looked at: nothing anchors the policy to it.", "note", 0.0, "used"
    )


def length(subject: Subject, generator: np.random.Generator) -> list[Finding]:
    """What the lengths of the two responses do at the same log-probabilities."""
    logp = -generator.exponential(2.0, (4, 12)) - 0.5
    one = subject.weights(single(*logp, lengths=(4, 4)))[:, :, 0]
    double = subject.weights(single(*logp, lengths=(8, 8)))[:, :, 0]
    longer = subject.weights(single(*logp, lengths=(8, 4)))[:, :, 0]
    size = max(float(np.abs(one).max()), 1e-300)
    both, alone = float(np.abs(double - one).max() / size), float(np.abs(longer - one).max() / size)
    details = {"both_doubled": both, "chosen_doubled": alone}
    if max(both, alone) < subject.rounding:
        return [
            Finding(
                "length", "length", "Lengths are not looked at: log-probabilities are summed.", "good", 0.0, "change", details
            )
        ]
    verdict = (
        f"Lengths matter: with both doubled, at equal log-probabilities, weights change by {100 * both:.3g} %; with the "
        f"chosen one alone, by {100 * alone:.3g} %. So the optimum depends on lengths."
    )
    return [Finding("length", "length", verdict, "note", alone, "change of weights", details)]
