r"""On policy: what the expected gradient is, and what of the rewards it minds.

g(theta) = E[-grad loss] over groups drawn from pi_theta, with the sampler and the reference equal to the policy. It is held
against grad J and against the scalars of `scalars`, at several random policies with one factor for all of them. A field is a
gradient where its Jacobian is symmetric; the share of the antisymmetric part, |D - D'| / (|D| + |D'|), is the number.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ...mdp.token import TokenProblem
from .enumeration import BlindTable, Setting, blind_table, enumerated_field
from .finding import Finding
from .scalars import NO_GRADIENTS, J, Match, best_match, compare, reward_fields
from .subject import Array, Subject

EXACT = 1e-7
"""Relative residual under which a field and a candidate are the same."""

_BUMP = 1e-4


class OnPolicy:
    """The on-policy expected gradient of a loss on a problem, tabulated once where the weights allow it.

    policies: random logits (N, V) at which fields are compared. fields: g (N, V) there. group_size: of the
    enumeration actually used: that of the audit where the weights see only lengths and rewards, else at most two.
    """

    def __init__(
        self, subject: Subject, problem: TokenProblem, group_size: int, exchangeable: bool, generator: np.random.Generator
    ) -> None:
        self.subject, self.problem, self.exchangeable, self.generator = subject, problem, exchangeable, generator
        self.tolerance = max(EXACT, 10 * subject.rounding)
        self.table: BlindTable | None = blind_table(subject, problem, group_size, generator, exchangeable=exchangeable)
        self.group_size = group_size if self.table is not None else min(group_size, 2)
        self.pair_table = self.table
        if self.table is not None and group_size > 2:
            self.pair_table = blind_table(subject, problem, 2, generator, exchangeable=exchangeable, draws=1)
        shape = (problem.n_nodes, problem.vocabulary_size)
        self.policies = [generator.normal(0.0, 1.0, shape) for _ in range(6 if self.table is not None else 3)]
        self.fields = [self.field(logits) for logits in self.policies]

    def field(self, logits: Array) -> Array:
        """g (N, V) at logits (N, V). Raises LossFailure."""
        if self.table is not None:
            return self.table.field(logits)
        return self.enumerated(Setting(logits))

    def enumerated(self, setting: Setting) -> Array:
        """E[-grad loss] (N, V) in any setting, at most two answers a group. Raises LossFailure or AuditError."""
        if self.pair_table is not None and setting.old is None and setting.ref is None and setting.reward is None:
            return self.pair_table.field(setting.logits)
        return enumerated_field(self.subject, self.problem, setting, min(self.group_size, 2), self.exchangeable)

    def with_rewards(self, reward: Array) -> list[Array]:
        """g (N, V) at two of the policies when the rewards shown are `reward` (S,). Raises LossFailure."""
        if self.table is not None:
            table = blind_table(self.subject, self.problem, self.group_size, self.generator, reward, self.exchangeable, draws=1)
            if table is not None:
                return [table.field(logits) for logits in self.policies[:2]]
        return [self.enumerated(Setting(logits, reward=reward)) for logits in self.policies[:2]]

    def against_return(self) -> Match:
        """The field against grad J."""
        fields = [reward_fields(self.problem, logits, self.group_size)[J] for logits in self.policies]
        return compare(J, self.fields, fields)


def direction(ground: OnPolicy) -> Finding:
    """Is the expected gradient that of the expected reward?"""
    match = ground.against_return()
    numbers = {"cosine": match.cosine, "scale": match.scale, "residual": match.residual, "group_size": ground.group_size}
    title = "expected gradient against grad J"
    if not np.isfinite(match.cosine):
        return Finding("direction", title, "The expected gradient is zero at every policy tried.", "bad", 0.0, "norm", numbers)
    if match.scale < 0 and match.cosine < -0.5:
        verdict = f"The sign is wrong: descending this loss lowers the expected reward (cosine {match.cosine:.3f})."
        return Finding("direction", title, verdict, "bad", match.cosine, "cosine to grad J", numbers)
    if match.residual < ground.tolerance:
        how = "Unbiased: exactly grad J" if abs(match.scale - 1) < ground.tolerance else "Exactly the direction of grad J"
        factor = "" if abs(match.scale - 1) < ground.tolerance else f", times {match.scale:.6g}"
        return Finding("direction", title, f"{how}{factor}.", "good", match.scale, "factor on grad J", numbers)
    verdict = (
        f"Biased: {100 * match.residual:.2g} % of the expected gradient is not along grad J (cosine {match.cosine:.5f}); "
        f"along it, the factor is {match.scale:.4g}."
    )
    return Finding("direction", title, verdict, "note", match.cosine, "cosine to grad J", numbers)


def which_scalar(ground: OnPolicy) -> list[Finding]:
    """The scalar whose gradient the field is, if any is, and the curl."""
    problem = ground.problem
    curl = _curl(ground)
    candidates = [reward_fields(problem, logits, ground.group_size) for logits in ground.policies]
    matches = best_match(ground.fields, candidates)
    ranking = {match.name: {"residual": match.residual, "scale": match.scale} for match in matches}
    integrable = curl < 1e-5
    if not matches:
        return []
    best = matches[0]
    title = "which scalar it ascends"
    verb = "ascends" if best.scale > 0 else "descends"
    if best.residual < ground.tolerance:
        semi = " It is a direction with a frozen term, not a gradient." if best.name in NO_GRADIENTS else ""
        verdict = f"It {verb} {best.name}, times {abs(best.scale):.6g} (residual {best.residual:.1e}).{semi}"
        named = Finding("scalar", title, verdict, "good" if best.name == J else "note", best.residual, "residual", ranking)
    elif (pair := _two_terms(ground, candidates)) is not None:
        name, along, scale = pair
        ranking["two terms"] = {"J": along, name: scale}
        verdict = f"It ascends {along:.6g} times J {'plus' if scale > 0 else 'minus'} {abs(scale):.6g} times {name}."
        named = Finding(
            "scalar", title, verdict, "note", abs(scale / along) if along else None, "second term over the first", ranking
        )
    else:
        verdict = f"None of the known scalars; the nearest is {best.name} (cosine {best.cosine:.5f})."
        per_prompt = _prompt_factors(ground)
        if per_prompt is not None and integrable:
            verdict = (
                "A scalar sum_q rho_q F(p_q) of the prompts' success rates alone: each prompt's gradient is parallel to grad "
                f"p_q, with factors from {per_prompt.min():.3g} to {per_prompt.max():.3g}. Among fixed scalars the nearest is "
                f"{best.name} (cosine {best.cosine:.5f})."
            )
        named = Finding("scalar", title, verdict, "note", best.residual, "residual of the nearest", ranking)
    what = (
        "The field is a gradient: its Jacobian is symmetric."
        if integrable
        else f"The field is no scalar's gradient: {100 * curl:.2g} % of its Jacobian is antisymmetric."
    )
    return [named, Finding("curl", "is it a gradient at all", what, "good" if integrable else "note", curl, "curl")]


def _two_terms(ground: OnPolicy, candidates: Sequence[Mapping[str, Array]]) -> tuple[str, float, float] | None:
    """The candidate whose multiple, added to a multiple of J, is the field; with J's factor and its own."""
    wanted = np.concatenate([field.ravel() for field in ground.fields])
    for name in candidates[0]:
        if name == J:
            continue
        columns = [np.concatenate([fields[key].ravel() for fields in candidates]) for key in (J, name)]
        factors, *_ = np.linalg.lstsq(np.array(columns).T, wanted)
        rest = np.linalg.norm(wanted - factors @ np.array(columns))
        if rest < ground.tolerance * np.linalg.norm(wanted):
            return name, float(factors[0]), float(factors[1])
    return None


