r"""Certified laws of total rewards: what a policy of a stochastic-shortest-path problem earns before it ends, on a lattice.

    G(s) = r(s) + G(S'),    G(s) = terminal value where s is terminal,    F_s(x) = P(G(s) <= x) = sum_j p_sj F_j(x - r(s)).

The policy must end with probability one. Rewards and terminal values are multiples of h, a power of two, so that G lives on
h Z, and F is asked for on a window z_0 < ... < z_{m-1} of it; G itself may have no end. Outside the window

    lower law:  F(x) := F(z_0) below,  1 above           upper law:  F(x) := 0 below,  F(z_{m-1}) above,

which no distribution function exceeds, or falls below, for what it is in the window. With these,

    lower <=_st T lower     and     T upper <=_st upper        prove        F_upper <= F <= F_lower on the window:

T is monotone, keeps the order outside too, and T^k of any law tends to that of G, for by then the policy has ended. Nothing is
rounded but sums of products, to the safe side. Iteration starts from 1 and 0; what is left between the two after k sweeps is
at most the probability that the policy has not ended, and what the window cut off.

Mueller and Stoyan, Comparison Methods for Stochastic Models and Risks, Wiley 2002 (monotone bounds); Bertsekas and Tsitsiklis,
Math. Oper. Res. 16, 1991 (proper policies).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from ..mdp.criterion import TotalReward
from ..mdp.law_lattice import Lattice, common_step, sweep
from ..mdp.model import MDP
from .distributional import LawCertificate, policy_actions
from .errors import SolveError
from .proper_policy import pack, stops_from

_SWEEPS = 1_000_000
_MOST = 2**24


@dataclass(frozen=True, eq=False)
class TotalLaws:
    """Brackets on the laws of a policy's total reward in a window. certificate: the proof. sweeps: of both sides together.

    Its methods raise SolveError for a state that there is not.
    """

    certificate: LawCertificate
    sweeps: int

    def probability(self, state: int, at_most: float) -> tuple[float, float]:
        """Floats between which P(total reward <= at_most) lies."""
        low, high = self._rows(state)
        place = math.floor(Fraction(at_most) / Fraction(self.certificate.lattice.spacing)) - self.certificate.lattice.first
        if place < 0:
            return 0.0, float(high[0])
        return float(low[min(place, len(low) - 1)]), float(high[place]) if place < len(high) else 1.0

    def quantile(self, state: int, level: float) -> tuple[float, float]:
        """Floats between which the left quantile lies, level in (0, 1]; infinite where the window ends before.

        Raises SolveError for another level.
        """
        if not 0 < level <= 1:
            raise SolveError(f"level is {level}; a quantile's level lies in (0, 1]")
        low, high = self._rows(state)
        lattice = self.certificate.lattice
        least, most = (int(np.searchsorted(side, level)) for side in (high, low))
        return (
            (lattice.first + least) * lattice.spacing if least else -math.inf,
            (lattice.first + most) * lattice.spacing if most < lattice.points else math.inf,
        )

    def _rows(self, state: int) -> tuple[np.ndarray, np.ndarray]:
        """F below and above, (m,) each."""
        if not 0 <= state < len(self.certificate.lower):
            raise SolveError(f"there is no state {state}; states are 0..{len(self.certificate.lower) - 1}")
        return self.certificate.upper[state], self.certificate.lower[state]


def total_reward_laws(problem: MDP, policy: np.ndarray, window: tuple[float, float], tol: float = 2.0**-52) -> TotalLaws:
    """Brackets on P(total reward <= x) under a policy that ends with probability one, for x of the lattice in a window.

    problem: of total reward to be made large; a reward that is random is a state more. policy: int (n,), actions; anything in
    terminal states. window: numbers in order. tol: >= 0, sweeps end when none of these probabilities changes by more.
    Memory is 32 n bytes a lattice point. The answer is proved by `banach.solvers.total_laws_check`, wherever sweeps end.
    Raises SolveError for another problem, a policy that may go on for ever, or a window without two lattice points.
    """
    require_total(problem)
    actions = policy_actions(problem, policy)
    require_end(problem, actions)
    lattice = _window(problem, window)
    tables = [_places(problem, lattice, up) for up in (False, True)]
    kind = np.unique(problem.reward, return_inverse=True)[1]
    kinds = np.repeat(kind.astype(np.int32), np.diff(problem.row_ptr))
    (lower, below), (upper, above) = (_forever(problem, actions, lattice, tables[up], kinds, bool(up), tol) for up in (0, 1))
    return TotalLaws(LawCertificate(lattice, lower, upper, actions, problem.fingerprint), below + above)


def require_total(problem: MDP) -> None:
    """Raise SolveError unless the problem is of total reward, to be made large."""
    if not isinstance(problem, MDP) or not isinstance(problem.criterion, TotalReward):
        raise SolveError("laws of total rewards are of MDPs of TotalReward(); return_laws has those of other criteria")
    if problem.criterion.minimize:
        raise SolveError("laws of total rewards speak of rewards, larger is better; take problem.negated()")


def require_end(problem: MDP, actions: np.ndarray) -> None:
    """Raise SolveError unless the policy, int32 (n,), reaches a terminal state from everywhere with probability one."""
    ends = stops_from(pack(problem, actions))
    for state in np.flatnonzero(~ends)[:1]:
        raise SolveError(
            f"state {problem.state_of(int(state))}: the policy may never end from there, and a total reward has no law then; "
            "give a policy that reaches a terminal state"
        )


def _window(problem: MDP, window: tuple[float, float]) -> Lattice:
    low, high = window
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise SolveError(f"the window is {window}; give two finite numbers in order")
    step = common_step(np.concatenate([problem.reward, problem.terminal_value]))
    step = 1.0 if math.isinf(step) else step
    first, last = math.ceil(Fraction(low) / Fraction(step)), math.floor(Fraction(high) / Fraction(step))
    size = np.abs(np.concatenate([problem.reward, problem.terminal_value])).max() / step
    if not 2 <= last - first + 1 <= _MOST or max(abs(first), abs(last), size) > 2**50:
        raise SolveError(
            f"the window {window} holds {last - first + 1} multiples of {step}, of which all rewards are; give one that holds "
            f"between 2 and {_MOST}, or rewards of a coarser lattice"
        )
    return Lattice(first, step, last - first + 1)


def _places(problem: MDP, lattice: Lattice, up: bool) -> np.ndarray:
    """Where F of a successor is read, int64 (rewards, m + 1); column m holds one, what is above the window for a lower law."""
    shift = np.unique(problem.reward) / lattice.spacing
    place = np.arange(lattice.points + 1)[None, :] - shift[:, None].astype(np.int64)
    above = lattice.points - 1 if up else lattice.points
    return np.where(place < 0, -1 if up else 0, np.where(place >= lattice.points, above, place))


def _forever(
    problem: MDP, actions: np.ndarray, lattice: Lattice, place: np.ndarray, kind: np.ndarray, up: bool, tol: float
) -> tuple[np.ndarray, int]:
    cdf = np.full((problem.n_states, lattice.points + 1), 0.0 if up else 1.0)
    cdf[:, -1] = 1.0
    worth = problem.terminal_value[problem.terminal] / lattice.spacing - lattice.first
    cdf[problem.terminal] = np.arange(lattice.points + 1) >= worth[:, None]
    cdf[problem.terminal, -1] = 1.0
    apply: Any = sweep
    out = cdf.copy()
    for done in range(1, _SWEEPS + 1):
        change = apply(
            problem.state_ptr, problem.row_ptr, problem.successor, problem.probability, problem.terminal, actions,
            place, kind, up, cdf, out,
        )  # fmt: skip
        if change <= tol:  # cdf, not out: that it lies on its side of out is the proof
            return np.ascontiguousarray(cdf[:, :-1]), done
        cdf, out = out, cdf
    return np.ascontiguousarray(cdf[:, :-1]), _SWEEPS
