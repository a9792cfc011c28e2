r"""Every preference objective on bandits small enough to solve: which reward, which Nash policy, at which divergence.

On n responses with reference q, preferences P and temperature tau each objective is followed to its rest through the kernel
alone, its losses and score weights on the batch of all pairs (no closed form of any optimum is used):

    offline      minimise the loss over logits, pairs shown with fixed random weights W
    self-play    z_y <- z_y + rate w(y) / pi(y), pairs drawn from pi_t x pi_t: a natural gradient step, w(y) the score weight
                 of y

and compared by

    regret       E r of the best policy at divergence KL(. | q) = b, less that of this policy moved along q^{1-c} pi^c to the
                 same divergence (Bradley-Terry instances)
    gap          the duality gap of the tau-regularised preference game; 0 at its Nash policy alone (Munos et al. 2024,
                 2312.00886)
    least gap    the least gap on the path q^{1-c} pi^c, c in [0, 4]: whatever temperature the objective might have been given

With a Bradley-Terry reward r the policy q e^{r/beta} is where dpo, reward modelling with copg, and online_dpo rest: regret 0.
With cyclic preferences no reward explains P; inpo, online_ipo and nash_md in self-play rest at the Nash policy: gap 0. On a
table, with rates tau/eta of one another, these three are the same iteration, s <- (1 - tau/eta) s + (P pi) / eta for s = log
pi/q. nash_md against the mixture pi^{1-c} q^c rests elsewhere.

Left out: the hinges and slic (kinks), kto and apo_zero (they push losing responses to probability zero), sppo (no reference).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import minimize, minimize_scalar, root, root_scalar
from scipy.special import softmax

from ..mdp.preference import PreferenceGame, PreferenceOracle
from ..solvers.errors import NotConverged
from ..solvers.regularised_nash import duality_gap
from .pair_batch import PairBatch, Sequences
from .preference_catalogue import preference
from .preference_kernel import evaluate_preference
from .preference_spec import PreferenceSpec

SLOPE = 1e-9
"""Largest entry of the gradient by the logits at which an offline objective has come to rest."""


@dataclass(frozen=True, eq=False)
class Bandit:
    """One instance: the game, weights (n, n) of the pairs shown offline, and the reward (n,) behind P, None where there is
    none.
    """

    game: PreferenceGame
    weights: np.ndarray
    reward: np.ndarray | None


@dataclass(frozen=True)
class BenchRow:
    """What became of one objective: medians of regret and gap with a reward, of the gap and the least gap without.

    `worst_gap` is the largest gap without a reward.
    """

    method: str
    regret: float
    reward_gap: float
    cyclic_gap: float
    least_gap: float
    worst_gap: float


@dataclass(frozen=True)
class PreferenceBench:
    """The rows of `preference_bench`, one an objective."""

    rows: tuple[BenchRow, ...]

    def table(self) -> str:
        """The rows as aligned text."""
        head = ("objective", "regret (BT)", "gap (BT)", "gap (cyclic)", "least gap", "worst gap")
        lines = ["{:24s}{:>14s}{:>12s}{:>14s}{:>12s}{:>12s}".format(*head)]
        for row in self.rows:
            numbers = (row.regret, row.reward_gap, row.cyclic_gap, row.least_gap, row.worst_gap)
            lines.append(
                f"{row.method:24s}" + "".join(f"{x:{w}.2e}" for x, w in zip(numbers, (14, 12, 14, 12, 12), strict=True))
            )
        return "\n".join(lines)


def preference_bench(instances: int = 10, temperature: float = 0.2, steps: int = 1500, seed: int = 0) -> PreferenceBench:
    """All objectives on `instances` random bandits with a reward and as many random tournaments, of 3 to 8 responses.

    temperature: tau, the weight of KL(pi | q) in the game and the temperature of every objective that has one.
    steps: of self-play. Seconds an instance.
    """
    rng = np.random.default_rng(seed)
    with_reward = [random_bandit(rng, temperature, cyclic=False) for _ in range(instances)]
    cyclic = [random_bandit(rng, temperature, cyclic=True) for _ in range(instances)]
    rows = []
    for name, train in methods(temperature, steps).items():
        fair, torn = [(bandit, train(bandit)) for bandit in with_reward], [(bandit, train(bandit)) for bandit in cyclic]
        gaps = [duality_gap(bandit.game, policy) for bandit, policy in torn]
        rows.append(
            BenchRow(
                method=name,
                regret=float(np.median([regret(bandit, policy) for bandit, policy in fair])),
                reward_gap=float(np.median([duality_gap(bandit.game, policy) for bandit, policy in fair])),
                cyclic_gap=float(np.median(gaps)),
                least_gap=float(np.median([least_gap(bandit.game, policy) for bandit, policy in torn])),
                worst_gap=max(gaps),
            )
        )
    return PreferenceBench(tuple(rows))


def random_bandit(rng: np.random.Generator, temperature: float, cyclic: bool) -> Bandit:
    """A Bradley-Terry bandit, or a tournament of independent win probabilities between 0.05 and 0.95; 3 to 8 responses."""
    n = int(rng.integers(3, 9))
    reward = None if cyclic else rng.normal(size=n)
    if reward is not None:
        oracle = PreferenceOracle.bradley_terry(reward)
    else:
        upper = np.triu(rng.uniform(0.05, 0.95, (n, n)), 1)
        oracle = PreferenceOracle(upper + np.tril(1 - upper.T, -1) + np.eye(n) / 2)
    reference = rng.dirichlet(np.full(n, 5.0))
    return Bandit(PreferenceGame(oracle, reference, temperature), rng.uniform(0.1, 1, (n, n)), reward)


def population_batch(
    logits: torch.Tensor,
    oracle: PreferenceOracle,
    weights: np.ndarray,
    reference: np.ndarray,
    previous: np.ndarray | None = None,
    reward: np.ndarray | None = None,
) -> PairBatch:
    """All ordered pairs of responses with their weights and expected labels, for the policy softmax(logits); B = n^2.

    logits: (n,), float64, may carry gradient. weights: (n, n), >= 0. reference, previous: (n,), positive. reward: (n,).
    A response paired with itself has margin zero and moves nothing.
    """
    n = oracle.n_responses
    first, second = (torch.arange(n).repeat_interleave(n), torch.arange(n).repeat(n))
    logp = torch.log_softmax(logits, 0)
    columns = {"ref_B": np.log(reference), "previous_B": np.log(reference if previous is None else previous)}
    columns |= {} if reward is None else {"reward_B": reward}
    known = {name: torch.tensor(column) for name, column in columns.items()}

    def side(rows: torch.Tensor) -> Sequences:
        return Sequences(logp[rows], torch.ones(n * n), **{name: column[rows] for name, column in known.items()})

    return PairBatch(
        side(first), side(second), torch.tensor(oracle.matrix.ravel()), torch.tensor(np.ascontiguousarray(weights).ravel())
    )


def ascent(spec: PreferenceSpec, policy: np.ndarray, batch: PairBatch) -> np.ndarray:
    """The score weights of a population batch gathered by response, (n,): grad(-loss) = sum_y w(y) grad log pi(y)."""
    evaluation = evaluate_preference(spec, batch)
    n = len(policy)
    chosen, rejected = evaluation.weight_chosen_B, evaluation.weight_rejected_B
    assert chosen is not None
    assert rejected is not None
    return (chosen.view(n, n).sum(1) + rejected.view(n, n).sum(0)).numpy()


def offline(spec: PreferenceSpec, bandit: Bandit, reward: np.ndarray | None = None) -> np.ndarray:
    """The policy, (n,), at which the gradient of the loss by the logits vanishes: quasi-Newton, then a root of the gradient.

    reward: (n,), for objectives that regress on one. Raises NotConverged where the gradient does not vanish.
    """
    oracle, reference = bandit.game.oracle, bandit.game.reference

    def gradient(logits: np.ndarray) -> np.ndarray:
        policy = softmax(logits)
        push = ascent(spec, policy, population_batch(torch.tensor(logits), oracle, bandit.weights, reference, reward=reward))
        return policy * push.sum() - push

    def value(logits: np.ndarray) -> float:
        batch = population_batch(torch.tensor(logits), oracle, bandit.weights, reference, reward=reward)
        return evaluate_preference(spec, batch).loss.item()

    found = minimize(value, np.log(reference), jac=gradient, method="BFGS", options={"gtol": 1e-9}).x
    # the mean of the logits is free: it is held at zero
    policy = softmax(root(lambda logits: gradient(logits) + logits.mean(), found - found.mean(), tol=1e-14).x)
    slope = float(np.abs(gradient(np.log(policy))).max())
    if not slope <= SLOPE:
        raise NotConverged(
            f"the gradient of {spec.name} is still {slope:.3g} (asked for {SLOPE:.0e}); draw tamer bandits", slope
        )
    return policy


def self_play(
    spec: PreferenceSpec, bandit: Bandit, rate: float, steps: int, opponent: Callable[[np.ndarray], np.ndarray] | None = None
) -> np.ndarray:
    """The policy, (n,), after `steps` natural gradient steps on pairs from pi_t x pi_t, or from pi_t x opponent(pi_t)."""
    oracle, reference = bandit.game.oracle, bandit.game.reference
    logits = np.log(reference)
    for _ in range(steps):
        policy = softmax(logits)
        other = policy if opponent is None else opponent(policy)
        batch = population_batch(torch.tensor(logits), oracle, np.outer(policy, other), reference, previous=policy)
        push = ascent(spec, policy, batch) / policy
        logits = logits + rate * (push - push.mean())
        logits -= logits.max()
    return softmax(logits)


def methods(temperature: float, steps: int, slow: float = 30.0) -> dict[str, Callable[[Bandit], np.ndarray]]:
    """Name -> training, each from a `Bandit` to its policy (n,). `slow`: eta / tau of the self-play methods."""
    tau, eta = temperature, slow * temperature

    def two_stages(bandit: Bandit) -> np.ndarray:
        # with a flat reference the log-policy that bradley_terry's own kernel rests at is the reward, up to a constant
        flat = np.full(bandit.game.n_responses, 1 / bandit.game.n_responses)
        scores = Bandit(PreferenceGame(bandit.game.oracle, flat, tau), bandit.weights, None)
        return offline(preference("copg", temperature=tau), bandit, np.log(offline(preference("bradley_terry"), scores)))

    fixed = {
        "dpo": preference("dpo", temperature=tau),
        "cdpo": preference("cdpo", temperature=tau, noise=0.1),
        "ipo": preference("ipo", temperature=tau),
        "rpo": preference("rpo", temperature=tau, sft=0.1),
        "nca": preference("nca", temperature=tau),
        "simpo": preference("simpo", scale=1.0, margin=0.5),
        "cpo": preference("cpo", scale=1.0, sft=0.1),
        "orpo": preference("orpo", weight=0.5, normalised=False),
    }
    found: dict[str, Callable[[Bandit], np.ndarray]] = {"bradley_terry + copg": two_stages}
    found |= {name: lambda bandit, spec=spec: offline(spec, bandit) for name, spec in fixed.items()}
    gradient = preference("nash_md", temperature=tau)
    return found | {
        "online_dpo": lambda bandit: self_play(preference("online_dpo", temperature=tau), bandit, tau**-2, steps),
        "online_ipo": lambda bandit: self_play(preference("online_ipo", temperature=tau), bandit, tau / eta / 4, steps),
        "inpo": lambda bandit: self_play(preference("inpo", inverse_step=eta, temperature=tau), bandit, 0.25, steps),
        "nash_md, self-play": lambda bandit: self_play(gradient, bandit, 1 / eta, steps),
        "nash_md, mixture 1/8": lambda bandit: self_play(
            gradient, bandit, 1 / eta, steps, lambda policy: tempered(policy, bandit.game.reference, 7 / 8)
        ),
    }


def tempered(policy: np.ndarray, reference: np.ndarray, share: float) -> np.ndarray:
    """q^{1-c} pi^c / Z, (n,), of policy and reference (n,) at share c."""
    return softmax((1 - share) * np.log(reference) + share * np.log(policy))


def regret(bandit: Bandit, policy: np.ndarray) -> float:
    """What policy (n,) lacks of the reward that the divergence b could buy, both moved to KL(. | q) = b on their paths from q.

    b is 0.2 nats, or half of what the path of the reward or of the policy can reach.
    """
    assert bandit.reward is not None
    reference = bandit.game.reference
    ideal = softmax(np.log(reference) + bandit.reward)
    ends = [-np.log(reference[np.argmax(path / reference)]) for path in (ideal, policy)]
    budget = min(0.2, *(end / 2 for end in ends))

    def reached(path: np.ndarray) -> float:
        def excess(share: float) -> float:
            moved = tempered(path, reference, share)
            return float(moved @ (np.log(moved) - np.log(reference))) - budget

        top = 1.0
        while excess(top) < 0:
            top *= 2
        share = root_scalar(excess, bracket=(0.0, top), xtol=1e-14).root
        return float(tempered(path, reference, share) @ bandit.reward)

    return reached(ideal) - reached(policy)


def least_gap(game: PreferenceGame, policy: np.ndarray) -> float:
    """The least duality gap on the path from the reference through policy (n,), c in [0, 4], to the precision of a fine
    search.
    """
    shares = np.linspace(0, 4, 81)
    gaps = [duality_gap(game, tempered(policy, game.reference, share)) for share in shares]
    best = int(np.argmin(gaps))
    bounds = (shares[max(best - 1, 0)], shares[min(best + 1, 80)])
    found = minimize_scalar(
        lambda share: duality_gap(game, tempered(policy, game.reference, share)), bounds=bounds, method="bounded"
    )
    return float(min(*gaps, found.fun))
