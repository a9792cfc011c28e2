"""banach itself: the default method, the certificate included, and where its time and memory go."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable
from types import ModuleType
from typing import Any
from unittest.mock import patch

import numpy as np
from banach.mdp import MDP
from banach.mdp.criterion import TotalReward
from banach.mdp.threads import WORTH_SHARING, n_threads
from banach.solvers import discounted, solve, total_reward

from . import memory
from .bandwidth import sweep_bytes
from .competitor import WIDTH, Competitor, Result

NAME = "banach"


def competitor(model: MDP) -> Competitor:
    """Solves a model that is built afresh every time, so that nothing kept from an earlier solve helps."""

    def build() -> Callable[[], Result]:
        own = model.replace()

        def run() -> Result:
            solution = solve(own, eps=WIDTH)
            return Result(solution.value, solution.certificate.lower, solution.certificate.upper)

        return run

    return Competitor(NAME, build, fresh=True)


def first_solve(make: Callable[[], MDP]) -> tuple[MDP, dict[str, Any]]:
    """The model, and the peak memory of solving it over that of an idle process, in its own arrays plus eight vectors.

    The kernels have to be compiled already.
    """
    gc.collect()
    memory.give_back()
    idle = memory.resident()
    model = make()
    gc.collect()
    memory.give_back()
    memory.reset_peak()
    began = time.perf_counter()
    solution = solve(model, eps=WIDTH)
    seconds = time.perf_counter() - began
    own = model.nbytes + 8 * 8 * model.n_states
    return model, {
        "first_seconds": seconds,
        "peak_bytes": memory.peak() - idle,
        "own_bytes": own,
        "peak_rss_bytes": memory.peak(),
        "method": str(solution.trace.method),
        "sweeps": float(solution.trace.sweeps),
        "threads": n_threads() if model.n_transitions >= WORTH_SHARING else 1,
    }


def sweep(model: MDP, seconds: float = 0.3) -> dict[str, float]:
    """Median time of a full Bellman sweep, and the bytes that it has to move."""
    operator = (model.negated() if model.criterion.minimize else model).operator
    value, out, policy = operator.start(), operator.start(), np.full(model.n_states, -1, dtype=np.int32)
    taken: list[float] = []
    while len(taken) < 5 or (sum(taken) < seconds and len(taken) < 1000):
        began = time.perf_counter()
        operator.apply(value, out, policy)
        taken.append(time.perf_counter() - began)
        value, out = out, value
    return {"sweep_seconds": statistics.median(taken), "sweep_bytes": sweep_bytes(model)}


def certificate_share(model: MDP, repeat: int) -> float:
    """Median share of a solve that turns the method's vector into a proved bracket."""
    return statistics.median(_certificate_share(model) for _ in range(repeat))


def _certificate_share(model: MDP) -> float:
    undiscounted = isinstance(model.criterion, TotalReward)
    proof = _Timed(total_reward, "certify") if undiscounted else _Timed(discounted, "inductive_bracket")
    own = model.replace()
    with proof:
        began = time.perf_counter()
        solve(own, eps=WIDTH)
        total = time.perf_counter() - began
    return proof.seconds / total


class _Timed:
    """Within it, calls of a module's function add to `seconds`."""

    def __init__(self, module: ModuleType, name: str) -> None:
        self.seconds, self.function = 0.0, getattr(module, name)
        self.patch = patch.object(module, name, self.call)

    def __enter__(self) -> None:
        self.patch.start()

    def __exit__(self, *fault: object) -> None:
        self.patch.stop()

    def call(self, *args: Any) -> Any:
        began = time.perf_counter()
        try:
            return self.function(*args)
        finally:
            self.seconds += time.perf_counter() - began
