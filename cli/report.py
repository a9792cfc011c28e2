"""The report of `banach verify`: one HTML page that needs no other file, readable on white and on black."""

from __future__ import annotations

import datetime
import html
import math
import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from . import figures
from .verify import SENSES

Row = Mapping[str, Any]

_MANY_CURVES = 4

_STYLE = """
:root { color-scheme: light dark; --ink: #1d232b; --soft: #5b6673; --line: #d9dee4; --page: #fbfbfa; --card: #ffffff;
  --good: #23744b; --good-soft: #e2f2e9; --bad: #b3263e; --bad-soft: #fae3e6; --code: #f1f3f5; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e7ea; --soft: #9aa5b1; --line: #343b44; --page: #14171b;
  --card: #1b1f25; --good: #79cfa0; --good-soft: #1d3a2b; --bad: #f08b9b; --bad-soft: #46222a; --code: #262b32; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); font: 15.5px/1.55 system-ui, "Segoe UI", sans-serif; }
main { max-width: 1080px; margin: 0 auto; padding: 40px 24px 80px; }
h1 { font-size: 30px; letter-spacing: -0.01em; margin: 0 0 6px; }
h2 { font-size: 21px; margin: 56px 0 12px; padding-top: 18px; border-top: 1px solid var(--line); }
h3 { font-size: 16.5px; margin: 0; }
p { max-width: 75ch; }
.soft, .soft a { color: var(--soft); }
.verdict { display: inline-block; padding: 6px 14px; border-radius: 8px; font-weight: 600; margin: 14px 0 4px; }
.good { color: var(--good); background: var(--good-soft); }
.bad { color: var(--bad); background: var(--bad-soft); }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: 12px; margin: 22px 0; }
.tile { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 14px 16px; }
.tile b { display: block; font-size: 26px; font-weight: 650; letter-spacing: -0.02em; font-variant-numeric: tabular-nums; }
.tile span { color: var(--soft); font-size: 13.5px; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 18px 20px; margin: 16px 0; }
.card > header { display: flex; justify-content: space-between; gap: 16px; align-items: baseline; }
.card dl { display: grid; grid-template-columns: max-content 1fr; gap: 2px 12px; margin: 10px 0; font-size: 14px; }
.card dt { color: var(--soft); } .card dd { margin: 0; }
.formula { margin: 14px 0 12px; overflow-x: auto; } .formula svg { height: auto; max-width: 100%; vertical-align: middle; }
.two { display: grid; grid-template-columns: minmax(0, 5fr) minmax(0, 6fr); gap: 24px; align-items: start; }
.two figure { margin: 8px 0 0; } @media (max-width: 800px) { .two { display: block; } }
dd svg { vertical-align: -2px; }
.badge { font-size: 12.5px; font-weight: 600; padding: 2px 9px; border-radius: 20px; white-space: nowrap; }
figure { margin: 18px 0; overflow-x: auto; } figure svg { max-width: 100%; height: auto; font-family: inherit; }
figcaption { color: var(--soft); font-size: 13.5px; max-width: 85ch; margin-top: 4px; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: 13.5px; font-variant-numeric: tabular-nums; }
th { text-align: left; color: var(--soft); font-weight: 600; } th, td { padding: 5px 12px 5px 0; vertical-align: top; }
tr { border-bottom: 1px solid var(--line); } td.n, th.n { text-align: right; white-space: nowrap; }
td.sense { padding: 5px 12px 5px 0; color: var(--soft); }
summary { cursor: pointer; color: var(--soft); font-size: 14px; margin-top: 8px; }
code, pre { font: 13px/1.5 ui-monospace, "Cascadia Mono", Menlo, monospace; background: var(--code); border-radius: 6px; }
code { padding: 1px 5px; } td code { background: none; padding: 0; }
pre { padding: 12px 14px; overflow-x: auto; }
a { color: inherit; }
.bar { display: inline-block; width: 70px; height: 7px; border-radius: 4px; background: var(--code); margin-right: 8px; }
.bar i { display: block; height: 100%; border-radius: 4px; background: #3579b8; }
"""


def page(document: Mapping[str, Any]) -> str:
    """The whole page. document: what `banach verify --json` prints, see `banach.cli.verify`."""
    rows = document["rows"]
    measured = [row for row in rows if row["family"] != "exact"]
    published = [row for row in rows if row["family"] == "exact"]
    body = [_head(document, measured, published)]
    if measured:
        body += [_overview(document, measured), *_families(document, measured)]
    if published:
        body.append(_published(published))
    if document["falsified"]:
        body.append(_falsified(document))
    body.append(_foot(document))
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>banach verify</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(body)
        + "\n</main>\n</body>\n</html>\n"
    )


