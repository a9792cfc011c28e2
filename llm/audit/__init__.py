"""What a loss really does: its expected gradient, scalar, variance, divergence and edge cases, found by enumeration."""

from .errors import AuditError, LossFailure
from .finding import Audit, Finding
from .loss_audit import audit
from .preference_audit import audit_preference
from .subject import resolve

__all__ = ["Audit", "AuditError", "Finding", "LossFailure", "audit", "audit_preference", "resolve"]
