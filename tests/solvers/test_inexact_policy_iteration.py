"""Inexact policy iteration: its parts, and where rounding stops it."""

import time

import numpy as np
import pytest
import scipy.sparse
from banach.mdp import instances, strategies
from banach.mdp.packed import pack
from banach.solvers import InexactPolicyIteration, NotConverged, SolveError, solve
from banach.solvers.krylov import VECTORS, correct
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse.linalg import spsolve


def some_policy(problem, seed):
    count = np.diff(problem.state_ptr)
    return np.where(count > 0, np.random.default_rng(seed).integers(0, np.maximum(count, 1)), -1).astype(np.int32)


def matrix_of(packed):
    size = len(packed.constant)
    return scipy.sparse.csr_array((packed.weight, packed.column, packed.pointers), shape=(size, size))


@given(strategies.discounted_mdps(), st.integers(0, 9), st.booleans())
@settings(deadline=None, max_examples=60)
def test_a_packed_policy_has_the_policys_value_as_its_fixed_point(problem, seed, loops):
    maximal = problem.negated() if problem.criterion.minimize else problem
    policy = some_policy(maximal, seed)
    matrix, constant = maximal.operator.policy_system(policy)
    value = np.linalg.solve(np.eye(maximal.n_states) - matrix.toarray(), constant)
    packed = pack(maximal, maximal.discount, policy, loops)
    np.testing.assert_allclose(
        packed.constant + matrix_of(packed) @ value, value, rtol=1e-9, atol=1e-9 * (1 + np.abs(value).max())
    )


@given(strategies.discounted_mdps(), st.integers(0, 9), st.integers(10, 19))
@settings(deadline=None, max_examples=60)
def test_repacking_what_changed_is_packing_anew(problem, before, after):
    maximal = problem.negated() if problem.criterion.minimize else problem
    old, new = some_policy(maximal, before), some_policy(maximal, after)
    packed = pack(maximal, maximal.discount, old, True)
    if packed.repack(maximal, maximal.discount, new, np.flatnonzero(old != new)):
        old = new
    fresh = pack(maximal, maximal.discount, old, True)
    np.testing.assert_array_equal(packed.column, fresh.column)
    np.testing.assert_array_equal(packed.weight, fresh.weight)
    np.testing.assert_array_equal(packed.constant, fresh.constant)


def test_the_krylov_correction_is_the_solution_of_the_policys_system():
    problem = instances.make("queue:capacity=20,discount=0.999").negated()
    policy = some_policy(problem, 3)
    matrix, constant = problem.operator.policy_system(policy)
    exact = spsolve(scipy.sparse.csc_array(scipy.sparse.eye_array(problem.n_states) - matrix), constant)
    value, work = np.zeros(problem.n_states), np.empty((VECTORS, problem.n_states))
    left, sweeps = correct(pack(problem, problem.discount, policy, True), value, 1e-12, 2_000, work)
    assert left <= 1e-12
    assert sweeps < 2_000
    np.testing.assert_allclose(value, exact, rtol=1e-8)


@pytest.mark.parametrize(
    "spelling",
    [
        "inventory:states=400,demand=200,discount=0.999",
        "queue:capacity=20,discount=0.999",
        "riverswim:states=500,discount=0.999",
    ],
)
def test_an_eps_beyond_rounding_is_told_soon(spelling):
    problem, began = instances.make(spelling), time.monotonic()
    with pytest.raises(NotConverged, match="wide"):
        solve(problem, InexactPolicyIteration(), eps=1e-13)
    assert time.monotonic() - began < 60


class NotAffine:
    """An operator without packed policies."""

    mass, terminal, n_states, modulus = (0.5, 0.5), np.zeros(1, dtype=bool), 1, 0.5


def test_an_operator_without_affine_policies_is_refused():
    with pytest.raises(SolveError, match="affine"):
        InexactPolicyIteration().run(NotAffine(), np.zeros(1), 1e-6, lambda *_: None)
