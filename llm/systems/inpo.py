r"""INPO, iterative Nash policy optimization: mirror descent by self-play on labels alone, which converges to the Nash policy.

A step minimises the squared loss `banach.llm.inpo` on pairs drawn from the policy before; on a table that is
`banach.solvers.preference_iterations.INPO`, from labels `banach.solvers.sampled_self_play.SampledINPO`. How near a policy is to
the regularised Nash policy p* needs no p*: KL(p | p*) <= G / (2 tau), G the duality gap (`banach.solvers.duality_gap`).

Zhang et al. 2025, arXiv 2407.00617.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING

import numpy as np

from ...mdp.preference import PreferenceGame, PreferenceOracle
from ...solvers import preference_iterations
from ...solvers.gibbs import divergence, gibbs
from ...solvers.nash import exploitability, nash
from ...solvers.preference_iterations import Iteration, NashMD, OnlineDPO, OnlineIPO, SPPOIteration, anchor, iterate
from ...solvers.preference_losses import DPO, RLHF
from ...solvers.preference_optimum import population_optimum
from ...solvers.regularised_nash import best_response, duality_gap, regularised_nash
from ...solvers.sampled_self_play import SampledINPO, labels
from ..preference_catalogue import inpo, preference
from .system import Reduction, System, add

if TYPE_CHECKING:
    from ..testbeds.comparison import Comparison

Train = Callable[[PreferenceGame, int, int], tuple[np.ndarray, np.ndarray]]
"""From a game, a number of steps and a seed to the last policy and the average, (n,) each."""


def tournament(seed: int, temperature: float, n: int = 8) -> PreferenceGame:
    """Independent win probabilities between 0.05 and 0.95 among n responses, and a reference that favours some."""
    rng = np.random.default_rng(seed)
    upper = np.triu(rng.uniform(0.05, 0.95, (n, n)), 1)
    oracle = PreferenceOracle(upper + np.tril(1 - upper.T, -1) + np.eye(n) / 2)
    return PreferenceGame(oracle, rng.dirichlet(np.full(n, 5.0)), temperature)


def ring(seed: int, temperature: float, n: int = 3) -> PreferenceGame:
    """Rock, paper, scissors at 0.9, with lizard and Spock for n = 5, and a reference that favours some."""
    reference = np.random.default_rng(seed).dirichlet(np.full(n, 5.0))
    return PreferenceGame(PreferenceOracle.cyclic(n, 0.9), reference, temperature)


def spock(seed: int, temperature: float) -> PreferenceGame:
    """Rock, paper, scissors, lizard and Spock."""
    return ring(seed, temperature, 5)


def annotators(seed: int, temperature: float, n: int = 6) -> PreferenceGame:
    """A third each of three annotators by Bradley and Terry, who rank n responses in the same cyclic order from different
    beginnings (Condorcet), with noise; a multiple of three responses.
    """
    rng = np.random.default_rng(seed)
    order, scale = rng.permutation(n), np.linspace(-3.0, 3.0, n)
    rewards = [np.roll(scale, k * n // 3)[order] + 0.3 * rng.normal(size=n) for k in range(3)]
    return PreferenceGame(PreferenceOracle.population(np.array(rewards)), rng.dirichlet(np.full(n, 5.0)), temperature)


def rewarded(seed: int, temperature: float, n: int = 8) -> PreferenceGame:
    """A reward stands behind the labels."""
    rng = np.random.default_rng(seed)
    return PreferenceGame(PreferenceOracle.bradley_terry(rng.normal(size=n)), rng.dirichlet(np.full(n, 5.0)), temperature)


def judged_texts(seed: int, temperature: float, vocabulary: int = 4, length: int = 3) -> PreferenceGame:
    """All texts of `length` tokens under the majority of three judges, each with its own weights of tokens and of bigrams.

    The reference writes tokens independently; a table of tokens can express every law of texts.
    """
    rng = np.random.default_rng(seed)
    texts = np.array(list(product(range(vocabulary), repeat=length)))
    judges = []
    for _ in range(3):
        unigram, bigram = 0.5 * rng.normal(size=vocabulary), 0.5 * rng.normal(size=(vocabulary, vocabulary))
        reward = unigram[texts].sum(axis=1) + bigram[texts[:, :-1], texts[:, 1:]].sum(axis=1)
        judges.append(PreferenceOracle.bradley_terry(reward).matrix)
    a, b, c = judges
    majority, _ = PreferenceOracle.symmetrised(a * b + a * c + b * c - 2 * a * b * c)
    tokens = rng.dirichlet(np.full(vocabulary, 5.0), length)
    reference = np.prod([tokens[position, texts[:, position]] for position in range(length)], axis=0)
    return PreferenceGame(majority, reference / reference.sum(), temperature)


def verbose(seed: int, temperature: float, longest: int = 4) -> tuple[PreferenceGame, np.ndarray]:
    """Texts of one to `longest` words, two words, under two annotators by Bradley and Terry: one wants length, one content.

    The reference stops with even odds after each word. The game, and the length of each response, (n,).
    """
    rng = np.random.default_rng(seed)
    length = np.repeat(np.arange(1, longest + 1), 2 ** np.arange(1, longest + 1)).astype(float)
    oracle = PreferenceOracle.population(np.array([length, rng.normal(size=len(length))]))
    reference = 0.25**length * rng.uniform(0.5, 1.5, len(length))
    return PreferenceGame(oracle, reference / reference.sum(), temperature), length


def self_play(method: Callable[[PreferenceGame, int, int], Iteration]) -> Train:
    """`iterate` with a method chosen by the game, the steps and the seed; a run asked for again is not repeated."""
    known: dict[tuple[str, int, int], tuple[np.ndarray, np.ndarray]] = {}

    def train(game: PreferenceGame, steps: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
        key = (game.fingerprint, steps, seed)
        if key not in known:
            path = iterate(game, method(game, steps, seed), steps)
            known[key] = path.last, path.average
        return known[key]

    return train


def at_once(method: Callable[[PreferenceGame, int, int], np.ndarray]) -> Train:
    """From a policy, (n,), that is found without steps, the same twice."""

    def train(game: PreferenceGame, steps: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
        policy = method(game, steps, seed)
        return policy, policy

    return train


def _rate(game: PreferenceGame, steps: int) -> float:
    """SPPO's, for which its average is proved."""
    return float(np.sqrt(8 * np.log(game.n_responses) / steps))


