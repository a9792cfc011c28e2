r"""Certificates: vectors below and above the optimum that the operator itself proves.

For maximisation, with T the optimality operator and T_p that of the returned policy (for minimisation, upside down):

    lower <= T_p lower     and     T upper <= upper          together prove          lower <= v_p <= v* <= upper,

by monotonicity (discounted: because T_p^k lower increases to v_p, T^k upper decreases to v*). What each criterion needs
beyond that is stated in `banach.solvers.check`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from ..mdp.errors import FileFormatError
from ..mdp.storage import read_arrays, write_arrays

if TYPE_CHECKING:
    from .problem import Problem


@dataclass(frozen=True, eq=False)
class Certificate:
    """A claim about a problem, with the vectors that prove it.

    lower, upper: float64, bounds on the optimal value (the optimal gain for average reward), and on that of `policy`;
        shape (n_states,), or (horizon + 1, n_states) with one row for each stage; or (), from the initial distribution, for a
        constrained problem.
    policy: int32, action of each state among its own, -1 in terminal states; shape (n_states,) or (horizon, n_states). For a
        constrained or s-rectangular problem float64, weights of each state's actions, (n_pairs,) or (horizon, n_pairs).
    model: the problem, or its fingerprint.
    witness: further vectors that the proof needs, by name.
    """

    lower: np.ndarray
    upper: np.ndarray
    policy: np.ndarray
    model: Problem | str
    witness: Mapping[str, np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for array in (self.lower, self.upper, self.policy, *self.witness.values()):
            array.setflags(write=False)
        object.__setattr__(self, "witness", MappingProxyType(dict(self.witness)))

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the model that the certificate speaks of."""
        return self.model if isinstance(self.model, str) else self.model.fingerprint

    @property
    def width(self) -> float:
        """Largest entry of upper - lower."""
        if np.isinf(self.lower).any():  # both ends: the optimum over no policy at all
            return 0.0
        return float(np.max(self.upper - self.lower, initial=0.0))

    def save(self, path: str | Path) -> None:
        """Write the certificate as .npz, atomically."""
        arrays = {"lower": self.lower, "upper": self.upper, "policy": self.policy}
        witness = {f"witness_{name}": array for name, array in self.witness.items()}
        write_arrays(path, "certificate", {"model": self.fingerprint}, arrays | witness)

    @classmethod
    def load(cls, path: str | Path) -> Certificate:
        """Read a certificate that `save` wrote. Raises FileFormatError."""
        header, arrays = read_arrays(path, "certificate")
        try:
            witness = {name.removeprefix("witness_"): array for name, array in arrays.items() if name.startswith("witness_")}
            return cls(arrays["lower"], arrays["upper"], arrays["policy"], str(header["model"]), witness)
        except KeyError as missing:
            raise FileFormatError(f"{path}: the certificate lacks {missing}") from None
