"""Strategies of the models that a search for counterexamples starts from: few states, few actions, simple numbers.

Simple numbers make the first models readable and their exact arithmetic fast; the local search that follows leaves the grid.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

    from ..mdp.model import MDP
    from ..mdp.preference import PreferenceGame
    from ..mdp.token import TokenProblem


def discounted_models() -> SearchStrategy[MDP]:
    """Discounted problems of at most three states and two actions."""
    from hypothesis import strategies as st

    from ..mdp import strategies

    return strategies.discounted_mdps(
        max_states=3,
        max_actions=2,
        max_successors=2,
        discounts=st.sampled_from([0.5, 0.75, 0.9, 0.25, 0.95]),
        rewards=st.sampled_from([0.0, 1.0, -1.0, 2.0, 0.5, 4.0]),
        max_terminal=1,
        tiny=0.25,
    )


def two_state_models() -> SearchStrategy[MDP]:
    """Discounted problems of at most two states and three actions, discounts near one."""
    from hypothesis import strategies as st

    from ..mdp import strategies

    return strategies.discounted_mdps(
        max_states=2,
        max_actions=3,
        max_successors=2,
        discounts=st.sampled_from([0.9375, 0.875, 0.75]),
        rewards=st.sampled_from([0.0, 1.0, -1.0, 2.0, 0.5, 4.0]),
        max_terminal=0,
        tiny=0.25,
    )


def reachability_models() -> SearchStrategy[MDP]:
    """Greatest probabilities of reaching a goal, on at most three states and two actions."""
    from hypothesis import strategies as st

    from ..mdp import strategies

    return strategies.reachability_mdps(max_states=3, max_actions=2, max_successors=3, tiny=0.25, minimize=st.just(False))


def long_run_models() -> SearchStrategy[MDP]:
    """Average-reward problems of at most three states and two actions in which every policy has one recurrent class."""
    from hypothesis import strategies as st

    from ..mdp import strategies

    values = st.sampled_from([0.0, 1.0, -1.0, 2.0, 0.5])
    return strategies.average_reward_mdps(max_states=3, max_actions=2, max_successors=2, rewards=values, tiny=0.25)


def drawn_games() -> SearchStrategy[PreferenceGame]:
    """Preference games of at most three responses and temperatures of at least 1/10, certain preferences among them."""
    from ..mdp import preference_strategies

    return preference_strategies.games(max_responses=3, smallest_temperature=0.1, certain=True)


def drawn_rewarded_games() -> SearchStrategy[PreferenceGame]:
    """The same with a reward behind the oracle."""
    from ..mdp import preference_strategies

    return preference_strategies.games(max_responses=3, smallest_temperature=0.1, bradley_terry=True)


def drawn_token_problems() -> SearchStrategy[TokenProblem]:
    """Token problems of at most two prompts, three tokens and sequences of two, an environment's turns among them."""
    from ..mdp import token_strategies

    return token_strategies.token_problems(max_tokens=3, max_horizon=2, max_prompts=2)


def drawn_verifiable_problems() -> SearchStrategy[TokenProblem]:
    """The same with rewards 0 and 1, for statements that are measured in floats."""
    from ..mdp import token_strategies

    return token_strategies.token_problems(max_tokens=3, max_horizon=2, max_prompts=2, binary=True)


def drawn_long_problems() -> SearchStrategy[TokenProblem]:
    """Token problems of at most two tokens and sequences of three, all tokens the policy's."""
    from ..mdp import token_strategies

    return token_strategies.token_problems(max_tokens=2, max_horizon=3, max_prompts=2, turns=False, step_rewards=False)


def drawn_spoken_problems() -> SearchStrategy[TokenProblem]:
    """Token problems of at most three tokens and sequences of three, in which an environment may speak."""
    from ..mdp import token_strategies

    return token_strategies.token_problems(max_tokens=3, max_horizon=3, max_prompts=2, turns=True, step_rewards=False)
