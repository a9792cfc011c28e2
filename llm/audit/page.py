"""The page of an audit: findings and curves in one HTML file that needs no other, readable on white and on black."""

from __future__ import annotations

import html

from .finding import Audit, Finding, number
from .pictures import pictures

_STYLE = """
:root { color-scheme: light dark; --ink: #1d232b; --soft: #5b6673; --line: #d9dee4; --page: #fbfbfa; --card: #ffffff;
  --good: #23744b; --good-soft: #e2f2e9; --bad: #b3263e; --bad-soft: #fae3e6; --note: #4b5663; --note-soft: #eceff2; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e7ea; --soft: #9aa5b1; --line: #343b44; --page: #14171b;
  --card: #1b1f25; --good: #79cfa0; --good-soft: #1d3a2b; --bad: #f08b9b; --bad-soft: #46222a; --note: #b4bec9;
  --note-soft: #2a3038; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); font: 15.5px/1.55 system-ui, "Segoe UI", sans-serif; }
main { max-width: 1000px; margin: 0 auto; padding: 40px 24px 80px; }
h1 { font-size: 28px; letter-spacing: -0.01em; margin: 0 0 6px; } h2 { font-size: 16.5px; margin: 0; }
p { margin: 8px 0; max-width: 78ch; } .soft { color: var(--soft); font-size: 14px; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 16px 20px; margin: 14px 0; }
.card > header { display: flex; justify-content: space-between; gap: 16px; align-items: baseline; }
.badge { font-size: 12.5px; font-weight: 600; padding: 2px 9px; border-radius: 20px; white-space: nowrap; }
.good { color: var(--good); background: var(--good-soft); } .bad { color: var(--bad); background: var(--bad-soft); }
.note, .moot { color: var(--note); background: var(--note-soft); }
figure { margin: 14px 0 4px; overflow-x: auto; } figure svg { max-width: 100%; height: auto; font-family: inherit; }
figcaption { color: var(--soft); font-size: 13.5px; }
"""

_BADGE = {"good": "ok", "note": "to know", "bad": "fault", "moot": "not asked"}


def page(audit: Audit) -> str:
    """The whole page."""
    drawn = pictures(audit)
    faults = len(audit.faults)
    summary = f"{faults} fault{'' if faults == 1 else 's'} in {len(audit.findings)} findings" if faults else "no fault found"
    setting = ", ".join(f"{key.replace('_', ' ')} {str(value)[:16]}" for key, value in audit.setting.items())
    cards = "\n".join(_card(finding, drawn.get(finding.key)) for finding in audit.findings)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>audit of {html.escape(audit.subject)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<main>\n"
        f"<h1>Audit of the {html.escape(audit.kind)} {html.escape(audit.subject)}</h1>\n"
        f'<p><span class="badge {"bad" if faults else "good"}">{summary}</span></p>\n'
        f'<p class="soft">{html.escape(setting)}; {audit.calls} evaluations, {audit.seconds:.1f} s.</p>\n'
        f"{cards}\n</main>\n</body>\n</html>\n"
    )


def _card(finding: Finding, picture: tuple[str, str] | None) -> str:
    measured = f"{finding.quantity}: {number(finding.value)}" if finding.value is not None else ""
    figure = f"<figure>{picture[0]}<figcaption>{html.escape(picture[1])}</figcaption></figure>" if picture else ""
    return (
        f'<section class="card" id="{finding.key}"><header><h2>{html.escape(finding.title)}</h2>'
        f'<span class="badge {finding.grade}">{_BADGE[finding.grade]}</span></header>'
        f"<p>{html.escape(finding.verdict)}</p>"
        f'<p class="soft">{html.escape(measured)}</p>{figure}</section>'
    )
