r"""Decision problems whose rows nature may change: (s, a)-rectangular robust and optimistic problems.

    (T v)(s) = max_a [ r(s, a) + min {p . z : p in U(s, a)} ],      z(j) = r(s, a, j) + g v(j),

with nature on the controller's side, max over p, where `optimistic`. Nature picks every row apart from the others, whenever the
pair occurs; the optimal policy is deterministic and stationary, and the same value results when nature commits herself once and
for all (Iyengar 2005; Nilim and El Ghaoui 2005).

A set's arrays (weights, intervals, a metric) run over all states where one set is given for all pairs, and over the successors
that nature may use, in the order in which they are stored, where every pair has its own. With `support="nominal"` nature keeps
to the successors of positive nominal probability; with "all", and where one set of rows or intervals is given for all pairs,
rows are spread over all states. Repeated successors are outcomes apart.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from .ambiguity.ambiguity_set import AmbiguitySet
from .ambiguity.interval import Interval
from .criterion import TotalReward
from .dense import spread
from .errors import ModelError
from .model import MDP
from .over_table import OverTable
from .restriction import chosen_pairs, entries_of, restricted

if TYPE_CHECKING:
    from .robust_operator import RobustOperator


@dataclass(frozen=True, eq=False)
class RobustMDP(OverTable):
    """A nominal problem and what nature may make of its rows. n states, m pairs, z transitions.

    problem: the nominal MDP, of any criterion but total reward. Its rows are those that nature's sets are made from: without
        entries of probability zero, or spread over all states, as the sets' supports say.
    ambiguity: one set for all pairs, or m of one family.
    optimistic: nature helps instead of hindering.
    transition_reward: float64 (z,), reward of each stored transition of the problem as given, or None. With it rows cannot be
        spread over successors whose reward nobody gave.

    Raises ModelError naming the state and action whose set does not fit its row.
    """

    problem: MDP
    ambiguity: AmbiguitySet | Sequence[AmbiguitySet]
    _: KW_ONLY
    optimistic: bool = False
    transition_reward: np.ndarray | None = None
    _sets: _Sets | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if self._sets is not None:
            return
        if not isinstance(self.problem, MDP):
            raise ModelError(f"the nominal problem is a {type(self.problem).__name__}; give an MDP")
        if isinstance(self.problem.criterion, TotalReward):
            raise ModelError(
                f"robust problems are discounted, of finite horizon or averaged; the criterion is {self.problem.criterion}"
            )
        gain = self.transition_reward
        if gain is not None:
            gain = np.array(gain, dtype=np.float64)
            if gain.shape != (self.problem.n_transitions,) or not np.isfinite(gain).all():
                raise ModelError(
                    f"transition_reward must be {self.problem.n_transitions} finite numbers, one a stored transition; its "
                    f"shape is {gain.shape}"
                )
        ambiguity = tuple(self.ambiguity) if isinstance(self.ambiguity, Sequence) else self.ambiguity
        sets = ambiguity if isinstance(ambiguity, tuple) else (ambiguity,)
        _require_sets(sets, self.problem.n_pairs, isinstance(ambiguity, tuple))
        object.__setattr__(self, "ambiguity", ambiguity)
        problem, gain = _laid_out(self.problem, sets, gain, isinstance(ambiguity, tuple))
        object.__setattr__(self, "problem", problem)
        object.__setattr__(self, "transition_reward", gain)
        object.__setattr__(self, "_sets", _Sets.of(problem, ambiguity))

    @classmethod
    def intervals(cls, problem: MDP, lower: np.ndarray, upper: np.ndarray, *, optimistic: bool = False) -> RobustMDP:
        """Interval model: each stored transition's probability lies between its bounds, (z,) each.

        problem: any row inside the bounds. Raises ModelError where bounds cross or leave no row.
        """
        lower, upper = np.asarray(lower, dtype=float), np.asarray(upper, dtype=float)
        if lower.shape != (problem.n_transitions,) or upper.shape != lower.shape:
            raise ModelError(f"bounds have shapes {lower.shape} and {upper.shape}; give {problem.n_transitions} numbers each")
        rows = [slice(*ends) for ends in zip(problem.row_ptr[:-1].tolist(), problem.row_ptr[1:].tolist(), strict=True)]
        return cls(problem, [_at(problem, k, lambda r=r: Interval(lower[r], upper[r])) for k, r in enumerate(rows)],
                   optimistic=optimistic)  # fmt: skip

    @property
    def sets(self) -> _Sets:
        """The sets as arrays."""
        return self._sets  # pyright: ignore[reportReturnType]

    def set_of(self, pair: int) -> AmbiguitySet:
        """The set of one pair."""
        return self.ambiguity[pair] if isinstance(self.ambiguity, tuple) else self.ambiguity  # pyright: ignore[reportReturnType]

    def entries_of(self, pair: int) -> np.ndarray:
        """The numbers of each successor that the pair's set reads, float64 (k, successors of the pair)."""
        sets, row = self.sets, slice(int(self.row_ptr[pair]), int(self.row_ptr[pair + 1]))
        block = sets.entry[int(sets.entry_ptr[pair]) : int(sets.entry_ptr[pair + 1])]
        return block.reshape(-1, row.stop - row.start)

    @cached_property
    def operator(self) -> RobustOperator:
        """The robust Bellman operator, for maximisation; minimisation goes through `negated`."""
        from .robust_operator import RobustOperator

        return RobustOperator.of(self)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of every number that the value depends on, as hexadecimal."""
        digest = hashlib.sha256(f"{self.problem.fingerprint}:{self.optimistic}".encode())
        for array in (self.sets.family, self.sets.parameter, self.sets.entry, self.sets.entry_ptr, self.transition_reward):
            if array is not None:
                digest.update(f"{array.dtype}:{array.shape}".encode())
                digest.update(array.tobytes())
        return digest.hexdigest()

    def restricted(self, policy: np.ndarray) -> RobustMDP:
        """The robust problem in which a policy (n_states,) is the only choice: its value is the policy's robust value."""
        pairs = chosen_pairs(self.problem, policy)
        gain = None if self.transition_reward is None else self.transition_reward[entries_of(self.problem, pairs)]
        sets = tuple(self.ambiguity[k] for k in pairs) if isinstance(self.ambiguity, tuple) else self.ambiguity
        return RobustMDP(restricted(self.problem, policy), sets, optimistic=self.optimistic, transition_reward=gain)

    def negated(self) -> RobustMDP:
        """The same problem with every reward's sign, the sense of optimisation and nature's side turned round. Exact."""
        gain = None if self.transition_reward is None else -self.transition_reward
        return replace(self, problem=self.problem.negated(), optimistic=not self.optimistic, transition_reward=gain)


