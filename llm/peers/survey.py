"""The audit of every loss that other libraries ship, and the table of what it found.

A document holds everything: `versions`, `seconds`, and `rows`, each with library, name, kind, owner, settings and what the
audit says as JSON, the finding about gradient accumulation included. Of a loss of Liger's that has the gradient of TRL's loss
of that name, twin and difference are told, and the twin's audit is not repeated. The page is drawn from the document alone.
"""

from __future__ import annotations

import dataclasses
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from ..audit import audit, audit_preference
from ..audit.finding import Audit, Finding
from .accumulation import accumulation
from .agreement import ROUNDING, difference, twin
from .catalogue import PEERS, Peer, versions
from .errors import PeerRefusal

Row = Mapping[str, Any]

COMMAND = "banach audit --all --markdown llm/FINDINGS.md"

COLUMNS = {
    "group": {
        "direction": "cosine to ∇J",
        "variance": "noise / leave-one-out's",
        "length": "length slope",
        "on_policy_share": "on-policy weight",
        "off_policy": "cosine, stale",
        "padding": "padding",
        "accumulation": "accumulation",
    },
    "pair": {
        "direction": "pairs in which chosen gains",
        "margin": "coefficient of its margin",
        "noise": "margin of a sure pair",
        "displacement": "net lift of likelihood",
        "length": "lengths doubled",
        "accumulation": "accumulation",
    },
}
"""Findings whose numbers the tables show, and the heads of their columns."""

TOLD = {
    "group": (
        "scalar",
        "prompt_weight",
        "length",
        "divergence",
        "response",
        "on_policy_share",
        "padding",
        "accumulation",
        "extremes",
    ),
    "pair": ("direction", "margin", "optimum", "noise", "displacement", "length", "accumulation", "extremes"),
}
"""Findings whose sentences are listed, with the losses of which they hold."""

_ROUNDING_ERROR = re.compile(r" \((?:residual|misfit|total variation) \d\.\d+e-(?:0[6-9]|[1-9]\d)\)")
"""A number that says no more than that something is exact; it differs from machine to machine."""

_ADAPTED = ("microbatch",)
"""Not asked of a trainer: it is given a whole step, and `accumulation` tells what it does with its parts."""


def survey(peers: Iterable[Peer] = PEERS, report: Callable[[int, int, str], None] | None = None) -> dict[str, Any]:
    """Audit every peer; `report(done, all, title)` is told of each. Raises PeerMissing when a library is not installed."""
    chosen, rows, began = tuple(peers), [], time.perf_counter()
    told = versions()
    for place, peer in enumerate(chosen):
        if report is not None:
            report(place, len(chosen), peer.title)
        rows.append(row(peer))
    return {"versions": told, "seconds": time.perf_counter() - began, "rows": rows}


def row(peer: Peer) -> dict[str, Any]:
    """What the audit says of one peer, as JSON. Raises PeerMissing when its library is not installed."""
    about: dict[str, Any] = {"library": peer.library, "name": peer.name, "title": peer.title, "kind": peer.kind}
    about |= {"owner": peer.owner, "settings": dict(peer.settings), "twin": None, "difference": None}
    if peer.library == "liger":
        about |= {"twin": twin(peer).title, "difference": difference(peer)}
        if about["difference"] < ROUNDING:
            return about | {"audit": {"findings": [dataclasses.asdict(accumulation(peer))]}}
    return about | {"audit": examine(peer).document()}


def examine(peer: Peer, group_size: int | None = None, **settings: Any) -> Audit:
    """The audit of a peer's loss, gradient accumulation included. Raises AuditError, PeerMissing, PeerRefusal."""
    loss = peer.loss(**settings)
    if peer.kind == "group":
        found = audit(loss, group_size=group_size or peer.group_size, name=peer.title)
    else:
        found = audit_preference(loss, name=peer.title)
    kept = tuple(_regraded(finding) for finding in found.findings if finding.key not in _ADAPTED)
    return dataclasses.replace(found, findings=(*kept, accumulation(peer, **settings)))


def _regraded(finding: Finding) -> Finding:
    """A refusal of the adapter's is no fault of the loss."""
    refused = PeerRefusal.__name__ in finding.verdict
    return dataclasses.replace(finding, grade="note") if refused and finding.grade == "bad" else finding


def markdown(document: Mapping[str, Any]) -> str:
    """The page of a survey: a table and a list of sentences for the losses of groups, and for those of pairs."""
    versions_told = ", ".join(f"{name} {release}" for name, release in document["versions"].items())
    lines = [
        "# What other libraries' losses do",
        "",
        f"Written by `{COMMAND}`",
        f"with {versions_told}. Every loss runs as its library ships it, defaults included: for TRL its real",
        "trainers, whose `training_step` is recorded at `backward`; for Liger its chunked losses, in float32 (`llm/peers`).",
        "How a finding is found is told in `llm/audit`. ✗ marks a fault.",
        "",
        *_ASTRAY,
        "",
        "## How to read the tables",
        "",
        *_LEGEND,
    ]
    audited = [row for row in document["rows"] if not _is_twin(row)]
    for kind, head in (("group", "## Losses of groups of answers"), ("pair", "## Losses of preferred and rejected answers")):
        rows = [row for row in audited if row["kind"] == kind]
        if rows:
            lines += ["", head, "", *table(rows), "", *sentences(kind, rows)]
    twins = [row for row in document["rows"] if row["twin"] is not None]
    if twins:
        lines += ["", "## The same loss in both libraries", "", *_TWINS, "", *twin_table(twins)]
    return "\n".join(lines) + "\n"


def _is_twin(row: Row) -> bool:
    return row["difference"] is not None and row["difference"] < ROUNDING


