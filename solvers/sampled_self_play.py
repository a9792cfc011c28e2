r"""Self-play from labels: INPO where win rates are not known, only who won.

A step draws M pairs (y, y') from p_k x p_k, asks the oracle for one label each, and minimises over tables of logits z

    sum (h_w - h_l - 1/(2 c))^2,        h = z - (t/c) log q - ((c - t)/c) log p_k,

w the winner, l the loser, c >= t the inverse step. It is a least-squares problem; where the pairs do not join all responses its
minimisers are many, and the one nearest to log p_k is taken, which is where gradient descent that starts there ends. With
M -> infinity the step is `banach.solvers.preference_iterations.INPO`, and no win rate is ever estimated. Pairs of a response
with itself say nothing and are dropped.

Zhang et al. 2024, arXiv 2407.00617.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from numbers import Integral

import numpy as np

from ..mdp.preference import PreferenceGame
from .errors import SolveError
from .gibbs import gibbs
from .preference_iterations import INPO, anchor, inverse_at


@dataclass(frozen=True, eq=False)
class SampledINPO:
    """Mirror descent by self-play on sampled pairs with one binary label each.

    inverse_step: c, as in `INPO`. labels: pairs drawn in a step, >= 1. rng: draws pairs and labels.
    Raises SolveError for other numbers, and for an rng that is none.
    """

    inverse_step: float | Callable[[int], float]
    labels: int
    rng: np.random.Generator

    def __post_init__(self) -> None:
        INPO(self.inverse_step)
        if isinstance(self.labels, bool) or not isinstance(self.labels, Integral) or self.labels < 1:
            raise SolveError(f"SampledINPO: labels is {self.labels!r}; draw a whole number >= 1 of pairs in a step")
        if not isinstance(self.rng, np.random.Generator):
            raise SolveError(f"SampledINPO: rng is {self.rng!r}; pass np.random.default_rng(seed)")

    def step(self, game: PreferenceGame, policy: np.ndarray, number: int) -> np.ndarray:
        """The following policy, (n,). Raises SolveError where the inverse step is no number or below the temperature, and for a
        policy with a zero, which has no logits.
        """
        inverse = inverse_at(self.inverse_step, number, game.temperature)
        if not (np.asarray(policy) > 0).all():
            worst = int(np.argmin(np.asarray(policy) > 0))
            raise SolveError(
                f"SampledINPO: policy[{worst}] is {policy[worst]}; a loss of log-probabilities needs them all > 0: mix the "
                "policy with the reference, or take more labels or larger inverse steps"
            )
        return least_squares_step(game, policy, labels(game, policy, int(self.labels), self.rng), inverse)


def labels(game: PreferenceGame, policy: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Wins (n, n) among `count` pairs drawn from policy x policy, (n,): wins_ij labels prefer i to j."""
    n = game.n_responses
    first, second = rng.choice(n, count, p=policy), rng.choice(n, count, p=policy)
    won = rng.random(count) < game.oracle.matrix[first, second]
    wins = np.zeros((n, n))
    np.add.at(wins, (np.where(won, first, second), np.where(won, second, first)), 1.0)
    np.fill_diagonal(wins, 0.0)
    return wins


def least_squares_step(game: PreferenceGame, policy: np.ndarray, wins: np.ndarray, inverse: float) -> np.ndarray:
    """The minimiser of INPO's loss on wins (n, n) that is nearest to log policy (n,) > 0, as a policy (n,)."""
    shown = wins + wins.T
    laplacian = np.diag(shown.sum(axis=1)) - shown
    ahead = np.log(anchor(game, policy, game.temperature / inverse)) - np.log(policy)
    pull = (wins - wins.T).sum(axis=1) / (2 * inverse)
    return gibbs(policy, np.linalg.lstsq(laplacian, pull + laplacian @ ahead, rcond=None)[0])
