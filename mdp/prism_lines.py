"""Lines of words and numbers, with every complaint naming file and line."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from .errors import FileFormatError

_QUOTED = re.compile(r'"([^"]*)"')
_DECLARED = re.compile(r'(\d+)="([^"]*)"')


@dataclass(frozen=True)
class Table:
    """Columns of numbers and the line that each row stands in.

    columns: int64 (z,) each, but float64 (z,) the last number. names: the word after the numbers, or None where there is none.
    numbers: int64 (z,), lines counted from 1.
    """

    columns: list[np.ndarray]
    names: list[str | None]
    numbers: np.ndarray


class Lines:
    """The lines of a text file that say something: not blank and no comment.

    Raises FileFormatError when there is no such file or it is no text.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            raise FileFormatError(f"{path}: no such file") from None
        except (OSError, UnicodeDecodeError) as fault:
            raise FileFormatError(f"{path}: not a text file that can be read ({fault})") from None
        lines = text.split("\n")
        self._lines = [(number, line) for number, line in enumerate(map(str.strip, lines), 1) if line and line[0] != "#"]
        comments = (match for line in lines if line.startswith("#") and (match := _QUOTED.search(line)))
        found = next(comments, None)
        self.quoted = found.group(1) if found else None
        """What the first comment with quotes quotes: PRISM's name of a reward."""

    def fault(self, what: str, number: int | None = None) -> FileFormatError:
        """The error to raise, at a line or for the file as a whole."""
        return FileFormatError(f"{self.path}{'' if number is None else f', line {number}'}: {what}")

    def require(self, fits: bool, what: str, number: int | None = None) -> None:
        """Raise FileFormatError unless it fits."""
        if not fits:
            raise self.fault(what, number)

    def first(self) -> tuple[int, str]:
        """The first line and its number."""
        if not self._lines:
            raise self.fault("the file is empty")
        return self._lines[0]

    def rest(self) -> Iterator[tuple[int, str]]:
        """The other lines and their numbers."""
        return iter(self._lines[1:])

    def header(self, widths: tuple[int, ...]) -> list[int]:
        """The counts in the first line, as many as one of `widths`."""
        number, line = self.first()
        words = line.split()
        if len(words) not in widths:
            raise self.fault(f"the header must be {' or '.join(map(str, widths))} counts, not {line[:60]!r}", number)
        return [self.whole(number, word) for word in words]

    def width(self, widths: tuple[int, int]) -> int:
        """How many numbers the lines below the header have, by the first of them."""
        for number, line in self.rest():
            self.require(len(line.split()) in widths, f"expected {widths[0]} or {widths[1]} numbers, not {line[:60]!r}", number)
            return len(line.split())
        return widths[0]

    def whole(self, number: int, word: str) -> int:
        """A word as a whole number >= 0."""
        if not (word.isascii() and word.isdigit() and len(word) <= 18):
            raise self.fault(f"{word[:60]!r} is not a whole number >= 0", number)
        return int(word)

    def table(self, width: int, named: bool = False) -> Table:
        """The lines below the header: width - 1 whole numbers, one real number (or a/b), and a name where `named`."""
        wholes: list[list[int]] = [[] for _ in range(width - 1)]
        reals: list[float] = []
        names: list[str | None] = []
        for number, line in self.rest():
            words = line.split(None, width) if named else line.split()
            if len(words) != width and not (named and len(words) == width + 1):
                raise self.fault(f"expected {width} numbers{' and perhaps an action' * named}, not {line[:60]!r}", number)
            for column, word in zip(wholes, words, strict=False):
                column.append(int(word) if word.isascii() and word.isdigit() and len(word) < 10 else self.whole(number, word))
            reals.append(self._real(number, words[width - 1]))
            names.append(words[width] if len(words) > width else None)
        columns = [np.array(column, dtype=np.int64) for column in wholes]
        return Table([*columns, np.array(reals)], names, np.array([number for number, _ in self.rest()], dtype=np.int64))

    def below(self, table: Table, column: int, bound: int, what: str) -> None:
        """Raise FileFormatError at the first entry of the column that is not below the bound."""
        found = table.columns[column]
        for bad in np.flatnonzero(found >= bound)[:1]:
            raise self.fault(f"{what} {found[bad]} is not below {bound}, the number of states", int(table.numbers[bad]))

    def finite(self, table: Table, column: int, what: str) -> None:
        """Raise FileFormatError at the first entry of the column that is not finite."""
        found = table.columns[column]
        for bad in np.flatnonzero(~np.isfinite(found))[:1]:
            raise self.fault(f"the {what} is {found[bad]}; it must be finite", int(table.numbers[bad]))

    def probabilities(self, table: Table, column: int) -> None:
        """Raise FileFormatError at the first entry of the column that is not a number in [0, 1]."""
        found = table.columns[column]
        for bad in np.flatnonzero(~((found >= 0) & (found <= 1 + 1e-9)))[:1]:
            raise self.fault(f"the probability is {found[bad]}; it must be in [0, 1]", int(table.numbers[bad]))

    def declared_labels(self) -> dict[int, str]:
        """The names of labels by number, from the first line: 0="init" 1="deadlock"."""
        number, line = self.first()
        found = {self.whole(number, digits): name for digits, name in _DECLARED.findall(line)}
        fits = found and not _DECLARED.sub("", line).strip() and len(set(found.values())) == len(_DECLARED.findall(line))
        self.require(bool(fits), 'expected different labels, as 0="init" 1="goal"', number)
        return found

    def _real(self, number: int, word: str) -> float:
        try:
            return float(word)
        except ValueError:
            pass
        try:
            return float(Fraction(word))
        except (ValueError, ZeroDivisionError, OverflowError):
            raise self.fault(f"{word[:60]!r} is not a number", number) from None


