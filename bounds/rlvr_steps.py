r"""What is promised of one step of a policy: divergences to second order, certificates from curvature, surrogates.

CUMULANT      K(s) = log E_pi e^(s u): KL = K(1) - K'(0), u'F u / 2 is half of K's second derivative at 0, and its third is a
              third central moment of a variable of range r, in size at most r^3 / 4; Taylor's remainder is r^3 / 24.
CERTIFICATE   Steps D_i no longer than r, M a bound on the Hessian of J on the ball of radius r: m_H(D_i) = <g, D_i> +
              D_i'H D_i / 2 <= <g, D_i> + M r^2 / 2, so each <g, D_i>, and that of their mean D, is at least
              min m_H - M r^2 / 2; and J(x + D) >= J(x) + <g, D> - M r^2 / 2. No smaller multiple of M r^2 will do: J may bend
              by M at x and by -M from there on.
AVERAGED      The mean of D_i'H D_i less D'H D is the mean of (D_i - D)'H(D_i - D), at most M (mean |D_i|^2 - |D|^2).
SPREAD        u'F u is convex.
SURROGATE     Kakade and Langford 2002; Pinsker, and Jensen over states: |E_{d^pi'} A - E_{d^pi} A| <= 2 g eps / (1 - g)
              E_{d^pi} TV <= 2 g eps / (1 - g) sqrt(E KL / 2).

A softmax bandit's J with rewards of span R bends along u by at most R (max u - min u)^2 / (6 sqrt 3) <= M |u|^2 with

    M = R / (3 sqrt 3),

attained by two arms (5 R / 2 by Mei et al. 2020, arXiv 2005.06392, lemma 2). u'H u = Cov(r, (u - Eu)^2) is linear in r, so
largest where r is R on a set S and 0 off it. Let q = 1 - p be the chance of S, s = max u - min u, d >= 0 the gap of the means
of u on S and off it, v and w its variances there: it is R p q (v - w + (p - q) d^2). Where p < q that is below R v / 4 <=
R s^2 / 16. Else, with z in [0, s] the mean off S, above min u, v + (p - q) d^2 <= E[(u - z)^2 | S] - 2 q d^2 <= (s - 2 z) d +
z (s - z) - 2 q d^2 by the chord of the square; the best z is s / 2 - d or 0. The first, d <= s / 2, leaves p^2 q s^2 / 2 <=
2 s^2 / 27; the second p s^2 / 8 <= 3 s^2 / 32 where q >= 1/4, and else p q (p - q) s^2 <= s^2 / (6 sqrt 3), at d = s.
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
from .token_evidence import PRECISION, TokenEvidence, tokens
from .token_specimens import bandits

r, M, g, e, D = sympy.symbols("r M gamma epsilon D", nonnegative=True)
shifted = sympy.Symbol("m_H", real=True)
surrogate = sympy.Symbol("L", real=True)
apart = sympy.Symbol("F", nonnegative=True)


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


class _Arms:
    """The first context of a bandit at a policy: what a change u of its logits, (V,), does to J. In balls."""

    def __init__(self, pi: list[fmpq], reward: list[fmpq]) -> None:
        self.pi, self.reward = pi, reward
        mean = self.mean(reward)
        self.centred = [x - mean for x in reward]
        self.bend = arb(max(reward) - min(reward)) / (3 * arb(3).sqrt())

    def mean(self, x: list[Any]) -> Any:
        """E_pi x."""
        return sum((p * y for p, y in zip(self.pi, x, strict=True)), arb(0))

    def off_mean(self, u: list[arb]) -> list[arb]:
        """(u - E u)^2, whose mean is u'F u."""
        middle = self.mean(u)
        return [(x - middle) * (x - middle) for x in u]

    def shift(self, u: list[arb]) -> arb:
        """m_H, the gain to second order, by the exact gradient and Hessian."""
        along = [x + y / 2 for x, y in zip(u, self.off_mean(u), strict=True)]
        return self.mean([r * x for r, x in zip(self.centred, along, strict=True)])

    def gain(self, u: list[arb]) -> arb:
        """J after less J before."""
        heavy = [x.exp() for x in u]
        return self.mean([r * x for r, x in zip(self.centred, heavy, strict=True)]) / self.mean(heavy)


