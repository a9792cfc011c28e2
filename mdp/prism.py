r"""PRISM's explicit text files: .tra transitions, .sta states, .lab labels, .srew and .trew (or .rew) rewards.

    model.tra   of a Markov chain     "states transitions", then lines           state successor probability [action]
                of an MDP             "states choices transitions", then  state choice successor probability [action]
    model.sta                         "(variable,...)", then lines                            state:(value,...)
    model.lab                         0="init" 1="deadlock" ..., then lines                   state: label label ...
    rewards     of states             "states lines", then                                    state reward
                of transitions        a header as in .tra, then               state [choice] successor reward

Blank lines, and those that begin with #, are skipped. A step earns its state's reward and the mean over successors of its
transition's. Several initial states are equally likely. Files ask no question; see `banach.mdp.goal`.

PRISM manual, "Explicit Model Files", https://www.prismmodelchecker.org/manual/Appendices/ExplicitModelFiles.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .criterion import Criterion, TotalReward
from .errors import FileFormatError, ModelError
from .expectation import expected_reward
from .goal import ending, require_room, without_pairs_of
from .model import MDP, criterion_from
from .prism_lines import Lines, sorted_rows

REWARD_SUFFIXES = (".srew", ".trew", ".rew")


def read_prism(
    transitions: str | Path,
    discount: float | None = None,
    *,
    criterion: Criterion | None = None,
    states: str | Path | None = None,
    labels: str | Path | None = None,
    rewards: Sequence[str | Path] | None = None,
    reward: str | None = None,
    target: str | Sequence[str] | None = None,
    avoid: str | None = None,
) -> MDP:
    """The decision problem of a Markov chain or MDP in PRISM's explicit files.

    transitions: the .tra file. states, labels: .sta and .lab; default those beside it with the same stem, where they exist.
    discount, criterion: at most one of them; default TotalReward().
    rewards: files to be added up, of states or of transitions; default those beside the .tra file with the same stem.
    reward: which of the files beside it, by what follows the stem (model2.srew is "2") or by the name in their # lines.
    target: label, or labels that must all hold, of the states where the run ends; worth 1 when neither rewards nor reward is
        given, so that the value is the probability to reach them, and 0 otherwise.
    avoid: label of states where the run ends, worth nothing.
    Raises FileFormatError naming file and line for everything that does not fit, ModelError for a question that does not
    fit and for everything that `MDP` refuses.
    """
    path = Path(transitions)
    given = criterion_from(discount, TotalReward() if discount is None and criterion is None else criterion)
    rows = _transitions(path)
    n_states = len(rows["state_ptr"]) - 1
    label_file, state_file = _beside(path, labels, ".lab"), _beside(path, states, ".sta")
    initial, named = _labels(label_file, n_states) if label_file else (None, {})
    rewarded = rewards is not None or reward is not None
    files = [Path(name) for name in rewards] if rewards is not None else _rewards_beside(path, reward)
    if rewards is None and not files and target is None:
        raise ModelError(
            f"{path}: say what to optimise: rewards=[file, ...], or target=... (labels: {', '.join(named) or 'none'})"
        )
    rows["reward"] = _expected(files if rewarded or target is None else [], rows)
    try:
        flags, values = ending(named, n_states, target, avoid, rewarded=rewarded)
        return MDP(
            criterion=given,
            terminal=flags,
            terminal_value=values,
            initial=initial,
            labels=named,
            state_names=_state_names(state_file, n_states) if state_file else None,
            **without_pairs_of(flags, rows),
        )
    except ModelError as fault:
        raise ModelError(f"{path}: {fault}") from None


def _beside(path: Path, given: str | Path | None, suffix: str) -> Path | None:
    if given is not None:
        return Path(given)
    beside = path.with_suffix(suffix)
    return beside if beside.exists() else None


def _rewards_beside(path: Path, reward: str | None) -> list[Path]:
    if reward is None:
        return [file for file in map(path.with_suffix, REWARD_SUFFIXES) if file.exists()]
    candidates = sorted(
        file for file in path.parent.iterdir() if file.suffix in REWARD_SUFFIXES and file.stem.startswith(path.stem)
    )
    found = [file for file in candidates if reward in (file.stem[len(path.stem) :].lstrip("._-"), Lines(file).quoted)]
    if not found:
        listed = ", ".join(file.name for file in candidates) or "none"
        raise ModelError(f"no reward file beside {path} is of {reward!r}; there are {listed}")
    return found


def _transitions(path: Path) -> dict[str, Any]:
    """Arrays state_ptr, row_ptr, successor, probability and action_names, and whether choices are numbered."""
    lines = Lines(path)
    header = lines.header((2, 3))
    n_states, chain = header[0], len(header) == 2
    width = 3 if chain else 4
    table = lines.table(width, named=True)
    lines.require(
        header[-1] == len(table.numbers), f"the header says {header[-1]} transitions, but {len(table.numbers)} follow"
    )
    lines.require(0 < n_states <= len(table.numbers), f"the header says {n_states} states; each needs a transition")
    lines.below(table, 0, n_states, "state")
    lines.below(table, width - 2, n_states, "successor")
    lines.probabilities(table, width - 1)
    rows = sorted_rows(lines, table, n_states, chain)
    n_pairs = len(rows["row_ptr"]) - 1
    lines.require(chain or header[1] == n_pairs, f"the header says {header[1]} choices, but {n_pairs} follow")
    return rows


def _labels(path: Path, n_states: int) -> tuple[np.ndarray | None, dict[str, np.ndarray]]:
    """The initial distribution, uniform over "init", and the other labels."""
    lines = Lines(path)
    names = lines.declared_labels()
    try:
        require_room(len(names), n_states)
    except ValueError as fault:
        raise FileFormatError(f"{path}: {fault}") from None
    sets = {number: np.zeros(n_states, dtype=np.bool_) for number in names}
    for number, line in lines.rest():
        state, colon, carried = line.partition(":")
        index = lines.whole(number, state.strip())
        lines.require(bool(colon) and index < n_states, f"expected 'state: labels' with a state below {n_states}", number)
        for word in carried.split():
            label = lines.whole(number, word)
            lines.require(label in sets, f"label {label} is not declared in the first line", number)
            sets[label][index] = True
    labels = {names[number]: held for number, held in sets.items()}
    starts = labels.pop("init", None)
    return (None if starts is None or not starts.any() else starts / starts.sum()), labels


def _state_names(path: Path, n_states: int) -> list[str]:
    lines = Lines(path)
    number, line = lines.first()
    lines.require(line.startswith("(") and line.endswith(")"), "expected the variables' names, as (x,y)", number)
    variables = line[1:-1].split(",")
    names: dict[int, str] = {}
    for number, line in lines.rest():
        state, colon, text = line.partition(":")
        index, values = lines.whole(number, state.strip()), text.strip()[1:-1].split(",")
        fits = colon and text.strip()[:1] == "(" and text.strip()[-1:] == ")" and len(values) == len(variables)
        lines.require(bool(fits), f"expected 'state:(values)' with {len(variables)} values", number)
        lines.require(index < n_states and index not in names, f"state {index} is given twice or not below {n_states}", number)
        names[index] = ",".join(f"{name}={value}" for name, value in zip(variables, values, strict=True))
    lines.require(len(names) == n_states, f"{len(names)} states are described, but there are {n_states}")
    return [names[state] for state in range(n_states)]


def _expected(files: Sequence[Path], rows: dict[str, Any]) -> np.ndarray:
    """Expected reward of each pair, (m,), from files of either kind."""
    per_pair, per_entry = np.zeros(len(rows["row_ptr"]) - 1), np.zeros(len(rows["successor"]))
    for path in files:
        lines = Lines(path)
        header = lines.header((2, 3))
        n_states, n_rows = len(rows["state_ptr"]) - 1, header[-1]
        lines.require(header[0] == n_states, f"the header says {header[0]} states, but the model has {n_states}")
        width = lines.width((2, 3 if rows["chain"] else 4))
        table = lines.table(width)
        lines.require(n_rows == len(table.numbers), f"the header says {n_rows} rewards, but {len(table.numbers)} follow")
        lines.below(table, 0, n_states, "state")
        lines.finite(table, width - 1, "reward")
        if width == 2:
            of_state = np.zeros(n_states)
            np.add.at(of_state, table.columns[0], table.columns[1])
            per_pair += np.repeat(of_state, np.diff(rows["state_ptr"]))
        else:
            np.add.at(per_entry, _entries(lines, table, rows), table.columns[-1])
    if not per_entry.any():
        return per_pair
    return expected_reward(rows["row_ptr"], rows["probability"], per_entry, per_pair)


def _entries(lines: Lines, table: Any, rows: dict[str, Any]) -> np.ndarray:
    """Which transition each line of a transition reward file speaks of. Raises FileFormatError for one that is not there."""
    n_states = len(rows["state_ptr"]) - 1
    lines.below(table, -2, n_states, "successor")
    choice = np.zeros(len(table.numbers), dtype=np.int64) if rows["chain"] else table.columns[1]
    pair = rows["state_ptr"][table.columns[0]] + choice
    there = (choice >= 0) & (pair < rows["state_ptr"][table.columns[0] + 1])
    keys = np.repeat(np.arange(len(rows["row_ptr"]) - 1), np.diff(rows["row_ptr"])) * n_states + rows["successor"]
    wanted = np.where(there, pair, 0) * n_states + table.columns[-2]
    place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    for bad in np.flatnonzero(~there | (keys[place] != wanted))[:1]:
        raise lines.fault("the model has no such transition", int(table.numbers[bad]))
    return place
