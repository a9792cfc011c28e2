r"""The loss under audit, seen through the one thing that matters: its score weights.

A loss L(logp) to be minimised moves the policy along -dL/dlogp_{b,t} grad log pi(y_{b,t} | prefix): the ascent weight
w_{b,t} = -dL/dlogp_{b,t} of every token is all that an optimiser ever learns of it. So a loss is called on leaves logp_BT and
asked for w_BT; policies, tables and transformers come in elsewhere, by the chain rule.

A preference loss is asked for the weights of the chosen and of the rejected response in the same way.

Shapes: B sequences or pairs, T tokens, K independent calls of one shape.
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from .errors import AuditError, LossFailure

Loss = Callable[..., Any]
Array = NDArray[Any]

DOUBLE, SINGLE = 1e-9, 1e-4
"""Relative error that weights may carry when the arithmetic is that of float64, of float32."""

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


class Inputs(Protocol):
    """K calls of a loss: its arguments, the first `leaves` of them differentiated, the last `shared` the same in all calls."""

    leaves: ClassVar[int]
    shared: ClassVar[int]

    def __len__(self) -> int:
        """Number of calls, K."""
        ...

    def tensors(self, k: int | slice, dtype: torch.dtype) -> list[torch.Tensor]:
        """The arguments of call k, or of a slice of calls, stacked."""
        ...


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

    leaves: ClassVar[int] = 1
    shared: ClassVar[int] = 1

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
    """A loss that is asked for weights, the negative derivatives of its value in its first arguments.

    calls: how often it ran. detached: how often its value had no gradient. broken: groups of enumerations whose weights were
    not finite. rounding: relative error its arithmetic may make.
    """

    def __init__(self, loss: Loss, dtype: torch.dtype = torch.float64) -> None:
        self.loss = loss
        self.dtype = dtype
        self.calls = 0
        self.detached = 0
        self.broken = 0
        self.rounding = DOUBLE if dtype == torch.float64 else SINGLE
        self._vectorised: bool | None = None

    def evaluate(self, inputs: Inputs, k: int = 0) -> tuple[float, Array]:
        """Loss and ascent weights of call k: (B, T) of a batch, (2, B) of pairs. Raises LossFailure for a fault of the loss."""
        return self._called(inputs.tensors(k, self.dtype), inputs.leaves)

    def measure_rounding(self, trials: Sequence[Inputs]) -> None:
        """Set `rounding` to SINGLE where the loss rounds to float32 on its way; trials are single calls. Raises LossFailure.

        The leaves of each are moved in four steps of 1e-6 of themselves: third differences of smooth weights are of order
        1e-16, those of weights that float32 has rounded of order 1e-7. A kink may lie on one's way, so the median counts.
        """
        noise = []
        for trial in trials:
            weights = []
            for step in range(4):
                arguments = trial.tensors(0, self.dtype)
                moved = [leaf * (1 + 1e-6 * step) for leaf in arguments[: trial.leaves]]
                weights.append(self._called([*moved, *arguments[trial.leaves :]], trial.leaves)[1])
            size = max(float(np.abs(weights).max()), 1e-300)
            noise.append(float(np.abs(np.diff(weights, 3, axis=0)).max()) / size)
        if np.median(noise) > DOUBLE:
            self.rounding = SINGLE

    def _called(self, arguments: list[torch.Tensor], n_leaves: int) -> tuple[float, Array]:
        """Value and ascent weights at these arguments, the first `n_leaves` of them differentiated."""
        leaves = [argument.requires_grad_() for argument in arguments[:n_leaves]]
        self.calls += 1
        with warnings.catch_warnings(), torch.enable_grad():
            warnings.simplefilter("ignore")
            try:
                value = self.loss(*arguments)
            except Exception as failure:
                raise LossFailure(f"it raised {type(failure).__name__}: {first_line(failure)}") from failure
            _require_scalar(value)
            slopes: Sequence[torch.Tensor | None] = [None] * len(leaves)
            if value.requires_grad:
                try:
                    slopes = torch.autograd.grad(value.reshape(()), leaves, allow_unused=True)
                except Exception as failure:
                    raise LossFailure(f"its gradient raised {type(failure).__name__}: {first_line(failure)}") from failure
        self.detached += all(slope is None for slope in slopes)
        known = [torch.zeros_like(leaf) if slope is None else slope for leaf, slope in zip(leaves, slopes, strict=True)]
        return float(value.detach()), _ascent(known)

    def weights(self, inputs: Inputs) -> Array:
        """Ascent weights of every call, (K, B, T) of batches, (K, 2, B) of pairs. Raises LossFailure as `evaluate` does."""
        if len(inputs) > 2 * _CHECKED and self._vectorised is not False:
            together = self._together(inputs)
            if together is not None:
                return together
        return np.stack([self.evaluate(inputs, k)[1] for k in range(len(inputs))])

    def _together(self, inputs: Inputs) -> Array | None:
        """All calls in one vectorised call, where torch can vectorise the loss and a sample agrees with plain calls."""

        def value(*arguments: torch.Tensor) -> torch.Tensor:
            found = self.loss(*arguments)
            _require_scalar(found)
            return found.reshape(())

        arguments = inputs.tensors(slice(None), self.dtype)
        axes = (0,) * (len(arguments) - inputs.shared) + (None,) * inputs.shared
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                slopes = torch.func.vmap(torch.func.grad(value, tuple(range(inputs.leaves))), in_dims=axes)(*arguments)
        except Exception:  # what cannot be vectorised is called one by one, where a real fault shows itself
            self._vectorised = False
            return None
        found = _ascent(slopes) if inputs.leaves == 1 else np.moveaxis(_ascent(slopes), 0, 1)
        if self._vectorised is None:
            for k in np.linspace(0, len(inputs) - 1, _CHECKED).astype(int):
                if not np.allclose(found[k], self.evaluate(inputs, int(k))[1], rtol=1e-6, atol=1e-9, equal_nan=True):
                    self._vectorised = False
                    return None
            self._vectorised = True
        self.calls += len(inputs)
        return found


def _ascent(slopes: Sequence[torch.Tensor]) -> Array:
    """Minus the slopes, stacked where there is more than one."""
    arrays = [-slope.detach().to(torch.float64).numpy() for slope in slopes]
    return arrays[0] if len(arrays) == 1 else np.stack(arrays)


def _require_scalar(value: Any) -> None:
    if isinstance(value, (tuple, list)):
        raise LossFailure(f"it returned a {type(value).__name__} of {len(value)} instead of one scalar tensor")
    if not isinstance(value, torch.Tensor):
        raise LossFailure(f"it returned {type(value).__name__} instead of a scalar tensor")
    if value.numel() != 1:
        raise LossFailure(f"it returned a tensor of shape {tuple(value.shape)} instead of a scalar")


def first_line(failure: BaseException) -> str:
    """The first line of what an exception says, of at most 200 characters."""
    text = str(failure).strip().splitlines()
    return text[0][:200] if text else "(no message)"
