r"""Interval iteration: value iteration from below and from above until the two meet.

On the quotient by end components v = T v has one solution, so T^k l increases to v from any bound l below, T^k u decreases to
it from any bound u above, and the answer is known to lie between (Haddad and Monmege 2014, 2018; Brazdil et al. 2014). Sweeps
are Jacobi's, on both vectors.

Where it starts: rewards of one sign bound v on one side by 0 and the terminal values. On the other side, order the states so
that under every policy meant each has a chance to go to an earlier one, and let

    d_s = min_a sum over earlier t of p(t | s, a) d_t,        d = 1 where the process stops,

the least chance to go straight down the order, which never returns to s: state s is visited 1/d_s times at most in expectation,
and totals are bounded by sum_s |r|_s / d_s (Baier, Klein, Leuschner, Parker, Wunderlich, CAV 2017). From below one proper
policy is enough; from above, when there are positive rewards, it takes every policy.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numba
import numpy as np

from ..mdp.model import MDP
from .collapse import Quotient
from .errors import NotConverged
from .proper_policy import first_guess

_index = np.uintp
_ROUNDING = 2.0**-40


@dataclass(frozen=True)
class IntervalIteration:
    """Total reward and reachability from both sides at once, then proved.

    max_sweeps: sweeps of both vectors before giving up with `NotConverged`.
    """

    max_sweeps: int = 1_000_000

    def run_quotient(self, quotient: Quotient, eps: float, watch: Any) -> tuple[np.ndarray, np.ndarray]:
        """(value (N,), greedy policy (N,)): the middle of an interval at most eps wide. Raises NotConverged."""
        operator = quotient.model.operator
        lower, upper = bound_below(quotient), bound_above(quotient)
        spare, policy = np.empty_like(lower), np.empty(len(lower), dtype=np.int32)
        width = float((upper - lower).max())
        for _ in range(self.max_sweeps):
            if width <= eps:
                operator.apply(lower, spare, policy)
                return lower + (upper - lower) / 2, policy
            operator.apply(lower, spare, policy)
            moved = bool((spare > lower).any())
            np.maximum(lower, spare, out=lower)
            operator.apply(upper, spare, policy)
            moved |= bool((spare < upper).any())
            np.minimum(upper, spare, out=upper)
            width = float((upper - lower).max())
            watch(lower, width, 2)
            if not moved:
                break
        raise NotConverged(
            f"the interval is still {width:.3g} wide after its sweeps (asked for {eps:.3g}); raise max_sweeps, or use "
            "PolicyIteration() where the process takes many steps",
            reached=width,
        )


def bound_below(quotient: Quotient) -> np.ndarray:
    """A vector (N,) below the optimum of the quotient, equal to it where the process stops. Raises NotConverged where its
    number is beyond floating point."""
    model, acting = quotient.model, ~quotient.model.terminal
    _, policy = first_guess(model)
    chosen = np.zeros(model.n_pairs, dtype=np.bool_)
    chosen[(model.state_ptr[:-1] + policy)[acting]] = True
    paid = _most_collected(quotient, -np.minimum(model.reward, 0.0), chosen)
    least = min(0.0, float(model.terminal_value.min()))
    return np.where(acting, least - (paid + _ROUNDING * (paid - least) if paid else 0.0), model.terminal_value)


def bound_above(quotient: Quotient) -> np.ndarray:
    """A vector (N,) above the optimum of the quotient, equal to it where the process stops. Raises NotConverged where there
    are positive rewards and some policy never stops, or the number is beyond floating point."""
    model = quotient.model
    collected = _most_collected(quotient, np.maximum(model.reward, 0.0), np.ones(model.n_pairs, dtype=np.bool_))
    most = max(0.0, float(model.terminal_value.max()))
    most += collected + _ROUNDING * (collected + most) if collected else 0.0
    return np.where(model.terminal, model.terminal_value, most)


def _most_collected(quotient: Quotient, reward: np.ndarray, allowed: np.ndarray) -> float:
    """Bound on what any policy of allowed pairs collects of a reward >= 0 a pair."""
    model = quotient.model
    if not (reward[allowed] > 0).any():
        return 0.0
    chance = straight_down(model, allowed)
    stuck = np.flatnonzero(np.isnan(chance))
    if len(stuck):
        pair = int(quotient.origin[model.state_ptr[stuck[0]]])
        raise NotConverged(
            f"{quotient.where(pair)}: some policy never stops here, so no bound from above is known to start from; "
            "use PolicyIteration()"
        )
    most = np.zeros(model.n_states)
    np.maximum.at(most, model.pair_state[allowed], reward[allowed])
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        bound = float(np.sum(most[most > 0] / chance[most > 0]))
    if not np.isfinite(bound):
        raise NotConverged(
            "the only bound known to start from is beyond floating point: the process may take too many steps; use "
            "PolicyIteration()"
        )
    return bound


def straight_down(model: MDP, allowed: np.ndarray) -> np.ndarray:
    """d of the module's docstring, (N,), rounded down a little; nan where a policy of allowed pairs may never stop."""
    kernel: Any = _straight_down
    return kernel(model.state_ptr, model.row_ptr, model.successor, model.probability, allowed)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _straight_down(state_ptr, row_ptr, successor, probability, allowed):
    """Rounds over the states still without d; one joins when each of its allowed pairs may lead to a state that has it."""
    n_states = len(state_ptr) - 1
    chance, left, size = np.full(n_states, np.nan), np.empty(n_states, np.int32), 0
    for s in range(n_states):
        if state_ptr[s] == state_ptr[s + 1]:
            chance[s] = 1.0
        else:
            left[size] = s
            size += 1
    joined = True
    while joined and size > 0:
        joined, kept = False, 0
        for k in range(size):
            state = _index(left[k])
            least = np.inf
            for pair in range(_index(state_ptr[state]), _index(state_ptr[state + _index(1)])):
                if not allowed[pair]:
                    continue
                total = 0.0
                for entry in range(_index(row_ptr[pair]), _index(row_ptr[pair + _index(1)])):
                    target = _index(successor[entry])
                    if not np.isnan(chance[target]):
                        total += probability[entry] * chance[target]
                least = min(least, total)
            if least > 0.0:
                chance[state] = least * (1.0 - 2.0**-40)
                joined = True
            else:
                left[kept] = state
                kept += 1
        size = kept
    return chance
