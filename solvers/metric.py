r"""Bisimulation metrics: how far two states are from being the same, and so from being worth the same.

With W(d) Kantorovich's distance for the cost d, the least fixed points of

    d(s, t) = max_a D_d(s, a, t, a)                                             Ferns, Panangaden and Precup 2004, 2011
    d(s, t) = max( max_a min_b D_d(s, a, t, b), max_b min_a D_d(s, a, t, b) )   lax: Taylor, Precup and Panangaden 2008
    d(s, t) = D_d of the one action that a policy leaves                        on-policy: Castro 2020

    D_d(s, a, t, b) = c_R |r(s, a) - r(t, b)| + c_T W(d)(P(. | s, a), P(. | t, b))

vanish exactly on bisimilar states (on those that the lax bisimulation merges; that the policy cannot tell apart) and, for
g <= c_T < 1, bound values: c_R |V*(s) - V*(t)| <= d(s, t). Rows are weights, divided by their sums. A terminal state counts as
one that stays and pays (1 - g) times its value a step, whatever is done, which is worth the same.

F is monotone and moves a constant by c_T, so d is bracketed as a value is (`banach.solvers.bracket`): iterate x to near the
fixed point, enclose F x with W bracketed from both sides (`banach.solvers.transport_kernels`), and

    x + min(0, min(F x - x)) / (1 - c_T)  <=  d  <=  x + max(0, max(F x - x)) / (1 - c_T).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ..mdp.criterion import Discounted
from ..mdp.model import MDP
from ..mdp.quotient import Partition
from ..mdp.sweeps import UNIT_ROUNDOFF
from ..mdp.threads import n_threads, run_ranges, split
from ..mdp.validation import is_real
from . import metric_kernels as kernels
from .errors import NotConverged, SolveError
from .transport import NetworkSimplex, TransportMethod

MAX_STATES = 2_000
"""States above which n^2 transport problems a sweep are refused, unless every row has one successor."""
_SHARE = 0.25
_MOST_SWEEPS = 100_000


@dataclass(frozen=True, eq=False)
class Metric:
    """A proved bracket of a distance between states.

    lower, upper: (n_states, n_states), symmetric, >= 0. sweeps: evaluations of F.
    """

    lower: np.ndarray
    upper: np.ndarray
    sweeps: int

    @property
    def width(self) -> float:
        """Largest entry of upper - lower."""
        return float(np.max(self.upper - self.lower, initial=0.0))

    @property
    def value(self) -> np.ndarray:
        """Centre of the bracket, (n_states, n_states)."""
        return self.lower + (self.upper - self.lower) / 2


@dataclass(frozen=True, eq=False)
class Rows:
    """Pairs of all states, terminal ones included, without entries of probability zero. n states, m pairs, z entries.

    state_ptr: (n + 1,). row_ptr: (m + 1,). successor, weight: (z,), each row of sum one. reward: (m,).
    """

    state_ptr: np.ndarray
    row_ptr: np.ndarray
    successor: np.ndarray
    weight: np.ndarray
    reward: np.ndarray


def bisimulation_metric(
    model: MDP,
    eps: float = 1e-6,
    *,
    transport: TransportMethod | None = None,
    reward_scale: float = 1.0,
    transport_scale: float | None = None,
) -> Metric:
    """Ferns' metric, actions matched by their position among their state's.

    eps: > 0, the bracket is nowhere wider. transport: default `NetworkSimplex()`. reward_scale: c_R > 0. transport_scale: c_T
    in [discount, 1), default the discount.
    Raises SolveError for a problem that is not discounted, has too many states, or states with different numbers of actions,
    and NotConverged where an entropic transport is too blunt for eps.
    """
    counts = np.diff(model.state_ptr)[~model.terminal]
    if len(np.unique(counts)) > 1:
        raise SolveError("states differ in their number of actions, which positions cannot match; use lax_bisimulation_metric")
    return _metric(model, eps, transport, reward_scale, transport_scale, False, int(counts.max(initial=1)))


def lax_bisimulation_metric(
    model: MDP,
    eps: float = 1e-6,
    *,
    transport: TransportMethod | None = None,
    reward_scale: float = 1.0,
    transport_scale: float | None = None,
) -> Metric:
    """The metric that matches each action with the best one of the other state; the rest as in `bisimulation_metric`.

    Raises SolveError and NotConverged as that does, but for numbers of actions.
    """
    return _metric(model, eps, transport, reward_scale, transport_scale, True, 1)


def policy_metric(
    model: MDP,
    policy: np.ndarray,
    eps: float = 1e-6,
    *,
    transport: TransportMethod | None = None,
    reward_scale: float = 1.0,
    transport_scale: float | None = None,
) -> Metric:
    """The metric of the chain that a policy makes, int (n_states,) or weights of actions (n_pairs,); `bisimulation_metric` of
    it.

    It bounds |v_policy(s) - v_policy(t)|, and is NOT bounded by Ferns' metric: a policy may treat bisimilar states differently.
    Raises SolveError and NotConverged as `bisimulation_metric` does, SolveError for what is no policy.
    """
    chain = policy_chain(model, policy)
    return _metric(chain, eps, transport, reward_scale, transport_scale, False, 1)


def policy_chain(model: MDP, policy: np.ndarray) -> MDP:
    """The problem with one action a state, a mixture of its actions; int (n_states,) or weights >= 0 (n_pairs,).

    Raises SolveError for what is no policy.
    """
    policy = np.asarray(policy)
    counts = np.diff(model.state_ptr)
    if policy.dtype.kind in "iu":
        if policy.shape != (model.n_states,) or np.any((policy < 0) | (policy >= counts), where=~model.terminal):
            raise SolveError(f"a policy names one of its actions for each of {model.n_states} states; got shape {policy.shape}")
        weights = np.zeros(model.n_pairs)
        weights[(model.state_ptr[:-1] + policy)[~model.terminal]] = 1.0
    else:
        weights = np.asarray(policy, dtype=np.float64)
        if weights.shape != (model.n_pairs,) or not np.isfinite(weights).all() or np.any(weights < 0):
            raise SolveError(f"a randomised policy is {model.n_pairs} weights >= 0, one a pair; got shape {weights.shape}")
    total = np.bincount(model.pair_state, weights, minlength=model.n_states)
    for state in np.flatnonzero(~model.terminal & (np.abs(total - 1) > 1e-9))[:1].tolist():
        raise SolveError(f"state {model.state_of(state)}: the policy's weights sum to {total[state]:.12g}, not to one")
    lengths = np.diff(model.row_ptr)
    kept = np.repeat(weights > 0, lengths)
    mixed = (model.probability * np.repeat(weights / total[model.pair_state], lengths))[kept]
    entry_state = np.repeat(model.pair_state, lengths)[kept]
    reward = np.bincount(model.pair_state, weights * model.reward / total[model.pair_state], minlength=model.n_states)
    per_state = np.bincount(entry_state, minlength=model.n_states)[~model.terminal]
    return model.replace(
        state_ptr=np.concatenate(([0], np.cumsum(~model.terminal))),
        row_ptr=np.concatenate(([0], np.cumsum(per_state))),
        successor=model.successor[kept],
        probability=mixed,
        reward=reward[~model.terminal],
        action_names=None,
    )


def _metric(
    model: MDP, eps: float, transport: TransportMethod | None, c_r: float, c_t: float | None, lax: bool, repeats: int
) -> Metric:
    c_t = require_metric(model, eps, c_r, c_t)
    rows = rows_of(model, repeats)
    if model.n_states > MAX_STATES and int(np.diff(rows.row_ptr).max()) > 1:
        raise SolveError(f"{model.n_states} states need {model.n_states}^2 transports a sweep; at most {MAX_STATES} are taken")
    chosen = transport or NetworkSimplex()
    n = model.n_states
    here, low, high = np.zeros((n, n)), np.zeros((n, n)), np.zeros((n, n))
    parts = n_threads() if n >= 64 else 1
    cuts = split(np.arange(n + 1, dtype=np.int64) ** 2, parts)
    longest = int(np.diff(rows.row_ptr).max())

    def enclose() -> None:
        run_ranges(
            kernels.enclose, cuts, rows.state_ptr, rows.row_ptr, rows.successor, rows.weight, rows.reward, c_r, c_t, lax,
            longest, *chosen.settings, here, low, high,
        )  # fmt: skip

    enclose()
    sweeps = 1
    while float(np.abs(high - here).max()) > _SHARE * (1 - c_t) * eps and sweeps < _MOST_SWEEPS:
        here, high = high, here
        enclose()
        sweeps += 1
    over = max(0.0, float((high - here).max())) / (1 - c_t)
    under = min(0.0, float((low - here).min())) / (1 - c_t)
    guard = 8 * UNIT_ROUNDOFF
    upper = here * (1 + guard) + over * (1 + guard)
    lower = np.maximum(0.0, here * (1 - guard) + under * (1 + guard))
    np.fill_diagonal(upper, 0.0)
    np.fill_diagonal(lower, 0.0)
    found = Metric(lower, upper, sweeps)
    if found.width > eps:
        raise NotConverged(
            f"the bracket is {found.width:.3g} wide (asked for {eps:.3g}), and transport by {chosen} tells no more: regularise "
            "less, use NetworkSimplex(), or ask for a wider eps",
            reached=found.width,
        )
    return found


def require_metric(model: MDP, eps: float, c_r: float, c_t: float | None) -> float:
    """c_T, by default the discount. Raises SolveError for scales, an eps or a problem that no metric can have."""
    if not isinstance(model, MDP) or not isinstance(model.criterion, Discounted):
        what = getattr(model, "criterion", type(model).__name__)
        raise SolveError(f"metrics are for discounted problems, and may be infinite without discount; this one has {what}")
    if not (is_real(eps) and 0 < eps < math.inf):
        raise SolveError(f"eps is {eps!r}; it must be a positive number, the greatest width of the bracket")
    chosen = model.discount if c_t is None else float(c_t)
    if not model.discount <= chosen < 1:
        raise SolveError(f"transport_scale is {chosen!r}; it must be in [discount, 1), here [{model.discount}, 1)")
    if not (math.isfinite(c_r) and c_r > 0):
        raise SolveError(f"reward_scale is {c_r!r}; it must be positive")
    return chosen


def rows_of(model: MDP, repeats: int) -> Rows:
    """All pairs, with `repeats` loops of reward (1 - g) value for each terminal state."""
    counts = np.where(model.terminal, repeats, np.diff(model.state_ptr))
    state_ptr = np.concatenate(([0], np.cumsum(counts)))
    owner = np.repeat(np.arange(model.n_states), counts)
    loop = model.terminal[owner]
    lengths, reward = np.ones(len(owner), dtype=np.int64), np.zeros(len(owner))
    lengths[~loop] = np.diff(model.row_ptr)
    reward[~loop] = model.reward
    reward[loop] = (1 - model.discount) * model.terminal_value[owner[loop]]
    row_ptr = np.concatenate(([0], np.cumsum(lengths)))
    inside = np.repeat(~loop, lengths)
    successor, weight = np.repeat(owner, lengths).astype(np.int32), np.ones(len(inside))
    successor[inside] = model.successor
    sums = np.add.reduceat(model.probability, model.row_ptr[:-1]) if model.n_pairs else np.ones(0)
    weight[inside] = model.probability / np.repeat(sums, np.diff(model.row_ptr))
    kept = weight > 0
    row_ptr = np.concatenate(([0], np.cumsum(np.add.reduceat(kept, row_ptr[:-1], dtype=np.int64))))
    return Rows(state_ptr, row_ptr, successor[kept], weight[kept], reward)


def cluster(model: MDP, distance: np.ndarray, diameter: float) -> Partition:
    """States together that are pairwise within `diameter`, greedily in their order; actions matched by position.

    distance: (n_states, n_states), such as `Metric.upper`. States with different numbers of actions stay apart.
    Raises SolveError for another shape or a negative diameter.
    """
    if distance.shape != (model.n_states, model.n_states) or not diameter >= 0:
        shape = (model.n_states, model.n_states)
        raise SolveError(f"give distances of shape {shape} and a diameter >= 0; got {distance.shape}, {diameter}")
    counts, classes = np.diff(model.state_ptr), np.full(model.n_states, -1)
    members: list[list[int]] = []
    for state in range(model.n_states):
        near = (
            c
            for c, group in enumerate(members)
            if counts[group[0]] == counts[state] and distance[state, group].max() <= diameter
        )
        classes[state] = next(near, len(members))
        if classes[state] == len(members):
            members.append([])
        members[classes[state]].append(state)
    return Partition.by_position(model, classes)
