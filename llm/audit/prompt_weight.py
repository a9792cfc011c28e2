r"""The weight a loss implies for a prompt, as a function of the prompt's success rate.

Rewards 0 and 1, answers of one length, A_s(k) and A_f(k) the weight of a right and of a wrong answer in a group with k of G
right. As E[grad log pi(y) | right] = grad p / p and E[grad log pi(y) | wrong] = -grad p / (1-p), a group's expected gradient is

    w(p) grad p,     w(p) = sum_{j<G} C(G-1, j) p^j (1-p)^{G-1-j} c_j,     c_j = G (A_s(j+1) - A_f(j)),

a Bernstein polynomial whose coefficients are read off 2G weights of the loss. Whatever the advantage, the loss ascends
sum_q rho_q F(p_q) with F' = w: constant for J; 1 / sqrt(p (1-p)) for 2 arcsin sqrt p; 1/p for log p. In large groups w(j/G)
tends to c_j, where those shapes are looked for.

That is a batch of one prompt. Where a loss takes a statistic over the batch, its deviation say, the c_j beside other groups
are no multiple of those alone; then they are read off beside groups with none to all answers right, so many that one prompt has
little hand in the statistic, and what a prompt weighs alone is told as well.
"""

from __future__ import annotations

from math import comb

import numpy as np

from .errors import LossFailure
from .finding import Finding
from .subject import Array, Batches, Subject

SIZES = (8, 64)
"""Group sizes at which the curve is drawn beside that of the audit."""

OTHERS = 31
"""Prompts beside which a prompt is weighed where those of a batch act on each other."""

_GRID = np.linspace(0.01, 0.99, 99)

_SHAPES = {
    "1: every prompt alike, F(p) = p": np.ones_like,
    "1/sqrt(p(1-p)): hard and solved prompts most, F(p) = 2 arcsin sqrt p": lambda p: 1 / np.sqrt(p * (1 - p)),
    "1/p: hard prompts most, F(p) = log p": lambda p: 1 / p,
    "1/(1-p): solved prompts most, F(p) = -log(1-p)": lambda p: 1 / (1 - p),
    "1/(p(1-p)): F(p) = logit p": lambda p: 1 / (p * (1 - p)),
    "p(1-p): middling prompts most": lambda p: p * (1 - p),
    "p: solved prompts most, F(p) = p^2 / 2": lambda p: p,
    "1-p: hard prompts most, F(p) = -(1-p)^2 / 2": lambda p: 1 - p,
    "sqrt(p(1-p)): middling prompts most": lambda p: np.sqrt(p * (1 - p)),
}


def bernstein_coefficients(subject: Subject, group_size: int, horizon: int, beside: Array | None = None) -> Array:
    """c_j, shape (group_size,), from one call of the loss for each number of right answers; zero where all is rounding.

    beside: right answers of further groups in the batch, (groups, group_size) of bool. Raises LossFailure.
    """
    own = _first_right(np.arange(group_size + 1), group_size)
    others = own[:0] if beside is None else beside
    right = np.concatenate([own, np.broadcast_to(others.reshape(-1), (group_size + 1, others.size))], axis=1)
    logp = np.full((*right.shape, horizon), -1.0)
    mask = np.ones(logp.shape, dtype=bool)
    batches = Batches(logp, logp, logp, mask, right.astype(float), np.repeat(np.arange(len(others) + 1), group_size))
    if beside is None:
        weight = subject.weights(batches)
    else:  # one by one, for large batches stacked can be more than memory holds
        weight = np.stack([subject.evaluate(batches, k)[1] for k in range(len(batches))])
    weight = np.nan_to_num(weight[:, :group_size, 0])
    counts = np.arange(group_size + 1)
    right_weight = (weight * own).sum(axis=1) / np.maximum(counts, 1)
    wrong_weight = (weight * ~own).sum(axis=1) / np.maximum(group_size - counts, 1)
    found = group_size * (right_weight[1:] - wrong_weight[:-1])
    found[np.abs(found) <= group_size * subject.rounding * np.abs(weight).max(initial=0.0)] = 0.0
    return found


def implied_weight(coefficients: Array, p: Array) -> Array:
    """w at success rates p of any shape, from coefficients (G,)."""
    n = len(coefficients) - 1
    powers = [comb(n, j) * p**j * (1 - p) ** (n - j) * c for j, c in enumerate(coefficients)]
    return np.sum(powers, axis=0)


