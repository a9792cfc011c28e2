r"""Family "exact": values that somebody published, or that are known in closed form, held against certified brackets.

Each instance with an exact answer is solved to a relative 1e-6 where rounding allows, its certificate is checked in exact
arithmetic, and the statement holds when the bracket, widened by half a unit of the last printed digit, contains the answer.
A further 1e-12 of the answer is granted, because answers speak of decimals like 0.7 and models of the floats next to them.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from ..bounds.verify import Row
from ..mdp.instances.catalogue import CATALOGUE
from ..mdp.instances.instance import Instance, Number
from ..mdp.model import MDP
from ..solvers.check import check
from ..solvers.errors import NotConverged
from ..solvers.solution import Solution
from ..solvers.solve import solve
from .start import at_the_start

FAMILY = "exact"
STATEMENT: dict[str, Any] = {
    "key": "published-value",
    "name": "the value that was published",
    "family": FAMILY,
    "latex": r"\mu v^* = x",
    "source": "each instance's own",
    "assumes": "the model is the one that its source describes",
    "symbols": [
        {"latex": r"\mu v^*", "meaning": "optimal value at the initial distribution; the gain, for average reward"},
        {"latex": "x", "meaning": "what was printed, to half a unit of its last digit, or the closed form"},
    ],
}
EPS = 1e-6
DECIMALS = Fraction(1, 10**12)

_LONG: Mapping[str, Callable[[Mapping[str, Any]], bool]] = {
    "consensus_coin": lambda parameters: parameters["processes"] > 4,
    "lost_sales": lambda parameters: parameters["lead"] > 3,
}
"""Members with up to a million states, which take minutes."""


@dataclass(frozen=True)
class Answer:
    """One number to be reproduced. tolerance: >= 0, half a unit of the last printed digit; zero for an exact number."""

    instance: Instance
    parameters: Mapping[str, Any]
    value: Number
    tolerance: float
    source: str

    @property
    def spelling(self) -> str:
        """The instance and the parameters that differ from its defaults, as `banach solve` takes them."""
        told = [f"{name}={value}" for name, value in self.parameters.items() if value != self.instance.defaults[name]]
        return ":".join(filter(None, (self.instance.name, ",".join(told))))


def answers(long: bool = False) -> list[Answer]:
    """Every answer of the catalogue, an exact one before a printed one of the same instance; the long ones on demand."""
    found: dict[str, Answer] = {}
    for instance in CATALOGUE.values():
        exact = instance.answer(**instance.small)
        known = [] if exact is None else [Answer(instance, instance.small, exact, 0.0, instance.source)]
        known += [Answer(instance, p.parameters, p.value, p.tolerance, p.source) for p in instance.published]
        is_long = _LONG.get(instance.name, lambda _: False)
        for answer in known:
            if long or not is_long({**instance.defaults, **answer.parameters}):
                found.setdefault(answer.spelling, answer)
    return list(found.values())


def rows(wanted: Iterable[Answer]) -> Iterator[Row]:
    """Solve, check and compare each answer. Raises what `solve` and `check` raise."""
    for answer in wanted:
        began = time.perf_counter()
        model = answer.instance.make(**answer.parameters)
        solution = _solved(model, EPS * abs(float(answer.value)) or EPS)
        verdict = check(model, solution.certificate)
        lower, upper = at_the_start(model, solution.certificate) or (-math.inf, math.inf)
        exact = Fraction(answer.value)
        slack = Fraction(answer.tolerance) + DECIMALS * abs(exact)
        measured, promised = (lower + upper) / 2, float(answer.value)
        yield Row(
            bound=STATEMENT["name"],
            key=STATEMENT["key"],
            family=FAMILY,
            source=answer.source,
            sense="equal to",
            statement=str(answer.value),
            latex=_latex(answer),
            instance=answer.spelling,
            states=model.n_states,
            pairs=model.n_pairs,
            parameters={
                "lower": lower,
                "upper": upper,
                "tolerance": answer.tolerance,
                "allowed": (upper - lower) / 2 + float(slack),
            },
            measured=measured,
            promised=promised,
            tightness=max(measured / promised, promised / measured) if measured * promised > 0 else math.inf,
            measurements=1,
            holds=Fraction(lower) - slack <= exact <= Fraction(upper) + slack,
            proof=f"certificate, {verdict.rows} inequalities",
            seconds=time.perf_counter() - began,
        )


def _solved(model: MDP, eps: float) -> Solution:
    """The solution to eps, or to twice what rounding allows where that is more."""
    try:
        return solve(model, eps=eps)
    except NotConverged as fault:
        return solve(model, eps=2 * fault.reached)


def _latex(answer: Answer) -> str:
    value = answer.value
    if answer.tolerance == 0 and isinstance(value, Fraction) and value.denominator != 1:
        return rf"v^* = \frac{{{value.numerator}}}{{{value.denominator}}}"
    return f"v^* = {value}" + (rf" \pm {answer.tolerance:g}" if answer.tolerance else "")
