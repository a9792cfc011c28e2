r"""UMB, the binary format that PRISM, Storm and Modest exchange models in, read and written through the `umbi` library.

A file is a tar archive, plain or compressed with gzip or xz: index.json says what there is, and flat little-endian arrays hold
states -> choices -> branches (our states, pairs and transitions), labels ("aps") and named rewards of states, choices or
branches. `umbi` knows the index and its types; the arrays are read and written here, by numpy, after their sizes have
been compared with the index. Nothing is believed that is not there, and an archive may not unpack to more than
`banach.mdp.storage.unpacked_limit` allows.

What a step earns is the reward of the state that it leaves, plus that of the choice, plus the mean over branches. A state
without choices ends the process and is worth nothing. Several initial states are equally likely. Files ask no question;
see `banach.mdp.goal`. Probabilities that are intervals make a robust problem, `read_interval_umb`.

Format: https://github.com/pmc-tools/umb, format 1. Andriushchenko et al., umbi 0.2.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from umbi.binary import SizedType
from umbi.datatypes import IntervalType
from umbi.umb.index import AnnotationDescription, TransitionSystem, UmbIndex

from .criterion import Criterion, TotalReward
from .errors import FileFormatError, ModelError
from .expectation import expected_reward
from .goal import ending, require_room, without_pairs_of
from .model import MDP, criterion_from
from .npz import criterion_of
from .robust import RobustMDP
from .umb_archive import Archive, unpack

logging.getLogger("umbi").addHandler(logging.NullHandler())  # its complaints come back as our errors

TOOL = "banach"
_OF_NATURE = ("probability", "transition_reward")
"""What `write_interval_umb` keeps of each branch under a name of its own."""

KNOWN_FORMATS = (0, 1)  # umbi 0.2 installed from a wheel writes 0, Storm and PRISM write 1; they mean the same


def read_umb(
    path: str | Path,
    discount: float | None = None,
    *,
    criterion: Criterion | None = None,
    reward: str | None = None,
    target: str | Sequence[str] | None = None,
    avoid: str | None = None,
) -> MDP:
    """The decision problem of a DTMC or MDP in a UMB file.

    discount, criterion: at most one of them; default TotalReward(), or what a file of this library says.
    reward: name of the reward to collect; default the only one, or none when there is a target.
    target: label, or labels that must all hold, of the states where the run ends; worth 1 when no reward is named, so that the
        value is the probability to reach them, and 0 otherwise.
    avoid: label of states where the run ends, worth nothing.
    Keeps initial states, labels and action names. A file that `write_umb` wrote, read without reward and target, has the same
    fingerprint. Raises FileFormatError, naming the file, for one that is damaged, truncated or lies about its sizes, and for
    what an `MDP` cannot represent (continuous time, games, intervals, observations); ModelError for a question that does not
    fit, naming the labels or rewards that there are, and for everything that `MDP` refuses.
    """
    archive = _guarded(path, lambda: unpack(path))
    index = _guarded(path, lambda: _index(archive))
    return _plain(path, archive, index, discount, criterion, reward, target, avoid)


def read_interval_umb(
    path: str | Path,
    discount: float | None = None,
    *,
    criterion: Criterion | None = None,
    reward: str | None = None,
    target: str | Sequence[str] | None = None,
    avoid: str | None = None,
    optimistic: bool | None = None,
) -> RobustMDP:
    """The robust problem of a DTMC or MDP in a UMB file whose probabilities are intervals; a number is an interval of one.

    discount, criterion: exactly one of them, discounted or of finite horizon; or neither, for what a file of this library says.
    reward, target, avoid: as in `read_umb`. Rewards of branches are kept for each branch, since nature chooses among them.
    optimistic: nature helps instead of hindering; default False, or what a file of this library says.
    The nominal row is one within the intervals, which matters to no value, or the one that `write_interval_umb` wrote; then the
    problem has the same fingerprint. Raises FileFormatError and ModelError as `read_umb` does, and ModelError naming state and
    action where no row fits the intervals.
    """
    archive = _guarded(path, lambda: unpack(path))
    index = _guarded(path, lambda: _index(archive, intervals=True))
    return _robust(path, archive, index, discount, criterion, reward, target, avoid, optimistic)


def open_umb(
    path: str | Path,
    discount: float | None = None,
    *,
    criterion: Criterion | None = None,
    reward: str | None = None,
    target: str | Sequence[str] | None = None,
    avoid: str | None = None,
) -> MDP | RobustMDP:
    """The problem of a UMB file: that of `read_interval_umb` where its probabilities are intervals, else that of `read_umb`.

    discount, criterion, reward, target, avoid: as there. Raises FileFormatError and ModelError as they do.
    """
    archive = _guarded(path, lambda: unpack(path))
    index = _guarded(path, lambda: _index(archive, intervals=True))
    if _of_intervals(index):
        return _robust(path, archive, index, discount, criterion, reward, target, avoid, None)
    return _plain(path, archive, index, discount, criterion, reward, target, avoid)


def _plain(path: str | Path, archive: Archive, index: UmbIndex, *question: Any) -> MDP:
    fields, terminal = _guarded(path, lambda: _structure(archive, index))
    try:
        fields, _ = _questioned(path, archive, index, fields, terminal, *question)
        return MDP(**fields)
    except ModelError as fault:
        raise ModelError(f"{path}: {fault}") from None


def _robust(path: str | Path, archive: Archive, index: UmbIndex, *question: Any) -> RobustMDP:
    *asked, optimistic = question
    fields, terminal = _guarded(path, lambda: _structure(archive, index))
    fields = {"lower": fields["probability"], "upper": fields["probability"]} | fields
    try:
        fields, ours = _questioned(path, archive, index, fields, terminal, *asked)
        lower, upper, gain = fields.pop("lower"), fields.pop("upper"), fields.pop("transition_reward", None)
        turned = bool(ours.get("optimistic", False)) if optimistic is None else optimistic
        found = RobustMDP.intervals(MDP(**fields), lower, upper, optimistic=turned)
        return found if gain is None else dataclasses.replace(found, transition_reward=gain)
    except ModelError as fault:
        raise ModelError(f"{path}: {fault}") from None


def _questioned(
    path: str | Path,
    archive: Archive,
    index: UmbIndex,
    fields: dict[str, Any],
    terminal: np.ndarray,
    discount: float | None,
    criterion: Criterion | None,
    reward: str | None,
    target: str | Sequence[str] | None,
    avoid: str | None,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """(fields of the problem that a question makes of a file, what a file of this library says of itself or nothing)."""
    ours = _own_parameters(index)
    if reward is not None or target is not None:
        ours = {}
    if ours:
        fields = fields | _guarded(path, lambda: _restored(archive, index, ours, fields))
        if discount is None and criterion is None:
            criterion = fields["criterion"]
    else:
        name = _chosen(index, reward, target)
        fields = fields | _guarded(path, lambda: _reward(archive, index, name, fields))
        flags, values = ending(fields["labels"], len(terminal), target, avoid, rewarded=reward is not None)
        fields |= {"terminal": terminal | flags, "terminal_value": values}
    default = TotalReward() if discount is None and criterion is None else criterion
    fields["criterion"] = criterion_from(discount, default)
    return fields | without_pairs_of(fields["terminal"], fields), ours


def _guarded(path: str | Path, read: Callable[[], Any]) -> Any:
    """What `read` returns; whatever a hostile file makes umbi, tarfile or numpy raise becomes FileFormatError."""
    try:
        return read()
    except FileNotFoundError:
        raise FileFormatError(f"{path}: no such file") from None
    except ModelError:
        raise
    except Exception as fault:
        reason = " ".join(str(fault).split()) or type(fault).__name__
        raise FileFormatError(f"{path}: not a UMB model that can be read ({reason[:500]})") from None


def _index(archive: Archive, intervals: bool = False) -> UmbIndex:
    """The index, checked by umbi and for being a DTMC or an MDP, whose probabilities may be intervals or not."""
    index: UmbIndex = UmbIndex.from_json(archive.index())
    if index.format_version not in KNOWN_FORMATS:
        raise ValueError(f"it is of UMB format {index.format_version}; only format 1 is known")
    system: TransitionSystem = index.transition_system
    for unfit, what in (
        (system.time != "discrete", f"its time is {system.time}, as in CTMC and Markov automata; an MDP has discrete time"),
        (system.num_players > 1, f"it is a game of {system.num_players} players"),
        (system.num_observations > 0, f"it is partially observed, with {system.num_observations} observations"),
        (
            not intervals and _of_intervals(index),
            "its probabilities are intervals, for RobustMDP.from_umb",
        ),
    ):
        if unfit:
            raise ValueError(f"{what}, which an MDP cannot represent")
    for group in ("aps", "rewards"):
        if len(_annotations(index, group)) != len((index.annotations or {}).get(group, {})):
            raise ValueError(f"two of its {group} have the same name")
    return index


def _of_intervals(index: UmbIndex) -> bool:
    kind = index.transition_system.branch_probability_type
    return kind is not None and isinstance(kind.type, IntervalType)


def _structure(archive: Archive, index: UmbIndex) -> tuple[dict[str, Any], np.ndarray]:
    """The fields of an MDP that need no question, and which states have no choices. Sizes follow from arrays that are there."""
    system: TransitionSystem = index.transition_system
    successor = archive.integers("branch-to-target.bin", "u8", system.num_branches)
    row_ptr = archive.pointers("choice-to-branches.bin", system.num_choices, system.num_branches)
    state_ptr = archive.pointers("state-to-choices.bin", system.num_states, system.num_choices)
    n_states = len(state_ptr) - 1
    if system.num_players == 0 and (np.diff(state_ptr) > 1).any():
        raise ValueError("a Markov chain has a state with more than one choice")
    if (beyond := np.flatnonzero(successor >= n_states)).size:
        raise ValueError(f"branch {beyond[0]} leads to state {successor[beyond[0]]}, but there are {n_states}")
    kind = system.branch_probability_type
    if kind is None and (np.diff(row_ptr) != 1).any():
        raise ValueError("it has no probabilities and a choice with several branches; such branching has no expected value")
    starts = archive.bits("state-is-initial.bin", n_states)
    if starts.sum() != system.num_initial_states:
        raise ValueError(f"{starts.sum()} states are initial, but the index says {system.num_initial_states}")
    fields = {
        "state_ptr": state_ptr,
        "row_ptr": row_ptr,
        "successor": successor,
        **_probabilities(archive, kind, row_ptr),
        "initial": starts / starts.sum() if starts.any() else None,
        "labels": _labels(archive, index, n_states),
        "action_names": archive.action_names(system.num_choice_actions, len(row_ptr) - 1),
    }
    return fields, np.diff(state_ptr) == 0


def _probabilities(archive: Archive, kind: SizedType | None, row_ptr: np.ndarray) -> dict[str, np.ndarray]:
    """The probability of each branch, and its bounds where there are bounds, with a row between them."""
    count, name = int(row_ptr[-1]), "branch-to-probability.bin"
    if kind is None:
        return {"probability": np.ones(count)}
    if not isinstance(kind.type, IntervalType):
        return {"probability": archive.reals(name, kind, count)}
    lower, upper = archive.intervals(name, kind, count)
    if (crossed := np.flatnonzero(~((lower >= 0) & (lower <= upper) & np.isfinite(upper)))).size:
        raise ValueError(f"branch {crossed[0]} has the interval [{lower[crossed[0]]}, {upper[crossed[0]]}] of probabilities")
    least, room = (np.add.reduceat(np.append(x, 0.0), row_ptr[:-1]) if count else np.zeros(0) for x in (lower, upper - lower))
    share = np.clip((1 - least) / np.where(room > 0, room, 1.0), 0.0, 1.0)
    between = lower + np.repeat(share, np.diff(row_ptr)) * (upper - lower)
    return {"lower": lower, "upper": upper, "probability": np.clip(between, lower, upper)}


def _annotations(index: UmbIndex, group: str) -> dict[str, tuple[str, AnnotationDescription]]:
    """Annotations of a group: name -> (identifier, description). Tools refer to the alias where there is one."""
    described = (index.annotations or {}).get(group, {})
    return {entry.alias or identifier: (identifier, entry) for identifier, entry in described.items()}


def _labels(archive: Archive, index: UmbIndex, n_states: int) -> dict[str, np.ndarray]:
    found = _annotations(index, "aps")
    require_room(len(found), n_states)
    return {name: archive.bits(f"annotations/aps/{label}/states/values.bin", n_states) for name, (label, _) in found.items()}


def _chosen(index: UmbIndex, reward: str | None, target: str | Sequence[str] | None) -> str | None:
    """The name of the reward to collect, or None for none."""
    names = sorted(_annotations(index, "rewards"))
    listed = ", ".join(map(repr, names)) or "none"
    if reward is not None and reward not in names:
        raise ModelError(f"there is no reward {reward!r}; the rewards are {listed}")
    if reward is not None or target is not None:
        return reward
    if len(names) == 1:
        return names[0]
    labels = ", ".join(map(repr, sorted(_annotations(index, "aps")))) or "none"
    raise ModelError(f"say what to optimise: reward=... (there are {listed}), or target=... (labels: {labels})")


def _reward(archive: Archive, index: UmbIndex, name: str | None, fields: dict[str, Any]) -> dict[str, np.ndarray]:
    """Expected reward of each choice, (m,): its state's, its own, and the mean over branches, or those where nature picks."""
    if name is None:
        return {"reward": np.zeros(len(fields["row_ptr"]) - 1)}
    parts = _parts(archive, index, name, fields)
    per_choice = np.repeat(parts["states"], np.diff(fields["state_ptr"])) + parts["choices"]
    if not parts["branches"].any():
        return {"reward": per_choice}
    if "lower" in fields:
        return {"reward": per_choice, "transition_reward": parts["branches"]}
    return {"reward": expected_reward(fields["row_ptr"], fields["probability"], parts["branches"], per_choice)}


