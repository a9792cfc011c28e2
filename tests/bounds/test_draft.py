"""Drafts are the models they came from; their neighbours and their simplifications are models."""

import numpy as np
import pytest
from banach.bounds.draft import Draft, number
from banach.bounds.extremal import loop
from banach.bounds.rational import RationalEvidence
from banach.mdp import strategies
from hypothesis import given, settings
from hypothesis import strategies as st

MODELS = st.one_of(
    strategies.discounted_mdps(max_states=4, tiny=0.25),
    strategies.reachability_mdps(max_states=4, tiny=0.25, minimize=st.just(False)),
)
ONCE_COMPILED = settings(deadline=None, max_examples=30)


@ONCE_COMPILED
@given(MODELS)
def test_a_draft_has_the_value_of_its_model(model):
    again = Draft.of(model).model()
    ours, theirs = RationalEvidence.of(again).optimal(), RationalEvidence.of(model).optimal()
    assert ours.astype(float) == pytest.approx(theirs.astype(float), rel=1e-12, abs=1e-12)


@ONCE_COMPILED
@given(MODELS, st.integers(0, 1000))
def test_changes_make_models_of_the_same_kind(model, seed):
    rng, draft = np.random.default_rng(seed), Draft.of(model)
    for _ in range(10):
        draft = draft.changed(rng)
        changed = draft.model()
        assert type(changed.criterion) is type(model.criterion)
        assert changed.n_states == model.n_states
        assert np.diff(changed.state_ptr).max(initial=0) <= max(3, np.diff(model.state_ptr).max(initial=0))


@ONCE_COMPILED
@given(strategies.reachability_mdps(max_states=4, tiny=0.25), st.integers(0, 1000))
def test_changes_keep_reachability_problems_without_rewards(model, seed):
    draft = Draft.of(model).changed(np.random.default_rng(seed))
    assert not draft.model().reward.any()


@ONCE_COMPILED
@given(MODELS)
def test_simplifications_are_models(model):
    for draft in Draft.of(model).simpler():
        assert draft.model().n_states in (model.n_states, model.n_states - 1)


def test_a_removed_state_leaves_its_place_and_its_visitors_to_others():
    states = ([(1.0, {0: 0.5, 1: 0.5})], [(2.0, {2: 1.0})], [(3.0, {0: 1.0})])
    criterion = loop().criterion
    without = [draft.states for draft in Draft(states, criterion).simpler() if len(draft.states) == 2]
    assert ([(1.0, {0: 0.5, 1: 0.5})], [(3.0, {0: 1.0})]) in without  # state 1 gone, state 2 its heir
    assert ([(1.0, {0: 1.0})], [(3.0, {0: 1.0})]) in without  # state 1 gone, state 0 its heir


@pytest.mark.parametrize(("value", "text"), [(0.5, "1/2"), (1 / 3, "1/3"), (0.9, "9/10"), (0.123456, "0.123456"), (-2.0, "-2")])
def test_numbers_print_as_fractions_where_they_are_the_nearest_float(value, text):
    assert number(value) == text
