r"""What a policy is worth against nature, as far as is asked.

For a fixed policy p nature faces an ordinary problem, which her own policy iteration solves: her rows q at v, frozen with p,
are a chain; the chain's value is the next v. Where every set is convex T_p w <= T_{p,q} w with equality at v, so that from the
second vector on v moves one way only, to v_p. Brackets may widen on the way; where many in a row do, only plain sweeps of T_p
are sure to end, and they take over. Chains are evaluated by sweeps or linear algebra, to a share of the current bracket.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..mdp.model import MDP
from ..mdp.operator import Operator
from .bracket import macqueen_porteus
from .errors import NotConverged
from .inexact_policy_iteration import InexactPolicyIteration
from .watch import Watch

_PATIENCE = 20
"""Answers of nature without a narrower bracket after which sweeps take over."""
_STALLED = 100
"""Sweeps without a narrower bracket after which only rounding is left."""


def against_nature(
    operator: Any, policy: np.ndarray, value: np.ndarray, allowed: float, forcing: float, watch: Watch
) -> np.ndarray:
    """A vector (n_states,) from which T_policy proves a bracket of v_policy at most `allowed` wide, or as rounding allows.

    operator: a robust one, with `frozen`. policy: as its `blank_policy`. value: the start, (n_states,).
    forcing: share of nature's bracket to which a chain is evaluated, in (0, 1).
    """
    value, image, narrowest, stalled, sweeps = value.copy(), np.empty_like(value), np.inf, 0, False
    while True:
        low, high = operator.apply_policy(policy, value, image)
        below, above = macqueen_porteus(low, high, operator.mass)
        width = above - below
        watch.sweeps += _share(operator.model, policy)
        if width <= allowed:
            return image
        stalled = stalled + 1 if width >= narrowest else 0
        narrowest = min(narrowest, width)
        if sweeps and stalled > _STALLED:
            return image
        if stalled > _PATIENCE and not sweeps:
            sweeps, stalled, narrowest = True, 0, np.inf
        value, image = image, value
        if not sweeps:
            chain = operator.frozen(policy, image)
            value = chain_value(chain, value, max(forcing * width, 0.2 * allowed), operator.model, watch)


def chain_value(chain: MDP, start: np.ndarray, eps: float, model: Any, watch: Watch) -> np.ndarray:
    """A vector (n,) whose bracket of the chain's value is at most eps wide, or the start (n,) where rounding allows none."""
    return nominal_value(chain.operator, start, eps, watch, chain.n_transitions / max(1, model.n_transitions))


def nominal_value(operator: Operator, start: np.ndarray, eps: float, watch: Watch, cost: float = 1.0) -> np.ndarray:
    """The same for an ordinary problem's optimal value (n,); its sweeps cost a share of the robust problem's."""
    local = Watch(modulus=operator.modulus)
    try:
        return InexactPolicyIteration().run(operator, start, eps, local)
    except NotConverged:
        return start
    finally:
        watch.sweeps += cost * local.sweeps


def _share(model: Any, policy: np.ndarray) -> float:
    """What a sweep of the policy costs, in sweeps of T."""
    return model.n_states / max(1, model.n_pairs) if policy.dtype.kind == "i" else 1.0
