"""Methods against a baseline over seeds: means, confidence intervals, paired differences, as plain data.

Every seed runs every method, so that differences are taken seed by seed. Intervals are Student's at 95 %.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scipy.stats import t as student

from ...mdp.storage import atomic_file

Run = Callable[[int], Mapping[str, float]]
"""From a seed to named numbers."""


@dataclass(frozen=True)
class Comparison:
    """What `compare` found.

    title: what was compared. baseline: the method against which differences are taken. command: how to repeat it.
    settings: of the runs. seeds: how many. numbers: method -> measure -> one number a seed.
    """

    title: str
    baseline: str
    command: str
    seeds: int
    numbers: Mapping[str, Mapping[str, Sequence[float]]]
    settings: Mapping[str, Any] = field(default_factory=dict)

    def mean(self, method: str, measure: str) -> tuple[float, float]:
        """Mean and half width of the 95 % interval."""
        return _interval(self.numbers[method][measure])

    def difference(self, method: str, measure: str) -> tuple[float, float]:
        """The same of the method's number less the baseline's, seed by seed."""
        pairs = zip(self.numbers[method][measure], self.numbers[self.baseline][measure], strict=True)
        return _interval([a - b for a, b in pairs])

    def table(self) -> str:
        """Means and half widths as a table in markdown; `*` marks measures that differ from the baseline's beyond the
        interval.
        """
        measures = list(dict.fromkeys(m for row in self.numbers.values() for m in row))
        lines = ["| method | " + " | ".join(measures) + " |", "|---|" + "---:|" * len(measures)]
        for method, row in self.numbers.items():
            cells = []
            for measure in measures:
                if measure not in row:
                    cells.append("")
                    continue
                mean, half = self.mean(method, measure)
                star = ""
                if method != self.baseline and measure in self.numbers[self.baseline]:
                    gap, reach = self.difference(method, measure)
                    star = "*" if abs(gap) > reach else ""
                cells.append(f"{mean:.3f} ± {half:.3f}{star}")
            lines.append(f"| {method} | " + " | ".join(cells) + " |")
        return "\n".join(lines)

    def document(self) -> dict[str, Any]:
        """The same as plain data, for JSON."""
        return {
            "title": self.title,
            "command": self.command,
            "baseline": self.baseline,
            "seeds": self.seeds,
            "settings": dict(self.settings),
            "numbers": {m: {k: [round(x, 6) for x in v] for k, v in row.items()} for m, row in self.numbers.items()},
        }

    def save(self, path: str | Path) -> None:
        """Write as JSON, by a temporary file that is renamed."""
        with atomic_file(str(path)) as temporary:
            temporary.write_text(json.dumps(self.document(), indent=1) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: str | Path) -> Comparison:
        """From a file that `save` wrote."""
        return cls(**json.loads(Path(path).read_text(encoding="utf-8")))


def compare(
    title: str,
    methods: Mapping[str, Run],
    baseline: str,
    seeds: int = 5,
    command: str = "",
    settings: Mapping[str, Any] | None = None,
) -> Comparison:
    """Run every method on seeds 0 ... seeds - 1."""
    numbers: dict[str, dict[str, list[float]]] = {}
    for method, run in methods.items():
        found = [run(seed) for seed in range(seeds)]
        numbers[method] = {measure: [float(row[measure]) for row in found] for measure in found[0]}
    return Comparison(title, baseline, command, seeds, numbers, settings or {})


def _interval(numbers: Sequence[float]) -> tuple[float, float]:
    n = len(numbers)
    mean = math.fsum(numbers) / n
    if n < 2:
        return mean, float("inf")
    spread = math.sqrt(math.fsum((x - mean) ** 2 for x in numbers) / (n - 1))
    return mean, float(student.ppf(0.975, n - 1)) * spread / math.sqrt(n)
