r"""Iterations that look for Nash policies of a preference game, exact and in the table.

With q the reference, t the temperature, P p the win rates against p:

    NashMD(rate e)            m ~ p^(1 - e t) q^(e t),  p+ ~ m e^(e P m)                    Munos et al. 2023, arXiv 2312.00886
    OnlineIPO()               p+ = q e^(P p / t) / Z: IPO on pairs drawn from p             Calandriello et al. 2024, 2403.08635
    OnlineDPO(beta)           p+ = DPO's optimum on pairs drawn from p, reference q         Guo et al. 2024, 2402.04792
    SPPOIteration(eta)        p+ ~ p e^(eta P p), no reference                              Wu et al. 2024, 2405.00675
    INPO(inverse step c)      p+ ~ p^(1 - t/c) q^(t/c) e^(P p / c), c >= t                  Zhang et al. 2024, 2407.00617

Nash-MD plays against the mixture m, not against p: at a constant rate it rests near the Nash policy, not at it, within 2 e / t
nats. Played against p itself the same step is INPO(1/e), which rests at the Nash policy where it converges.

"~" up to the constant that normalises. INPO's step is the population optimum of IPO(c) with the reference `anchor` on pairs
drawn from p. With c growing as t (k + 2) / 2 its last iterate comes within 2 / (t^2 (T + 1)) nats of the Nash policy; with a
constant c it stays within 1 / (2 c t) and may cycle, as it does on rock, paper, scissors where c is small.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from numbers import Integral
from typing import Protocol

import numpy as np

from ..mdp.preference import PreferenceGame, distribution
from ..mdp.validation import is_real
from .errors import SolveError
from .gibbs import gibbs
from .preference_losses import DPO
from .preference_optimum import population_optimum
from .regularised_nash import best_response


class Iteration(Protocol):
    """One step of an iteration on the policies of a game."""

    def step(self, game: PreferenceGame, policy: np.ndarray, number: int) -> np.ndarray:
        """The policy after `policy`, (n,), in step `number`, from 0."""
        ...


@dataclass(frozen=True)
class NashMD:
    """Mirror descent against, and from, the geometric mixture of the policy with the reference.

    rate: > 0, and at most 1 / temperature. Raises SolveError for another.
    """

    rate: float

    def __post_init__(self) -> None:
        _require_positive("NashMD: rate", self.rate)

    def step(self, game: PreferenceGame, policy: np.ndarray, number: int) -> np.ndarray:
        """The following policy, (n,). Raises SolveError where rate * temperature > 1."""
        share = self.rate * game.temperature
        if share > 1:
            raise SolveError(f"NashMD: rate {self.rate} times temperature {game.temperature} is above 1; lower the rate")
        mixture = anchor(game, policy, share)
        return gibbs(mixture, self.rate * game.oracle.win_rate(mixture))


@dataclass(frozen=True)
class OnlineIPO:
    """IPO fitted in full on pairs of the last policy: iteration of the best response. Contracts where temperature > 1/2."""

    def step(self, game: PreferenceGame, policy: np.ndarray, number: int) -> np.ndarray:
        """The following policy, (n,)."""
        return best_response(game, policy)


@dataclass(frozen=True)
class OnlineDPO:
    """DPO fitted in full on pairs of the last policy, its reference kept. beta > 0. Raises SolveError for another."""

    beta: float = 0.1

    def __post_init__(self) -> None:
        _require_positive("OnlineDPO: beta", self.beta)

    def step(self, game: PreferenceGame, policy: np.ndarray, number: int) -> np.ndarray:
        """The following policy, (n,). Raises SolveError where DPO has no optimum."""
        return population_optimum(game.oracle, np.outer(policy, policy), game.reference, DPO(self.beta)).policy


@dataclass(frozen=True)
class SPPOIteration:
    """Multiplicative weights by self-play, no reference but the start. eta > 0. Raises SolveError for another."""

    eta: float

    def __post_init__(self) -> None:
        _require_positive("SPPOIteration: eta", self.eta)

    def step(self, game: PreferenceGame, policy: np.ndarray, number: int) -> np.ndarray:
        """The following policy, (n,)."""
        return gibbs(policy, self.eta * game.oracle.win_rate(policy))


@dataclass(frozen=True)
class INPO:
    """Mirror descent by self-play.

    inverse_step: c > 0, at least the temperature; or a function of the step's number, from 0. Raises SolveError for others.
    """

    inverse_step: float | Callable[[int], float]

    def __post_init__(self) -> None:
        if not callable(self.inverse_step):
            _require_positive("INPO: inverse_step", self.inverse_step)

    @classmethod
    def decaying(cls, temperature: float) -> INPO:
        """c = t (k + 2) / 2, for which the last iterate is proved to converge."""
        return cls(lambda number: temperature * (number + 2) / 2)

    def step(self, game: PreferenceGame, policy: np.ndarray, number: int) -> np.ndarray:
        """The following policy, (n,). Raises SolveError where the inverse step is no number, or below the temperature."""
        inverse = inverse_at(self.inverse_step, number, game.temperature)
        return gibbs(anchor(game, policy, game.temperature / inverse), game.oracle.win_rate(policy) / inverse)


@dataclass(frozen=True, eq=False)
class Path:
    """Policies of an iteration: policies (steps + 1, n), the start first."""

    policies: np.ndarray

    @property
    def last(self) -> np.ndarray:
        """The last policy, (n,)."""
        return self.policies[-1]

    @property
    def average(self) -> np.ndarray:
        """Mean of the policies that were played against, all but the last, (n,); the start where no step was taken."""
        return self.policies[: max(1, len(self.policies) - 1)].mean(axis=0)


def inverse_at(inverse_step: float | Callable[[int], float], number: int, temperature: float) -> float:
    """The inverse step in step `number`. Raises SolveError unless it is a finite number, at least the temperature."""
    found = inverse_step(number) if callable(inverse_step) else inverse_step
    if not (is_real(found) and abs(found) < np.inf):
        raise SolveError(f"INPO: the inverse step of step {number} is {found!r}; it must be a finite number")
    if found < temperature:
        raise SolveError(f"INPO: inverse step {found} is below the temperature {temperature}; raise it to at least that")
    return float(found)


def anchor(game: PreferenceGame, policy: np.ndarray, share: float) -> np.ndarray:
    """The geometric mixture p^(1 - share) q^share / Z, (n,), of a policy (n,) with the reference; share in [0, 1]."""
    with np.errstate(divide="ignore"):
        logs = (1 - share) * np.log(policy) if share < 1 else np.zeros(len(policy))
    return gibbs(np.ones(len(policy)), logs + share * np.log(game.reference))


def iterate(game: PreferenceGame, method: Iteration, steps: int, start: np.ndarray | None = None) -> Path:
    """Run an iteration. start: (n,), default the reference. steps: >= 0.

    Raises SolveError for a negative number of steps or settings that do not fit the game, ModelError for a start that is no
    distribution.
    """
    if isinstance(steps, bool) or not isinstance(steps, Integral) or steps < 0:
        raise SolveError(f"steps is {steps!r}; it must be a whole number >= 0")
    policy = game.reference if start is None else distribution(start, game.n_responses, "start")
    policies = [policy]
    for number in range(int(steps)):
        policy = method.step(game, policy, number)
        policies.append(policy)
    return Path(np.array(policies))


def _require_positive(name: str, value: float) -> None:
    if not (is_real(value) and 0 < value < np.inf):
        raise SolveError(f"{name} is {value!r}; it must be a number > 0")
