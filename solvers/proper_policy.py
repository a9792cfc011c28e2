r"""What a proper policy is worth: the expected total until it stops.

A policy that stops with probability one, as a packed chain x <- c + P x whose absorbing rows are empty. The total x of the cost
c solves (I - P) x = c; with c the rewards it is the policy's value, with c the stretches its expected number of steps. P has
no self-loops and, but for absorbing states, rows that sum to one, so that residuals are taken as

    c_i + sum_j p_ij (x_j - x_i),

which is exact to the rounding of the differences: refinement with it gives x to about its last digits, even where I - P
has condition number 10^12.

Small chains: sparse LU. Others: Gauss-Seidel in the order of the states, and where that is slow, BiCGSTAB preconditioned with
it, and in the end LU as well.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numba
import numpy as np
import scipy.sparse
from scipy.sparse.linalg import splu

from ..mdp.model import MDP
from ..mdp.packed import PackedPolicy
from .errors import NotConverged
from .graph import reaching
from .krylov import VECTORS, correct

_index = np.uintp

SMALL = 2_000
"""States up to which LU is tried first."""
_LARGE = 20_000
"""States up to which LU is tried first when every digit is wanted."""
_PATIENCE = 400
"""Gauss-Seidel sweeps before the linear system is solved in another way."""
_PACE = 25
"""Sweeps between looks at how fast changes shrink."""


def first_guess(model: MDP) -> tuple[np.ndarray, np.ndarray]:
    """A value (N,) and a proper policy (N,), by one sweep in which what lies ahead is taken to lead back at once.

    model: of a `Quotient`: every state has a pair that may lead to an earlier one.
    """
    value, policy = model.operator.start(), np.full(model.n_states, -1, dtype=np.int32)
    kernel: Any = _first_guess
    kernel(model.state_ptr, model.row_ptr, model.successor, model.probability, model.reward, value, policy)
    return value, policy


def pack(model: MDP, policy: np.ndarray) -> PackedPolicy:
    """The chain of a policy (n,) with its rewards; absorbing states hold their terminal value."""
    return model.operator.pack(policy, loops=False)


def with_cost(packed: PackedPolicy, cost: np.ndarray) -> PackedPolicy:
    """The same chain with another cost (N,), zero in absorbing states."""
    return dataclasses.replace(packed, constant=cost)


def stops_from(packed: PackedPolicy) -> np.ndarray:
    """States from which the chain can reach an absorbing one, bool (N,); the policy is proper when that is everywhere."""
    return reaching(packed.pointers, packed.column, packed.weight, np.diff(packed.pointers) == 0)


def total(packed: PackedPolicy, guess: np.ndarray, tolerance: float) -> np.ndarray:
    """x (N,) with residual below `tolerance`, or as small as rounding allows. guess: (N,), exact in absorbing states.

    The chain must be proper. Raises NotConverged when x is beyond floating point.
    """
    value = guess.copy()
    if len(value) > (SMALL if tolerance > 0 else _LARGE):
        if _sweep(packed, value, tolerance):
            return value
        work = np.empty((VECTORS, len(value)))
        for _ in range(6):
            left, _ = correct(packed, value, 1e-5, 4 * _PATIENCE, work)
            if residual(packed, value) <= max(tolerance, _noise(value)):
                return value
            if left > 0.1:
                break
    value = _refined(packed, value)
    if not np.isfinite(value).all():
        state = int(np.flatnonzero(~np.isfinite(value))[0])
        raise NotConverged(f"a policy's expected total is beyond floating point (quotient state {state})")
    return value


def residual(packed: PackedPolicy, value: np.ndarray) -> float:
    """Largest entry of |c + P x - x|, x of shape (N,)."""
    return float(np.abs(residuals(packed, value)).max(initial=0.0))


def residuals(packed: PackedPolicy, value: np.ndarray) -> np.ndarray:
    """c + P x - x from differences, (N,); zero in absorbing states."""
    kernel: Any = _residuals
    return kernel(packed.pointers, packed.column, packed.weight, packed.constant, value)


def _noise(value: np.ndarray) -> float:
    return 2.0**-51 * float(np.abs(value).max(initial=0.0))


def _sweep(packed: PackedPolicy, value: np.ndarray, tolerance: float) -> bool:
    """Gauss-Seidel sweeps in place; whether the residual fell below the tolerance, or to rounding. Stops where that would take
    more than `_PATIENCE` sweeps at the pace of the latest."""
    earlier, change, target = np.inf, np.inf, max(tolerance, _noise(value))
    for sweeps in range(1, _PATIENCE + 1):
        low, high = packed.sweep(value)
        change = max(high, -low)
        if change <= target:
            return True
        if sweeps % _PACE == 0:
            target = max(tolerance, _noise(value))
            pace = max(math.log(earlier / change), 1e-9) / _PACE
            if np.isfinite(earlier) and sweeps + math.log(change / target) / pace > _PATIENCE:
                return False
            earlier = change
    return False


def _refined(packed: PackedPolicy, value: np.ndarray) -> np.ndarray:
    n_states = len(value)
    matrix = scipy.sparse.csr_array((packed.weight, packed.column, packed.pointers), shape=(n_states, n_states))
    system = scipy.sparse.csc_array(scipy.sparse.eye_array(n_states, format="csr") - matrix)
    try:
        factors = splu(system, diag_pivot_thresh=0.0)
    except RuntimeError as fault:
        raise NotConverged(f"the linear system of a policy is singular in floating point ({fault})") from None
    left = residual(packed, value)
    if not np.isfinite(left):
        value, left = factors.solve(packed.constant), np.inf
    for _ in range(8):
        better = value + factors.solve(residuals(packed, value))
        after = residual(packed, better)
        if not after < left:
            break
        value, left = better, after
    return value


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _residuals(pointers, column, weight, constant, value):
    out = np.zeros(len(value))
    for s in range(len(value)):
        state = _index(s)
        begin, end = _index(pointers[state]), _index(pointers[state + _index(1)])
        if begin == end:
            continue
        total = 0.0
        for entry in range(begin, end):
            total += weight[entry] * (value[_index(column[entry])] - value[state])
        out[state] = total + constant[state]
    return out


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _first_guess(state_ptr, row_ptr, successor, probability, reward, value, policy):
    for s in range(len(state_ptr) - 1):
        state = _index(s)
        first, last = _index(state_ptr[state]), _index(state_ptr[state + _index(1)])
        best = -np.inf
        for pair in range(first, last):
            total, mass = reward[pair], 0.0
            for entry in range(_index(row_ptr[pair]), _index(row_ptr[pair + _index(1)])):
                target = _index(successor[entry])
                if target < state:
                    mass += probability[entry]
                    total += probability[entry] * value[target]
            if mass > 0.0 and (total / mass > best or policy[state] < 0):
                best, policy[state] = total / mass, pair - first
        if first < last:
            value[state] = best
