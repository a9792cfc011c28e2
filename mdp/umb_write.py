r"""Writing UMB: the same problem, as other tools can read it.

Terminal states get the one choice of staying, since model checkers want one everywhere, and a label. Arrival in a terminal
state of non-zero value pays discount times the value on the branch that leads there, so that for every tool the expected
total "reward" is ours. The terminal values themselves, the criterion, and an initial distribution that is not uniform are
stored where other tools ignore them (a reward of states, and the file's free "parameters"), so that nothing is lost. Where
probabilities are intervals, so is every number that tools compute with, as Storm has it, and the nominal rows are one more
"reward".
"""

from __future__ import annotations

import gzip
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from umbi.binary import SizedType
from umbi.datatypes import IntervalType, NumericPrimitiveType, PrimitiveType
from umbi.umb import ExplicitUmb
from umbi.umb.index import AnnotationDescription, FileData, TransitionSystem, UmbIndex
from umbi.umb.umb_to_tar import UmbEncoder

from .ambiguity.interval import Interval
from .errors import ModelError
from .model import MDP
from .npz import criterion_record
from .robust import RobustMDP
from .storage import atomic_file
from .umb import TOOL

_DOUBLE, _BOOL = SizedType.for_type(NumericPrimitiveType.DOUBLE), SizedType.for_type(PrimitiveType.BOOL)
_INTERVAL = SizedType.for_type(IntervalType(NumericPrimitiveType.DOUBLE))
_REWARD, _TERMINAL_VALUE = "reward", "terminal-value"


def write_umb(model: MDP, path: str | Path) -> None:
    """Write the model as a UMB file of format 1, whole or not at all. Raises OSError.

    The file has the labels of the model and "terminal" (or "terminal-1", ... where that name is taken by another set), the
    rewards "reward" and, where there are terminal values, "terminal-value". State names are not written.
    """
    _write_model(model, path, _Nature())


def write_interval_umb(problem: RobustMDP, path: str | Path) -> None:
    """Write a robust problem whose sets are `Interval` as a UMB file of intervals, as `write_umb` writes a model.

    The "reward" of a branch is its transition's, beside what arriving in a terminal state pays; "probability", and
    "transition_reward" where there is one, keep what other tools do not need. `read_interval_umb` reads the same problem.
    Raises ModelError for other sets, which are no intervals; OSError.
    """
    wrong = [one for one in (problem.set_of(k) for k in range(problem.n_pairs)) if not isinstance(one, Interval)]
    if wrong:
        raise ModelError(f"{type(wrong[0]).__name__} is no set of intervals; only problems of Interval can be written")
    bounds = [problem.entries_of(pair) for pair in range(problem.n_pairs)]
    ends = np.concatenate(bounds, axis=1) if bounds else np.empty((2, 0))
    _write_model(problem.problem, path, _Nature(ends, problem.transition_reward, problem.optimistic))


@dataclass(frozen=True)
class _Nature:
    """What an interval model has beside the nominal one. ends: (2, z), lower and upper. transition_reward: (z,)."""

    ends: np.ndarray | None = None
    transition_reward: np.ndarray | None = None
    optimistic: bool = False

    def kind(self) -> SizedType:
        """The type of a number that tools compute with."""
        return _DOUBLE if self.ends is None else _INTERVAL

    def numbers(self, numbers: np.ndarray) -> np.ndarray:
        """Numbers (k,) of that type."""
        return (numbers if self.ends is None else np.repeat(numbers, 2)).astype("<f8")


def _write_model(model: MDP, path: str | Path, nature: _Nature) -> None:
    looped = _looped(model)
    own = ~looped["added"]
    probability, arrival = looped["probability"], looped["arrival"]
    if nature.ends is not None:
        ends = np.ones((len(probability), 2))
        ends[own] = nature.ends.T
        kept = {"probability": probability}
        if nature.transition_reward is not None:
            kept["transition_reward"] = np.zeros(len(probability))
            kept["transition_reward"][own] = nature.transition_reward
            arrival = arrival + kept["transition_reward"]
    else:
        ends, kept = probability, {}
    labels, terminal, added = _labels(model)
    described: dict[str, dict[str, AnnotationDescription]] = {"rewards": {}, "aps": {}}
    files: dict[str, np.ndarray] = {
        "state-to-choices.bin": looped["state_ptr"].astype("<u8"),
        "choice-to-branches.bin": looped["row_ptr"].astype("<u8"),
        "branch-to-target.bin": looped["successor"].astype("<u8"),
        "branch-to-probability.bin": ends.ravel().astype("<f8"),
        "annotations/rewards/reward/choices/values.bin": nature.numbers(looped["reward"]),
        **_action_files(looped["action_names"]),
    }
    applies: list[Any] = ["choices"]
    if arrival.any():
        applies.append("branches")
        files["annotations/rewards/reward/branches/values.bin"] = nature.numbers(arrival)
    described["rewards"][_REWARD] = AnnotationDescription(alias=_REWARD, applies_to=applies, type=nature.kind())
    stored: Any = [(_TERMINAL_VALUE, "states", model.terminal_value)]
    for name, entity, numbers in stored + [(name, "branches", numbers) for name, numbers in kept.items()]:
        identifier = name.replace("_", "-")
        described["rewards"][identifier] = AnnotationDescription(alias=name, applies_to=[entity], type=nature.kind())
        files[f"annotations/rewards/{identifier}/{entity}/values.bin"] = nature.numbers(numbers)
    for identifier, (name, states) in zip(_identifiers(labels), labels.items(), strict=True):
        described["aps"][identifier] = AnnotationDescription(alias=name, applies_to=["states"], type=_BOOL)
        files[f"annotations/aps/{identifier}/states/values.bin"] = _bits(states)
    starts = np.zeros(model.n_states, dtype=np.bool_) if model.initial is None else model.initial > 0
    if starts.any():
        files["state-is-initial.bin"] = _bits(starts)
    uniform = model.initial is None or np.array_equal(model.initial, starts / starts.sum())
    parameters = {
        "criterion": criterion_record(model.criterion),
        "reward": _REWARD,
        "terminal": terminal,
        "added": added,
        "terminal_value": _TERMINAL_VALUE,
        **({name: name for name in kept} | ({"optimistic": True} if nature.optimistic else {})),
        "initial": None if uniform else [np.flatnonzero(starts).tolist(), model.initial[starts].tolist()],  # pyright: ignore[reportOptionalSubscript]
    }
    system = TransitionSystem(
        time="discrete",
        num_players=1,
        num_states=model.n_states,
        num_initial_states=int(starts.sum()),
        num_choices=len(looped["reward"]),
        num_choice_actions=len(set(looped["action_names"] or ())),
        num_branches=len(looped["successor"]),
        branch_probability_type=nature.kind() if len(looped["successor"]) else None,
    )
    index = UmbIndex(1, 0, FileData(tool=TOOL, parameters=parameters), None, system, described)
    _write(path, index, files)