def methods() -> dict[str, Train]:
    """What is compared, all at the game's own temperature t; DPO and RLHF at 4 t, where near even preferences they agree with
    IPO at t.
    """
    inpo = preference_iterations.INPO
    return {
        "iterative DPO": self_play(lambda game, steps, seed: OnlineDPO(4 * game.temperature)),
        "RLHF": at_once(
            lambda game, steps, seed: population_optimum(game.oracle, None, game.reference, RLHF(4 * game.temperature)).policy
        ),
        "online IPO": self_play(lambda game, steps, seed: OnlineIPO()),
        "SPPO": self_play(lambda game, steps, seed: SPPOIteration(_rate(game, steps))),
        "Nash-MD": self_play(lambda game, steps, seed: NashMD(1.0)),
        "INPO, eta = 3 tau": self_play(lambda game, steps, seed: inpo(3 * game.temperature)),
        "INPO, eta = 30 tau": self_play(lambda game, steps, seed: inpo(30 * game.temperature)),
        "INPO, growing eta": self_play(lambda game, steps, seed: inpo.decaying(game.temperature)),
        "regularised Nash policy": at_once(lambda game, steps, seed: regularised_nash(game).policy),
        "plain Nash policy": at_once(lambda game, steps, seed: nash(game.oracle).policy),
    }


@dataclass(frozen=True, eq=False)
class FromLabels:
    """A step that is told no win rate, only who won in `count` pairs drawn from a policy's own responses.

    at: the policy whose responses are compared, of the game and the last policy. fit: the following policy, (n,), of the game,
    that policy and the wins (n, n).
    """

    at: Callable[[PreferenceGame, np.ndarray], np.ndarray]
    fit: Callable[[PreferenceGame, np.ndarray, np.ndarray], np.ndarray]
    count: int
    rng: np.random.Generator

    def step(self, game: PreferenceGame, policy: np.ndarray, number: int) -> np.ndarray:
        """The following policy, (n,)."""
        shown = self.at(game, policy)
        return self.fit(game, shown, labels(game, shown, self.count, self.rng))


def fitted(game: PreferenceGame, wins: np.ndarray, loss: DPO | RLHF) -> np.ndarray:
    """DPO's or RLHF's optimum on wins (n, n) and one label more that is spread over all ordered pairs.

    Without that label there is none as long as some responses have only won, or only lost, against the others.
    """
    n = game.n_responses
    oracle, shown = PreferenceOracle.of_counts(wins + (1 - np.eye(n)) / (n * (n - 1)))
    return population_optimum(oracle, shown, game.reference, loss).policy