_Kept = tuple[_Arms, list[list[arb]], dict[str, str]]


def _kept(evidence: Any, what: str) -> Iterator[_Kept]:
    """Sets of steps at each policy of a bandit: a part of the way to the next policy; there and back; to each of the others."""
    problem = tokens(evidence, what)
    if problem.problem.horizon != 1:
        return
    reward = [problem.answers[row].reward for row in range(problem.n_tokens)]
    for name, policy in problem.policies.items():
        arms = _Arms(policy[0], reward)
        ways = [
            [(arb(q) / arb(p)).log() for p, q in zip(policy[0], other[0], strict=True)]
            for other in problem.policies.values()
            if other[0] != policy[0]
        ]
        if max(reward) == min(reward) or not ways:
            continue
        for share in (fmpq(1, 10), fmpq(1)):
            steps = [[arb(share) * x for x in way] for way in ways]
            sets = {"one": steps[:1], "there and back": [steps[0], [-x for x in steps[0]]], "several": steps}
            for some, members in sets.items():
                yield arms, members, {"policy": name, "share of the way": str(share), "steps": some}


def _average(steps: list[list[arb]]) -> list[arb]:
    return [sum(x, arb(0)) / len(steps) for x in zip(*steps, strict=True)]


def _radius(steps: list[list[arb]]) -> arb:
    return max((sum((x * x for x in u), arb(0)).sqrt() for u in steps), key=lambda x: float(x.mid()))


def _certificate(evidence: Any) -> Iterator[Measurement]:
    with ctx.workprec(PRECISION):
        for arms, steps, where in _kept(evidence, "the certificate"):
            least = min((arms.shift(u) for u in steps), key=lambda x: float(x.mid()))
            values = {shifted: least, M: arms.bend, r: _radius(steps)}
            yield Measurement(arms.gain(_average(steps)), values, where)


def _averaged(evidence: Any) -> Iterator[Measurement]:
    with ctx.workprec(PRECISION):
        for arms, steps, where in _kept(evidence, "the mean of steps"):
            lost = sum((arms.shift(u) for u in steps), arb(0)) / len(steps) - arms.shift(_average(steps))
            yield Measurement(lost, {M: arms.bend, r: _radius(steps)}, where)


def _spread(evidence: Any) -> Iterator[Measurement]:
    with ctx.workprec(PRECISION):
        for arms, steps, where in _kept(evidence, "the mean of steps"):
            if len(steps) == 1:
                continue
            own = [arms.mean(arms.off_mean(u)) / 2 for u in steps]
            found = arms.mean(arms.off_mean(_average(steps))) / 2
            yield Measurement(found, {apart: max(own, key=lambda x: float(x.mid()))}, where)


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

BANDIT = "a softmax bandit, any steps in its logits"

CERTIFICATE = of_tokens(
    "a step certificate from curvature on a ball",
    r"J(\theta + \bar D) - J(\theta)",
    shifted - M * r**2,
    {
        shifted: "second-order model of the gain, the least of the steps that are averaged",
        M: "bound on the Hessian",
        r: "length of the longest step",
    },
    _certificate,
    "in place of theorem 5.1 of Melo, Abate and Gal 2025, arXiv 2510.00819; proved here",
    sense="at least",
    assumes=BANDIT,
    problems=bandits,
)

AVERAGED = of_tokens(
    "the mean of steps loses half a curvature of their modelled gain",
    r"\frac{1}{N} \sum_i m_H(D_i) - m_H(\bar D)",
    M * r**2 / 2,
    {M: "bound on the Hessian", r: "length of the longest step"},
    _averaged,
    "of Melo, Abate and Gal 2025, arXiv 2510.00819; proved here",
    assumes=BANDIT,
    problems=bandits,
)

SPREAD = of_tokens(
    "the mean of steps moves the policy no further than the worst of them",
    r"\frac{1}{2} \bar u^\top F \bar u",
    apart,
    {apart: "half a variance of the logits' change, the largest of the steps that are averaged"},
    _spread,
    "of Melo, Abate and Gal 2025, arXiv 2510.00819; convexity",
    assumes=BANDIT,
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

CATALOGUE = (CUMULANT, CERTIFICATE, AVERAGED, SPREAD, SURROGATE)
