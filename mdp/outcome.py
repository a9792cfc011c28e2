r"""Decision problems whose every outcome has its own reward: what a distribution of returns needs beyond a mean.

Transition e of pair k earns reward[k] + transition_reward[e]; repeated successors are outcomes apart, so a random reward is
several transitions to one state. With G(s) the return from s under a policy,

    G(s) = R + g G(S'),    G(s) = terminal value, where s is terminal or no decision is left.

A law needs total mass one, so the stored floats of a row, taken as exact numbers, are weights, and probabilities are weight
over row sum, exactly: `total` holds nothing rounded, and checkers multiply by it instead of dividing.

Bellemare, Dabney and Rowland, Distributional Reinforcement Learning, MIT Press 2023, chapter 2.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Any

import numpy as np

from .criterion import Discounted, FiniteHorizon
from .errors import ModelError
from .model import MDP


@dataclass(frozen=True, eq=False)
class OutcomeMDP:
    """A discounted or finite-horizon maximisation problem and the reward of each stored transition. n states, z transitions.

    problem: the model; `reward` of its pairs is earned whatever happens.
    transition_reward: float64 (z,), earned besides; default: nothing, so that the pair's reward is certain.
    Raises ModelError for another criterion, or rewards that do not fit.
    """

    problem: MDP
    transition_reward: np.ndarray = None  # pyright: ignore[reportAssignmentType]

    def __post_init__(self) -> None:
        if not isinstance(self.problem, MDP):
            raise ModelError(f"the problem is a {type(self.problem).__name__}; give an MDP")
        criterion = self.problem.criterion
        if not isinstance(criterion, Discounted | FiniteHorizon) or self.problem.discount == 0:
            raise ModelError(
                f"laws of returns are of discounted or finite-horizon problems with a discount above zero; the criterion is "
                f"{criterion}"
            )
        if criterion.minimize:
            raise ModelError("laws of returns speak of rewards, larger is better; take problem.negated()")
        given = self.transition_reward
        gain = np.zeros(self.problem.n_transitions) if given is None else np.array(given, dtype=np.float64)
        if gain.shape != (self.problem.n_transitions,) or not np.isfinite(gain).all():
            raise ModelError(
                f"transition_reward must be {self.problem.n_transitions} finite numbers, one a stored transition; its shape is "
                f"{gain.shape}"
            )
        gain.setflags(write=False)
        object.__setattr__(self, "transition_reward", gain)

    @property
    def n_states(self) -> int:
        """Number of states."""
        return self.problem.n_states

    @property
    def discount(self) -> float:
        """The discount, in (0, 1]."""
        return self.problem.discount

    @property
    def horizon(self) -> int | None:
        """Number of decisions, or None where the problem is discounted for ever."""
        return getattr(self.problem.criterion, "horizon", None)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of every number that the laws depend on, as hexadecimal."""
        digest = hashlib.sha256(f"outcomes:{self.problem.fingerprint}".encode())
        digest.update(self.transition_reward.tobytes())
        return digest.hexdigest()

    @cached_property
    def earned(self) -> tuple[np.ndarray, np.ndarray]:
        """Floats at or below, and at or above, the reward of each transition, pair's and own together, float64 (z,) each."""
        pair = np.repeat(self.problem.reward, np.diff(self.problem.row_ptr))
        total = pair + self.transition_reward
        back = total - pair
        lost = (pair - (total - back)) + (self.transition_reward - back)
        below = np.where(lost < 0, np.nextafter(total, -np.inf), total)
        above = np.where(lost > 0, np.nextafter(total, np.inf), total)
        return below, above

    @cached_property
    def expected(self) -> MDP:
        """The problem that only means see: pairs earn their expected reward, with a rounding each."""
        problem = self.problem
        if not problem.n_pairs:
            return problem
        ahead = np.add.reduceat(problem.probability * self.transition_reward, problem.row_ptr[:-1])
        mass = np.add.reduceat(problem.probability, problem.row_ptr[:-1])
        return problem.replace(reward=problem.reward + ahead / mass)

    def outcomes(self, state: int, action: int) -> list[tuple[Fraction, Fraction, int]]:
        """(probability, reward, successor) of what an action may do, exact; outcomes of probability zero left out."""
        problem = self.problem
        pair = int(problem.state_ptr[state]) + action
        row = slice(int(problem.row_ptr[pair]), int(problem.row_ptr[pair + 1]))
        weights = [Fraction(p) for p in problem.probability[row].tolist()]
        total = sum(weights, Fraction(0))
        gains = [Fraction(float(problem.reward[pair])) + Fraction(r) for r in self.transition_reward[row].tolist()]
        successors = problem.successor[row].tolist()
        return [(w / total, r, j) for w, r, j in zip(weights, gains, successors, strict=True) if w]

    def actions(self, state: int) -> range:
        """The actions of a state; none where it is terminal."""
        return range(int(self.problem.state_ptr[state + 1] - self.problem.state_ptr[state]))

    def returns_within(self) -> tuple[float, float]:
        """Floats below and above what any policy may have returned, from any state and with any number of decisions left."""
        low, high = (self._extreme(best, end) for best, end in ((min, self.earned[0]), (max, self.earned[1])))
        return _rounded(low, -math.inf), _rounded(high, math.inf)

    def _extreme(self, best: Any, end: np.ndarray) -> Fraction:
        """The best of all rewards for ever, of all terminal values, and of any number of rewards before one of them."""
        problem, g = self.problem, Fraction(self.discount)
        used = end[problem.probability > 0]
        step = Fraction(float(best(used))) if len(used) else Fraction(0)
        worth = [Fraction(w) for w in problem.terminal_value[problem.terminal].tolist()]
        if self.horizon is None:
            return best([*worth, step / (1 - g)] if len(used) else worth)
        found = stage = best([*worth, Fraction(0)])
        for _ in range(self.horizon if len(used) else 0):
            stage = best([*worth, step + g * stage])
            found = best(found, stage)
        return found


def as_outcomes(problem: MDP | OutcomeMDP) -> OutcomeMDP:
    """The problem itself, or with the rewards of its pairs for certain. Raises ModelError as `OutcomeMDP`."""
    return problem if isinstance(problem, OutcomeMDP) else OutcomeMDP(problem)


def _rounded(number: Fraction, towards: float) -> float:
    near = float(number)
    return near if Fraction(near) == number else math.nextafter(near, towards)
