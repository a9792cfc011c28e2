r"""Queues under control, uniformised: one event a period, the events' probabilities summing to one.

Source of the models: Naor, Econometrica 37, 1969 (admission); Hajek, IEEE Trans. Autom. Control 29, 1984 (routing to two
queues); Puterman 2005, section 11.5 (uniformisation).

Under "admit below level k" the admission queue is a birth-death chain on 0..k with ratio rho = arrival / service, so its
stationary law is proportional to rho^i, and the best long-run reward is a maximum over k of a ratio of two sums.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from ..criterion import Discounted
from ..errors import ModelError
from ..model import MDP
from .instance import Instance
from .parameters import at_least, inside, long_run, rational
from .rows import blank, from_regular, start_at


def queue(
    capacity: int = 99,
    discount: float = 0.999,
    arrival: float = 0.4,
    slow: float = 0.15,
    fast: float = 0.25,
    effort: float = 2.0,
    holding: float = 0.1,
) -> MDP:
    """Two queues in parallel: route each arrival, and choose the servers' speed, at least discounted cost.

    State (i, j) is number i (capacity + 1) + j. Action 2 r + f sends an arrival to queue r, and serves both queues slowly (f
    = 0) or fast (f = 1). A period brings an arrival, lost when its queue is full, a service at either queue, or nothing.
    Queue 0 costs `holding` a customer and a period, queue 1 costs 1.5 holding; serving fast costs `effort`. Actions at empty
    queues change nothing.
    capacity: >= 1. discount: in [0, 1). arrival, slow, fast: > 0, probabilities of the events, slow <= fast,
    arrival + 2 fast <= 1. effort, holding: >= 0.
    Raises ModelError for parameters out of range. Source: Hajek, IEEE Trans. Autom. Control 29, 1984.
    """
    at_least(1, capacity=capacity)
    at_least(0, effort=effort, holding=holding)
    inside(0, 1, arrival=arrival, slow=slow, fast=fast)
    if slow > fast or arrival + 2 * fast > 1 + 1e-12:
        raise ModelError(f"slow={slow}, fast={fast}, arrival={arrival}: slow <= fast and arrival + 2 fast <= 1 must hold")
    side = capacity + 1
    n_states = side * side
    first, second = np.divmod(np.arange(n_states, dtype=np.int32), np.int32(side))
    here = np.arange(n_states, dtype=np.int32)
    arrivals = (np.where(first < capacity, here + side, here), np.where(second < capacity, here + 1, here))
    services = (np.where(first > 0, here - side, here), np.where(second > 0, here - 1, here))
    successor, probability, reward = blank(n_states, 4, 4)
    successors, probabilities = successor.reshape(n_states, 4, 4), probability.reshape(n_states, 4, 4)
    for action in range(4):
        route, rate = action // 2, (slow, fast)[action % 2]
        for entry, event in enumerate((arrivals[route], *services, here)):
            successors[:, action, entry] = event
        probabilities[:, action] = (arrival, rate, rate, max(1 - arrival - 2 * rate, 0.0))
        reward[action::4] = holding * (first + 1.5 * second) + effort * (action % 2)
    del successors, probabilities
    criterion = Discounted(discount, minimize=True)
    return from_regular(n_states, 4, 4, successor, probability, reward, criterion, initial=start_at(n_states, 0))


def admission(
    capacity: int = 20,
    discount: float = 1.0,
    arrival: float = 0.45,
    service: float = 0.5,
    prize: float = 5.0,
    holding: float = 0.5,
) -> MDP:
    """Admit customers to one queue, or turn them away: each one admitted is worth a prize and costs while waiting.

    State i is the number of customers. Action 0 turns an arrival away, action 1, absent when the queue is full, admits it;
    `prize` is counted as expected reward arrival * prize of the period.
    capacity: >= 1. discount: in [0, 1]; at 1, average reward. arrival, service: > 0, their sum at most 1. prize, holding: >= 0.
    Raises ModelError for parameters out of range. Source: Naor, Econometrica 37, 1969.
    """
    at_least(1, capacity=capacity)
    at_least(0, prize=prize, holding=holding)
    inside(0, 1, arrival=arrival, service=service)
    if arrival + service > 1:
        raise ModelError(f"arrival={arrival} and service={service} must sum to 1 at most; they are probabilities of one period")
    n_states = capacity + 1
    here = np.arange(n_states)
    successor, probability, reward = blank(n_states, 2, 3)
    down = np.maximum(here - 1, 0)
    for action in range(2):
        ahead = np.minimum(here + action, capacity)
        for entry, (event, chance) in enumerate(((ahead, arrival), (down, service), (here, 1 - arrival - service))):
            successor[3 * action + entry :: 6], probability[3 * action + entry :: 6] = event, chance
        reward[action::2] = arrival * prize * action - holding * here
    probability[-3:] = 0.0
    return from_regular(n_states, 2, 3, successor, probability, reward, long_run(discount), initial=start_at(n_states, 0))


def _admission_exact(
    capacity: int, discount: float, arrival: float, service: float, prize: float, holding: float
) -> Fraction | None:
    if discount != 1:
        return None
    rate, prize_, cost = rational(arrival), rational(prize), rational(holding)
    rho = rate / rational(service)
    weight, mass, queueing, gains = Fraction(1), Fraction(1), Fraction(0), [Fraction(0)]
    for level in range(1, capacity + 1):
        admitted = mass
        weight *= rho
        mass, queueing = mass + weight, queueing + level * weight
        gains.append((rate * prize_ * admitted - cost * queueing) / mass)
    return max(gains)


QUEUE = Instance("queue", queue, "Hajek, IEEE Trans. Autom. Control 29, 1984", small={"capacity": 7, "discount": 0.95})
ADMISSION = Instance("admission", admission, "Naor, Econometrica 37, 1969", exact=_admission_exact)
