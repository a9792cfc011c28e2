"""What theory promises: theorems as expressions, the experiments that measure them, the search that tries to break them."""

from .bound import Bound, Measurement
from .errors import BoundError
from .evidence import Evidence, evidence_of
from .falsify import Falsification, falsify
from .judgement import Judgement, Proof, judge
from .shelves import CATALOGUE, FALSEHOODS, families, statements
from .verify import Curve, Report, Row, verify

__all__ = [
    "CATALOGUE",
    "FALSEHOODS",
    "Bound",
    "BoundError",
    "Curve",
    "Evidence",
    "Falsification",
    "Judgement",
    "Measurement",
    "Proof",
    "Report",
    "Row",
    "evidence_of",
    "falsify",
    "families",
    "judge",
    "statements",
    "verify",
]
