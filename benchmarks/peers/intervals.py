"""Storm's interval engine through stormpy: robust value iteration, hostile, stopped by the change of a sweep. No bounds.

Discounting is an end with probability 1 - g a step, rewards are raised to be positive. The precision is scaled by (1 - g),
since a change of e leaves an error of up to e / (1 - g). Every transition becomes a Python object on the way in.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from banach.mdp import MDP

from ..competitor import ERROR, Competitor, Result
from .closed import ended

_LEAST = 1e-3
"""Storm takes no intervals that begin at zero, where rewards are asked for."""


def bounds(probability: np.ndarray, radius: float) -> tuple[np.ndarray, np.ndarray]:
    """The ends of every probability's interval."""
    return np.minimum(np.maximum(probability - radius, _LEAST), probability), np.minimum(probability + radius, 1.0)


def competitor(model: MDP, radius: float) -> Competitor:
    """The problem whose probabilities lie in `bounds` of the model's, maximised."""
    return Competitor("storm:robust_vi", lambda: _build(model, radius))


def _build(model: MDP, radius: float) -> Callable[[], Result]:
    import stormpy
    from stormpy import environments
    from stormpy.models import SparseMdp, SparseModelComponents, SparseRewardModel, StateLabeling

    kind: Any = stormpy.Interval
    shift = max(0.0, -float(model.reward.min(initial=0.0)))
    shift = max(shift, -(1 - model.discount) * float(model.terminal_value.min(initial=0.0)))
    lifted = model.replace(
        reward=model.reward + shift,
        terminal_value=np.where(model.terminal, model.terminal_value + shift / (1 - model.discount), 0.0),
    )
    rows = ended(lifted)
    labels = StateLabeling(rows.n_states)
    for label, state in (("init", 0), ("goal", rows.n_states - 1)):
        labels.add_label(label)
        labels.add_label_to_state(label, state)
    rewards = SparseRewardModel[kind](optional_state_action_reward_vector=[kind(r, r) for r in rows.reward.tolist()])
    parts = SparseModelComponents[kind](
        transition_matrix=_matrix(lifted, rows, radius), state_labeling=labels, reward_models={"r": rewards}
    )
    problem, formula = SparseMdp[kind](parts), stormpy.parse_property('R{"r"}max=? [F "goal"]')
    environment = environments.Environment()
    settings = environment.solver().min_max()
    settings.precision = stormpy.Rational(ERROR * (1 - model.discount))
    settings.relative_termination_criterion = False

    def solve() -> Result:
        found: Any = stormpy.model_checking(
            problem, formula, environment=environment, uncertainty_resolution_mode=stormpy.UncertaintyResolutionMode.ROBUST
        )
        return Result(np.array(found.get_value_vector())[: model.n_states] - shift / (1 - model.discount))

    return solve


def _matrix(model: MDP, rows: Any, radius: float) -> Any:
    """The ended model's matrix: g times the interval of a transition of the model; what leads to the end is fixed."""
    import stormpy
    from stormpy.datastructures import SparseMatrixBuilder

    kind: Any = stormpy.Interval
    builder: Any = SparseMatrixBuilder[kind](
        rows=len(rows.reward), columns=rows.n_states, entries=len(rows.successor),
        has_custom_row_grouping=True, row_groups=rows.n_states,
    )  # fmt: skip
    end, discount = rows.n_states - 1, model.discount
    lower, upper = rows.probability.copy(), rows.probability.copy()
    inner = rows.successor != end
    lower[inner], upper[inner] = (discount * ends for ends in bounds(rows.probability[inner] / discount, radius))
    row = np.repeat(np.arange(len(rows.reward)), np.diff(rows.row_ptr))
    order = np.lexsort((rows.successor, row))
    groups, group = rows.state_ptr.tolist(), 0
    entries = zip(row.tolist(), rows.successor[order].tolist(), lower[order].tolist(), upper[order].tolist(), strict=True)
    last = -1
    for pair, successor, low, high in entries:
        if pair != last:
            while group < rows.n_states and groups[group] <= pair:
                builder.new_row_group(groups[group])
                group += 1
            last = pair
        builder.add_next_value(pair, successor, kind(low, high))
    return builder.build()
