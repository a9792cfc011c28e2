"""Where all rows list the same successors: value and decision are those of the general kernel, with ties and zeros too."""

import numpy as np
import pytest
from banach.mdp import MDP, Discounted, RobustMDP
from banach.mdp.ambiguity import KL, L1, SRectangular, TotalVariation
from hypothesis import given, settings
from hypothesis import strategies as st


def dense(rng, n, actions, zeros):
    """A model of n states whose rows list every state, with zeros stored."""
    rows = rng.dirichlet(np.full(n, 0.7), size=(n, actions))
    rows *= rng.uniform(size=rows.shape) >= zeros
    rows[..., int(rng.integers(n))] += 1e-3
    rows /= rows.sum(axis=2, keepdims=True)
    return MDP(
        np.arange(n + 1) * actions, np.arange(n * actions + 1) * n, np.tile(np.arange(n, dtype=np.int32), n * actions),
        rows.ravel(), rng.normal(size=n * actions), Discounted(0.9),
    ), rows  # fmt: skip


@settings(deadline=None, max_examples=150)
@given(
    seed=st.integers(0, 2**32 - 1), n=st.integers(1, 7), actions=st.integers(1, 4), zeros=st.sampled_from([0.0, 0.5, 1.0]),
    radius=st.sampled_from([0.0, 1e-12, 0.05, 0.4, 1.0, 2.5, 20.0]), digits=st.sampled_from([0, 15]),
    size=st.sampled_from([0.0, 1.0, 1e6]),
)  # fmt: skip
def test_value_and_decision_are_those_of_the_general_kernel(seed, n, actions, zeros, radius, digits, size):
    rng = np.random.default_rng(seed)
    model, rows = dense(rng, n, actions, zeros)
    value = size * np.round(rng.normal(size=n), digits)
    inner = SRectangular(L1(radius, support="all"))
    operator = RobustMDP(model, inner).operator
    assert operator._shared
    out, policy = np.empty(n), operator.blank_policy()
    operator.apply(value, out, policy)
    scale = 1e-13 * (1 + np.abs(value).max() + np.abs(model.reward).max())
    worth = np.broadcast_to(0.9 * value, (actions, n))
    for s, decision in enumerate(policy.reshape(n, actions)):
        z = worth + model.reward[s * actions : (s + 1) * actions, None]
        exact = inner.worst(rows[s], z)
        assert exact.lower - scale <= out[s] <= exact.upper + scale
        assert decision.min() >= 0
        assert decision.sum() == pytest.approx(1, abs=1e-12)
        assert inner.evaluate(decision / decision.sum(), rows[s], z)[0] >= exact.lower - 10 * scale


def test_only_where_one_order_serves_all_rows():
    model, _ = dense(np.random.default_rng(0), 4, 2, 0.0)
    ball = SRectangular(TotalVariation(0.1))
    assert RobustMDP(model, ball).operator._shared
    assert not RobustMDP(model, SRectangular(KL(0.1))).operator._shared
    assert not RobustMDP(model, ball, transition_reward=np.ones(model.n_transitions)).operator._shared
    turned = model.successor.copy()
    turned[-4:] = turned[-4:][::-1]
    assert not RobustMDP(model.replace(successor=turned), ball).operator._shared


def test_states_without_actions_keep_their_value():
    model, _ = dense(np.random.default_rng(1), 3, 1, 0.0)
    ends = MDP(
        np.array([0, 1, 2, 2]), model.row_ptr[:3], model.successor[:6], model.probability[:6], model.reward[:2],
        Discounted(0.9), terminal=np.array([False, False, True]), terminal_value=np.array([0.0, 0.0, 5.0]),
    )  # fmt: skip
    operator = RobustMDP(ends, SRectangular(L1(0.2))).operator
    assert operator._shared
    out = np.empty(3)
    operator.apply(np.array([1.0, 2.0, 5.0]), out, operator.blank_policy())
    assert out[2] == 5.0
