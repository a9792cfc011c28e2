r"""The policy that is best against the most hostile reward which the preferences still believe.

n responses, a reference q, a baseline b, labels C_ij >= 0 (the share that prefers i to j, together 1), eta > 0, beta > 0:

    phi(p, r) = eta ( <p - b, r> - beta KL(p | q) ) + L(r),      L(r) = sum_ij C_ij log(1 + e^-(r_i - r_j)),

the player chooses p, nature r in R = [0, top]^n. phi is concave in p and convex in r, so maximin = minimax (Sion 1958), and

    max_p phi(p, r) = F(r) = eta ( beta log Z_r - <b, r> ) + L(r),  Z_r = sum q e^(r/beta),   at   p_r = q e^(r/beta) / Z_r.

`maximin` minimises the convex F over the box by projected Newton steps.

Certificate. Whatever p and r: min_R phi(p, .) <= maximin <= minimax <= F(r). And phi(p, .) is convex, so with g its slope at r

    min_R phi(p, .)  >=  phi(p, r) + sum_i min_{x in [0, top]} g_i (x - r_i).

Both ends are computed in ball arithmetic from the floats of p and r as exact numbers, and rounded outward: an interval that
contains both values. On a set R that is not convex they may differ: two arms, q = b uniform, no labels, R = {(1, 0), (0, 1)}.

Without a box (R all of R^n) this is DPO's loss with eta beta times -sum_a b_a log p_a. It has a minimiser of full support
if and only if each response reaches the support of b along "is preferred to, at least once": otherwise a direction d with
supp b in argmax d and d_winner >= d_loser lowers the loss for ever, and the responses that do not reach b get probability 0 in
the limit (`unreached`). The minimiser obeys, with w the labels of a pair and m the margins,

    p_a = b_a + (1/eta) sum_a' w_aa' ( P^(a > a') - sigma(beta m_aa') ),      m = log p_a/q_a - log p_a'/q_a'.

Coverage (of a comparator p by the labels, against b): with v = p - b and S the Laplacian of the shares of the pairs,

    C^2 = sup_D <v, D>^2 / sum_{i<j} S_ij (D_i - D_j)^2 = v' S^+ v,     infinite unless v sums to 0 on each component,

and C^2 <= max_{i<j} (p_i b_j + p_j b_i) / S_ij, by Jensen. The true reward r* lies above those of a box by
multiples of the D with D_i <= 0 where r*_i = 0 and D_i >= 0 where r*_i = top; over these, by duality,

    C^2 = min { w' S^+ w : w <= v where r*_i = 0, w >= v where r*_i = top, w = v elsewhere, w in the range of S }.

Liu et al. 2024, arXiv 2405.16436 (RPO; Algorithm 1 with b the base policy). The bracket, the criterion of existence, the
Laplacian form of the coverage, its cone and sup over the box by its slope: derived here.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from flint import arb, ctx, fmpq
from scipy.optimize import nnls
from scipy.sparse.csgraph import connected_components

from ..mdp.preference import distribution
from ..mdp.validation import is_real, real_array
from .errors import NotConverged, SolveError
from .gibbs import divergence, gibbs, log_total
from .regularised_nash import PRECISION, weights


@dataclass(frozen=True, eq=False)
class RegularizedPO:
    """The problem. (Of the names "RPO" stands for, this is Regularized Preference Optimization.)

    wins: (n, n), >= 0, how many labels prefer row to column, a tie half a label to each; divided by their sum.
    reference: q, (n,), all > 0. baseline: b, (n,), a distribution. eta: > 0, of the adversary. temperature: beta > 0, of a nat.
    Raises SolveError for anything else, ModelError for what is no distribution.
    """

    wins: np.ndarray
    reference: np.ndarray
    baseline: np.ndarray
    eta: float
    temperature: float

    def __post_init__(self) -> None:
        wins = real_array("wins", self.wins).copy()
        if wins.ndim != 2 or wins.shape[0] != wins.shape[1] or not np.isfinite(wins).all() or (wins < 0).any():
            raise SolveError(f"wins of shape {wins.shape} must be a square table of finite counts >= 0")
        if wins.diagonal().any():
            raise SolveError(f"response {int(np.argmax(wins.diagonal() > 0))} is compared with itself; leave such labels out")
        for name in ("eta", "temperature"):
            number = getattr(self, name)
            if not (is_real(number) and 0 < number < math.inf):
                raise SolveError(f"{name} is {number!r}; give a positive number (for eta = 0 this is DPO: population_optimum)")
            object.__setattr__(self, name, float(number))
        n, total = len(wins), wins.sum()
        reference = distribution(self.reference, n, "reference")
        if (reference == 0).any():
            raise SolveError(f"reference[{int(np.argmin(reference))}] is 0; leave the response out of the problem")
        for name, array in (
            ("wins", wins / total if total else wins),
            ("reference", reference),
            ("baseline", distribution(self.baseline, n, "baseline")),
        ):
            array.flags.writeable = False
            object.__setattr__(self, name, array)

    @property
    def n_responses(self) -> int:
        """Number of responses, n."""
        return len(self.wins)

    def loss(self, reward: np.ndarray) -> float:
        """L(r), nats a label, of rewards (n,)."""
        return float((self.wins * np.logaddexp(0.0, reward[None, :] - reward[:, None])).sum())

    def loss_slope(self, reward: np.ndarray) -> np.ndarray:
        """Its gradient, (n,)."""
        pull = self.wins * _logistic(reward[None, :] - reward[:, None])
        return pull.sum(axis=0) - pull.sum(axis=1)

    def payoff(self, policy: np.ndarray, reward: np.ndarray) -> float:
        """phi(p, r) of a policy (n,) and rewards (n,)."""
        gain = float((policy - self.baseline) @ reward) - self.temperature * divergence(policy, self.reference)
        return self.eta * gain + self.loss(reward)

    def best_policy(self, reward: np.ndarray) -> np.ndarray:
        """q e^(r/beta) / Z, (n,), the answer to rewards (n,)."""
        return gibbs(self.reference, reward / self.temperature)

    def best_value(self, reward: np.ndarray) -> float:
        """F(r), what that answer is worth, of rewards (n,)."""
        soft = self.temperature * log_total(np.log(self.reference) + reward / self.temperature)
        return self.eta * (soft - float(self.baseline @ reward)) + self.loss(reward)


@dataclass(frozen=True, eq=False)
class Maximin:
    """A saddle pair. policy: p, (n,). reward: r, (n,). lower, upper: between them lie maximin and minimax, rounding included.
    steps: Newton steps taken.
    """

    policy: np.ndarray
    reward: np.ndarray
    lower: float
    upper: float
    steps: int

    @property
    def gap(self) -> float:
        """upper - lower, rounded up."""
        return float(np.nextafter(self.upper - self.lower, np.inf))


def maximin(problem: RegularizedPO, top: float, eps: float = 1e-9, max_steps: int = 500) -> Maximin:
    """The saddle pair for rewards in [0, top]^n, its gap proved to be at most eps.

    Raises SolveError for top or eps that are not positive, NotConverged with the gap that was reached.
    """
    if not (is_real(top) and is_real(eps) and 0 < top < math.inf and eps > 0):
        raise SolveError(f"top is {top!r}, eps {eps!r}; give positive numbers, rewards lie in [0, top]")
    reward, steps = np.full(problem.n_responses, top / 2), 0
    slope = _slope(problem, reward)
    while steps < max_steps:
        gain = np.minimum(-slope * reward, slope * (top - reward))
        if -gain.sum() <= eps / 4:
            break
        following = _step(problem, reward, slope, top)
        if following is None:
            break
        reward, steps = following, steps + 1
        slope = _slope(problem, reward)
    policy = problem.best_policy(reward)
    lower, upper = saddle_bracket(problem, policy, reward, top)
    found = Maximin(policy, reward, lower, upper, steps)
    if found.gap > eps:
        raise NotConverged(
            f"the gap is {found.gap:.3g} after {steps} steps (asked for {eps:.3g}, of a value near {found.upper:.3g})",
            reached=found.gap,
        )
    return found


def saddle_bracket(problem: RegularizedPO, policy: np.ndarray, reward: np.ndarray, top: float) -> tuple[float, float]:
    """The interval that a policy (n,) and rewards (n,) in [0, top] prove to contain maximin and minimax.

    Raises SolveError for rewards outside the box, ModelError for no distribution.
    """
    policy = distribution(policy, problem.n_responses, "policy")
    reward = np.asarray(reward, dtype=np.float64)
    if reward.shape != policy.shape or not ((reward >= 0) & (reward <= top)).all():
        raise SolveError(f"rewards of shape {reward.shape} must be ({len(policy)},) numbers in [0, {top}]")
    return exact_bracket(problem, shares(problem), policy, reward, top)


def exact_bracket(
    problem: RegularizedPO, labels: list[tuple[int, int, arb]], policy: np.ndarray, reward: np.ndarray, top: float
) -> tuple[float, float]:
    """As `saddle_bracket`, for labels given as balls: (preferred, other, share), in place of the floats of `wins`.

    policy, reward: (n,), in their ranges.
    """
    with ctx.workprec(PRECISION):
        p, q, b = weights(policy), weights(problem.reference), weights(problem.baseline)
        r, eta, beta, height = [arb(x) for x in reward], arb(problem.eta), arb(problem.temperature), arb(top)
        loss, slope = _loss_ball(labels, r)
        partition = sum((x * (y / beta).exp() for x, y in zip(q, r, strict=True)), arb(0))
        upper = eta * (beta * partition.log() - _inner(b, r)) + loss
        nats = sum((x * (x / y).log() for x, y in zip(p, q, strict=True) if not x.is_zero()), arb(0))
        lower = eta * (_inner(p, r) - _inner(b, r) - beta * nats) + loss
        for i in range(len(r)):
            g = eta * (p[i] - b[i]) + slope[i]
            lower += (-g * r[i]).min(g * (height - r[i]))
        return _down(lower), _up(upper)


def unreached(problem: RegularizedPO) -> np.ndarray:
    """Responses, int64 (k,), from which no chain of labels "preferred to" leads to the support of the baseline.

    With none of them RPO's loss has a minimiser; else its infimum is approached as their probability goes to 0.
    """
    reached = problem.baseline > 0
    beats = problem.wins > 0
    while True:
        more = reached | beats[:, reached].any(axis=1)
        if (more == reached).all():
            return np.flatnonzero(~reached)
        reached = more


def rpo_optimum(problem: RegularizedPO, eps: float = 1e-12, max_steps: int = 500) -> np.ndarray:
    """The policy (n,) that minimises DPO's loss and eta beta times -sum_a b_a log p_a: the minimax policy without a box.

    Raises SolveError, naming the responses, where there is none; NotConverged where the first-order law is not met within eps.
    """
    lost = unreached(problem)
    if len(lost):
        raise SolveError(
            f"RPO's loss has no minimiser: no chain of preferred answers leads from {lost.tolist()} to the baseline, and "
            "their probability falls to 0; bound the rewards (maximin), or widen the baseline"
        )
    reward = np.zeros(problem.n_responses)
    for _ in range(max_steps):
        slope = _slope(problem, reward)
        if np.abs(slope).max() <= eps * problem.eta:
            return problem.best_policy(reward)
        following = _step(problem, reward, slope, math.inf)
        if following is None:
            break
        reward = following - following.mean()
    reached = float(np.abs(_slope(problem, reward)).max() / problem.eta)
    if reached <= 1e3 * eps:
        return problem.best_policy(reward)
    raise NotConverged(f"the first-order law is missed by {reached:.3g} (asked for {eps:.3g})", reached=reached)


def rpo_loss(problem: RegularizedPO, policy: np.ndarray) -> float:
    """eta beta sum_a b_a (-log p_a) + L(beta log p/q) of a policy (n,), all > 0. Raises ModelError for anything else."""
    policy = distribution(policy, problem.n_responses, "policy", positive=True)
    reward = problem.temperature * np.log(policy / problem.reference)
    return problem.loss(reward) - problem.eta * problem.temperature * float(problem.baseline @ np.log(policy))


def likelihood_floor(problem: RegularizedPO) -> np.ndarray:
    """Lower bounds (n,) of the log-probabilities at RPO's optimum: -loss(q) / (eta beta b_a), -inf where b_a = 0."""
    with np.errstate(divide="ignore"):
        return -rpo_loss(problem, problem.reference) / (problem.eta * problem.temperature * problem.baseline)


