"""The pictures of the report: each function draws on matplotlib `Axes`; `svg` makes a drawing into text for a page.

Ink that should follow the page's own colour, light or dark, is drawn in INK, which `svg` turns into CSS `currentColor`.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable, Mapping, Sequence
from itertools import count
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK = "#010203"
BAD = "#c8374f"
COLOURS = ("#3579b8", "#cf7f1f", "#3b9467", "#9165b0", "#b0587a")
"""Readable on white and on near-black."""

BY_PROOF = {
    "exact rationals": COLOURS[0],
    "certified brackets": COLOURS[2],
    "within rounding": COLOURS[1],
}

_STYLE = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.labelsize": 9.5,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.linewidth": 0.6,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "grid.color": INK,
    "grid.alpha": 0.14,
    "grid.linewidth": 0.5,
    "axes.grid": True,
    "axes.axisbelow": True,
}

_number = count()


def svg(draw: Callable[[Axes], None], width: float = 8.5, height: float = 4.0, title: str = "") -> str:
    """The picture that `draw` makes on one `Axes`, `width` by `height` inches, as an <svg> element that `title` describes."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(_STYLE | {"svg.hashsalt": f"banach-{next(_number)}"}):  # pyright: ignore[reportArgumentType]
        figure = Figure(figsize=(width, height), layout="constrained")
        draw(figure.add_subplot())
        return _text(figure, title)


def formula(latex: str, size: float = 13.0) -> str | None:
    """A formula as an <svg> element, or None where matplotlib's mathtext cannot set it."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    style = {"svg.fonttype": "path", "mathtext.fontset": "cm", "svg.hashsalt": f"banach-{next(_number)}"}
    with mpl.rc_context(style):  # pyright: ignore[reportArgumentType]
        figure = Figure(figsize=(1, 1))
        figure.text(0, 0, f"${_for_mathtext(latex)}$", fontsize=size, color=INK)
        try:
            return _text(figure, latex, bbox_inches="tight", pad_inches=0.02)
        except ValueError:
            return None


def _for_mathtext(latex: str) -> str:
    """LaTeX as mathtext knows it: long names of relations, large fractions, brackets that grow only where they must."""
    latex = re.sub(r"\\(le|ge)(?![a-z])", r"\\\1q", latex).replace(r"\frac", r"\dfrac")
    return re.sub(r"\\left\(((?:(?!\\left|\\right|\\dfrac).)*)\\right\)", r"(\1)", latex)


def _text(figure: Figure, title: str, **how: Any) -> str:
    text = io.StringIO()
    nothing: Any = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    figure.savefig(text, format="svg", transparent=True, metadata=nothing, **how)
    drawing = text.getvalue()
    drawing = drawing[drawing.index("<svg") :].replace(INK, "currentColor")
    drawing = re.sub(r"<metadata>.*?</metadata>", "", drawing, flags=re.DOTALL)
    escaped = title.replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;")
    return drawing.replace("<svg ", f'<svg role="img" aria-label="{escaped}" ', 1)


def tightness(axes: Axes, rows: Sequence[Mapping[str, Any]]) -> None:
    """One line a statement, one dot a model, at measured over promised: 1 is a bound that is attained."""
    names = list(dict.fromkeys(row["bound"] for row in rows))[::-1]
    for row in rows:
        if not math.isfinite(row["tightness"]):
            continue
        colour = BY_PROOF.get(row["proof"], COLOURS[0]) if row["holds"] else BAD
        at = min(row["tightness"], 1.08)
        axes.plot(at, names.index(row["bound"]), "o", color=colour, alpha=0.6, markersize=6.5, markeredgewidth=0)
    for proof, colour in BY_PROOF.items():
        axes.plot([], [], "o", color=colour, markersize=6.5, markeredgewidth=0, label=proof)
    axes.set_yticks(range(len(names)), names)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.set_ylim(-0.7, len(names) - 0.3)
    axes.set_xlim(-0.02, 1.1)
    axes.axvline(1, color=INK, linewidth=1)
    axes.set_xlabel("tightness: the share of the promise that is used; at 1 the bound is attained")
    axes.legend(loc="lower center", bbox_to_anchor=(0.4, 1.0), ncols=3)


def curves(axes: Axes, found: Sequence[Mapping[str, Any]]) -> None:
    """Measured as dots and lines, promised as a dashed line of the same colour, against the curves' common axis."""
    for curve, colour in zip(found, COLOURS, strict=False):
        axes.plot(curve["x"], curve["promised"], "--", color=colour, linewidth=1.1)
        axes.plot(curve["x"], curve["measured"], "o-", color=colour, markersize=3.5, linewidth=1.5, label=curve["instance"])
    numbers = [number for curve in found for number in (*curve["measured"], *curve["promised"])]
    if min(numbers) > 0 and max(numbers) > 30 * min(numbers):
        axes.set_yscale("log")
    axes.set_xlabel(found[0]["axis"])
    axes.figure.legend(loc="outside lower left")


def agreement(axes: Axes, rows: Sequence[Mapping[str, Any]]) -> None:
    """Relative difference of each published answer from the certified one, beside what its digits and the bracket allow.

    rows: of family "exact".
    """
    floor = 1e-16
    for row, size in ((row, abs(row["promised"])) for row in rows):
        found = abs(row["measured"] - row["promised"])
        colour = BAD if not row["holds"] else COLOURS[0] if row["parameters"]["tolerance"] else COLOURS[2]
        at = row["parameters"]["allowed"] / size, max(found / size, floor)
        axes.plot(*at, "o", color=colour, alpha=0.65, markeredgewidth=0)
    low, left, high = floor / 3, 2e-13, 1e-1
    axes.plot([low, high], [low, high], color=INK, linewidth=1)
    axes.fill_between([low, high], [low, high], high, color=BAD, alpha=0.07, linewidth=0)
    axes.text(1e-9, 3e-6, "disagreement", color=BAD, fontsize=10)
    axes.plot([], [], "o", color=COLOURS[2], label="exact answer")
    axes.plot([], [], "o", color=COLOURS[0], label="printed to some digits")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlim(left, high)
    axes.set_ylim(low, high)
    axes.set_xlabel("allowed: half the bracket, half the last printed digit, and 1e-12; relative")
    axes.set_ylabel("found difference, relative")
    axes.legend(loc="upper left")
