r"""From a nearly optimal policy of a total-reward problem to a bracket that the checker accepts.

Let p be a proper policy of the quotient with value v = r_p + P_p v, and w >= 1 + P_p w its expected steps. For small d > 0

    u = v + d w     has    T_p u = u - d,         l = v - d w     has    T_p l = l + d,

so l is strictly inductive, and u is too when no pair gains more than -d/2, say, on it. A pair that does is taken into the
policy: this is policy iteration for the rewards r + d, which ends with u the value of that problem, an upper bound with slack
d, unless loops that lose less than d a step are worth dwelling in. Then the least d that rounding leaves is looked for. In the
same way, rewards r - d lead the lower side to the fastest of the policies that tie. Both sides hold with slack, as they must
where the bounds have the sign that lets a loop cheat (`banach.solvers.check`), and the bracket is 2 d w wide.

Where the loops to dwell in lose nothing that floating point could show (a walk against a strong drift), w is astronomical. Then
the states they join are merged (`flattened`), which can only raise the value and makes u equal on them, without need of slack.

Where every reward is below -c < 0, w = (C - v)/c with C >= v does as well, for every policy at once and without solving for it:
P_p (C - v) <= (C - v) + r_p.

Then everything is carried back to the original states. An end component's states share v and u; on the lower side w counts the
steps inside it that lead to the exit. What the graph alone proves is cut off: u <= 0 where nothing positive can be
reached, l >= 0 where the policy can reach nothing negative, constants where rewards have one sign. Last, every inequality
of the result is decided exactly.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn

import numpy as np

from .collapse import Quotient
from .end_components import flattened
from .errors import InfiniteValue, NotConverged
from .inductive import holds_above, holds_below
from .proper_policy import SMALL, first_guess
from .proper_policy_iteration import expected_steps, gains, make_proper, polished, steps_of_lifted, with_slack

_SHARE = 0.45
"""Part of eps that each side of the bracket takes."""
_TIGHTER = 2.0**-10
"""Part of that which is tried first where linear systems are solved at once, so that digits come for nothing."""
_LEAST_SLACK = 2.0**-52
"""Slack, as a share of the values, from which the search goes up when loops exploit the largest."""
_SPREADS = (2.0**-48, 2.0**-44, 2.0**-40)
"""Differences, as a share of the values, that are flattened in turn."""
_WIDENINGS = 40
"""Times that eps is doubled, to say what could be reached."""


@dataclass(frozen=True)
class Bracket:
    """lower, upper: float64 (n,). policy: int32 (n,). All on the original states, proved."""

    lower: np.ndarray
    upper: np.ndarray
    policy: np.ndarray

    @property
    def width(self) -> float:
        """Largest entry of upper - lower."""
        return float(np.max(self.upper - self.lower, initial=0.0))


def certify(quotient: Quotient, value: np.ndarray, policy: np.ndarray, eps: float) -> Bracket:
    """A proved bracket no wider than eps. value: (N,), near the optimum. policy: int32 (N,), nearly greedy.

    Raises NotConverged with the width that was reached, InfiniteValue where loops of mixed rewards cannot be proved losing.
    """
    bracket = _scaled(quotient, value, policy, eps)
    if bracket is not None:
        return bracket
    policy, share = make_proper(quotient, policy), _SHARE * eps
    value, policy = polished(quotient, value, policy, share / 16)
    shares = [share * 2**k for k in range(_WIDENINGS)]
    if quotient.model.n_states <= SMALL:
        shares.insert(0, share * _TIGHTER)
    for share in shares:
        below = _lower_side(quotient, value, policy, share)
        above = None if below is None else _upper_side(quotient, value, below[1], share)
        if below is not None and above is not None:
            break
    else:
        _give_up(quotient)
    bracket = Bracket(below[0], above, quotient.lift_policy(below[1]))
    if bracket.width <= eps:
        return bracket
    raise NotConverged(
        f"the proved bracket is {bracket.width:.3g} wide and rounding allows little less (asked for {eps:.3g}): the process "
        "takes too many steps for its values' last digits; ask for a wider eps",
        reached=bracket.width,
    )


def _give_up(quotient: Quotient) -> NoReturn:
    if quotient.mixed >= 0:
        raise InfiniteValue(
            f"{quotient.where(quotient.mixed)}: it belongs to a loop of gains and costs that could not be proved to lose on "
            "the whole; if it does not, the total is infinite or undefined; discount it, or average it with AverageReward()"
        )
    raise NotConverged(
        "no bracket could be proved: some loop loses too little a step to be told from a free one in floating point"
    )


def _scaled(quotient: Quotient, value: np.ndarray, policy: np.ndarray, eps: float) -> Bracket | None:
    """The bracket v -+ d (C - v), where every reward is negative and v is near enough."""
    problem, model = quotient.problem, quotient.model
    if problem.n_pairs == 0 or problem.reward.max() >= 0:
        return None
    steps = max(0.0, float(problem.terminal_value.max())) - value
    for share in (_TIGHTER * eps, eps) if model.n_states <= SMALL else (eps,):
        delta = share / (3 * float(steps.max()))
        upper, lower = value + delta * steps, value - delta * steps
        acting = ~model.terminal
        if not (gains(quotient, upper, policy)[0][acting].max() < 0 < gains(quotient, lower, policy)[2][acting].min()):
            continue
        lifted = quotient.lift_policy(policy)
        bracket = Bracket(_floored(quotient, quotient.lift(lower), lifted), _capped(quotient, upper), lifted)
        if bracket.width <= eps and holds_below(problem, bracket.lower, lifted) and holds_above(problem, bracket.upper):
            return bracket
    return None


def _lower_side(
    quotient: Quotient, value: np.ndarray, policy: np.ndarray, share: float
) -> tuple[np.ndarray, np.ndarray] | None:
    """(lower (n,), quotient policy (N,)), proved and about `share` below the policy's value; None where rounding forbids it."""
    longest = float(steps_of_lifted(quotient, policy).max(initial=1.0))
    for _ in range(2):  # the second time with the slack that a faster policy allows
        delta = share / longest
        slacked = with_slack(quotient, value, policy, -delta, np.inf)
        if slacked is None:
            return None
        below, policy = slacked
        steps, lifted = steps_of_lifted(quotient, policy), quotient.lift_policy(policy)
        lower = quotient.lift(below) - delta * (steps - quotient.lift(expected_steps(quotient, policy)))
        lower = _floored(quotient, lower, lifted)
        if delta * float(steps.max()) <= 1.1 * share and holds_below(quotient.original, lower, lifted):
            return lower, policy
        longest = float(steps.max(initial=1.0))
    return None


