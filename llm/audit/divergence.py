r"""Which divergence the loss's reference term descends, and where the whole loss comes to rest.

The reference term is what changes when the loss is shown a reference other than the policy: g(ref) - g(ref = pi), on policy, at
the same rewards. Its expectation is held against the fields of `scalars.divergence_fields`. (A "k1" penalty inside the loss has
expectation zero, "k2" descends KL(pi || ref), "k3" KL(ref || pi), all token by token: Tang and Munos 2025, arXiv 2506.09477.)

Rest is sought on a bandit of three arms, R = (1, 0, 0), where every length is one. With the ascent field a grad J - b grad D the
optimum is, for beta = b/a,

    KL(pi || ref):  pi = ref e^{R/beta} / Z          KL(ref || pi):  pi = beta ref / (lambda - R),  sum pi = 1.
"""

from __future__ import annotations

import warnings

import numpy as np
from scipy import optimize

from ...mdp.token import TokenProblem
from .enumeration import Setting, enumerated_field, log_policy
from .finding import Finding
from .on_policy import OnPolicy
from .scalars import J, best_match, compare, divergence_fields, reward_fields
from .subject import Array, Subject


def divergence(ground: OnPolicy) -> Finding:
    """Which divergence from the reference is descended, and how strongly."""
    title = "which divergence it regularises"
    problem, group_size = ground.problem, min(ground.group_size, 2)
    terms, candidates, size = [], [], 0.0
    for logits in ground.policies[:2]:
        ref = ground.generator.normal(size=logits.shape)
        shown = ground.enumerated(Setting(logits, ref=ref))
        without = ground.enumerated(Setting(logits))
        terms.append(without - shown)
        size += float(np.linalg.norm(without))
        candidates.append(divergence_fields(problem, logits, ref, group_size))
    strength = float(np.linalg.norm(terms)) / max(size, 1e-300)
    if strength < ground.tolerance:
        shown = _shown_at_all(ground)
        if shown < ground.tolerance:
            return Finding("divergence", title, "None: the loss does not look at the reference.", "note", 0.0, "strength")
        verdict = (
            "None in expectation: the reference changes every sample's weights, "
            f"by up to {shown:.3g}, and the changes cancel. It regularises nothing and adds noise."
        )
        return Finding("divergence", title, verdict, "bad", 0.0, "strength of the expected term")
    matches = best_match(terms, candidates, positive=True)
    ranking = {match.name: {"residual": match.residual, "scale": match.scale} for match in matches}
    best = matches[0]
    if best.residual < 10 * ground.tolerance and best.scale > 0:
        wrong = "length" in best.name and "divergence" in best.name
        verdict = f"It descends {best.name}, with coefficient {best.scale:.6g} (residual {best.residual:.1e})."
        return Finding(
            "divergence", title, verdict, "bad" if wrong else "note", best.scale, "coefficient", {"name": best.name, "all": ranking}
        )
    verdict = f"No known divergence; the nearest is {best.name} (cosine {best.cosine:.4f}, coefficient {best.scale:.3g})."
    grade = "bad" if best.cosine < 0.5 else "note"
    return Finding("divergence", title, verdict, grade, best.cosine, "cosine", {"name": best.name, "all": ranking})


def _shown_at_all(ground: OnPolicy) -> float:
    """Largest relative change of a sample's weights when the reference moves."""
    from .batching import Draw

    draw = Draw(ground.problem, max(ground.group_size, 2), ground.generator)
    change = 0.0
    for _ in range(4):
        batch = draw.batch([draw.group()])
        own = type(batch)(batch.logp, batch.logp, batch.logp, batch.mask, batch.reward, batch.group)
        moved = type(batch)(batch.logp, batch.logp, batch.ref, batch.mask, batch.reward, batch.group)
        before, after = ground.subject.evaluate(own)[1], ground.subject.evaluate(moved)[1]
        change = max(change, float(np.abs(after - before).max() / max(np.abs(before).max(), 1e-300)))
    return change


REWARD = np.array([1.0, 0.0, 0.0])
REFERENCE = np.array([0.2, 0.5, 0.3])


