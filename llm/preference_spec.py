r"""What a preference objective is: a sum of terms, each a score, a link and the way labels enter.

The score of a sequence y under the policy pi is one linear form of log-probabilities,

    s(y) = (log pi(y) - a log q(y) - b log pi_t(y)) / |y|^k ,     k = 0 (sum) or 1 (mean over tokens),

with q the reference and pi_t the previous iterate: (a, b) = (1, 0) is DPO, (0, 0) is reference-free (SimPO), (0, 1) is SPPO,
(c, 1 - c) is the geometric mixture of INPO and Nash-MD. ORPO takes s - log(1 - e^s), the log-odds, for s. With m = s(y) -
s(y') the margin of a pair, p the probability that y is the better one and f a link, the terms are

    PairTerm       p' f(m) + (1 - p') f(-m),   p' = (1 - 2 e) p + e (labels smoothed) or (p - e) / (1 - 2 e) (labels unflipped)
    PointTerm      for each sequence alone, with z the centre:   p d f(s - z) + (1 - p) u f(z - s)
    GradientTerm   -(p - 1/2 - tau s(y)) log pi(y) with the bracket held constant: Nash-MD's policy gradient, y drawn from pi

and a loss is their weighted mean over the batch. The two label maps are inverse to each other: an objective that unflips labels
with rate e is, in expectation over labels flipped at rate e, the clean objective at every margin (Chowdhury et al. 2403.00409).

Sources: Rafailov et al. 2023 (2305.18290); Azar et al. 2024 (2310.12036); Tang et al. 2024 (GPO, 2402.05749).
"""

import math
from dataclasses import dataclass
from typing import Literal, get_args

from .errors import SpecError
from .preference_link import Link, Squared

Centre = Literal["zero", "batch", "mismatched"]
Average = Literal["pairs", "sequences", "tokens"]


@dataclass(frozen=True)
class Score:
    """s(y), the number that an objective attaches to a sequence.

    reference, previous: the weights a, b in [0, 1] of log q and of log pi_t.
    normalised: divide by the number of tokens (k = 1).
    odds: pass on to the log-odds s - log(1 - e^s); without references only.
    learned: the batch holds scores of a reward model instead of log-probabilities, so any finite number goes.
    Raises SpecError when the settings exclude each other or a weight is outside its range.
    """

    reference: float = 0.0
    previous: float = 0.0
    normalised: bool = False
    odds: bool = False
    learned: bool = False

    def __post_init__(self) -> None:
        for name in ("reference", "previous"):
            if not 0 <= getattr(self, name) <= 1:
                raise SpecError(f"weight {getattr(self, name)!r} of the {name} policy is outside [0, 1]")
        if (self.odds or self.learned) and (self.reference or self.previous):
            raise SpecError("log-odds and learned scores are taken without a reference; set both weights to 0")


@dataclass(frozen=True)
class PairTerm:
    """p' f(m) + (1 - p') f(-m).

    weight: factor of the term, positive and finite.
    noise: e in [0, 1/2). unflip: use the unbiased map of labels instead of the smoothing one.
    regress: m is compared with the difference of the batch's rewards over this temperature instead of the link's target; the
        link must be `Squared`. None: no rewards.
    Raises SpecError when a number is outside its range.
    """

    score: Score
    link: Link
    weight: float = 1.0
    noise: float = 0.0
    unflip: bool = False
    regress: float | None = None

    def __post_init__(self) -> None:
        _require_weight(self.weight)
        if not 0 <= self.noise < 0.5:
            raise SpecError(f"label noise {self.noise!r} is outside [0, 1/2): at one half labels say nothing")
        if self.regress is not None:
            _require_temperature(self.regress)
            _require_squared(self.link)


