r"""What regressing log-ratios on advantages promises, state by state.

q the reference at a node, A its advantages, nu the exploration, b the temperature, u+ = log pi+/q the regression's optimum with
multiplier l (see `banach.solvers.direct_advantage`), I(pi) = E_pi[A - b log pi/q] the regularised improvement.

IMPROVES      nu (A/b - u+) = l pi+ gives I(pi+) = b sum pi+ (A/b - u+) = b l sum pi+^2/nu.
TILTED_BEST   q e^(A/b)/Z maximises I, with value b log Z.
ORDER         nu = q and a critic's A' in place of A: w = pi+/q has log w + l w = A'/b, so it increases with A', its slope at
              least x/(b (1 + l x)), x = min w. Where A and A' put no two steps in opposite orders, the pairs of
              E_{pi+} A = 1/2 sum_ij q_i q_j (w_i - w_j)(A_i - A_j) are at least that times those of Cov_q(A', A).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import sympy
from scipy.special import rel_entr

from ..solvers.direct_advantage import exploratory_optimum
from .bound import Measurement
from .drawing import drawn_verifiable_problems
from .number import approximate
from .rlvr_group import of_tokens
from .token_evidence import tokens

b, l, s, z, x, c = sympy.symbols("beta lambda s Z x c", nonnegative=True)  # noqa: E741 - the multiplier

TEMPERATURES = (0.1, 0.5, 2.0)

CRITICS = {"exact": lambda A: A, "saturated": lambda A: np.tanh(4 * A), "exaggerated": lambda A: 5 * A + A**3}
"""Wrong critics that keep the order of the steps."""


def _optima(evidence: Any) -> Iterator[tuple[dict[str, Any], np.ndarray, np.ndarray, float, np.ndarray, np.ndarray, float]]:
    """At some nodes: what was varied, q, A, b, nu, pi+ and l."""
    problem = tokens(evidence, "the regression")
    for name, policy, other in problem.pairs():
        advantage = problem.advantages(policy)
        for node in range(min(problem.n_nodes, 3)):
            q, nu = (np.array([approximate(p) for p in table[node]]) for table in (policy, other))
            A = np.array([approximate(x) for x in advantage[node]])
            for temperature in TEMPERATURES:
                pi, multiplier = exploratory_optimum(q, A - q @ A, temperature, nu)
                yield {"policies": name, "node": node, "temperature": temperature}, q, A, temperature, nu, pi, multiplier


def _improves(evidence: Any) -> Iterator[Measurement]:
    for parameters, q, A, temperature, nu, pi, multiplier in _optima(evidence):
        found = _improvement(q, A, temperature, pi)
        yield Measurement(_clean(found), {b: temperature, l: multiplier, s: float((pi**2 / nu).sum())}, parameters)


def _tilted(evidence: Any) -> Iterator[Measurement]:
    for parameters, q, A, temperature, _, pi, _ in _optima(evidence):
        found = _improvement(q, A, temperature, pi)
        total = float((q * np.exp(A / temperature)).sum())
        yield Measurement(_clean(found), {b: temperature, z: max(total, 1.0)}, parameters)


def _order(evidence: Any) -> Iterator[Measurement]:
    for parameters, q, A, temperature, _, _, _ in _optima(evidence):
        true = A - q @ A
        for name, distort in CRITICS.items():
            believed = distort(true)
            believed = believed - q @ believed
            pi, multiplier = exploratory_optimum(q, believed, temperature, q)
            values = {
                b: temperature,
                l: multiplier,
                x: float((pi / q).min()),
                c: max(_clean(float(q @ (believed * true))), 0.0),
            }
            yield Measurement(_clean(float(pi @ true)), values, parameters | {"critic": name})


def _improvement(q: np.ndarray, A: np.ndarray, temperature: float, pi: np.ndarray) -> float:
    """I(pi); a probability that rounds to 0 adds nothing."""
    return float(pi @ A - temperature * rel_entr(pi, q).sum())


def _clean(number: float) -> float:
    """A rounding residue is no improvement."""
    return 0.0 if abs(number) < 1e-13 else number


IMPROVES = of_tokens(
    "regressing log-ratios improves the regularised value by a known amount",
    r"I(\pi^+)",
    b * l * s,
    {b: "temperature", l: "multiplier", s: "sum of squared probabilities over exploration"},
    _improves,
    "of Liu et al. 2024, arXiv 2412.18279, theorem 3.2; the amount is proved here",
    sense="equal to",
    assumes="exact advantages, exploration of every step",
    drawn=drawn_verifiable_problems,
)

TILTED_BEST = of_tokens(
    "the tilted policy improves the regularised value more than the regression",
    r"I(\pi^+)",
    b * sympy.log(z),
    {b: "temperature", z: "mean of e^(A/b) under the reference"},
    _tilted,
    "Donsker and Varadhan 1975; of Liu et al. 2024, arXiv 2412.18279",
    assumes="exact advantages, exploration of every step",
    drawn=drawn_verifiable_problems,
)

ORDER = of_tokens(
    "a critic that keeps the order raises the reward where steps are explored as the reference takes them",
    r"\mathbb{E}_{\pi^+} A",
    x * c / (b * (1 + l * x)),
    {
        b: "temperature",
        l: "multiplier",
        x: "smallest ratio to the reference",
        c: "covariance of advantages and the critic's under the reference",
    },
    _order,
    "of Liu et al. 2024, arXiv 2412.18279; proved here",
    sense="at least",
    assumes="exploration by the reference, a critic that puts no two steps in the wrong order",
    drawn=drawn_verifiable_problems,
)

CATALOGUE = (IMPROVES, TILTED_BEST, ORDER)
