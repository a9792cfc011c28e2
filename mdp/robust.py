r"""Decision problems whose rows nature may change: (s, a)- and s-rectangular robust and optimistic problems.

    (T v)(s) = max_a [ r(s, a) + min {p . z : p in U(s, a)} ],      z(j) = r(s, a, j) + g v(j),

with max over p in place of min where `optimistic`; where costs are minimised, min over a and max, or min, over p. Nature picks
every row apart from the others, whenever the pair occurs; the optimal policy is deterministic and stationary, and the same
value results when nature commits herself once and for all (Iyengar 2005; Nilim and El Ghaoui 2005). With `SRectangular(ball)`
she picks the rows of a state together, out of one budget, before the action is drawn: the optimal policy is stationary and may
have to randomise (Wiesemann, Kuhn and Rustem 2013),

    (T v)(s) = max_d min { sum_a d_a (r(s, a) + p_a . z_a) : sum_a D(p_a, pbar_a) <= kappa }.

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
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from .ambiguity.ambiguity_set import AmbiguitySet
from .ambiguity.interval import Interval
from .ambiguity.s_rectangular import SRectangular
from .criterion import TotalReward
from .dense import spread
from .errors import ModelError
from .model import MDP
from .over_table import OverTable
from .restriction import chosen_pairs, entries_of, restricted
from .validation import ROW_SUM_TOLERANCE

if TYPE_CHECKING:
    from pathlib import Path

    from .criterion import Criterion
    from .robust_operator import RobustOperator
    from .s_rectangular_operator import SRectangularOperator


@dataclass(frozen=True, eq=False)
class RobustMDP(OverTable):
    """A nominal problem and what nature may make of its rows. n states, m pairs, z transitions.

    problem: the nominal MDP, of any criterion but total reward. Its rows are those that nature's sets are made from: without
        entries of probability zero, or spread over all states, as the sets' supports say.
    ambiguity: one set for all pairs, or m of one family; or one `SRectangular` for all states, or n of one family.
    optimistic: nature helps instead of hindering, whatever the sense of the criterion.
    transition_reward: float64 (z,), reward of each stored transition of the problem as given, or None. With it rows cannot be
        spread over successors whose reward nobody gave.
    decision: float64 (m,), the weights by which actions are drawn, when they are given and only nature chooses; or None. For
        s-rectangular problems.

    Raises ModelError naming the state and action whose set does not fit its row, or the state whose weights are none.
    """

    problem: MDP
    ambiguity: AmbiguitySet | SRectangular | Sequence[AmbiguitySet | SRectangular]
    _: KW_ONLY
    optimistic: bool = False
    transition_reward: np.ndarray | None = None
    decision: np.ndarray | None = None
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
        object.__setattr__(self, "ambiguity", ambiguity)
        of_pairs, shared = _of_pairs(ambiguity, self.problem), self.rectangularity == "s"
        sets = of_pairs if isinstance(of_pairs, tuple) else (of_pairs,)
        _require_sets(sets, self.problem.n_pairs, isinstance(of_pairs, tuple))
        if self.decision is not None:
            object.__setattr__(self, "decision", _decision(self.problem, self.decision, shared))
        problem, gain = _laid_out(self.problem, sets, gain, isinstance(of_pairs, tuple))
        object.__setattr__(self, "problem", problem)
        object.__setattr__(self, "transition_reward", gain)
        object.__setattr__(self, "_sets", _Sets.of(problem, of_pairs, over_states=shared))

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

    @classmethod
    def from_umb(
        cls,
        path: str | Path,
        discount: float | None = None,
        *,
        criterion: Criterion | None = None,
        reward: str | None = None,
        target: str | Sequence[str] | None = None,
        avoid: str | None = None,
        optimistic: bool | None = None,
    ) -> RobustMDP:
        """From a UMB file of intervals, as Storm writes it; see `banach.mdp.umb.read_interval_umb`."""
        from .umb import read_interval_umb

        return read_interval_umb(
            path, discount, criterion=criterion, reward=reward, target=target, avoid=avoid, optimistic=optimistic
        )

    def to_umb(self, path: str | Path) -> None:
        """Write a UMB file of intervals, readable by Storm; see `banach.mdp.umb_write.write_interval_umb`."""
        from .umb_write import write_interval_umb

        write_interval_umb(self, path)

    @property
    def sets(self) -> _Sets:
        """The sets as arrays."""
        return self._sets  # pyright: ignore[reportReturnType]

    @property
    def rectangularity(self) -> Literal["sa", "s"]:
        """What nature chooses apart from the rest: the row of a pair, or all rows of a state."""
        first = self.ambiguity[0] if isinstance(self.ambiguity, tuple) and self.ambiguity else self.ambiguity
        return "s" if isinstance(first, SRectangular) else "sa"

    @property
    def randomised(self) -> bool:
        """Whether policies are weights (n_pairs,): a hostile nature splits a budget over a state's actions, or the weights are
        given."""
        return self.rectangularity == "s" and (not self.optimistic or self.decision is not None)

    def set_of(self, pair: int) -> AmbiguitySet:
        """The set of one pair; in s-rectangular problems the ball whose radius all pairs of the state share."""
        chosen: Any = self.ambiguity
        if self.rectangularity == "s":
            return (chosen[int(self.problem.pair_state[pair])] if isinstance(chosen, tuple) else chosen).ball
        return chosen[pair] if isinstance(chosen, tuple) else chosen

    def entries_of(self, pair: int) -> np.ndarray:
        """The numbers of each successor that the pair's set reads, float64 (k, successors of the pair)."""
        sets, row = self.sets, slice(int(self.row_ptr[pair]), int(self.row_ptr[pair + 1]))
        block = sets.entry[int(sets.entry_ptr[pair]) : int(sets.entry_ptr[pair + 1])]
        return block.reshape(-1, row.stop - row.start)

    @cached_property
    def operator(self) -> RobustOperator | SRectangularOperator:
        """The robust Bellman operator, for maximisation; minimisation goes through `negated`."""
        if self.randomised:
            from .s_rectangular_operator import SRectangularOperator

            return SRectangularOperator.of(self)
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
        if self.rectangularity == "s":
            digest.update(b"s-rectangular" if self.decision is None else b"decision" + self.decision.tobytes())
        return digest.hexdigest()

    def restricted(self, policy: np.ndarray) -> RobustMDP:
        """The robust problem in which a policy is the only choice: its value is the policy's robust value.

        policy: an action of each state (n_states,), or for s-rectangular problems weights (n_pairs,).
        Raises ModelError for weights that do not sum to one in a state, or where actions cannot be drawn at random.
        """
        if policy.dtype.kind == "f":
            return RobustMDP(self.problem, self.ambiguity, optimistic=self.optimistic,
                             transition_reward=self.transition_reward, decision=policy)  # fmt: skip
        pairs = chosen_pairs(self.problem, policy)
        gain = None if self.transition_reward is None else self.transition_reward[entries_of(self.problem, pairs)]
        several = isinstance(self.ambiguity, tuple) and self.rectangularity == "sa"
        sets = tuple(self.ambiguity[k] for k in pairs) if several else self.ambiguity  # pyright: ignore[reportIndexIssue]
        return RobustMDP(restricted(self.problem, policy), sets, optimistic=self.optimistic, transition_reward=gain)

    def against(self, rows: np.ndarray) -> MDP:
        """The ordinary problem that is left when nature has chosen her rows, float64 (n_transitions,), for every pair.

        rows: such as `operator.worst_rows(value)`. Raises ModelError when a row is no distribution.
        """
        reward = self.problem.reward
        if self.transition_reward is not None and len(reward):
            reward = reward + np.add.reduceat(rows * self.transition_reward, self.row_ptr[:-1])
        return self.problem.replace(probability=np.array(rows), reward=reward)

    def chain(self, policy: np.ndarray, rows: np.ndarray) -> MDP:
        """The problem with one action a state: the mixture, by weights (n_pairs,), of nature's rows (n_transitions,)."""
        used = np.flatnonzero(policy > 0)
        entries, lengths = entries_of(self.problem, used), np.diff(self.row_ptr)[used].astype(np.int64)
        state = self.problem.pair_state[used]
        total = np.bincount(state, policy[used], self.n_states)
        share = policy[used] / total[state]
        reward = self.against(rows).reward[used] * share
        size = np.bincount(state, lengths, self.n_states).astype(np.int64)
        acting = ~self.terminal
        return MDP(
            np.concatenate(([0], np.cumsum(acting))),
            np.concatenate(([0], np.cumsum(size[acting]))),
            self.problem.successor[entries],
            rows[entries] * np.repeat(share, lengths),
            np.bincount(state, reward, self.n_states)[acting],
            self.problem.criterion,
            self.terminal,
            self.terminal_value,
            self.initial,
        )

    def floor(self, modulus: float) -> np.ndarray:
        """A constant c <= T c, with the terminal value in terminal states, (n_states,), for a T that moves it by `modulus`."""
        worst = float(self.reward.min(initial=0.0))
        if self.transition_reward is not None:
            worst += float(self.transition_reward.min(initial=0.0))
        worst = min(0.0, worst, float(self.terminal_value.min(initial=0.0)))
        return np.where(self.terminal, self.terminal_value, worst / (1 - modulus) if modulus < 1 else 0.0)

    def negated(self) -> RobustMDP:
        """The same problem with the signs of rewards and the sense of optimisation turned round, nature on her side. Exact."""
        gain = None if self.transition_reward is None else -self.transition_reward
        return replace(self, problem=self.problem.negated(), transition_reward=gain)


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
    def of(cls, problem: MDP, ambiguity: AmbiguitySet | tuple[AmbiguitySet, ...], over_states: bool) -> _Sets:
        sets = ambiguity if isinstance(ambiguity, tuple) else (ambiguity,)
        parameter = np.array([one.parameters() for one in sets], dtype=np.float64).reshape(len(sets), -1)
        family = np.array([one.family for one in sets], dtype=np.int64)
        plain = (over_states or isinstance(ambiguity, AmbiguitySet)) and type(sets[0]).entries is AmbiguitySet.entries
        blocks: list[np.ndarray] = []
        if not plain:
            blocks = [
                _at(problem, k, lambda k=k: _entries(problem, k, ambiguity, over_states)).ravel()
                for k in range(problem.n_pairs)
            ]
        sizes = [len(block) for block in blocks] if blocks else [0] * problem.n_pairs
        entry = np.concatenate(blocks) if blocks else np.empty(0)
        return cls(family, parameter, entry, np.concatenate(([0], np.cumsum(sizes))).astype(np.int64))


