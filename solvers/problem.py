"""What `solve` and `check` take."""

from __future__ import annotations

from ..mdp.constrained import ConstrainedMDP
from ..mdp.linear_robust import LinearRobustMDP
from ..mdp.model import MDP
from ..mdp.robust import RobustMDP
from ..mdp.time_varying import TimeVaryingMDP

Problem = MDP | TimeVaryingMDP | ConstrainedMDP | RobustMDP | LinearRobustMDP
"""Every kind of decision problem that has a solver and a checker."""
