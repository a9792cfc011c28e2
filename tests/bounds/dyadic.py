"""Models whose rows sum to one exactly, so that stored floats and probabilities are the same numbers."""

import numpy as np
from banach.mdp import MDP
from banach.mdp.criterion import Discounted
from hypothesis import strategies as st


@st.composite
def dyadic_models(draw: st.DrawFn, max_states: int = 4) -> MDP:
    """Discounted models with dyadic probabilities; all else may be any float."""
    n_states = draw(st.integers(1, max_states))
    n_terminal = draw(st.integers(0, min(1, n_states - 1)))
    state_ptr, row_ptr, successor, probability, reward = [0], [0], [], [], []
    for state in range(n_states):
        count = 0 if state < n_terminal else draw(st.integers(1, 3))
        for _ in range(count):
            weights = draw(st.sampled_from([(1.0,), (0.5, 0.5), (0.25, 0.75), (0.5, 0.375, 0.125)]))
            successor += [draw(st.integers(0, n_states - 1)) for _ in weights]
            probability += weights
            row_ptr.append(len(successor))
            reward.append(draw(st.sampled_from([0.0, 1.0, -2.5, 3.0, 0.1])))
        state_ptr.append(len(row_ptr) - 1)
    terminal = np.arange(n_states) < n_terminal
    return MDP(
        state_ptr=np.array(state_ptr),
        row_ptr=np.array(row_ptr),
        successor=np.array(successor, dtype=np.int32),
        probability=np.array(probability),
        reward=np.array(reward),
        criterion=Discounted(draw(st.sampled_from([0.5, 0.9, 0.0, 0.99]))),
        terminal=terminal,
        terminal_value=np.where(terminal, draw(st.sampled_from([0.0, 2.0, -1.0])), 0.0),
    )