def _upper_side(quotient: Quotient, value: np.ndarray, policy: np.ndarray, share: float) -> np.ndarray | None:
    """upper (n,), proved and little more than `share` above the value (N,) of the policy, or None."""
    upper = _upper_by_slack(quotient, value, policy, share, lambda vector: _capped(quotient, vector))
    if upper is not None or quotient.mixed >= 0:
        return upper
    value, _ = polished(quotient, value, policy, 0.0)
    for spread in _SPREADS:
        flat = flattened(quotient, value, spread * float(np.abs(value).max()))
        if flat is None:
            continue
        start, (_, choice) = flat.settle(value), first_guess(flat.model)
        start, choice = polished(flat, start, make_proper(flat, gains(flat, start, choice)[1]), 0.0)
        upper = _upper_by_slack(flat, start, choice, share, lambda vector, flat=flat: _capped(quotient, flat.lift(vector)))
        if upper is not None:
            return upper
    return None


def _upper_by_slack(
    quotient: Quotient, value: np.ndarray, policy: np.ndarray, share: float, finish: Callable[[np.ndarray], np.ndarray]
) -> np.ndarray | None:
    """Search for a slack that rounding leaves and loops do not exploit. finish: brings a vector to the original's states."""
    largest = share / float(expected_steps(quotient, policy).max(initial=1.0))
    delta = largest
    while delta <= largest:
        slacked = with_slack(quotient, value, policy, delta, value + 1.1 * share)
        if slacked is not None:
            upper = finish(slacked[0])
            if holds_above(quotient.original, upper):
                return upper
        if (slacked is None) == (delta < largest):
            return None
        delta = 2 * delta if delta < largest else max(_LEAST_SLACK * float(np.abs(value).max()), 2.0**-1000)
    return None


def _capped(quotient: Quotient, upper: np.ndarray) -> np.ndarray:
    """An upper vector (N,) on the original states, cut off at what the graph proves."""
    problem, upper = quotient.problem, quotient.lift(upper)
    terminal, worth, reward = problem.terminal, problem.terminal_value, problem.reward
    upper[terminal] = worth[terminal]
    if (reward <= 0).all():
        np.minimum(upper, max(0.0, worth.max()), out=upper, where=~terminal)
    source = worth > 0
    source[problem.pair_state[reward > 0]] = True
    if source.any():
        barren = ~quotient.graph.can_reach(source) & ~terminal
        np.minimum(upper, 0.0, out=upper, where=barren)
    return upper


def _floored(quotient: Quotient, lower: np.ndarray, lifted: np.ndarray) -> np.ndarray:
    """A lower vector (n,) of the policy (n,), cut off at what its graph proves."""
    problem = quotient.problem
    terminal, worth = problem.terminal, problem.terminal_value
    lower[terminal] = worth[terminal]
    chosen = (problem.state_ptr[:-1] + lifted)[~terminal]
    reward = problem.reward[chosen]
    if (reward < 0).all():
        return lower
    if (reward >= 0).all():
        np.maximum(lower, min(0.0, worth.min()), out=lower, where=~terminal)
    source, allowed = worth < 0, np.zeros(problem.n_pairs, dtype=np.bool_)
    allowed[chosen] = True
    source[problem.pair_state[chosen[reward < 0]]] = True
    safe = ~quotient.graph.can_reach(source, allowed) & ~terminal
    np.maximum(lower, 0.0, out=lower, where=safe)
    return lower
