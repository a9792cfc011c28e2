"""The tasks by name: DigitChain, sums with a tool, and every dataset of reasoning-gym, some of them in easy settings."""

from __future__ import annotations

import difflib
from typing import Any

from .digit_chain import DigitChain
from .problem import Task, TaskError
from .reasoning import ReasoningTask
from .tool_sums import ToolSums

EASY: dict[str, dict[str, Any]] = {
    "chain_sum": {"min_terms": 2, "max_terms": 2, "min_digits": 1, "max_digits": 1},
    "basic_arithmetic": {"min_terms": 2, "max_terms": 2, "min_digits": 1, "max_digits": 1},
    "products": {"min_terms": 2, "max_terms": 2, "min_digits": 1, "max_digits": 1},
    "letter_counting": {"min_words": 1, "max_words": 2},
    "count_bits": {"min_n": 1, "max_n": 15},
    "lcm": {"min_value": 1, "max_value": 12},
}
"""Settings under which a model of 135 million weights is right on a third to a half of the problems."""

OWN = {"digit_chain": DigitChain, "tool_sums": ToolSums}

TASKS = (*OWN, *EASY)
"""Names that come with settings; any other dataset of reasoning-gym goes by its own."""


def task(name: str, **settings: Any) -> Task:
    """The named task. settings: seed, shots, and those of the dataset, of `DigitChain` or of `ToolSums`.

    Raises TaskError, with the nearest names, if there is none of that name, and for settings that it lacks.
    """
    if name in OWN:
        try:
            return OWN[name](**settings)
        except TypeError as fault:
            raise TaskError(f"{name}: {fault}") from None
    known = _datasets()
    if name not in EASY and name not in known:
        near = difflib.get_close_matches(name, sorted({*TASKS, *known}), n=4, cutoff=0.4)
        hint = f"did you mean {', '.join(near)}?" if near else f"there are {', '.join(TASKS)}"
        raise TaskError(f"no task is called {name!r}; {hint}")
    own = {key: settings.pop(key) for key in ("seed", "shots") if key in settings}
    return ReasoningTask(name, EASY.get(name, {}) | settings, **own)


def _datasets() -> tuple[str, ...]:
    """The datasets of reasoning-gym, none where it is not installed."""
    try:
        from reasoning_gym.factory import DATASETS
    except ImportError:
        return ()
    return tuple(DATASETS)