def _entries(problem: MDP, pair: int, ambiguity: AmbiguitySet | tuple[AmbiguitySet, ...], over_states: bool) -> np.ndarray:
    row = slice(int(problem.row_ptr[pair]), int(problem.row_ptr[pair + 1]))
    one = ambiguity[pair] if isinstance(ambiguity, tuple) else ambiguity
    if isinstance(ambiguity, tuple) and not over_states:
        return np.ascontiguousarray(one.entries(problem.probability[row]))
    whole = np.zeros(problem.n_states)
    np.add.at(whole, problem.successor[row], problem.probability[row])
    return np.ascontiguousarray(one.restrict(one.entries(whole), problem.successor[row].astype(np.int64)))


def _of_pairs(ambiguity: Any, problem: MDP) -> Any:
    """The sets of the pairs: one, or a tuple. Raises ModelError for a number of sets that does not fit the states."""
    sets = ambiguity if isinstance(ambiguity, tuple) else (ambiguity,)
    shared = [isinstance(one, SRectangular) for one in sets]
    if not any(shared):
        return ambiguity
    if not all(shared):
        raise ModelError("some of the ambiguity sets are s-rectangular and some are not; give sets of one kind")
    if not isinstance(ambiguity, tuple):
        return ambiguity.ball
    if len(sets) != problem.n_states:
        raise ModelError(f"{len(sets)} s-rectangular sets for {problem.n_states} states; give one set, or one a state")
    kinds = {(one.ball.family, one.ball.support) for one in sets}
    if len(kinds) > 1:
        raise ModelError("the ambiguity sets are of more than one family or support; give sets of one kind")
    return tuple(sets[state].ball for state in problem.pair_state.tolist())


def _decision(problem: MDP, decision: np.ndarray, shared: bool) -> np.ndarray:
    if not shared:
        raise ModelError("weights draw an action at random, which only SRectangular sets speak of; give an action a state")
    weights = np.array(decision, dtype=np.float64)
    if weights.shape != (problem.n_pairs,) or not np.isfinite(weights).all() or weights.min(initial=0.0) < 0:
        raise ModelError(f"a decision is {problem.n_pairs} finite weights >= 0, one a state-action pair; it is {decision!r}")
    total = np.bincount(problem.pair_state, weights, problem.n_states)
    for state in np.flatnonzero(~problem.terminal & (np.abs(total - 1) > ROW_SUM_TOLERANCE))[:1]:
        raise ModelError(
            f"state {problem.state_of(int(state))}: the weights of its actions sum to {total[state]}; normalise them"
        )
    weights.setflags(write=False)
    return weights


def _require_sets(sets: tuple[AmbiguitySet, ...], n_pairs: int, one_each: bool) -> None:
    if not sets:
        raise ModelError(f"the list of ambiguity sets is empty, for {n_pairs} state-action pairs; give one set for all")
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
