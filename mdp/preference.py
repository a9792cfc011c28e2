r"""Preferences between responses, and the game that they make.

An oracle on n responses is a matrix P, P_ij the probability that response i is preferred to response j:

    P_ij + P_ji = 1,    P_ii = 1/2.

No reward need stand behind it: P may be cyclic. Where one does, P_ij = s(r_i - r_j) with s(x) = 1 / (1 + e^-x) (Bradley and
Terry, Biometrika 39, 1952). Against a policy p over the responses, response i wins with probability (P p)_i.

Meaning of floating-point entries. Of the two entries of a pair the smaller, taken as an exact number, IS the model; the larger
is one minus it. So P + P' = 1 holds exactly, and a probability of 1e-30 keeps its digits.

The KL-regularised game of a reference q and a temperature t > 0 is played with the payoff

    J(p, p') = <p, P p'> - t KL(p | q) + t KL(p' | q),

symmetric, constant-sum, of value 1/2 (Munos et al. 2023, arXiv 2312.00886).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from pathlib import Path

import numpy as np

from .errors import FileFormatError, ModelError
from .storage import read_arrays, write_arrays
from .validation import real_array

TOLERANCE = 1e-9
"""By how much P_ij + P_ji and the sum of a distribution may miss one before they are refused."""


@dataclass(frozen=True, eq=False)
class PreferenceOracle:
    """Who is preferred to whom.

    matrix: (n, n), P_ij in [0, 1], P + P' = 1, 1/2 on the diagonal; kept read-only, larger entries as 1 - smaller.
    reward: (n,) or None; where given, the exact meaning is P_ij = 1 / (1 + exp(r_j - r_i)) and `matrix` is its rounding.
    Raises ModelError naming the pair and the number that is wrong.
    """

    matrix: np.ndarray
    reward: np.ndarray | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "matrix", _oriented(_square(self.matrix)))
        if self.reward is not None:
            object.__setattr__(self, "reward", _rewards(self.reward))
            difference = np.abs(self.matrix - _logistic(self.reward[:, None] - self.reward[None, :]))
            if self.reward.shape != self.matrix.shape[:1] or difference.max() > TOLERANCE:
                raise ModelError("matrix is not the Bradley-Terry matrix of reward; build it by PreferenceOracle.bradley_terry")

    @classmethod
    def bradley_terry(cls, reward: np.ndarray) -> PreferenceOracle:
        """P_ij = 1 / (1 + exp(r_j - r_i)) of a reward (n,). Raises ModelError for rewards that are not finite."""
        reward = _rewards(reward)
        return cls(_logistic(reward[:, None] - reward[None, :]), reward)

    @classmethod
    def cyclic(cls, n: int, strength: float = 1.0) -> PreferenceOracle:
        """n >= 3 responses in a ring, (n, n): each is preferred with probability `strength` in [1/2, 1] to the next (n-1)//2.

        n = 3 is rock, paper, scissors; n = 5 with lizard and Spock. For even n opposite responses tie.
        Raises ModelError for another n or strength.
        """
        if n < 3:
            raise ModelError(f"a cycle of {n} responses; the shortest has 3")
        if not 0.5 <= strength <= 1:
            raise ModelError(f"strength {strength!r} is not a probability in [1/2, 1]")
        ahead = (np.arange(n)[None, :] - np.arange(n)[:, None]) % n
        matrix = np.full((n, n), 0.5)
        matrix[(ahead >= 1) & (ahead <= (n - 1) // 2)] = strength
        matrix[(n - ahead <= (n - 1) // 2) & (ahead > 0)] = 1 - strength
        return cls(matrix)

    @classmethod
    def population(cls, reward: np.ndarray, share: np.ndarray | None = None) -> PreferenceOracle:
        """A random annotator's preference: annotator k, one of m with weight share_k, answers by Bradley-Terry with reward_k.

        reward: (m, n). share: (m,), sums to one; default: equal. Three annotators suffice for a cycle (Condorcet 1785).
        Raises ModelError for rewards that are not finite or shares that are no distribution.
        """
        rewards = np.atleast_2d(np.asarray(reward, dtype=np.float64))
        share = distribution(np.full(len(rewards), 1 / len(rewards)) if share is None else share, len(rewards), "share")
        tables = [_logistic(_rewards(row)[:, None] - row[None, :]) for row in rewards]
        return cls(np.einsum("k,kij->ij", share, np.array(tables)))

    @classmethod
    def of_counts(cls, wins: np.ndarray) -> tuple[PreferenceOracle, np.ndarray]:
        """Frequencies of a data set and how often each pair was shown, both (n, n).

        wins: (n, n), >= 0, wins_ij the number of labels that prefer i to j. The weights returned are (wins + wins') / 2, for
        `population_optimum`; pairs that were never shown get P = 1/2 and weight 0. Raises ModelError for negative counts.
        """
        wins = np.array(wins, dtype=np.float64)
        if wins.ndim != 2 or wins.shape[0] != wins.shape[1] or not np.isfinite(wins).all() or (wins < 0).any():
            raise ModelError(f"wins of shape {wins.shape} must be a square matrix of counts >= 0")
        np.fill_diagonal(wins, 0.0)
        shown = wins + wins.T
        return cls(np.where(shown > 0, wins / np.where(shown > 0, shown, 1.0), 0.5)), shown / 2

    @classmethod
    def symmetrised(cls, matrix: np.ndarray) -> tuple[PreferenceOracle, float]:
        """The oracle (P + 1 - P') / 2 of a learned matrix (n, n) in [0, 1], and the largest |P_ij + P_ji - 1| that it had.

        Raises ModelError for entries outside [0, 1].
        """
        matrix = np.asarray(matrix, dtype=np.float64)
        _require_square(matrix)
        _require_probabilities(matrix)
        return cls((matrix + 1 - matrix.T) / 2), float(np.abs(matrix + matrix.T - 1).max())

    @property
    def n_responses(self) -> int:
        """Number of responses, n."""
        return len(self.matrix)

    def win_rate(self, policy: np.ndarray) -> np.ndarray:
        """Probability that each response is preferred to one drawn from policy (n,): P p, (n,)."""
        return self.matrix @ policy

    def rational(self) -> list[list[Fraction]]:
        """P as exact fractions, n lists of n; of each pair the smaller float is exact and the larger one minus it.

        An oracle with a reward is irrational; these are then the fractions of its rounding.
        """
        rows = [[Fraction(float(p)) for p in row] for row in self.matrix]
        for i, row in enumerate(rows):
            for j in range(i):
                if row[j] <= rows[j][i]:
                    rows[j][i] = 1 - row[j]
                else:
                    row[j] = 1 - rows[j][i]
        return rows

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the numbers, as hexadecimal."""
        digest = hashlib.sha256(self.matrix.tobytes())
        if self.reward is not None:
            digest.update(self.reward.tobytes())
        return digest.hexdigest()


@dataclass(frozen=True, eq=False)
class PreferenceGame:
    """The KL-regularised game of an oracle on n responses.

    reference: (n,), q > 0, a distribution. temperature: > 0, the price of a nat of KL to q, in units of win probability.
    Raises ModelError for a reference that is none or a temperature that is not positive.
    """

    oracle: PreferenceOracle
    reference: np.ndarray
    temperature: float

    def __post_init__(self) -> None:
        reference = distribution(self.reference, self.oracle.n_responses, "reference", positive=True)
        object.__setattr__(self, "reference", reference)
        if not np.isfinite(self.temperature) or not self.temperature > 0:
            raise ModelError(f"temperature {self.temperature!r} is not > 0; the unregularised game is solved by nash(oracle)")
        object.__setattr__(self, "temperature", float(self.temperature))

    @property
    def n_responses(self) -> int:
        """Number of responses, n."""
        return self.oracle.n_responses

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the numbers, as hexadecimal."""
        digest = hashlib.sha256(self.oracle.fingerprint.encode() + self.reference.tobytes())
        digest.update(repr(self.temperature).encode())
        return digest.hexdigest()

    def save(self, path: str | Path) -> None:
        """Write the game to one .npz file, whole or not at all. Raises OSError."""
        arrays = {"matrix": self.oracle.matrix, "reference": self.reference}
        if self.oracle.reward is not None:
            arrays["reward"] = self.oracle.reward
        write_arrays(path, "preference game", {"temperature": self.temperature}, arrays)

    @classmethod
    def load(cls, path: str | Path) -> PreferenceGame:
        """Read what `save` wrote. Raises FileFormatError for another file, ModelError for numbers that are no game."""
        header, arrays = read_arrays(path, "preference game")
        if not {"matrix", "reference"} <= set(arrays) or not isinstance(header.get("temperature"), float):
            raise FileFormatError(f"{path}: matrix, reference or temperature is missing; save the game again")
        return cls(PreferenceOracle(arrays["matrix"], arrays.get("reward")), arrays["reference"], header["temperature"])


def distribution(values: np.ndarray, n: int, name: str, positive: bool = False) -> np.ndarray:
    """A checked, read-only copy of a distribution (n,) that sums to one within rounding.

    positive: whether zeros are refused. Raises ModelError naming the entry that is wrong.
    """
    values = np.array(real_array(name, values))
    if values.shape != (n,):
        raise ModelError(f"{name} has shape {values.shape}; there are {n} responses, give shape ({n},)")
    low = ~np.isfinite(values) | (values < 0) | ((values == 0) & positive)
    if low.any():
        worst = int(np.flatnonzero(low)[0])
        wanted = "> 0; leave responses of probability zero out" if positive else ">= 0"
        raise ModelError(f"{name}[{worst}] is {values[worst]}; probabilities must be {wanted}")
    total = float(values.sum())
    if abs(total - 1) > TOLERANCE:
        raise ModelError(f"{name} sums to {total!r}, not to one; divide it by its sum")
    if abs(total - 1) > 1e-12:  # what sums to one but for rounding stays as it is, so that saving and loading changes nothing
        values /= total
    values.flags.writeable = False
    return values


def _logistic(x: np.ndarray) -> np.ndarray:
    small = np.exp(-np.abs(x))
    return np.where(x >= 0, 1.0, small) / (1.0 + small)


def _rewards(reward: np.ndarray) -> np.ndarray:
    reward = np.array(real_array("reward", reward))
    if reward.ndim != 1 or not reward.size or not np.isfinite(reward).all():
        raise ModelError(f"reward {reward} must be finite numbers, one for each response")
    reward.flags.writeable = False
    return reward


def _require_square(matrix: np.ndarray) -> None:
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or not matrix.size:
        raise ModelError(f"a preference matrix of shape {matrix.shape} is not square; give (n, n), n >= 1")


def _require_probabilities(matrix: np.ndarray) -> None:
    wrong = np.argwhere(~((matrix >= 0) & (matrix <= 1)))
    if len(wrong):
        i, j = wrong[0]
        raise ModelError(f"P[{i}, {j}] = {matrix[i, j]} is not a probability in [0, 1]")


def _square(matrix: np.ndarray) -> np.ndarray:
    matrix = real_array("matrix", matrix)
    _require_square(matrix)
    _require_probabilities(matrix)
    wrong = np.argwhere(np.abs(matrix + matrix.T - 1) > TOLERANCE)
    if len(wrong):
        i, j = wrong[0]
        if i == j:
            raise ModelError(f"P[{i}, {i}] = {matrix[i, i]}; a response ties with itself, set it to 1/2")
        raise ModelError(
            f"P[{i}, {j}] + P[{j}, {i}] = {matrix[i, j]} + {matrix[j, i]} is not one; a label prefers one of the two "
            "(PreferenceOracle.symmetrised repairs a learned matrix)"
        )
    return matrix


def _oriented(matrix: np.ndarray) -> np.ndarray:
    """Larger entries become one minus the smaller ones."""
    matrix = np.where(matrix <= matrix.T, matrix, 1 - matrix.T)
    np.fill_diagonal(matrix, 0.5)
    matrix.flags.writeable = False
    return matrix
