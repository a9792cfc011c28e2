r"""Robust values in exact rationals: the witness for bounds on what nature can do.

Nature answers a vector with one row for each pair: she takes mass from the largest entries and gives it to the smallest (total
variation), keeps a share of the nominal row and sends the rest to the least entry (contamination), fills intervals from the
least entry on, picks a row from a list, or does one of these to factors that rows mix.
The value of a policy against her is the end of her own policy iteration: rows fixed, a linear system solved, rows chosen anew
for its solution, until they serve no better; Howard's iteration over the controller's policies does the rest. Everything is a
rational number and ends (Iyengar 2005).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
from flint import fmpq, fmpq_mat

from .rational import NOTHING, ONE, RationalEvidence

Row = list[fmpq]
Nature = Callable[[int, np.ndarray], Row]


class RobustEvidence:
    """A problem in rational arithmetic against nature. nature: (pair, value (n,)) -> her row (n,)."""

    def __init__(self, evidence: RationalEvidence, nature: Nature) -> None:
        self.evidence, self.nature = evidence, nature

    def action_values(self, value: np.ndarray) -> np.ndarray:
        """r + g p.value of each pair, p nature's row, (m,)."""
        return np.array([self._worth(pair, self.nature(pair, value), value) for pair in range(len(self.evidence.reward))])

    def _worth(self, pair: int, row: Row, value: np.ndarray) -> fmpq:
        here = self.evidence
        return here.reward[pair] + here.discount * sum((p * v for p, v in zip(row, value, strict=True) if p), NOTHING)

    def apply(self, value: np.ndarray) -> np.ndarray:
        """The robust operator's T value, (n,)."""
        here, out = self.evidence, self.evidence.zero()
        if len(here.acting):
            out[here.acting] = np.maximum.reduceat(self.action_values(value), here.state_ptr[:-1][here.acting])
        return out

    def policy_value(self, policy: np.ndarray) -> np.ndarray:
        """What a policy, int32 (n,), is worth against nature, (n,)."""
        *_, value = self.natures_rounds(policy)
        return value

    def natures_rounds(self, policy: np.ndarray) -> Iterator[np.ndarray]:
        """The nominal value of a policy, int32 (n,), then those of the chains that nature makes of it, to the last, (n,)."""
        here, pairs = self.evidence, self.evidence.pairs_of(policy).tolist()
        value = here.policy_value(policy)
        while True:
            yield value
            rows = [self.nature(pair, value) for pair in pairs]
            served = [self._worth(pair, row, value) for pair, row in zip(pairs, rows, strict=True)]
            if all(worth == v for worth, v in zip(served, value[here.acting], strict=True)):
                return
            value = self._solved(pairs, rows)

    def _solved(self, pairs: Sequence[int], rows: Sequence[Row]) -> np.ndarray:
        here = self.evidence
        n, constant = len(here.terminal), here.zero()
        system = fmpq_mat(n, n)
        for state in range(n):
            system[state, state] = ONE
        for state, pair, row in zip(here.acting.tolist(), pairs, rows, strict=True):
            constant[state] = here.reward[pair]
            for successor, p in enumerate(row):
                system[state, successor] -= here.discount * p
        return np.array(system.solve(fmpq_mat(n, 1, list(constant))).entries(), dtype=object)

    def optimal(self) -> np.ndarray:
        """The robust value, (n,)."""
        here = self.evidence
        policy = here.greedy(here.optimal())
        while True:
            value = self.policy_value(policy)
            worth, following = self.action_values(value), policy.copy()
            for state in here.acting.tolist():
                first, last = int(here.state_ptr[state]), int(here.state_ptr[state + 1])
                best = max(range(first, last), key=lambda pair: worth[pair])
                if worth[best] > value[state]:
                    following[state] = best - first
            if np.array_equal(following, policy):
                return value
            policy = following


def variation(evidence: RationalEvidence, radius: fmpq, *, everywhere: bool = False, helps: bool = False) -> Nature:
    """Nature within total variation `radius` of each row: on its support, or everywhere; against the controller, or for him."""
    table = evidence.matrix.table()

    def nature(pair: int, value: np.ndarray) -> Row:
        row, rest = list(table[pair]), radius
        order = sorted((s for s in range(len(row)) if everywhere or row[s] > 0), key=lambda s: value[s], reverse=not helps)
        receiver = order[-1]
        for giver in order[:-1]:
            step = min(rest, row[giver])
            row[giver], row[receiver], rest = row[giver] - step, row[receiver] + step, rest - step
        return row

    return nature


def contamination(evidence: RationalEvidence, radius: fmpq) -> Nature:
    """Nature who with probability `radius` says where to go, to any state."""
    table = evidence.matrix.table()

    def nature(pair: int, value: np.ndarray) -> Row:
        row = [(1 - radius) * p for p in table[pair]]
        row[min(range(len(row)), key=lambda s: value[s])] += radius
        return row

    return nature


def listed(rows: Sequence[Sequence[Row]]) -> Nature:
    """Nature who picks one of the rows listed for each pair."""

    def nature(pair: int, value: np.ndarray) -> Row:
        return min(rows[pair], key=lambda row: sum((p * v for p, v in zip(row, value, strict=True) if p), NOTHING))

    return nature


def boxes(ends: Sequence[tuple[Row, Row]]) -> Nature:
    """Nature who keeps each pair's row between its ends, lower and upper; some row of sum one must fit."""

    def nature(pair: int, value: np.ndarray) -> Row:
        row, upper = list(ends[pair][0]), ends[pair][1]
        rest = 1 - sum(row, NOTHING)
        for state in sorted(range(len(row)), key=lambda s: value[s]):
            step = min(rest, upper[state] - row[state])
            row[state], rest = row[state] + step, rest - step
        return row

    return nature


def mixed(shares: Mapping[int, Sequence[tuple[int, fmpq]]], factors: Nature) -> Nature:
    """Nature who changes factors: each pair's row is a mixture, (factor, share), of her answers for these."""

    def nature(pair: int, value: np.ndarray) -> Row:
        answers = [(share, factors(factor, value)) for factor, share in shares[pair]]
        return [sum((share * row[s] for share, row in answers), NOTHING) for s in range(len(value))]

    return nature
