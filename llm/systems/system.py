"""What the catalogue says of a published system, and the shelf on which its entries stand.

An entry joins five things that are usually apart: who published what; what the objective optimizes, found out here; to which
other objective it reduces at which setting, each statement executed by the tests; what was published and what we measured;
and what of the published claims does not hold as it stands, each with its counter-example among the tests.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from ..errors import SpecError
from ..objective import ObjectiveSpec
from ..preference_spec import PreferenceSpec

if TYPE_CHECKING:
    from ..testbeds.comparison import Comparison

RESULTS = Path(__file__).parent / "results"

CONDITIONS = (
    "one group",
    "equal lengths",
    "on the policy",
    "one token",
    "binary rewards",
    "one turn",
    "whole windows",
    "no call",
    "last rounds",
    "cheapest mode",
    "singleton bundles",
    "first iterate",
    "hard labels",
    "rewards a half apart",
)
"""What may be asked of a batch before a reduction holds; "first iterate": of pairs, the previous policy is the reference;
"rewards a half apart": of pairs, R(chosen) - R(rejected) = 1/2.
"""


@dataclass(frozen=True)
class Reduction:
    """A statement that at some setting the objective is another one: equal score weights, up to a factor, on every batch.

    at: the setting in words. to: the other objective's name. ours, theirs: the two specs, of one kind. when: conditions on the
    batch, of `CONDITIONS`; none means every batch. factor: our weights over theirs. Raises SpecError for a condition that is
    not known, and for specs of two kinds.
    """

    at: str
    to: str
    ours: ObjectiveSpec | PreferenceSpec
    theirs: ObjectiveSpec | PreferenceSpec
    when: tuple[str, ...] = ()
    factor: float = 1.0

    def __post_init__(self) -> None:
        for condition in self.when:
            if condition not in CONDITIONS:
                raise SpecError(f"no condition is called {condition!r}; there are {', '.join(CONDITIONS)}")
        if type(self.ours) is not type(self.theirs):
            raise SpecError(f"{self.ours.name} and {self.theirs.name} score batches of two kinds; compare specs of one kind")

    def __str__(self) -> str:
        times = "" if self.factor == 1 else f"{self.factor:g} times "
        where = f", on batches with {' and '.join(self.when)}" if self.when else ""
        return f"{self.at}: {times}{self.to}{where}"


@dataclass(frozen=True, eq=False)
class System:
    """An entry.

    name: short, lower case with hyphens. title, authors, year, arxiv: of the publication. summary: what it adds, in a sentence.
    optimizes: what it optimizes, by our audit. objective: its name in `OBJECTIVES` or `PREFERENCES`, None where it is more than
    one objective. parts: the public names of `banach.llm` or `banach.solvers` that make it. reductions: see `Reduction`.
    findings: what of the claims does not hold as printed. published: numbers as printed. measured: what our experiment showed,
    in words. bounds: names of statements in `banach.bounds` that measure its theory. experiment: a function () -> Comparison
    that repeats the measurement.
    """

    name: str
    title: str
    authors: str
    year: int
    arxiv: str
    summary: str
    optimizes: str
    objective: str | None
    parts: tuple[str, ...]
    reductions: tuple[Reduction, ...] = ()
    findings: tuple[str, ...] = ()
    published: tuple[str, ...] = ()
    measured: str = ""
    bounds: tuple[str, ...] = ()
    experiment: Callable[[], Comparison] | None = None

    def results(self) -> Comparison | None:
        """The committed numbers of the experiment, None where there are none."""
        from ..testbeds.comparison import Comparison

        path = RESULTS / f"{self.name}.json"
        return Comparison.load(path) if path.exists() else None

    def document(self) -> dict[str, Any]:
        """The entry as plain data, for JSON."""
        results = self.results()
        return {
            "name": self.name,
            "title": self.title,
            "authors": self.authors,
            "year": self.year,
            "arxiv": self.arxiv,
            "summary": self.summary,
            "optimizes": self.optimizes,
            "objective": self.objective,
            "parts": list(self.parts),
            "reductions": [str(reduction) for reduction in self.reductions],
            "findings": list(self.findings),
            "published": list(self.published),
            "measured": self.measured,
            "bounds": list(self.bounds),
            "results": None if results is None else results.document(),
        }


_SHELF: dict[str, System] = {}

SYSTEMS: Mapping[str, System] = MappingProxyType(_SHELF)
"""Every entry by its name."""


def add(entry: System) -> System:
    """Puts an entry on the shelf. Raises SpecError if its name is taken."""
    if entry.name in _SHELF:
        raise SpecError(f"a system called {entry.name!r} is in the catalogue already; choose another name")
    _SHELF[entry.name] = entry
    return entry


def system(name: str) -> System:
    """The entry of that name. Raises SpecError for a name that there is not."""
    if name not in _SHELF:
        raise SpecError(f"no system is called {name!r}; there are {', '.join(_SHELF)}")
    return _SHELF[name]
