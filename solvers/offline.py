r"""What can be had from logged episodes alone: pessimistic value iteration, cloning, and what merging histories costs.

With n(z, a) visits at decision h, means r^, frequencies P^ and rewards in [0, 1], for h = H, ..., 1,

    Q_h(z, a) = clip( r^ + P^ V_{h+1} - b, 0, H - h + 1 ),      b = c H sqrt( log(2 H |Z| |A| / delta) / n ),

and Q_h = 0 where n = 0; V_h = max_a Q_h. What z stands for decides what the data are worth: histories, of which no two episodes
share a long one, or their classes (`Partition`), where good halves of different episodes are joined.

With classes phi, let e_h be the greatest difference of a reward of decision h from its class's, d_h that of rows in L1. Then

    |v(t) - vbar(phi(t))|  <=  sum over k >= h of  e_k + d_k / 2 sp(vbar_{k+1})            for histories t of decision h,

one step's residual at a time, and the quotient's policy loses at most twice that.

Jin, Yang and Wang, ICML 2021 (arXiv:2012.15085); Hong, Dragan and Levine, ICLR 2024 (arXiv:2310.20663).
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
