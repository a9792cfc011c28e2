r"""The loss under audit, seen through the one thing that matters: its score weights.

A loss L(logp) to be minimised moves the policy along -dL/dlogp_{b,t} grad log pi(y_{b,t} | prefix): the ascent weight
w_{b,t} = -dL/dlogp_{b,t} of every token is all that an optimiser ever learns of it. So a loss is called on leaves logp_BT and
asked for w_BT; policies, tables and transformers come in elsewhere, by the chain rule.

Shapes: B sequences, T tokens, K independent batches of one shape.
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from .errors import AuditError, LossFailure

Loss = Callable[..., torch.Tensor]
Array = NDArray[Any]

_CHECKED = 6
"""Batches on which the vectorised evaluation must agree with the plain one before it is believed."""


def resolve(name: str) -> Loss:
    """The callable that "package.module:function" names; dots after the colon reach into objects.

    Raises AuditError when the module cannot be imported, has no such name, or the thing named cannot be called.
    """
    module, colon, path = name.partition(":")
    if not colon or not path:
        raise AuditError(f"{name!r} does not name a loss; write it as package.module:function")
    try:
        found: Any = importlib.import_module(module)
    except ImportError as failure:
        raise AuditError(f"cannot import {module!r} of {name!r}: {failure}; is it on PYTHONPATH?") from failure
    for part in path.split("."):
        if not hasattr(found, part):
            raise AuditError(f"{module!r} has no {path!r}: {part!r} is missing")
        found = getattr(found, part)
    if not callable(found):
        raise AuditError(f"{name!r} is a {type(found).__name__}, not a function")
    return found


@dataclass(frozen=True)
class Batches:
    """K batches of one shape, one group number for each sequence.

    logp, old, ref: (K, B, T) log-probabilities of the policy, of the one that sampled, of the reference.
    mask: (K, B, T) bool, tokens the policy emitted. reward: (K, B). group: (B,) of integers.
    """

    logp: Array
    old: Array
    ref: Array
    mask: Array
    reward: Array
    group: Array

    def __len__(self) -> int:
        return len(self.logp)

    def tensors(self, k: int | slice, dtype: torch.dtype) -> list[torch.Tensor]:
        """The six arguments of the loss, of batch k (without the axis K) or of a slice of batches."""
        return [
            *(torch.tensor(array[k], dtype=dtype) for array in (self.logp, self.old, self.ref)),
            torch.tensor(self.mask[k]),
            torch.tensor(self.reward[k], dtype=dtype),
            torch.tensor(self.group, dtype=torch.int64),
        ]


class Subject:
    """A loss that is asked for weights.

    calls: how often it ran. detached: how often its value had no gradient. rounding: relative error its arithmetic may make.
    """

    def __init__(self, loss: Loss, dtype: torch.dtype = torch.float64) -> None:
        self.loss = loss
        self.dtype = dtype
        self.calls = 0
        self.detached = 0
        self.rounding = 1e-9 if dtype == torch.float64 else 1e-4
        self._vectorised: bool | None = None

    def evaluate(self, batches: Batches, k: int = 0) -> tuple[float, Array]:
        """Loss and ascent weights (B, T) of batch k. Raises LossFailure when the loss raises or returns no scalar."""
        arguments = batches.tensors(k, self.dtype)
        logp_BT = arguments[0].requires_grad_()
        self.calls += 1
        with warnings.catch_warnings(), torch.enable_grad():
            warnings.simplefilter("ignore")
            try:
                value = self.loss(*arguments)
            except Exception as failure:
                raise LossFailure(f"it raised {type(failure).__name__}: {_first_line(failure)}") from failure
            _require_scalar(value)
            if not value.requires_grad:
                self.detached += 1
                return float(value.detach()), np.zeros(batches.logp.shape[1:])
            try:
                (slope_BT,) = torch.autograd.grad(value.reshape(()), logp_BT, allow_unused=True)
            except Exception as failure:
                raise LossFailure(f"its gradient raised {type(failure).__name__}: {_first_line(failure)}") from failure
        if slope_BT is None:
            self.detached += 1
            return float(value.detach()), np.zeros(batches.logp.shape[1:])
        return float(value.detach()), -slope_BT.detach().to(torch.float64).numpy()

    def weights(self, batches: Batches) -> Array:
        """Ascent weights (K, B, T) of every batch. Raises LossFailure as `evaluate` does."""
        if len(batches) > 2 * _CHECKED and self._vectorised is not False:
            together = self._together(batches)
            if together is not None:
                return together
        if not len(batches):
            return np.zeros(batches.logp.shape)
        return np.stack([self.evaluate(batches, k)[1] for k in range(len(batches))])

    def _together(self, batches: Batches) -> Array | None:
        """All batches in one vectorised call, where torch can vectorise the loss and a sample agrees with plain calls."""
        single, *others, group_B = batches.tensors(slice(None), self.dtype)

        def value(logp_BT: torch.Tensor, *rest: torch.Tensor) -> torch.Tensor:
            found = self.loss(logp_BT, *rest, group_B)
            _require_scalar(found)
            return found.reshape(())

        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                slope_KBT = torch.func.vmap(torch.func.grad(value))(single, *others)
        except Exception:  # what cannot be vectorised is called batch by batch, where a real fault shows itself
            self._vectorised = False
            return None
        found = -slope_KBT.detach().to(torch.float64).numpy()
        if self._vectorised is None:
            for k in np.linspace(0, len(batches) - 1, _CHECKED).astype(int):
                if not np.allclose(found[k], self.evaluate(batches, k)[1], rtol=1e-6, atol=1e-9, equal_nan=True):
                    self._vectorised = False
                    return None
            self._vectorised = True
        self.calls += len(batches)
        return found


def _require_scalar(value: Any) -> None:
    if isinstance(value, (tuple, list)):
        raise LossFailure(f"it returned a {type(value).__name__} of {len(value)} instead of one scalar tensor")
    if not isinstance(value, torch.Tensor):
        raise LossFailure(f"it returned {type(value).__name__} instead of a scalar tensor")
    if value.numel() != 1:
        raise LossFailure(f"it returned a tensor of shape {tuple(value.shape)} instead of a scalar")


def _first_line(failure: Exception) -> str:
    text = str(failure).strip().splitlines()
    return text[0][:200] if text else "(no message)"
