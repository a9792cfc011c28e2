r"""Policy iteration among policies that stop.

On a quotient without free end components, a policy that does not stop somewhere is worth minus infinity there, and improving a
proper policy where that gains gives a proper policy again: if not, the new one would gain on a loop for ever (Howard 1960;
Bertsekas and Tsitsiklis 1991). Rounding may see gains that are not there, so improvements that would never stop are not made.

A pair's gain on a vector x is taken for one original step: (r + sum_j p_j (x_j - x_i)) / stretch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np

from ..mdp.packed import PackedPolicy
from .collapse import Quotient
from .errors import InfiniteValue, NotConverged
from .proper_policy import first_guess, pack, stops_from, total, with_cost

_index = np.uintp
_ROUNDS = 1_000


def gains(quotient: Quotient, value: np.ndarray, policy: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What each original step gains over `value` (N,): the most over all pairs, that pair's action, and the policy's.

    (gain (N,), action int32 (N,), gain of the policy (N,)); zero, -1, zero in absorbing states.
    """
    model = quotient.model
    kernel: Any = _gains
    return kernel(
        model.state_ptr, model.row_ptr, model.successor, model.probability, model.reward, quotient.stretch, value, policy
    )


def make_proper(quotient: Quotient, policy: np.ndarray, fallback: np.ndarray | None = None) -> np.ndarray:
    """The policy (N,) where it stops with probability one, `fallback` (proper) elsewhere; together they are proper."""
    fallback = first_guess(quotient.model)[1] if fallback is None else fallback
    chosen = np.where(policy < 0, fallback, policy).astype(np.int32)
    return np.where(stops_from(pack(quotient.model, chosen)), chosen, fallback)


def polished(
    quotient: Quotient,
    value: np.ndarray,
    policy: np.ndarray,
    error: float,
    max_rounds: int = _ROUNDS,
    watch: Callable[[np.ndarray, float], None] = lambda _value, _width: None,
) -> tuple[np.ndarray, np.ndarray]:
    """Howard's iteration over proper policies, from a proper policy: a value (N,) and a policy (N,) that no pair improves.

    error: of the value that may remain, as long as steps do not get many more; 0 for what rounding leaves. watch: called with
        the value and the largest gain.
    Raises NotConverged after max_rounds, InfiniteValue.
    """
    tolerance = error / float(expected_steps(quotient, policy).max(initial=1.0)) if error else 0.0
    for _ in range(max_rounds):
        value = total(pack(quotient.model, policy), value, tolerance)
        gain, best, own = gains(quotient, value, policy)
        watch(value, float(gain.max(initial=0.0)))
        better = (gain - own > max(noise(value), 4 * tolerance)) & (best != policy)
        following = _improved(quotient, policy, best, better) if better.any() else policy
        if (following == policy).all():
            return value, policy
        policy = following
    raise NotConverged(f"policy iteration still improves after {max_rounds} rounds; raise max_rounds")


def with_slack(
    quotient: Quotient, value: np.ndarray, policy: np.ndarray, delta: float, limit: np.ndarray | float
) -> tuple[np.ndarray, np.ndarray] | None:
    """Policy iteration for the rewards r + delta an original step, from a proper policy: value (N,) and policy (N,); None when
    it passes `limit`, or when with delta > 0 it pays never to stop."""
    model = quotient.model
    for _ in range(_ROUNDS):
        packed = pack(model, policy)
        value = total(with_cost(packed, packed.constant + delta * stretches(quotient, policy)), value, abs(delta) / 16)
        if (value > limit).any():
            return None
        gain, best, own = gains(quotient, value, policy)
        better = (gain > -delta + abs(delta) / 2) & (best != policy) & (gain > own + abs(delta) / 4)
        if not better.any():
            return value, policy
        following = np.where(better, best, policy).astype(np.int32)
        following = np.where(stops_from(pack(model, following)), following, policy)
        if (following == policy).all():
            return (value, policy) if delta < 0 else None
        policy = following
    return None


def _improved(quotient: Quotient, policy: np.ndarray, best: np.ndarray, better: np.ndarray) -> np.ndarray:
    """The policy with `best` where `better`, except where that would never stop. Raises InfiniteValue where mixed rewards
    make a loop that gains."""
    following = np.where(better, best, policy).astype(np.int32)
    stops = stops_from(pack(quotient.model, following))
    if not stops.all() and quotient.mixed >= 0:
        state = int(np.flatnonzero(~stops & better)[0])
        pair = int(quotient.origin[quotient.model.state_ptr[state] + best[state]])
        raise InfiniteValue(
            f"{quotient.where(pair)}: it belongs to a loop of gains and costs that gains on the whole and can be repeated for "
            "ever, so the total is infinite; discount it, or average it with AverageReward()"
        )
    return np.where(stops, following, policy)


