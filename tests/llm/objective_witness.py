"""Every objective once more, slowly: Python numbers, loops, the textbook's min and max, derivatives by finite differences.

Shares no code with the library: it reads a spec's settings and follows the formulas. `live` log-probabilities move, `still`
ones stand where a formula stops the gradient. A part that it does not know is asked for its value a token at a time.
"""

import math
from itertools import pairwise

import torch
from banach.llm.advantage import Accepted, Given, GroupAdvantage, Likelihood
from banach.llm.critic import GeneralisedAdvantage
from banach.llm.mask import AcceptedOnly, AdvantageFilter, DynamicSampling, OverlongFilter
from banach.llm.outcome import Overlong
from banach.llm.surrogate import ClippedRatio, ClippedWeight, ImportanceWeighted, PolicyGradient

from .system_witness import ADVANTAGES, FILTERS, REWARDS, SURROGATES


class Witness:
    def __init__(self, spec, batch):
        self.spec, self.batch = spec, batch
        self.rows = [i for i, row in enumerate(batch.mask_BT.tolist()) if any(row)]
        self.places = {i: [t for t, on in enumerate(batch.mask_BT[i].tolist()) if on] for i in self.rows}
        self.group = {i: int(batch.group_B[i]) for i in self.rows}
        self.members = {g: [i for i in self.rows if self.group[i] == g] for g in set(self.group.values())}
        self.total = {}
        self.paid = self._payments()
        self.advantage = self._advantage(spec.advantage)
        self.kept = {i: [t for t in self.places[i] if all(self._keeps(f, i, t) for f in spec.filters)] for i in self.rows}
        self.norm = self._coefficients()

    def _number(self, name, i, t=None):
        tensor = getattr(self.batch, name)
        return float(tensor.detach()[i] if t is None else tensor.detach()[i, t])

    def _payments(self):
        paid = {}
        for i in self.rows:
            reward = self._number("reward_B", i)
            for transform in self.spec.rewards:
                if type(transform) in REWARDS:
                    reward = REWARDS[type(transform)](self, transform, i, reward)
                    continue
                assert isinstance(transform, Overlong)
                n, free = len(self.places[i]), transform.maximum - transform.cache
                reward += 0 if n <= free else -1 if n > transform.maximum else (free - n) / transform.cache
            steps = [self._number("step_reward_BT", i, t) for t in range(self.batch.mask_BT.shape[1])]
            steps[self.places[i][-1]] += reward - math.fsum(steps)
            self.total[i] = reward
            charge = self.spec.reward_divergence
            for t in self.places[i] if charge else []:
                gap = self._number("logp_ref_BT", i, t) - self._number("logp_old_BT", i, t)
                steps[t] -= charge.coefficient * estimate(charge.estimator, gap, gap)
                self.total[i] -= charge.coefficient * estimate(charge.estimator, gap, gap)
            paid[i] = steps
        return paid

    def _advantage(self, part):
        if isinstance(part, GeneralisedAdvantage):
            return {i: self._gae(part, i) for i in self.rows}
        if isinstance(part, Given):
            return {i: {t: self._number("advantage_BT", i, t) for t in self.places[i]} for i in self.rows}
        if type(part) in ADVANTAGES:
            found = {i: ADVANTAGES[type(part)](self, part, i) for i in self.rows}
            return {i: x if isinstance(x, dict) else dict.fromkeys(self.places[i], x) for i, x in found.items()}
        return {i: dict.fromkeys(self.places[i], self._sequence_advantage(part, i)) for i in self.rows}

    def _sequence_advantage(self, part, i):
        reward, R = self.total[i], self.total
        if isinstance(part, Likelihood):
            return 1.0
        if isinstance(part, Accepted):
            return 1.0 if reward >= part.threshold else 0.0
        assert isinstance(part, GroupAdvantage)
        mates = self.members[self.group[i]]
        others = [j for j in mates if j != i]
        baselines = {"none": lambda j: 0.0, "group-mean": lambda j: mean(R[k] for k in self.members[self.group[j]])}
        baselines["leave-one-out"] = lambda j: mean(R[k] for k in self.members[self.group[j]] if k != j)
        baselines["batch-mean"] = lambda j: mean(R.values())
        centred = reward - baselines[part.baseline](i) if others or part.baseline != "leave-one-out" else 0.0
        compared = mates if part.scale == "group-std" or part.baseline in ("group-mean", "leave-one-out") else self.rows
        if len({R[j] for j in compared}) == 1 and "none" not in (part.baseline, part.scale):
            return 0.0
        if part.scale == "none":
            return centred
        pool = mates if part.scale == "group-std" else self.rows
        numbers = [R[j] - (baselines[part.baseline](j) if part.std_of == "centred" else 0) for j in pool]
        middle = mean(numbers)
        deviation = math.sqrt(math.fsum((x - middle) ** 2 for x in numbers) / (len(numbers) - part.ddof))
        return centred / (deviation + part.epsilon) if deviation > 1e-14 else 0.0

    def _gae(self, part, i):
        """By the definition: A_t = sum_k (g lambda)^k delta_{t+k} over policy tokens."""
        places, g = self.places[i], part.discount
        value = [self._number("value_old_BT", i, t) for t in places]
        after = 0.0
        if self._number("truncated_B", i) and part.bootstrap != "zero":
            after = value[-1] if part.bootstrap == "repeat" else self._number("value_end_B", i)
        spans = [*pairwise(places), (places[-1], len(self.paid[i]))]
        reward = [math.fsum(self.paid[i][a:b]) for a, b in spans]
        delta = [r + g * v1 - v for r, v, v1 in zip(reward, value, [*value[1:], after], strict=True)]
        decay = g * part.trace
        return {t: math.fsum(decay**k * d for k, d in enumerate(delta[n:])) for n, t in enumerate(places)}

    def _keeps(self, part, i, t):
        if type(part) in FILTERS:
            return FILTERS[type(part)](self, part, i, t)
        if isinstance(part, DynamicSampling):
            return len({self._number("reward_B", j) for j in self.members[self.group[i]]}) > 1
        if isinstance(part, OverlongFilter):
            return not self._number("truncated_B", i)
        if isinstance(part, AdvantageFilter):
            return abs(self.advantage[i][t]) >= part.threshold
        assert isinstance(part, AcceptedOnly)
        return self.total[i] >= part.threshold

    def _coefficients(self):
        rule = self.spec.aggregation
        counted = self.places if rule.over == "policy" else self.kept
        pools = [self.rows] if rule.scope == "batch" else list(self.members.values())
        pools = [[i for i in pool if counted[i] or rule.over == "kept-tokens"] for pool in pools]
        pools = [pool for pool in pools if pool]
        norm = {}
        for pool in pools:
            tokens = sum(len(counted[i]) for i in pool)
            for i in pool:
                turns = {int(self.batch.turn_BT[i, t]) for t in counted[i]} if rule.kind.endswith("turn-mean") else ()
                weight = {
                    "token-mean": 1 / max(tokens, 1),
                    "sequence-mean-token-mean": 1 / len(pool) / max(len(counted[i]), 1),
                    "sequence-mean-turn-mean": 1 / len(pool) / max(len(turns), 1),
                    "sequence-mean-token-sum": 1 / len(pool),
                    "sequence-mean-token-sum-constant": 1 / len(pool) / (rule.constant or 1),
                }[rule.kind]
                norm[i] = weight / len(pools)
        return norm

    def _behaviour(self, i, t):
        part = self.spec.behaviour
        if part is None:
            return 1.0
        places = [t] if part.level == "token" else self.places[i]
        gap = math.fsum(self._number("logp_old_BT", i, s) - self._number("logp_sampler_BT", i, s) for s in places)
        weight = math.exp(gap)
        return weight if weight <= part.cap else part.cap if part.beyond == "truncate" else 0.0

    def _unit(self, i, t):
        level = self.spec.ratio.level
        if level == "turn":
            return [s for s in self.places[i] if int(self.batch.turn_BT[i, s]) == int(self.batch.turn_BT[i, t])]
        return [t] if level in ("token", "none") else self.places[i]

    def loss(self, live):
        """The loss at log-probabilities `live`; those of the batch stand still."""
        still = self.batch.logp_BT.detach().double().tolist()
        terms = []
        for i in self.rows:
            for t in self.kept[i]:
                terms.append(-self.norm[i] * self._behaviour(i, t) * self._surrogate(i, t, live, still))
                terms.append(self.norm[i] * self._penalty(i, t, live, still))
                if self.spec.entropy:
                    terms.append(-self.norm[i] * self.spec.entropy * self._number("entropy_BT", i, t))
        return math.fsum(terms)

    def _surrogate(self, i, t, live, still):
        """A unit's term is counted by equal shares of its tokens, which have one ratio, one advantage, one coefficient."""
        unit, level, A = self._unit(i, t), self.spec.ratio.level, self.advantage[i][t]
        assert len({self.advantage[i][s] for s in unit}) == 1
        ratio, frozen = 1.0, 1.0
        if level != "none":
            scale = len(unit) if level == "sequence-geometric" else 1
            ratio, frozen = (
                math.exp(math.fsum(x[i][s] - self._number("logp_old_BT", i, s) for s in unit) / scale) for x in (live, still)
            )
        share = 1 / len(unit) if level in ("turn", "sequence") else 1.0
        return share * phi(self.spec.surrogate, ratio, frozen, live[i][t], A)

    def _penalty(self, i, t, live, still):
        part = self.spec.loss_divergence
        if part is None:
            return 0.0
        if part.estimator == "full":
            p, q = (getattr(self.batch, name)[i, t].tolist() for name in ("log_policy_BTV", "log_reference_BTV"))
            return part.coefficient * math.fsum(math.exp(a) * (a - b) for a, b in zip(p, q, strict=True))
        reference = self._number("logp_ref_BT" if part.reference == "ref" else "logp_old_BT", i, t)
        value = estimate(part.estimator, reference - live[i][t], reference - still[i][t])
        if part.importance:
            value *= math.exp(live[i][t] - self._number("logp_old_BT", i, t))
        return part.coefficient * value

    def gradient(self, step=1e-5):
        """Of minus the loss by each log-probability, by central differences of order four: (B, T)."""
        at = self.batch.logp_BT.detach().double().tolist()
        slope = torch.zeros(self.batch.logp_BT.shape, dtype=torch.float64)
        for i in self.rows:
            for t in self.places[i]:
                values = {}
                for k in (-2, -1, 1, 2):
                    moved = [list(row) for row in at]
                    moved[i][t] += k * step
                    values[k] = -self.loss(moved)
                slope[i, t] = (8 * (values[1] - values[-1]) - (values[2] - values[-2])) / (12 * step)
        return slope

    def value_loss(self):
        """The critic's loss."""
        part = self.spec.critic
        terms = []
        for i in self.rows:
            if part.finished_only and bool(self.batch.truncated_B[i]):
                continue
            advantage = self._gae(part.target, i)
            for t in self.places[i]:
                value, old = self._number("value_BT", i, t), self._number("value_old_BT", i, t)
                errors = [(value - advantage[t] - old) ** 2]
                if part.clip is not None:
                    near = min(max(value, old - part.clip), old + part.clip)
                    errors.append((near - advantage[t] - old) ** 2)
                terms.append(max(errors) / 2)
        return mean(terms)


