r"""Certified laws of returns: two laws on a lattice that the distributional Bellman operator proves to lie below and above.

    lower <=_st T_p lower     and     T_p upper <=_st upper        prove        lower <=_st law of the return of p <=_st upper,

for T_p is monotone in stochastic order and contracts in W_inf with the discount. Every monotone functional (value at risk,
CVaR, a probability of ruin) of the two then brackets that of the return. Iteration starts from the least (greatest) return for
certain and rounds down (up), so every iterate is such a law; at the end lower and upper are at most 2 h/(1-g), plus what
truncation left, apart in W_inf, h the lattice's spacing. With discount 1 and rewards on the lattice nothing is rounded.

Over H decisions, backward: lower_t <=_st T_p lower_{t+1} at every stage.

Bellemare, Dabney and Munos 2017, arXiv 1707.06887; Mueller and Stoyan 2002, theorem 5.2.11 (monotone bounds of chains).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..mdp.errors import FileFormatError
from ..mdp.law import Law
from ..mdp.law_functional import enclosure
from ..mdp.law_lattice import Lattice, LatticeOperator, natural_step
from ..mdp.model import MDP
from ..mdp.outcome import OutcomeMDP, as_outcomes
from ..mdp.storage import read_arrays, write_arrays
from .errors import SolveError

_FAR = 1e-3
"""What truncation may leave beside rounding, as a share of it."""


@dataclass(frozen=True, eq=False)
class LawCertificate:
    """Distribution functions on a lattice that prove themselves; see `banach.solvers.distributional_check`, `total_laws_check`.

    lattice: the m points. lower, upper: float64 (n, m), of a law below and one above the return's from each state; or
    (H + 1, n, m), a row a stage, first to last. policy: int32 (n,) or (H, n), -1 in terminal states. fingerprint: of the model.
    """

    lattice: Lattice
    lower: np.ndarray
    upper: np.ndarray
    policy: np.ndarray
    fingerprint: str

    def __post_init__(self) -> None:
        for array in (self.lower, self.upper, self.policy):
            array.setflags(write=False)

    @property
    def width(self) -> float:
        """Largest W_1 distance between lower and upper."""
        return float((self.lower - self.upper).sum(axis=-1).max(initial=0.0)) * self.lattice.spacing

    def save(self, path: str | Path) -> None:
        """Write the certificate as .npz, atomically."""
        header = {"model": self.fingerprint, "first": self.lattice.first, "spacing": self.lattice.spacing}
        write_arrays(path, "law certificate", header, {"lower": self.lower, "upper": self.upper, "policy": self.policy})

    @classmethod
    def load(cls, path: str | Path) -> LawCertificate:
        """Read a certificate that `save` wrote. Raises FileFormatError."""
        header, arrays = read_arrays(path, "law certificate")
        try:
            lattice = Lattice(int(header["first"]), float(header["spacing"]), arrays["lower"].shape[-1])
            return cls(lattice, arrays["lower"], arrays["upper"], arrays["policy"], str(header["model"]))
        except (KeyError, IndexError, TypeError, ValueError) as fault:
            raise FileFormatError(f"{path}: the certificate lacks {fault}") from None


@dataclass(frozen=True, eq=False)
class ReturnLaws:
    """Brackets on the laws of a policy's returns. certificate: the proof. sweeps: applications of the operator, both sides.

    Its methods raise SolveError for a state that there is not.
    """

    certificate: LawCertificate
    sweeps: int

    def lower(self, state: int) -> Law:
        """The exact law below the return's from a state, at the first stage."""
        return self._law(self.certificate.lower, state)

    def upper(self, state: int) -> Law:
        """The exact law above."""
        return self._law(self.certificate.upper, state)

    def interval(self, functional: Any, state: int) -> tuple[float, float]:
        """Floats between which the functional of the return's law lies. Raises SolveError where it is not monotone.

        Raises ModelError where the functional cannot be enclosed.
        """
        if not functional.monotone:
            raise SolveError(f"{functional} does not respect stochastic order, so laws below and above do not bracket it")
        return enclosure(functional, self.lower(state))[0], enclosure(functional, self.upper(state))[1]

    def probability(self, state: int, at_most: float) -> tuple[float, float]:
        """Floats between which P(return <= at_most) lies."""
        place = math.floor((at_most / self.certificate.lattice.spacing) - self.certificate.lattice.first)
        low, high = (self._row(side, state) for side in (self.certificate.upper, self.certificate.lower))
        if place < 0:
            return 0.0, 0.0
        at = min(place, len(low) - 1)
        return float(low[at]), float(high[at])

    def _law(self, side: np.ndarray, state: int) -> Law:
        return self.certificate.lattice.law(self._row(side, state))

    def _row(self, side: np.ndarray, state: int) -> np.ndarray:
        whole = side if side.ndim == 2 else side[0]
        if not 0 <= state < len(whole):
            raise SolveError(f"there is no state {state}; states are 0..{len(whole) - 1}")
        return whole[state]


