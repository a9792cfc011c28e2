"""What `solve` refuses, what it reports, and how a solve that was interrupted goes on."""

import contextlib
import itertools
import os
import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest
from banach.mdp import MDP, AverageReward, Discounted, FileFormatError, FiniteHorizon, TotalReward, strategies
from banach.mdp.storage import read_arrays, write_arrays
from banach.solvers import (
    BackwardInduction,
    ModifiedPolicyIteration,
    NotConverged,
    SolveError,
    ValueIteration,
    check,
    solve,
)
from banach.solvers.watch import Watch
from hypothesis import given, settings
from hypothesis import strategies as st


def garnet(discount: float = 0.99, n_states: int = 12, seed: int = 0, **more) -> MDP:
    rng = np.random.default_rng(seed)
    transition = rng.dirichlet(np.ones(n_states), size=(n_states, 3))
    return MDP.from_dense(transition, rng.normal(size=(n_states, 3)), None if more else discount, **more)


def slow(discount: float = 0.999, minimize: bool = False) -> MDP:
    """A ring of certain steps, on which value iteration needs thousands of sweeps."""
    n_states = 20
    return MDP(
        state_ptr=np.arange(n_states + 1),
        row_ptr=np.arange(n_states + 1),
        successor=(np.arange(n_states) + 1) % n_states,
        probability=np.ones(n_states),
        reward=np.eye(n_states)[0],
        criterion=Discounted(discount, minimize),
    )


@pytest.mark.parametrize(
    "eps", [0, 0.0, -1e-6, np.nan, np.inf, -np.inf, True, False, None, "1e-6", 1e-6j, [1e-6], np.float32(0)], ids=repr
)
def test_an_impossible_eps_is_refused_before_anything_is_written(tmp_path, eps):
    with pytest.raises(SolveError, match="it must be a positive number"):
        solve(garnet(), eps=eps, checkpoint=tmp_path / "c")
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("eps", [1, 0.5, np.float32(1e-3), np.float64(1e-3), np.int64(1)], ids=repr)
def test_every_positive_real_number_is_an_eps(eps):
    assert solve(garnet(), eps=eps).certificate.width <= eps


@pytest.mark.parametrize(
    "method",
    ["value iteration", 3, object(), BackwardInduction(), lambda: None],
    ids=["a string", "a number", "an object", "another criterion's method", "a function"],
)
def test_what_is_no_method_for_the_criterion_is_refused_by_name(tmp_path, method):
    with pytest.raises(SolveError, match="does not solve discounted problems; use "):
        solve(garnet(), method, checkpoint=tmp_path / "c")
    assert not [*tmp_path.iterdir()]


def test_a_class_in_place_of_a_method_is_refused_with_the_remedy():
    with pytest.raises(SolveError, match=r"the class ValueIteration; give one of its instances, such as ValueIteration\(\)"):
        solve(garnet(), ValueIteration)


@pytest.mark.parametrize("criterion", [FiniteHorizon(3), TotalReward(), AverageReward()], ids=lambda c: type(c).__name__)
def test_other_criteria_refuse_methods_that_are_not_theirs(criterion):
    more = {"criterion": criterion} | ({"terminal": [0]} if criterion == TotalReward() else {})
    with pytest.raises(SolveError, match="does not solve"):
        solve(garnet(**more), "magic")


@pytest.mark.parametrize("problem", [None, 3, np.eye(3), MDP], ids=str)
def test_what_is_no_problem_is_refused(problem):
    with pytest.raises(SolveError, match="is no decision problem"):
        solve(problem)


@pytest.mark.parametrize("start", [np.zeros(3), np.full(12, np.nan), np.full(12, np.inf), np.zeros((12, 1)), 0.0], ids=str)
def test_a_start_that_does_not_fit_is_refused(start):
    with pytest.raises(SolveError, match="start must be 12 finite numbers"):
        solve(garnet(), start=start)


def test_a_start_at_the_answer_saves_sweeps():
    problem = slow()
    first = solve(problem, ValueIteration(), eps=1e-6)
    again = solve(problem, ValueIteration(), eps=1e-6, start=first.value)
    assert again.trace.sweeps < 0.1 * first.trace.sweeps