def rates(policy: np.ndarray, wins: np.ndarray) -> np.ndarray:
    """Win rates against a policy (n,) as wins (n, n) of pairs from it show them, (n,): an even one for what was not shown."""
    shown = (wins + wins.T).sum(axis=1)
    against_others = np.divide(wins.sum(axis=1), shown, out=np.full(len(policy), 0.5), where=shown > 0)
    return policy / 2 + (1 - policy) * against_others


def methods_from(count: int) -> dict[str, Train]:
    """The same from `count` labels a step and nothing else; RLHF has as many of the reference's pairs as others have in all."""

    def stepped(at: Callable[..., np.ndarray], fit: Callable[..., np.ndarray]) -> Train:
        return self_play(lambda game, steps, seed: FromLabels(at, fit, count, np.random.default_rng(seed)))

    def sampled(inverse_step: Callable[[float], float | Callable[[int], float]]) -> Train:
        return self_play(
            lambda game, steps, seed: SampledINPO(inverse_step(game.temperature), count, np.random.default_rng(seed))
        )

    def rlhf(game: PreferenceGame, steps: int, seed: int) -> np.ndarray:
        wins = labels(game, game.reference, steps * count, np.random.default_rng(seed))
        return fitted(game, wins, RLHF(4 * game.temperature))

    def sppo(game: PreferenceGame, steps: int, seed: int) -> Iteration:
        rate, rng = _rate(game, steps), np.random.default_rng(seed)
        return FromLabels(lambda game, p: p, lambda game, p, wins: gibbs(p, rate * rates(p, wins)), count, rng)

    return {
        "iterative DPO": stepped(lambda game, p: p, lambda game, p, wins: fitted(game, wins, DPO(4 * game.temperature))),
        "RLHF": at_once(rlhf),
        "online IPO": sampled(lambda temperature: temperature),
        "SPPO": self_play(sppo),
        "Nash-MD": stepped(lambda game, p: anchor(game, p, game.temperature), lambda game, m, wins: gibbs(m, rates(m, wins))),
        "INPO, eta = 3 tau": sampled(lambda temperature: 3 * temperature),
        "INPO, growing eta": sampled(lambda temperature: preference_iterations.INPO.decaying(temperature).inverse_step),
    }


Measure = Callable[[int], dict[str, float]]
"""From a seed to named numbers."""

FAMILIES: Mapping[str, Callable[[int, float], PreferenceGame]] = {
    "tournament": tournament,
    "tournament of 30": lambda seed, temperature: tournament(seed, temperature, 30),
    "ring": ring,
    "Spock": spock,
    "annotators": annotators,
    "reward": rewarded,
}
"""Games by a seed and a temperature."""


def order(game: PreferenceGame, policy: np.ndarray) -> float:
    """The common logarithm of the duality gap of a policy (n,), at least -12."""
    return float(np.log10(max(1e-12, duality_gap(game, policy))))


def measured(train: Train, rival: Train, steps: int, temperature: float, large: bool = True) -> Measure:
    """One run of `compare`: gaps of last and average policy, by how much the last one is beaten, how often it wins against the
    rival's. large: whether tournaments of 30 are among the games.
    """

    def run(seed: int) -> dict[str, float]:
        found: dict[str, float] = {}
        for name, build in FAMILIES.items():
            if name == "tournament of 30" and not large:
                continue
            game = build(seed, temperature)
            last, average = train(game, steps, seed)
            found |= {f"log10 gap, {name}": order(game, last), f"log10 gap of the average, {name}": order(game, average)}
            found[f"beaten by, {name}"] = exploitability(game.oracle, last)
            found[f"wins against iterative DPO, {name}"] = float(last @ game.oracle.win_rate(rival(game, steps, seed)[0]))
        return found

    return run


TEMPERATURES = (0.03, 0.1, 0.3, 1.0)
"""Of the games in which length is paid for."""


