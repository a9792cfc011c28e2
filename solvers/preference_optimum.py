r"""What a preference loss asks for: its exact population optimum on a finite set of responses.

n responses, a reference q, an oracle P, and weights W_ij >= 0 of how often the ordered pair (i, j) is shown; a label drawn from
P then says who won. So the wins of i over j have weight

    C_ij = (W_ij + W_ji) P_ij      (i /= j),

and a pairwise loss f of the margin m_ij = s_i - s_j, s = log(p / q), has the population value L(p) = sum_ij C_ij f(m_ij).
`population_optimum` minimises that over all policies p > 0 (the tabular policy class), in float64, and says in so many words
whether there is one minimiser, many, or none:

    UNIQUE       one minimiser, all its probabilities positive.
    NOT_UNIQUE   several minimisers; two different ones are returned. Never a minimum-norm answer in silence.
    UNBOUNDED    no minimiser: along the score direction that is returned the loss falls for ever.
    BOUNDARY     the infimum is reached where some responses have probability exactly zero, at no finite score.
    STATIONARY   a point that meets the first-order conditions, of a loss that is not convex; nothing is said of other points.

The certificate is `residual`, the largest violation of the first-order conditions at the answer, recomputed from the loss's
formula and not by the route that found the answer; for the hinge and SLiC, which have kinks, the duality gap.

The losses: `banach.solvers.preference_losses`. Their optima: Rafailov et al. 2023 (arXiv 2305.18290), Azar et al. 2024
(2310.12036), Zhao et al. 2023 (2305.10425), Ethayarajh et al. 2024 (2402.01306), Meng et al. 2024 (2405.14734), Hong et al.
2024 (2403.07691), Wu et al. 2024 (2405.00675), Chowdhury et al. 2024 (2403.00409).
"""

from __future__ import annotations

import numpy as np

from ..mdp.preference import PreferenceOracle, distribution
from .errors import SolveError
from .preference_hinge import hinge_optimum
from .preference_losses import (
    CDPO,
    DPO,
    IPO,
    KTO,
    ORPO,
    RLHF,
    SPPO,
    Hinge,
    PreferenceLoss,
    RobustDPO,
    SimPO,
    SLiC,
    require_lengths,
)
from .preference_margin import ipo_optimum, logistic_optimum, rlhf_optimum, robust_optimum, simpo_optimum
from .preference_result import PreferenceOptimum, only_response
from .preference_slic import slic_optimum
from .preference_unpaired import kto_optimum, sppo_optimum
from .preference_win import orpo_optimum


def wins_of(oracle: PreferenceOracle, weights: np.ndarray) -> np.ndarray:
    """C = (W + W') * P off the diagonal, divided by its sum, (n, n): the share of labels that prefer row to column.

    weights: (n, n), >= 0.

    Raises SolveError for weights of another shape, negative, not finite, or all zero off the diagonal of n >= 2 responses.
    """
    weights, n = np.array(weights, dtype=np.float64), oracle.n_responses
    if weights.shape != (n, n):
        raise SolveError(f"weights have shape {weights.shape}; there are {n} responses, give ({n}, {n})")
    wrong = np.argwhere(~(np.isfinite(weights) & (weights >= 0)))
    if len(wrong):
        i, j = wrong[0]
        raise SolveError(f"weights[{i}, {j}] = {weights[i, j]}; how often a pair is shown is a finite number >= 0")
    np.fill_diagonal(weights, 0.0)
    if n > 1 and not weights.any():
        raise SolveError("no pair of different responses has weight > 0; there is nothing to learn from")
    wins = (weights + weights.T) * oracle.matrix
    return wins / wins.sum() if n > 1 else wins


def population_optimum(
    oracle: PreferenceOracle,
    weights: np.ndarray | None,
    reference: np.ndarray,
    loss: PreferenceLoss,
    lengths: np.ndarray | None = None,
) -> PreferenceOptimum:
    """The policy that a preference loss asks for when every pair is seen as often as its weight says.

    weights: (n, n), W_ij >= 0 of ordered pairs, any scale; None: both responses drawn from the reference, W = q q'.
    reference: (n,), q > 0. SimPO and ORPO do not look at it. lengths: (n,), tokens of each response, > 0, for SimPO; else None.
    Raises SolveError for impossible weights or lengths, ModelError for a reference that is no positive distribution, and
    NotConverged where rounding ends before the first-order conditions are met.
    """
    reference = distribution(reference, oracle.n_responses, "reference", positive=True)
    if isinstance(loss, SPPO):
        if weights is not None:
            raise SolveError("SPPO draws its responses from the reference (the policy of the step before): give weights=None")
        return sppo_optimum(oracle, reference, loss)
    n = oracle.n_responses
    lengths = require_lengths(loss, lengths, n)
    if n == 1:
        return only_response()
    wins = wins_of(oracle, np.outer(reference, reference) if weights is None else weights)
    if isinstance(loss, RLHF):
        return rlhf_optimum(wins, reference, loss)
    if isinstance(loss, RobustDPO):
        return robust_optimum(wins, reference, loss)
    if isinstance(loss, DPO | CDPO):
        return logistic_optimum(wins, reference, loss)
    if isinstance(loss, IPO):
        return ipo_optimum(wins, reference, loss)
    if isinstance(loss, Hinge):
        return hinge_optimum(wins, reference, loss)
    if isinstance(loss, SLiC):
        return slic_optimum(wins, reference, loss)
    if isinstance(loss, SimPO):
        return simpo_optimum(wins, reference, loss, lengths)
    if isinstance(loss, ORPO):
        return orpo_optimum(wins, loss)
    if isinstance(loss, KTO):
        return kto_optimum(wins, reference, loss)
    raise SolveError(f"{loss!r} is not a preference loss; give one of banach.solvers.preference_losses")