def _parts(archive: Archive, index: UmbIndex, name: str, fields: dict[str, Any]) -> dict[str, np.ndarray]:
    """The three arrays of a reward, zeros where it does not apply."""
    identifier, entry = _annotations(index, "rewards")[name]
    if entry.probability_type is not None:
        raise ValueError(f"the reward {name!r} is random, which an MDP cannot represent")
    sizes = {
        "states": len(fields["state_ptr"]) - 1,
        "choices": len(fields["row_ptr"]) - 1,
        "branches": len(fields["successor"]),
    }
    return {
        entity: _numbers(archive, f"annotations/rewards/{identifier}/{entity}/values.bin", entry.type, size)
        if entity in (entry.applies_to or ())
        else np.zeros(size)
        for entity, size in sizes.items()
    }


def _numbers(archive: Archive, name: str, kind: SizedType | None, count: int) -> np.ndarray:
    """`count` rewards, float64 (count,); as interval models have them, intervals of one number each."""
    if kind is None or not isinstance(kind.type, IntervalType) or name not in archive.members:
        return archive.reals(name, kind, count, absent=0.0)
    lower, upper = archive.intervals(name, kind, count)
    if (wide := np.flatnonzero(lower != upper)).size:
        raise ValueError(f"{name}[{wide[0]}] is the interval [{lower[wide[0]]}, {upper[wide[0]]}]; rewards must be numbers")
    return lower


