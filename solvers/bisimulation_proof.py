r"""What the members of a partition's classes differ by, in one pass and exact arithmetic; no code shared with refinement.

Floats are whole multiples of 2^-124 where they are 0 or at least 2^-71; a row's masses on the classes of
states are summed as pairs of integers, and compared with those of the first pair of its class. Rows with smaller numbers are
summed as fractions. The pass yields

    reward = max |r(k) - r(k')|,       probability = max sum_D |P(D | k) - P(D | k')|,       k' the first pair of k's class,

rounded upwards; zero exactly if the floats as stored are bisimilar. What merging costs follows from these two numbers
(`banach.bounds.quotients`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numba
import numpy as np

from ..mdp.model import MDP
from ..mdp.quotient import Partition
from .bisimulation_masses import GRID, Masses, masses
from .errors import CertificateRejected

_FINE = 2.0**-71
"""Floats from here up are multiples of 2^-124."""


@dataclass(frozen=True)
class Stability:
    """By how much pairs of one class differ. Truthy where they do not: then the partition is a bisimulation of the floats as
    stored.

    reward: greatest difference of rewards. probability: greatest L1 distance of rows over classes. pairs: how many were
    compared.
    """

    reward: float
    probability: float
    pairs: int

    def __bool__(self) -> bool:
        return self.reward == 0 and self.probability == 0

    def __str__(self) -> str:
        if self:
            return f"a bisimulation: {self.pairs} rows compared, exactly"
        return f"a bisimulation up to {self.reward:.3g} in rewards and {self.probability:.3g} in L1 distance of rows"


def stability(model: MDP, partition: Partition, rational: bool = False) -> Stability:
    """Compare every pair with the first of its class in exact arithmetic.

    rational: of the fractions that the probabilities are read as, see `coarsest_bisimulation`, not of the floats. Raises
    CertificateRejected, naming a state, where states of a class differ in being terminal, in terminal value, or in the classes
    of pairs that they offer; SolveError where rational finds no fractions.
    """
    _require_alike(model, partition)
    first = np.unique(partition.pairs, return_index=True)[1][partition.pairs]
    units = masses(model, rational=True) if rational else None
    distance, rough = row_distances(
        first, model.row_ptr, partition.states[model.successor], model.probability, partition.n_classes, units
    )
    for pair in np.flatnonzero(rough).tolist():
        distance[pair] = upwards(_distance(model, partition, pair, int(first[pair])))
    worst = float(distance.max(initial=0.0))
    gap = float(np.abs(model.reward - model.reward[first]).max(initial=0.0))
    return Stability(float(np.nextafter(gap, np.inf)) if gap else 0.0, worst, model.n_pairs)


def row_distances(
    first: np.ndarray,
    row_ptr: np.ndarray,
    target: np.ndarray,
    probability: np.ndarray,
    n_classes: int,
    units: Masses | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """L1 distance of each row from the row first[k], (m,), rounded up, 0 exactly; and the rows that tiny floats spoil.

    row_ptr: (m + 1,). target: class that each entry leads to, (z,). probability: (z,). units: whole numbers instead.
    """
    small = (probability > 0) & (probability < _FINE)
    if units is None:
        high, low, unit = *_limbs(probability), 2.0**-GRID
    else:
        high, low, unit, small = units.units, np.zeros(len(target), dtype=np.int64), 1 / units.per_one, np.zeros_like(small)
    kernel: Any = _row_distances
    distance = kernel(first.astype(np.int64), row_ptr.astype(np.int64), target.astype(np.int64), high, low, n_classes, unit)
    rough = np.zeros(len(first), dtype=np.bool_)
    if small.any():
        rough[np.repeat(np.arange(len(first)), np.diff(row_ptr))[small]] = True
    return distance, rough | rough[first]


def _require_alike(model: MDP, partition: Partition) -> None:
    if len(partition.states) != model.n_states or len(partition.pairs) != model.n_pairs:
        raise CertificateRejected(
            f"the partition is of {len(partition.states)} states and {len(partition.pairs)} pairs; the model has "
            f"{model.n_states} and {model.n_pairs}"
        )
    first = np.unique(partition.states, return_index=True)[1][partition.states]
    faults = (model.terminal != model.terminal[first]) | (model.terminal_value != model.terminal_value[first])
    for state in np.flatnonzero(faults)[:1].tolist():
        raise CertificateRejected(
            f"state {model.state_of(state)}: it does not end as state {model.state_of(int(first[state]))} does"
        )
    width = max(partition.n_pair_classes, 1)
    key = np.unique(model.pair_state.astype(np.int64) * width + partition.pairs)
    owner = key // width
    count = np.bincount(owner, minlength=model.n_states)
    begin = np.concatenate(([0], np.cumsum(count)))
    wrong = count != count[first]
    same = np.flatnonzero(~wrong & (count > 0))
    left = _ranges(begin[same], count[same])
    right = _ranges(begin[first[same]], count[same])
    differs = key[left] % width != key[right] % width
    wrong[np.repeat(same, count[same])[differs]] = True
    for state in np.flatnonzero(wrong)[:1].tolist():
        other = model.state_of(int(first[state]))
        raise CertificateRejected(f"state {model.state_of(state)}: it does not offer the classes of actions of state {other}")


def _ranges(begin: np.ndarray, count: np.ndarray) -> np.ndarray:
    heads = np.cumsum(count) - count
    return np.arange(count.sum()) + np.repeat(begin - heads, count)


def _limbs(probability: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Integers (high, low), (z,) each, with p = high 2^-62 + low 2^-124 exactly, 0 <= low < 2^62."""
    scaled = probability * 2.0**62
    high = np.floor(scaled)
    return high.astype(np.int64), ((scaled - high) * 2.0**62).astype(np.int64)