def measured_on_texts(train: Train, steps: int, temperature: float, large: bool) -> Measure:
    """The same on 64 texts with a tenth of the steps; if large, on 256 texts, and the mean length of texts at temperatures."""

    def run(seed: int) -> dict[str, float]:
        game = judged_texts(seed, temperature)
        found = {"log10 gap, texts": order(game, train(game, steps // 10, seed)[0])}
        if not large:
            return found
        game = judged_texts(seed, temperature, length=4)
        last = train(game, steps, seed)[0]
        gap = 2 * temperature * divergence(last, best_response(game, last))
        found |= {"log10 gap, 256 texts": float(np.log10(max(1e-12, gap)))}
        found["beaten by, 256 texts"] = exploitability(game.oracle, last)
        for each in TEMPERATURES:
            game, length = verbose(seed, each)
            found[f"length, tau = {each:g}"] = float(train(game, steps, seed)[0] @ length)
        return found

    return run


def experiment(seeds: int = 10, steps: int = 300, temperature: float = 0.1) -> Comparison:
    """INPO with three step sizes against iterative DPO, RLHF, online IPO, SPPO and Nash-MD: exact, and from equal labels."""
    from ..testbeds.comparison import compare

    def both(first: Measure, then: Measure) -> Measure:
        return lambda seed: first(seed) | then(seed)

    exact, runs = methods(), {}
    for name, train in exact.items():
        texts = measured_on_texts(train, steps, temperature, large=name != "iterative DPO")
        runs[name] = both(measured(train, exact["iterative DPO"], steps, temperature), texts)
    for count in (100, 1600, 25_600):
        told = methods_from(count)
        for name, train in told.items():
            if count < 25_600 or name == "INPO, growing eta":
                rival = told["iterative DPO"] if count < 25_600 else exact["iterative DPO"]
                runs[f"{name}, {count} labels a step"] = measured(train, rival, steps, temperature, large=False)
    return compare(
        "INPO against iterative DPO, RLHF, online IPO, SPPO and Nash-MD, equal numbers of steps and labels on the same games",
        runs,
        "iterative DPO",
        seeds,
        "python -m banach.llm.systems inpo",
        {
            "temperature": temperature,
            "steps": steps,
            "steps on 64 texts": steps // 10,
            "tournament": "8 responses, win probabilities uniform in [.05, .95]",
            "tournament of 30": "30 responses; win rates alone",
            "ring": "rock, paper, scissors at 0.9",
            "Spock": "with lizard and Spock, at 0.9",
            "annotators": "6 responses, three annotators whose rankings are turned, Bradley-Terry",
            "reward": "8 responses, Bradley-Terry, normal rewards",
            "texts": "64 texts of 3 tokens, or 256 of 4, majority of three judges",
            "length": "mean of 30 texts of 1 to 4 words, half of the annotators want length; by temperature",
            "iterative DPO": "neither on 256 texts nor on length",
            "from labels": "RLHF has all steps' labels of pairs of the reference; DPO and RLHF have one label more, spread "
            "over all pairs, without which they often have no optimum",
            "wins against iterative DPO": "by the exact judge; from 100 or 1600 labels, against the one from as many",
        },
    )


INPO = add(
    System(
        name="inpo",
        title="Iterative Nash Policy Optimization: Aligning LLMs with General Preferences via No-Regret Learning",
        authors="Zhang, Yu, Peng, Song, Tian, Huo, Jiang, Mi, Yu",
        year=2025,
        arxiv="2407.00617",
        summary="self-play by mirror descent on general preferences, each step a squared loss on labelled pairs",
        optimizes="its own fixed point alone is the Nash policy of the preference game with KL weight tau; a step is the "
        "exact mirror step where both responses of a pair are drawn independently from the policy before; without a "
        "temperature it is SPPO's exact step (`tests/llm/test_inpo.py`)",
        objective="inpo",
        parts=("inpo", "iterate", "duality_gap", "regularised_nash", "SampledINPO"),
        reductions=(
            Reduction(
                "inverse step = temperature",
                "online_ipo",
                inpo(0.3, 0.3),
                preference("online_ipo", temperature=0.3),
            ),
            Reduction(
                "the first step, from the reference, whatever the temperature",
                "ipo",
                inpo(0.4, 0.1),
                preference("ipo", temperature=0.4),
                ("first iterate",),
            ),
            Reduction(
                "no temperature",
                "rebel of rate 1/eta",
                inpo(0.4, 0.0),
                preference("rebel", rate=2.5),
                ("hard labels", "rewards a half apart"),
                6.25,
            ),
        ),
        findings=(
            "The published ratio eta = 3 tau need not converge: rock, paper, scissors at 0.9, q = (.5, .3, .2), tau = .1: the "
            "gap is still 2e-2 after 3000 steps; eta = tau oscillates between .59 and .85, eta = 30 tau and growing eta "
            "converge.",
            "That no policy beats the Nash policy more than half of the time is true of the regularised payoff only: of two "
            "responses the better one beats it always, the Nash policy being mixed.",
            "Best against worst of K, the published pairs, is no product sample and fits another policy: rock, "
            "paper, scissors, K = 3, pi_t = (.6, .3, .1), eta = .4: (.661, .122, .218) in place of (.672, .175, "
            ".154).",
            "A smaller gap is hardly a higher win rate: against iterative DPO, judged exactly, the regularised Nash policy "
            "wins .520 +- .029 on tournaments, .522 +- .028 on rings, .493 +- .023 with lizard and Spock, and .480 +- .012 "
            "where a reward stands behind the labels, over ten seeds.",
            "The claimed rate of the last iterate, KL = O(1/T), is that of the labels' noise: from exact win rates a growing "
            "step falls as T^-4 on rock, paper, scissors; from M labels a step as 1/(T M), about .2 / (tau^2 T M).",
            "That the KL term limits length is true of every method with one: where half of the annotators want length, a text "
            "has 3.8, 2.8, 2.1, 1.8 words on average at tau = .03, .1, .3, 1, with RLHF 3.8, 2.9, 2.1, 1.9, and with SPPO, "
            "which has none, 3.9.",
            "At the published eta = 7.5e-3 and tau = 2.5e-3 the bound on the last iterate is vacuous, above 1e4 nats.",
        ),
        published=(
            "LLaMA-3-8B: AlpacaEval 2.0 LC win rate 42.6, Arena-Hard 37.8 (41.5 and 38.3 in the first abstract)",
            "both above iterative DPO (Dong et al. 2024), figures not read",
            "eta = 7.5e-3, tau = eta / 3 (a re-implementation that quotes the paper; COMAL: eta = 2e-3, tau = eta / 3), 3 "
            "iterations, from the SFT model",
        ),
        measured="At exact win rates INPO with a growing step reaches gaps of 2e-6 to 2e-12 in 300 steps on games of 3 to 256 "
        "responses, 3e-8 in 30 on 64 texts. Iterative DPO and RLHF stay at 1e-1 to 1e-3, on rock, paper, scissors at 0.8 "
        "(iterative DPO, online IPO) and 0.13 (RLHF), with lizard and Spock at 0.7 and 0.1; on tournaments of 30 they come to "
        "7e-5 and 7e-3. The published ratio, eta = 3 tau, reaches 1e-12 on tournaments, but on three of ten rings alone less "
        "than 1e-3, and with lizard and Spock on none (0.14). Online IPO cycles on rings and on tournaments of 8, where eight "
        "of ten end at gaps of .1 to .33, and on three of ten tournaments of 30, and is as good as any elsewhere. Three "
        "annotators whose rankings are turned make a cycle that is too weak to part the methods at this temperature: "
        "iterative DPO comes to 2e-5 there, RLHF to 1e-3. SPPO's last policy stays away, its average comes nearer. At equal "
        "labels INPO with a growing step is nearest of all on every game, for it averages their noise where the others' steps "
        "stay as large: from 100 a step 2e-4 to 8e-4, from 1600 1e-5 to 6e-5; Nash-MD at 3e-3 to 1e-2 and 2e-4 to 1e-3; eta = "
        "3 tau, online IPO and iterative DPO from 100 at 1e-2 to 0.7; RLHF does not gain by labels. The gap falls as one over "
        "their number. Gaps are not wins: against iterative DPO the growing step wins .520, .522 and .493 on tournaments, "
        "rings and with lizard and Spock, within the interval of a half; from labels, the same number each, beyond the "
        "interval only .55 +- .03 with annotators from 100 and .48 +- .02 on rings from 1600. The average's gap falls as 1/T "
        "at a temperature of .1, faster than the claimed 1/sqrt(T), which is attained without one. Where a reward stands "
        "behind the labels iterative DPO is beaten less often than the regularised Nash policy (.047 against .066): its "
        "distance there is one of temperature; on 256 texts the Nash policy at .1 is beaten by .20, the plain one, by "
        "definition, by none.",
        bounds=(
            "INPO with a decaying rate converges in its last iterate",
            "INPO with a constant rate comes near the Nash policy",
            "a step of INPO comes nearer up to its span",
            "INPO stays within a win probability of the reference",
            "the average of INPO has a small duality gap",
            "the duality gap is a divergence to the best response",
            "the duality gap bounds the divergence to the Nash policy",
            "beating the regularised Nash policy costs divergence",
        ),
        experiment=experiment,
    )
)
