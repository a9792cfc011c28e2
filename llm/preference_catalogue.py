r"""Preference objectives by their names in the literature, each a few lines that set the terms of the one kernel.

With s = log pi/q (sums unless said otherwise), m = s(chosen) - s(rejected), the losses a pair:

    dpo                -log sigma(beta m)
    cdpo               (1 - e) f(m) + e f(-m), f of dpo
    robust_dpo         ((1 - e) f(m) - e f(-m)) / (1 - 2e), f of dpo
    ipo                (m - 1/(2 tau))^2
    ipo_token_mean     the same with s divided by the completion's length
    hinge              max(0, 1 - beta m)
    slic               max(0, delta - log pi_w/pi_l) - weight log pi_w
    slic_smoothed      the same with the regulariser weight log(1 + exp(1 - s(chosen)))
    exo                KL(sigma(beta m) || 1 - e)
    nca                f(s_w) + f(-s_w)/2 + f(-s_l)/2, f(s) = -log sigma(beta s)
    apo_zero           sigma(-beta s_w) + sigma(beta s_l)
    kto                lambda_D sigma(beta (z - s)) on desirable, lambda_U sigma(beta (s - z)) on undesirable sequences
    simpo              -log sigma(beta (log pi_w/|w| - log pi_l/|l|) - gamma)
    cpo                -log sigma(beta log pi_w/pi_l) - weight log pi_w
    orpo               -log pi_w/|w| - lambda log sigma(log odds_w - log odds_l), probabilities geometric means over tokens
    rpo                dpo - eta beta log pi_w
    bradley_terry      -log sigma(r_w - r_l) of a reward model r
    copg               (R_w - R_l - beta m)^2 / (2 beta)
    rebel              (m_t / eta - (R_w - R_l))^2, m_t the margin of log pi/pi_t
    sppo               sum over both of (log pi/pi_t - eta (P(y > pi_t) - 1/2))^2
    sppo_hard          the same with P = 1 for the winner, 0 for the loser
    online_dpo, online_ipo                 dpo, ipo on pairs from the current policy
    inpo               (h - 1/(2 eta))^2, h the margin of log pi - (tau/eta) log q - (1 - tau/eta) log pi_t, on pairs from pi_t
    nash_md            -(P(y > y') - 1/2 - tau log pi/q(y)) log pi(y), y from pi, y' from the opponent's mixture pi^(1-c) q^c

What other libraries call the same thing (each line is a test in `tests/llm/test_preference_names.py`):

    TRL `ipo`, beta                 ipo_token_mean(temperature=beta)
    TRL `sppo_hard`, beta           sppo_hard(rate=1/beta)
    TRL `robust`, label_smoothing   robust_dpo(noise=label_smoothing)
    TRL `sigmoid`, label_smoothing  dpo: the smoothing is not read, and cdpo has no name there
    TRL CPO `simpo`                 simpo(scale=beta, margin=simpo_gamma)
    GPO f(u) = (u - 1)^2, u=beta m  beta^2 times ipo(temperature=beta/2)
    (tau m - 1/2)^2 of 2410.11676   tau^2 times ipo(temperature=tau)
    RPO's eta                       rpo(temperature=beta, sft=eta): the weight on -log pi_w is eta beta
    INPO eta, a step's inverse      Nash-MD's and SPPO's rate is 1/eta
    copg with R_w - R_l = 1, beta   beta/2 times ipo(temperature=beta/2), constants included

RLHF with a Bradley-Terry reward is `bradley_terry` for r, then `copg` on r: both stages together reach what `dpo` reaches.
"""

import inspect
from collections.abc import Callable
from typing import Literal

from .errors import SpecError
from .preference_link import Hinge, Linear, Logistic, ReverseKL, Sigmoid, Squared, require_positive
from .preference_spec import Centre, GradientTerm, PairTerm, PointTerm, PreferenceSpec, Score

RATIO = Score(reference=1.0)
"""log pi(y)/q(y), summed over tokens."""
LIKELIHOOD = Score()
"""log pi(y), summed over tokens."""


def dpo(temperature: float = 0.1, normalised: bool = False) -> PreferenceSpec:
    """Direct preference optimisation. temperature: beta. normalised: scores divided by lengths (TRL's `sigmoid_norm`)."""
    term = PairTerm(Score(reference=1.0, normalised=normalised), _logistic(temperature=temperature))
    return PreferenceSpec("dpo", (term,), "Rafailov et al. 2023, 2305.18290")


