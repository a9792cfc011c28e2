"""How decision problems are solved, and the proofs that come with the answers."""

from .backward_induction import BackwardInduction
from .certificate import Certificate
from .check import Verdict, check
from .errors import CertificateRejected, InfiniteValue, NotConverged, SolveError
from .inexact_policy_iteration import InexactPolicyIteration
from .modified_policy_iteration import ModifiedPolicyIteration
from .policy_iteration import PolicyIteration
from .solution import Solution, Trace
from .solve import solve
from .value_iteration import GaussSeidel, ValueIteration

__all__ = [
    "BackwardInduction",
    "Certificate",
    "CertificateRejected",
    "GaussSeidel",
    "InexactPolicyIteration",
    "InfiniteValue",
    "ModifiedPolicyIteration",
    "NotConverged",
    "PolicyIteration",
    "Solution",
    "SolveError",
    "Trace",
    "ValueIteration",
    "Verdict",
    "check",
    "solve",
]
