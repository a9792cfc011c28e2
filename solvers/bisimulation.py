r"""The coarsest bisimulation of a decision problem, by partition refinement in O(z log n) for z transitions and n states.

An equivalence of states and of pairs is a bisimulation when

    pairs of a class have the same reward, the same probability of every class of states, and the same name (see `actions`);
    states of a class offer the same set of pair classes; terminal ones are worth the same; the labels in question agree.

There is a coarsest one. Two states are in one class of it exactly if no experiment tells them apart, whatever is done; their
values are equal under every criterion. Actions are matched

    "position"   by their position among their state's: the usual definition for problems that number their actions;
    "name"       by the problem's `action_names`;
    "any"        by what they do: a class's actions may be permuted and repeated from state to state (the kernel of the lax
                 bisimulation metric, the bisimulation of probabilistic automata). It is the coarsest of the three.

Refinement starts from what can be seen at once and splits by the masses into blocks, a smaller half at a time; kernels and
argument in `banach.solvers.bisimulation_kernels`. Sums are whole numbers (`banach.solvers.bisimulation_masses`), so order and
rounding cannot split a class. For criteria without discount the rows are weights, and rows whose sums differ stay apart.

`within` > 0 asks for less: rewards and masses of one class lie in windows of that width, for each class of successors (the
epsilon-homogeneous partitions of Dean, Givan and Leach 1997; any of them, not the coarsest, which is hard to find).

Givan, Dean and Greig, Artif. Intell. 147, 2003; Valmari and Franceschinis, TACAS 2010; Groote, Rivera Verduzco and de Vink,
Algorithms 11, 2018; Taylor, Precup and Panangaden, NeurIPS 2008; Dean, Givan and Leach, UAI 1997.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, Literal

import numpy as np

from ..mdp.model import MDP
from ..mdp.quotient import Partition, first_occurrence
from ..mdp.validation import is_real
from . import bisimulation_kernels as kernels
from .bisimulation_masses import masses
from .errors import SolveError

Matching = Literal["position", "name", "any"]


def coarsest_bisimulation(
    model: MDP,
    *,
    actions: Matching = "position",
    labels: Iterable[str] | None = None,
    rational: bool = False,
    within: float = 0.0,
) -> Partition:
    """The coarsest bisimulation, or with `within` > 0 some partition that is one up to so much.

    actions: how actions of different states are matched. labels: names of the labels that classes must respect; default: all.
    rational: take each probability for the simplest fraction that rounds to it, instead of for the float that it is.
    within: >= 0, in units of reward and of probability. What the classes really differ by, `stability` says.
    Raises SolveError for an unknown word or label, for actions="name" without names, and where rational finds no fractions.
    """
    _require(model, actions, within)
    mass = masses(model, rational)
    window = math.floor(within * mass.per_one)
    states = kernels.partition_of(_first_states(model, labels))
    pairs = kernels.partition_of(_first_pairs(model, actions, mass.units, within, window))
    ptr, incoming, weight = kernels.transposed(model.n_states, model.row_ptr, model.successor, mass.units)
    refine: Any = kernels.refine
    refine(states, pairs, model.pair_state, ptr, incoming, weight, window)
    return Partition(states[2], pairs[2])


def _require(model: MDP, actions: str, within: float) -> None:
    if not isinstance(model, MDP):
        raise SolveError(f"{type(model).__name__} has no table of states to merge; give an MDP")
    if actions not in ("position", "name", "any"):
        raise SolveError(f"actions={actions!r} is no way to match actions; it is 'position', 'name' or 'any'")
    if actions == "name" and model.action_names is None:
        raise SolveError("the model's actions have no names; match them by 'position', or as 'any'")
    if not (is_real(within) and 0 <= within < math.inf):
        raise SolveError(f"within is {within!r}; it must be a number >= 0, the width of the windows")
    if within > 1 and model.n_transitions:
        raise SolveError(
            f"within is {within!r}, more than a probability can differ by; scale the rewards, or ask for less than 1"
        )


def _first_states(model: MDP, labels: Iterable[str] | None) -> np.ndarray:
    """Classes by what can be seen of a state: terminal or not, its terminal value, its labels."""
    classes = first_occurrence(model.terminal.astype(np.int64))
    classes = _refined(classes, _bits(model.terminal_value))
    for name in model.labels if labels is None else labels:
        if name not in model.labels:
            raise SolveError(f"the model has no label {name!r}; its labels are {', '.join(model.labels) or 'none'}")
        classes = _refined(classes, model.labels[name].astype(np.int64))
    return classes


def _first_pairs(model: MDP, actions: str, units: np.ndarray, within: float, window: int) -> np.ndarray:
    """Classes by name, reward and, unless masses may vary by a whole unit, row sum."""
    if actions == "name":
        numbers_of = {name: i for i, name in enumerate(dict.fromkeys(model.action_names or ()))}
        names = np.array([numbers_of[name] for name in model.action_names or ()], dtype=np.int64)
    elif actions == "position":
        names = np.arange(model.n_pairs) - model.state_ptr[model.pair_state].astype(np.int64)
    else:
        names = np.zeros(model.n_pairs, dtype=np.int64)
    classes = first_occurrence(names)
    pays = _windows(model.reward, classes, within) if within > 0 else _bits(model.reward)
    classes = _refined(classes, pays)
    return classes if window > 0 else _refined(classes, kernels.row_units(model.row_ptr, units))


def _bits(numbers_: np.ndarray) -> np.ndarray:
    """Floats as integers that are equal exactly if the floats are."""
    return (numbers_ + 0.0).view(np.int64)


def _refined(classes: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Classes of elements that agree in both, int32 (k,)."""
    second = first_occurrence(other)
    width = int(second.max(initial=0)) + 1
    return classes if width == 1 else first_occurrence(classes * np.int64(width) + second)


def _windows(reward: np.ndarray, classes: np.ndarray, within: float) -> np.ndarray:
    """Within each class, rewards in windows of a width, cut from the smallest up; int64 (k,)."""
    order = np.lexsort((reward, classes))
    window, number = np.empty(len(reward), dtype=np.int64), -1
    base, current = math.inf, -1
    for i in order.tolist():
        if classes[i] != current or not reward[i] - base <= within:
            base, current, number = reward[i], classes[i], number + 1
        window[i] = number
    return window