def cdpo(temperature: float = 0.1, noise: float = 0.1) -> PreferenceSpec:
    """Conservative DPO: labels smoothed by `noise` in [0, 1/2). temperature: beta."""
    return PreferenceSpec(
        "cdpo", (PairTerm(RATIO, _logistic(temperature=temperature), noise=noise),), "Mitchell 2023, A note on DPO"
    )


def robust_dpo(temperature: float = 0.1, noise: float = 0.1) -> PreferenceSpec:
    """DPO unbiased under labels flipped with known rate `noise` in [0, 1/2); unbounded below on a single pair. temperature:
    beta.
    """
    term = PairTerm(RATIO, _logistic(temperature=temperature), noise=noise, unflip=True)
    return PreferenceSpec("robust_dpo", (term,), "Chowdhury et al. 2024, 2403.00409")


def ipo(temperature: float = 0.1) -> PreferenceSpec:
    """Identity preference optimisation on summed log-ratios, as in the theory. temperature: tau; the target margin is 1/(2
    tau).
    """
    return PreferenceSpec("ipo", (PairTerm(RATIO, _to_margin(temperature)),), "Azar et al. 2024, 2310.12036")


def ipo_token_mean(temperature: float = 0.1) -> PreferenceSpec:
    """IPO on log-ratios divided by lengths, as its authors trained it and as TRL has it. temperature: tau."""
    term = PairTerm(Score(reference=1.0, normalised=True), _to_margin(temperature))
    return PreferenceSpec("ipo_token_mean", (term,), "Azar et al. 2024, 2310.12036; TRL, DPOTrainer")


def hinge(temperature: float = 0.1) -> PreferenceSpec:
    """The hinge relative to the reference, max(0, 1 - beta m). temperature: beta."""
    return PreferenceSpec("hinge", (PairTerm(RATIO, Hinge(temperature)),), "Liu et al. 2024, RSO, 2309.06657")


def slic(width: float = 1.0, regulariser: float = 0.1, normalised: bool = False) -> PreferenceSpec:
    """SLiC-HF: a reference-free hinge of `width` delta and `regulariser` times the negative log-likelihood of the chosen
    sequence.
    """
    free = Score(normalised=normalised)
    terms = (PairTerm(free, Hinge(width=width)), PointTerm(free, Linear(), weight=regulariser, undesirable=0.0))
    return PreferenceSpec("slic", terms, "Zhao et al. 2023, 2305.10425")


def slic_smoothed(width: float = 1.0, regulariser: float = 0.1) -> PreferenceSpec:
    """SLiC on token means; the regulariser, a smoothed hinge log(1 + exp(1 - s)), keeps the chosen sequence above the
    reference.
    """
    anchor = PointTerm(RATIO, Logistic(1.0, shift=1.0), weight=regulariser, undesirable=0.0)
    terms = (PairTerm(Score(normalised=True), Hinge(width=width)), anchor)
    return PreferenceSpec("slic_smoothed", terms, "Shi et al. 2024, 2410.11677")


def exo(temperature: float = 0.1, noise: float = 1e-3) -> PreferenceSpec:
    """Efficient exact optimisation, two responses: the reverse divergence to labels smoothed by `noise` in (0, 1/2)."""
    return PreferenceSpec("exo", (PairTerm(RATIO, ReverseKL(temperature, noise)),), "Ji et al. 2024, 2402.00856")


def nca(temperature: float = 0.01) -> PreferenceSpec:
    """Noise contrastive alignment, two responses: it pulls each score towards a level, not only their margin. temperature:
    beta.
    """
    toward = PointTerm(RATIO, _logistic(temperature=temperature), undesirable=0.5)
    level = PointTerm(RATIO, Logistic(-temperature), desirable=0.5, undesirable=0.0)
    return PreferenceSpec("nca", (toward, level), "Chen et al. 2024, 2402.05369")


def apo_zero(temperature: float = 0.1) -> PreferenceSpec:
    """Anchored preference optimisation, zero: KTO on pairs with its centre at zero. temperature: beta."""
    return PreferenceSpec("apo_zero", (PointTerm(RATIO, Sigmoid(temperature)),), "D'Oosterlinck et al. 2024, 2408.06266")