def _head(document: Mapping[str, Any], measured: Sequence[Row], published: Sequence[Row]) -> str:
    tiles = []
    if measured:
        tiles += [
            (len({row["key"] for row in measured}), "statements"),
            (len({row["instance"] for row in measured}), "models"),
            (sum(row["measurements"] for row in measured), "comparisons"),
        ]
    if published:
        tiles.append((sum(row["holds"] for row in published), f"of {len(published)} published answers reproduced"))
    if document["falsified"]:
        found = document["falsified"]
        tiles.append((sum(item["broken"] for item in found), f"of {len(found)} false statements broken"))
    tiles.append((f"{document['seconds']:.0f} s", "on this machine"))
    shown = "".join(f'<div class="tile"><b>{number}</b><span>{_e(what)}</span></div>' for number, what in tiles)
    verdict = "Everything holds" if document["holds"] else "Not everything is as it should be"
    return (
        "<h1>banach verify</h1>\n"
        '<p class="soft">Theorems about decision problems, each measured on models and held against its promise; published '
        "answers, each solved again with a certificate that was checked in exact arithmetic; and false statements, each with "
        "the smallest model that breaks it.</p>\n"
        f'<div class="verdict {"good" if document["holds"] else "bad"}">{verdict}</div>\n'
        f'<div class="tiles">{shown}</div>'
    )


def _overview(document: Mapping[str, Any], measured: Sequence[Row]) -> str:
    lines = []
    for statement in document["statements"]:
        rows = [row for row in measured if row["key"] == statement["key"]]
        if rows:
            tightest = max(rows, key=lambda row: row["tightness"])
            lines.append(
                f'<tr><td><a href="#{statement["key"]}">{_e(statement["name"])}</a></td><td>{_e(statement["source"])}</td>'
                f'<td class="n">{len(rows)}</td><td class="n">{sum(row["measurements"] for row in rows)}</td>'
                f'<td class="n">{_bar(tightest["tightness"])}</td><td>{_spelled(tightest["instance"])}</td>'
                f"<td>{_badge(all(row['holds'] for row in rows))}</td></tr>"
            )
    height = 1.1 + 0.235 * len({row["key"] for row in measured})
    picture = figures.svg(lambda axes: figures.tightness(axes, measured), 10.5, height, "tightness of every statement")
    return (
        "<h2>How much of each promise is used</h2>\n"
        + _figure(
            picture,
            "One dot for each model: the largest share of the promise that a measurement used. At 1 the model attains the "
            "bound, and no better one in the same quantities is true. The colour tells how the comparison was decided.",
        )
        + '<div class="scroll"><table><thead><tr><th>statement</th><th>source</th><th class="n">models</th>'
        '<th class="n">comparisons</th><th class="n">tightest</th><th>on</th><th></th></tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table></div>"
    )


def _families(document: Mapping[str, Any], measured: Sequence[Row]) -> list[str]:
    parts = []
    for family in dict.fromkeys(row["family"] for row in measured):
        parts.append(f'<h2 id="{_e(family)}">{_e(family[0].upper() + family[1:])}</h2>')
        for statement in document["statements"]:
            rows = [row for row in measured if row["key"] == statement["key"]]
            if rows and statement["family"] == family:
                curves = [curve for curve in document["curves"] if curve["key"] == statement["key"]]
                parts.append(_card(statement, rows, curves))
    return parts


def _card(statement: Mapping[str, Any], rows: Sequence[Row], curves: Sequence[Mapping[str, Any]]) -> str:
    holds = all(row["holds"] for row in rows)
    facts = [(_formula(symbol["latex"], 10.5), _e(symbol["meaning"])) for symbol in statement["symbols"]]
    facts += [("assumes", _e(statement["assumes"])), ("source", _e(statement["source"]))]
    told = "".join(f"<dt>{name}</dt><dd>{meaning}</dd>" for name, meaning in facts)
    chosen = _telling(curves)
    picture = ""
    if chosen:
        title = f"{statement['name']}: measured and promised"
        drawing = figures.svg(lambda axes: figures.curves(axes, chosen), 6.0, 2.7 + 0.17 * len(chosen), title)
        picture = _figure(drawing, "Solid: measured. Dashed: promised.")
    return (
        f'<section class="card" id="{statement["key"]}"><header><h3>{_e(statement["name"])}</h3>{_badge(holds)}</header>'
        f'<div class="{"two" if chosen else "one"}"><div><div class="formula">{_formula(statement["latex"], 14.5)}</div>'
        f"<dl>{told}</dl></div>{picture}</div>"
        f"<details{'' if holds else ' open'}><summary>{len(rows)} models</summary>{_table(rows)}</details></section>"
    )


