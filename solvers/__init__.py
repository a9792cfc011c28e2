"""How decision problems are solved, and the proofs that come with the answers."""

from .anderson import Anderson
from .backward_induction import BackwardInduction
from .blackwell import BlackwellOptimum, blackwell
from .certificate import Certificate
from .check import Verdict, check
from .constrained import OccupancyProgram
from .end_component_iteration import EndComponentIteration
from .errors import CertificateRejected, Infeasible, InfiniteValue, NotConverged, SolveError
from .inexact_policy_iteration import InexactPolicyIteration
from .interval_iteration import IntervalIteration
from .linear_programming import LinearProgramming
from .modified_policy_iteration import ModifiedPolicyIteration
from .multichain import MultichainPolicyIteration
from .optimistic_value_iteration import OptimisticValueIteration
from .policy_iteration import PolicyIteration
from .prioritized import PrioritizedSweeping
from .rank_one import RankOne
from .rational import RationalPolicyIteration, exact_policies, exact_value
from .relative_value_iteration import RelativeValueIteration
from .robust_policy_iteration import RobustPolicyIteration
from .solution import Solution, Trace
from .solve import solve
from .topological import Topological
from .value_iteration import GaussSeidel, ValueIteration

__all__ = [
    "Anderson",
    "BackwardInduction",
    "BlackwellOptimum",
    "Certificate",
    "CertificateRejected",
    "EndComponentIteration",
    "GaussSeidel",
    "InexactPolicyIteration",
    "Infeasible",
    "InfiniteValue",
    "IntervalIteration",
    "LinearProgramming",
    "ModifiedPolicyIteration",
    "MultichainPolicyIteration",
    "NotConverged",
    "OccupancyProgram",
    "OptimisticValueIteration",
    "PolicyIteration",
    "PrioritizedSweeping",
    "RankOne",
    "RationalPolicyIteration",
    "RelativeValueIteration",
    "RobustPolicyIteration",
    "Solution",
    "SolveError",
    "Topological",
    "Trace",
    "ValueIteration",
    "Verdict",
    "blackwell",
    "check",
    "exact_policies",
    "exact_value",
    "solve",
]
