"""The curves of an audit, drawn as SVG text for a page. Ink that follows the page's own colour becomes CSS `currentColor`."""

from __future__ import annotations

import html
import io
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from .finding import Audit, Finding

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK = "#010203"
COLOURS = ("#3579b8", "#cf7f1f", "#3b9467", "#9165b0", "#b0587a")

_STYLE = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 9.5,
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.linewidth": 0.6,
    "axes.labelcolor": INK,
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
    "svg.hashsalt": "banach audit",
}


def pictures(audit: Audit) -> dict[str, tuple[str, str]]:
    """SVG text and caption of each finding that has a curve, by the finding's key."""
    drawn = {}
    for finding in audit.findings:
        if finding.key in _DRAWN and finding.details:
            caption, draw = _DRAWN[finding.key]
            text = _svg(finding, draw)
            if text is not None:
                drawn[finding.key] = (text, caption)
    return drawn


def _svg(finding: Finding, draw: Callable[[Axes, Any], bool]) -> str | None:
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(_STYLE):  # pyright: ignore[reportArgumentType]
        figure = Figure(figsize=(6.4, 3.3), layout="constrained")
        if not draw(figure.add_subplot(), finding.details):
            return None
        text = io.StringIO()
        nothing: Any = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(text, format="svg", transparent=True, metadata=nothing)
    found = text.getvalue()
    found = re.sub(r"<metadata>.*?</metadata>", "", found[found.index("<svg") :].replace(INK, "currentColor"), flags=re.DOTALL)
    found = re.sub(r'(\sid="|xlink:href="#|url\(#)', rf"\g<1>{finding.key}-", found)
    return found.replace("<svg ", f'<svg role="img" aria-label="{html.escape(finding.title)}" ', 1)


