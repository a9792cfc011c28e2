r"""Off policy: answers drawn from a stale policy, shown to the loss with their old log-probabilities.

The expected gradient under the sampler, sum_y mu(y) sum_t omega_t(y) grad log pi(y_t), is held against grad J at the current
policy; full correction by the ratio of whole sequences is unbiased, tokenwise ratios are so to first order, none is a bias of
the order of the staleness. The response w(rho) is the weight of one token whose ratio rho = pi/mu alone is moved, in a group of
one right and otherwise wrong answers; PPO-clip's is rho up to 1 + e and 0 beyond (Schulman et al. 2017, arXiv 1707.06347),
CISPO's min(rho, cap) (MiniMax 2025, arXiv 2506.13585). The weight of a token on policy is compared with what the same token
would have by its ratio alone, w(rho)/rho at a small ratio: a cap below one shows there.
"""

from __future__ import annotations

import numpy as np

from .enumeration import Setting
from .finding import Finding
from .on_policy import OnPolicy
from .scalars import J, compare, reward_fields
from .subject import Array, Batches, Subject

RATIOS = np.exp(np.linspace(np.log(0.05), np.log(8.0), 41))
_TOKENS = 4
_SHIFTS = (0.1, 0.5, 1.0)


def off_policy(ground: OnPolicy) -> Finding:
    """Expected gradient under stale samplers against grad J."""
    title = "expected gradient off policy"
    logits = ground.policies[0]
    wanted = reward_fields(ground.problem, logits, ground.group_size)[J]
    offset = ground.generator.normal(size=logits.shape)
    on = compare(J, [ground.enumerated(Setting(logits))], [wanted])
    rows = []
    for shift in _SHIFTS:
        match = compare(J, [ground.enumerated(Setting(logits, old=logits + shift * offset))], [wanted])
        rows.append({"staleness": shift, "cosine": match.cosine, "factor": match.scale, "residual": match.residual})
    details = {
        "staleness": rows,
        "on_policy": {"cosine": on.cosine, "factor": on.scale},
        "group_size": min(ground.group_size, 2),
    }
    last = rows[-1]
    excess, allowed = max(row["residual"] for row in rows), _allowed(ground.subject)
    if excess < allowed and all(abs(row["factor"] / on.scale - 1) < allowed for row in rows):
        verdict = "Unbiased: exactly the on-policy direction of grad J however stale the sampler (full importance weights)."
        return Finding("off_policy", title, verdict, "good", excess, "residual", details)
    verdict = (
        "Cosine to grad J "
        + ", ".join(f"{row['cosine']:.4f}" for row in rows)
        + f" when the sampler's logits are off by {', '.join(f'{shift:g}' for shift in _SHIFTS)} (on policy {on.cosine:.4f})."
    )
    return Finding(
        "off_policy", title, verdict, "bad" if last["cosine"] < 0 < on.cosine else "note", last["cosine"], "cosine", details
    )


def _allowed(subject: Subject) -> float:
    """Relative difference under which two of its weights are the same."""
    return max(1e-6, subject.rounding)


def response(subject: Subject, group_size: int) -> list[Finding]:
    """How the weight of a token follows its ratio, where it is clipped, and what an on-policy token is given."""
    size = max(group_size, 2)
    curves = {}
    for sign in ("right", "wrong"):
        curves[sign] = _weights(subject, size, sign, RATIOS, whole=False)
        curves[f"{sign}, whole answer"] = _weights(subject, size, sign, RATIOS, whole=True)
    sign = "right" if np.abs(curves["right"]).max() > 0 else "wrong"
    on = {side: float(_weights(subject, size, side, np.ones(1), whole=False)[0]) for side in ("right", "wrong")}
    details = {"ratio": RATIOS, "curves": curves, "on_policy": on}
    if not np.abs(curves[sign]).max():
        return [Finding("response", "response to the ratio", "No weight at any ratio.", "bad", 0.0, "weight", details)]
    edges = {side: _edges(subject, size, side) for side in ("right", "wrong") if on[side]}
    details["edges"] = edges
    details["level"] = _level(subject, size, sign)
    found = [_response_finding(curves, sign, on, details, subject.rounding)]
    return [*found, _on_policy_share(subject, size, sign, on[sign])]


def _weights(subject: Subject, size: int, sign: str, ratios: Array, whole: bool) -> Array:
    """Weight of token 0 of the answer of that sign at each ratio (K,); `whole`: all tokens of its answer move with it."""
    member = 0 if sign == "right" else 1
    old = np.full((len(ratios), size, _TOKENS), -3.0)
    logp = old.copy()
    if whole:
        logp[:, member, :] += np.log(ratios)[:, None]
    else:
        logp[:, member, 0] += np.log(ratios)
    reward = np.tile(np.arange(size) == 0, (len(ratios), 1)).astype(float)
    batches = Batches(logp, old, logp, np.ones(old.shape, dtype=bool), reward, np.zeros(size, dtype=np.int64))
    return subject.weights(batches)[:, member, 0]


