"""The pictures of the report: each function draws on matplotlib `Axes`; `svg` makes a figure into text for a page.

Ink that should follow the page's own colour, light or dark, is drawn in INK, which `svg` turns into CSS `currentColor`.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK = "#010203"
GOOD, BAD, SECOND, THIRD = "#3f7fbf", "#d1495b", "#d9902f", "#4f9d69"

_STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "banach",
    "font.family": "sans-serif",
    "font.size": 10,
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "legend.frameon": False,
    "grid.color": INK,
    "grid.alpha": 0.12,
    "axes.grid": True,
    "axes.axisbelow": True,
}


def svg(draw: Callable[[Axes], None], width: float = 8.5, height: float = 4.0) -> str:
    """The picture that `draw` makes on one `Axes`, `width` by `height` inches, as an inline <svg> element."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(_STYLE):  # pyright: ignore[reportArgumentType]
        figure = Figure(figsize=(width, height), layout="constrained")
        draw(figure.add_subplot())
        text = io.StringIO()
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(text, format="svg", transparent=True, metadata=nothing)  # pyright: ignore[reportArgumentType]
    drawing = text.getvalue()
    drawing = drawing[drawing.index("<svg") :].replace(INK, "currentColor")
    return re.sub(r"<metadata>.*?</metadata>", "", drawing, flags=re.DOTALL)


def tightness(axes: Axes, rows: Sequence[dict[str, Any]]) -> None:
    """One line a statement, one dot an instance, at measured over promised: 1 is a bound that is attained.

    rows: the rows of the verification document, see `banach.cli.verify`.
    """
    names = list(dict.fromkeys(row["statement"] for row in rows))[::-1]
    for row in rows:
        if row["tightness"] is None or not math.isfinite(row["tightness"]):
            continue
        colour = GOOD if row["holds"] else BAD
        axes.plot(
            row["tightness"], names.index(row["statement"]), "o", color=colour, alpha=0.75, markersize=6, markeredgewidth=0
        )
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(-0.6, len(names) - 0.4)
    axes.set_xlim(-0.02, 1.05)
    axes.axvline(1, color=INK, linewidth=1)
    axes.set_xlabel("measured / promised (1: attained)")
