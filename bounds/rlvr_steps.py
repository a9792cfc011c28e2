r"""What is promised of one step of a policy: divergences to second order, certificates from curvature, surrogates.

CUMULANT      K(s) = log E_pi e^(s u): KL = K(1) - K'(0), u'F u / 2 is half of K's second derivative at 0, and its third is a
              third central moment of a variable of range r, in size at most r^3 / 4; Taylor's remainder is r^3 / 24.
CERTIFICATE   J(x + D) >= J(x) + <g, D> - M r^2 / 2 and m_H = <g, D> + D'H D / 2 <= <g, D> + M r^2 / 2. For a softmax bandit
              with rewards of span R the Hessian is below 5 R / 2 (Mei et al. 2020, arXiv 2005.06392, lemma 2).
SURROGATE     Kakade and Langford 2002; Pinsker, and Jensen over states: |E_{d^pi'} A - E_{d^pi} A| <= 2 g eps / (1 - g)
              E_{d^pi} TV <= 2 g eps / (1 - g) sqrt(E KL / 2).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import sympy
from flint import arb, ctx, fmpq

from ..mdp.criterion import Discounted
from .bound import Bound, Measurement
from .rlvr_group import of_tokens
from .token_evidence import PRECISION, Table, TokenEvidence, tokens
from .token_specimens import bandits

r, M, g, e, D = sympy.symbols("r M gamma epsilon D", nonnegative=True)
shifted = sympy.Symbol("m_H", real=True)
surrogate = sympy.Symbol("L", real=True)


def _steps(problem: TokenEvidence) -> Iterator[tuple[str, int, list[fmpq], list[arb], list[arb]]]:
    """At each node of two policies: the first, u = log of the second over it, and the second."""
    for name, policy, other in problem.pairs():
        for node in range(min(problem.n_nodes, 4)):
            if policy[node] != other[node]:
                u = [(arb(q) / arb(p)).log() for p, q in zip(policy[node], other[node], strict=True)]
                yield name, node, policy[node], u, other[node]


def _cumulant(evidence: Any) -> Iterator[Measurement]:
    problem = tokens(evidence, "the divergence")
    with ctx.workprec(PRECISION):
        for name, node, pi, u, _ in _steps(problem):
            mean = sum((p * x for p, x in zip(pi, u, strict=True)), arb(0))
            half = sum((p * (x - mean) ** 2 for p, x in zip(pi, u, strict=True)), arb(0)) / 2
            divergence = -mean + sum((p * x.exp() for p, x in zip(pi, u, strict=True)), arb(0)).log()
            widest = max((x - y for x in u for y in u), key=lambda x: float(x.mid()))
            yield Measurement(abs(divergence - half), {r: widest}, {"policies": name, "node": node})


def _certificate(evidence: Any) -> Iterator[Measurement]:
    problem = tokens(evidence, "the certificate")
    if problem.problem.horizon != 1:
        return
    for name, policy, other in problem.pairs():
        for share in (fmpq(1, 10), fmpq(1)):
            yield from _one_certificate(problem, name, policy, other, share)


def _one_certificate(problem: TokenEvidence, name: str, policy: Table, other: Table, share: fmpq) -> Iterator[Measurement]:
    """A part of the way, in logits, from one policy to another, in the first context."""
    pi, reward = policy[0], [problem.answers[row].reward for row in range(problem.n_tokens)]
    span = max(reward) - min(reward)
    if pi == other[0] or span == 0:
        return
    with ctx.workprec(PRECISION):
        step = [arb(share) * (arb(q) / arb(p)).log() for p, q in zip(pi, other[0], strict=True)]
        middle = sum((p * x for p, x in zip(pi, step, strict=True)), arb(0))
        mean = sum((p * x for p, x in zip(pi, reward, strict=True)), fmpq(0))
        weighted = [p * (x - mean) for p, x in zip(pi, reward, strict=True)]
        slope = sum((w * x for w, x in zip(weighted, step, strict=True)), arb(0))
        spread = sum((p * (x - middle) ** 2 for p, x in zip(pi, step, strict=True)), arb(0))
        bent = sum((w * ((x - middle) ** 2 - spread) for w, x in zip(weighted, step, strict=True)), arb(0))
        heavy = [p * x.exp() for p, x in zip(pi, step, strict=True)]
        gain = sum((h * x for h, x in zip(heavy, reward, strict=True)), arb(0)) / sum(heavy, arb(0)) - mean
        radius = sum((x * x for x in step), arb(0)).sqrt()
    values = {shifted: slope + bent / 2, M: fmpq(5, 2) * span, r: radius}
    yield Measurement(gain, values, {"policies": name, "share of the way": str(share)})


def _surrogate(evidence: Any) -> Iterator[Measurement]:
    problem = evidence.problem
    if not isinstance(problem.criterion, Discounted) or problem.terminal.any():
        return
    discount, n = problem.criterion.discount, problem.n_states
    for seed in range(3):
        rng = np.random.default_rng(seed)
        old, new = (_softmax(problem, spread * rng.normal(size=problem.n_pairs)) for spread in (1.0, (0.1, 0.5, 2.0)[seed]))
        new = _softmax(problem, np.log(old) + np.log(new))
        value, weight = _value(problem, old, discount), np.full(n, 1 / n)
        through = np.linalg.solve(np.eye(n) - discount * _rows(problem, old).T, weight) * (1 - discount)
        owner = np.repeat(np.arange(n), np.diff(problem.state_ptr))
        ahead = problem.reward + discount * _mean_after(problem, value)
        advantage = ahead - value[owner]
        eps = float(np.abs(advantage).max())
        gap = float(weight @ (_value(problem, new, discount) - value))
        promised = float((through[owner] * new * advantage).sum() / (1 - discount))
        apart = float((through[owner] * old * (np.log(old) - np.log(new))).sum())
        yield Measurement(gap, {surrogate: promised, g: discount, e: eps, D: max(apart, 0.0)}, {"seed": seed})


def _softmax(problem: Any, logits: np.ndarray) -> np.ndarray:
    sums = np.add.reduceat(np.exp(logits), problem.state_ptr[:-1])
    return np.exp(logits) / np.repeat(sums, np.diff(problem.state_ptr))


def _rows(problem: Any, policy: np.ndarray) -> np.ndarray:
    """The chain of a policy (m,), (n, n)."""
    owner = np.repeat(np.arange(problem.n_states), np.diff(problem.state_ptr))
    pair = np.repeat(np.arange(problem.n_pairs), np.diff(problem.row_ptr))
    chain = np.zeros((problem.n_states, problem.n_states))
    np.add.at(chain, (owner[pair], problem.successor), policy[pair] * problem.probability)
    return chain


def _mean_after(problem: Any, value: np.ndarray) -> np.ndarray:
    return np.add.reduceat(problem.probability * value[problem.successor], problem.row_ptr[:-1])


def _value(problem: Any, policy: np.ndarray, discount: float) -> np.ndarray:
    paid = np.add.reduceat(policy * problem.reward, problem.state_ptr[:-1])
    return np.linalg.solve(np.eye(problem.n_states) - discount * _rows(problem, policy), paid)


CUMULANT = of_tokens(
    "a divergence is half a variance up to a third of its order",
    r"|\mathrm{KL}(\pi_z\|\pi_{z+u}) - \frac{1}{2} u^\top F u|",
    r**3 / 24,
    {r: "largest less smallest change of a logit"},
    _cumulant,
    "of Melo, Abate and Gal 2025, arXiv 2510.00819; proved here",
)

CERTIFICATE = of_tokens(
    "a step certificate from curvature on a ball",
    r"J(\theta + D) - J(\theta)",
    shifted - M * r**2,
    {shifted: "second-order model of the gain", M: "bound on the Hessian", r: "length of the step"},
    _certificate,
    "in place of theorem 5.1 of Melo, Abate and Gal 2025, arXiv 2510.00819; proved here",
    sense="at least",
    assumes="a softmax bandit, any step in its logits",
    problems=bandits,
)

SURROGATE = Bound(
    name="performance differs by a surrogate less a root of a divergence",
    quantity=r"J(\pi') - J(\pi)",
    statement=surrogate - sympy.sqrt(2) * g * e / (1 - g) ** 2 * sympy.sqrt(D),
    symbols={
        surrogate: "mean advantage of the new policy over the old one's states, over 1 - gamma",
        g: "discount",
        e: "largest advantage in size",
        D: "mean divergence of the new policy over the old one's states",
    },
    measure=_surrogate,
    source="Kakade and Langford 2002; half the constant of Melo, Abate and Gal 2025, arXiv 2510.00819, suffices",
    sense="at least",
    family="rlvr",
)

CATALOGUE = (CUMULANT, CERTIFICATE, SURROGATE)
