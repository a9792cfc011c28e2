r"""Average reward against nature, (s, a)-rectangular.

Rows are weights: true probabilities are p / m, with m the mass of the nominal row, which all rows of nature's share. With

    (T v)(s) = max_a [ r(s, a) + min {p . z : p in U(s, a)} / m ],      z(j) = r(s, a, j) + v(j),

T(v + c) = T v + c, and for every vector v, with p greedy,

    min (T_p v - v)  <=  what p gains, whatever nature does  <=  the best robust gain  <=  max (T v - v),

from every state, whatever the chains look like: summed over K steps, v <= T_p v - c gives K c up to the bounded span of v
against any nature, and at the rows that are worst at v no policy makes more of T v <= v + C. So a bracket needs no assumption;
that it closes does. Where every policy with every kernel has one recurrent class, as contamination or total variation over all
states has it, v <- v + (1 - kappa)(T v - v) - constant closes it (Wang, Velasquez, Atia, Prater-Bennette and Zou 2023,
arXiv:2301.00858; kappa removes periods: Schweitzer 1971). Between two sweeps of T run sweeps of the chain that is frozen with
nature's rows, at the price of a product; they are halved in number whenever they stop helping.

Where the gain depends on the state, a bracket of one number for all states cannot close, and `NotConverged` says so.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..mdp.packed import pack
from ..mdp.robust import RobustMDP
from ..mdp.sweeps import UNIT_ROUNDOFF
from .answer import Answer
from .errors import NotConverged, SolveError
from .relative_value_iteration import RelativeValueIteration
from .watch import Watch

_TIGHTER = (0.9, 0.3, 0.02)
"""Shares of eps that the sweeps are asked for, in turn, until the bracket, rounding included, is no wider than eps."""

_PATIENCE = 25
"""Sweeps of T without a narrower bracket after which the sweeps of a frozen chain are halved."""

_HOPELESS = 2_000
"""Sweeps of T, none of a frozen chain between them, that do not narrow the bracket by a hundredth."""


def solve_robust_average_reward(problem: RobustMDP, method: Any, eps: float, start: np.ndarray | None, watch: Watch) -> Answer:
    """Answer of a robust average-reward maximisation problem; gains (n_states,), witness lower_bias, upper_bias, (n_states,).

    start: (n_states,) or None. Raises SolveError for s-rectangular sets, rows of their own mass and other methods than
    RelativeValueIteration; NotConverged, which says what was reached, where the bracket does not close.
    """
    if problem.rectangularity != "sa":
        raise SolveError("robust average reward is offered for (s, a)-rectangular sets; give one set a pair, or discount")
    if not problem.set_of(0).keeps_mass:
        raise SolveError(
            f"rows of {type(problem.set_of(0)).__name__} have a mass of their own, which an average over infinitely many steps "
            "does not forgive; write their hull as a Polytope, or discount"
        )
    if method is not None and not isinstance(method, RelativeValueIteration):
        raise SolveError(
            f"{method!r} does not solve robust average-reward problems; use RelativeValueIteration() or none at all"
        )
    settings, reason = method or RelativeValueIteration(), "sweeps bracket the gain whatever nature does"
    value, reached = np.zeros(problem.n_states) if start is None else start, np.inf
    for share in _TIGHTER:
        value = _swept(problem, settings, value, share * eps, watch)
        lower, upper, policy, bias = _bracket(problem, value)
        width = upper - lower
        if width <= eps:
            everywhere = np.ones(problem.n_states)
            witness = {"lower_bias": bias, "upper_bias": bias.copy()}
            return Answer(lower * everywhere, upper * everywhere, policy, settings, reason, witness)
        if width > 0.999 * reached:
            break
        reached = min(reached, width)
    raise NotConverged(
        f"the proved bracket is {reached:.3g} wide and rounding allows no less (asked for {eps:.3g}); ask for a wider eps",
        reached=reached,
    )


def _swept(problem: RobustMDP, settings: RelativeValueIteration, value: np.ndarray, eps: float, watch: Watch) -> np.ndarray:
    """A bias (n_states,) whose bracket is narrower than eps. Raises NotConverged."""
    operator: Any = problem.operator
    step, sweeps, width = 1.0 - settings.kappa, settings.sweeps, np.inf
    value, image, policy = value.copy(), np.empty_like(value), operator.blank_policy()
    narrowest, stalled = np.inf, 0
    for _ in range(settings.max_rounds):
        low, high = operator.apply(value, image, policy)
        width = high - low
        watch(value, width, 1 + sweeps)
        if width <= eps:
            return value
        stalled = 0 if width < 0.99 * narrowest else stalled + 1
        narrowest = min(narrowest, width)
        if stalled > (_PATIENCE if sweeps else _HOPELESS):
            if not sweeps:
                break
            sweeps, stalled, narrowest = sweeps // 2, 0, width
        shift = step * (low / 2 + high / 2)
        value += step * (image - value) - shift
        if sweeps:
            chain = operator.frozen(policy, value)
            packed = pack(chain, 1.0, np.zeros(problem.n_states, dtype=np.int32), loops=False)
            for _ in range(sweeps):
                packed.apply(value, image)
                value += step * (image - value) - shift
    raise NotConverged(
        f"the gain's bracket is still {width:.3g} wide after {len(watch.history)} sweeps of T (asked for {eps:.3g}). Where the "
        "robust gain depends on the state no bracket for all states closes: see that every policy has one recurrent class "
        'whatever nature does, as Contamination(..., support="all") does, discount, or raise max_rounds',
        reached=width,
    )


def _bracket(problem: RobustMDP, value: np.ndarray) -> tuple[float, float, np.ndarray, np.ndarray]:
    """(lower, upper, policy, bias): gains proved by the bias (n_states,), in exact arithmetic, with a guard for the checker."""
    operator: Any = problem.operator
    bias = value - (value.min() / 2 + value.max() / 2)
    below, above, policy = np.empty_like(bias), np.empty_like(bias), operator.blank_policy()
    operator.enclose(bias, policy, below, above)
    gain = problem.transition_reward
    size = float(np.abs(bias).max()) + float(np.abs(problem.reward).max())
    size += 0.0 if gain is None else float(np.abs(gain).max(initial=0.0))
    sums = np.add.reduceat(problem.problem.probability, problem.row_ptr[:-1])
    longest = int(np.diff(problem.row_ptr).max())
    mass = float(np.abs(sums - 1).max()) + 2 * longest * UNIT_ROUNDOFF
    whole = size + float(np.abs(below).max()) + float(np.abs(above).max())
    slack = 1.1 * mass * whole + 16 * (longest + 10) * UNIT_ROUNDOFF * whole + 2.0**-900
    return float((below - bias).min()) - slack, float((above - bias).max()) + slack, policy, bias