def preference_coverage(
    problem: RegularizedPO, comparator: np.ndarray, reward: np.ndarray | None = None, top: float = math.inf
) -> float:
    """C of a comparator (n,), for a true reward r* (n,) in [0, top]^n; without r*, for rewards that have no bounds.

    Infinite where labels miss some of what sets the comparator apart. A true reward inside the box changes nothing; on
    its floor or top only one direction is left to err in. Raises SolveError for r* outside the box, or a box without r*.
    """
    apart = distribution(comparator, problem.n_responses, "comparator") - problem.baseline
    floor, ceiling = np.zeros((2, len(apart)), bool)
    if reward is not None:
        true = _true_reward(reward, len(apart), top)
        floor, ceiling = true == 0, true == top
    elif top < math.inf:
        raise SolveError(f"top is {top!r} and there is no reward: coverage depends on where in the box the true reward lies")
    shown = problem.wins + problem.wins.T
    _, part = connected_components(shown > 0, directed=False)
    owed, held_down, held_up = (np.bincount(part, x) for x in (apart, floor, ceiling))
    if ((owed > 1e-12) & (held_down == 0)).any() or ((owed < -1e-12) & (held_up == 0)).any():
        return math.inf
    laplacian = np.diag(shown.sum(axis=1)) - shown
    if not (floor | ceiling).any():
        return math.sqrt(max(0.0, float(apart @ np.linalg.pinv(laplacian, hermitian=True) @ apart)))
    return _least_work(laplacian, apart, floor, ceiling)


