"""How decision problems are solved, and the proofs that come with the answers."""

from .anderson import Anderson
from .backward_induction import BackwardInduction
from .bisimulation import coarsest_bisimulation
from .bisimulation_proof import Stability, stability
from .bisimulation_tree import SplittingTree, check_splitting_tree, distinguish, splitting_tree
from .blackwell import BlackwellOptimum, blackwell
from .bradley_terry import RewardFit, bradley_terry
from .certificate import Certificate
from .check import Verdict, check
from .check_static import check_static
from .constrained import OccupancyProgram
from .construction import Built, build
from .contrastive_optimum import ContrastiveOptimum, contrastive_optimum
from .distributional import LawCertificate, ReturnLaws, return_laws
from .distributional_check import check_laws
from .dual_cvar import dual_cvar_upper_bound
from .end_component_iteration import EndComponentIteration
from .errors import CertificateRejected, Infeasible, InfiniteValue, NotConverged, SolveError
from .first_order import FirstOrder
from .inexact_policy_iteration import InexactPolicyIteration
from .interval_iteration import IntervalIteration
from .iwocs import WorstCaseSearch, iwocs
from .linear_programming import LinearProgramming
from .metric import Metric, bisimulation_metric, cluster, lax_bisimulation_metric, policy_chain, policy_metric
from .mico import mico, reduced
from .modified_policy_iteration import ModifiedPolicyIteration
from .multichain import MultichainPolicyIteration
from .nash import Nash, exploitability, nash
from .offline import (
    OfflinePlan,
    behaviour_cloning,
    classes_from_data,
    merge_states,
    pessimistic_value_iteration,
    price_of_merging,
)
from .optimistic_value_iteration import OptimisticValueIteration
from .partial_policy_iteration import PartialPolicyIteration
from .policy_iteration import PolicyIteration
from .preference_iterations import iterate
from .preference_maximin import (
    Maximin,
    RegularizedPO,
    density_ratio,
    likelihood_floor,
    maximin,
    preference_coverage,
    rpo_loss,
    rpo_optimum,
    saddle_bracket,
    suboptimality_bound,
    unreached,
)
from .preference_optimum import population_optimum
from .preference_result import Existence, PreferenceOptimum
from .prioritized import PrioritizedSweeping
from .projected_laws import Categorical, ProjectedLaws, Quantiles, projected_evaluation
from .rank_one import RankOne
from .rational import RationalPolicyIteration, exact_policies, exact_value
from .regularised_nash import RegularisedNash, duality_gap, regularised_nash
from .relative_value_iteration import RelativeValueIteration
from .robust_policy_iteration import RobustPolicyIteration
from .sampled_self_play import SampledINPO
from .solution import Solution, Trace
from .solve import solve
from .static_robust import StaticSolution, any_policy_bound, solve_static
from .stock import (
    OptimalRisk,
    StockPlan,
    distributional_policy_iteration,
    distributional_value_iteration,
    optimal_cvar,
    optimal_mean_variance,
    optimal_utility,
)
from .stock_check import check_stock
from .stock_lattice import CVaRBracket, StockBracket, StockCertificate, cvar_bracket, stock_bracket
from .symmetry import Symmetry, check_symmetry, orbits
from .token_optimum import RegularisedOptimum, regularised_optimum
from .topological import Topological
from .total_laws import TotalLaws, total_reward_laws
from .total_laws_check import check_total_laws
from .tours import nearest_neighbour_tour, short_tour, shortest_tour, tour_length
from .transport import Entropic, NetworkSimplex, Transport, kantorovich
from .value_iteration import GaussSeidel, ValueIteration

__all__ = [
    "Anderson",
    "BackwardInduction",
    "BlackwellOptimum",
    "Built",
    "CVaRBracket",
    "Categorical",
    "Certificate",
    "CertificateRejected",
    "ContrastiveOptimum",
    "EndComponentIteration",
    "Entropic",
    "Existence",
    "FirstOrder",
    "GaussSeidel",
    "InexactPolicyIteration",
    "Infeasible",
    "InfiniteValue",
    "IntervalIteration",
    "LawCertificate",
    "LinearProgramming",
    "Maximin",
    "Metric",
    "ModifiedPolicyIteration",
    "MultichainPolicyIteration",
    "Nash",
    "NetworkSimplex",
    "NotConverged",
    "OccupancyProgram",
    "OfflinePlan",
    "OptimalRisk",
    "OptimisticValueIteration",
    "PartialPolicyIteration",
    "PolicyIteration",
    "PreferenceOptimum",
    "PrioritizedSweeping",
    "ProjectedLaws",
    "Quantiles",
    "RankOne",
    "RationalPolicyIteration",
    "RegularisedNash",
    "RegularisedOptimum",
    "RegularizedPO",
    "RelativeValueIteration",
    "ReturnLaws",
    "RewardFit",
    "RobustPolicyIteration",
    "SampledINPO",
    "Solution",
    "SolveError",
    "SplittingTree",
    "Stability",
    "StaticSolution",
    "StockBracket",
    "StockCertificate",
    "StockPlan",
    "Symmetry",
    "Topological",
    "TotalLaws",
    "Trace",
    "Transport",
    "ValueIteration",
    "Verdict",
    "WorstCaseSearch",
    "any_policy_bound",
    "behaviour_cloning",
    "bisimulation_metric",
    "blackwell",
    "bradley_terry",
    "build",
    "check",
    "check_laws",
    "check_splitting_tree",
    "check_static",
    "check_stock",
    "check_symmetry",
    "check_total_laws",
    "classes_from_data",
    "cluster",
    "coarsest_bisimulation",
    "contrastive_optimum",
    "cvar_bracket",
    "density_ratio",
    "distinguish",
    "distributional_policy_iteration",
    "distributional_value_iteration",
    "dual_cvar_upper_bound",
    "duality_gap",
    "exact_policies",
    "exact_value",
    "exploitability",
    "iterate",
    "iwocs",
    "kantorovich",
    "lax_bisimulation_metric",
    "likelihood_floor",
    "maximin",
    "merge_states",
    "mico",
    "nash",
    "nearest_neighbour_tour",
    "optimal_cvar",
    "optimal_mean_variance",
    "optimal_utility",
    "orbits",
    "pessimistic_value_iteration",
    "policy_chain",
    "policy_metric",
    "population_optimum",
    "preference_coverage",
    "price_of_merging",
    "projected_evaluation",
    "reduced",
    "regularised_nash",
    "regularised_optimum",
    "return_laws",
    "rpo_loss",
    "rpo_optimum",
    "saddle_bracket",
    "short_tour",
    "shortest_tour",
    "solve",
    "solve_static",
    "splitting_tree",
    "stability",
    "stock_bracket",
    "suboptimality_bound",
    "total_reward_laws",
    "tour_length",
    "unreached",
]
