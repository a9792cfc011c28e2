r"""What can be known of a problem, in numbers that say how well they are known.

A bound's measurement is written once, against `Evidence`, and runs in two arithmetics:

    `RationalEvidence`   small models; every number is a rational, v* solves its linear system exactly, ties are ties;
    `EnclosedEvidence`   large models; vectors are pairs of float vectors that enclose, v* is the bracket of a certificate that
                         `banach.solvers.check` has accepted, and what is read off a vector is a ball.

Vectors are opaque: they add and subtract, and are read by `sup`, `span`, `largest` and `least`. Theorems speak of
probabilities, so rational evidence takes a row's floats as weights and divides by their exact sum; enclosed evidence takes
them as stored, as certificates do. The problem is turned into a maximisation first.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from ..mdp.criterion import AverageReward, Discounted
from ..mdp.model import MDP
from ..mdp.preference import PreferenceGame
from ..mdp.token import TokenProblem
from .enclosed import EnclosedEvidence
from .gains import GainEvidence
from .number import Number
from .preference_evidence import PreferenceEvidence
from .rational import RationalEvidence
from .token_evidence import TokenEvidence

SMALL = (20, 64)
"""States and transitions up to which rational arithmetic is no slower than brackets."""


class Evidence(Protocol):
    """A problem, and the vectors, policies and numbers that measurements need of it. n states, m pairs."""

    @property
    def problem(self) -> MDP:
        """The problem, as a maximisation."""
        ...

    @property
    def discount(self) -> Number:
        """The discount, exactly."""
        ...

    def zero(self) -> Any:
        """The vector that is zero, and the terminal value in terminal states."""
        ...

    def middle(self, value: Any) -> Any:
        """One vector without width: `value` where it is known exactly, else the middle of its bracket."""
        ...

    def moved(self, value: Any, direction: np.ndarray, step: Number = 1) -> Any:
        """value + step * direction, except in terminal states; `value` without width, direction float64 (n,)."""
        ...

    def apply(self, value: Any) -> Any:
        """T value."""
        ...

    def sweep(self, value: Any) -> Any:
        """One Gauss-Seidel sweep of T in the order of the states, self-loops solved."""
        ...

    def apply_policy(self, policy: np.ndarray, value: Any) -> Any:
        """T_policy value; policy int32 (n,)."""
        ...

    def greedy(self, value: Any) -> np.ndarray:
        """A greedy policy of value, int32 (n,); of several, where ties are exact, the one that is worst at v*."""
        ...

    def optimal(self) -> Any:
        """v*."""
        ...

    def policy_value(self, policy: np.ndarray) -> Any:
        """v_policy; policy int32 (n,)."""
        ...

    def howard(self) -> list[np.ndarray]:
        """Policies of Howard's iteration from the first actions to the first optimal policy, each int32 (n,)."""
        ...

    def simplex(self) -> Number:
        """Switches of one action of largest advantage each, from the first actions, until the policy is optimal."""
        ...

    def restricted(self, policy: np.ndarray) -> Evidence:
        """The same for the problem with the policy's actions only; policy int32 (n,)."""
        ...

    def like(self, problem: MDP) -> Evidence:
        """The same kind of evidence for another problem."""
        ...

    def distance(self, other: Any) -> tuple[Number, Number]:
        """Largest |r - r'| and largest total variation between the rows of two problems with the same pairs."""
        ...

    def mixing(self) -> Number:
        """Dobrushin's coefficient of all rows: the largest total variation between two of them; one with terminal states."""
        ...

    def mean(self, value: Any) -> Number:
        """Mean of value over the initial distribution, uniform when there is none."""
        ...

    def discounted_mean(self, policy: np.ndarray, value: Any) -> Number:
        """Mean of value (n_states,), 0 where terminal, over (1-g) sum_t g^t P_policy(s_t = s) from the initial distribution."""
        ...

    def reward_size(self) -> Number:
        """Largest |r|; a terminal value c counts as (1-g)|c|, what a loop worth c pays a step."""
        ...

    def sup(self, value: Any) -> Number:
        """Largest absolute entry."""
        ...

    def span(self, value: Any) -> Number:
        """Largest entry less the smallest."""
        ...

    def largest(self, value: Any) -> Number:
        """Largest entry."""
        ...

    def least(self, value: Any) -> Number:
        """Smallest entry."""
        ...


def evidence_of(problem: MDP | PreferenceGame | TokenProblem) -> Any:
    """Rational evidence for a small problem, enclosed evidence for a large one, the gains for average reward, balls for games,
    rationals for token problems.

    Raises BoundError for a criterion without evidence.
    """
    if isinstance(problem, PreferenceGame):
        return PreferenceEvidence(problem)
    if isinstance(problem, TokenProblem):
        return TokenEvidence(problem)
    if isinstance(problem.criterion, AverageReward):
        return GainEvidence(problem)
    states, transitions = SMALL
    small = problem.n_states <= states and problem.n_transitions <= transitions
    if small or not isinstance(problem.criterion, Discounted):
        return RationalEvidence.of(problem)
    return EnclosedEvidence(problem)
