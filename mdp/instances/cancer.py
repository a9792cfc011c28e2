r"""Chemotherapy of a glioma, month by month, on the states that a random treatment visits.

The patient is (C, P, Q, D): drug level, proliferating, quiescent and damaged tissue (mm of diameter), from (0, 7.13, 41.2, 0).
Action 1 gives a dose. With k = 0.24 (the drug's decay) a month leads to

    C' = (1 - k) (C + a)
    P' = P + 0.121 P (1 - (P + Q + D) / 100) + 0.0031 D - 0.0295 P - 0.729 k C' P
    Q' = Q + 0.0295 P' - 0.729 k C' Q
    D' = D + 0.729 k C' Q' - 0.0031 D - 0.00867 D

each times its own noise of a gamma distribution with mean 1. The reward is what the tumour P + Q + D loses before the noise,
less `penalty` C'.

The continuous problem is fitted to a table: representative patients are drawn from months of a uniformly random treatment
(the first patient among them), and a row is the share of `draws` noises after which a representative is the nearest one. The
noises are the same for all pairs, so that actions are compared on equal luck. A tissue beyond 1000 mm ends it.

Source: Ribba et al., Clin. Cancer Res. 18, 2012 (the tumour); Yauney and Shah, MLHC 2018; Gottesman et al., ICML 2020
(arXiv:2002.03478); the discretisation and the gamma noise follow the domain of craam2, whose code misplaces a parenthesis: it
adds 1 to no drug and to any drug alike, C' = (1 - k) [C + a nonzero]. That is `slip="yes"`.
"""

from __future__ import annotations

import numpy as np
from scipy.spatial import KDTree

from ..criterion import Discounted
from ..model import MDP
from .instance import Instance
from .parameters import at_least, inside, one_of
from .rows import start_at

START = (0.0, 7.13, 41.2, 0.0)
LIMIT = 1000.0
MONTHS = 30
"""Of a treatment that is simulated to find representatives."""


def month(patient: np.ndarray, dose: np.ndarray, penalty: float, slip: bool) -> tuple[np.ndarray, np.ndarray]:
    """Patients (n, 4) a month later, before noise, and rewards (n,), of doses (n,), 0 or 1."""
    drug, proliferating, quiescent, damaged = patient.T
    tumour = proliferating + quiescent + damaged
    drug = 0.76 * ((drug + dose != 0) if slip else drug + dose)
    killing = 0.729 * 0.24 * drug
    growth = 0.121 * proliferating * (1 - tumour / 100)
    p = proliferating + growth + 0.0031 * damaged - 0.0295 * proliferating - killing * proliferating
    q = quiescent + 0.0295 * p - killing * quiescent
    d = damaged + killing * q - 0.0031 * damaged - 0.00867 * damaged
    return np.stack([drug, p, q, d], 1), tumour - (p + q + d) - penalty * drug


def cancer(
    states: int = 400,
    discount: float = 0.9,
    draws: int = 200,
    noise: float = 0.2,
    penalty: float = 1.6,
    slip: str = "no",
    seed: int = 0,
) -> MDP:
    """When to give chemotherapy: a fitted table of a tumour's growth under a drug.

    State 0 is the first patient, the last one the end, states - 1 others representative patients. Action 1 gives a dose.
    states: >= 2, without the end. discount: in [0, 1). draws: >= 1, noises a row. noise: > 0, the standard deviation of each.
    penalty: >= 0, of a unit of the drug. slip: "no", or "yes" for craam2's drug level. seed: of patients and noises.
    Raises ModelError for parameters out of range. Source: see the module.
    """
    at_least(2, states=states)
    at_least(1, draws=draws)
    at_least(0, penalty=penalty, seed=seed)
    inside(0, 10, noise=noise)
    one_of(("no", "yes"), slip=slip)
    patient, luck = _drawn(states, draws, noise, penalty, slip == "yes", seed)
    nearest, pairs = KDTree(patient), 2 * states
    later, reward = month(np.repeat(patient, 2, axis=0), np.tile([0.0, 1.0], states), penalty, slip == "yes")
    there = (later[:, None] * luck).reshape(-1, 4)
    end = (np.abs(there) >= LIMIT).any(1)
    number = np.where(end, states, nearest.query(there)[1]).reshape(pairs, draws)
    row_ptr, successor, probability = [0], [], []
    for row in number:
        reached, count = np.unique(row, return_counts=True)
        successor.append(reached)
        probability.append(count / draws)
        row_ptr.append(row_ptr[-1] + len(reached))
    successor.append(np.array([states]))
    probability.append(np.array([1.0]))
    return MDP(
        state_ptr=np.append(np.arange(0, pairs + 1, 2), pairs + 1).astype(np.int32),
        row_ptr=np.array([*row_ptr, row_ptr[-1] + 1], dtype=np.int32),
        successor=np.concatenate(successor).astype(np.int32),
        probability=np.concatenate(probability),
        reward=np.append(reward, 0.0),
        criterion=Discounted(discount),
        initial=start_at(states + 1, 0),
    )


def _drawn(states: int, draws: int, noise: float, penalty: float, slip: bool, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Representative patients (states, 4), the first one first, and noises (draws, 4)."""
    rng = np.random.default_rng((seed, 42))
    luck = rng.gamma(noise**-2, noise**2, (draws, 4))
    treated = max(8, -(-4 * states // MONTHS))
    patient, seen = np.tile(START, (treated, 1)), []
    for _ in range(MONTHS):
        patient, _ = month(patient, rng.integers(0, 2, treated).astype(float), penalty, slip)
        patient = patient * rng.gamma(noise**-2, noise**2, (treated, 4))
        seen.append(patient[(np.abs(patient) < LIMIT).all(1)])
    visited = np.concatenate(seen)
    chosen = rng.choice(len(visited), states - 1, replace=False)
    return np.concatenate([[START], visited[chosen]]), luck


CANCER = Instance(
    "cancer", cancer, "Ribba et al. 2012; Gottesman et al., ICML 2020; craam2", small={"states": 60, "draws": 50}
)  # fmt: skip