def return_laws(problem: MDP | OutcomeMDP, policy: np.ndarray, atoms: int = 1000) -> ReturnLaws:
    """Brackets on the laws of a deterministic policy's returns from every state.

    policy: int (n,), actions; or, over H decisions, (H, n). -1, or anything, in terminal states.
    atoms: >= 3, most points of the lattice; memory is 16 n atoms bytes, times H + 1 over a horizon.
    Raises ModelError for a problem without returns or too few atoms, SolveError for a policy that is none.
    """
    model = as_outcomes(problem)
    actions = policy_actions(model.problem, policy, model.horizon)
    low, high = model.returns_within()
    step = natural_step(model)
    exact = model.discount == 1 and math.isfinite(step) and (high - low) / step + 2 <= atoms
    lattice = Lattice.covering(low, high, atoms, step if exact else None)
    operator = LatticeOperator.of(model, lattice)
    if model.horizon is not None:
        lower, upper = (_backward(operator, actions, up) for up in (False, True))
        return ReturnLaws(LawCertificate(lattice, lower, upper, actions, model.fingerprint), 2 * model.horizon)
    enough = _sweeps_enough(model.discount, high - low, lattice.spacing)
    (lower, below), (upper, above) = (_forever(operator, actions, up, enough) for up in (False, True))
    return ReturnLaws(LawCertificate(lattice, lower, upper, actions, model.fingerprint), below + above)


def _backward(operator: LatticeOperator, actions: np.ndarray, up: bool) -> np.ndarray:
    last, terminal = operator.last(up), operator.model.problem.terminal
    stages = np.empty((len(actions) + 1, *last.shape))
    stages[-1] = last
    for stage in range(len(actions) - 1, -1, -1):
        stages[stage, terminal] = last[terminal]
        operator.apply(actions[stage], stages[stage + 1], stages[stage], up)
    return stages


def _forever(operator: LatticeOperator, actions: np.ndarray, up: bool, enough: int) -> tuple[np.ndarray, int]:
    """From the greatest (least) distribution function, so that every iterate lies on its side of the next."""
    terminal = operator.model.problem.terminal
    cdf = (
        np.zeros((operator.model.n_states, operator.lattice.points))
        if up
        else np.ones((operator.model.n_states, operator.lattice.points))
    )
    cdf[:, -1] = 1.0
    cdf[terminal] = operator.last(up)[terminal]
    out = cdf.copy()
    for done in range(enough):
        change = operator.apply(actions, cdf, out, up)
        cdf, out = out, cdf
        if change == 0.0:
            return cdf, done + 1
    return cdf, enough


def _sweeps_enough(discount: float, span: float, spacing: float) -> int:
    left = _FAR * spacing / (1 - discount)
    return 1 if span <= left else math.ceil(math.log(left / span) / math.log(discount)) + 1


def policy_actions(problem: MDP, policy: np.ndarray, horizon: int | None = None) -> np.ndarray:
    """The policy as int32, (n,), or (H, n) where there is a horizon; -1 in terminal states.

    Raises SolveError where it is none.
    """
    given = np.asarray(policy)
    shape = (problem.n_states,) if horizon is None else (horizon, problem.n_states)
    if given.dtype.kind not in "iu" or given.shape not in {shape, (problem.n_states,)}:
        raise SolveError(f"the policy has shape {given.shape}, {given.dtype}; give an action of each state, integers {shape}")
    actions = np.array(np.broadcast_to(given, shape), dtype=np.int32)
    actions[..., problem.terminal] = -1
    count = np.diff(problem.state_ptr)
    wrong = ~problem.terminal & ((actions < 0) | (actions >= count))
    for place in np.argwhere(wrong)[:1]:
        state = int(place[-1])
        chosen, there = actions[tuple(place)], count[state]
        raise SolveError(f"state {problem.state_of(state)}: the policy's action {chosen} is not one of its {there}")
    return actions