def _least_work(laplacian: np.ndarray, apart: np.ndarray, floor: np.ndarray, ceiling: np.ndarray) -> float:
    """min sqrt(w' S^+ w) over w in the range of S: <= v at the floor, >= v at the ceiling, else v; there is one.

    With S = A'A, w = A'x: the least |x| under linear inequalities, by non-negative least squares (Lawson and Hanson 1974, 23).
    """
    sizes, axes = np.linalg.eigh(laplacian)
    kept = sizes > 1e-12 * max(float(sizes[-1]), 1e-300)
    root = np.sqrt(sizes[kept])[:, None] * axes[:, kept].T
    scale = max(float(np.abs(apart).max()), 1e-300)
    above, below = np.flatnonzero(~floor), np.flatnonzero(~ceiling)
    rules = np.hstack([root[:, above], -root[:, below]])
    least = np.concatenate([apart[above], -apart[below]]) / scale
    target = np.zeros(len(root) + 1)
    target[-1] = 1.0
    found, _ = nnls(np.vstack([rules, least]), target, maxiter=30 * len(least) + 100)
    left = np.vstack([rules, least]) @ found - target
    return scale * float(np.linalg.norm(left[:-1])) / -float(left[-1])


def _true_reward(reward: np.ndarray, n: int, top: float) -> np.ndarray:
    reward = np.asarray(reward, dtype=np.float64)
    if reward.shape != (n,) or not ((reward >= 0) & (reward <= top)).all():
        raise SolveError(f"the true reward must be ({n},) numbers in [0, {top}]")
    return reward


