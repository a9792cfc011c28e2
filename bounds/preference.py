r"""What self-play on preferences promises, and the certificates of its games.

q the reference, t the temperature, p* the regularised Nash policy, KL_k = KL(p* | p_k), BR(p) = q e^(P p / t) / Z,
G(p) = max J(., p) - min J(p, .) the duality gap. Proofs of what has no better source:

GAP_IDENTITY     max J(., p) = t log Z + t KL(p | q) and <p, P p> = 1/2, hence G(p) = 2 t KL(p | BR(p)).
GAP_DISTANCE     J(p*, p) - 1/2 = t KL(p | p*) exactly, and G(p) = 2 (max J(., p) - 1/2) is not below twice that.
WIN_PRICE        J(p, p*) <= 1/2, written out: a policy that beats p* pays for it in KL.
CONTRACTION      the entries of P p - P p' lie within +- TV(p, p'); moving scores by a span h moves a softmax by at most h / 4
                 in TV: TV(BR(p), BR(p')) <= TV(p, p') / (2 t). Iterating the best response converges for t > 1/2.
INPO_LAST        with c_k = t (k + 2) / 2 and q first: KL_{k+1} <= (1 - t/c_k) KL_k + 1/(2 c_k^2), the spans of the losses
                 staying below 2, and by induction KL_T <= 2 / (t^2 (T + 1)).
NORMALISER       log E e^(eta X), X = P(y > p) in [0, 1] of mean 1/2: Jensen below, Hoeffding's lemma above.
IPO_SPAN         sort IPO's scores. Over the pairs across a gap h, sum S h <= sum S (s_i - s_j) = sum S (P - 1/2) / t, at most
                 sum S / (2 t). So no gap is above 1/(2 t), and the span is at most (n - 1) / (2 t), whatever pairs are shown.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import reduce
from itertools import combinations
from typing import Any

import sympy
from flint import arb, ctx, fmpq

from ..mdp.preference import PreferenceGame
from ..solvers.regularised_nash import PRECISION
from .bound import Bound, Measurement
from .drawing import drawn_games
from .games import preference_games
from .number import is_exact
from .preference_evidence import PreferenceEvidence, preference

k, n = sympy.symbols("k n", integer=True, positive=True)
t, e, c, start, gap, apart, held = sympy.symbols("tau eta c KL_0 G d D", nonnegative=True)

STEPS = (1, 2, 3, 5, 8, 13, 21, 34)
"""Steps at which a promise is read."""

GAME = "a preference oracle with P + P' = 1, a reference q > 0, a temperature > 0"


def _nash_md(evidence: Any) -> Iterator[Measurement]:
    game = preference(evidence, "Nash-MD")
    for share in (fmpq(1, 10), fmpq(1, 2), fmpq(1)):
        rate = share / game.temperature
        policy = game.reference
        values = {t: game.temperature, e: rate, start: game.divergence(game.nash, policy)}
        for steps in range(1, STEPS[-1] + 1):
            policy = game.nash_md(policy, rate)
            if steps in STEPS:
                found = game.divergence(game.nash, policy)
                yield Measurement(found, values | {k: steps}, {"steps": steps, "rate times temperature": str(share)})


def _inpo_last(evidence: Any) -> Iterator[Measurement]:
    game = preference(evidence, "INPO")
    policy = game.reference
    for steps in range(1, STEPS[-1] + 1):
        policy = game.inpo(policy, game.temperature * fmpq(steps + 1, 2))
        if steps in STEPS:
            yield Measurement(game.divergence(game.nash, policy), {t: game.temperature, k: steps}, {"steps": steps})


def _inpo_constant(evidence: Any) -> Iterator[Measurement]:
    game = preference(evidence, "INPO")
    for ratio in (1, 3, 10):
        inverse, policy = game.temperature * ratio, game.reference
        values = {t: game.temperature, c: inverse, start: game.divergence(game.nash, policy)}
        for steps in range(1, STEPS[-1] + 1):
            policy = game.inpo(policy, inverse)
            if steps in STEPS:
                found = game.divergence(game.nash, policy)
                yield Measurement(found, values | {k: steps}, {"steps": steps, "inverse step over temperature": ratio})


def _normaliser(evidence: Any) -> Iterator[Measurement]:
    game = preference(evidence, "SPPO's normaliser")
    for name, policy in game.policies():
        for eta in (fmpq(1, 10), fmpq(1), fmpq(4)):
            with ctx.workprec(PRECISION):
                total = game.mean(policy, [(arb(eta) * rate).exp() for rate in game.win_rates(policy)])
                found = total.log() - arb(eta) / 2
            yield Measurement(found, {e: eta}, {"policy": name, "eta": str(eta)})


def _sppo_average(evidence: Any) -> Iterator[Measurement]:
    game = preference(evidence, "SPPO's average")
    if game.n < 2:
        return
    for steps in (1, 4, 16, 64):
        policy, total = game.uniform, [arb(0)] * game.n
        with ctx.workprec(PRECISION):
            eta = (8 * arb(game.n).log() / steps).sqrt()
            for _ in range(steps):
                total = [a + p for a, p in zip(total, policy, strict=True)]
                policy = game.tilted(policy, [eta * rate for rate in game.win_rates(policy)])
            rates = game.win_rates([a / steps for a in total])
            found = largest(rates) - arb(1) / 2
        yield Measurement(found, {n: game.n, k: steps}, {"steps": steps})


def _contraction(evidence: Any) -> Iterator[Measurement]:
    game = preference(evidence, "the contraction")
    answers = [(name, policy, game.best_response(policy)) for name, policy in game.policies()]
    for (one, p, a), (other, r, b) in combinations(answers, 2):
        distance = game.variation(p, r)
        if distance > 0:
            found = game.variation(a, b)
            yield Measurement(found, {t: game.temperature, apart: distance}, {"policies": f"{one}, {other}"})


def _gap_identity(evidence: Any) -> Iterator[Measurement]:
    game = preference(evidence, "the gap identity")
    for name, policy in game.policies():
        answer = game.best_response(policy)
        found = game.payoff(answer, policy) - game.payoff(policy, answer)
        yield Measurement(found, {t: game.temperature, held: game.divergence(policy, answer)}, {"policy": name})


def _gap_distance(evidence: Any) -> Iterator[Measurement]:
    game = preference(evidence, "the gap's distance")
    for name, policy in game.policies():
        if name != "Nash":
            values = {t: game.temperature, gap: game.gap(policy)}
            yield Measurement(game.divergence(policy, game.nash), values, {"policy": name})


def _win_price(evidence: Any) -> Iterator[Measurement]:
    game = preference(evidence, "the price of a win")
    rates, least = game.win_rates(game.nash), game.divergence(game.nash, game.reference)
    for name, policy in game.policies():
        if name == "Nash":
            continue
        with ctx.workprec(PRECISION):
            found = game.mean(policy, rates) - arb(1) / 2
            paid = game.divergence(policy, game.reference) - least
        yield Measurement(found, {t: game.temperature, held: paid}, {"policy": name})


def weightings(game: PreferenceEvidence) -> Iterator[tuple[str, list[list[fmpq]]]]:
    """Symmetric weights (n, n) of pairs that join all responses, by name: a chain, a star, every pair."""
    for name, shown in (
        ("a chain", lambda i, j: abs(i - j) == 1),
        ("a star", lambda i, j: i != j and 0 in (i, j)),
        ("every pair", lambda i, j: i != j),
    ):
        yield name, [[fmpq(1 if shown(i, j) else 0) for j in range(game.n)] for i in range(game.n)]


def _ipo_span(evidence: Any) -> Iterator[Measurement]:
    game = preference(evidence, "IPO's span")
    for name, shown in weightings(game):
        scores = game.ipo_scores(shown, game.temperature)
        found = largest([a - b for a in scores for b in scores])
        yield Measurement(found, {t: game.temperature, n: game.n}, {"pairs": name})


def largest(numbers: list[Any]) -> Any:
    """The largest of some rationals, or of some balls; at least one."""
    return max(numbers) if all(map(is_exact, numbers)) else reduce(arb.max, numbers)


def of_games(
    name: str, quantity: str, statement: Any, symbols: dict[Any, str], measure: Any, source: str, **rest: Any
) -> Bound:
    """A statement about preference games; the rest as in `Bound`, with this shelf's own where it is left out.

    symbols: the meaning of those that are not the shelf's own.
    """
    words = {t: "temperature", k: "steps", n: "responses", start: "KL of the Nash policy to the reference"}
    used = sympy.sympify(statement).free_symbols
    return Bound(
        name=name,
        quantity=quantity,
        statement=statement,
        symbols={symbol: words[symbol] for symbol in words if symbol in used} | symbols,
        measure=measure,
        source=source,
        about=PreferenceGame,
        **({"assumes": GAME, "family": "preference", "problems": preference_games, "drawn": drawn_games} | rest),
    )


NASH_MD = of_games(
    "Nash-MD comes near the Nash policy",
    r"\mathrm{KL}(\pi^*\|\pi_k)",
    (1 - e * t) ** k * start + 2 * e / t,
    {e: "rate, at most 1/tau"},
    _nash_md,
    "Munos et al. 2023, arXiv 2312.00886, theorem 1",
    axis="steps",
)

INPO_LAST = of_games(
    "INPO with a decaying rate converges in its last iterate",
    r"\mathrm{KL}(\pi^*\|\pi_k)",
    2 / (t**2 * (k + 1)),
    {},
    _inpo_last,
    "after Zhang et al. 2024, arXiv 2407.00617; constants proved here",
    axis="steps",
    assumes=GAME + "; inverse step tau (k + 2) / 2 in step k = 0, 1, ..., from the reference",
)

INPO_CONSTANT = of_games(
    "INPO with a constant rate comes near the Nash policy",
    r"\mathrm{KL}(\pi^*\|\pi_k)",
    (1 - t / c) ** k * start + 1 / (2 * c * t),
    {c: "inverse step, at least tau"},
    _inpo_constant,
    "after Zhang et al. 2024, arXiv 2407.00617; constants proved here",
    axis="steps",
)

NORMALISER = of_games(
    "the normaliser of SPPO's step is close to half the rate",
    r"\log Z - \eta/2",
    e**2 / 8,
    {e: "rate"},
    _normaliser,
    "Hoeffding 1963; of Wu et al. 2024, arXiv 2405.00675",
)

NORMALISER_BELOW = of_games(
    "the normaliser of SPPO's step is never below half the rate",
    r"\log Z - \eta/2",
    sympy.Integer(0),
    {e: "rate"},
    _normaliser,
    "Jensen 1906; of Wu et al. 2024, arXiv 2405.00675",
    sense="at least",
)

SPPO_AVERAGE = of_games(
    "the average of SPPO is hard to exploit",
    r"\max_y P(y \succ \bar\pi_k) - \frac{1}{2}",
    sympy.sqrt(sympy.log(n) / (2 * k)),
    {},
    _sppo_average,
    "Freund and Schapire 1999; Cesa-Bianchi and Lugosi 2006, theorem 2.2; Wu et al. 2024, arXiv 2405.00675",
    axis="steps",
    assumes="a preference oracle with P + P' = 1, at least two responses, uniform start, rate sqrt(8 log n / k)",
)

CONTRACTION = of_games(
    "the best response to preferences contracts",
    r"\mathrm{TV}(\mathrm{BR}(\pi), \mathrm{BR}(\pi'))",
    apart / (2 * t),
    {apart: "total variation between the policies"},
    _contraction,
    "Calandriello et al. 2024, arXiv 2403.08635 (iteration); constant proved here",
)

GAP_IDENTITY = of_games(
    "the duality gap is a divergence to the best response",
    r"\max J(\cdot, \pi) - \min J(\pi, \cdot)",
    2 * t * held,
    {held: "KL to the best response"},
    _gap_identity,
    "Donsker and Varadhan 1975; proved here",
    sense="equal to",
)

GAP_DISTANCE = of_games(
    "the duality gap bounds the divergence to the Nash policy",
    r"\mathrm{KL}(\pi\|\pi^*)",
    gap / (2 * t),
    {gap: "duality gap"},
    _gap_distance,
    "Ye et al. 2024, arXiv 2402.07314; proved here",
)

WIN_PRICE = of_games(
    "beating the regularised Nash policy costs divergence",
    r"P(\pi \succ \pi^*) - \frac{1}{2}",
    t * held,
    {held: "KL of the policy to the reference less that of the Nash policy"},
    _win_price,
    "Munos et al. 2023, arXiv 2312.00886, saddle point",
)

IPO_SPAN = of_games(
    "IPO moves no two responses far apart",
    r"\max_y s(y) - \min_y s(y)",
    (n - 1) / (2 * t),
    {},
    _ipo_span,
    "of Azar et al. 2024, arXiv 2310.12036; proved here",
)

CATALOGUE = (
    NASH_MD,
    INPO_LAST,
    INPO_CONSTANT,
    NORMALISER,
    NORMALISER_BELOW,
    SPPO_AVERAGE,
    CONTRACTION,
    GAP_IDENTITY,
    GAP_DISTANCE,
    WIN_PRICE,
    IPO_SPAN,
)
