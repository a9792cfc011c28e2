r"""Prioritised sweeping: back up first the state whose residual is largest.

Every pair's q_k = r_k + g sum_j p_kj v_j is kept. Backing up s computes its q_k afresh, sets

    v_s  <-  max_k (q_k - g p_ks v_s) / (1 - g p_ks)          over the pairs k of s, self-loops solved,

and adds g p_ks d to every pair k that may step to s, d the change of v_s. So all residuals max_k q_k - v_s are known, up to
rounding since their last backup, for the price of one row and one column. States whose residual exceeds a threshold wait in
buckets, one for each power of two of residual / threshold; the highest bucket is served first, last come first served. When
none waits, a plain sweep gives the bracket and the threshold falls.

It pays where change travels along few paths. Where every state soon reaches all others, sweeps are faster.

Southwell 1940; Moore and Atkeson 1993; Wingate and Seppi 2005.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numba
import numpy as np

from ..mdp.model import MDP
from ..mdp.operator import Operator
from ..mdp.sweeps import UNIT_ROUNDOFF
from .bracket import macqueen_porteus
from .errors import NotConverged
from .method import model_of
from .watch import Watch

_BUCKETS = 64
_FALL = 0.5
_STALLED = 10


@dataclass(frozen=True)
class PrioritizedSweeping:
    """Backups in order of their residual, on a table.

    max_sweeps: backups, in passes over all states, before giving up with `NotConverged`.
    """

    max_sweeps: int = 1_000_000

    def run(self, operator: Operator, value: np.ndarray, eps: float, watch: Watch) -> np.ndarray:
        """A vector (n_states,) whose bracket is at most eps wide. Raises SolveError for an operator without a table."""
        model, value = model_of(operator, self), value.copy()
        queue, closed = _Queue(model), not operator.terminal.any()
        following, policy = np.empty_like(value), np.empty(model.n_states, dtype=np.int32)
        narrowest, stalled, sweeps = np.inf, 0, 0.0
        largest = np.inf
        while sweeps < self.max_sweeps and stalled < _STALLED and largest > 8 * UNIT_ROUNDOFF * np.abs(value).max():
            low, high = operator.apply(value, following, policy)
            below, above = macqueen_porteus(low, high, operator.mass)
            width = above - below
            sweeps += 1
            watch(value, width)
            if closed:
                value += (below + above) / 2
            if width <= eps:
                return value
            stalled = 0 if width < narrowest else stalled + 1
            narrowest = min(narrowest, width)
            largest = (high - low) / 2 if closed else max(high, -low)
            enough = 10 + 2 / (1 - operator.modulus)  # passes for this fall in exact arithmetic; rounding could go on for ever
            served = queue.serve(value, _FALL * largest, min(enough, self.max_sweeps - sweeps))
            watch.sweeps += served
            sweeps += served
        raise NotConverged(
            f"the bracket is still {narrowest:.3g} wide after {sweeps:.0f} sweeps (asked for {eps:.3g}); raise max_sweeps, ask "
            "for a wider eps, or use RationalPolicyIteration() on a small model",
            reached=narrowest,
        )


class _Queue:
    """Columns of the model, the pairs' q, and the buckets as doubly linked lists."""

    def __init__(self, model: MDP) -> None:
        n_states = model.n_states
        order = np.argsort(model.successor, kind="stable")
        column_ptr = np.searchsorted(model.successor[order], np.arange(n_states + 1))
        column_pair = np.repeat(np.arange(model.n_pairs, dtype=np.int32), np.diff(model.row_ptr))[order]
        self.columns = column_ptr, column_pair, model.discount * model.probability[order], model.pair_state
        self.rows = model.state_ptr, model.row_ptr, model.successor, model.probability, model.reward, model.discount
        self.q = np.empty(model.n_pairs)
        self.buckets = np.empty(_BUCKETS, np.int32), np.empty((2, n_states), np.int32), np.empty(n_states, np.int8)

    def serve(self, value: np.ndarray, threshold: float, most: float) -> float:
        """Back up, in place, until no residual exceeds the threshold, at most `most` passes; returns the passes made."""
        fill: Any = _fill
        serve: Any = _serve
        fill(*self.rows, value, self.q, threshold, *self.buckets)
        budget, done, n_states = most * len(value), 0, len(value)
        while done < budget:  # compiled code cannot be interrupted: come back now and then
            part = int(min(budget - done, 100 * n_states))
            served = serve(part, *self.rows, *self.columns, value, self.q, threshold, *self.buckets)
            done += served
            if served < part:
                break
        return 1 + done / n_states


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _put(state, size, threshold, head, links, bucket):
    """Move a state to the front of the bucket of its residual's size, or out of the queue; returns the bucket or -1."""
    place = min(_BUCKETS - 1, int(np.log2(size / threshold))) if size > threshold else -1
    old = bucket[state]
    if place == old:
        return place
    if old >= 0:
        before, after = links[0, state], links[1, state]
        if before >= 0:
            links[1, before] = after
        else:
            head[old] = after
        if after >= 0:
            links[0, after] = before
    bucket[state] = place
    if place >= 0:
        links[0, state], links[1, state] = -1, head[place]
        if head[place] >= 0:
            links[0, head[place]] = state
        head[place] = state
    return place


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _backup(state, state_ptr, row_ptr, successor, probability, reward, discount, value, q):
    """q of the state's pairs; returns the largest, and the state's best value with its self-loops solved."""
    largest, best = -np.inf, -np.inf
    for pair in range(state_ptr[state], state_ptr[state + 1]):
        total, loop = 0.0, 0.0
        for entry in range(row_ptr[pair], row_ptr[pair + 1]):
            if successor[entry] == state:
                loop += probability[entry]
            else:
                total += probability[entry] * value[successor[entry]]
        total = reward[pair] + discount * total
        loop *= discount
        q[pair] = total + loop * value[state]
        largest, best = max(largest, q[pair]), max(best, total / (1.0 - loop))
    return largest, best


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _fill(state_ptr, row_ptr, successor, probability, reward, discount, value, q, threshold, head, links, bucket):
    """q of every pair, and every state whose residual exceeds the threshold in its bucket."""
    head[:] = -1
    bucket[:] = -1
    for state in range(len(value)):
        if state_ptr[state] < state_ptr[state + 1]:
            largest, _ = _backup(state, state_ptr, row_ptr, successor, probability, reward, discount, value, q)
            _put(state, abs(largest - value[state]), threshold, head, links, bucket)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _serve(
    budget,
    state_ptr,
    row_ptr,
    successor,
    probability,
    reward,
    discount,
    column_ptr,
    column_pair,
    column_weight,
    pair_state,
    value,
    q,
    threshold,
    head,
    links,
    bucket,
):
    """Serve at most `budget` states; returns how many were served."""
    top, served = _BUCKETS - 1, 0
    while served < budget:
        while top >= 0 and head[top] < 0:
            top -= 1
        if top < 0:
            break
        state = head[top]
        _, best = _backup(state, state_ptr, row_ptr, successor, probability, reward, discount, value, q)
        change = best - value[state]
        value[state] = best
        _put(state, 0.0, threshold, head, links, bucket)
        served += 1
        for entry in range(column_ptr[state], column_ptr[state + 1]):
            pair = column_pair[entry]
            source = pair_state[pair]
            q[pair] += column_weight[entry] * change
            if source != state:
                largest = -np.inf
                for other in range(state_ptr[source], state_ptr[source + 1]):
                    largest = max(largest, q[other])
                top = max(top, _put(source, abs(largest - value[source]), threshold, head, links, bucket))
    return served
