r"""Which answers a policy can give: with a probability that shows, and within a budget.

    supp_e = {y : P(y | x) >= e},        feasible classes = {[y] : P(y | x) > 0 for some y of the class that costs at most B},

classes and costs being the user's: equivalent programs, tokens of prompt, policy and tools. A class is feasible at B exactly
from the cost of its cheapest member that the policy can write. Lin and Xu 2025, arXiv 2508.19201.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np

from . import token_policy
from .errors import ModelError
from .token import TokenProblem


def empirical_support(problem: TokenProblem, logits: np.ndarray, epsilon: float) -> np.ndarray:
    """Where P(y | x) >= epsilon, bool (S,); logits (N, V), epsilon in (0, 1]. Raises ModelError for another epsilon.

    A relative 1e-12 below epsilon counts as epsilon, for probabilities are products that round.
    """
    if not 0 < epsilon <= 1:
        raise ModelError(f"epsilon is {epsilon}; a probability that shows lies in (0, 1]")
    return token_policy.sequence_probability(problem, logits) >= epsilon * (1 - 1e-12)


def cheapest(problem: TokenProblem, logits: np.ndarray, cost: np.ndarray, classes: Sequence[Hashable]) -> dict[Hashable, float]:
    """The cost of the cheapest sequence of positive probability of each class, for logits (N, V), costs (S,) and S classes.

    Raises ModelError for costs or classes of another length.
    """
    chance = token_policy.sequence_probability(problem, logits)
    if np.shape(cost) != chance.shape or len(classes) != len(chance):
        raise ModelError(f"there are {len(chance)} sequences, but {np.shape(cost)} costs and {len(classes)} classes")
    found: dict[Hashable, float] = {}
    for p, price, name in zip(chance, cost, classes, strict=True):
        if p > 0:
            found[name] = min(found.get(name, np.inf), float(price))
    return found
