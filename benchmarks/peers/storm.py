r"""Storm's sparse engine through stormpy: one thread, absolute precision, rewards made nonnegative.

native    built-in discounting, stopped by the Bellman residual: no bounds
default   the sound default, topological with optimistic value iteration inside
ovi, ii   optimistic value iteration, interval iteration: bounds
vi        value iteration, stopped by the change of a sweep, asked to be (1 - g) times the error: no bounds
pi        policy iteration, each policy by sparse LU: no bounds

Only `native` discounts by itself; the others solve the model that ends with probability 1 - g a step (see `closed`). Negative
rewards lead Storm astray: where all are negative the sense is turned round, where signs are mixed a constant is added, which
adds constant / (1 - g) to the value. Storm reads Python lists, so large models are left out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from banach.mdp import MDP
from banach.mdp.criterion import Discounted, TotalReward

from ..competitor import ERROR, Competitor, Result
from .closed import Rows, closed, ended

MAX_TRANSITIONS = 3_000_000
_METHODS = {
    "native": None,
    "default": None,
    "ovi": "OPTIMISTIC_VALUE_ITERATION",
    "ii": "INTERVAL_ITERATION",
    "vi": "VALUE_ITERATION",
    "pi": "POLICY_ITERATION",
}


def competitor(model: MDP, method: str) -> Competitor | None:
    """Discounted models, reachability, and total reward with terminal states worth nothing; of moderate size."""
    solver, native = _METHODS[method], method == "native"
    if model.n_transitions > MAX_TRANSITIONS or not isinstance(model.criterion, Discounted | TotalReward):
        return None
    if native and not isinstance(model.criterion, Discounted):
        return None
    return Competitor(f"storm:{method}", lambda: _build(model, native, solver))


@dataclass(frozen=True)
class _Question:
    """What Storm is asked: rows, formula, goal states, and how its answer reads in the model's sense: sign * v - shift."""

    rows: Rows
    formula: str
    goal: np.ndarray
    sign: float = 1.0
    shift: float = 0.0


def _question(model: MDP, native: bool) -> _Question:
    ends = np.flatnonzero(model.terminal)
    if isinstance(model.criterion, TotalReward):
        sense = "min" if model.criterion.minimize else "max"
        if not model.reward.any() and np.isin(model.terminal_value, (0.0, 1.0)).all():
            return _Question(closed(model), f'P{sense}=? [ F "goal" ]', np.flatnonzero(model.terminal_value))
        if model.terminal_value.any() or model.reward.min() < 0:
            raise ValueError("terminal states worth something, or rewards of both signs, are not put to Storm")
        return _Question(closed(model), f'R{{"r"}}{sense}=? [ F "goal" ]', ends)
    rows = closed(model) if native else ended(model)
    minimize, sign, shift = model.criterion.minimize, 1.0, 0.0
    values = (1 - model.discount) * model.terminal_value[ends]
    least = min(model.reward.min(), values.min(initial=0.0))
    if least < 0 and max(model.reward.max(), values.max(initial=0.0)) <= 0:
        minimize, sign = not minimize, -1.0
    elif least < 0:
        shift = -least
    reward = sign * rows.reward + shift
    scale = 1 - model.discount
    if not native:
        reward[-1] = 0.0
        reward[rows.state_ptr[ends]] = sign * rows.reward[rows.state_ptr[ends]] + shift / scale
    rows = Rows(rows.state_ptr, rows.row_ptr, rows.successor, rows.probability, reward)
    path = f"Cdiscount={model.discount!r}" if native else 'F "goal"'
    formula = f'R{{"r"}}{"min" if minimize else "max"}=? [ {path} ]'
    return _Question(rows, formula, np.array([rows.n_states - 1]), sign, shift / scale)


def _build(model: MDP, native: bool, solver: str | None) -> Callable[[], Result]:
    import stormpy
    from stormpy import environments

    question = _question(model, native)
    problem, formula = _sparse_mdp(question), stormpy.parse_property(question.formula)
    sound = solver not in {"VALUE_ITERATION", "POLICY_ITERATION"}
    environment = environments.Environment() if solver == "VALUE_ITERATION" else environments.sound()
    settings = environment.solver().min_max()
    slowness = 1 - model.discount if isinstance(model.criterion, Discounted) else 0.05
    settings.precision = stormpy.Rational(ERROR * slowness if solver == "VALUE_ITERATION" else ERROR)
    settings.relative_termination_criterion = False
    if solver is not None:
        settings.method = getattr(environments.MinMaxMethod, solver)
    if solver == "POLICY_ITERATION":
        environment.solver().set_linear_equation_solver_type(environments.EquationSolverType.EIGEN)

    def own(vector: Any) -> np.ndarray:
        return question.sign * np.array(vector)[: model.n_states] - question.shift

    def solve() -> Result:
        found: Any = stormpy.model_checking(problem, formula, environment=environment)
        if not sound or not (found.has_lower_bounds() and found.has_upper_bounds()):
            return Result(own(found.get_value_vector()))
        bounds = own(found.get_lower_bound_vector()), own(found.get_upper_bound_vector())
        return Result(own(found.get_value_vector()), np.minimum(*bounds), np.maximum(*bounds))

    return solve


def _sparse_mdp(question: _Question) -> Any:
    from stormpy.datastructures import SparseMatrixBuilder
    from stormpy.models import SparseMdp, SparseModelComponents, SparseRewardModel, StateLabeling

    rows = question.rows
    builder: Any = SparseMatrixBuilder[float](
        rows=len(rows.reward), columns=rows.n_states, entries=len(rows.successor),
        has_custom_row_grouping=True, row_groups=rows.n_states,
    )  # fmt: skip
    row = np.repeat(np.arange(len(rows.reward)), np.diff(rows.row_ptr))
    order = np.lexsort((rows.successor, row))
    builder.add_next_values(
        row.tolist(), rows.successor[order].tolist(), rows.probability[order].tolist(), rows.state_ptr[:-1].tolist()
    )
    labels = StateLabeling(rows.n_states)
    labels.add_label("init")
    labels.add_label_to_state("init", 0)
    labels.add_label("goal")
    for state in question.goal.tolist():
        labels.add_label_to_state("goal", state)
    rewards = {"r": SparseRewardModel[float](optional_state_action_reward_vector=rows.reward.tolist())}
    parts: Any = SparseModelComponents[float](transition_matrix=builder.build(), state_labeling=labels, reward_models=rewards)
    return SparseMdp[float](parts)
