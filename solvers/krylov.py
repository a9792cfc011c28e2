r"""The linear system of a packed policy, by BiCGSTAB preconditioned with symmetric Gauss-Seidel.

Let G(v) be one forward and one backward Gauss-Seidel sweep of v <- c + W v. Its fixed point is the policy's value, and G is
affine, G(v) = G(0) + M v, so the value solves B v = G(0) with B = I - M; the correction d from any v solves B d = G(v) - v.
One application of B is two sweeps. The spectrum of M lies inside that of one sweep, and BiCGSTAB (van der Vorst 1992) needs
about the square root of the sweeps that Gauss-Seidel would, where the policy mixes slowly.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from ..mdp.packed import PackedPolicy, packed_gauss_seidel

VECTORS = 7
"""Vectors of workspace that `correct` needs."""


def correct(packed: PackedPolicy, value: np.ndarray, reduction: float, max_sweeps: int, work: np.ndarray) -> tuple[float, int]:
    """Move `value` in place towards the packed policy's value; (residual left over residual at the start, sweeps used).

    reduction: stop when the largest entry of G(v) - v has shrunk by this factor. work: (VECTORS, n) to write in.
    """
    kernel: Any = _bicgstab
    return kernel(packed.pointers, packed.column, packed.weight, packed.constant, value, reduction, max_sweeps, work)


@numba.njit(cache=True, nogil=True, fastmath={"contract", "reassoc", "nsz"}, error_model="numpy")
def _homogeneous(pointers, column, weight, x, out):
    """out = x - M x."""
    index = np.uintp
    n = len(x)
    for i in range(n):
        out[i] = x[i]
    for i in range(n):
        s = index(i)
        total = 0.0
        for entry in range(index(pointers[s]), index(pointers[s + index(1)])):
            total += weight[entry] * out[index(column[entry])]
        out[s] = total
    for i in range(n):
        s = index(n - 1 - i)
        total = 0.0
        for entry in range(index(pointers[s]), index(pointers[s + index(1)])):
            total += weight[entry] * out[index(column[entry])]
        out[s] = total
    for i in range(n):
        out[i] = x[i] - out[i]


@numba.njit(cache=True, nogil=True, fastmath={"contract", "reassoc", "nsz"}, error_model="numpy")
def _dot(a, b):
    total = 0.0
    for i in range(len(a)):
        total += a[i] * b[i]
    return total


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _largest(a):
    most = 0.0
    for i in range(len(a)):
        most = max(most, abs(a[i]))
    return most


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _bicgstab(pointers, column, weight, constant, value, reduction, max_sweeps, work):
    r, shadow, p, v, s, t, d = work[0], work[1], work[2], work[3], work[4], work[5], work[6]
    n = len(value)
    r[:] = value
    packed_gauss_seidel(False, pointers, column, weight, constant, r)
    packed_gauss_seidel(True, pointers, column, weight, constant, r)
    for i in range(n):
        r[i] -= value[i]
        shadow[i] = p[i] = r[i]
        d[i] = 0.0
    start = _largest(r)
    rho, left, sweeps = _dot(shadow, r), start, 2
    while left > reduction * start and sweeps < max_sweeps:
        _homogeneous(pointers, column, weight, p, v)
        below = _dot(shadow, v)
        if below == 0.0 or rho == 0.0:
            break
        alpha = rho / below
        for i in range(n):
            s[i] = r[i] - alpha * v[i]
        _homogeneous(pointers, column, weight, s, t)
        sweeps += 4
        size = _dot(t, t)
        omega = _dot(t, s) / size if size > 0.0 else 0.0
        for i in range(n):
            d[i] += alpha * p[i] + omega * s[i]
            r[i] = s[i] - omega * t[i]
        left = _largest(r)
        if not np.isfinite(left):
            return np.inf, sweeps
        following = _dot(shadow, r)
        if omega == 0.0:
            break
        beta = following / rho * (alpha / omega)
        rho = following
        for i in range(n):
            p[i] = r[i] + beta * (p[i] - omega * v[i])
    if left < start:
        for i in range(n):
            value[i] += d[i]
        return left / start, sweeps
    return 1.0 if start > 0.0 else 0.0, sweeps
