r"""Measuring what theory promises.

`verify` runs a bound's measurement on its models and judges every comparison (see `banach.bounds.judgement`). A report has
one row for each bound and model, that of the tightest measurement, and for a bound with an axis one curve for each model.
Everything in it is plain data.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ..mdp.model import MDP
from ..mdp.token import TokenProblem
from .bound import Bound, Problem
from .evidence import evidence_of
from .judgement import Judgement, Proof, judge
from .shelves import statements


@dataclass(frozen=True)
class Row:
    """A bound on a model.

    bound, key, family, source, sense: of the bound. statement: its right-hand side as text, latex: the whole of it.
    instance: name of the model. states, pairs: its size; of a game, responses and pairs of them;
    of a token problem, nodes and tokens at them. parameters: of the tightest
    measurement. measured, promised, tightness: of it; tightness is 1 where the bound is attained. measurements: how many were
    made. holds: whether all of them agree. proof: the weakest of "exact rationals", "certified brackets" and "within rounding"
    that decided one of those that count: all of them where the bound holds, those that break it where it does not.
    seconds: time taken.
    """

    bound: str
    key: str
    family: str
    source: str
    sense: str
    statement: str
    latex: str
    instance: str
    states: int
    pairs: int
    parameters: dict[str, int | float | str]
    measured: float
    promised: float
    tightness: float
    measurements: int
    holds: bool
    proof: str
    seconds: float

    @property
    def proof_checked(self) -> bool:
        """Whether every comparison that counts was decided beyond numerical error."""
        return self.proof != Proof.ROUNDING

    def __str__(self) -> str:
        verdict = "holds" if self.holds else "BROKEN"
        return (
            f"{self.bound}, {self.instance}: measured {self.measured:.6g}, {self.sense} {self.promised:.6g}, "
            f"tightness {self.tightness:.3g}, {verdict} ({self.proof})"
        )


@dataclass(frozen=True)
class Curve:
    """Measurements of a bound on one model against its axis, in order: x, measured and promised of equal length."""

    key: str
    instance: str
    axis: str
    x: list[float]
    measured: list[float]
    promised: list[float]


@dataclass(frozen=True)
class Report:
    """What `verify` found. Truthy if every row holds."""

    rows: tuple[Row, ...]
    curves: tuple[Curve, ...]

    @property
    def holds(self) -> bool:
        """Whether every row holds."""
        return all(row.holds for row in self.rows)

    def __bool__(self) -> bool:
        return self.holds

    def to_dict(self) -> dict[str, Any]:
        """The same as nested dictionaries and lists of plain numbers and words, for JSON."""
        rows = [asdict(row) | {"proof_checked": row.proof_checked} for row in self.rows]
        return {"holds": self.holds, "rows": rows, "curves": [asdict(curve) for curve in self.curves]}

    def __str__(self) -> str:
        return "\n".join(map(str, self.rows))


def verify(
    what: Bound | str | Iterable[Bound] | None = None,
    problems: Mapping[str, Problem] | Problem | None = None,
    report: Callable[[Row], None] | None = None,
) -> Report:
    """Measure bounds on models.

    what: a bound, several, a family's or a bound's name, or None for the whole catalogue; see `statements`.
    problems: models by name, or one model; default: those of each bound.
    report: called with each row as it is done, for progress.
    Raises BoundError for a name that there is not, or a bound that cannot be measured on a problem.
    """
    bounds = _bounds(what)
    given = {"model": problems} if isinstance(problems, Problem) else problems
    rows: list[Row] = []
    curves: list[Curve] = []
    known: dict[str, Any] = {}
    for bound in bounds:
        for name, problem in (bound.problems() if given is None else given).items():
            began = time.perf_counter()
            bound.require(problem)
            if problem.fingerprint not in known:
                known[problem.fingerprint] = evidence_of(problem)
            found = [(m.parameters, judge(bound, m)) for m in bound.measure(known[problem.fingerprint])]
            if not found:
                continue
            rows.append(_row(bound, name, problem, found, time.perf_counter() - began))
            curves += _curve(bound, name, found)
            if report is not None:
                report(rows[-1])
    return Report(tuple(rows), tuple(curves))


def _bounds(what: Bound | str | Iterable[Bound] | None) -> Sequence[Bound]:
    if isinstance(what, Bound):
        return (what,)
    return statements(what) if what is None or isinstance(what, str) else tuple(what)


def _row(bound: Bound, name: str, problem: Problem, found: list[tuple[Mapping[str, Any], Judgement]], seconds: float) -> Row:
    broken = [item for item in found if not item[1].holds]
    counted = broken or found
    parameters, tightest = max(counted, key=lambda item: item[1].tightness)
    states, pairs = _size(problem)
    weakest = max((judgement.proof for _, judgement in counted), key=list(Proof).index)
    return Row(
        bound=bound.name,
        key=bound.key,
        family=bound.family,
        source=bound.source,
        sense=bound.sense,
        statement=str(bound.statement),
        latex=bound.latex(),
        instance=name,
        states=states,
        pairs=pairs,
        parameters=dict(parameters),
        measured=tightest.measured,
        promised=tightest.promised,
        tightness=tightest.tightness,
        measurements=len(found),
        holds=not broken,
        proof=str(weakest),
        seconds=seconds,
    )


def _size(problem: Problem) -> tuple[int, int]:
    if isinstance(problem, MDP):
        return problem.n_states, problem.n_pairs
    if isinstance(problem, TokenProblem):
        return problem.n_nodes, problem.n_nodes * problem.vocabulary_size
    return problem.n_responses, problem.n_responses * (problem.n_responses - 1) // 2


def _curve(bound: Bound, name: str, found: list[tuple[Mapping[str, Any], Judgement]]) -> list[Curve]:
    """The measurements that agree with the first in all parameters but the axis."""
    if not bound.axis:
        return []
    rest = {key: value for key, value in found[0][0].items() if key != bound.axis}
    points = [(p[bound.axis], j) for p, j in found if {**p, bound.axis: 0} == {**rest, bound.axis: 0}]
    points.sort(key=lambda point: point[0])
    x, judgements = [float(at) for at, _ in points], [judgement for _, judgement in points]
    return [Curve(bound.key, name, bound.axis, x, [j.measured for j in judgements], [j.promised for j in judgements])]
