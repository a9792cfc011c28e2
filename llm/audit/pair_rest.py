r"""What a preference loss asks for: its population minimiser, found generically, against the closed forms; noise; cycles.

The minimiser over all policies is found from the loss's own slopes (quasi-Newton, then Newton), and compared with
`solvers.preference_optimum` for the loss that its curve names. On two responses, preferred with probability p, the optimal
margin m*(p) shows what the loss takes p for: logit p / beta (the Bradley-Terry reward: DPO), (2p - 1)/(2 tau) (IPO), a step
(hinge), and whether a preference without noise, p = 1, drives the margin to infinity.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import optimize
from scipy.special import logit

from ...solvers.preference_losses import CDPO, DPO, IPO, ORPO, Hinge, PreferenceLoss, RobustDPO, SimPO
from ...solvers.preference_optimum import population_optimum
from .errors import LossFailure
from .finding import Finding
from .pair_shape import Shape
from .pairs import Population, margin_slopes, population_slope, population_value
from .subject import DOUBLE, Array, Subject

FAR = 60.0
"""Scores beyond which a minimiser is taken to be at infinity, for a loss that bends within a nat."""


@dataclass(frozen=True)
class Minimiser:
    """Where the population loss is stationary: scores (n,) of mean zero, status "found", "unbounded" or "not smooth"."""

    score: Array
    status: str
    residual: float

    @property
    def policy(self) -> Array:
        """softmax of the scores, (n,)."""
        return np.exp(self.score - np.logaddexp.reduce(self.score))


def minimiser(subject: Subject, population: Population) -> Minimiser:
    """A minimiser of the population loss from the reference on. Raises LossFailure."""
    options = {"maxfev": 100} | (
        {} if subject.rounding == DOUBLE else {"eps": subject.rounding}
    )  # differences over a step above the noise

    def slope(free: Array) -> Array:
        return population_slope(subject, population, np.append(free, 0.0))[:-1]

    start = np.log(population.reference / population.reference[-1])[:-1]
    size = max(float(np.abs(slope(start)).max()), 1e-300)
    best = (float("inf"), start)
    nat, died = max(1.0, _length(slope, start, size)), False
    for far in (FAR, FAR * nat):
        for guess in (start, np.zeros_like(start)):
            found = optimize.root(slope, guess, tol=1e-13, options=options)
            miss = float(np.abs(slope(found.x)).max()) / size
            turns = _turns(slope, found.x, nat, size)
            died |= not turns and miss < 1e-8
            if np.isfinite(miss) and turns and np.abs(found.x).max() < far and miss < best[0]:
                best = (miss, found.x)
            if best[0] < 1e-9:
                break
        miss, point = best
        score = np.append(point, 0.0)
        if miss < max(1e-8, subject.rounding):
            return Minimiser(score - score.mean(), "found", miss)
    point, _ = _descend(slope, start)
    score = np.append(point, 0.0)
    status = "unbounded" if died or np.abs(score - score.mean()).max() > FAR / 2 else "not smooth"
    return Minimiser(score - score.mean(), status, float(np.abs(slope(point)).max()) / size)


def _length(slope: Callable[[Array], Array], start: Array, size: float) -> float:
    """How many nats down the slope change it by a tenth, at most 1000: what a loss of small beta counts as one step."""
    way, length = -slope(start) / size, 1.0
    while length < 1000 and np.abs(slope(start + length * way) - slope(start)).max() < 0.1 * size:
        length *= 2
    return length


def _turns(slope: Callable[[Array], Array], point: Array, nat: float, size: float) -> bool:
    """Whether the loss rises to both sides of a point along every coordinate, and is not a tail that has died away."""
    rise = [(slope(point + nat * e) - slope(point - nat * e))[i] for i, e in enumerate(np.eye(len(point)))]
    return bool(np.isfinite(rise).all() and min(rise) > 1e-6 * size)


def _descend(slope: Callable[[Array], Array], start: Array) -> tuple[Array, int]:
    """Steps of the slope's sign-normalised direction, shrinking where it turns."""
    point, step, before = start.copy(), 1.0, None
    for k in range(100):
        here = slope(point)
        size = np.abs(here).max()
        if size == 0 or np.abs(point).max() > 2 * FAR:
            return point, k
        step = step * 1.3 if before is not None and here @ before > 0 else step * 0.5
        point, before = point - step * here / size, here
    return point, 100


