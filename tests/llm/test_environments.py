"""Tasks pose the same problem under the same number, and rewards never turn a fault into a number."""

import math

import pytest
import torch
from banach.llm.environments import (
    Component,
    DigitChain,
    Gate,
    Problem,
    ReasoningTask,
    Reward,
    RewardFailed,
    Sample,
    TaskError,
    task,
)
from hypothesis import given, settings
from hypothesis import strategies as st

chains = st.builds(
    lambda low, more, base, pad, seed: DigitChain(low, low + more, base, pad, seed),
    st.integers(1, 4),
    st.integers(0, 3),
    st.integers(2, 10),
    st.booleans(),
    st.integers(0, 5),
)


@settings(max_examples=50)
@given(chains, st.integers(0, 10**6))
def test_a_chain_sums_its_digits_modulo_the_base(chain, index):
    problem = chain.problem(index)
    digits = [int(c) for c in problem.prompt[:-1]]
    assert problem == chain.problem(index)
    assert chain.shortest <= len(digits) <= chain.longest
    assert max(digits) < chain.base
    wanted = [sum(digits[: i + 1]) % chain.base for i in range(len(digits))]
    assert problem.answer == "".join(map(str, wanted if chain.scratchpad else wanted[-1:]))
    assert chain.score(problem, chain.parse(problem.answer + "\n")) == 1
    for wrong in range(chain.base):
        assert chain.score(problem, chain.parse(str(wrong))) == (wrong == wanted[-1])


@pytest.mark.parametrize("text", ["", "\n5", "x", "12", "1x", "9"])
def test_an_answer_of_the_wrong_form_is_none(text):
    assert DigitChain(base=9).parse(text) is None


@pytest.mark.parametrize("wrong", [{"shortest": 0}, {"shortest": 3, "longest": 2}, {"base": 1}, {"base": 11}])
def test_a_chain_out_of_range_is_refused(wrong):
    with pytest.raises(TaskError, match="digit_chain of"):
        DigitChain(**wrong)


def test_a_task_that_does_not_exist_has_its_nearest_names_told():
    with pytest.raises(TaskError, match=r"did you mean .*chain_sum"):
        task("chain_sums")
    with pytest.raises(TaskError, match="there are digit_chain"):
        task("§§§")
    with pytest.raises(TaskError, match="unexpected keyword"):
        task("digit_chain", digits=3)


class TestReasoning:
    pytestmark = pytest.mark.skipif(
        __import__("importlib.util").util.find_spec("reasoning_gym") is None, reason="reasoning-gym is not installed"
    )

    def test_a_prompt_has_its_shots_and_its_own_answer_is_right(self):
        chain_sum = task("chain_sum", seed=3, shots=2)
        problem = chain_sum.problem(5)
        assert problem == task("chain_sum", seed=3, shots=2).problem(5)
        assert problem.prompt.count("Question: ") == 3
        assert problem.prompt.endswith("\nAnswer:")
        assert chain_sum.score(problem, chain_sum.parse(f" {problem.answer}\nQuestion: and so on")) == 1
        assert chain_sum.score(problem, str(int(problem.answer) + 1)) < 1
        assert problem.prompt != chain_sum.problem(6).prompt
        assert problem.prompt != task("chain_sum", seed=4, shots=2).problem(5).prompt

    def test_every_task_of_the_catalogue_knows_its_own_answers(self):
        from banach.llm.environments.catalogue import EASY

        for name in EASY:
            made = task(name)
            for index in range(3):
                problem = made.problem(index)
                assert made.score(problem, made.parse(problem.answer)) == 1, name

    def test_settings_that_the_library_refuses_are_told(self):
        with pytest.raises(TaskError, match="refuses chain_sum"):
            task("chain_sum", min_terms=3, max_terms=1)
        with pytest.raises(TaskError, match="refuses chain_sum"):
            task("chain_sum", colour=1)

    def test_a_verifier_that_raises_is_counted_and_reported(self):
        factors = ReasoningTask("prime_factorization", shots=0)
        problem = factors.problem(0)
        samples = [Sample(problem, problem.answer), Sample(problem, "no factors"), Sample(problem, "")]
        rewarded = Reward.of(factors)(samples)
        assert rewarded.reward_B.tolist() == [1.0, 0.0, 0.0]
        assert rewarded.failed_B.tolist() == [False, True, False]
        assert rewarded.closed == {"parses": 1}
        (failure,) = rewarded.failures
        assert "raised ValueError" in str(failure)
        assert "no factors" in str(failure)


PROBLEM = Problem("1+1=", "2", 7)


def samples(*texts):
    return [Sample(PROBLEM, text) for text in texts]


def test_a_reward_is_the_weighted_sum_of_its_parts_behind_its_gates():
    reward = Reward(
        (Component("right", lambda s: s.text == "2", 2.0), Component("short", lambda s: -len(s.text), 0.5)),
        (Gate("digits", lambda s: s.text.isdigit()), Gate("whole", lambda s: not s.truncated)),
        floor=-1.0,
    )
    rewarded = reward([*samples("2", "33", "x"), Sample(PROBLEM, "2", truncated=True)])
    assert rewarded.reward_B.tolist() == [1.5, -1.0, -1.0, -1.0]
    assert rewarded.closed == {"digits": 1, "whole": 1}
    torch.testing.assert_close(rewarded.parts["right"], torch.tensor([1.0, 0.0, math.nan, math.nan]).double(), equal_nan=True)
    assert not rewarded.failed_B.any()


@pytest.mark.parametrize("fault", [float("nan"), float("inf"), ZeroDivisionError("by nought"), KeyError("x")])
@pytest.mark.parametrize("where", ["component", "gate"])
def test_a_fault_is_no_zero(fault, where):
    def part(sample):
        if sample.text != "bad":
            return 1.0
        if isinstance(fault, Exception):
            raise fault
        return fault

    parts, gates = (Component("part", part),), ()
    if where == "gate":
        if not isinstance(fault, Exception):
            pytest.skip("a gate says yes or no")
        parts, gates = (Component("one", lambda s: 1.0),), (Gate("part", part),)
    rewarded = Reward(parts, gates)(samples("a", "bad", "b"))
    assert rewarded.failed_B.tolist() == [False, True, False]
    assert rewarded.reward_B.tolist() == [1.0, 0.0, 1.0]
    (failure,) = rewarded.failures
    assert (failure.sample, failure.part, failure.text, failure.problem) == (1, "part", "bad", PROBLEM)
    assert (type(fault).__name__ if isinstance(fault, Exception) else str(fault)) in failure.fault


def test_a_reward_that_fails_too_often_is_an_error_that_shows_a_sample():
    reward = Reward((Component("broken", lambda s: 1 / 0),))
    with pytest.raises(
        RewardFailed, match=r"2 of 2 samples: sample 0 \(problem 7\), broken: raised ZeroDivisionError.*'first'"
    ):
        reward(samples("first", "second"))
