"""The parts that published systems add to the core, once more and slowly, for `objective_witness`.

Each is a function of the witness, the part and the sequence (and the position), in Python numbers.
"""

import math

from banach.llm.bundles import MixedRisk
from banach.llm.curvature import CurvatureFilter
from banach.llm.implicit_policy import ImplicitNegative, SuccessWeighted
from banach.llm.log_ratio import GapFilter, LogRatioRegression, Tempered
from banach.llm.modes import LeaveOneOutModes, ModeCost
from banach.llm.rounds import RoundDiscount, SpreadGroups
from banach.llm.shaping import EarlyCalls
from banach.llm.systems.t_ppo import FinishedReward
from banach.llm.windows import FreshTokens


def small_shift(witness, part, i, t):
    batch = witness.batch
    p = [math.exp(x) for x in batch.log_policy_BTV[i, t].detach().double().tolist()]
    h, A, a = batch.hidden_BTD[i, t].tolist(), witness.advantage[i][t], int(batch.token_BT[i, t])
    size, rate = sum(x * x for x in h), part.step.rate
    v = [(b == a) - q for b, q in enumerate(p)]
    u = [rate * A * x * size for x in v]
    along = sum(x * y for x, y in zip(v, u, strict=True))
    fisher = sum(p[b] * ((b == c) - p[c]) * u[b] * u[c] for b in range(len(p)) for c in range(len(p)))
    m_H = A * along + 0.5 * A * (along**2 - fisher)
    m_F = 0.5 * along**2
    if A == 0:
        return part.curvature > 0 and part.shift > 0
    low = -part.curvature if part.least is None else part.least
    return (m_H > low or m_H == part.least) and m_H < part.curvature and m_F < part.shift


def interpolated(scores, level):
    at = level * (len(scores) - 1)
    below = math.floor(at)
    above = min(below + 1, len(scores) - 1)
    return scores[below] + (at - below) * (scores[above] - scores[below])


def paid_in_bundles(witness, part, i):
    bundle = {j: int(witness.batch.bundle_B[j]) for j in witness.rows}
    members = {b: [j for j in witness.rows if bundle[j] == b] for b in set(bundle.values())}
    total = {b: math.fsum(witness.total[j] for j in mine) for b, mine in members.items()}
    prompts = list(zip(witness.batch.bundle_B.tolist(), witness.batch.group_B.tolist(), strict=True))
    first = {b: min(prompt for name, prompt in prompts if name == b) for b in total}
    mine = [b for b in total if part.pool == "batch" or first[b] == first[bundle[i]]]
    scores, n = sorted(total[b] for b in mine), len(mine)
    if part.quantiles is not None:
        at = part.quantiles
    elif part.pool == "set":
        at = [interpolated(scores, level) for level in (part.low, part.high)]
    else:
        at = [next(x for k, x in enumerate(scores) if (k + 1) / n >= s - 1e-12) for s in (part.low, part.high)]
    R = total[bundle[i]]
    A = min(max(R, at[0]), at[1]) - (at[1] if part.constant else at[0]) - (1 + part.weight) * max(at[0] - R, 0)
    if part.scale == "bundle-std":
        middle, less = math.fsum(scores) / n, int(part.pool == "set")
        deviation = math.sqrt(math.fsum((x - middle) ** 2 for x in scores) / (n - less)) if n > 1 else less
        A = A / deviation if deviation > 1e-12 else 0.0
    mates = {j: witness.members[witness.group[j]] for j in members[bundle[i]]}
    mean = {j: math.fsum(witness.total[k] for k in some) / len(some) for j, some in mates.items()}
    share = 1.0
    if part.credit == "std":
        square = math.fsum((witness.total[k] - mean[i]) ** 2 for k in mates[i])
        deviation = math.sqrt(square / max(len(mates[i]) - 1, 1))
        share = 1 / deviation if deviation > 1e-3 else 1.0
    elif part.credit == "score":
        share = 0.5 if witness.total[i] > 0 else 1.5
    elif part.credit == "sum-mean":
        of = {j: witness.total[j] - mean[j] for j in mates}
        whole = math.fsum(of.values())
        share = 1 / len(of) if abs(whole) <= 1e-6 else of[i] / whole
    return part.factor * share * A


def by_success(witness, part, i):
    least = 1.0 if part.threshold is None else part.threshold
    right = [witness.total[j] >= least for j in witness.members[witness.group[i]]]
    if len(set(right)) == 1:
        return 0.0
    rate = min(max(sum(right) / len(right), part.least), 1 - part.least)
    w = {"centred": 1 - rate, "std": math.sqrt((1 - rate) / rate), "one": 1.0}[part.by]
    return w if witness.total[i] >= least else -part.negative * w * rate / (1 - rate)


