r"""What can be had from logged episodes alone: pessimistic value iteration, cloning, and what merging histories costs.

With n(z, a) visits at decision h, means r^, frequencies P^ and rewards in [0, 1], for h = H, ..., 1,

    Q_h(z, a) = clip( r^ + P^ V_{h+1} - b, 0, H - h + 1 ),      b = c H sqrt( log(2 H |Z| |A| / delta) / n ),

and Q_h = 0 where n = 0; V_h = max_a Q_h. What z stands for decides what the data are worth: histories, of which no two episodes
share a long one, or their classes (`Partition`), where good halves of different episodes are joined.

With classes phi, let e_h be the greatest difference of a reward of decision h from its class's, d_h that of rows in L1. Then

    |v(t) - vbar(phi(t))|  <=  sum over k >= h of  e_k + d_k / 2 sp(vbar_{k+1})            for histories t of decision h,

one step's residual at a time, and the quotient's policy loses at most twice that.

Classes may be known (`coarsest_bisimulation` of the model), or guessed from the data (`classes_from_data`).

Jin, Yang and Wang, ICML 2021 (arXiv:2012.15085); Weissman et al. 2003, HPL-2003-97R1, for laws in L1; Hong, Dragan and Levine,
ICLR 2024 (arXiv:2310.20663).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import scipy.sparse

from ..mdp.history import HistoryTree
from ..mdp.quotient import Partition, Quotient
from ..mdp.simulate import Trajectories
from .errors import SolveError


@dataclass(frozen=True)
class OfflinePlan:
    """What was made of logged episodes of H decisions on Z states.

    policy: int32 (H, Z). value: float64 (H + 1, Z), pessimistic. count: int64 (H, Z, A), visits.
    """

    policy: np.ndarray
    value: np.ndarray
    count: np.ndarray

    def lift(self, partition: Partition) -> np.ndarray:
        """The policy on the states whose classes were planned for, int32 (H, n_states)."""
        return np.ascontiguousarray(self.policy[:, partition.states])


def merge_states(data: Trajectories, partition: Partition) -> Trajectories:
    """The same paths through classes, states int32 (episodes, H + 1)."""
    return Trajectories(partition.states[data.states], data.actions, data.rewards)


def pessimistic_value_iteration(
    data: Trajectories, n_states: int, n_actions: int, *, pessimism: float = 1.0, delta: float = 0.1
) -> OfflinePlan:
    """Value iteration on the data, less a penalty for what was seen seldom; ties go to what was logged most, then to the first.

    data: rewards in [0, 1], shape (episodes, H). pessimism: c >= 0; 1 for a lower bound in theory, about 0.1 in practice.
    delta: in (0, 1), the probability with which a bound may fail.
    Raises SolveError for rewards outside [0, 1], where 0 is no lower bound of the unseen, and for numbers that do not fit.
    """
    _require(data, n_states, n_actions)
    if not (math.isfinite(pessimism) and pessimism >= 0 and 0 < delta < 1):
        raise SolveError(f"pessimism is {pessimism!r} and delta {delta!r}; they must be >= 0 and inside (0, 1)")
    for i, h in np.argwhere(~((data.rewards >= 0) & (data.rewards <= 1)))[:1].tolist():
        raise SolveError(f"episode {i} earns {data.rewards[i, h]} at decision {h}; scale the rewards to [0, 1]")
    horizon, size = data.actions.shape[1], n_states * n_actions
    penalty = pessimism * horizon * math.sqrt(math.log(2 * horizon * size / delta))
    value, policy = np.zeros((horizon + 1, n_states)), np.zeros((horizon, n_states), dtype=np.int32)
    count = np.zeros((horizon, n_states, n_actions), dtype=np.int64)
    for h in range(horizon - 1, -1, -1):
        on = data.actions[:, h] >= 0
        pair = data.states[on, h].astype(np.int64) * n_actions + data.actions[on, h]
        n = np.bincount(pair, minlength=size)
        total = np.bincount(pair, data.rewards[on, h] + value[h + 1][data.states[on, h + 1]], minlength=size)
        q = np.clip((total - penalty * np.sqrt(n)) / np.maximum(n, 1), 0, horizon - h).reshape(n_states, n_actions)
        count[h], value[h] = n.reshape(n_states, n_actions), q.max(axis=1)
        policy[h] = np.where(q == value[h][:, None], count[h], -1).argmax(axis=1)
    return OfflinePlan(policy, value, count)


def behaviour_cloning(data: Trajectories, n_states: int, n_actions: int) -> np.ndarray:
    """What was logged most often at each decision and state, the first where nothing was, int32 (H, n_states).

    Raises SolveError for states and actions that do not fit.
    """
    _require(data, n_states, n_actions)
    policy = np.zeros((data.actions.shape[1], n_states), dtype=np.int32)
    for h in range(len(policy)):
        on = data.actions[:, h] >= 0
        pair = data.states[on, h].astype(np.int64) * n_actions + data.actions[on, h]
        policy[h] = np.bincount(pair, minlength=n_states * n_actions).reshape(n_states, n_actions).argmax(axis=1)
    return policy


def classes_from_data(tree: HistoryTree, data: Trajectories, *, delta: float = 0.1) -> Partition:
    """Histories of one decision together unless the data tell them apart: classes learned, those of the last decision first.

    In the order of visits, a history joins the most visited class of its decision whose mean rewards are within two Hoeffding
    radii, sqrt(log(2/delta) / 2n) each, of its own, and whose laws of the next class, in L1, within two Weissman radii,
    sqrt(2 (K log 2 + log(1/delta)) / n) each, K classes, for all actions seen in both. What was seen seldom or never is in the
    largest class: a guess, which data in which no history comes twice can neither confirm nor refute.

    data: rewards in [0, 1], states of the tree. delta: in (0, 1), smaller to merge more.
    Raises SolveError for another delta, ModelError where histories of a class differ in their number of actions.
    """
    if not 0 < delta < 1:
        raise SolveError(f"delta is {delta!r}; it must be inside (0, 1)")
    model, steps = tree.model, tree.steps
    n_actions = int(np.diff(model.state_ptr).max())
    _require(data, model.n_states, n_actions)
    classes, n_after = np.zeros(model.n_states, dtype=np.int64), 1
    for h in range(tree.horizon - 1, -1, -1):
        on = data.actions[:, h] >= 0
        visited, row = np.unique(data.states[on, h], return_inverse=True)
        # Per history and action: visits to each next class, then the sum of rewards.
        seen = np.zeros((len(visited), n_actions, n_after + 1))
        np.add.at(seen, (row, data.actions[on, h], classes[data.states[on, h + 1]]), 1)
        np.add.at(seen[..., n_after], (row, data.actions[on, h]), data.rewards[on, h])
        pooled: list[np.ndarray] = []
        members = np.zeros(len(visited), dtype=np.int64)
        for z in np.argsort(-seen[..., :-1].sum((1, 2)), kind="stable").tolist():
            order = sorted(range(len(pooled)), key=lambda c: -pooled[c][:, :-1].sum())
            members[z] = next((c for c in order if _alike(seen[z], pooled[c], delta)), len(pooled))
            if members[z] == len(pooled):
                pooled.append(np.zeros_like(seen[z]))
            pooled[members[z]] += seen[z]
        largest = max(range(len(pooled)), key=lambda c: pooled[c][:, :-1].sum(), default=0)
        classes[steps == h] = largest
        classes[visited] = members
        n_after = max(len(pooled), 1)
    return Partition.by_position(model, classes + model.n_states * steps)


def _alike(one: np.ndarray, other: np.ndarray, delta: float) -> bool:
    """Whether two arrays (A, K + 1) of counts and rewards may be of one law."""
    n, m = one[:, :-1].sum(axis=1), other[:, :-1].sum(axis=1)
    both = (n > 0) & (m > 0)
    n, m, one, other = n[both, None], m[both, None], one[both], other[both]
    apart = np.abs(one / n - other / m)
    wide = np.sqrt(1 / n) + np.sqrt(1 / m)
    pays = math.sqrt(math.log(2 / delta) / 2) * wide[:, 0]
    moves = math.sqrt(2 * ((one.shape[1] - 1) * math.log(2) + math.log(1 / delta))) * wide[:, 0]
    return bool(((apart[:, -1] <= pays) & (apart[:, :-1].sum(axis=1) <= moves)).all())


def _require(data: Trajectories, n_states: int, n_actions: int) -> None:
    if data.states.shape != (data.actions.shape[0], data.actions.shape[1] + 1) or data.rewards.shape != data.actions.shape:
        raise SolveError(
            f"states, actions and rewards have shapes {data.states.shape}, {data.actions.shape} and {data.rewards.shape}; "
            "they are (n, H + 1), (n, H) and (n, H)"
        )
    if data.states.size and not 0 <= data.states.min() <= data.states.max() < n_states:
        raise SolveError(f"the data visit states {data.states.min()} to {data.states.max()}; there are {n_states}")
    if data.actions.size and not -1 <= data.actions.min() <= data.actions.max() < n_actions:
        raise SolveError(f"the data hold actions {data.actions.min()} to {data.actions.max()}; there are {n_actions}")


def price_of_merging(tree: HistoryTree, merged: Quotient, value: np.ndarray) -> np.ndarray:
    """How far values of histories may be from their classes', by decision, float64 (H + 1,); see the head of the module.

    merged: a quotient of the tree that keeps decisions apart. value: the quotient's optimal values, (n_classes,).
    Raises SolveError where histories of different lengths are together.
    """
    model, steps, into = tree.model, tree.steps, merged.quotient_pair
    of_class = np.zeros(merged.model.n_states, dtype=np.int64)
    of_class[merged.partition.states] = steps
    if not np.array_equal(of_class[merged.partition.states], steps):
        raise SolveError("histories of different lengths are in one class; keep decisions apart")
    small = merged.model.to_sparse()[0]
    rows = scipy.sparse.csr_array((model.probability, model.successor, model.row_ptr), shape=(model.n_pairs, model.n_states))
    ones = (np.ones(model.n_states), (np.arange(model.n_states), merged.partition.states))
    off = scipy.sparse.csr_array(rows @ scipy.sparse.csr_array(ones)) - scipy.sparse.csr_array(small)[into]
    apart = np.asarray(abs(off).sum(axis=1)).ravel()
    pays = np.abs(model.reward - merged.model.reward[into])
    price, at = np.zeros(tree.horizon + 1), steps[model.pair_state]
    for h in range(tree.horizon - 1, -1, -1):
        span = np.ptp(value[of_class == h + 1])
        price[h] = price[h + 1] + pays[at == h].max() + apart[at == h].max() / 2 * span
    return price
