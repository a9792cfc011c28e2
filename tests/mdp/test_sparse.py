"""scipy.sparse in and out."""

import numpy as np
import pytest
import scipy.sparse as sp
from banach.mdp import MDP, ModelError, TotalReward, strategies
from hypothesis import given, settings


def random_arrays(seed: int = 0, n_states: int = 4, n_actions: int = 3):
    rng = np.random.default_rng(seed)
    return rng.dirichlet(np.ones(n_states), size=(n_states, n_actions)), rng.normal(size=(n_states, n_actions, n_states))


def by_action(table: np.ndarray, kind=sp.csr_array) -> list:
    return [kind(table[:, action]) for action in range(table.shape[1])]


@settings(deadline=None, max_examples=40)
@given(strategies.discounted_mdps() | strategies.total_reward_mdps())
def test_a_model_taken_out_and_put_in_again_is_the_same_problem(model):
    matrix, reward, state_ptr = model.to_sparse()
    ends = {int(state): model.terminal_value[state] for state in np.flatnonzero(model.terminal)}
    again = MDP.from_sparse(matrix, reward, criterion=model.criterion, state_ptr=state_ptr, terminal=ends)
    assert (matrix.toarray() == again.to_sparse()[0].toarray()).all()
    for name in ("state_ptr", "reward", "terminal", "terminal_value"):
        assert np.array_equal(getattr(model, name), getattr(again, name))


@pytest.mark.parametrize("kind", [sp.csr_array, sp.csc_array, sp.coo_array, sp.csr_matrix, sp.lil_array])
def test_every_format_of_scipy_gives_the_model_of_the_dense_arrays(kind):
    transition, reward = random_arrays()
    dense = MDP.from_dense(transition, reward, discount=0.9)
    assert MDP.from_sparse(by_action(transition, kind), by_action(reward, kind), 0.9).fingerprint == dense.fingerprint


def test_one_matrix_of_pairs_gives_the_model_of_the_dense_arrays():
    transition, reward = random_arrays()
    pairs = sp.csr_array(transition.reshape(12, 4)), sp.csr_array(reward.reshape(12, 4))
    found = MDP.from_sparse(*pairs, 0.9, state_ptr=np.arange(0, 13, 3))
    assert found.fingerprint == MDP.from_dense(transition, reward, discount=0.9).fingerprint


def test_entries_given_twice_are_summed_and_stored_zeros_dropped():
    entries = (np.array([0.25, 0.25, 0.5, 0.0, 1.0]), (np.array([0, 0, 0, 1, 1]), np.array([1, 1, 0, 0, 1])))
    model = MDP.from_sparse([sp.coo_array(entries, shape=(2, 2))], np.zeros(2), 0.9)
    assert model.successor.tolist() == [0, 1, 1]
    assert model.probability.tolist() == [0.5, 0.5, 1.0]


def test_the_matrices_given_are_left_as_they_are():
    data = np.array([0.5, 0.5, 0.0, 1.0])
    matrix = sp.csr_array((data, np.array([0, 0, 1, 1]), np.array([0, 2, 4])), shape=(2, 2))
    MDP.from_sparse([matrix], np.zeros(2), 0.9)
    assert matrix.nnz == 4
    matrix.data[0] = 7.0


def test_a_large_sparse_model_is_never_made_dense():
    n = 200_000
    chain = sp.csr_array((np.ones(n), np.minimum(np.arange(1, n + 1), n - 1), np.arange(n + 1)), shape=(n, n))
    assert MDP.from_sparse([chain, chain], np.zeros(n), 0.9).n_transitions == 2 * n


def test_minus_infinity_forbids_an_action():
    transition, _ = random_arrays()
    reward = np.zeros((4, 3))
    reward[2, 1] = -np.inf
    model = MDP.from_sparse(by_action(transition), reward, 0.9)
    assert np.diff(model.state_ptr).tolist() == [3, 3, 2, 3]
    assert [model.action_of(2, action) for action in range(2)] == ["0", "2"]


def test_rows_of_terminal_states_are_ignored():
    transition, reward = random_arrays()
    transition[3] = 0.0
    model = MDP.from_sparse(by_action(transition), by_action(reward), criterion=TotalReward(), terminal={3: 2.0})
    assert model.n_pairs == 9
    assert model.terminal_value[3] == 2.0


SQUARE, EYE = sp.csr_array(np.eye(2)), np.eye(2)


@pytest.mark.parametrize(
    ("transition", "reward", "state_ptr", "message"),
    [
        (SQUARE, np.zeros(2), None, "one matrix needs state_ptr"),
        ([SQUARE], np.zeros(2), [0, 1, 2], "state_ptr belongs to one matrix"),
        ([], np.zeros(2), None, "the list of matrices is empty"),
        ([EYE], np.zeros(2), None, r"the matrix of action 0 has shape \(2, 2\); it must be sparse"),
        ([SQUARE, sp.csr_array((3, 3))], np.zeros(2), None, r"the matrix of action 1 has shape \(3, 3\)"),
        ([SQUARE], np.zeros(3), None, r"reward has shape \(3,\)"),
        ([SQUARE], [SQUARE, SQUARE], None, "reward must hold 1 matrices"),
        (SQUARE, sp.csr_array((3, 2)), [0, 1, 2], r"the reward matrix has shape \(3, 2\)"),
        (SQUARE, np.zeros(3), [0, 1, 2], "reward has 3 entries; it needs 2"),
        (SQUARE, np.zeros(2), [0, 1, 3], "state_ptr ends with 3"),
        (SQUARE, np.zeros(2), [0.0, 1.0, 2.0], "state_ptr holds float64"),
        (SQUARE, np.zeros(2), [0, 2], r"state_ptr has shape \(2,\); the matrix has 2 columns"),
        ([sp.csr_array((2, 2))], np.zeros(2), None, "state 0, action 0: no successors are given"),
        ([sp.csr_array(EYE * np.nan)], np.zeros(2), None, "state 0, action 0: the probability to state 0 is nan"),
        ([sp.csr_array(-EYE)], np.zeros(2), None, "must not be negative"),
        ([SQUARE], [-np.inf, 0.0], None, "state 0: every action is forbidden"),
        ([SQUARE], "ab", None, "reward is no array of real numbers"),
        (sp.coo_array(np.ones(3)), np.zeros(2), [0, 1, 2], r"has shape \(3,\)"),
    ],
)
def test_matrices_that_do_not_fit_are_refused(transition, reward, state_ptr, message):
    with pytest.raises(ModelError, match=message):
        MDP.from_sparse(transition, reward, 0.9, state_ptr=state_ptr)
