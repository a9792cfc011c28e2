"""A tabular policy on n responses, and the batch that holds every pair with the probability that it is shown."""

import numpy as np
import torch
from banach.llm.pair_batch import PairBatch, Sequences
from scipy.optimize import root
from scipy.special import softmax


def as_logits(policy: np.ndarray) -> torch.Tensor:
    return torch.tensor(np.log(policy), requires_grad=True)


def every_pair(
    logits, preference, weights, reference, *, previous=None, lengths=None, reward=None, divergence=None
) -> PairBatch:
    """All ordered pairs of different responses with weight, labels in expectation; log-probabilities are the softmax of
    logits.
    """
    n = len(reference)
    weights = np.array(weights)
    np.fill_diagonal(weights, 0)
    first, second = np.nonzero(weights)
    logp = torch.log_softmax(logits, 0)

    def side(rows):
        def row(values):
            return None if values is None else torch.tensor(np.asarray(values, dtype=np.float64)[rows])

        return Sequences(
            logp[torch.tensor(rows)],
            length_B=row(np.ones(n) if lengths is None else lengths),
            ref_B=row(np.log(reference)),
            previous_B=row(np.log(reference if previous is None else previous)),
            reward_B=row(reward),
        )

    apart = None if divergence is None else torch.tensor([divergence], dtype=torch.float64)
    label, weight = torch.tensor(preference[first, second]), torch.tensor(weights[first, second])
    return PairBatch(side(first), side(second), label, weight, apart)


def gibbs(reference: np.ndarray, score: np.ndarray) -> np.ndarray:
    return softmax(np.log(reference) + score)


def regularised_nash(preference: np.ndarray, reference: np.ndarray, temperature: float) -> np.ndarray:
    """p = q e^{P p / tau} / Z by a root of s - P p(s) / tau, warm from larger tau."""
    score = np.zeros(len(reference))
    for warm in temperature * np.array([16, 8, 4, 2, 1]):
        found = root(lambda s, t=warm: s - preference @ gibbs(reference, s) / t, score, tol=1e-14)
        score = found.x
    policy = gibbs(reference, score)
    assert np.abs(policy - gibbs(reference, preference @ policy / temperature)).max() < 1e-11
    return policy