def kto(
    temperature: float = 0.1,
    desirable: float = 1.0,
    undesirable: float = 1.0,
    centre: Centre = "batch",
) -> PreferenceSpec:
    """Kahneman-Tversky optimisation, of single sequences or of both sides of pairs.

    temperature: beta. desirable, undesirable: lambda_D, lambda_U. centre: where KL(pi || q) is estimated, from the batch's own
    sequences, which biases it towards the labels' mixture, or from mismatched ones, as the paper and TRL do.
    """
    term = PointTerm(RATIO, Sigmoid(temperature), 1.0, desirable, undesirable, centre, average="sequences")
    return PreferenceSpec("kto", (term,), "Ethayarajh et al. 2024, 2402.01306")


def simpo(scale: float = 2.0, margin: float = 1.0, noise: float = 0.0) -> PreferenceSpec:
    """Simple preference optimisation: reference-free, on token means. scale: beta. margin: gamma. noise: label smoothing in
    [0, 1/2).
    """
    term = PairTerm(Score(normalised=True), _logistic(margin, scale=scale), noise=noise)
    return PreferenceSpec("simpo", (term,), "Meng et al. 2024, 2405.14734")


def cpo(
    scale: float = 0.1, sft: float = 1.0, noise: float = 0.0, average: Literal["pairs", "tokens"] = "pairs"
) -> PreferenceSpec:
    """Contrastive preference optimisation: reference-free logistic loss and `sft` times -log pi_w, summed or a mean over all
    tokens.
    """
    anchor = PointTerm(Score(normalised=average == "tokens"), Linear(), sft, undesirable=0.0, average=average)
    return PreferenceSpec(
        "cpo", (PairTerm(LIKELIHOOD, _logistic(scale=scale), noise=noise), anchor), "Xu et al. 2024, 2401.08417"
    )


def orpo(weight: float = 0.1, normalised: bool = True, average: Literal["pairs", "tokens"] = "pairs") -> PreferenceSpec:
    """Odds-ratio preference optimisation: negative log-likelihood of the chosen sequence and `weight` times the odds-ratio
    term.

    weight: lambda. normalised: probabilities are geometric means over tokens, as published; False takes whole sequences.
    average: the likelihood is a mean over pairs, or over all chosen tokens of the batch, as TRL has it.
    """
    anchor = PointTerm(Score(normalised=normalised), Linear(), undesirable=0.0, average=average)
    odds = PairTerm(Score(normalised=normalised, odds=True), Logistic(1.0), weight)
    return PreferenceSpec("orpo", (anchor, odds), "Hong et al. 2024, 2403.07691")


def rpo(temperature: float = 0.01, sft: float = 0.005) -> PreferenceSpec:
    """Regularised preference optimisation: dpo and eta beta times -log pi_w, summed over tokens. temperature: beta. sft:
    eta.
    """
    require_positive(temperature=temperature, sft=sft)
    terms = (
        PairTerm(RATIO, _logistic(temperature=temperature)),
        PointTerm(LIKELIHOOD, Linear(), sft * temperature, undesirable=0.0),
    )
    return PreferenceSpec("rpo", terms, "Liu et al. 2024, 2405.16436")


def bradley_terry() -> PreferenceSpec:
    """Maximum likelihood of a reward model: the batch's logp_B are its scores r(x, y)."""
    term = PairTerm(Score(learned=True), Logistic(1.0))
    return PreferenceSpec("bradley_terry", (term,), "Bradley and Terry 1952; Ouyang et al. 2022, 2203.02155")


def copg(temperature: float = 0.06) -> PreferenceSpec:
    """Contrastive policy gradient: reward differences regressed on margins, from any distribution of pairs. temperature:
    beta.
    """
    require_positive(temperature=temperature)
    term = PairTerm(RATIO, Squared(scale=temperature / 2), regress=temperature)
    return PreferenceSpec("copg", (term,), "Flet-Berliac et al. 2024, 2406.19185")


def rebel(rate: float = 1.0) -> PreferenceSpec:
    """One mirror step on rewards by regression: pi_t e^(rate R) is its population optimum. rate: eta."""
    require_positive(rate=rate)
    term = PairTerm(Score(previous=1.0), Squared(scale=rate**-2), regress=1 / rate)
    return PreferenceSpec("rebel", (term,), "Gao et al. 2024, 2404.16767", pairs="previous")


