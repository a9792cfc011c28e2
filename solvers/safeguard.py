r"""Accelerated value iteration that cannot do worse than value iteration by much.

Plain iteration v -> T v shrinks the MacQueen-Porteus bracket by the operator's modulus at least. An accelerator proposes
another vector y; y is kept only if its bracket is narrower than that of v by the modulus, and by a tenth at least (a step that
gains less may still disturb what plain sweeps are about to settle), which costs the one application of T that the next step
needs anyway. Otherwise the iteration goes on from T v, and the accelerator is not asked again for a pause of 1, 2, 4, ... 16
sweeps. The answer's proof is computed afterwards, from scratch.

Where nothing is terminal, T(v + c) = T v + g c up to the rows' sums, and the bracket takes care of constants by itself.
Accelerators therefore work modulo constants there; otherwise the constant, the slowest mode of all, hides the modes that make
the bracket wide.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from ..mdp.operator import Operator
from .bracket import macqueen_porteus
from .errors import NotConverged
from .watch import Watch

_LONGEST_PAUSE = 16
_WORTHWHILE = 0.9
_STALLED = 100
"""Sweeps without any narrowing of the bracket after which only rounding is left; in exact arithmetic every sweep narrows it."""


class Accelerator(Protocol):
    """Looks at the iterates and proposes better ones."""

    def observe(self, value: np.ndarray, image: np.ndarray, policy: np.ndarray) -> None:
        """See one iterate, image = T value = T_policy value, all (n_states,) and reused by the caller: copy what is kept."""
        ...

    def propose(self, image: np.ndarray) -> np.ndarray | None:
        """A vector (n,) to go on from in place of the last image, or None. Keeps the image's entries in terminal states."""
        ...


def accelerated(
    operator: Operator, value: np.ndarray, eps: float, watch: Watch, accelerator: Accelerator, max_sweeps: int
) -> np.ndarray:
    """A vector (n,) whose bracket is at most eps wide; its centre, unless terminal values hold some entries fast.

    Raises NotConverged after max_sweeps applications of T, or when rounding allows no less.
    """
    value, image, following = value.copy(), np.empty_like(value), np.empty_like(value)
    policy = operator.blank_policy()
    below, above = macqueen_porteus(*operator.apply(value, image, policy), operator.mass)
    width, sweeps, narrowest, last_narrowing = above - below, 1, np.inf, 0
    pause, wait = 1, 1
    watch(value, width)
    while width > eps and sweeps < max_sweeps and sweeps - last_narrowing < _STALLED:
        accelerator.observe(value, image, policy)
        proposal = accelerator.propose(image) if wait == 0 else None
        accepted, tried = False, sweeps
        if proposal is not None:
            below, above = macqueen_porteus(*operator.apply(proposal, following, policy), operator.mass)
            sweeps += 1
            accepted = above - below <= min(_WORTHWHILE, operator.modulus) * width
            wait, pause = (0, 1) if accepted else (pause, min(2 * pause, _LONGEST_PAUSE))
        else:
            wait = max(0, wait - 1)
        if accepted and proposal is not None:
            value, image, following = proposal, following, image
        else:
            below, above = macqueen_porteus(*operator.apply(image, following, policy), operator.mass)
            sweeps += 1
            value, image, following = image, following, value
        width = above - below
        watch(value, width, sweeps - tried)
        if width < narrowest:
            narrowest, last_narrowing = width, sweeps
    if width <= eps:
        return value if operator.terminal.any() else value + (below + above) / 2
    remedy = "raise max_sweeps" if sweeps >= max_sweeps else "rounding allows no less: ask for a wider eps"
    raise NotConverged(
        f"the bracket is still {narrowest:.3g} wide after {sweeps} sweeps (asked for {eps:.3g}); {remedy}, or use "
        "PolicyIteration(), or RationalPolicyIteration() on a small model",
        reached=narrowest,
    )
