"""What is raised when a bound, a measurement or a search is asked for something that makes no sense."""

from __future__ import annotations

from ..mdp.errors import BanachError


class BoundError(BanachError, ValueError):
    """A statement lacks a symbol's meaning or number, or a problem does not fit it; the message names which and the remedy."""
