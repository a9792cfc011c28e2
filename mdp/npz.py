"""The library's own file of a model: `banach.mdp.storage` with kind "mdp".

The arrays of `MDP` under their own names, each label as a bool array, names as their UTF-8 bytes one after another and the
offset of each; the criterion and the labels' names in the JSON header. Nothing is pickled, and what is read goes through the
same validation as any other model.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from .criterion import AverageReward, Criterion, Discounted, FiniteHorizon, TotalReward
from .errors import FileFormatError, ModelError
from .model import MDP
from .storage import read_arrays, write_arrays

KIND = "mdp"
_NEEDED = ("state_ptr", "row_ptr", "successor", "probability", "reward", "terminal", "terminal_value")
_CRITERIA = {kind.__name__: kind for kind in (Discounted, FiniteHorizon, TotalReward, AverageReward)}


def save(model: MDP, path: str | Path) -> None:
    """Write the model, whole or not at all. Raises OSError."""
    arrays: dict[str, np.ndarray] = {name: getattr(model, name) for name in _NEEDED}
    if model.initial is not None:
        arrays["initial"] = model.initial
    for number, states in enumerate(model.labels.values()):
        arrays[f"label_{number}"] = states
    for name in ("state_names", "action_names"):
        if (names := getattr(model, name)) is not None:
            arrays[name], arrays[f"{name}_ptr"] = _packed(names)
    write_arrays(path, KIND, {"criterion": criterion_record(model.criterion), "labels": list(model.labels)}, arrays)


def load(path: str | Path) -> MDP:
    """Read a model that `save` wrote, with the same fingerprint.

    Raises FileFormatError, naming the file, when it is damaged, truncated, not one of these files or inconsistent, and
    ModelError, naming the file and the place, when its numbers are no decision problem. Nothing in a file is executed.
    """
    header, arrays = read_arrays(path, KIND)
    try:
        fields: dict[str, Any] = {name: arrays.pop(name) for name in _NEEDED}
        fields["criterion"] = criterion_of(header["criterion"])
        fields["initial"] = arrays.pop("initial", None)
        fields["labels"] = {str(name): arrays.pop(f"label_{number}") for number, name in enumerate(header["labels"])}
        for name in ("state_names", "action_names"):
            fields[name] = _unpacked(arrays.pop(name), arrays.pop(f"{name}_ptr")) if name in arrays else None
    except KeyError as missing:
        raise FileFormatError(f"{path}: the model lacks {missing}; save it again") from None
    except (TypeError, ValueError) as fault:
        raise FileFormatError(f"{path}: {fault}; save the model again") from None
    if arrays:
        raise FileFormatError(f"{path}: unknown arrays {', '.join(sorted(arrays))}; this is not a model of format 1")
    try:
        return MDP(**fields)
    except ModelError as fault:
        raise ModelError(f"{path}: {fault}") from None


def criterion_record(criterion: Criterion) -> dict[str, Any]:
    """A criterion as JSON-able values."""
    return {"name": type(criterion).__name__, **dataclasses.asdict(criterion)}


def criterion_of(record: Any) -> Criterion:
    """The criterion that `criterion_record` wrote. Raises ValueError, KeyError or TypeError when it is none."""
    if not isinstance(record, Mapping) or record.get("name") not in _CRITERIA:
        raise ValueError(f"{record!r} is no criterion; known are {', '.join(_CRITERIA)}")
    kind = _CRITERIA[record["name"]]
    values = {name: value for name, value in record.items() if name != "name"}
    types = {field.name: field.type for field in dataclasses.fields(kind)}
    for name, value in values.items():
        if name not in types or not isinstance(value, (int, float) if types[name] is float else types[name]):  # pyright: ignore[reportArgumentType]
            raise ValueError(f"{record!r} is no {kind.__name__}: {name}={value!r}")
    return kind(**values)


def _packed(names: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    words = [name.encode("utf-8", "surrogatepass") for name in names]
    offsets = np.concatenate(([0], np.cumsum([len(word) for word in words], dtype=np.int64))).astype(np.int64)
    return np.frombuffer(b"".join(words), dtype=np.uint8), offsets


def _unpacked(text: np.ndarray, offsets: np.ndarray) -> list[str]:
    if text.dtype != np.uint8 or text.ndim != 1 or offsets.dtype.kind not in "iu" or offsets.ndim != 1 or len(offsets) == 0:
        raise ValueError("names are stored as bytes and their offsets")
    if offsets[0] != 0 or offsets[-1] != len(text) or (offsets[1:] < offsets[:-1]).any():
        raise ValueError(f"the names' offsets do not rise from 0 to {len(text)}")
    whole, places = text.tobytes(), offsets.tolist()
    return [whole[a:b].decode("utf-8", "surrogatepass") for a, b in pairwise(places)]