def _curl(ground: OnPolicy) -> float:
    """Share of the antisymmetric part of the Jacobian: all of it where fields are cheap, along random directions otherwise."""
    logits = ground.policies[0]
    if ground.table is not None and logits.size <= 150:
        directions = np.eye(logits.size).reshape(-1, *logits.shape)
    else:
        directions = ground.generator.normal(size=(2, *logits.shape))
    columns = []
    for step in directions:
        ahead, behind = ground.field(logits + _BUMP * step), ground.field(logits - _BUMP * step)
        columns.append((ahead - behind).ravel() / (2 * _BUMP))
    jacobian = np.array(columns) @ np.array([step.ravel() for step in directions]).T
    size = 2 * np.linalg.norm(jacobian)
    return float(np.linalg.norm(jacobian - jacobian.T) / size) if size else 0.0


def _prompt_factors(ground: OnPolicy) -> Array | None:
    """F'(p) at every policy and prompt where each prompt's field is parallel to grad p, else None."""
    problem = ground.problem
    factors = []
    for logits, field in zip(ground.policies, ground.fields, strict=True):
        gradient = reward_fields(problem, logits, ground.group_size)[J]
        for prompt in range(problem.n_prompts):
            rows = problem.node_prompt == prompt
            match = compare("", [field[rows]], [gradient[rows]])
            if np.isnan(match.residual) and not field[rows].any():
                continue
            if not match.residual < ground.tolerance:
                return None
            factors.append(match.scale)
    return np.array(factors) if factors else None


def reward_shift(ground: OnPolicy) -> Finding:
    """Does a constant added to every reward change the expected gradient?"""
    before = ground.with_rewards(ground.problem.reward)
    after = ground.with_rewards(ground.problem.reward + 1.0)
    size = max(np.linalg.norm(before), 1e-300)
    change = float(np.linalg.norm(np.subtract(after, before)) / size)
    title = "a constant added to the rewards"
    if change < ground.tolerance:
        return Finding("shift", title, "Adding 1 to every reward changes nothing in expectation.", "good", change, "change")
    verdict = f"It matters: adding 1 to every reward changes the expected gradient by {100 * change:.3g} %."
    return Finding("shift", title, verdict, "bad", change, "relative change of the expected gradient")


def reward_scale(ground: OnPolicy) -> Finding:
    """What doubling every reward does to the expected gradient."""
    before = ground.with_rewards(ground.problem.reward)
    after = ground.with_rewards(2.0 * ground.problem.reward)
    match = compare("", after, before)
    title = "rewards doubled"
    if abs(match.scale - 1) < 1e-3 and match.residual < 1e-3:
        verdict = "Rewards are normalised away: twice the reward gives the same gradient."
    elif abs(match.scale - 2) < max(1e-6, ground.tolerance) and match.residual < ground.tolerance:
        verdict = "Twice the reward gives twice the gradient."
    else:
        verdict = f"Twice the reward gives {match.scale:.4g} times the gradient, and turns it by {match.residual:.1e}."
    return Finding("scale", title, verdict, "note", match.scale, "factor")