def density_ratio(problem: RegularizedPO, comparator: np.ndarray) -> float:
    """max over pairs of how much likelier a comparator (n,) and the baseline draw it than a label shows it; at least C^2."""
    comparator = distribution(comparator, problem.n_responses, "comparator")
    drawn, shown = np.outer(comparator, problem.baseline), problem.wins + problem.wins.T
    drawn = drawn + drawn.T
    np.fill_diagonal(drawn, 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(np.where(drawn > 0, drawn / shown, 0.0).max())


def suboptimality_bound(
    problem: RegularizedPO, answer: Maximin, comparator: np.ndarray, reward: np.ndarray, top: float, steps: int = 500
) -> float:
    """An upper bound of <p - p^, r*>, whatever the labels, for a comparator p (n,) and a true reward r* (n,) in the box:

        max over r in [0, top]^n of <p - b, r* - r> + (L(r*) - L(r)) / eta,   + beta KL(p | q) - beta KL(p^ | q) + gap / eta.

    The concave maximum is bounded from above by the slope at a point near it. Raises SolveError for r* outside the box.
    """
    comparator = distribution(comparator, problem.n_responses, "comparator")
    reward = _true_reward(reward, len(comparator), top)
    believed, apart = answer.reward.copy(), comparator - problem.baseline
    bound = math.inf
    for _ in range(steps):
        slope = -apart - problem.loss_slope(believed) / problem.eta
        value = float(apart @ (reward - believed)) + (problem.loss(reward) - problem.loss(believed)) / problem.eta
        room = np.maximum(-slope * believed, slope * (top - believed)).sum()
        bound = min(bound, value + room)
        if room <= 1e-12 * max(1.0, abs(value)):
            break
        hessian = _loss_curvature(problem, believed) / problem.eta
        size = float(np.abs(apart) @ believed) + problem.loss(believed) / problem.eta
        following = _newton(believed, -slope, hessian, top, lambda r: float(apart @ r) + problem.loss(r) / problem.eta, size)
        if following is None:
            break
        believed = following
    nats = divergence(comparator, problem.reference) - divergence(answer.policy, problem.reference)
    rounding = 1e-12 * (1 + top + problem.loss(reward) / problem.eta)
    return bound + problem.temperature * nats + answer.gap / problem.eta + rounding


def _slope(problem: RegularizedPO, reward: np.ndarray) -> np.ndarray:
    """Of F, (n,)."""
    return problem.eta * (problem.best_policy(reward) - problem.baseline) + problem.loss_slope(reward)


def _loss_curvature(problem: RegularizedPO, reward: np.ndarray) -> np.ndarray:
    apart = reward[:, None] - reward[None, :]
    sharp = (problem.wins + problem.wins.T) * _logistic(apart) * _logistic(-apart)
    return np.diag(sharp.sum(axis=1)) - sharp


def _step(problem: RegularizedPO, reward: np.ndarray, slope: np.ndarray, top: float) -> np.ndarray | None:
    """A projected Newton step of F, or None where none lowers it."""
    policy = problem.best_policy(reward)
    spread = problem.eta / problem.temperature * (np.diag(policy) - np.outer(policy, policy))
    size = problem.eta * (np.abs(reward).max() - problem.temperature * np.log(problem.reference.min())) + problem.loss(reward)
    return _newton(reward, slope, spread + _loss_curvature(problem, reward), top, problem.best_value, size)


def _newton(
    reward: np.ndarray, slope: np.ndarray, hessian: np.ndarray, top: float, value: Callable[[np.ndarray], float], size: float
) -> np.ndarray | None:
    """Newton's step on coordinates that are free to move, cut to the box [0, top] (all numbers for an infinite top).

    size: of the terms that `value` adds up; a rise of as much as they round by is none, or the last steps would be refused.
    """
    low = 0.0 if top < math.inf else -math.inf
    held = ((reward <= low) & (slope > 0)) | ((reward >= top) & (slope < 0))
    free = np.flatnonzero(~held)
    if not len(free):
        return None
    inside = hessian[np.ix_(free, free)]
    ridge = 1e-12 * max(float(np.trace(inside)) / len(free), 1e-300)
    direction = np.zeros_like(reward)
    try:
        direction[free] = -np.linalg.solve(inside + ridge * np.eye(len(free)), slope[free])
    except np.linalg.LinAlgError:
        direction[free] = -slope[free]
    if not np.isfinite(direction).all() or direction @ slope >= 0:
        direction[free] = -slope[free]
    limit = 8 * (top if top < math.inf else 1.0 + np.abs(reward).max())
    direction *= min(1.0, limit / max(float(np.abs(direction).max()), 1e-300))
    here = value(reward)
    for length in 0.5 ** np.arange(60.0):
        following = np.clip(reward + length * direction, low, top)
        decrease = float(slope @ (following - reward))
        if decrease < 0 and value(following) <= here + 1e-4 * decrease + 1e-15 * size:
            return following if (following != reward).any() else None
    return None


def shares(problem: RegularizedPO) -> list[tuple[int, int, arb]]:
    """(preferred, other, share of the labels), the floats of `wins` as exact numbers divided by their exact sum."""
    total = sum((fmpq(*float(x).as_integer_ratio()) for x in problem.wins.flat), fmpq(0))
    with ctx.workprec(PRECISION):
        return [
            (int(i), int(j), arb(fmpq(*float(problem.wins[i, j]).as_integer_ratio()) / total))
            for i, j in np.argwhere(problem.wins > 0)
        ]


def _loss_ball(labels: list[tuple[int, int, arb]], reward: list[arb]) -> tuple[arb, list[arb]]:
    """L and its gradient in balls."""
    loss, slope = arb(0), [arb(0)] * len(reward)
    for i, j, share in labels:
        lost = (reward[j] - reward[i]).exp()
        loss += share * (1 + lost).log()
        pull = share * lost / (1 + lost)
        slope[i], slope[j] = slope[i] - pull, slope[j] + pull
    return loss, slope


def _inner(a: list[arb], b: list[arb]) -> arb:
    return sum((x * y for x, y in zip(a, b, strict=True)), arb(0))


def _logistic(x: np.ndarray) -> np.ndarray:
    return np.exp(-np.logaddexp(0.0, -x))


def _down(ball: arb) -> float:
    return float(np.nextafter(float(ball.lower()), -np.inf))


def _up(ball: arb) -> float:
    return float(np.nextafter(float(ball.upper()), np.inf))
