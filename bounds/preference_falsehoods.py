r"""False statements about preferences, for the search to break.

IPO_SAMPLING    "Under Bradley-Terry the optimum of IPO does not depend on which pairs are shown, as DPO's does not." The
                numbers that IPO fits, P - 1/2, are no differences of scores: how pairs are weighed decides the compromise.
BEATEN_BY_NONE  "Nobody beats the regularised Nash policy more often than every other time." True of J, or at temperature zero.
CLOSER          "The best response to a policy is nearer to the Nash policy than the policy", true for temperature > 1/2 only.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import sympy

from .bound import Measurement
from .drawing import drawn_rewarded_games
from .games import rewarded_games
from .preference import largest, of_games, weightings
from .preference_evidence import preference

d = sympy.Symbol("d", nonnegative=True)


def _ipo_sampling(evidence: Any) -> Iterator[Measurement]:
    game = preference(evidence, "IPO's sampling")
    if game.problem.oracle.reward is None:
        return
    found = {name: game.ipo_scores(shown, game.temperature) for name, shown in weightings(game)}
    for name in ("a chain", "a star"):
        apart = [abs(a - b) for a, b in zip(found[name], found["every pair"], strict=True)]
        yield Measurement(largest(apart), {}, {"pairs": f"{name} or every pair"})


def _beaten_by_none(evidence: Any) -> Iterator[Measurement]:
    game = preference(evidence, "the regularised Nash policy")
    yield Measurement(largest(game.win_rates(game.nash)), {})


def _closer(evidence: Any) -> Iterator[Measurement]:
    game = preference(evidence, "the best response")
    for name, policy in game.policies():
        if name != "Nash":
            before = game.variation(policy, game.nash)
            yield Measurement(game.variation(game.best_response(policy), game.nash), {d: before}, {"policy": name})


IPO_SAMPLING = of_games(
    "IPO does not depend on the pairs that are shown",
    r"\max_y |s_W(y) - s_{W'}(y)|",
    sympy.Integer(0),
    {},
    _ipo_sampling,
    "false: of DPO it is true, Rafailov et al. 2023",
    assumes="a Bradley-Terry oracle, pairs that join all responses",
    family="false",
    problems=rewarded_games,
    drawn=drawn_rewarded_games,
)

BEATEN_BY_NONE = of_games(
    "no response beats the regularised Nash policy more often than not",
    r"\max_y P(y \succ \pi^*)",
    sympy.Rational(1, 2),
    {},
    _beaten_by_none,
    "false: true of the regularised payoff, or without regularisation",
    family="false",
)

CLOSER = of_games(
    "the best response is nearer to the Nash policy",
    r"\mathrm{TV}(\mathrm{BR}(\pi), \pi^*)",
    d,
    {d: "total variation of the policy to the Nash policy"},
    _closer,
    "false: iterating the best response cycles for small temperatures",
    family="false",
)

FALSEHOODS = (IPO_SAMPLING, BEATEN_BY_NONE, CLOSER)
