r"""Searching for a model that breaks a bound, or comes nearest to it.

1. hypothesis draws models and climbs on the tightness (`hypothesis.target`), from a fixed seed;
2. from the best of them a local search changes probabilities, rewards, discount and actions, keeping what does not lower the
   tightness;
3. what was found is shrunk: fewer states, actions and successors, simpler numbers, as long as it still breaks the bound (or
   is as tight).

A bound counts as broken only when it is refuted beyond all numerical error: in exact rationals, or by certified brackets that
do not touch (see `banach.bounds.judgement`). The same seed finds the same model.

Targeted search: Loescher and Sagonas, ISSTA 2017; shrinking: MacIver and Donaldson, ECOOP 2020.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..mdp.errors import BanachError, ModelError
from ..mdp.preference import PreferenceGame
from ..mdp.token import TokenProblem
from .bound import Bound, Problem
from .draft import Draft
from .errors import BoundError
from .evidence import evidence_of
from .judgement import Judgement, judge
from .preference_draft import PreferenceDraft
from .token_draft import TokenDraft

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

_DRAWN = 0.4
"""Share of the budget that hypothesis may spend."""

_RESTARTS = 4
"""Best drawn models from which the local search climbs, in turn."""


@dataclass(frozen=True)
class Falsification:
    """What a search found. Truthy if the bound is broken.

    bound: what was searched. broken: whether `instance` refutes it beyond numerical error. instance: the model, or None when no
    model could be measured. parameters, measured, promised, tightness, proof: of its tightest measurement. models: how many
    were measured. seconds: time taken.
    """

    bound: Bound
    broken: bool
    instance: Problem | None
    parameters: dict[str, int | float | str]
    measured: float
    promised: float
    tightness: float
    proof: str
    models: int
    seconds: float

    def __bool__(self) -> bool:
        return self.broken

    def to_dict(self) -> dict[str, Any]:
        """The same as plain numbers and words, the model as text, for JSON."""
        return {
            "bound": self.bound.name,
            "key": self.bound.key,
            "broken": self.broken,
            "instance": None if self.instance is None else str(_draft_of(self.instance)),
            "parameters": dict(self.parameters),
            "measured": self.measured,
            "promised": self.promised,
            "tightness": self.tightness,
            "proof": self.proof,
            "models": self.models,
            "seconds": self.seconds,
        }

    def __str__(self) -> str:
        if self.instance is None:
            return f"{self.bound.name}: none of {self.models} models could be measured"
        verdict = "BROKEN" if self.broken else f"not broken by {self.models} models, tightest"
        found = f"measured {self.measured:.6g}, {self.bound.sense} {self.promised:.6g}, tightness {self.tightness:.4g}"
        where = "".join(f", {name} = {value}" for name, value in self.parameters.items())
        return f"{self.bound.name}: {verdict}: {found} ({self.proof}){where}\n{_draft_of(self.instance)}"


@dataclass(frozen=True)
class _Finding:
    draft: Draft | PreferenceDraft | TokenDraft
    parameters: dict[str, int | float | str]
    judgement: Judgement

    @property
    def key(self) -> tuple[bool, float]:
        return self.judgement.refutes, self.judgement.tightness


def _draft_of(model: Problem) -> Draft | PreferenceDraft | TokenDraft:
    if isinstance(model, TokenProblem):
        return TokenDraft.of(model)
    return PreferenceDraft.of(model) if isinstance(model, PreferenceGame) else Draft.of(model)


class _Refuted(Exception):  # noqa: N818 - the search has what it wants
    """Ends hypothesis's run."""


