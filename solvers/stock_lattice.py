r"""Certified control with a stock: functions of state and stock that the augmented Bellman operator proves around the optimum.

With B of `banach.mdp.stock_sweeps`, for a utility of two slopes,

    lower <= B_p lower    and    B upper <= upper       prove       lower <= E f(c + G) of p <= best of all policies <= upper

for every state and every real stock c, policies with memory included: B is monotone, and a g-contraction where g < 1. The
functions are held on a lattice; between its points they follow the steepest slopes that are possible, so that the inequalities
need checking at lattice points only. Iterates are turned into such functions by moving them by what they change, over 1 - g.

For CVaR, f(x) = min(x, 0) and CVaR* = max_c {-c + w(s, c)/level}; the maximum over c in each cell of the upper function is at
its kink.

Avila Pires et al. 2025, arXiv 2501.13028; Baeuerle and Ott 2011; brackets as Porteus 1971.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from ..mdp.law_functional import SHORTFALL, CVaR, TwoSlopes
from ..mdp.law_lattice import Lattice, natural_step
from ..mdp.model import MDP
from ..mdp.outcome import OutcomeMDP, as_outcomes
from ..mdp.stock_sweeps import Stocks, stock_sweep
from ..mdp.threads import WORTH_SHARING, n_threads, run_ranges, split
from .errors import SolveError

_SWEEPS = 100_000
_EVALUATIONS = 8
"""Sweeps of the policy's actions alone between two of all actions."""


@dataclass(frozen=True, eq=False)
class StockCertificate:
    """Functions of state and stock that prove themselves; see `banach.solvers.stock_check`.

    utility: the two slopes. lattice: m stocks. tails: int64 (T, 2), the places of the lattice up to which, and from which, the
    tails hold, T = 1 or H + 1 stages. lower, upper: float64 (T, n, m + 2), first and last column the constants of the tails.
    policy: int32 (T, n, m + 2), (H, ...) over a horizon. fingerprint: of the model.
    """

    utility: TwoSlopes
    lattice: Lattice
    tails: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    policy: np.ndarray
    fingerprint: str

    def __post_init__(self) -> None:
        for array in (self.tails, self.lower, self.upper, self.policy):
            array.setflags(write=False)