def _own_parameters(index: UmbIndex) -> dict[str, Any]:
    """What `write_umb` left in the index, empty for other tools' files."""
    data = index.file_data
    if data is None or data.tool != TOOL or not isinstance(data.parameters, dict):
        return {}
    return data.parameters


def _restored(archive: Archive, index: UmbIndex, ours: dict[str, Any], fields: dict[str, Any]) -> dict[str, Any]:
    """Rewards, terminal states, initial distribution and criterion as `write_umb` had them."""
    labels = dict(fields["labels"])
    terminal = labels[ours["terminal"]]
    if ours["added"]:
        del labels[ours["terminal"]]
    initial = fields["initial"]
    if ours.get("initial") is not None:  # umbi drops nulls from the index
        initial = np.zeros(len(terminal))
        states, weights = np.array(ours["initial"][0], dtype=np.int64), np.array(ours["initial"][1], dtype=np.float64)
        initial[states] = weights
    nature = {name: _parts(archive, index, ours[name], fields)["branches"] for name in _OF_NATURE if ours.get(name)}
    return nature | {
        "reward": _parts(archive, index, ours["reward"], fields)["choices"],
        "terminal": terminal,
        "terminal_value": _parts(archive, index, ours["terminal_value"], fields)["states"],
        "initial": initial,
        "labels": labels,
        "criterion": criterion_of(ours["criterion"]),
    }
