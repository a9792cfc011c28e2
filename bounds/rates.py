r"""How many steps iterative methods need.

POLICY_ITERATION   |v* - v_{p_k}| <= g^k |v* - v_{p_0}|, since v_{p_{k+1}} >= T v_{p_k} (Howard 1960; Puterman 2005,
                   section 6.4).

MODIFIED           v_{k+1} = T_p^m v_k, p greedy for v_k, from v_0 <= T v_0: v_k rises, v_{k+1} >= T v_k, and
                   |v* - v_k| <= g^k |v* - v_0| whatever m (Puterman and Shin 1978).

MODIFIED_LOSS      from any v_0 the k-th policy loses |v* - v_{p_k}| <= 2 g^k/(1-g) min(|v* - v_0|, |T v_0 - v_0|)
                   (Scherrer, Ghavamzadeh, Gabillon, Lesner and Geist, JMLR 16, 2015, arXiv:1205.3054, without errors).
                   Proof. b_k = v_k - T_{p_{k+1}} v_k <= (g P_{p_k})^m b_{k-1}, so with B = max(0, max b_0), b_k <= g^{mk} B.
                   d_k = v* - v_k <= g P_* d_{k-1} + sum_{0<j<m} (g P_{p_k})^j b_{k-1}; summing,
                   d_k <= g^k D + g^k (1 - g^{(m-1)k})/(1-g) B with D = max(0, max d_0); and v_k - v_{p_k} <= g^{mk} B/(1-g).
                   Together v* - v_{p_k} <= g^k (D + B/(1-g)), while D <= |T v_0 - v_0|/(1-g), B <= |T v_0 - v_0| and
                   B <= (1+g) |v* - v_0|.

WITH_ERRORS        v_{j+1} = T v_j + e_j with |e_j| <= e stays within g^k |v* - v_0| + e (1-g^k)/(1-g) of v*
                   (Bertsekas and Tsitsiklis, Neuro-Dynamic Programming, 1996, section 6.5).

HOWARD             n states with a choice of m actions in all: after at most (m - n) ceil(1/(1-g) log 1/(1-g)) improvements in
                   every state at once the policy is optimal, 0 < g < 1 (Scherrer, NeurIPS 2013, arXiv:1306.0386, after Ye 2011
                   and Hansen, Miltersen and Zwick 2013).
                   Proof. a_k = v* - T_{p_k} v* >= 0 and v* - v_{p_k} = (I - g P)^{-1} a_k >= a_k. Let a_0 > 0 be largest in
                   s. If p_k(s) = p_0(s), then |a_0| = a_k(s) <= |v* - v_{p_k}| <= g^k |v* - v_{p_0}| <= g^k |a_0|/(1-g),
                   which fails for k >= 1/(1-g) log 1/(1-g) > log(1/(1-g))/log(1/g). So every that many steps one of the
                   m - n actions that a state can do without is gone for good.

SIMPLEX            switching one action of largest advantage at a time: (m - n) ceil(n/(1-g) log n/(1-g)) (Ye, Math. Oper. Res.
                   36, 2011; constants as in Scherrer 2013). Proof. A switch gains at least the largest advantage A in its
                   state, and sum(v* - v_p) <= n A/(1-g), so that sum(v* - v_{p_k}) <= (1 - (1-g)/n)^k sum(v* - v_{p_0}); then
                   as above, with n |a_0|/(1-g) in place of |a_0|/(1-g).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import chain
from typing import Any

import numpy as np
import sympy

from .bound import Bound, Measurement
from .contraction import SWEEPS
from .number import exact
from .probes import signs, temptations, vectors
from .rational import RationalEvidence
from .specimens import discounted

k, n, m = sympy.symbols("k n m", integer=True, nonnegative=True)
g, start, residual, error = sympy.symbols("gamma e_0 delta epsilon", nonnegative=True)

INNER_SWEEPS = (1, 5, 20)
"""Sweeps of a policy between improvements."""


def _policy_iteration(evidence: Any) -> Iterator[Measurement]:
    optimal = evidence.optimal()
    losses = [evidence.sup(optimal - evidence.policy_value(policy)) for policy in evidence.howard()]
    for step, loss in enumerate(losses[1:], start=1):
        yield Measurement(loss, {g: evidence.discount, start: losses[0], k: step}, {"step": step})


def _modified_step(evidence: Any, value: Any, sweeps: int) -> tuple[Any, np.ndarray]:
    """T_p^sweeps value, and the greedy policy p."""
    policy = evidence.greedy(value)
    for _ in range(sweeps):
        value = evidence.apply_policy(policy, value)
    return value, policy


def _modified(evidence: Any) -> Iterator[Measurement]:
    optimal = evidence.optimal()
    low = -(1 + int(float(exact(evidence.reward_size()) / (1 - evidence.discount))))
    for sweeps in INNER_SWEEPS:
        value = evidence.moved(evidence.zero(), np.full(evidence.problem.n_states, float(low)))
        values = {g: evidence.discount, start: evidence.sup(value - optimal)}
        for step in range(1, 7):
            value, _ = _modified_step(evidence, value, sweeps)
            yield Measurement(evidence.sup(value - optimal), values | {k: step}, {"step": step, "sweeps": sweeps})


def _modified_loss(evidence: Any) -> Iterator[Measurement]:
    optimal = evidence.optimal()
    for name, first in chain(temptations(evidence), list(vectors(evidence))[:4]):
        values = {
            g: evidence.discount,
            start: evidence.sup(first - optimal),
            residual: evidence.sup(evidence.apply(first) - first),
        }
        value = first
        for step in range(1, 4):
            value, policy = _modified_step(evidence, value, 3)
            loss = evidence.sup(optimal - evidence.policy_value(policy))
            yield Measurement(loss, values | {k: step}, {"step": step, "v": name})


def _with_errors(evidence: Any) -> Iterator[Measurement]:
    optimal = evidence.optimal()
    for name, direction in list(signs(evidence.problem))[:4]:
        value = evidence.zero()
        values, errors = {g: evidence.discount, start: evidence.sup(value - optimal)}, []
        for sweeps in range(1, SWEEPS[-1] + 1):
            applied = evidence.apply(value)
            value = evidence.moved(evidence.middle(applied), direction, -exact(0.0625))
            errors.append(evidence.sup(value - applied))
            if sweeps in SWEEPS:
                found = values | {error: _largest(errors), k: sweeps}
                yield Measurement(evidence.sup(value - optimal), found, {"sweeps": sweeps, "errors": name})


def _largest(numbers: list[Any]) -> Any:
    best = numbers[0]
    for number in numbers[1:]:
        best = best.max(number) if hasattr(best, "max") else max(best, number)
    return best


def _sizes(evidence: Any) -> dict[sympy.Symbol, Any]:
    acting = int(np.count_nonzero(~evidence.problem.terminal))
    return {g: evidence.discount, n: acting, m: evidence.problem.n_pairs}


def _howard(evidence: Any) -> Iterator[Measurement]:
    rounds = len(evidence.howard()) - 1
    if evidence.discount > 0:
        yield Measurement(rounds if isinstance(evidence, RationalEvidence) else float(rounds), _sizes(evidence))


def _simplex(evidence: Any) -> Iterator[Measurement]:
    sizes = _sizes(evidence)
    if evidence.discount > 0 and sizes[n] > 0:  # where no state acts the bound is zero times the logarithm of zero
        yield Measurement(evidence.simplex(), sizes)


POLICY_ITERATION = Bound(
    name="policy iteration contracts geometrically",
    quantity=r"\|v^* - v_{\pi_k}\|_\infty",
    statement=start * g**k,
    symbols={k: "improvements", g: "discount", start: "loss of the first policy"},
    measure=_policy_iteration,
    source="Howard 1960; Puterman 2005, section 6.4",
    family="rates",
    axis="step",
    problems=discounted,
)

MODIFIED = Bound(
    name="modified policy iteration contracts geometrically",
    quantity=r"\|v^* - v_k\|_\infty",
    statement=start * g**k,
    symbols={k: "improvements", g: "discount", start: "sup-norm error of the start"},
    measure=_modified,
    assumes="a finite discounted problem whose rows sum to one; v_0 <= T v_0",
    source="Puterman and Shin 1978; Puterman 2005, section 6.5",
    family="rates",
    axis="step",
    problems=partial(discounted, "loop"),
)

MODIFIED_LOSS = Bound(
    name="loss of modified policy iteration",
    quantity=r"\|v^* - v_{\pi_k}\|_\infty",
    statement=2 * g**k / (1 - g) * sympy.Min(start, residual),
    symbols={
        k: "improvements",
        g: "discount",
        start: "sup-norm error of the start",
        residual: "sup norm of T v_0 - v_0",
    },
    measure=_modified_loss,
    source="Scherrer et al., JMLR 16, 2015, arXiv:1205.3054",
    family="rates",
    axis="step",
    problems=partial(discounted, "temptation"),
)

WITH_ERRORS = Bound(
    name="value iteration with errors",
    quantity=r"\|v_k - v^*\|_\infty",
    statement=start * g**k + error * (1 - g**k) / (1 - g),
    symbols={
        k: "sweeps",
        g: "discount",
        start: "sup-norm error of the start",
        error: "largest sup-norm error of a sweep",
    },
    measure=_with_errors,
    source="Bertsekas and Tsitsiklis 1996, section 6.5",
    family="rates",
    axis="sweeps",
    problems=partial(discounted, "loop"),
)

HOWARD = Bound(
    name="Howard's iteration bound",
    quantity=r"\#\{\text{improvements}\}",
    statement=(m - n) * sympy.ceiling(sympy.log(1 / (1 - g)) / (1 - g)),
    symbols={m: "state-action pairs", n: "states that act", g: "discount"},
    measure=_howard,
    assumes="a finite discounted problem whose rows sum to one, discount in (0, 1)",
    source="Scherrer, NeurIPS 2013, arXiv:1306.0386; Hansen, Miltersen and Zwick 2013; Ye 2011",
    family="rates",
    problems=partial(discounted, "temptation"),
)

SIMPLEX = Bound(
    name="simplex policy iteration bound",
    quantity=r"\#\{\text{switches}\}",
    statement=(m - n) * sympy.ceiling(n * sympy.log(n / (1 - g)) / (1 - g)),
    symbols={m: "state-action pairs", n: "states that act", g: "discount"},
    measure=_simplex,
    assumes="a finite discounted problem whose rows sum to one, discount in (0, 1)",
    source="Ye, Math. Oper. Res. 36, 2011; Scherrer, NeurIPS 2013, arXiv:1306.0386",
    family="rates",
    problems=partial(discounted, "temptation"),
)

CATALOGUE = (POLICY_ITERATION, MODIFIED, MODIFIED_LOSS, WITH_ERRORS, HOWARD, SIMPLEX)