_ASTRAY = [
    "## What ships astray",
    "",
    "Each of these is held by a test in `tests/llm/test_peers.py`.",
    "",
    "- **TRL `cispo`** caps the ratio at `epsilon_high`, which defaults to `epsilon` = 0.2: every token on the policy is",
    "  scaled by 0.2, and above ratio 0.2 nothing is corrected for staleness. Set `epsilon_high` above one.",
    "- **TRL online DPO** hands its loss undivided to `backward`: with `gradient_accumulation_steps` = k the gradient is k",
    "  times as large. Of two answers of equal reward it calls the first one chosen.",
    "- **Gradient accumulation changes the gradient** of TRL's `bnpo`, `kto`, `cpo`, `simpo`, `orpo`, and of its DPO's `sft`,",
    "  `aot` and `aot_unpaired`: their token means, reference point or sorting see one micro-batch. TRL's `grpo`, `dr_grpo`,",
    "  `dapo`, `cispo`, `sapo`, `luspo`, `vespo` and `rloo` are free of it.",
    "- **Liger `luspo`** at its default token level multiplies before it masks: padding is trained, and a token's weight",
    "  falls with the width of the batch.",
    "- **TRL and Liger `simpo`** are SimPO plus the chosen answer's NLL: `cpo_alpha` (in Liger `alpha`) is one by default.",
    "- **`discopop`** lowers the chosen answer where policy and reference agree, in both libraries: there the loss rises in",
    "  the margin, as its published form does with a temperature of 0.05.",
    "- **TRL `robust`** is plain DPO until `label_smoothing` is set.",
]

_LEGEND = [
    "Losses of groups: enumerated on two prompts with answers of one to three tokens, three answers a group (online DPO: two).",
    "*length slope*: log weight of a token over log length, 0 for none. *on-policy weight*: the share of its weight a token",
    "keeps at ratio one. *cosine, stale*: to ∇J when the sampler's logits are off by one. *padding*: change by what is masked.",
    "*accumulation*: relative change of the gradient when the same step is cut into two or four micro-batches.",
    "",
    "Losses of pairs: *coefficient of its margin*: β or τ where the loss looks at the margin alone and its curve is known.",
    "*margin of a sure pair*: nats at which a preference without noise comes to rest. *lengths doubled*: weights' change.",
]

_TWINS = [
    "Liger's gradient against TRL's on the same batches, at equal settings; what is said above of TRL's loss holds of Liger's",
    "where they agree to float32's rounding. By default Liger's GRPO family adds 0.04 times k3, TRL's adds nothing. Liger's",
    "dapo, cispo and vespo take a step's token count as `num_items_in_batch`; without it each micro-batch is its own mean.",
]


def table(rows: Sequence[Row]) -> list[str]:
    """Lines of the table of rows of one kind."""
    columns = COLUMNS[rows[0]["kind"]]
    lines = ["| loss | code | " + " | ".join(columns.values()) + " |", "|---|---|" + "---:|" * len(columns)]
    return lines + [line(row) for row in rows]


def line(row: Row) -> str:
    """A peer's line of the table."""
    found = {finding["key"]: finding for finding in row["audit"]["findings"]}
    cells = [_cell(found.get(key)) for key in COLUMNS[row["kind"]]]
    return f"| {row['title']} | {_code(row)} | " + " | ".join(cells) + " |"


def twin_table(rows: Sequence[Row]) -> list[str]:
    """Lines of the table of losses that both libraries ship."""
    lines = ["| loss | code | as | difference | accumulation |", "|---|---|---|---:|---:|"]
    for row in rows:
        found = {finding["key"]: finding for finding in row["audit"]["findings"]}
        shown = "rounding" if _is_twin(row) else f"{row['difference']:.3g} ✗"
        lines.append(f"| {row['title']} | {_code(row)} | {row['twin']} | {shown} | {_cell(found.get('accumulation'))} |")
    return lines


def _code(row: Row) -> str:
    settings = ", ".join(f"{name}={value}" for name, value in row["settings"].items())
    return f"`{row['owner']}`" + (f", {settings}" if settings else "")


def _cell(finding: Mapping[str, Any] | None) -> str:
    if finding is None:
        return ""
    value = _shown_value(finding)
    shown = "–" if value is None else "0" if abs(value) < 1e-3 else f"{value:.3g}"
    return shown + (" ✗" if finding["grade"] == "bad" else "")


def _shown_value(finding: Mapping[str, Any]) -> float | None:
    """The number of its column; None where the finding's own is another quantity."""
    value, key = finding["value"], finding["key"]
    if key == "direction":
        return finding["details"].get("cosine", value)
    if key == "on_policy_share" and not finding["quantity"].startswith("share"):
        return None
    return None if key == "margin" and finding["grade"] != "good" else value


def sentences(kind: str, rows: Sequence[Row]) -> list[str]:
    """Every sentence that the audit said of the rows, once, with the losses of which it was said; grouped by question."""
    lines: list[str] = []
    for key in TOLD[kind]:
        said: dict[str, list[str]] = {}
        title, faults = "", set()
        for row in rows:
            for finding in row["audit"]["findings"]:
                if finding["key"] == key:
                    verdict = _ROUNDING_ERROR.sub("", finding["verdict"])
                    said.setdefault(verdict, []).append(row["title"])
                    title = finding["title"]
                    if finding["grade"] == "bad":
                        faults.add(verdict)
        if not said:
            continue
        lines += [f"**{title[0].upper()}{title[1:]}**", ""]
        for verdict, titles in sorted(said.items(), key=lambda item: -len(item[1])):
            lines.append(f"- {'✗ ' if verdict in faults else ''}{', '.join(titles)}: {verdict}")
        lines.append("")
    return lines[:-1]