class _Search:
    """Measures models, counts them, and keeps the best found."""

    def __init__(self, bound: Bound, budget: int, report: Callable[[int, float], None] | None) -> None:
        self.bound, self.budget, self.report = bound, budget, report
        self.models = 0
        self.best: list[_Finding] = []

    @property
    def refuted(self) -> bool:
        return bool(self.best) and self.best[0].judgement.refutes

    def measure(self, draft: Draft | PreferenceDraft | TokenDraft) -> _Finding | None:
        """The tightest measurement on a model; None where there is none, or the model is none."""
        self.models += 1
        try:
            measurements = list(self.bound.measure(evidence_of(draft.model())))
        except (ModelError, BanachError):
            return None
        found = [_Finding(draft, dict(m.parameters), judge(self.bound, m)) for m in measurements]
        return max(found, key=lambda finding: finding.key, default=None)

    def look(self, draft: Draft | PreferenceDraft | TokenDraft) -> _Finding | None:
        """Measure, remember if it is among the best, larger models first among equals, report."""
        finding = self.measure(draft)
        if finding is not None:
            self.best = sorted([*self.best, finding], key=lambda f: (f.key, f.draft.size), reverse=True)[:_RESTARTS]
        if self.report is not None:
            self.report(self.models, self.best[0].judgement.tightness if self.best else 0.0)
        return finding


def falsify(
    bound: Bound,
    strategy: SearchStrategy[Any] | None = None,
    budget: int = 2_000,
    seed: int = 0,
    report: Callable[[int, float], None] | None = None,
) -> Falsification:
    """Search for a model that breaks the bound.

    strategy: of the models to begin with; default: the bound's own. budget: >= 1, models to measure before shrinking, which may
    measure as many again. seed: the same one finds the same model.
    report: called with (models measured, best tightness) for progress.
    Raises BoundError for an impossible budget.
    """
    if isinstance(budget, bool) or not isinstance(budget, int) or budget < 1:
        raise BoundError(f"budget is {budget!r}; it must be a whole number >= 1, of models to measure")
    began = time.perf_counter()
    search = _Search(bound, budget, report)
    _draw(search, bound.drawn() if strategy is None else strategy, seed)
    _climb(search, np.random.default_rng(seed))
    if not search.best:
        return Falsification(bound, False, None, {}, 0.0, 0.0, 0.0, "", search.models, time.perf_counter() - began)
    found = _shrink(search, search.best[0])
    judgement = found.judgement
    return Falsification(
        bound=bound,
        broken=judgement.refutes,
        instance=found.draft.model(),
        parameters=found.parameters,
        measured=judgement.measured,
        promised=judgement.promised,
        tightness=judgement.tightness,
        proof=str(judgement.proof),
        models=search.models,
        seconds=time.perf_counter() - began,
    )


def _draw(search: _Search, strategy: SearchStrategy[Any], seed: int) -> None:
    """Models that hypothesis draws and steers."""
    import hypothesis
    from hypothesis import HealthCheck, Phase, Verbosity

    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=max(1, int(_DRAWN * search.budget)),
        phases=(Phase.generate, Phase.target),
        database=None,
        deadline=None,
        verbosity=Verbosity.quiet,
        suppress_health_check=list(HealthCheck),  # pyright: ignore[reportArgumentType]
    )
    @hypothesis.given(strategy)
    def look(model: Problem) -> None:
        finding = search.look(_draft_of(model))
        if finding is None:
            return
        if finding.judgement.refutes:
            raise _Refuted
        hypothesis.target(min(finding.judgement.tightness, 1e9))

    try:
        look()
    except _Refuted:
        return


def _climb(search: _Search, rng: np.random.Generator) -> None:
    """Local search from the best models in turn, each with its share of what is left of the budget."""
    starts = list(search.best)
    for left, finding in zip(range(len(starts), 0, -1), starts, strict=True):
        here, until = finding, search.models + (search.budget - search.models) // left
        while search.models < until and not search.refuted:
            there = search.look(here.draft.changed(rng))
            if there is not None and there.key >= here.key:
                here = there


def _shrink(search: _Search, found: _Finding) -> _Finding:
    """The simplest model that can be reached and still breaks the bound, or is as tight."""
    enough = found.judgement.tightness * (1 - 1e-9)
    until = search.models + search.budget
    smaller: _Finding | None = found
    while smaller is not None:
        found, smaller = smaller, None
        for draft in found.draft.simpler():
            if search.models >= until or draft.size >= found.draft.size:
                continue
            candidate = search.measure(draft)
            if candidate is None:
                continue
            keeps = candidate.judgement.refutes if found.judgement.refutes else candidate.judgement.tightness >= enough
            if keeps:
                smaller = candidate
                break
    return found
