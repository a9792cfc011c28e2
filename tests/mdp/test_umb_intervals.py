"""Interval models in UMB files: what Storm wrote is read, what we write Storm reads, and nothing is lost on the way."""

import dataclasses
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import umbi.binary
from banach.mdp import MDP, Discounted, FileFormatError, FiniteHorizon, ModelError, RobustMDP, instances, strategies
from banach.mdp.ambiguity import L1, Interval
from banach.mdp.instances.rows import from_lists
from banach.mdp.umb import open_umb, read_interval_umb
from banach.mdp.umb_archive import Archive
from banach.mdp.umb_write import write_interval_umb
from banach.solvers import check, solve
from hypothesis import given, settings
from hypothesis import strategies as st
from umbi.binary import SizedType
from umbi.datatypes import Interval as Ends
from umbi.datatypes import IntervalType, NumericPrimitiveType

DATA = Path(__file__).parent.parent / "data"
LONG = FiniteHorizon(300)
"""The die has ended after 300 flips but for a chance of 1e-50."""


@st.composite
def interval_problems(draw):
    """Any discounted problem, each row between bounds, with rewards of transitions or none."""
    model = draw(strategies.discounted_mdps(max_states=5).filter(lambda model: model.n_pairs))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    reach = rng.choice([0.0, 0.1, 0.5], model.n_transitions)
    lower, upper = np.maximum(model.probability - reach, 0), model.probability + reach
    upper = np.where(rng.random(len(upper)) < 0.1, np.inf, upper)
    problem = RobustMDP.intervals(model, lower, upper, optimistic=draw(st.booleans()))
    gain = rng.integers(-2, 3, model.n_transitions).astype(float)
    return dataclasses.replace(problem, transition_reward=gain) if draw(st.booleans()) else problem


