r"""Robust models: a row in a process of its own.

`intervals:NOMINAL`: every stored probability of the nominal instance within 0.05, one interval each, cut to [0.001, 1] since
Storm's interval engine takes no zero; beside that engine. `linf:NOMINAL`: the same as one set for all rows, where no
probability is below 0.051; it needs no object for each pair. `l1=RADIUS:NOMINAL`: an L1 ball round every row; alone, certified
to 1e-4, with the nominal problem's time.
"""

from __future__ import annotations

import dataclasses
import gc
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from banach.mdp import MDP, RobustMDP
from banach.mdp.ambiguity import L1, LInfinity
from banach.mdp.threads import n_threads
from banach.solvers import solve

from . import memory, models
from .bandwidth import sweep_bytes
from .competitor import WIDTH, Competitor, Result
from .ours import NAME
from .peers import intervals
from .race import Record, Reference, race
from .storage import write_json

RADIUS = 0.05
"""Half of an interval's width."""
LARGE_WIDTH = 1e-4
BESIDE_STORM = ("intervals", "linf")
_SMALL = ("garnet:states=60,actions=2,successors=3,discount=0.9", "gridworld:side=6,walls=0.1,discount=0.9")


def run(spelling: str, peers: list[str], repeat: int, out: Path) -> None:
    """Measure the row and write it to `out` as JSON."""
    kind, _, nominal = spelling.partition(":")
    found: dict[str, Any] = {"spelling": spelling}

    def save(**news: Any) -> None:
        found.update(news)
        write_json(out, found)

    for small in _SMALL:
        solve(robust(kind, _maximised(small)), eps=WIDTH)
    model = _maximised(nominal)
    save(states=model.n_states, pairs=model.n_pairs, transitions=model.n_transitions, discount=model.discount)
    if kind in BESIDE_STORM:
        save(**_race(kind, model, peers, repeat, lambda records: save(competitors=[one.as_json() for one in records])))
    else:
        save(**_alone(kind, model, repeat))


def robust(kind: str, model: MDP) -> RobustMDP:
    """The robust problem of a kind of spelling round a nominal model."""
    if kind == "intervals":
        return RobustMDP.intervals(model, *intervals.bounds(model.probability, RADIUS))
    if kind == "linf":
        return RobustMDP(model, LInfinity(RADIUS))
    return RobustMDP(model, L1(float(kind.removeprefix("l1="))))


def _maximised(spelling: str) -> MDP:
    model = models.make(spelling)
    return model.negated() if model.criterion.minimize else model


def _race(kind: str, model: MDP, peers: list[str], repeat: int, finished: Callable[[list[Record]], None]) -> dict[str, Any]:
    began = time.perf_counter()
    problem = robust(kind, model)
    found = {"build_seconds": time.perf_counter() - began, **_sweep(problem)}
    certificate = solve(problem, eps=WIDTH / 10).certificate

    def build() -> Callable[[], Result]:
        own = dataclasses.replace(problem)

        def run() -> Result:
            solution = solve(own, eps=WIDTH)
            found.update(method=str(solution.trace.method), sweeps=float(solution.trace.sweeps))
            return Result(solution.value, solution.certificate.lower, solution.certificate.upper)

        return run

    ours = Competitor(NAME, build, fresh=True)
    theirs = [intervals.competitor(model, RADIUS) for _ in peers]
    race([ours, *theirs], Reference(certificate.lower, certificate.upper), repeat, finished)
    return found


def _alone(kind: str, model: MDP, repeat: int) -> dict[str, Any]:
    """The time of a certified solve, of a sweep, and of the nominal problem."""
    problem = robust(kind, model)
    found = _sweep(problem)
    record, plain = Record(NAME, verdict="certified"), []
    gc.collect()
    memory.give_back()
    memory.reset_peak()
    for _ in range(repeat):
        own = dataclasses.replace(problem)
        began, processor = time.perf_counter(), time.process_time()
        solution = solve(own, eps=LARGE_WIDTH)
        record.seconds.append(time.perf_counter() - began)
        record.processor.append(time.process_time() - processor)
        record.width = float((solution.certificate.upper - solution.certificate.lower).max())
        record.verdict = "certified" if record.width <= LARGE_WIDTH else "missed"
        found.update(method=str(solution.trace.method), sweeps=float(solution.trace.sweeps))
        nominal = model.replace()
        began = time.perf_counter()
        solve(nominal, eps=LARGE_WIDTH)
        plain.append(time.perf_counter() - began)
    return found | {
        "competitors": [record.as_json()],
        "nominal_seconds": statistics.median(plain),
        "peak_rss_bytes": memory.peak(),
    }


def _sweep(problem: RobustMDP, seconds: float = 0.5) -> dict[str, Any]:
    """Median time of a robust Bellman sweep and of the nominal one, and the bytes that the nominal one has to move."""
    found: dict[str, Any] = {"sweep_bytes": sweep_bytes(problem.problem), "threads": n_threads()}
    for name, operator in (("sweep_seconds", problem.operator), ("nominal_sweep_seconds", problem.problem.operator)):
        value, out, policy = operator.start(), operator.start(), operator.blank_policy()
        taken: list[float] = []
        while len(taken) < 4 or (sum(taken) < seconds and len(taken) < 100):
            began = time.perf_counter()
            operator.apply(value, out, policy)
            taken.append(time.perf_counter() - began)
            value, out = out, value
        found[name] = statistics.median(taken[1:])
    return found