@dataclass(frozen=True, eq=False)
class StockBracket:
    """Brackets on the best E f(c + G). model: the problem. certificate: the proof. sweeps: applications of B, both sides."""

    model: OutcomeMDP
    certificate: StockCertificate
    sweeps: int

    def interval(self, state: int, stock: float) -> tuple[float, float]:
        """Floats between which the optimum from a state and a stock lies. Raises SolveError for a state that there is not."""
        if not 0 <= state < self.model.n_states:
            raise SolveError(f"there is no state {state}; states are 0..{self.model.n_states - 1}")
        low, high = (held(self.certificate, self.model, up, 0, state, Fraction(stock)) for up in (False, True))
        return _down(low), -_down(-high)

    def action(self, state: int, stock: float, stage: int = 0) -> int:
        """The action that guarantees the lower end, -1 in a terminal state; found in floats."""
        return int(self.actions(np.array([state]), np.array([float(stock)]), stage)[0])

    def actions(self, states: np.ndarray, stocks: np.ndarray, stage: int = 0) -> np.ndarray:
        """The same for many states and stocks, (k,) each; int32 (k,)."""
        proof, lattice = self.certificate, self.certificate.lattice
        stage = 0 if self.model.horizon is None else stage
        left, right = proof.tails[stage]
        place = stocks / lattice.spacing - lattice.first
        lo, hi = sorted((proof.utility.positive, proof.utility.negative))
        cell = np.clip(np.floor(place), 0, lattice.points - 2).astype(np.int64)
        below = (place - cell) * lattice.spacing
        table = proof.lower[stage]
        left_piece = table[states, cell + 1] + lo * below
        right_piece = table[states, cell + 2] - hi * (lattice.spacing - below)
        column = np.where(left_piece >= right_piece, cell + 1, cell + 2)
        column = np.where(place <= left, 0, np.where(place >= right, lattice.points + 1, column))
        return np.where(self.model.problem.terminal[states], -1, proof.policy[stage][states, column]).astype(np.int32)

    def returns(self, state: int, stock: float, episodes: int, rng: np.random.Generator, eps: float = 1e-6) -> np.ndarray:
        """Sampled returns of the policy from a state and a stock, float64 (episodes,); what is left out is at most eps.

        One uniform number a step and an episode is drawn from the generator.
        """
        model, problem, g = self.model, self.model.problem, self.model.discount
        most, steps = max(abs(end) for end in model.returns_within()), model.horizon
        if steps is None:
            steps = math.ceil(math.log(eps / max(most, eps)) / math.log(g)) if most > eps else 0
        passed = np.concatenate(([0.0], np.cumsum(problem.probability)))
        states, stocks = np.full(episodes, state), np.full(episodes, float(stock))
        found, scale = np.zeros(episodes), 1.0
        for step in range(steps):
            draws, going = rng.random(episodes), ~problem.terminal[states]
            pair = problem.state_ptr[states[going]] + self.actions(states[going], stocks[going], step)
            first, last = problem.row_ptr[pair], problem.row_ptr[pair + 1]
            sought = passed[first] + draws[going] * (passed[last] - passed[first])
            entry = np.clip(np.searchsorted(passed, sought, side="right") - 1, first, last - 1)
            reward = model.earned[0][entry]
            found[going] += scale * reward
            stocks[going] = (stocks[going] + reward) / g
            ended = problem.terminal[problem.successor[entry]]
            found[going] += scale * g * np.where(ended, problem.terminal_value[problem.successor[entry]], 0.0)
            states[going] = problem.successor[entry]
            scale *= g
        return found + (problem.terminal_value[state] if problem.terminal[state] else 0.0)


@dataclass(frozen=True)
class CVaRBracket:
    """lower, upper: floats around the best CVaR of all policies; the policy of `stock` from -at reaches at least lower."""

    lower: float
    upper: float
    at: float
    stock: StockBracket


def stock_bracket(problem: MDP | OutcomeMDP, utility: TwoSlopes, points: int = 1000) -> StockBracket:
    """Brackets on the best E f(c + G) of all policies, for every state and stock.

    utility: f. points: >= 3, most of the lattice of stocks; memory is 48 n points bytes, times H + 1 over a horizon.
    Raises ModelError for a problem without returns or too few points, SolveError for another utility.
    """
    if not isinstance(utility, TwoSlopes):
        raise SolveError(
            f"{utility} is not of two slopes; the lattice takes utilities of degree one, such as SHORTFALL or TARGET"
        )
    model = as_outcomes(problem)
    lattice = _lattice(model, points)
    tails = _tails(model, lattice)
    if model.horizon is None:
        lower, policy, below = _forever(model, utility, lattice, tails, False, None)
        upper, _, above = _forever(model, utility, lattice, tails, True, lower[0])
    else:
        (lower, policy, below), (upper, _, above) = (_backward(model, utility, lattice, tails, up) for up in (False, True))
    proof = StockCertificate(utility, lattice, tails, lower, upper, policy, model.fingerprint)
    return StockBracket(model, proof, below + above)