def sorted_rows(lines: Lines, table: Table, n_states: int, chain: bool) -> dict[str, Any]:
    """state_ptr, row_ptr, successor, probability, action_names or None, and chain, which says that choices have no numbers.

    A state without transitions is left without pairs. Raises FileFormatError for a transition given twice, choices not
    numbered 0, 1, ..., or one choice with two actions.
    """
    state, successor, probability = table.columns[0], table.columns[-2], table.columns[-1]
    choice = np.zeros(len(state), dtype=np.int64) if chain else table.columns[1]
    order = np.lexsort((successor, choice, state))
    state, choice, successor, number = state[order], choice[order], successor[order], table.numbers[order]
    new_state = np.concatenate(([True], state[1:] != state[:-1]))
    new_pair = new_state | np.concatenate(([True], choice[1:] != choice[:-1]))
    for bad in np.flatnonzero(~new_pair & np.concatenate(([False], successor[1:] == successor[:-1])))[:1]:
        raise lines.fault(f"the same transition stands in line {number[bad - 1]} as well", int(number[bad]))
    expected = np.where(new_state, 0, np.concatenate(([0], choice[:-1])) + 1)
    for bad in np.flatnonzero(new_pair & (choice != expected))[:1]:
        raise lines.fault(f"choice {choice[bad]} of state {state[bad]} comes where {expected[bad]} should", int(number[bad]))
    first = np.flatnonzero(new_pair)
    counts = np.bincount(state[first], minlength=n_states)
    return {
        "state_ptr": np.concatenate(([0], np.cumsum(counts))),
        "row_ptr": np.append(first, len(state)),
        "successor": successor,
        "probability": probability[order],
        "action_names": _actions(lines, [table.names[place] for place in order.tolist()], new_pair, number),
        "chain": chain,
    }


def _actions(lines: Lines, names: list[str | None], new_pair: np.ndarray, number: np.ndarray) -> list[str] | None:
    if not any(names):
        return None
    found: list[str] = []
    for place, new in enumerate(new_pair.tolist()):
        word = names[place] or ""
        if new:
            found.append(word)
        elif word != found[-1]:
            raise lines.fault(f"one choice has the actions {found[-1]!r} and {word!r}", int(number[place]))
    return found
