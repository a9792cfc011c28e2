"""What the language-model room raises when a batch or an objective's settings are wrong.

Every message names the field, the place and the remedy.
"""

from ..mdp.errors import BanachError


class BatchError(BanachError, ValueError):
    """The tensors do not form a batch, or lack a field that the objective reads; the message names field, row and position."""


class SpecError(BanachError, ValueError):
    """The settings do not form an objective; the message names the setting, its value and the values that are allowed."""


class ClipRangeError(SpecError):
    """A clip range that does not do what the objective is for: it never binds, or it rescales on-policy tokens."""


class ObjectiveWarning(UserWarning):
    """The objective is defined on this batch, but hardly as meant: groups of one, a batch in which nothing is left to learn."""
