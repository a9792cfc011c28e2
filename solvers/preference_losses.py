r"""Preference losses as functions of margins, one small object of settings each.

With s = log(p / q), m = s_w - s_l the margin of a winner over a loser, softplus(x) = log(1 + e^x):

    RLHF         reward by Bradley-Terry maximum likelihood, then max E_p r - beta KL(p | q)
    DPO          softplus(-beta m)                                                  Rafailov et al. 2023, arXiv 2305.18290
    CDPO         (1-e) softplus(-beta m) + e softplus(beta m)                       Mitchell 2023
    RobustDPO    ((1-e) softplus(-beta m) - e softplus(beta m)) / (1-2e)            Chowdhury et al. 2024, 2403.00409
    IPO          (m - 1/(2 tau))^2                                                  Azar et al. 2024, 2310.12036
    Hinge        max(0, 1 - beta m)                                                 Zhao et al. 2023, 2305.10425
    SLiC         max(0, margin - log p_w/p_l) - weight E_q log p                    Zhao et al. 2023, 2305.10425
    SimPO        softplus(gamma - beta (log p_w/|w| - log p_l/|l|))                 Meng et al. 2024, 2405.14734
    ORPO         -log p_w + weight softplus(-(log odds_w - log odds_l))             Hong et al. 2024, 2403.07691
    KTO          lD (1 - sigma(beta (s_w - z))) + lU (1 - sigma(beta (z - s_l)))    Ethayarajh et al. 2024, 2402.01306
    SPPO         E_{y ~ q} (s_y - eta (P(y > q) - 1/2))^2                           Wu et al. 2024, 2405.00675

tau of IPO is the KL weight of its objective; (beta m - 1)^2 is beta^2 times IPO with tau = beta/2. The hinge comes in two forms
with different optima, relative to the reference and free of it; here they have two names. INPO's loss (Zhang et al. 2024,
2407.00617) is IPO(inverse step) with the reference `banach.solvers.preference_iterations.anchor`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .errors import SolveError


@dataclass(frozen=True)
class RLHF:
    """Reward model by maximum likelihood, then the best policy for it. beta > 0: KL weight. Raises SolveError."""

    beta: float = 0.1

    def __post_init__(self) -> None:
        _positive(self, "beta")


@dataclass(frozen=True)
class DPO:
    """Direct preference optimisation. beta > 0: KL weight. Raises SolveError for another."""

    beta: float = 0.1

    def __post_init__(self) -> None:
        _positive(self, "beta")


@dataclass(frozen=True)
class CDPO:
    """Conservative DPO: labels smoothed. beta > 0; flip in [0, 1/2). Raises SolveError for others."""

    beta: float = 0.1
    flip: float = 0.1

    def __post_init__(self) -> None:
        _positive(self, "beta")
        _flip(self)


@dataclass(frozen=True)
class RobustDPO:
    """DPO unbiased under labels flipped at a known rate. The oracle is that of the flipped labels.

    beta > 0; flip in [0, 1/2). Raises SolveError for others.
    """

    beta: float = 0.1
    flip: float = 0.1

    def __post_init__(self) -> None:
        _positive(self, "beta")
        _flip(self)


@dataclass(frozen=True)
class IPO:
    """Identity preference optimisation. tau > 0: KL weight. Raises SolveError for another."""

    tau: float = 0.1

    def __post_init__(self) -> None:
        _positive(self, "tau")


@dataclass(frozen=True)
class Hinge:
    """Hinge on the margin relative to the reference. beta > 0. Raises SolveError for another."""

    beta: float = 0.1

    def __post_init__(self) -> None:
        _positive(self, "beta")


@dataclass(frozen=True)
class SLiC:
    """Hinge on the bare log-ratio, and a cross-entropy that holds the policy to the reference.

    margin > 0, nats; weight > 0 of the cross-entropy beside the mean hinge of a label. Raises SolveError for others.
    """

    margin: float = 1.0
    weight: float = 0.1

    def __post_init__(self) -> None:
        _positive(self, "margin", "weight")


@dataclass(frozen=True)
class SimPO:
    """Length-normalised, free of the reference, with a target margin. beta > 0; gamma >= 0. Raises SolveError for others."""

    beta: float = 2.0
    gamma: float = 0.5

    def __post_init__(self) -> None:
        _positive(self, "beta")
        _at_least_zero(self, "gamma")


@dataclass(frozen=True)
class ORPO:
    """Likelihood of the winner and the odds ratio. weight >= 0 of the odds ratio. Raises SolveError for another."""

    weight: float = 0.1

    def __post_init__(self) -> None:
        _at_least_zero(self, "weight")


@dataclass(frozen=True)
class KTO:
    """Kahneman-Tversky optimisation with the reference point z = KL(p | q) held fixed in the gradient.

    beta in (0, 1), where the value is concave in the probability; desirable, undesirable > 0: weights of wins and losses.
    Raises SolveError for others.
    """

    beta: float = 0.1
    desirable: float = 1.0
    undesirable: float = 1.0

    def __post_init__(self) -> None:
        _positive(self, "beta", "desirable", "undesirable")
        if self.beta >= 1:
            raise SolveError(f"KTO: beta is {self.beta}; its optimum is known for beta < 1, where the value is concave")


@dataclass(frozen=True)
class SPPO:
    """One step of self-play by squared regression from the reference. eta > 0. Raises SolveError for another."""

    eta: float = 1.0

    def __post_init__(self) -> None:
        _positive(self, "eta")


PreferenceLoss = RLHF | DPO | CDPO | RobustDPO | IPO | Hinge | SLiC | SimPO | ORPO | KTO | SPPO


def require_lengths(loss: PreferenceLoss, lengths: np.ndarray | None, n: int) -> np.ndarray:
    """Token counts (n,) for SimPO, ones for others. Raises SolveError for lengths that are missing, zero or not needed."""
    if not isinstance(loss, SimPO):
        if lengths is not None:
            raise SolveError(f"{type(loss).__name__} does not look at lengths; leave them out")
        return np.ones(n)
    if lengths is None:
        raise SolveError("SimPO divides by the number of tokens: give lengths, one for each response")
    lengths = np.array(lengths, dtype=np.float64)
    if lengths.shape != (n,) or not np.isfinite(lengths).all() or (lengths <= 0).any():
        raise SolveError(f"lengths {lengths} must be {n} numbers > 0; a response without tokens has no mean log-probability")
    return lengths


def _positive(loss: object, *names: str) -> None:
    for name in names:
        value = getattr(loss, name)
        if isinstance(value, bool) or not np.isfinite(value) or not value > 0:
            raise SolveError(f"{type(loss).__name__}: {name} is {value!r}; it must be a number > 0")


def _at_least_zero(loss: object, name: str) -> None:
    value = getattr(loss, name)
    if isinstance(value, bool) or not np.isfinite(value) or not value >= 0:
        raise SolveError(f"{type(loss).__name__}: {name} is {value!r}; it must be a number >= 0")


def _flip(loss: CDPO | RobustDPO) -> None:
    if isinstance(loss.flip, bool) or not 0 <= loss.flip < 0.5:
        raise SolveError(f"{type(loss).__name__}: flip is {loss.flip!r}; it must be in [0, 1/2): at 1/2 labels say nothing")