def sppo(rate: float = 1000.0) -> PreferenceSpec:
    """Self-play preference optimisation with win rates against pi_t from the batch (win_B). rate: eta."""
    require_positive(rate=rate)
    term = PointTerm(Score(previous=1.0), Squared(), regress=rate)
    return PreferenceSpec("sppo", (term,), "Wu et al. 2024, 2405.00675", pairs="previous")


def sppo_hard(rate: float = 1000.0) -> PreferenceSpec:
    """SPPO with the winner's win rate taken for 1 and the loser's for 0. rate: eta."""
    require_positive(rate=rate)
    term = PointTerm(Score(previous=1.0), Squared(target=rate / 2))
    return PreferenceSpec("sppo_hard", (term,), "Wu et al. 2024, 2405.00675", pairs="previous")


def online_dpo(temperature: float = 0.1) -> PreferenceSpec:
    """DPO on pairs from the current policy, the sampling held constant. temperature: beta."""
    source = "Guo et al. 2024, 2402.04792"
    return PreferenceSpec("online_dpo", (PairTerm(RATIO, _logistic(temperature=temperature)),), source, pairs="policy")


def online_ipo(temperature: float = 0.1) -> PreferenceSpec:
    """IPO on pairs from the current policy: stationary at the regularised Nash policy. temperature: tau."""
    source = "Calandriello et al. 2024, 2403.08635"
    return PreferenceSpec("online_ipo", (PairTerm(RATIO, _to_margin(temperature)),), source, pairs="policy")


def inpo(inverse_step: float = 0.0075, temperature: float = 0.0025) -> PreferenceSpec:
    """Iterative Nash policy optimisation: one mirror step of the regularised preference game by regression.

    inverse_step: eta, at least temperature: tau >= 0 (at eta = tau the step is a best response; at tau = 0 no reference is
        used).
    Raises SpecError when the two exclude each other.
    """
    require_positive(inverse_step=inverse_step)
    if not 0 <= temperature <= inverse_step:
        raise SpecError(
            f"temperature {temperature!r} is outside [0, inverse_step = {inverse_step!r}]: the previous policy would weigh "
            "less than nothing; take smaller steps (a larger inverse_step)"
        )
    pull = temperature / inverse_step
    term = PairTerm(Score(reference=pull, previous=1 - pull), _to_margin(inverse_step))
    return PreferenceSpec("inpo", (term,), "Zhang et al. 2025, 2407.00617", pairs="previous")


def nash_md(temperature: float = 0.008) -> PreferenceSpec:
    """The policy gradient of Nash mirror descent: y of the first side from pi, y' of the second from the opponent, label P(y >
    y').

    temperature: tau. The opponent is the geometric mixture pi^(1 - c) q^c; c = 0, plain self-play, is stationary at the
    regularised Nash policy, c > 0 at q e^(P(y > mixture) / tau), which differs from it.
    """
    return PreferenceSpec("nash_md", (GradientTerm(RATIO, temperature),), "Munos et al. 2024, 2312.00886", pairs="mixture")


def _logistic(shift: float = 0.0, **scale: float) -> Logistic:
    require_positive(**scale)
    (value,) = scale.values()
    return Logistic(value, shift)


def _to_margin(temperature: float) -> Squared:
    require_positive(temperature=temperature)
    return Squared(target=1 / (2 * temperature))


PREFERENCES: dict[str, Callable[..., PreferenceSpec]] = {
    build.__name__: build
    for build in (
        dpo,
        cdpo,
        robust_dpo,
        ipo,
        ipo_token_mean,
        hinge,
        slic,
        slic_smoothed,
        exo,
        nca,
        apo_zero,
        kto,
        simpo,
        cpo,
        orpo,
        rpo,
        bradley_terry,
        copg,
        rebel,
        sppo,
        sppo_hard,
        online_dpo,
        online_ipo,
        inpo,
        nash_md,
    )
}
"""Every objective by name: a function of its settings that returns the `PreferenceSpec`."""


def preference(name: str, **settings: float | str | bool) -> PreferenceSpec:
    """The objective of that name with those settings.

    Raises SpecError when there is no such objective or it has no such setting.
    """
    if name not in PREFERENCES:
        raise SpecError(f"no preference objective is called {name!r}; there are {', '.join(sorted(PREFERENCES))}")
    known = inspect.signature(PREFERENCES[name]).parameters
    unknown = sorted(set(settings) - set(known))
    if unknown:
        raise SpecError(f"{name} has no setting {', '.join(unknown)}; it has {', '.join(known) or 'none'}")
    return PREFERENCES[name](**settings)