def cvar_bracket(problem: MDP | OutcomeMDP, level: float, *, state: int = 0, points: int = 1000) -> CVaRBracket:
    """Floats around the greatest CVaR over all policies, and a policy with a stock that reaches the lower one.

    level: in (0, 1]. Raises ModelError for another level, SolveError for a state that there is not.
    """
    tau = Fraction(CVaR(level).level)
    found = stock_bracket(problem, SHORTFALL, points)
    model, proof = found.model, found.certificate
    if not 0 <= state < model.n_states:
        raise SolveError(f"there is no state {state}; states are 0..{model.n_states - 1}")
    if model.problem.terminal[state] or model.horizon == 0:
        worth = float(model.problem.terminal_value[state])
        return CVaRBracket(worth, worth, worth, found)
    left, right = (int(place) for place in proof.tails[0])
    z = [Fraction(x) for x in proof.lattice.grid.tolist()]
    low, high = ([Fraction(x) for x in side[0, state].tolist()] for side in (proof.lower, proof.upper))
    reached, at = max((-z[i] + low[i + 1] / tau, -i) for i in range(left, right + 1))
    ends = [-z[i] + high[i + 1] / tau for i in range(left, right + 1)]
    ends += [-z[left] + (z[left] + high[0]) / tau, -z[right] + high[-1] / tau]
    step = natural_step(model)
    on_lattice = model.discount == 1 and (math.isinf(step) or Fraction(step) % Fraction(proof.lattice.spacing) == 0)
    if not on_lattice:  # else the best c is minus a possible return, a lattice point
        for i in range(left, right):
            kink = min(max(high[i + 2] - high[i + 1], Fraction(0)), z[i + 1] - z[i])
            ends.append(-(z[i] + kink) + min(high[i + 1] + kink, high[i + 2]) / tau)
    return CVaRBracket(_down(reached), -_down(-max(ends)), float(-z[-at]), found)


def held(proof: StockCertificate, model: OutcomeMDP, up: bool, stage: int, state: int, x: Fraction) -> Fraction:
    """The function of a side at a stage, a state and a stock, exactly."""
    p, q = Fraction(proof.utility.positive), Fraction(proof.utility.negative)
    if model.problem.terminal[state] or stage == model.horizon:
        after = x + Fraction(float(model.problem.terminal_value[state]))
        return (p if after >= 0 else q) * after
    row = (proof.upper if up else proof.lower)[stage, state]
    h, first = Fraction(proof.lattice.spacing), proof.lattice.first
    left, right = (int(place) for place in proof.tails[stage])
    if x <= (first + left) * h:
        return q * x + Fraction(float(row[0]))
    if x >= (first + right) * h:
        return p * x + Fraction(float(row[-1]))
    cell = math.floor(x / h) - first
    below = x - (first + cell) * h
    one, two = Fraction(float(row[cell + 1])), Fraction(float(row[cell + 2]))
    if up:
        return min(one + max(p, q) * below, two - min(p, q) * (h - below))
    return max(one + min(p, q) * below, two - max(p, q) * (h - below))


def _lattice(model: OutcomeMDP, points: int) -> Lattice:
    """A lattice that holds every stage's tails, rounded outwards stage by stage."""
    stages = 1 if model.horizon is None else model.horizon + 2
    ends = _tails(model, None)
    low, high = float(min(end for end, _ in ends)), float(max(end for _, end in ends))
    step = natural_step(model)
    if model.discount == 1 and math.isfinite(step) and (high - low) / step + 3 <= points:
        return Lattice.covering(low - step, high + step, points, step)
    if points < 8 * stages:
        raise SolveError(f"a lattice of {points} stocks for {stages - 1} stages; give at least {8 * stages} points")
    slack = 2 * stages * (high - low) / (points - 4 * stages)
    return Lattice.covering(low - slack, high + slack, points)


def _tails(model: OutcomeMDP, lattice: Lattice | None) -> Any:
    """Stocks up to which nothing can rise above zero any more, and from which nothing can fall below; a pair a stage.

    As places of the lattice, int64 (T, 2), or, without one, as exact numbers.
    """
    g, used = Fraction(model.discount), model.problem.probability > 0
    least = Fraction(float(model.earned[0][used].min(initial=0.0)))
    most = Fraction(float(model.earned[1][used].max(initial=0.0)))
    worth = [Fraction(w) for w in model.problem.terminal_value[model.problem.terminal].tolist()]
    h = Fraction(lattice.spacing) if lattice is not None else Fraction(1)
    down, up = (math.floor, math.ceil) if lattice is not None else (Fraction, Fraction)
    if model.horizon is None:
        found = [
            (down(min([-most / (1 - g), *(-w for w in worth)]) / h), up(max([-least / (1 - g), *(-w for w in worth)]) / h))
        ]
    else:
        left, right = min([Fraction(0), *(-w for w in worth)]), max([Fraction(0), *(-w for w in worth)])
        found = [(down(left / h), up(right / h))]
        for _ in range(model.horizon):
            before, after = found[-1]
            found.append((down(min(left, g * before * h - most) / h), up(max(right, g * after * h - least) / h)))
    return found[::-1] if lattice is None else np.array(found[::-1], dtype=np.int64) - lattice.first