def optimum(subject: Subject, shape: Shape, population: Population) -> list[Finding]:
    """The minimiser against the closed form of the loss that the curve names. Raises LossFailure."""
    title = "which optimum its minimiser is"
    if shape.name == "hinge":
        return [_linear_program(subject, shape, population)]
    found = minimiser(subject, population)
    policy = found.policy
    details = {"policy": policy, "status": found.status, "reference": population.reference, "matrix": population.oracle.matrix}
    if found.status == "unbounded":
        verdict = "There is no minimiser on this population: scores run away without end."
        return [Finding("optimum", title, verdict, "bad", float(np.abs(found.score).max()), "largest score", details)]
    if found.status == "not smooth":
        verdict = (
            f"No stationary point: the loss has kinks or flats (slope at the end {found.residual:.1e} of the reference's)."
        )
        return [Finding("optimum", title, verdict, "note", found.residual, "relative slope", details)]
    named = _closed_form(shape)
    findings = []
    if named is not None:
        base = population.reference if shape.uses_reference else np.full(len(policy), 1 / len(policy))
        lengths = np.ones(len(policy)) if isinstance(named, SimPO) else None
        answer = population_optimum(population.oracle, population.weights, base, named, lengths)
        closed = answer.policies[0] if len(answer.policies) else np.full(len(policy), np.nan)
        distance = float(np.abs(closed - policy).sum() / 2)
        details |= {"closed_form": closed, "distance": distance}
        which = _IN_WORDS[type(named)]
        if distance < max(1e-5, 10 * subject.rounding):
            verdict = f"{which} (total variation {distance:.1e})."
            findings.append(Finding("optimum", title, verdict, "good", distance, "total variation", details))
        else:
            verdict = f"Not {which[0].lower()}{which[1:]}, as its curve would have it: {distance:.3g} away in total variation."
            findings.append(Finding("optimum", title, verdict, "bad", distance, "total variation", details))
    else:
        ranking = _nearest(found.score, population)
        name = min(ranking, key=lambda key: ranking[key])
        exact = ranking[name] < max(1e-6, subject.rounding)
        verdict = f"{'Exactly' if exact else 'None of the known; the nearest is'} {name} (misfit {ranking[name]:.2g})."
        findings.append(Finding("optimum", title, verdict, "note", ranking[name], "misfit", details | {"misfit": ranking}))
    return [*findings, _exploitability(population, policy)]


def _linear_program(subject: Subject, shape: Shape, population: Population) -> Finding:
    """Whether the linear program's solutions for the hinge of that beta minimise the audited loss, against random policies."""
    base = population.reference if shape.uses_reference else np.full(len(population.reference), 1 / len(population.reference))
    answer = population_optimum(population.oracle, population.weights, base, Hinge(**shape.parameters))
    values = [population_value(subject, population, np.log(policy)) for policy in answer.policies]
    generator = np.random.default_rng(0)
    others = []
    for policy in answer.policies:
        for spread in (1e-3, 0.1, 1.0):
            nearby = np.log(policy) + spread * generator.normal(size=(8, len(policy)))
            others += [population_value(subject, population, score) for score in nearby]
    short = max(max(values) - min(others), float(np.ptp(values)))
    several = len(answer.policies) > 1
    unique = "one of several minimisers, so the strength of a preference is lost" if several else "the only minimiser"
    title, details = "which optimum its minimiser is", {"policies": answer.policies, "status": str(answer.status)}
    if short < subject.rounding:
        verdict = f"A vertex of the hinge's linear program, {unique}; no policy near or far does better."
        return Finding("optimum", title, verdict, "note", short, "value lost to other policies", details)
    verdict = f"Not the linear program of the hinge, as its curve would have it: other policies are better by {short:.2g}."
    return Finding("optimum", title, verdict, "bad", short, "value lost to other policies", details)


