r"""From bias vectors to a proved bracket of the gain, whatever the chain structure.

Above. Let the blocks be sets of states and let a pair stay when all its successors are in its state's block. Choose

    gain g: constant on blocks,   P_a g <= g for every leaving pair;   bias h:   r_a + P_a h - h <= g.

On a staying pair P_a g = g holds exactly, and the bias inequality says that the block's g is at least the largest increment of
h in it. The leaving pairs are made to obey by the vector w of `banach.solvers.stopping`, P_a w <= w - 1 on leaving pairs and
constant on blocks: h = v + C w buys slack C for the bias, g = G + d w buys slack d for the gains, and neither touches a
staying pair. So g is the optimal stopping value of the blocks' own bounds, plus d w for rounding alone. One block of all
states gives Odoni's bound, g = max(T v - v) (Odoni 1969).

Below. The same from the other side, for the returned policy's rows only and blocks that it never leaves.

Both hold in exact arithmetic for the float vectors returned: the last step is a pass with enclosed increments.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..mdp.increments import increments_above
from ..mdp.model import MDP
from ..mdp.sweeps import UNIT_ROUNDOFF
from .errors import NotConverged
from .stopping import Quotient, leaving


@dataclass(frozen=True)
class Estimate:
    """What an average-reward method hands to the proof. n states.

    policy: int32 (n,). bias: (n,), one whose increments are nearly equal to the gain in every block.
    blocks: int (n,), label of each state's block, negative outside all; every end component lies in one block.
    kept: int (n,), the same for sets that the policy never leaves and in which its gain is constant.
    """

    policy: np.ndarray
    bias: np.ndarray
    blocks: np.ndarray
    kept: np.ndarray


def gain_bracket(model: MDP, estimate: Estimate, guard: float) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """(lower, upper, witness): gains (n,) proved by the bias vectors of the witness.

    guard: multiple of the unit roundoff given away on each side, so that the checker seldom needs integers; at least 4.
    Raises NotConverged when floating point cannot tell.
    """
    chosen = (model.state_ptr[:-1] + estimate.policy).astype(np.int64)
    upper, upper_bias = _gain_above(model, np.arange(model.n_pairs), 1.0, estimate.blocks, estimate.bias, guard)
    lower, lower_bias = _gain_above(model, chosen, -1.0, estimate.kept, -estimate.bias, guard)
    return -lower, upper, {"lower_bias": -lower_bias, "upper_bias": upper_bias}


def _gain_above(
    model: MDP, pairs: np.ndarray, scale: float, block: np.ndarray, bias: np.ndarray, guard: float
) -> tuple[np.ndarray, np.ndarray]:
    """(gain, bias) with P gain <= gain and scale r + P bias <= gain + bias on all `pairs`, in exact arithmetic."""
    labels, block = np.unique(block, return_inverse=True)
    block = block - np.count_nonzero(labels < 0)
    n_blocks = int(block.max()) + 1
    out = leaving(model, pairs, block)
    unit = guard * UNIT_ROUNDOFF
    if not out.any():
        bias = _centred(bias, block, n_blocks)
        bound = _block_maximum(increments_above(model, pairs, bias, scale), block[model.pair_state[pairs]], n_blocks)
        return (bound + unit * _size(model, bound, bias))[block], bias
    node = block.astype(np.int64)
    alone = np.flatnonzero(block < 0)
    node[alone] = n_blocks + np.arange(len(alone))
    quotient = Quotient.of(model, pairs[out], node, n_blocks + len(alone))
    away, inside = quotient.pairs, pairs[~out]
    steps = quotient.longest()
    slack = -float(increments_above(model, away, steps[node], 0.0).max())
    if not slack >= 0.5:
        raise NotConverged(f"a transient time of {steps.max():.3g} steps is beyond floating point; the gain cannot be bounded")
    bias = _centred(bias, block, n_blocks)
    excess = float(increments_above(model, away, bias, scale).max()) - float((scale * model.reward[pairs]).min())
    bias = bias + (2 * max(excess, 0.0) + 1e-3 * float(np.abs(model.reward).max())) / slack * steps[node]
    bound = np.full(quotient.n_nodes, -np.inf)
    bound[:n_blocks] = _block_maximum(increments_above(model, inside, bias, scale), block[model.pair_state[inside]], n_blocks)
    bound[:n_blocks] += unit * _size(model, bound[:n_blocks], bias)
    gain, _ = quotient.best(np.zeros(len(away)), bound)
    short = max(0.0, float(increments_above(model, away, gain[node], 0.0).max()), float(np.max(bound - gain)))
    step = (2 * short + unit * float(np.abs(gain).max())) / slack
    for _ in range(6):
        raised = gain + step * steps
        rises = float(increments_above(model, away, raised[node], 0.0).max())
        paid = increments_above(model, away, bias, scale) - raised[node[model.pair_state[away]]]
        if rises <= 0 and np.all(raised >= bound) and paid.max() < 0:
            return raised[node], bias
        step *= 8
    raise NotConverged("rounding is larger than what transient states can be given away; the gain cannot be bounded")


def _centred(bias: np.ndarray, block: np.ndarray, n_blocks: int) -> np.ndarray:
    """The bias with the middle of its range in each block moved to zero, and zero outside the blocks."""
    inside = block >= 0
    least, most = np.full(n_blocks, np.inf), np.full(n_blocks, -np.inf)
    np.minimum.at(least, block[inside], bias[inside])
    np.maximum.at(most, block[inside], bias[inside])
    centre = least / 2 + most / 2
    centred = np.zeros_like(bias)
    centred[inside] = bias[inside] - centre[block[inside]]
    return centred


def _block_maximum(values: np.ndarray, block: np.ndarray, n_blocks: int) -> np.ndarray:
    bound = np.full(n_blocks, -np.inf)
    np.maximum.at(bound, block, values)
    return bound


def _size(model: MDP, gain: np.ndarray, bias: np.ndarray) -> float:
    return float(np.abs(gain).max(initial=0.0) + np.abs(bias).max() + np.abs(model.reward).max())