def _edges(subject: Subject, size: int, sign: str) -> dict[str, dict[str, float]]:
    """Where, below and above ratio 1, the whole answer's weight leaves the law w(1) rho^k that it follows near 1.

    Each edge has its ratio, by bisection, and the weight just beyond it over that at 1. A weight that follows no power of the
    ratio near 1, or follows it from 0.02 to 20, has no edges.
    """
    near = 1 + max(1e-4, 10 * subject.rounding) * np.array([-2.0, -1.0, 0.0, 1.0, 2.0])
    found = _weights(subject, size, sign, near, whole=True)
    if found[2] == 0 or not np.isfinite(found).all() or (found / found[2] <= 0).any():
        return {}
    slopes = np.diff(np.log(found / found[2])) / np.diff(np.log(near))
    edges = {}
    for side, far, power in (("below", 0.02, slopes[0]), ("above", 20.0, slopes[-1])):
        if abs((slopes[0] - slopes[1]) if side == "below" else (slopes[-1] - slopes[-2])) > 1e-3:
            continue
        rounded = round(float(power), 3)
        edge = _bisect(
            subject, size, sign, far, rounded if abs(power - rounded) < max(1e-4, 5 * subject.rounding) else float(power)
        )
        if edge is not None:
            edges[side] = edge
    return edges


def _bisect(subject: Subject, size: int, sign: str, far: float, power: float) -> dict[str, float] | None:
    def bends(ratio: float) -> bool:
        weight, one = _weights(subject, size, sign, np.array([ratio, 1.0]), whole=True)
        return not abs(weight / one / ratio**power - 1) < (_allowed(subject) if float(power).is_integer() else 1e-3)

    if not bends(far):
        return None
    near = 1.0
    for _ in range(20):
        middle = float(np.sqrt(near * far))
        near, far = (near, middle) if bends(middle) else (middle, far)
    beyond = _weights(subject, size, sign, np.array([far**1.01, 1.0]), whole=True)
    return {"ratio": far, "weight_beyond": float(beyond[0] / beyond[1])}


def _level(subject: Subject, size: int, sign: str) -> str:
    """At what level the ratio enters: does a token's weight follow its own ratio, its neighbours', or both?

    Ratios move little, and to the side on which a clip does not bind, since clip ranges of whole sequences are 1e-4 wide.
    """
    member = 0 if sign == "right" else 1
    step = max(1e-5, 100 * subject.rounding) * (-1 if sign == "right" else 1)
    old = np.full((3, size, _TOKENS), -3.0)
    logp = old.copy()
    logp[1, member, 0] += step
    logp[2, member, 1] += step
    reward = np.tile(np.arange(size) == 0, (3, 1)).astype(float)
    weight = subject.weights(Batches(logp, old, logp, np.ones(old.shape, dtype=bool), reward, np.zeros(size, dtype=np.int64)))[
        :, member, 0
    ]
    own, other = np.log(np.maximum(weight[1:] / weight[0], 1e-300)) / step if weight[0] else (0.0, 0.0)
    allowed = _allowed(subject)
    if abs(own) < allowed and abs(other) < allowed:
        return "none"
    if abs(other) < allowed:
        return "token"
    if abs(own - other) < allowed:
        return "sequence" if abs(own - 1) < 1e-3 else f"sequence, each token's ratio to the power {own:.3g}"
    return "mixed"


def _response_finding(curves, sign, on, details, rounding: float) -> Finding:
    title = "response to the ratio, and clipping"
    curve, edges, level = curves[sign], details["edges"], details["level"]
    if np.abs(curves[f"{sign}, whole answer"] - on[sign]).max() < rounding * abs(on[sign]):
        verdict = "The ratio is ignored: stale answers count as if they were fresh, and nothing is clipped."
        return Finding("response", title, verdict, "note", 0.0, "", details)
    said = []
    for side, found in edges.items():
        for where, edge in sorted(found.items()):
            beyond = edge["weight_beyond"]
            what = "is dropped" if abs(beyond) < rounding else f"leaves that law (weight there {beyond:.3g} of that at 1)"
            said.append(f"a {side} answer {what} {where} ratio {edge['ratio']:.5g}")
    form = {"token": "Each token follows its own ratio", "none": "Near ratio 1 the weight does not move with the ratio"}.get(
        level, f"The ratio is that of the {level}"
    )
    verdict = f"{form}; {'; '.join(said) if said else 'no clip edge between ratios 0.02 and 20'}."
    value = next((edge["ratio"] for found in edges.values() for edge in found.values()), None)
    monotone = bool((np.diff(np.abs(curve)) >= -1e-12).all())
    details["monotone"] = monotone
    return Finding("response", title, verdict, "note", value, "first clip edge" if value else "", details)


def _on_policy_share(subject: Subject, size: int, sign: str, on: float) -> Finding:
    """The weight at ratio 1 over lim w(rho)/rho for small rho: below one when a cap lies below one."""
    title = "weight given to on-policy tokens"
    small = np.array([0.02, 0.04])
    found = _weights(subject, size, sign, small, whole=True)
    unit = found / small
    steady = abs(unit[0] - unit[1]) < _allowed(subject) * max(abs(unit[0]), 1e-300)
    if not steady or unit[0] == 0:
        return Finding(
            "on_policy_share",
            title,
            f"An on-policy token gets weight {on:.4g} in a group with one right answer.",
            "note",
            on,
            "weight",
        )
    share = float(on / unit[0])
    if abs(share - 1) < _allowed(subject):
        return Finding("on_policy_share", title, "Full: on-policy tokens keep all of their weight.", "good", share, "share")
    verdict = (
        f"On-policy tokens get only {share:.4g} of their weight: the cap on the ratio is {share:.4g}, below one, so every "
        "on-policy token is clipped and no token's weight can reach its advantage."
        if share < 1
        else f"On-policy tokens get {share:.4g} times the weight that their ratio gives them."
    )
    return Finding("on_policy_share", title, verdict, "bad", share, "share of an on-policy token's weight", {"cap": share})
