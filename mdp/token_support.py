r"""Which answers a policy can give: at all, with a probability that shows, and within a budget.

    supp = {y : P(y | x) > 0},    supp_e = {y : P(y | x) >= e},    feasible = {[y] : y in supp, and y costs at most B},

classes and costs being the user's: equivalent programs, tokens of prompt, policy and tools. A softmax gives every sequence a
positive probability, so supp tells two models apart only by the tokens that they may emit at all, a text model no calls.
Lin and Xu 2025, arXiv 2508.19201.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np

from . import token_policy
from .errors import ModelError
from .token import TokenProblem


def support(problem: TokenProblem, allowed: np.ndarray) -> np.ndarray:
    """supp, bool (S,), of a policy that emits exactly the tokens `allowed`, bool (N, V).

    Raises ModelError for another type or shape.
    """
    if np.shape(allowed) != (problem.n_nodes, problem.vocabulary_size) or np.asarray(allowed).dtype != np.bool_:
        raise ModelError(
            f"allowed is {np.asarray(allowed).dtype} of shape {np.shape(allowed)}; give a truth value for each token at each "
            f"node, {(problem.n_nodes, problem.vocabulary_size)}"
        )
    return np.all(np.asarray(allowed)[problem.node, problem.token] | ~problem.mask, axis=1)


def empirical_support(problem: TokenProblem, logits: np.ndarray, epsilon: float) -> np.ndarray:
    """Where P(y | x) >= epsilon, bool (S,); logits (N, V), epsilon in (0, 1]. Raises ModelError for another epsilon.

    A relative 1e-12 below epsilon counts as epsilon, for probabilities are products that round.
    """
    if not 0 < epsilon <= 1:
        raise ModelError(f"epsilon is {epsilon}; a probability that shows lies in (0, 1]")
    return token_policy.sequence_probability(problem, logits) >= epsilon * (1 - 1e-12)


def cheapest(
    problem: TokenProblem, allowed: np.ndarray, cost: np.ndarray, classes: Sequence[Hashable]
) -> dict[Hashable, float]:
    """The cost of the cheapest sequence in `support` of each class that has one; allowed (N, V), costs (S,), S classes.

    Raises ModelError for tokens, costs or classes of another shape.
    """
    possible = support(problem, allowed)
    if np.shape(cost) != possible.shape or len(classes) != len(possible):
        raise ModelError(f"there are {len(possible)} sequences, but {np.shape(cost)} costs and {len(classes)} classes")
    found: dict[Hashable, float] = {}
    for can, price, name in zip(possible, cost, classes, strict=True):
        if can:
            found[name] = min(found.get(name, np.inf), float(price))
    return found


def feasible(
    problem: TokenProblem, allowed: np.ndarray, cost: np.ndarray, classes: Sequence[Hashable], budget: float
) -> set[Hashable]:
    """The classes with a sequence in `support` that costs at most `budget`; allowed (N, V), costs (S,), S classes.

    Raises what `cheapest` raises.
    """
    return {name for name, price in cheapest(problem, allowed, cost, classes).items() if price <= budget}