def _write(path: str | Path, index: UmbIndex, files: dict[str, np.ndarray]) -> None:
    encoder = UmbEncoder()
    encoder.add_index_file(ExplicitUmb(index=index))
    for name, array in files.items():
        encoder.add_file(name, array.tobytes())
    with atomic_file(path) as temporary:
        encoder.write(temporary, compression=None)
        packed = gzip.compress(temporary.read_bytes(), compresslevel=3, mtime=0)  # umbi's own compression is many times slower
        temporary.write_bytes(packed)


def _looped(model: MDP) -> dict[str, Any]:
    """The model's arrays with one choice of staying in each terminal state, and what each branch pays on arrival."""
    counts = np.where(model.terminal, 1, np.diff(model.state_ptr))
    state_ptr = np.concatenate(([0], np.cumsum(counts)))
    stays = np.zeros(state_ptr[-1], dtype=np.bool_)
    stays[state_ptr[:-1][model.terminal]] = True
    lengths = np.ones(state_ptr[-1], dtype=np.int64)
    lengths[~stays] = np.diff(model.row_ptr)
    added = np.repeat(stays, lengths)
    successor, probability, arrival = np.empty(len(added), dtype=np.int64), np.ones(len(added)), np.zeros(len(added))
    successor[added], successor[~added] = np.flatnonzero(model.terminal), model.successor
    probability[~added] = model.probability
    arrival[~added] = model.discount * model.terminal_value[model.successor]
    reward = np.zeros(len(stays))
    reward[~stays] = model.reward
    names = None
    if model.action_names is not None:
        given = iter(model.action_names)
        names = ["" if stay else next(given) for stay in stays.tolist()]
    return {
        "state_ptr": state_ptr,
        "row_ptr": np.concatenate(([0], np.cumsum(lengths))),
        "successor": successor,
        "probability": probability,
        "arrival": arrival,
        "added": added,
        "reward": reward,
        "action_names": names,
    }


def _labels(model: MDP) -> tuple[dict[str, np.ndarray], str, bool]:
    """The labels to write, the one of them that says terminal, and whether it is not one of the model's own."""
    labels = dict(model.labels)
    candidates = ["terminal", *(f"terminal-{number}" for number in range(1, len(labels) + 2))]
    for name in candidates:
        if name in labels and np.array_equal(labels[name], model.terminal):
            return labels, name, False
    free = next(name for name in candidates if name not in labels)
    labels[free] = model.terminal
    return labels, free, True


def _identifiers(names: Iterable[str]) -> list[str]:
    """A distinct identifier of UMB's alphabet for each name: the name itself where it fits."""
    names = list(names)
    taken, found = set(names), []
    for number, name in enumerate(names):
        identifier = name if re.fullmatch(r"[0-9a-z_-]+", name) else f"label-{number}"
        while identifier != name and identifier in taken:
            identifier += "-"
        taken.add(identifier)
        found.append(identifier)
    return found


def _action_files(names: list[str] | None) -> dict[str, np.ndarray]:
    if not names:
        return {}
    numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
    words = [name.encode() for name in numbers]
    return {
        "actions/choices/values.bin": np.array([numbers[name] for name in names], dtype="<u4"),
        "actions/choices/string-mapping.bin": np.concatenate(([0], np.cumsum([len(word) for word in words]))).astype("<u8"),
        "actions/choices/strings.bin": np.frombuffer(b"".join(words), dtype=np.uint8),
    }


def _bits(flags: np.ndarray) -> np.ndarray:
    padded = np.zeros((len(flags) + 63) // 64 * 64, dtype=np.bool_)
    padded[: len(flags)] = flags
    return np.packbits(padded, bitorder="little")
