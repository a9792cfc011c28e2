r"""Topological value iteration: strongly connected components, those that nothing leaves first.

In the graph of all transitions of positive probability, a component's values depend on itself and on components after it. So
each component is solved once, in reverse topological order, with everything it leads to already known:
a component of one state by one backup with its self-loop solved, a larger one by Gauss-Seidel sweeps, forward and back, until
a sweep changes nothing by more than t; its residual is then at most g t.

With all residuals within t = eps (1 - g) / 2 the whole vector's bracket is at most eps wide (Dai, Mausam, Weld and Goldsmith,
Topological value iteration algorithms, JAIR 42, 2011). Where the whole model is one component there is no order to use, and
`InexactPolicyIteration` runs instead.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numba
import numpy as np

from ..mdp.model import MDP
from ..mdp.operator import Operator
from ..mdp.sweeps import UNIT_ROUNDOFF, gauss_seidel
from .bracket import macqueen_porteus
from .errors import NotConverged
from .graph import strong_components
from .inexact_policy_iteration import InexactPolicyIteration
from .method import model_of
from .watch import Watch

_PASSES = 20
"""Sweeps over all states, or their worth in smaller components, between looks at the whole bracket."""


@dataclass(frozen=True)
class Topological:
    """Gauss-Seidel sweeps of one strongly connected component after the other, on a table.

    max_sweeps: sweeps, in passes over all states, before giving up with `NotConverged`.
    """

    max_sweeps: int = 1_000_000

    def run(self, operator: Operator, value: np.ndarray, eps: float, watch: Watch) -> np.ndarray:
        """A vector (n_states,) whose bracket is at most eps wide. Raises SolveError for an operator without a table."""
        model, value = model_of(operator, self), value.copy()
        order, component_ptr = components(model)
        if len(component_ptr) == 2:
            return InexactPolicyIteration().run(operator, value, eps, watch)
        arrays = (
            model.state_ptr, model.row_ptr, model.successor, model.probability, model.reward, model.terminal_value,
            model.discount,
        )  # fmt: skip
        kernel: Any = _solve_components
        following, policy = np.empty_like(value), np.empty(model.n_states, dtype=np.int32)
        target, position, sweeps = eps * (1 - operator.modulus) / 2, 0, 0.0
        while True:
            position, work = kernel(position, _PASSES * model.n_states, component_ptr, order, target, *arrays, value, policy)
            below, above = macqueen_porteus(*operator.apply(value, following, policy), operator.mass)
            passes = 1 + work / model.n_states
            sweeps += passes
            watch(value, above - below, passes)
            if above - below <= eps or position == len(component_ptr) - 1 or sweeps > self.max_sweeps:
                break
        if above - below > eps:
            raise NotConverged(
                f"the bracket is {above - below:.3g} wide after {sweeps:.0f} sweeps (asked for {eps:.3g}); raise max_sweeps, "
                "or eps if rounding stops it, or use PolicyIteration() or, on a small model, RationalPolicyIteration()",
                reached=above - below,
            )
        return value if operator.terminal.any() else value + (below + above) / 2


def components(model: MDP) -> tuple[np.ndarray, np.ndarray]:
    """Strongly connected components in an order in which every transition stays inside or leads to an earlier one.

    Returns the states, component by component, int32 (n,), and where each component begins, int64 (number of components + 1,).
    """
    label = strong_components(model)
    order = np.argsort(label, kind="stable").astype(np.int32)
    return order, np.searchsorted(label[order], np.arange(int(label.max()) + 2))


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _solve_components(
    position,
    budget,
    component_ptr,
    order,
    target,
    state_ptr,
    row_ptr,
    successor,
    probability,
    reward,
    terminal_value,
    discount,
    value,
    policy,
):
    """Solve components from `position` on until at least `budget` backups are done; the position reached, and the backups."""
    work, backward = 0, False
    while position < len(component_ptr) - 1 and work < budget:
        component = order[component_ptr[position] : component_ptr[position + 1]]
        low, high = gauss_seidel(
            component, backward, state_ptr, row_ptr, successor, probability, reward, terminal_value, discount, value, policy
        )
        work += len(component)
        backward = not backward
        size = 0.0
        if len(component) > 1:
            for state in component:
                size = max(size, abs(value[state]))
        if len(component) == 1 or max(high, -low) <= max(target, 8.0 * UNIT_ROUNDOFF * size):
            position += 1
    return position, work