def phi(part, ratio, frozen, logp, A):
    """The surrogate of one token; `frozen` is the ratio where the gradient stops."""
    if type(part) in SURROGATES:
        return SURROGATES[type(part)](part, ratio, frozen, logp, A)
    if isinstance(part, PolicyGradient):
        return A * logp
    if isinstance(part, ImportanceWeighted):
        return ratio * A
    if isinstance(part, ClippedWeight):
        return min(max(frozen, part.floor), part.cap) * A * logp
    if isinstance(part, ClippedRatio):
        worst = min(ratio * A, min(max(ratio, 1 - part.low), 1 + part.high) * A)
        return max(worst, part.dual * A) if part.dual is not None and A < 0 else worst
    one = [torch.tensor([[x]], dtype=torch.float64) for x in (ratio, logp, A)]
    return float(part.value(*one))


def estimate(name, gap, frozen):
    """Estimators of the divergence at d = log ref - log policy."""
    k3 = math.exp(gap) - gap - 1
    if name == "k3+":
        return math.exp(frozen) - frozen - 1 + (gap**2 - frozen**2) / 2
    return {"k1": -gap, "k2": gap**2 / 2, "k3": k3}[name]


def mean(numbers):
    numbers = list(numbers)
    return math.fsum(numbers) / len(numbers) if numbers else 0.0