def _distance(model: MDP, partition: Partition, pair: int, other: int) -> Fraction:
    """L1 distance of two rows over classes."""
    ours, theirs = exact_row(model, partition.states, pair), exact_row(model, partition.states, other)
    nothing = Fraction(0)
    return sum((abs(ours.get(c, nothing) - theirs.get(c, nothing)) for c in ours.keys() | theirs.keys()), nothing)


def exact_row(model: MDP, classes: np.ndarray, pair: int) -> dict[int, Fraction]:
    """The exact probability of each class that a pair can reach; classes int (n_states,)."""
    entries = slice(int(model.row_ptr[pair]), int(model.row_ptr[pair + 1]))
    row: dict[int, Fraction] = {}
    for c, p in zip(classes[model.successor[entries]].tolist(), model.probability[entries].tolist(), strict=True):
        if p:
            row[c] = row.get(c, Fraction(0)) + Fraction(p)
    return row


def upwards(number: Fraction) -> float:
    """The least float that is not below the number."""
    near = float(number)
    return near if Fraction(near) >= number else math.nextafter(near, math.inf)


@numba.njit(cache=True, nogil=True)
def _row_distances(first, row_ptr, target, high, low, n_classes, unit):
    """Upper bound of the L1 distance over classes of each pair's row from that of pair first[pair], (m,); 0 is exact."""
    gap, gap_low, mask = np.zeros(n_classes, np.int64), np.zeros(n_classes, np.int64), np.int64(2**62 - 1)
    distance = np.zeros(len(first))
    for pair in range(len(first)):
        other = first[pair]
        if other == pair:
            continue
        for e in range(row_ptr[pair], row_ptr[pair + 1]):
            c = target[e]
            total = gap_low[c] + low[e]
            gap[c] += high[e] + (total >> 62)
            gap_low[c] = total & mask
        for e in range(row_ptr[other], row_ptr[other + 1]):
            c = target[e]
            total = gap_low[c] - low[e]
            gap[c] += (total >> 62) - high[e]
            gap_low[c] = total & mask
        terms = 0
        for row in (pair, other):
            for e in range(row_ptr[row], row_ptr[row + 1]):
                c = target[e]
                if gap[c] != 0 or gap_low[c] != 0:
                    distance[pair] += (abs(gap[c]) + (1 if gap[c] >= 0 and gap_low[c] > 0 else 0)) * unit
                    terms += 1
                gap[c] = gap_low[c] = 0
        if terms > 0:
            distance[pair] *= 1.0 + 2.0**-51 * (terms + 3)
    return distance
