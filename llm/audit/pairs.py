r"""A preference loss seen through pairs: its value and the weights of the chosen and of the rejected response.

On n responses with a policy pi and a reference q, a label that prefers i to j shows the loss log pi_i, log pi_j, log q_i,
log q_j and both lengths. If C_ij is the share of such labels, the population loss of scores u, pi = softmax(u), is
sum_ij C_ij l_ij(u), and

    dL/du_k = sum_ij C_ij [ w_chosen (pi_k - 1[k=i]) + w_rejected (pi_k - 1[k=j]) ],     w = -dl/dlogp.

Shapes: K calls, B pairs, n responses.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from ...mdp.preference import PreferenceOracle
from .subject import Array, Subject


@dataclass(frozen=True)
class Pairs:
    """K calls of B pairs, every array (K, B): log-probabilities under policy and reference, and lengths in tokens."""

    chosen: Array
    rejected: Array
    ref_chosen: Array
    ref_rejected: Array
    length_chosen: Array
    length_rejected: Array

    leaves: ClassVar[int] = 2
    shared: ClassVar[int] = 0

    def __len__(self) -> int:
        return len(self.chosen)

    def tensors(self, k: int | slice, dtype: torch.dtype) -> list[torch.Tensor]:
        """The six arguments, of call k (B,) or of a slice of calls (K, B); lengths are integers."""
        logps = (self.chosen, self.rejected, self.ref_chosen, self.ref_rejected)
        lengths = (self.length_chosen, self.length_rejected)
        return [
            *(torch.tensor(array[k], dtype=dtype) for array in logps),
            *(torch.tensor(array[k], dtype=torch.int64) for array in lengths),
        ]


def single(chosen: Array, rejected: Array, ref_chosen: Array, ref_rejected: Array, lengths: tuple[int, int] = (1, 1)) -> Pairs:
    """K calls of one pair each, from arrays that broadcast to (K,)."""
    arrays = np.broadcast_arrays(chosen, rejected, ref_chosen, ref_rejected, *lengths)
    return Pairs(*(np.atleast_1d(array)[:, None] for array in arrays))


@dataclass(frozen=True)
class Population:
    """Responses: their reference (n,), who is preferred, and how often ordered pairs are shown, weights (n, n)."""

    oracle: PreferenceOracle
    reference: Array
    weights: Array

    @property
    def wins(self) -> Array:
        """C_ij, the share of labels that prefer i to j, (n, n), zero on the diagonal, summing to one."""
        share = (self.weights + self.weights.T) * self.oracle.matrix
        np.fill_diagonal(share, 0.0)
        return share / share.sum()


def population_slope(subject: Subject, population: Population, score: Array) -> Array:
    """dL/du (n,) at scores u (n,), one call for each ordered pair that has labels. Raises LossFailure."""
    wins, logp = population.wins, score - np.logaddexp.reduce(score)
    ref = np.log(population.reference)
    i, j = np.nonzero(wins)
    weight = subject.weights(single(logp[i], logp[j], ref[i], ref[j]))[:, :, 0] * wins[i, j][:, None]
    slope = weight.sum() * np.exp(logp)
    np.subtract.at(slope, i, weight[:, 0])
    np.subtract.at(slope, j, weight[:, 1])
    return slope


def population_value(subject: Subject, population: Population, score: Array) -> float:
    """L at scores (n,), pair by pair. Raises LossFailure."""
    wins, logp = population.wins, score - np.logaddexp.reduce(score)
    ref = np.log(population.reference)
    i, j = np.nonzero(wins)
    pairs = single(logp[i], logp[j], ref[i], ref[j])
    return float(sum(wins[i[k], j[k]] * subject.evaluate(pairs, k)[0] for k in range(len(pairs))))


def margin_slopes(subject: Subject, margin: Array) -> tuple[Array, Array]:
    """dl/dm (K,) of two responses of equal reference, m = log(pi_1 / pi_2) (K,): if the first won, if the second did."""
    logp_1, logp_2 = -np.logaddexp(0, -margin), -np.logaddexp(0, margin)
    half = np.array(np.log(0.5))
    first = subject.weights(single(logp_1, logp_2, half, half))[:, :, 0]
    second = subject.weights(single(logp_2, logp_1, half, half))[:, :, 0]
    rises = np.exp(logp_2), -np.exp(logp_1)
    with np.errstate(invalid="ignore"):
        won = -(first[:, 0] * rises[0] + first[:, 1] * rises[1])
        lost = -(second[:, 1] * rises[0] + second[:, 0] * rises[1])
    return won, lost