def test_reports_count_sweeps_up_and_end_at_the_asked_width():
    seen = []
    solution = solve(garnet(), ValueIteration(), eps=1e-6, report=lambda sweeps, width: seen.append((sweeps, width)))
    assert seen == solution.trace.history
    assert all(later[0] > earlier[0] for earlier, later in itertools.pairwise(seen))
    assert seen[-1][1] <= 1e-6 < seen[0][1]


def test_the_trace_says_which_method_ran_and_why():
    problem = garnet()
    assert solve(problem, ValueIteration()).trace.reason == "asked for"
    chosen = solve(problem).trace
    assert chosen.method is not None
    assert chosen.reason != "asked for"
    assert chosen.seconds > 0


def test_the_solution_prints_its_range_and_method():
    assert "by ValueIteration" in str(solve(garnet(), ValueIteration()))


class Interrupt:
    """A report that presses Ctrl-C at its k-th call."""

    def __init__(self, k: int):
        self.left = k

    def __call__(self, sweeps: float, width: float) -> None:
        self.left -= 1
        if self.left <= 0:
            raise KeyboardInterrupt


@pytest.mark.parametrize("minimize", [False, True])
def test_an_interrupted_solve_goes_on_from_its_checkpoint_to_a_proof(tmp_path, minimize):
    problem, path = slow(minimize=minimize), tmp_path / "work.npz"
    whole = solve(problem, ValueIteration(), eps=1e-6)
    with pytest.raises(KeyboardInterrupt):
        solve(problem, ValueIteration(), eps=1e-6, checkpoint=path, report=Interrupt(10_000))
    resumed = solve(problem, ValueIteration(), eps=1e-6, checkpoint=path)
    assert resumed.trace.history[0][0] > 10_000
    assert len(resumed.trace.history) <= len(whole.trace.history) - 3_900
    assert check(problem, resumed.certificate)
    assert resumed.certificate.width <= 1e-6


@given(
    problem=strategies.discounted_mdps(max_states=4, minimize=st.booleans())
    | strategies.total_reward_mdps(max_states=4)
    | strategies.average_reward_mdps(max_states=4, structure="multichain")
    | strategies.finite_horizon_mdps(max_states=4),
    k=st.integers(1, 6),
)
@settings(deadline=None, max_examples=60, derandomize=True)
def test_whenever_it_is_interrupted_the_next_solve_ends_with_a_proof(tmp_path_factory, problem, k):
    path = tmp_path_factory.mktemp("checkpoint") / "work.npz"
    with contextlib.suppress(KeyboardInterrupt):
        solve(problem, eps=1e-4, checkpoint=path, report=Interrupt(k))
    assert check(problem, solve(problem, eps=1e-4, checkpoint=path).certificate)


def test_a_method_whose_budget_ends_leaves_its_vector_for_another(tmp_path):
    problem, path = slow(), tmp_path / "work.npz"
    with pytest.raises(NotConverged):
        solve(problem, ValueIteration(max_sweeps=3000), eps=1e-6, checkpoint=path)
    assert solve(problem, ModifiedPolicyIteration(), eps=1e-6, checkpoint=path).trace.sweeps > 3000


def test_without_a_checkpoint_an_interrupt_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        solve(slow(), ValueIteration(), report=Interrupt(3))
    assert not [*tmp_path.iterdir()]


