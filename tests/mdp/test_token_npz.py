"""A token problem's file gives the problem back, and what is no such file is said by name."""

import numpy as np
import pytest
from banach.mdp import ModelError, PreferenceGame, PreferenceOracle, TokenProblem
from banach.mdp.errors import FileFormatError
from banach.mdp.instances_token import digit_chain, tiny_enum, tool_turns
from banach.mdp.storage import write_arrays
from banach.mdp.token_strategies import token_problems
from hypothesis import given, settings

ARRAYS = ("prompt_probability", "prompt", "token", "mask", "token_probability", "step_reward")


@settings(deadline=None, max_examples=25)
@given(problem=token_problems())
def test_a_saved_problem_comes_back_with_its_fingerprint(tmp_path_factory, problem):
    path = tmp_path_factory.mktemp("npz") / "problem.npz"
    problem.save(path)
    loaded = TokenProblem.load(path)
    assert loaded.fingerprint == problem.fingerprint
    assert (loaded.eos, loaded.prompts) == (problem.eos, problem.prompts)


@pytest.mark.parametrize("problem", [tiny_enum(), digit_chain(2, 2), tool_turns(horizon=3)], ids=["words", "tuples", "turns"])
def test_prompts_keep_their_names(problem, tmp_path):
    problem.save(tmp_path / "problem.npz")
    loaded = TokenProblem.load(tmp_path / "problem.npz")
    assert loaded.prompts == problem.prompts
    assert loaded.text(5) == problem.text(5)


def test_another_kind_of_file_is_refused(tmp_path):
    path = tmp_path / "game.npz"
    PreferenceGame(PreferenceOracle.cyclic(3), np.full(3, 1 / 3), 0.5).save(path)
    with pytest.raises(FileFormatError, match="token problem"):
        TokenProblem.load(path)


def test_a_file_that_lacks_an_array_or_has_a_wrong_end_of_sequence_is_refused(tmp_path):
    problem, path = tiny_enum(), tmp_path / "problem.npz"
    arrays = {name: getattr(problem, name) for name in ARRAYS}
    header = {"vocabulary_size": 3, "eos": 2, "prompts": ["easy", "hard"]}
    write_arrays(path, "token problem", header, {name: arrays[name] for name in ARRAYS[:-1]})
    with pytest.raises(FileFormatError, match="a token problem has"):
        TokenProblem.load(path)
    write_arrays(path, "token problem", header | {"eos": "end"}, arrays)
    with pytest.raises(FileFormatError, match="eos is 'end'"):
        TokenProblem.load(path)


def test_numbers_that_are_no_problem_are_named_with_the_file(tmp_path):
    problem, path = tiny_enum(), tmp_path / "problem.npz"
    arrays = {name: getattr(problem, name) for name in ARRAYS} | {"prompt_probability": np.array([0.5, 0.6])}
    write_arrays(path, "token problem", {"vocabulary_size": 3, "eos": 2, "prompts": ["easy", "hard"]}, arrays)
    with pytest.raises(ModelError, match=r"problem\.npz: prompt_probability"):
        TokenProblem.load(path)