@dataclass(frozen=True)
class PointTerm:
    """p d f(s - z) + (1 - p) u f(z - s) for each sequence, p the probability that it is the better (or a desirable) one.

    weight: factor of the term, positive and finite. desirable, undesirable: d, u >= 0, not both 0.
    centre: z. "zero"; "batch": the mean score of all sequences of the batch, at least 0; "mismatched": the mean of the batch's
        mismatched log-ratios, at least 0. Either estimates KL(pi || q) and is held constant.
    average: what the mean is over. "pairs": pairs, both sides of one added; "sequences": sequences; "tokens": tokens of the
        sequences that count, a mean over the whole batch (for a length-normalised score).
    regress: s is compared with regress * (win - 1/2), win the batch's win rate, instead of the link's target; the link must be
        `Squared`. None: no win rates.
    Raises SpecError when a number is outside its range.
    """

    score: Score
    link: Link
    weight: float = 1.0
    desirable: float = 1.0
    undesirable: float = 1.0
    centre: Centre = "zero"
    average: Average = "pairs"
    regress: float | None = None

    def __post_init__(self) -> None:
        _require_weight(self.weight)
        both = (self.desirable, self.undesirable)
        if not all(0 <= number < math.inf for number in both) or both == (0, 0):
            raise SpecError(f"weights {both} of desirable and undesirable sequences must be finite, >= 0 and not both 0")
        for name, known in (("centre", get_args(Centre)), ("average", get_args(Average))):
            if getattr(self, name) not in known:
                raise SpecError(f"{name} {getattr(self, name)!r} is not one of {', '.join(known)}")
        if self.average == "tokens" and not self.score.normalised:
            raise SpecError("a mean over tokens needs a length-normalised score; set Score(normalised=True)")
        if self.regress is not None:
            _require_temperature(self.regress)
            _require_squared(self.link)


@dataclass(frozen=True)
class GradientTerm:
    """-(p - 1/2 - temperature s(y)) log pi(y) over the first side, the bracket held constant.

    p is the label: the probability that y beats the opponent's y' of the second side, which has no gradient.
    temperature: the KL weight tau, positive and finite. weight: factor of the term.
    Raises SpecError when a number is outside its range.
    """

    score: Score
    temperature: float
    weight: float = 1.0

    def __post_init__(self) -> None:
        _require_weight(self.weight)
        _require_temperature(self.temperature)


Term = PairTerm | PointTerm | GradientTerm


@dataclass(frozen=True)
class PreferenceSpec:
    """A preference objective.

    name: its name in the literature. terms: at least one; the loss is their sum. source: authors, year and arXiv id.
    pairs: where theory wants the compared sequences from. "data": a fixed set; "policy": both from the current policy;
        "previous": both from the previous iterate; "mixture": the first from the policy, the second from the opponent.
        The loss does not depend on it; its population optimum does.
    Raises SpecError when there is no term.
    """

    name: str
    terms: tuple[Term, ...]
    source: str
    pairs: Literal["data", "policy", "previous", "mixture"] = "data"

    def __post_init__(self) -> None:
        if not self.terms:
            raise SpecError(f"objective {self.name!r} has no terms; an objective is a sum of at least one")

    @property
    def contrastive(self) -> bool:
        """True when the loss is a function of the margins of pairs alone, and so blind to responses never compared."""
        return all(isinstance(term, PairTerm) for term in self.terms)

    @property
    def uses(self) -> frozenset[str]:
        """Which of "reference", "previous", "length", "win", "reward", "mismatched" the batch must carry."""
        found = set()
        for term in self.terms:
            score = term.score
            found |= {name for name in ("reference", "previous") if getattr(score, name)}
            found |= {"length"} if score.normalised else set()
            if isinstance(term, PairTerm) and term.regress is not None:
                found.add("reward")
            if isinstance(term, PointTerm):
                found |= ({"win"} if term.regress is not None else set()) | {term.centre} & {"mismatched"}
        return frozenset(found)


def _require_weight(weight: float) -> None:
    if not 0 < weight < math.inf:
        raise SpecError(f"a term of weight {weight!r} is no part of a loss; give a positive finite weight or leave it out")


def _require_squared(link: Link) -> None:
    if not isinstance(link, Squared):
        raise SpecError(f"{link} has no target to put rewards or win rates into; regress with a Squared link")


def _require_temperature(temperature: float) -> None:
    if not 0 < temperature < math.inf:
        raise SpecError(f"temperature {temperature!r} is not a positive finite number")