def noise(value: np.ndarray) -> float:
    """Gains on `value`, shape (N,), that may be rounding."""
    return 2.0**-48 * float(np.abs(value).max(initial=0.0))


def stretches(quotient: Quotient, policy: np.ndarray) -> np.ndarray:
    """Original steps a step of the policy, (N,); zero in absorbing states."""
    stretch, acting = np.zeros(len(policy)), ~quotient.model.terminal
    stretch[acting] = quotient.stretch[(quotient.model.state_ptr[:-1] + policy)[acting]]
    return stretch


def expected_steps(quotient: Quotient, policy: np.ndarray) -> np.ndarray:
    """Expected original steps of a proper policy, (N,), to about a percent."""
    packed = pack(quotient.model, policy)
    return total(with_cost(packed, stretches(quotient, policy)), np.zeros(len(policy)), 0.01)


def steps_of_lifted(quotient: Quotient, policy: np.ndarray) -> np.ndarray:
    """Expected steps of the lifted policy until it stops or stays, (n,): with the ways inside end components."""
    if not quotient.collapsed:
        return quotient.lift(expected_steps(quotient, policy))
    problem, lifted = quotient.problem, quotient.lift_policy(policy)
    order = np.argsort(quotient.place, kind="stable").astype(np.int32)
    chosen = np.where(problem.terminal, -1, problem.state_ptr[:-1] + lifted)
    model = quotient.model
    acting = ~model.terminal
    leaves = np.zeros(len(acting), dtype=np.bool_)
    leaves[acting] = quotient.origin[(model.state_ptr[:-1] + policy)[acting]] >= 0
    kernel: Any = _pack_lifted
    pointers, column, weight, stretch = kernel(
        problem.row_ptr, problem.successor, problem.probability, order, chosen, leaves[quotient.place]
    )
    packed = PackedPolicy(pointers, column, weight, stretch, False)
    steps = np.empty(problem.n_states)
    steps[order] = total(packed, np.zeros(problem.n_states), 0.01)
    return steps


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _gains(state_ptr, row_ptr, successor, probability, reward, stretch, value, policy):
    n_states = len(value)
    gain, action, own = np.zeros(n_states), np.full(n_states, -1, np.int32), np.zeros(n_states)
    for s in range(n_states):
        state = _index(s)
        first, last = _index(state_ptr[state]), _index(state_ptr[state + _index(1)])
        if first == last:
            continue
        most, here = -np.inf, value[state]
        for pair in range(first, last):
            total = reward[pair]
            for entry in range(_index(row_ptr[pair]), _index(row_ptr[pair + _index(1)])):
                total += probability[entry] * (value[_index(successor[entry])] - here)
            total /= stretch[pair]
            if total > most:
                most, action[state] = total, pair - first
            if pair - first == _index(policy[state]):
                own[state] = total
        gain[state] = most
    return gain, action, own


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _pack_lifted(row_ptr, successor, probability, order, chosen, leaves):
    """The chain of original states in the given order, self-loops solved; rows of states that do not leave are empty."""
    n_states = len(order)
    position = np.empty(n_states, np.int32)
    size = 0
    for i in range(n_states):
        position[order[i]] = i
        if chosen[order[i]] >= 0:
            size += row_ptr[chosen[order[i]] + 1] - row_ptr[chosen[order[i]]]
    pointers, stretch = np.zeros(n_states + 1, np.int32), np.zeros(n_states)
    column, weight, free = np.empty(size, np.int32), np.empty(size), 0
    for i in range(n_states):
        state, pair = order[i], chosen[order[i]]
        if pair >= 0 and leaves[state]:
            total, away, begin = 0.0, 0.0, free
            for entry in range(row_ptr[pair], row_ptr[pair + 1]):
                total += probability[entry]
                if probability[entry] > 0.0 and successor[entry] != state:
                    column[free], weight[free] = position[successor[entry]], probability[entry]
                    away += probability[entry]
                    free += 1
            for entry in range(begin, free):
                weight[entry] /= away
            stretch[i] = total / away
        pointers[i + 1] = free
    return pointers, column[:free].copy(), weight[:free].copy(), stretch
