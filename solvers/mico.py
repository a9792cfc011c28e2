r"""MICo: a distance between states under a policy that needs no transport.

    U(s, t) = |r_p(s) - r_p(t)| + g sum_{s', t'} P_p(s' | s) P_p(t' | t) U(s', t')

is the value of a chain on pairs of states that move independently: a linear system with the matrix I - g P (x) P. Since
independence is a coupling, d_p <= U for the on-policy metric d_p, so that |v_p(s) - v_p(t)| <= U(s, t). U is symmetric and
obeys the triangle inequality, but U(s, s) is positive where chance separates two copies of s: it is no metric, and is not to be
fed to what takes distances from itself for zero. `reduced` subtracts the mean of both self-distances, which may make it
negative.

Castro, Kastner, Panangaden and Rowland, NeurIPS 2021 (arXiv:2106.08229).
"""

from __future__ import annotations

import numpy as np
import scipy.sparse

from ..mdp.model import MDP
from ..mdp.sweeps import UNIT_ROUNDOFF
from .errors import NotConverged
from .metric import Metric, policy_chain, require_metric, rows_of


def mico(model: MDP, policy: np.ndarray, eps: float = 1e-6) -> Metric:
    """A bracket of U under a policy, int (n_states,) or weights of actions (n_pairs,).

    eps: > 0, the bracket is nowhere wider. Diagonals are not zero. Terminal states as in `banach.solvers.metric`.
    Raises SolveError for what is no policy or no discounted problem, NotConverged where rounding allows no such bracket.
    """
    discount = require_metric(model, eps, 1.0, None)
    rows = rows_of(policy_chain(model, policy), 1)
    n = model.n_states
    chain = scipy.sparse.csr_array((rows.weight, rows.successor, rows.row_ptr), shape=(n, n))
    gap = np.abs(rows.reward[:, None] - rows.reward)
    here, sweeps, before = gap / (1 - discount) if discount else gap, 0, np.inf
    longest = int(np.diff(rows.row_ptr).max())
    while True:
        following = gap + discount * (chain @ (chain @ here).T).T
        sweeps += 1
        error = (8 * longest + 16) * UNIT_ROUNDOFF * (float(following.max()) + float(np.abs(rows.reward).max()))
        change = following - here
        over = max(0.0, float(change.max()) + error) / (1 - discount)
        under = min(0.0, float(change.min()) - error) / (1 - discount)
        if over - under <= eps / 2:
            guard = 8 * UNIT_ROUNDOFF * (float(here.max()) + over - under)
            return Metric(np.maximum(0.0, here + under - guard), here + over + guard, sweeps)
        if over - under > 0.999 * before and error / (1 - discount) > eps / 8:
            width = over - under
            raise NotConverged(f"rounding allows no bracket narrower than {width:.3g}; ask for a wider eps", width)
        here, before = following, over - under


def reduced(distance: np.ndarray) -> np.ndarray:
    """U(s, t) - (U(s, s) + U(t, t)) / 2 of a matrix U, (n_states, n_states)."""
    own = np.diag(distance)
    return distance - (own[:, None] + own) / 2
