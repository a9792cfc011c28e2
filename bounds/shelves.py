"""The catalogue, shelf by shelf."""

from __future__ import annotations

import difflib

from . import (
    average,
    brackets,
    contraction,
    distributional,
    falsehoods,
    group_objectives,
    horizon,
    metrics,
    models,
    objective_divergences,
    objective_falsehoods,
    objective_optima,
    policies,
    policy_gradients,
    preference,
    preference_contrast,
    preference_falsehoods,
    preference_maximin,
    preference_self_play,
    quotients,
    rates,
    residual,
    rlvr_group,
    rlvr_layers,
    rlvr_log_ratio,
    rlvr_modes,
    rlvr_odds,
    rlvr_risk,
    rlvr_rounds,
    rlvr_steps,
    rlvr_tools,
    rlvr_windows,
    robust,
    robust_rates,
    tilted_path,
)
from .bound import Bound
from .errors import BoundError

CATALOGUE: tuple[Bound, ...] = (
    *contraction.CATALOGUE,
    *residual.CATALOGUE,
    *brackets.CATALOGUE,
    *policies.CATALOGUE,
    *rates.CATALOGUE,
    *horizon.CATALOGUE,
    *models.CATALOGUE,
    *average.CATALOGUE,
    *quotients.CATALOGUE,
    *metrics.CATALOGUE,
    *preference.CATALOGUE,
    *preference_self_play.CATALOGUE,
    *policy_gradients.CATALOGUE,
    *group_objectives.CATALOGUE,
    *objective_divergences.CATALOGUE,
    *objective_optima.CATALOGUE,
    *preference_contrast.CATALOGUE,
    *preference_maximin.CATALOGUE,
    *tilted_path.CATALOGUE,
    *robust.CATALOGUE,
    *robust_rates.CATALOGUE,
    *distributional.CATALOGUE,
    *rlvr_group.CATALOGUE,
    *rlvr_risk.CATALOGUE,
    *rlvr_odds.CATALOGUE,
    *rlvr_log_ratio.CATALOGUE,
    *rlvr_tools.CATALOGUE,
    *rlvr_windows.CATALOGUE,
    *rlvr_rounds.CATALOGUE,
    *rlvr_modes.CATALOGUE,
    *rlvr_layers.CATALOGUE,
    *rlvr_steps.CATALOGUE,
)
"""Every theorem."""

FALSEHOODS = (
    *falsehoods.FALSEHOODS,
    *distributional.FALSEHOODS,
    *quotients.FALSEHOODS,
    *metrics.FALSEHOODS,
    *preference_falsehoods.FALSEHOODS,
    *preference_maximin.FALSEHOODS,
    *objective_falsehoods.FALSEHOODS,
    *rlvr_risk.FALSEHOODS,
    *robust.FALSEHOODS,
    *robust_rates.FALSEHOODS,
)
"""Statements that are false, family "false"."""


def families() -> tuple[str, ...]:
    """The families, "false" last."""
    return tuple(dict.fromkeys(bound.family for bound in (*CATALOGUE, *FALSEHOODS)))


def statements(name: str | None = None) -> tuple[Bound, ...]:
    """The catalogue; or the bounds of a family; or the one bound of that name or key. Raises BoundError for any other name."""
    if name is None:
        return CATALOGUE
    everything = (*CATALOGUE, *FALSEHOODS)
    found = tuple(bound for bound in everything if name.lower() in (bound.family, bound.name.lower(), bound.key))
    if found:
        return found
    names = [*families(), *(bound.key for bound in everything), *(bound.name for bound in everything)]
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.4)
    hint = f"did you mean {' or '.join(map(repr, close))}?" if close else f"the families are {', '.join(families())}"
    raise BoundError(f"there is no bound or family {name!r}; {hint}")