def test_a_checkpoint_that_cannot_be_written_does_not_hide_the_interrupt(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("banach.solvers.watch.write_arrays", full)
    with pytest.raises(KeyboardInterrupt):
        solve(slow(), ValueIteration(), checkpoint=tmp_path / "work.npz", report=Interrupt(3))


def test_an_interrupt_while_the_checkpoint_is_written_keeps_the_old_one(tmp_path, monkeypatch):
    problem, path = slow(), tmp_path / "work.npz"
    watch = Watch(None, path, problem.fingerprint)
    watch.resume(np.zeros(20))
    watch(np.ones(20), 1.0)
    watch.save()
    before, genuine = path.read_bytes(), np.lib.format.write_array

    def interrupted(handle, array, **how):
        genuine(handle, array, **how)
        raise KeyboardInterrupt

    monkeypatch.setattr("banach.mdp.storage.npy.write_array", interrupted)
    watch(np.zeros(20), 0.5)
    with pytest.raises(KeyboardInterrupt):
        watch.save()
    assert path.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == ["work.npz"]


def test_vectors_of_a_part_of_the_problem_are_not_kept_for_the_whole(tmp_path):
    watch = Watch(None, tmp_path / "work.npz", "model")
    assert np.array_equal(watch.resume(np.zeros(3)), np.zeros(3))
    watch(np.arange(3.0), 1.0)
    watch(np.ones(2), 0.5)
    watch.save()
    assert np.array_equal(Watch(None, tmp_path / "work.npz", "model").resume(np.zeros(3)), np.arange(3.0))


CHILD = """
    import functools, sys
    from pathlib import Path
    import banach.solvers
    from banach.mdp import MDP
    from banach.solvers import ValueIteration, solve
    from banach.solvers.watch import Watch
    sys.modules["banach.solvers.solve"].Watch = functools.partial(Watch, seconds=0.0)
    solve(MDP.load(sys.argv[1]), ValueIteration(), eps=1e-9, checkpoint=sys.argv[2])
"""


def test_a_killed_process_leaves_a_whole_checkpoint_from_which_a_solve_goes_on(tmp_path):
    problem, model, path = slow(0.99999), tmp_path / "model.npz", tmp_path / "work.npz"
    problem.save(model)
    for pause in (0.0, 0.05, 0.2):
        child = subprocess.Popen([sys.executable, "-c", textwrap.dedent(CHILD), str(model), str(path)])
        deadline = time.monotonic() + 60
        before = path.stat().st_mtime_ns if path.exists() else 0
        while time.monotonic() < deadline and (not path.exists() or path.stat().st_mtime_ns == before):
            assert child.poll() is None
            time.sleep(0.005)
        time.sleep(pause)
        os.kill(child.pid, signal.SIGKILL)
        assert child.wait() == -signal.SIGKILL
        header, arrays = read_arrays(path, "checkpoint")
        assert header["model"] == problem.fingerprint
        assert np.isfinite(arrays["value"]).all()
    done = header["sweeps"]
    solution = solve(problem, eps=1e-4, checkpoint=path)
    assert solution.trace.sweeps > done > 0
    assert check(problem, solution.certificate)


def test_the_checkpoint_of_another_problem_is_refused_and_left_alone(tmp_path):
    path = tmp_path / "work.npz"
    with pytest.raises(KeyboardInterrupt):
        solve(slow(), ValueIteration(), checkpoint=path, report=Interrupt(3))
    before = path.read_bytes()
    for other in (slow(0.99), garnet(), slow().replace(reward=np.zeros(20)), slow(minimize=True)):
        with pytest.raises(FileFormatError, match="the checkpoint of another problem; remove it or name another file"):
            solve(other, checkpoint=path)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("header", "arrays"),
    [
        ({"sweeps": 1.0}, {}),
        ({"sweeps": 1.0}, {"value": np.zeros(3)}),
        ({"sweeps": 1.0}, {"value": np.zeros((20, 1))}),
        ({"sweeps": 1.0}, {"value": np.full(20, np.nan)}),
        ({"sweeps": 1.0}, {"value": np.zeros(20, dtype=np.int64)}),
        ({"sweeps": "many"}, {"value": np.zeros(20)}),
        ({"sweeps": -1}, {"value": np.zeros(20)}),
        ({"sweeps": float("nan")}, {"value": np.zeros(20)}),
        ({}, {"value": np.zeros(20)}),
    ],
    ids=str,
)
def test_damaged_checkpoints_are_refused(tmp_path, header, arrays):
    problem, path = slow(), tmp_path / "work.npz"
    write_arrays(path, "checkpoint", header | {"model": problem.fingerprint}, arrays)
    with pytest.raises(FileFormatError, match="a damaged checkpoint; remove it or name another file"):
        solve(problem, checkpoint=path)


def test_truncated_checkpoints_and_other_files_are_refused(tmp_path):
    problem, path = slow(), tmp_path / "work.npz"
    with pytest.raises(KeyboardInterrupt):
        solve(problem, ValueIteration(), checkpoint=path, report=Interrupt(3))
    whole = path.read_bytes()
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        with pytest.raises(FileFormatError, match=r"work\.npz"):
            solve(problem, checkpoint=path)
    problem.save(path)
    with pytest.raises(FileFormatError, match="not a checkpoint"):
        solve(problem, checkpoint=path)


def test_a_checkpoint_in_a_folder_that_does_not_exist_is_refused_at_once(tmp_path):
    with pytest.raises(SolveError, match="its folder does not exist"):
        solve(slow(), checkpoint=tmp_path / "nowhere" / "work.npz")