def prompt_weight(subject: Subject, group_size: int, horizon: int) -> Finding:
    """The curve w(p) at the audit's group size and at SIZES, and the shape that large groups tend to."""
    title = "weight of a prompt by its success rate"
    sizes = sorted({group_size, *SIZES} - {1})
    coefficients = {}
    for size in sizes:
        try:
            coefficients[size] = bernstein_coefficients(subject, size, horizon)
        except LossFailure as failure:
            verdict = f"Groups of {size} answers cannot be evaluated: {failure}."
            return Finding("prompt_weight", title, verdict, "bad")
    largest = max(sizes)
    if not np.abs(coefficients[largest]).max():
        return Finding("prompt_weight", title, "Success and failure get the same weight: no prompt teaches anything.", "bad")
    alone, coefficients = coefficients, _beside_others(subject, coefficients, horizon) or coefficients
    found, coupled = coefficients[largest], coefficients is not alone
    name, residuals = _nearest_shape(found)
    details = {
        "p": _GRID,
        "weight": _curves(coefficients),
        "residual": residuals,
        "coefficients": {str(size): values for size, values in coefficients.items()},
    }
    spread = {size: float(np.ptp(values) / np.abs(values).max()) for size, values in coefficients.items() if values.any()}
    exact = [str(size) for size, width in spread.items() if width < max(1e-6, subject.rounding)]
    small = (
        f" With groups of {' and '.join(exact)} the weight is constant: exactly J."
        if exact and len(exact) < len(coefficients) and not coupled
        else ""
    )
    where = f"Beside {OTHERS} prompts of all success rates, in large groups," if coupled else "In large groups"
    if residuals[name] < 0.02:
        verdict = f"{where} a prompt of success rate p gets the weight {name} (misfit {residuals[name]:.1e}).{small}"
    else:
        verdict = f"No known weighting; the nearest is {name} (misfit {100 * residuals[name]:.2g} %).{small}"
    if coupled:
        single, misfits = _nearest_shape(alone[largest])
        details["alone"] = _curves(alone)
        verdict = f"The prompts of a batch act on each other. {verdict} Alone in its batch: {single} "
        verdict += f"(misfit {misfits[single]:.1e})."
    if found.mean() < 0:
        verdict = f"Wrong answers are reinforced: the weight is negative. {verdict}"
    plain = name.startswith("1: ") and residuals[name] < 0.02 and not coupled
    grade = "bad" if found.mean() < 0 else "good" if plain else "note"
    return Finding("prompt_weight", title, verdict, grade, residuals[name], f"misfit in groups of {largest}", details)


def _first_right(counts: Array, size: int) -> Array:
    """Groups with so many right answers, (groups, size) of bool."""
    return counts[:, None] > np.arange(size)


def _beside_others(subject: Subject, alone: dict[int, Array], horizon: int) -> dict[int, Array] | None:
    """The coefficients beside OTHERS groups with none to all answers right. None where they are a multiple of those alone,
    where the loss takes no such batch, and where the order of the others' answers matters: these say nothing of random ones.
    """
    others = {size: _first_right(np.round(np.linspace(0, size, OTHERS)), size) for size in alone}
    size, allowed = SIZES[0], max(1e-6, 10 * subject.rounding)
    try:
        beside = bernstein_coefficients(subject, size, horizon, others[size])
        if not (beside.any() and alone[size].any()) or _misfit(beside, alone[size]) < allowed:
            return None
        turned = bernstein_coefficients(subject, size, horizon, others[size][:, ::-1])
        if np.abs(turned - beside).max() > allowed * np.abs(beside).max():
            return None
        return {size: bernstein_coefficients(subject, size, horizon, right) for size, right in others.items()}
    except LossFailure:
        return None


def _curves(coefficients: dict[int, Array]) -> dict[str, Array]:
    """w on the grid for each size, 1 at its largest."""
    curves = {size: implied_weight(values, _GRID) for size, values in coefficients.items()}
    return {str(size): curve / (np.abs(curve).max() or 1.0) for size, curve in curves.items()}


def _nearest_shape(coefficients: Array) -> tuple[str, dict[str, float]]:
    """The known shape nearest to the coefficients of a large group, and the misfit of every shape."""
    at = (np.arange(len(coefficients)) + 0.5) / len(coefficients)
    inner = (at > 0.1) & (at < 0.9)
    residuals = {name: _misfit(coefficients[inner], shape(at[inner])) for name, shape in _SHAPES.items()}
    return min(residuals, key=lambda key: residuals[key]), residuals


def _misfit(values: Array, shape: Array) -> float:
    scale = values @ shape / (shape @ shape) if shape.any() else 0.0
    return float(np.linalg.norm(values - scale * shape) / np.linalg.norm(values))