@dataclass(frozen=True)
class _Sets:
    """The sets' numbers. family: int64 (m,) or (1,). parameter: float64 (m, k) or (1, k).

    entry: the numbers of each pair's successors, row after row; entry_ptr: int64 (m + 1,).
    """

    family: np.ndarray
    parameter: np.ndarray
    entry: np.ndarray
    entry_ptr: np.ndarray

    @classmethod
    def of(cls, problem: MDP, ambiguity: AmbiguitySet | tuple[AmbiguitySet, ...]) -> _Sets:
        sets = ambiguity if isinstance(ambiguity, tuple) else (ambiguity,)
        parameter = np.array([one.parameters() for one in sets], dtype=np.float64).reshape(len(sets), -1)
        family = np.array([one.family for one in sets], dtype=np.int64)
        plain = isinstance(ambiguity, AmbiguitySet) and type(ambiguity).entries is AmbiguitySet.entries
        blocks: list[np.ndarray] = []
        if not plain:
            blocks = [_at(problem, k, lambda k=k: _entries(problem, k, ambiguity)).ravel() for k in range(problem.n_pairs)]
        sizes = [len(block) for block in blocks] if blocks else [0] * problem.n_pairs
        entry = np.concatenate(blocks) if blocks else np.empty(0)
        return cls(family, parameter, entry, np.concatenate(([0], np.cumsum(sizes))).astype(np.int64))


def _entries(problem: MDP, pair: int, ambiguity: AmbiguitySet | tuple[AmbiguitySet, ...]) -> np.ndarray:
    row = slice(int(problem.row_ptr[pair]), int(problem.row_ptr[pair + 1]))
    if isinstance(ambiguity, tuple):
        return np.ascontiguousarray(ambiguity[pair].entries(problem.probability[row]))
    whole = np.zeros(problem.n_states)
    np.add.at(whole, problem.successor[row], problem.probability[row])
    return np.ascontiguousarray(ambiguity.restrict(ambiguity.entries(whole), problem.successor[row].astype(np.int64)))


def _require_sets(sets: tuple[AmbiguitySet, ...], n_pairs: int, one_each: bool) -> None:
    for k, one in enumerate(sets):
        if not isinstance(one, AmbiguitySet):
            raise ModelError(f"ambiguity {k} is {one!r}; give an ambiguity set, such as L1(0.1)")
    if one_each and len(sets) != n_pairs:
        raise ModelError(f"{len(sets)} ambiguity sets for {n_pairs} state-action pairs; give one set, or one a pair")
    kinds = {(one.family, len(one.parameters()), one.support) for one in sets}
    if len(kinds) > 1:
        raise ModelError("the ambiguity sets are of more than one family or support; give sets of one kind")


def _laid_out(
    problem: MDP, sets: tuple[AmbiguitySet, ...], gain: np.ndarray | None, one_each: bool
) -> tuple[MDP, np.ndarray | None]:
    """The rows that the sets are made from: stored zeros dropped, or spread over all states."""
    if sets[0].contains_nominal and (sets[0].dominated or sets[0].support == "nominal"):
        keep = problem.probability > 0
        if keep.all():
            return problem, gain
        kept = np.concatenate(([0], np.cumsum(keep)))[problem.row_ptr]
        shorter = problem.replace(row_ptr=kept, successor=problem.successor[keep], probability=problem.probability[keep])
        return shorter, None if gain is None else gain[keep]
    if one_each and not sets[0].contains_nominal:
        return problem, gain
    wide = spread(problem)
    if gain is not None and wide is not problem:
        raise ModelError(
            "nature may send a pair to any state, and transition_reward names only the stored ones; store every state in every "
            "row, in order"
        )
    return wide, gain


def _at(problem: MDP, pair: int, build: Callable[[], Any]) -> Any:
    """What `build` returns; its ModelError with the place before it."""
    try:
        return build()
    except ModelError as fault:
        state = int(problem.pair_state[pair])
        action = problem.action_of(state, pair - int(problem.state_ptr[state]))
        raise ModelError(f"state {problem.state_of(state)}, action {action}: {fault}") from None
