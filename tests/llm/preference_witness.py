"""The table of preference losses copied out in numpy, one line an objective, and their gradients by complex steps.

No derivative is written by hand: f(x + ih) has imaginary part h f'(x) to rounding, for h = 1e-30. What an objective holds
constant is taken from the real part. A soft label is the expectation over hard ones, so each line knows the winner w and the
loser r only.
"""

from types import SimpleNamespace

import numpy as np
import torch
from banach.llm.pair_batch import PairBatch, Sequences

FIELDS = ("logp", "length", "ref", "previous", "win", "reward")


def sigma(x):
    return 1 / (1 + np.exp(-x))


def softplus(x):
    return np.log(1 + np.exp(x))


def positive_part(x):
    return np.where(x.real > 0, x, 0)


def log_odds(x):
    return x - np.log(1 - np.exp(x))


def ratio(y):
    return y.logp - y.ref


def mean(y):
    return y.logp / y.length


def dpo(w, r, k):
    return softplus(-k.temperature * (ratio(w) - ratio(r)))


def ipo(w, r, k):
    return (ratio(w) - ratio(r) - 1 / (2 * k.temperature)) ** 2


def copg(w, r, k):
    return (w.reward - r.reward - k.temperature * (ratio(w) - ratio(r))) ** 2 / (2 * k.temperature)


def rebel(w, r, k):
    return ((w.logp - w.previous - r.logp + r.previous) / k.rate - (w.reward - r.reward)) ** 2


def exo(w, r, k):
    q = sigma(k.temperature * (ratio(w) - ratio(r)))
    return q * np.log(q / (1 - k.noise)) + (1 - q) * np.log((1 - q) / k.noise)


def nca(w, r, k):
    a, b = k.temperature * ratio(w), k.temperature * ratio(r)
    return softplus(-a) + 0.5 * softplus(a) + 0.5 * softplus(b)


def kto(w, r, k):
    gain, loss = sigma(k.temperature * (ratio(w) - k.z)), sigma(k.temperature * (k.z - ratio(r)))
    return (k.desirable * (1 - gain) + k.undesirable * (1 - loss)) / 2


def inpo(w, r, k):
    eta, tau = k.inverse_step, k.temperature
    h = (w.logp - r.logp) - tau / eta * (w.ref - r.ref) - (eta - tau) / eta * (w.previous - r.previous)
    return (h - 1 / (2 * eta)) ** 2


def sppo(w, r, k):
    return sum((y.logp - y.previous - k.rate * (y.win - 0.5)) ** 2 for y in (w, r))


def sppo_hard(w, r, k):
    return (w.logp - w.previous - k.rate / 2) ** 2 + (r.logp - r.previous + k.rate / 2) ** 2


LOSS = {
    "dpo": lambda w, r, k: (
        softplus(-k.temperature * (ratio(w) / w.length - ratio(r) / r.length)) if k.normalised else dpo(w, r, k)
    ),
    "cdpo": lambda w, r, k: (1 - k.noise) * dpo(w, r, k) + k.noise * dpo(r, w, k),
    "robust_dpo": lambda w, r, k: ((1 - k.noise) * dpo(w, r, k) - k.noise * dpo(r, w, k)) / (1 - 2 * k.noise),
    "ipo": ipo,
    "ipo_token_mean": lambda w, r, k: (ratio(w) / w.length - ratio(r) / r.length - 1 / (2 * k.temperature)) ** 2,
    "hinge": lambda w, r, k: positive_part(1 - k.temperature * (ratio(w) - ratio(r))),
    "slic": lambda w, r, k: (
        positive_part(k.width - mean(w) + mean(r)) - k.regulariser * mean(w)
        if k.normalised
        else positive_part(k.width - w.logp + r.logp) - k.regulariser * w.logp
    ),
    "slic_smoothed": lambda w, r, k: positive_part(k.width - mean(w) + mean(r)) + k.regulariser * softplus(1 - ratio(w)),
    "exo": exo,
    "nca": nca,
    "apo_zero": lambda w, r, k: 1 - sigma(k.temperature * ratio(w)) + sigma(k.temperature * ratio(r)),
    "kto": kto,
    "simpo": lambda w, r, k: (
        (1 - k.noise) * softplus(k.margin - k.scale * (mean(w) - mean(r)))
        + k.noise * softplus(k.margin + k.scale * (mean(w) - mean(r)))
    ),
    "cpo": lambda w, r, k: (
        (1 - k.noise) * softplus(-k.scale * (w.logp - r.logp))
        + k.noise * softplus(k.scale * (w.logp - r.logp))
        - k.sft * (w.logp / k.tokens if k.average == "tokens" else w.logp)
    ),
    "orpo": lambda w, r, k: (
        -(w.logp / k.tokens if k.average == "tokens" else mean(w)) + k.weight * softplus(log_odds(mean(r)) - log_odds(mean(w)))
        if k.normalised
        else -w.logp + k.weight * softplus(log_odds(r.logp) - log_odds(w.logp))
    ),
    "rpo": lambda w, r, k: dpo(w, r, k) - k.sft * k.temperature * w.logp,
    "bradley_terry": lambda w, r, k: softplus(r.logp - w.logp),
    "copg": copg,
    "rebel": rebel,
    "sppo": sppo,
    "sppo_hard": sppo_hard,
    "online_dpo": dpo,
    "online_ipo": ipo,
    "inpo": inpo,
}
"""Loss of one pair (winner, loser, constants). `nash_md` has no loss, see `nash_md_weight`."""


