r"""Where following the loss comes to rest.

With a reference term: a zero of the exact on-policy field g(theta), fixed reference, on a bandit of three arms,
R = (1, 0, 0), where every length is one. If the field is a grad J - b grad D, the optimum is known for beta = b/a:

    D = KL(pi || ref):  pi = ref e^{R/beta} / Z          D = KL(ref || pi):  pi = beta ref / (lambda - R),  sum pi = 1.

Without one nothing rests inside the simplex, and the tabulated field is followed on the audited problem itself, to see
whether it ends at a deterministic policy that is optimal there.
"""

from __future__ import annotations

import warnings

import numpy as np
from scipy import optimize

from ...mdp.token import TokenProblem
from ...mdp.token_backup import backup
from .enumeration import Setting, enumerated_field, log_policy, sequence_probability
from .finding import Finding
from .on_policy import OnPolicy
from .scalars import J, best_match, compare, divergence_fields, reward_fields
from .subject import DOUBLE, Array, Subject

REWARD = np.array([1.0, 0.0, 0.0])
REFERENCE = np.array([0.2, 0.5, 0.3])

_STEPS = 300


def fixed_point(ground: OnPolicy, held: bool) -> Finding:
    """Where following the expected gradient ends; `held`: the loss has a reference term that holds it somewhere.

    Raises LossFailure.
    """
    if not held and ground.table is not None:
        return followed(ground)
    return _on_bandit(ground.subject, min(ground.group_size, 2), ground.exchangeable)


def best_reward(problem: TokenProblem) -> float:
    """max over policies of J, by backward induction."""
    return float(problem.prompt_probability @ backup(problem, lambda _, values: values.max(axis=1))[0])


def followed(ground: OnPolicy) -> Finding:
    """Normalised steps along the tabulated field until the policy is all but deterministic. Needs its table."""
    title = "where following it ends"
    problem, logits = ground.problem, np.zeros_like(ground.policies[0])
    for _ in range(_STEPS):
        slope = ground.field(logits)
        largest = np.abs(slope).max(axis=1, keepdims=True)
        if largest.max() < 1e-14:
            break
        logits = np.clip(logits + slope / np.maximum(largest, 1e-3 * largest.max()), -40.0, 40.0)
    chance = sequence_probability(problem, logits)
    reached = float(problem.prompt_probability[problem.prompt] @ (chance * problem.reward))
    best = best_reward(problem)
    decided = float(np.exp(log_policy(logits)).max(axis=1).min())
    details = {"expected_reward": reached, "best": best, "least_decided_node": decided}
    if reached > best - 0.01 * max(abs(best), 1e-3):
        verdict = f"At a best policy: followed from the uniform policy it reaches J = {reached:.4f}, the best being {best:.4g}."
        return Finding("fixed_point", title, verdict, "good", best - reached, "reward short of the best", details)
    verdict = f"Followed from the uniform policy it ends at J = {reached:.4f}; the best is {best:.4g}."
    return Finding("fixed_point", title, verdict, "bad", best - reached, "reward short of the best", details)


def _on_bandit(subject: Subject, size: int, exchangeable: bool) -> Finding:
    """The zero of the field on the bandit, against the closed-form optima."""
    title = "where it comes to rest (3-armed bandit)"
    bandit, ref = TokenProblem.bandit(REWARD), np.log(REFERENCE)[None]

    def ascent(free: Array) -> Array:
        logits = np.append(free, 0.0)[None]
        return enumerated_field(subject, bandit, Setting(logits, ref=ref), size, exchangeable)[0]

    start = (np.log(REFERENCE) - np.log(REFERENCE[-1]))[:-1]
    rest = _rest(ascent, start, subject.rounding)
    if rest is None:
        return _no_rest(title, ascent, start)
    policy = np.exp(log_policy(np.append(rest, 0.0)[None]))[0]
    stable = _is_stable(ascent, rest, max(1e-5, 100 * subject.rounding))
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
    if distance[name] < max(1e-5, 10 * subject.rounding):
        verdict = f"At the optimum of J minus {beta:.4g} times the {name} (total variation {distance[name]:.1e}).{unstable}"
        return Finding("fixed_point", title, verdict, "good" if stable else "bad", distance[name], "total variation", details)
    verdict = (
        f"At {_shown(policy)}, {distance[name]:.3g} in total variation from the nearest closed form ({name} with beta "
        f"{beta:.3g}).{unstable}"
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


def _rest(ascent, start: Array, rounding: float) -> Array | None:
    """A zero of the field, of that relative rounding, in the free logits, or None where it runs away to the edge."""
    options = {} if rounding == DOUBLE else {"eps": rounding}  # differences over a step above the noise
    for point in (start + np.array([2.0, 0.0]), start, np.zeros_like(start)):  # rests lie towards the good arm
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = optimize.root(lambda free: ascent(free)[:-1], point, tol=1e-12, options=options)
        if np.abs(found.x).max() < 25 and np.abs(found.fun).max() < max(1e-9, 1e-2 * rounding) and _interior(found.x):
            return found.x
    return None


def _interior(free: Array) -> bool:
    """Away from the edge of the simplex, where every softmax gradient vanishes."""
    return bool(np.exp(log_policy(np.append(free, 0.0)[None])).min() > 1e-6)


def _is_stable(ascent, rest: Array, step: float) -> bool:
    """Whether all eigenvalues of the field's Jacobian at rest, by central differences, have real parts below zero."""
    columns = [(ascent(rest + step * e)[:-1] - ascent(rest - step * e)[:-1]) / (2 * step) for e in np.eye(len(rest))]
    return bool(np.linalg.eigvals(np.array(columns).T).real.max() < 0)


def _temperature(subject: Subject, bandit: TokenProblem, ref: Array, size: int, exchangeable: bool) -> float | None:
    """beta = b/a from the two parts of the field beside the reference, or None where J is not ascended."""
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
    for _ in range(80):
        slope = ascent(free)
        size = np.abs(slope).max()
        if not np.isfinite(size) or size < 1e-12:
            break
        free = free + (slope[:-1] - slope[-1]) / size
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