def fixed_point(subject: Subject, group_size: int, exchangeable: bool) -> Finding:
    """Where the expected on-policy gradient vanishes on the bandit, against the closed-form optima."""
    title = "where it comes to rest (3-armed bandit)"
    bandit = TokenProblem.bandit(REWARD)
    size, ref = min(group_size, 3), np.log(REFERENCE)[None]

    def ascent(free: Array) -> Array:
        logits = np.append(free, 0.0)[None]
        return enumerated_field(subject, bandit, Setting(logits, ref=ref), size, exchangeable)[0]

    start = (np.log(REFERENCE) - np.log(REFERENCE[-1]))[:-1]
    rest = _rest(ascent, start)
    if rest is None:
        return _no_rest(title, ascent, start)
    policy = np.exp(log_policy(np.append(rest, 0.0)[None]))[0]
    stable = _is_stable(ascent, rest)
    beta = _temperature(subject, bandit, ref, size, exchangeable)
    details = {"policy": policy, "beta": beta, "reference": REFERENCE, "stable": stable}
    unstable = "" if stable else " It is a repelling point."
    if beta is None or beta <= 0:
        verdict = f"At the policy {_shown(policy)}, which is no closed-form optimum.{unstable}"
        return Finding("fixed_point", title, verdict, "note", None, "", details)
    optima = {
        "reverse KL, ref e^{R/beta} / Z": gibbs(REWARD, REFERENCE, beta),
        "forward KL, beta ref / (lambda - R)": forward_optimum(REWARD, REFERENCE, beta),
    }
    distance = {name: float(np.abs(policy - optimum).sum() / 2) for name, optimum in optima.items()}
    details["distance"] = distance
    name = min(distance, key=lambda key: distance[key])
    if distance[name] < 1e-5:
        verdict = f"At the optimum of J minus {beta:.4g} times the {name} (total variation {distance[name]:.1e}).{unstable}"
        return Finding("fixed_point", title, verdict, "good" if stable else "bad", distance[name], "total variation", details)
    verdict = (
        f"At {_shown(policy)}, {distance[name]:.3g} in total variation from the nearest closed form ({name} with beta {beta:.3g})."
        f"{unstable}"
    )
    return Finding("fixed_point", title, verdict, "note", distance[name], "total variation", details)


def gibbs(reward: Array, ref: Array, beta: float) -> Array:
    """argmax E R - beta KL(pi || ref), shape (n,), from reward and ref (n,)."""
    weight = ref * np.exp((reward - reward.max()) / beta)
    return weight / weight.sum()


def forward_optimum(reward: Array, ref: Array, beta: float) -> Array:
    """argmax E R - beta KL(ref || pi), shape (n,), from reward and ref (n,): pi = beta ref / (lambda - R), lambda > max R."""
    low, high = reward.max() + beta * ref[reward.argmax()], reward.max() + beta
    level = optimize.brentq(lambda x: (beta * ref / (x - reward)).sum() - 1, low, high + 1e-12, xtol=1e-15)
    policy = beta * ref / (level - reward)
    return policy / policy.sum()


def _rest(ascent, start: Array) -> Array | None:
    """A zero of the field in the free logits, or None where it runs away to the edge."""
    for point in (start, np.zeros_like(start), start + np.array([2.0, 0.0])):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = optimize.root(lambda free: ascent(free)[:-1], point, tol=1e-12)
        if np.abs(found.x).max() < 25 and np.abs(found.fun).max() < 1e-9 and _interior(found.x):
            return found.x
    return None


def _interior(free: Array) -> bool:
    """Away from the edge of the simplex, where every softmax gradient vanishes."""
    return bool(np.exp(log_policy(np.append(free, 0.0)[None])).min() > 1e-6)


def _is_stable(ascent, rest: Array) -> bool:
    """Whether all eigenvalues of the field's Jacobian at rest have real parts below zero."""
    step = 1e-5
    columns = [(ascent(rest + step * e)[:-1] - ascent(rest - step * e)[:-1]) / (2 * step) for e in np.eye(len(rest))]
    return bool(np.linalg.eigvals(np.array(columns).T).real.max() < 0)


def _temperature(subject: Subject, bandit: TokenProblem, ref: Array, size: int, exchangeable: bool) -> float | None:
    """beta = b/a from the two parts of the field at the reference's side, or None where a part is no multiple of its candidate."""
    logits = ref + np.array([[0.7, -0.3, 0.0]])
    alone = enumerated_field(subject, bandit, Setting(logits), size, exchangeable)
    term = alone - enumerated_field(subject, bandit, Setting(logits, ref=ref), size, exchangeable)
    fields = divergence_fields(bandit, logits, ref, size)
    own = {name: fields[name] for name in ("KL(pi || ref)", "KL(ref || pi)")}
    matches = best_match([term], [own], positive=True)
    along = compare(J, [alone], [reward_fields(bandit, logits, size)[J]])
    return matches[0].scale / along.scale if matches and along.scale > 0 else None


def _no_rest(title: str, ascent, start: Array) -> Finding:
    """The end of following the field to the edge."""
    free = start.copy()
    for _ in range(150):
        slope = ascent(free)
        size = np.abs(slope).max()
        if not np.isfinite(size) or size < 1e-12:
            break
        free = free + (0.5 * slope / size)[:-1] - 0.5 * slope[-1] / size
    policy = np.exp(log_policy(np.append(free, 0.0)[None]))[0]
    value = float(policy @ REWARD)
    details = {"policy": policy, "expected_reward": value}
    if value > 0.99:
        verdict = "At the best arm alone: nothing holds it near the reference, and it ends at a deterministic optimal policy."
        return Finding("fixed_point", title, verdict, "good", value, "expected reward, best 1", details)
    verdict = f"Following it from the reference ends at {_shown(policy)} with expected reward {value:.3g}; the best is 1."
    return Finding("fixed_point", title, verdict, "bad", value, "expected reward, best 1", details)


def _shown(policy: Array) -> str:
    return "(" + ", ".join(f"{chance:.4f}" for chance in policy) + ")"
