"""What an objective does where the part of it that reads more than answers speaks: calls, modes, rounds, bundles, a critic.

Its catalogue entry declares a `Probe`, one plain case that is told to it. The on-policy questions are asked again there, and
the field is held against what the same objective does untold.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from .batching import Draw, permutation
from .enumeration import Setting
from .finding import Finding
from .fixed_point import followed
from .on_policy import OnPolicy, direction, which_scalar
from .scalars import compare
from .subject import Array, Subject

if TYPE_CHECKING:
    from ..catalogue import Probe

TITLE = "expected gradient where its own part speaks"


def told(ground: OnPolicy, subject: Subject, probe: Probe, generator: np.random.Generator) -> list[Finding]:
    """The on-policy findings under the probe, keys and titles marked. subject: the objective so told. ground: untold.

    Raises LossFailure or AuditError.
    """
    draw = Draw(ground.problem, ground.group_size, generator)
    _, exchangeable = permutation(subject, draw)
    spoken = OnPolicy(subject, ground.problem, ground.group_size, exchangeable, generator)
    untold = [
        ground.field(logits) if spoken.group_size == ground.group_size else ground.enumerated(Setting(logits))
        for logits in spoken.policies
    ]
    found = [_beside(spoken, untold, probe)]
    found += [replace(f, key=f"told_{f.key}", title=f"{f.title}, there") for f in which_scalar(spoken)]
    end = "where following it ends, there"
    if spoken.table is None:
        verdict = "Not asked: its weights look at log-probabilities, and what is told of answers has no meaning on a bandit."
        return [*found, Finding("told_fixed_point", end, verdict, "moot")]
    return [*found, replace(followed(spoken), key="told_fixed_point", title=end)]


def _beside(spoken: OnPolicy, untold: list[Array], probe: Probe) -> Finding:
    """The expected gradient against grad J, and against the untold one."""
    found, match = direction(spoken), compare("untold", spoken.fields, untold)
    if not np.isfinite(match.cosine):
        beside = "Untold there is no gradient to compare."
    elif match.residual < spoken.tolerance and abs(match.scale - 1) < spoken.tolerance:
        beside = "That is what it does untold: what is told changes nothing."
    elif match.residual < spoken.tolerance:
        beside = f"It is {match.scale:.4g} times what it does untold."
    else:
        beside = f"Against what it does untold the cosine is {match.cosine:.4f}, the factor {match.scale:.3g}."
    details = dict(found.details) | {
        "fields": list(probe.fields),
        "untold": {"cosine": match.cosine, "factor": match.scale, "residual": match.residual},
    }
    return replace(found, key="told", title=TITLE, verdict=f"Where {probe.words}: {found.verdict} {beside}", details=details)