def _telling(curves: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """A few curves of more than two points, one for each kind of model, the largest models, which come last, first.

    A promise far below what was measured would only flatten the others.
    """
    kinds: dict[str, Mapping[str, Any]] = {}
    for curve in reversed(curves):
        vacuous = min(curve["promised"]) < -10 * max(map(abs, curve["measured"]))
        if len(curve["x"]) > 2 and any(curve["promised"]) and not vacuous:
            kinds.setdefault(curve["instance"].partition(":")[0], curve)
    return list(kinds.values())[:_MANY_CURVES]


def _published(rows: Sequence[Row]) -> str:
    height = 4.2
    picture = figures.svg(lambda axes: figures.agreement(axes, rows), 8.5, height, "published answers against certified ones")
    lines = "".join(
        f"<tr><td>{_spelled(row['instance'])}</td><td>{_e(row['source'])}</td><td class='n'>{row['states']}</td>"
        f"<td class='n'>{_number(row)}</td><td class='n'>{row['measured']:.12g}</td>"
        f"<td class='n'>{row['parameters']['upper'] - row['parameters']['lower']:.1e}</td>"
        f"<td class='n'>{_e(row['proof'].removeprefix('certificate, '))}</td><td>{_badge(row['holds'])}</td></tr>"
        for row in rows
    )
    return (
        '<h2 id="exact">Published answers, certified again</h2>\n'
        "<p>Each model is solved to a bracket, whose certificate an independent checker verifies in exact arithmetic; the "
        "bracket, widened by half a unit of the last printed digit and, for the step from decimals to floats, by 1e-12 of the "
        "number, must contain what was published.</p>\n"
        + _figure(
            picture,
            "Below the line, an answer and the bracket agree. Answers in closed form agree to the bracket's own width, printed "
            "ones to their digits; differences below 1e-16 are drawn there.",
        )
        + '<div class="scroll"><table><thead><tr><th>model</th><th>source</th><th class="n">states</th>'
        '<th class="n">published</th><th class="n">certified</th><th class="n">bracket</th><th class="n">proof checked</th>'
        f"<th></th></tr></thead><tbody>{lines}</tbody></table></div>"
    )


def _falsified(document: Mapping[str, Any]) -> str:
    statements = {statement["key"]: statement for statement in document["statements"]}
    parts = [
        '<h2 id="false">False statements, and what breaks them</h2>',
        "<p>A search that cannot find a counterexample where there is one proves nothing by finding none. Here are statements "
        "that are false, each with the smallest model that the search came to.</p>",
    ]
    for item in document["falsified"]:
        statement = statements[item["key"]]
        command = f"banach falsify {shlex.quote(item['key'])} --save model.npz"
        badge = '<span class="badge good">broken</span>' if item["broken"] else '<span class="badge bad">not broken</span>'
        found = f"measured {item['measured']:.6g}, promised {item['promised']:.6g}, decided by {_e(item['proof'])}; "
        parts.append(
            f'<section class="card" id="{_e(item["key"])}"><header><h3>{_e(item["bound"])}</h3>{badge}</header>'
            f'<div class="formula">{_formula(statement["latex"], 14.5)}</div><p class="soft">{_e(statement["source"])}</p>'
            f"<p>{found}{item['models']} models measured.</p><pre>{_e(item['instance'] or '')}</pre>"
            f"<p class='soft'>again: <code>{_e(command)}</code></p></section>"
        )
    return "\n".join(parts)


def _foot(document: Mapping[str, Any]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in document["versions"].items())
    today = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
    return (
        f'<h2>How to repeat this</h2>\n<p><code>banach verify --html report.html</code></p><p class="soft">{today}. '
        f"{_e(versions)}. Exact rationals: every number of the comparison is a rational. Certified brackets: the numbers are "
        "enclosed, and the enclosures do not overlap. Within rounding: they do, or a number is a float.</p>"
    )


def _table(rows: Sequence[Row]) -> str:
    lines = "".join(
        f"<tr><td>{_spelled(row['instance'])}</td><td class='n'>{row['states']}</td>"
        f"<td class='n'>{row['measured']:.6g}</td><td class='sense'>{SENSES[row['sense']]}</td>"
        f"<td class='n'>{row['promised']:.6g}</td><td class='n'>{_bar(row['tightness'])}</td><td>{_e(row['proof'])}</td>"
        f"<td>{'' if row['holds'] else _badge(False)}</td></tr>"
        for row in rows
    )
    return (
        '<div class="scroll"><table><thead><tr><th>model</th><th class="n">states</th><th class="n">measured</th><th></th>'
        '<th class="n">promised</th><th class="n">tightness</th><th>proof checked</th><th></th></tr></thead>'
        f"<tbody>{lines}</tbody></table></div>"
    )


def _figure(drawing: str, caption: str) -> str:
    told = f"<figcaption>{_e(caption)}</figcaption>" if caption else ""
    return f"<figure>{drawing}{told}</figure>\n"


def _formula(latex: str, size: float) -> str:
    return figures.formula(latex, size) or f"<code>{_e(latex)}</code>"


def _badge(holds: bool) -> str:
    return '<span class="badge good">holds</span>' if holds else '<span class="badge bad">does not hold</span>'


def _bar(share: float) -> str:
    filled = min(max(share, 0.0), 1.0) if math.isfinite(share) else 1.0
    return f'<span class="bar"><i style="width:{100 * filled:.0f}%"></i></span>{share:.3g}'


def _number(row: Row) -> str:
    """What was published: as printed, or, where that is a long fraction, its decimals."""
    return _e(row["statement"]) if len(row["statement"]) < 20 else f"{row['promised']:.12g}"


def _spelled(instance: str) -> str:
    """The spelling of an instance, which may break after a colon or a comma."""
    return "<code>" + re.sub("([:,])", r"\1<wbr>", _e(instance)) + "</code>"


def _e(text: object) -> str:
    return html.escape(str(text))