def _prompt_weight(axes: Axes, details: Any) -> bool:
    if "p" not in details:
        return False
    p = np.asarray(details["p"])
    for (size, weight), colour in zip(details["weight"].items(), COLOURS, strict=False):
        middle = weight[len(p) // 2]
        axes.plot(p, np.asarray(weight) / (middle or 1.0), color=colour, label=f"groups of {size}")
    axes.plot(p, 0.5 / np.sqrt(p * (1 - p)), ":", color=INK, linewidth=0.9, label="2 arcsin sqrt p")
    axes.axhline(1, linestyle="--", color=INK, linewidth=0.9, label="J")
    axes.set_ylim(min(0.0, axes.get_ylim()[0]), 4)
    axes.set_xlabel("success rate of the prompt")
    axes.set_ylabel("weight, 1 at one half")
    axes.legend(ncols=2)
    return True


def _response(axes: Axes, details: Any) -> bool:
    ratio = np.asarray(details["ratio"])
    for (name, curve), colour, line in zip(details["curves"].items(), ("#3579b8",) * 2 + ("#cf7f1f",) * 2, "-:-:", strict=True):
        unit = details["on_policy"][name.split(",")[0]]
        if unit:
            axes.plot(
                ratio, np.asarray(curve) / abs(unit), line, color=colour, label=f"{name} answer" if "," not in name else name
            )
    axes.axvline(1, color=INK, linewidth=0.6)
    axes.set_xscale("log")
    axes.set_ylim(-4, 4)
    axes.set_xlabel("ratio of the policy to the sampler")
    axes.set_ylabel("weight, over that at ratio 1")
    axes.legend()
    return True


def _length(axes: Axes, details: Any) -> bool:
    if "length" not in details:
        return False
    for name, colour in (("right", COLOURS[0]), ("wrong", COLOURS[1])):
        axes.plot(
            details["length"], np.abs(details[f"weight_{name}"]), "o-", color=colour, markersize=4, label=f"{name} answer"
        )
    axes.set_ylim(bottom=0)
    axes.set_xlabel("tokens of the answer")
    axes.set_ylabel("|weight| of each token")
    axes.legend()
    return True


def _scalar(axes: Axes, details: Any) -> bool:
    ranked = [(name, entry["residual"]) for name, entry in details.items() if "residual" in entry][:7][::-1]
    if not ranked:
        return False
    names = [name if len(name) < 48 else name[:45] + "..." for name, _ in ranked]
    axes.barh(names, [max(residual, 1e-16) for _, residual in ranked], color=COLOURS[0], height=0.6)
    axes.set_xscale("log")
    axes.set_xlim(1e-16, 1.5)
    axes.set_xlabel("share of the field that the candidate leaves unexplained")
    axes.tick_params(axis="y", length=0, labelsize=8)
    return True


def _divergence(axes: Axes, details: Any) -> bool:
    return _scalar(axes, details["all"]) if "all" in details else False


def _variance(axes: Axes, details: Any) -> bool:
    names = list(details["noise"])[::-1]
    axes.barh(names, [details["noise"][name] for name in names], color=COLOURS[2], height=0.5)
    axes.set_xlabel("tr Cov / |mean|^2 of one group's gradient")
    axes.tick_params(axis="y", length=0)
    return True


def _off_policy(axes: Axes, details: Any) -> bool:
    rows = [{"staleness": 0.0, "cosine": details["on_policy"]["cosine"]}, *details["staleness"]]
    axes.plot([row["staleness"] for row in rows], [row["cosine"] for row in rows], "o-", color=COLOURS[0])
    axes.set_ylim(min(0.0, *(row["cosine"] for row in rows)) - 0.05, 1.05)
    axes.set_xlabel("size of the change of logits since the answers were drawn")
    axes.set_ylabel("cosine to grad J")
    return True


def _margin(axes: Axes, details: Any) -> bool:
    axes.plot(details["margin"], details["slope"], color=COLOURS[0])
    axes.axhline(0, color=INK, linewidth=0.6)
    axes.set_xlabel("margin between chosen and rejected, nats")
    axes.set_ylabel("slope of the loss in the chosen response")
    return True


def _noise(axes: Axes, details: Any) -> bool:
    margin = np.asarray(details["margin"], dtype=float)
    at = np.isfinite(margin)
    axes.plot(np.asarray(details["probability"])[at], margin[at], "o-", color=COLOURS[0])
    axes.set_xlabel("probability that the first is preferred")
    axes.set_ylabel("optimal margin, nats")
    return bool(at.any())


def _optimum(axes: Axes, details: Any) -> bool:
    if "policy" not in details:
        return False
    bars = [("reference", details["reference"]), ("minimiser", details["policy"])]
    bars += [("closed form", details["closed_form"])] if "closed_form" in details else []
    at = np.arange(len(details["policy"]))
    for k, (name, values) in enumerate(bars):
        axes.bar(at + 0.27 * k, values, 0.25, color=COLOURS[k], label=name)
    axes.set_xticks(at + 0.27, [f"response {k + 1}" for k in at])
    axes.set_ylabel("probability")
    axes.legend()
    return True


_DRAWN: dict[str, tuple[str, Callable[[Axes, Any], bool]]] = {
    "scalar": ("How much of the expected gradient each known scalar leaves unexplained.", _scalar),
    "prompt_weight": (
        "The weight that the loss gives a prompt, by its success rate: F' of the scalar it ascends.",
        _prompt_weight,
    ),
    "variance": ("Noise of one group's gradient beside two plain estimators.", _variance),
    "length": ("The weight of each token by the length of its answer.", _length),
    "divergence": ("How much of the reference term each known divergence leaves unexplained.", _divergence),
    "off_policy": ("The expected gradient as the sampler grows stale.", _off_policy),
    "response": ("The weight of a token by its ratio; dotted, with its whole answer at that ratio.", _response),
    "margin": ("The push on the chosen response by its margin.", _margin),
    "noise": ("The optimal margin of two responses by how sure the preference is.", _noise),
    "optimum": ("What the loss asks for on the population.", _optimum),
}
