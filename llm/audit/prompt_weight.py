r"""The weight a loss implies for a prompt, as a function of the prompt's success rate.

Rewards 0 and 1, answers of one length, A_s(k) and A_f(k) the weight of a right and of a wrong answer in a group with k of G
right. As E[grad log pi(y) | right] = grad p / p and E[grad log pi(y) | wrong] = -grad p / (1-p), a group's expected gradient is

    w(p) grad p,     w(p) = sum_{j<G} C(G-1, j) p^j (1-p)^{G-1-j} c_j,     c_j = G (A_s(j+1) - A_f(j)),

a Bernstein polynomial whose coefficients are read off 2G weights of the loss. Whatever the advantage, the loss ascends
sum_q rho_q F(p_q) with F' = w: constant for J; 1 / sqrt(p (1-p)) for 2 arcsin sqrt p; 1/p for log p. In large groups w(j/G)
tends to c_j, where those shapes are looked for.
"""

from __future__ import annotations

from math import comb

import numpy as np

from .errors import LossFailure
from .finding import Finding
from .subject import Array, Batches, Subject

SIZES = (8, 64)
"""Group sizes at which the curve is drawn beside that of the audit."""

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


def bernstein_coefficients(subject: Subject, group_size: int, horizon: int) -> Array:
    """c_j, shape (group_size,), from one call of the loss for each number of right answers; zero where all is rounding.

    Raises LossFailure.
    """
    right = np.arange(group_size + 1)[:, None] > np.arange(group_size)
    logp = np.full((group_size + 1, group_size, horizon), -1.0)
    mask = np.ones(logp.shape, dtype=bool)
    batches = Batches(logp, logp, logp, mask, right.astype(float), np.zeros(group_size, dtype=np.int64))
    weight = np.nan_to_num(subject.weights(batches)[:, :, 0])
    counts = np.arange(group_size + 1)
    right_weight = (weight * right).sum(axis=1) / np.maximum(counts, 1)
    wrong_weight = (weight * ~right).sum(axis=1) / np.maximum(group_size - counts, 1)
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
    grid = np.linspace(0.01, 0.99, 99)
    curves, coefficients = {}, {}
    for size in sorted({group_size, *SIZES} - {1}):
        try:
            coefficients[size] = bernstein_coefficients(subject, size, horizon)
        except LossFailure as failure:
            verdict = f"Groups of {size} answers cannot be evaluated: {failure}."
            return Finding("prompt_weight", title, verdict, "bad")
        curves[size] = implied_weight(coefficients[size], grid)
    largest = max(curves)
    found = coefficients[largest]
    if not np.abs(found).max():
        return Finding("prompt_weight", title, "Success and failure get the same weight: no prompt teaches anything.", "bad")
    at = (np.arange(largest) + 0.5) / largest
    inner = (at > 0.1) & (at < 0.9)
    residuals = {name: _misfit(found[inner], shape(at[inner])) for name, shape in _SHAPES.items()}
    name = min(residuals, key=lambda key: residuals[key])
    details = {
        "p": grid,
        "weight": {str(size): curve / (np.abs(curve).max() or 1.0) for size, curve in curves.items()},
        "residual": residuals,
        "coefficients": {str(size): values for size, values in coefficients.items()},
    }
    spread = {size: float(np.ptp(values) / np.abs(values).max()) for size, values in coefficients.items() if values.any()}
    exact = [str(size) for size, width in spread.items() if width < max(1e-6, subject.rounding)]
    small = (
        f" With groups of {' and '.join(exact)} the weight is constant: exactly J."
        if exact and len(exact) < len(coefficients)
        else ""
    )
    if residuals[name] < 0.02:
        verdict = f"In large groups a prompt of success rate p gets the weight {name} (misfit {residuals[name]:.1e}).{small}"
    else:
        verdict = f"No known weighting; the nearest is {name} (misfit {100 * residuals[name]:.2g} %).{small}"
    if found.mean() < 0:
        verdict = f"Wrong answers are reinforced: the weight is negative. {verdict}"
    grade = "bad" if found.mean() < 0 else "good" if name.startswith("1: ") and residuals[name] < 0.02 else "note"
    return Finding("prompt_weight", title, verdict, grade, residuals[name], f"misfit in groups of {largest}", details)


def _misfit(values: Array, shape: Array) -> float:
    scale = values @ shape / (shape @ shape)
    return float(np.linalg.norm(values - scale * shape) / np.linalg.norm(values))