def implied(part, ratio, frozen, logp, A):
    """Straight through: the value at the floor, the slope of x."""
    if A >= 0:
        return A * math.log(ratio)
    a = -A / part.negative
    rate = {"centred": a, "std": a * a / (1 + a * a), "one": a / (1 + a)}[part.by]
    w = {"centred": 1 - rate, "std": math.sqrt((1 - rate) / rate), "one": 1.0}[part.by]
    x, still = ((1 - rate * R) / (1 - rate) for R in (ratio, frozen))
    return part.negative * w * math.log(max(still, part.epsilon) - still + x)


def tempered(witness, part, i):
    A = witness._sequence_advantage(part.part, i) / part.temperature
    return A if part.limit is None else min(max(A, -part.limit), part.limit)


def wide_enough(witness, part, i, t):
    rewards = [witness.total[j] for j in witness.members[witness.group[i]]]
    return max(rewards) - min(rewards) >= part.gap - 1e-12


def apart(witness, part, i, t):
    rewards = [witness.total[j] for j in witness.members[witness.group[i]]]
    return max(rewards) - min(rewards) > 1e-12 * max(map(abs, rewards))


def half_square(part, ratio, frozen, logp, A):
    return -((A - math.log(ratio)) ** 2) / 2


def early(witness, part, i):
    mates = witness.members[witness.group[i]]
    call = {j: int(witness.batch.first_call_B[j]) for j in mates}
    eligible = [j for j in mates if witness.total[j] >= part.threshold and call[j] >= 0]
    A = witness._sequence_advantage(part.part, i)
    if i not in eligible:
        return A
    n = len(eligible)
    length = math.fsum(len(witness.places[j]) for j in eligible) / n
    bias = part.strength * (call[i] - math.fsum(call[j] for j in eligible) / n) / length
    return A + max(-part.share * abs(A), min(part.share * abs(A), bias))


def fresh_and_far_from_the_cut(witness, part, i, t):
    places = witness.places[i]
    near = bool(witness.batch.truncated_B[i]) and t in places[len(places) - part.drop_last :] and part.drop_last > 0
    return bool(witness.batch.fresh_BT[i, t]) and not near


def paid_when_finished(witness, part, i, reward):
    return math.fsum(witness.batch.step_reward_BT[i].tolist()) if bool(witness.batch.truncated_B[i]) else reward


def discounted(witness, part, i, reward):
    return reward * part.discount ** int(witness.batch.rounds_left_B[i])


def charged_factor(witness, part, i, left_out=()):
    """What other modes are paid in the group of i, forced rollouts but some counted."""
    batch, mates = witness.batch, witness.members[witness.group[i]]
    forced = [j for j in mates if bool(batch.forced_B[j]) and int(batch.mode_B[j]) >= 0 and j not in left_out]
    right = {j: float(witness.uncharged[j] >= part.threshold) for j in forced}
    instant = [right[j] for j in forced if int(batch.mode_B[j]) == 0]
    rate = sum(instant) / len(instant) if instant else 0.0
    if part.gate and rate <= part.tau:
        return 1.0
    p = {"all-forced": sum(right.values()) / max(len(right), 1), "instant": rate}.get(part.source, part.source)
    return 1 - p**part.alpha


def charged(witness, part, i, reward):
    witness.uncharged = {j: float(witness.batch.reward_B[j]) for j in witness.rows}
    mode = int(witness.batch.mode_B[i])
    return 0.0 if mode < 0 else reward * (charged_factor(witness, part, i) if mode > 0 else 1.0)


def left_out(witness, part, i):
    witness.uncharged = witness.total
    factor = charged_factor(witness, part.cost, i, (i,))
    paid = {}
    for j in witness.members[witness.group[i]]:
        mode = int(witness.batch.mode_B[j])
        paid[j] = 0.0 if mode < 0 else witness.total[j] * (factor if mode > 0 else 1.0)
    return paid[i] - math.fsum(paid.values()) / len(paid)


ADVANTAGES = {
    LeaveOneOutModes: left_out,
    EarlyCalls: early,
    MixedRisk: paid_in_bundles,
    SuccessWeighted: by_success,
    Tempered: tempered,
}
FILTERS = {
    CurvatureFilter: small_shift,
    FreshTokens: fresh_and_far_from_the_cut,
    GapFilter: wide_enough,
    SpreadGroups: apart,
}
REWARDS = {ModeCost: charged, FinishedReward: paid_when_finished, RoundDiscount: discounted}
SURROGATES = {ImplicitNegative: implied, LogRatioRegression: half_square}
