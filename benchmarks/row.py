"""One row of the comparison, in a process of its own: `python -m benchmarks.row SPECIFICATION OUT`.

SPECIFICATION is JSON with kind, spelling, peers and repeat. OUT is written anew after every step, so that what was measured
before a crash or a timeout is not lost.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from banach.mdp import MDP
from banach.solvers import solve

from . import models, ours, published, robust, searches, updates
from .competitor import WIDTH
from .peers import competitors
from .race import Record, race, reference
from .storage import write_json

_LONG = 20.0
"""Seconds of a first solve after which it stands for all repetitions, where nobody else runs."""
_WARM = 20_000_000
"""Transitions up to which the row's own model is solved once beforehand: compiling takes memory too."""
_SMALL = ("garnet:states=50", "ssp_grid:side=5", "queue:capacity=4,discount=0.9")


def run_model(spelling: str, peers: list[str], repeat: int, out: Path) -> None:
    """Measure the row and write it to `out` as JSON."""
    found: dict[str, Any] = {"spelling": spelling}

    def save(**news: Any) -> None:
        found.update(news)
        write_json(out, found)

    def finished(records: list[Record]) -> None:
        save(competitors=[record.as_json() for record in records])

    _warm_up(spelling, peers)
    model = _ours_alone(spelling, save)
    if not peers and found.get("first_seconds", 0.0) > _LONG:
        first = Record(ours.NAME, seconds=[found["first_seconds"]], verdict="certified")
        finished([first])
        return
    try:
        truth = reference(model)
    except Exception as fault:  # without a reference the times still count
        truth = None
        save(note=f"no reference: {_line(fault)}")
    save(reference_width=None if truth is None else truth.width)
    race([ours.competitor(model), *competitors(model, peers)], truth, repeat, finished)
    if "failure" not in found:
        save(certificate_share=ours.certificate_share(model, repeat))


def _ours_alone(spelling: str, save: Any) -> MDP:
    """The model, after the first solve and the sweeps."""
    began = time.perf_counter()
    try:
        model, first = ours.first_solve(lambda: models.make(spelling))
    except Exception as fault:
        model, first = models.make(spelling), {"failure": _line(fault)}
    save(
        states=model.n_states, pairs=model.n_pairs, transitions=model.n_transitions, discount=model.discount,
        make_and_solve_seconds=time.perf_counter() - began, **first,
    )  # fmt: skip
    save(**ours.sweep(model))
    return model


def _warm_up(spelling: str, peers: list[str]) -> None:
    """Compile what is compiled on first use: theirs on a small model, ours on small ones and on the row's own, unless large."""
    for competitor in competitors(models.make(_SMALL[0]), peers):
        if competitor.name.startswith("quantecon"):
            competitor.build()()
    for own in (*_SMALL, spelling):
        try:
            model = models.make(own)
            if model.n_transitions <= _WARM:
                solve(model, eps=WIDTH)
        except Exception as fault:
            print(f"{own}: {_line(fault)}", file=sys.stderr)


def _line(fault: BaseException) -> str:
    return f"{type(fault).__name__}: {fault}".splitlines()[0][:300]


if __name__ == "__main__":
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    specification = json.loads(sys.argv[1])
    runs = {
        "model": run_model,
        "updates": updates.run,
        "robust": robust.run,
        "search": searches.run,
        "published": published.run,
    }
    run = runs[specification["kind"]]
    run(specification["spelling"], specification["peers"], specification["repeat"], Path(sys.argv[2]))