def _down(number: Fraction) -> float:
    near = float(number)
    return near if Fraction(near) <= number else math.nextafter(near, -math.inf)


def _sweep(
    model: OutcomeMDP, utility: TwoSlopes, lattice: Lattice, tails: Any, ends: bool, up: bool,
    value: np.ndarray, out: np.ndarray, policy: np.ndarray, improve: bool = True,
) -> tuple[float, float]:  # fmt: skip
    problem, cells = model.problem, value.shape[1] * model.problem.n_transitions
    parts = n_threads() if cells >= WORTH_SHARING else 1
    cuts = split(problem.row_ptr[problem.state_ptr], parts) if parts > 1 else np.array([0, model.n_states])
    size = tuple(float(np.abs(array).max(initial=0.0)) for array in (value, model.earned[0], problem.terminal_value))
    line = (model.discount, float(lattice.first), lattice.spacing, float(tails[0]), float(tails[1]))
    on = Stocks(up, float(utility.positive), float(utility.negative), *line, ends)
    found = run_ranges(
        stock_sweep, cuts, improve, on, size, problem.state_ptr, problem.row_ptr, problem.successor, problem.probability,
        model.earned[0], problem.terminal, problem.terminal_value, value, out, policy,
    )  # fmt: skip
    return max(most for most, _ in found), min(least for _, least in found)


def _backward(
    model: OutcomeMDP, utility: TwoSlopes, lattice: Lattice, tails: np.ndarray, up: bool
) -> tuple[np.ndarray, np.ndarray, int]:
    horizon: Any = model.horizon
    value = np.zeros((horizon + 1, model.n_states, lattice.points + 2))
    policy = np.full((horizon, model.n_states, lattice.points + 2), -1, dtype=np.int32)
    for stage in range(horizon - 1, -1, -1):
        last = stage == horizon - 1
        _sweep(model, utility, lattice, tails[stage + 1], last, up, value[stage + 1], value[stage], policy[stage])
    return value, policy, horizon


def _forever(
    model: OutcomeMDP, utility: TwoSlopes, lattice: Lattice, tails: np.ndarray, up: bool, start: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, int]:
    """Modified policy iteration until all actions together change little beside the lattice, then moved to its side.

    start: a value to begin from, (n, m + 2).
    """
    shape = (model.n_states, lattice.points + 2)
    policy = np.full(shape, -1, dtype=np.int32)
    if start is None:
        value = np.zeros(shape)
        value[:, 1:-1] = np.where(lattice.grid >= 0, utility.positive, utility.negative) * lattice.grid
    else:
        value = start.copy()
    out, g = value.copy(), model.discount
    enough = 1e-2 * lattice.spacing * max(utility.lipschitz, 2.0**-100) * (1 - g)
    most = least = 0.0
    sweeps = 0
    for sweeps in itertools.count(1):
        improve = sweeps % (_EVALUATIONS + 1) == 1
        most, least = _sweep(model, utility, lattice, tails[0], False, up, value, out, policy, improve)
        if improve and (max(most, -least) <= enough or sweeps >= _SWEEPS or most < least):
            break
        value, out = out, value
    wrong = max(most, 0.0) if up else max(-least, 0.0)
    rounding = 2.0**-50 * float(np.abs(value).max(initial=0.0))
    move = (wrong * (1 + 1e-9) + rounding) / (1 - g) * (1 + 1e-9)
    moved = value + move if up else value - move
    moved[model.problem.terminal] = 0.0
    return moved[None], policy[None], sweeps
