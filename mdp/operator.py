r"""The one interface between problems and methods: a monotone operator on value vectors.

T is monotone (v <= w implies T v <= T w) and moves constants by a known amount: for c >= 0,

    T v + mass[0] c  <=  T(v + c)  <=  T v + mass[1] c,        0 <= mass[0] <= mass[1] = modulus,

so that T is a modulus-contraction in the sup norm where modulus < 1. For every policy p, T_p v <= T v, with equality for
the greedy policy of v. Methods, certificates and bounds are written against this protocol and know no problem by name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np

if TYPE_CHECKING:
    import scipy.sparse

    from .packed import PackedPolicy


@runtime_checkable
class Operator(Protocol):
    """A monotone operator T on vectors of shape (n_states,), and its policies: int32 (n_states,), or weights (n_pairs,)."""

    @property
    def n_states(self) -> int:
        """Length of the vectors."""
        ...

    @property
    def mass(self) -> tuple[float, float]:
        """Lowest and highest factor by which T moves a constant, rounded outwards."""
        ...

    @property
    def modulus(self) -> float:
        """mass[1]."""
        ...

    @property
    def terminal(self) -> np.ndarray:
        """bool (n_states,), where T v does not depend on v; `start` holds its value there."""
        ...

    def start(self) -> np.ndarray:
        """A fresh first vector, with the terminal value in terminal states."""
        ...

    def blank_policy(self) -> np.ndarray:
        """A fresh array for policies to be written into: int32 (n_states,), or float64 (n_pairs,) where they randomise."""
        ...

    def apply(self, value: np.ndarray, out: np.ndarray, policy: np.ndarray) -> tuple[float, float]:
        """out = T value, policy = its greedy policy; returns the least and greatest entry of T value - value."""
        ...

    def apply_policy(self, policy: np.ndarray, value: np.ndarray, out: np.ndarray) -> tuple[float, float]:
        """out = T_policy value; returns the least and greatest entry of T_policy value - value."""
        ...

    def sweep(self, value: np.ndarray, policy: np.ndarray, backward: bool = False) -> tuple[float, float]:
        """One in-place Gauss-Seidel sweep of T, in the operator's order; returns the least and greatest change."""
        ...

    def sweep_policy(self, policy: np.ndarray, value: np.ndarray, backward: bool = False) -> tuple[float, float]:
        """One in-place Gauss-Seidel sweep of T_policy; returns the least and greatest change."""
        ...

    def enclose(self, value: np.ndarray, policy: np.ndarray, lower: np.ndarray, upper: np.ndarray) -> None:
        """policy = greedy policy of value as computed; lower <= T_policy value and T value <= upper in exact arithmetic."""
        ...

    def policy_system(self, policy: np.ndarray) -> tuple[scipy.sparse.csr_array, np.ndarray]:
        """The affine map T_policy v = matrix @ v + constant: CSR (n, n) and (n,)."""
        ...


@runtime_checkable
class AffineOperator(Operator, Protocol):
    """An operator whose T_policy is affine with rows worth gathering once for many sweeps."""

    @property
    def actions_per_state(self) -> float:
        """What a sweep of T costs, in sweeps of one policy."""
        ...

    def pack(self, policy: np.ndarray, loops: bool) -> PackedPolicy:
        """The rows of a policy (n_states,) as a packed linear map; with `loops`, solved for their own states."""
        ...

    def repack(self, packed: PackedPolicy, policy: np.ndarray, changed: np.ndarray) -> bool:
        """Bring the states `changed`, shape (k,), of a packed policy up to date in place; False where that is not possible."""
        ...