_IN_WORDS = {
    DPO: "The KL-regularised optimum of the Bradley-Terry reward fitted to the labels, reference times e^{r/beta}",
    CDPO: "The KL-regularised optimum of the Bradley-Terry reward fitted to labels flipped at the loss's rate",
    RobustDPO: "The KL-regularised optimum of the Bradley-Terry reward of the labels with the flips taken out",
    IPO: "The optimum of IPO, the solution of the Laplacian system of preferences themselves",
    SimPO: "The optimum of SimPO for responses of one length",
}


def _closed_form(shape: Shape) -> PreferenceLoss | None:
    """The solver's loss of that name and those parameters."""
    kinds = {"DPO": DPO, "cDPO": CDPO, "robust DPO": RobustDPO, "IPO": IPO, "SimPO": SimPO}
    return kinds[shape.name](**shape.parameters) if shape.name in kinds else None


def _nearest(score: Array, population: Population) -> dict[str, float]:
    """How far the scores, over the reference or alone, are from multiples of the fitted reward and of IPO's scores."""
    n, found = len(score), {}
    uniform = np.full(n, 1 / n)
    for base, name in ((population.reference, "over the reference"), (uniform, "without a reference")):
        own = score - np.log(base)
        own = own - own.mean()
        for loss, what in ((DPO(1.0), "a multiple of the Bradley-Terry reward"), (IPO(1.0), "a multiple of IPO's scores")):
            shape = np.log(population_optimum(population.oracle, population.weights, base, loss).policy / base)
            shape = shape - shape.mean()
            scale = own @ shape / max(shape @ shape, 1e-300)
            sign = "" if scale > 0 else ", the wrong way round"
            found[f"{what} {name}{sign}"] = float(np.linalg.norm(own - scale * shape) / max(np.linalg.norm(own), 1e-300))
    weight = optimize.minimize_scalar(lambda log: _orpo_distance(score, population, log), bounds=(-6, 4), method="bounded")
    found[f"the optimum of ORPO of weight {np.exp(weight.x):.4g}"] = _orpo_distance(score, population, float(weight.x))
    return found


def _orpo_distance(score: Array, population: Population, log_weight: float) -> float:
    """Total variation from ORPO's optimum of weight e^log_weight."""
    answer = population_optimum(population.oracle, population.weights, population.reference, ORPO(float(np.exp(log_weight))))
    own = np.exp(score - np.logaddexp.reduce(score))
    return min((float(np.abs(policy - own).sum() / 2) for policy in answer.policies), default=1.0)


def _exploitability(population: Population, policy: Array) -> Finding:
    """How far another response beats the minimiser, with preferences that go round in a circle."""
    win, start = population.oracle.win_rate(policy), population.oracle.win_rate(population.reference)
    gap, before = float(win.max() - 0.5), float(start.max() - 0.5)
    cycle = (
        "Preferences here go round in a circle" if _has_cycle(population.oracle.matrix) else "Preferences here have no cycle"
    )
    verdict = (
        f"{cycle}; the minimiser can be beaten with probability {0.5 + gap:.3f} by a single response "
        f"(the reference with {0.5 + before:.3f}; a Nash policy with 0.5)."
    )
    return Finding("intransitivity", "intransitive preferences", verdict, "note", gap, "exploitability", {"reference": before})


