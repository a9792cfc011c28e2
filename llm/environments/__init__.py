"""Verifiable tasks, rewards made of parts, and a sandbox for programs that a policy writes."""

from .catalogue import TASKS, task
from .digit_chain import DigitChain
from .problem import Problem, Sample, Task, TaskError
from .python_tool import PythonTool, PythonTurns, SandboxUnavailable, ToolResult
from .reasoning import ReasoningTask
from .reward import Component, Failure, Gate, Reward, Rewarded, RewardFailed
from .tool_sums import ToolSums

__all__ = [
    "TASKS",
    "Component",
    "DigitChain",
    "Failure",
    "Gate",
    "Problem",
    "PythonTool",
    "PythonTurns",
    "ReasoningTask",
    "Reward",
    "RewardFailed",
    "Rewarded",
    "Sample",
    "SandboxUnavailable",
    "Task",
    "TaskError",
    "ToolResult",
    "ToolSums",
    "task",
]
