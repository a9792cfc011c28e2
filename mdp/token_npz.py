"""The library's own file of a token problem: `banach.mdp.storage` with kind "token problem".

The arrays of `TokenProblem` under their own names; the size of the vocabulary, the end of sequence and the prompts' names in
the JSON header. A name that is a string, a number or a tuple of such comes back as it was, any other as its text.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .errors import FileFormatError, ModelError
from .storage import read_arrays, write_arrays
from .token import TokenProblem

KIND = "token problem"
_ARRAYS = ("prompt_probability", "prompt", "token", "mask", "token_probability", "step_reward")


def save(problem: TokenProblem, path: str | Path) -> None:
    """Write the problem, whole or not at all. Raises OSError."""
    header = {
        "vocabulary_size": int(problem.vocabulary_size),
        "eos": None if problem.eos is None else int(problem.eos),
        "prompts": [_plain(name) for name in problem.prompts],
    }
    write_arrays(path, KIND, header, {name: getattr(problem, name) for name in _ARRAYS})


def load(path: str | Path) -> TokenProblem:
    """Read a problem that `save` wrote, with the same fingerprint.

    Raises FileFormatError, naming the file, when it is another file, and ModelError, naming the file and the place, when its
    numbers are no token problem.
    """
    header, arrays = read_arrays(path, KIND)
    if set(arrays) != set(_ARRAYS) or not isinstance(header.get("prompts"), list) or "vocabulary_size" not in header:
        raise FileFormatError(f"{path}: it has {', '.join(sorted(arrays))}; a token problem has {', '.join(_ARRAYS)}")
    eos = header.get("eos")
    if not (eos is None or (isinstance(eos, int) and not isinstance(eos, bool))):
        raise FileFormatError(f"{path}: eos is {eos!r}; it is a token or none")
    prompts = tuple(_named(name) for name in header["prompts"])
    try:
        return TokenProblem(vocabulary_size=header["vocabulary_size"], eos=eos, prompts=prompts, **arrays)
    except ModelError as fault:
        raise ModelError(f"{path}: {fault}") from None


def _plain(name: Any) -> Any:
    if isinstance(name, tuple):
        return [_plain(part) for part in name]
    return name if isinstance(name, str | int | float) else str(name)


def _named(name: Any) -> Any:
    return tuple(_named(part) for part in name) if isinstance(name, list) else name