def _has_cycle(matrix: Array) -> bool:
    """Whether some three responses beat one another in a circle; a tournament with any cycle has one of three."""
    beats = matrix > 0.5
    return bool(np.trace(np.linalg.matrix_power(beats.astype(np.int64), 3)) > 0)


_GRID = np.linspace(-20.0, 200.0, 221)
PROBABILITIES = np.array([0.55, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0])


def noise(subject: Subject) -> Finding:
    """The margin at which two responses come to rest as the preference between them loses its noise. Raises LossFailure."""
    title = "noise, and preferences without any"
    grid = _GRID
    try:
        slopes = margin_slopes(subject, grid)
    except LossFailure:  # a loss of odds may refuse a probability that is one in float64
        grid = _GRID[_GRID <= 30]
        slopes = margin_slopes(subject, grid)
    margins = np.array([_rest_margin(subject, float(p), grid, *slopes) for p in PROBABILITIES])
    details: dict[str, Any] = {"probability": PROBABILITIES, "margin": margins}
    inner, finite = margins[:-1], np.isfinite(margins)
    told = ""
    if np.isfinite(inner).all() and np.abs(inner).max() > 0:
        shapes = {"logit p": logit(PROBABILITIES[:-1]), "2p - 1": 2 * PROBABILITIES[:-1] - 1, "a step": np.ones(7)}
        misfit = {name: _misfit(inner, curve) for name, curve in shapes.items()}
        name = min(misfit, key=lambda key: misfit[key])
        if misfit[name] < 1e-4:
            scale = inner @ shapes[name] / (shapes[name] @ shapes[name])
            told = f"The optimal margin is {scale:.5g} times {name}. "
            details["law"] = {"name": name, "scale": float(scale)}
    if margins[-1] <= 0:
        where = "runs to minus infinity" if np.isinf(margins[-1]) else f"comes to rest at {margins[-1]:.5g} nats"
        verdict = f"{told}The rejected response is favoured: the margin of a preference without noise {where}."
        return Finding("noise", title, verdict, "bad", float(margins[-1]), "margin at p = 1", details)
    if not finite[-1]:
        verdict = f"{told}A preference without noise drives the margin to infinity: no coefficient holds it."
        return Finding("noise", title, verdict, "note", float("inf"), "margin at p = 1", details)
    verdict = f"{told}A preference without noise asks for a finite margin, {margins[-1]:.5g} nats."
    return Finding("noise", title, verdict, "good", float(margins[-1]), "margin at p = 1", details)


def _rest_margin(subject: Subject, share: float, grid: Array, won: Array, lost: Array) -> float:
    """The margin at which the two-response loss comes to rest when followed from zero, infinite where it falls for ever.

    won, lost: slopes (K,) on the grid (K,), which holds zero, of a label for the first and for the second response.
    """
    slope = share * won + (1 - share) * lost if share < 1 else won
    start = int(np.searchsorted(grid, 0.0))
    way = -1 if slope[start] > 0 else 1
    path, margins = way * slope[start::way], grid[start::way]
    halts = np.flatnonzero(~(path < 0))
    if not len(halts) or np.isnan(path[halts[0]]):
        return way * float("inf")
    k = int(halts[0])
    if k == 0:
        return 0.0
    if path[k] == 0 and abs(path[k - 1]) < 1e-3 * subject.rounding * np.nanmax(np.abs(slope)):
        return way * float("inf")  # an exponential tail that underflowed
    falling, halting = float(margins[k - 1]), float(margins[k])
    for _ in range(46):
        middle = (falling + halting) / 2
        one, other = (float(part[0]) for part in margin_slopes(subject, np.array([middle])))
        falls = way * (share * one + (1 - share) * other if share < 1 else one) < 0
        falling, halting = (middle, halting) if falls else (falling, middle)
    return (falling + halting) / 2


def _misfit(values: Array, shape: Array) -> float:
    scale = values @ shape / (shape @ shape)
    return float(np.linalg.norm(values - scale * shape) / np.linalg.norm(values))