def read(batch: PairBatch) -> SimpleNamespace:
    """The batch as complex numpy arrays."""

    def side(sequences):
        found = {name: getattr(sequences, f"{name}_B").detach().numpy().astype(complex) for name in FIELDS}
        return SimpleNamespace(**found)

    weight = np.ones(len(batch.chosen.logp_B)) if batch.weight_B is None else batch.weight_B.numpy()
    return SimpleNamespace(
        chosen=side(batch.chosen),
        rejected=side(batch.rejected),
        label=batch.verdicts[0].numpy(),
        share=weight / weight.sum(),
        mismatched=None if batch.log_ratio_mismatched_M is None else batch.log_ratio_mismatched_M.numpy(),
    )


def loss(name: str, settings: dict, x: SimpleNamespace) -> complex:
    """The weighted mean of the losses of the pairs, labels in expectation."""
    k = SimpleNamespace(**settings)
    w, r, p = x.chosen, x.rejected, x.label
    k.tokens = (x.share * (p * w.length + (1 - p) * r.length)).sum()
    centre = {"zero": 0.0, "batch": (x.share * (ratio(w) + ratio(r)).real / 2).sum(), "mismatched": np.mean(x.mismatched)}
    k.z = max(0.0, centre[settings.get("centre", "zero")])
    return (x.share * (p * LOSS[name](w, r, k) + (1 - p) * LOSS[name](r, w, k))).sum()


def nash_md_weight(settings: dict, x: SimpleNamespace) -> tuple[np.ndarray, np.ndarray]:
    """Munos et al. 2024, section 7: (P(y > y') - 1/2 - tau log pi/q) grad log pi(y)."""
    weight = x.share * (x.label - 0.5 - settings["temperature"] * ratio(x.chosen).real)
    return weight, np.zeros_like(weight)


def score_weights(name: str, settings: dict, x: SimpleNamespace) -> tuple[np.ndarray, np.ndarray]:
    """Minus the derivative of the loss by each log-probability, chosen and rejected, by complex steps."""
    if name == "nash_md":
        return nash_md_weight(settings, x)
    found = []
    for side in (x.chosen, x.rejected):
        clean, weight = side.logp, np.zeros(len(side.logp))
        for row in range(len(clean)):
            side.logp = clean.copy()
            side.logp[row] += 1e-30j
            weight[row] = -loss(name, settings, x).imag / 1e-30
        side.logp = clean
        found.append(weight)
    return found[0], found[1]


def random_pairs(
    seed: int, n_pairs: int = 5, spread: float = 3.0, soft: bool = True, weighted: bool = True, dtype=torch.float64
) -> PairBatch:
    """Pairs with everything that any objective may ask for; log-probabilities of size `spread`, at least 0.05 below zero."""
    rng = np.random.default_rng(seed)

    def tensor(value):
        return torch.tensor(value, dtype=dtype)

    def side():
        length = rng.integers(1, 6, n_pairs)
        logp, ref, previous = (-0.05 - spread * rng.random(n_pairs) * length for _ in range(3))
        mask = torch.arange(7)[None, :] < torch.tensor(length)[:, None]
        win, reward = tensor(rng.random(n_pairs)), tensor(rng.normal(size=n_pairs))
        return Sequences(
            tensor(logp).requires_grad_(),
            tensor(length),
            tensor(ref),
            tensor(previous),
            win_B=win,
            reward_B=reward,
            mask_BT=mask,
        )

    return PairBatch(
        chosen=side(),
        rejected=side(),
        label_B=tensor(rng.random(n_pairs)) if soft else None,
        weight_B=tensor(0.1 + rng.random(n_pairs)) if weighted else None,
        log_ratio_mismatched_M=tensor(rng.normal(size=4)),
    )