@settings(deadline=None, max_examples=60)
@given(problem=interval_problems())
def test_a_problem_is_read_as_it_was_written(problem, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "x.umb"
    problem.to_umb(path)
    again = RobustMDP.from_umb(path)
    assert again.fingerprint == problem.fingerprint
    assert again.optimistic == problem.optimistic
    if problem.problem.initial is not None:
        np.testing.assert_array_equal(again.problem.initial, problem.problem.initial)


@pytest.mark.parametrize(
    ("optimistic", "target", "exact"),
    [(False, "one", Fraction(1, 21)), (True, "one", Fraction(8, 21)), (False, "done", 1), (True, "two", Fraction(8, 21))],
)
def test_the_die_with_bent_coins_has_the_values_of_its_equations(optimistic, target, exact):
    """1 is thrown from 1 -> 3 -> end or back: x = q^2 + q (1 - q) x with each coin q of nature's, and q before that."""
    problem = read_interval_umb(DATA / "die_intervals.umb", criterion=LONG, target=target, optimistic=optimistic)
    answer = solve(problem, eps=1e-9)
    assert check(problem, answer.certificate)
    assert problem.problem.initial @ answer.value[0] == pytest.approx(float(exact), abs=1e-9)


@pytest.mark.parametrize("optimistic", [False, True])
@pytest.mark.parametrize("what", ['P=? [F "one"]', 'R{"coin_flips"}=? [F "done"]'])
def test_storm_finds_the_same_in_its_own_file(what, optimistic):
    stormpy = pytest.importorskip("stormpy")
    question = {"target": "one"} if what.startswith("P") else {"target": "done", "reward": "coin_flips"}
    problem = read_interval_umb(DATA / "die_intervals.umb", criterion=LONG, optimistic=optimistic, **question)
    modes = stormpy.UncertaintyResolutionMode
    theirs = stormed(stormpy, DATA / "die_intervals.umb", what, modes.MAXIMIZE if optimistic else modes.MINIMIZE)
    assert problem.problem.initial @ solve(problem, eps=1e-9).value[0] == pytest.approx(theirs[0], abs=1e-8)


def stormed(stormpy, path, what, mode):
    """Storm's interval engine on a file, in every state."""
    from stormpy import environments
    from stormpy.io import UmbImportOptions

    options = UmbImportOptions()
    options.build_state_valuations = False
    model = stormpy.build_model_from_umb(path, options=options)
    environment = environments.Environment()
    environment.solver().min_max().precision = stormpy.Rational(1e-12)
    environment.solver().min_max().relative_termination_criterion = False
    question = stormpy.parse_property(what)
    found = stormpy.model_checking(model, question, environment=environment, uncertainty_resolution_mode=mode)
    return np.array(found.get_value_vector())


@pytest.mark.parametrize("optimistic", [False, True])
def test_storm_reads_what_we_write_and_agrees(tmp_path, optimistic):
    """A discount that is an end which nature cannot touch, rewards of pairs, and an arrival that pays."""
    stormpy = pytest.importorskip("stormpy")
    model, discount = instances.make("garnet:states=20,actions=3,successors=4,seed=4,discount=0.9"), 0.9
    n, rows = model.n_states, []
    for state in range(n):
        pairs = []
        for k in range(model.state_ptr[state], model.state_ptr[state + 1]):
            row = slice(*model.row_ptr[k : k + 2].tolist())
            ahead = dict(zip(model.successor[row].tolist(), (discount * model.probability[row]).tolist(), strict=True))
            pairs.append((float(model.reward[k]) + 3, ahead | {n: 1 - sum(ahead.values())}))
        rows.append(pairs)
    whole = from_lists([*rows, 5.0], FiniteHorizon(1))
    ends = whole.successor == n
    lower = np.where(ends, whole.probability, np.maximum(0.5 * whole.probability, 1e-3))
    upper = np.where(ends, whole.probability, np.minimum(2 * whole.probability, 0.9))
    problem = RobustMDP.intervals(whole, lower, upper, optimistic=optimistic)
    write_interval_umb(problem, tmp_path / "x.umb")
    mode = stormpy.UncertaintyResolutionMode.COOPERATIVE if optimistic else stormpy.UncertaintyResolutionMode.ROBUST
    theirs = stormed(stormpy, tmp_path / "x.umb", 'R{"reward"}max=? [F "terminal"]', mode)
    ours = solve(read_interval_umb(tmp_path / "x.umb", criterion=FiniteHorizon(300)), eps=1e-9).value[0]
    np.testing.assert_allclose(ours[:n], theirs[:n], atol=1e-8)


def test_a_question_is_asked_of_files_of_our_own_too(tmp_path):
    model = from_lists([[(1.0, {0: 0.5, 1: 0.5})], [(2.0, {1: 1.0})]], Discounted(0.5))
    model = model.replace(labels={"there": np.array([False, True])}, initial=np.array([1.0, 0.0]))
    write_interval_umb(RobustMDP.intervals(model, np.array([0.2, 0.2, 1.0]), np.array([0.8, 0.8, 1.0])), tmp_path / "x.umb")
    reach = read_interval_umb(tmp_path / "x.umb", 0.9, target="there")
    assert solve(reach, eps=1e-9).value[0] == pytest.approx(0.18 / (1 - 0.72))
    assert solve(read_interval_umb(tmp_path / "x.umb", 0.9, target="there", optimistic=True), eps=1e-9).value[0] > 0.7


def test_rewards_of_branches_are_natures_to_choose_among(tmp_path):
    model = from_lists([[(0.0, {0: 0.5, 1: 0.5})], [(0.0, {1: 1.0})]], Discounted(0.0))
    problem = RobustMDP.intervals(model, np.array([0.25, 0.0, 1.0]), np.array([1.0, 0.5, 1.0]))
    problem = dataclasses.replace(problem, transition_reward=np.array([4.0, 0.0, 0.0]))
    write_interval_umb(problem, tmp_path / "x.umb")
    again = read_interval_umb(tmp_path / "x.umb", 0.0, reward="reward")
    np.testing.assert_array_equal(again.transition_reward, [4.0, 0.0, 0.0])
    assert solve(again, eps=1e-9).value[0] == pytest.approx(2.0)


def test_a_model_of_numbers_is_an_interval_model_that_leaves_nature_nothing():
    robust = read_interval_umb(DATA / "two_dice.umb", 0.9, target="seven")
    plain = MDP.from_umb(DATA / "two_dice.umb", 0.9, target="seven")
    np.testing.assert_allclose(solve(robust, eps=1e-9).value, solve(plain, eps=1e-9).value, atol=2e-9)


def test_an_mdp_refuses_intervals_and_says_who_reads_them():
    with pytest.raises(FileFormatError, match=r"intervals, for RobustMDP\.from_umb, which an MDP cannot"):
        MDP.from_umb(DATA / "die_intervals.umb", target="one")


def test_a_file_is_opened_as_what_it_is():
    assert isinstance(open_umb(DATA / "die_intervals.umb", 0.9, target="one"), RobustMDP)
    assert isinstance(open_umb(DATA / "die.umb", 0.9, target="six"), MDP)


def test_a_criterion_is_needed_and_must_be_one_for_robust_problems():
    with pytest.raises(ModelError, match=r"die_intervals\.umb: robust problems are discounted, of finite horizon or averaged"):
        read_interval_umb(DATA / "die_intervals.umb", target="one")
    with pytest.raises(ModelError, match=r"there is no label 'nine'"):
        read_interval_umb(DATA / "die_intervals.umb", 0.9, target="nine")


def test_other_sets_are_not_written(tmp_path):
    with pytest.raises(ModelError, match="L1 is no set of intervals"):
        write_interval_umb(RobustMDP(instances.forest(), L1(0.1)), tmp_path / "x.umb")
    assert not list(tmp_path.iterdir())


def test_one_set_of_intervals_for_all_pairs_is_written(tmp_path):
    problem = RobustMDP(instances.forest(), Interval(np.array([0.1, 0.0, 0.0]), np.ones(3)))
    write_interval_umb(problem, tmp_path / "x.umb")
    eps = 1e-9
    again = read_interval_umb(tmp_path / "x.umb")
    np.testing.assert_allclose(solve(again, eps=eps).value, solve(problem, eps=eps).value, atol=2 * eps)


@pytest.mark.parametrize(
    ("ends", "message"),
    [
        ((0.5, 0.25), r"branch 1 has the interval \[0\.5, 0\.25\]"),
        ((-0.5, 0.25), r"branch 1 has the interval \[-0\.5"),
        ((np.nan, 0.25), r"branch 1 has the interval \[nan"),
        ((0.0, np.inf), r"branch 1 has the interval \[0\.0, inf\]"),
    ],
)
def test_ends_that_are_no_interval_are_refused(tmp_path, ends, message):
    from .test_umb import pack

    files = unpacked(DATA / "die_intervals.umb")
    numbers = np.frombuffer(files["branch-to-probability.bin"]).copy()
    numbers[2:4] = ends
    pack(tmp_path / "x.umb", files | {"branch-to-probability.bin": numbers.tobytes()}, bytes)
    with pytest.raises(FileFormatError, match=rf"x\.umb: .*{message}"):
        read_interval_umb(tmp_path / "x.umb", 0.9, target="one")


def test_intervals_that_leave_no_row_name_state_and_action(tmp_path):
    from .test_umb import pack

    files = unpacked(DATA / "die_intervals.umb")
    numbers = np.frombuffer(files["branch-to-probability.bin"]).copy()
    numbers[:4] = 0.25
    pack(tmp_path / "x.umb", files | {"branch-to-probability.bin": numbers.tobytes()}, bytes)
    with pytest.raises(ModelError, match=r"x\.umb: state 0, action 0: the probabilities sum to 0\.5"):
        read_interval_umb(tmp_path / "x.umb", 0.9, target="one")


def test_a_reward_that_is_an_interval_is_refused(tmp_path):
    from .test_umb import pack

    files = unpacked(DATA / "die_intervals.umb")
    name = "annotations/rewards/coin_flips/choices/values.bin"
    numbers = np.frombuffer(files[name]).copy()
    numbers[1] += 1
    pack(tmp_path / "x.umb", files | {name: numbers.tobytes()}, bytes)
    with pytest.raises(FileFormatError, match=r"\[0\] is the interval \[1\.0, 2\.0\]; rewards must be numbers"):
        read_interval_umb(tmp_path / "x.umb", 0.9, target="one", reward="coin_flips")


def test_rational_ends_are_rounded_outwards():
    kind = SizedType.for_type(IntervalType(NumericPrimitiveType.RATIONAL))
    ends = [Ends(Fraction(1, 3), Fraction(2, 3)), Ends(Fraction(1, 10), Fraction(1, 4))]
    data = umbi.binary.vector_to_bytes(ends, kind)
    lower, upper = Archive({"x": memoryview(bytes(data[0] if isinstance(data, tuple) else data))}).intervals("x", kind, 2)
    for low, high, exact in zip(lower, upper, ends, strict=True):
        assert Fraction(low) <= exact.left < exact.right <= Fraction(high)
        assert Fraction(np.nextafter(low, 1)) > exact.left
        assert Fraction(np.nextafter(high, 0)) < exact.right


def unpacked(path):
    from banach.mdp.umb_archive import unpack

    return {name: bytes(data) for name, data in unpack(path).members.items()}
