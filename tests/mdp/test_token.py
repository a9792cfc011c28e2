"""Token problems: every sequence is there once, the arrays agree with each other, and what is wrong is named."""

import itertools

import numpy as np
import pytest
from banach.mdp import FiniteHorizon, ModelError, TokenProblem
from banach.mdp.instances_token import digit_chain, softmax_bandit, tiny_enum, tool_turns
from banach.mdp.token_build import TooManySequences
from banach.mdp.token_policy import prompt_reward
from banach.mdp.token_strategies import token_problems, token_specifications
from hypothesis import HealthCheck, Phase, find, given, settings

PLAIN = settings(deadline=None, max_examples=150)
FIRST = settings(PLAIN, max_examples=4000, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
"""Finds an example and does not shrink it."""


def listed(words, prompt, tokens=(), moves=(), chance=1.0, rewards=()):
    """The sequences of a specification by plain recursion: tokens, who moved, the environment's probability, rewards."""
    if tokens and (tokens[-1] == words["eos"] or len(tokens) == words["horizon"]):
        yield tokens, moves, chance, (*rewards[:-1], rewards[-1] + words["reward"](prompt, tokens))
        return
    given_by = words["environment"] and words["environment"](prompt, tokens)
    for token in range(words["vocabulary_size"]):
        p = 1.0 if given_by is None else given_by[token]
        if p > 0:
            longer = (*tokens, token)
            earned = words["step_reward"](prompt, longer) if words["step_reward"] else 0.0
            yield from listed(words, prompt, longer, (*moves, given_by is None), chance * p, (*rewards, earned))


@PLAIN
@given(token_specifications())
def test_every_sequence_of_the_specification_is_there_once_and_in_order(words):
    problem = TokenProblem.build(**words)
    expected = [(prompt, *sequence) for prompt in range(words["prompts"]) for sequence in listed(words, prompt)]
    assert problem.n_sequences == len(expected)
    for s, (prompt, tokens, moves, chance, rewards) in enumerate(expected):
        rest = [-1] * (problem.horizon - len(tokens))
        assert problem.text(s) == (prompt, tokens)
        assert problem.token[s].tolist() == [*tokens, *rest]
        assert problem.mask[s].tolist() == [*moves, *(False for _ in rest)]
        assert problem.step_reward[s, : len(tokens)].tolist() == list(rewards)
        assert not problem.step_reward[s, len(tokens) :].any()
        np.testing.assert_allclose(problem.environment_probability[s], chance, rtol=1e-14)
        np.testing.assert_allclose(problem.reward[s], sum(rewards), rtol=1e-14, atol=1e-12)
        assert problem.length[s] == sum(moves)


@PLAIN
@given(token_problems())
def test_nodes_are_the_prefixes_where_the_policy_moves_by_depth_then_in_order(problem):
    found = {}
    for s, t in np.argwhere(problem.mask):
        found.setdefault((int(t), int(problem.prompt[s]), tuple(problem.token[s, :t].tolist())), set()).add(
            int(problem.node[s, t])
        )
    assert [found[key] for key in sorted(found)] == [{n} for n in range(problem.n_nodes)]
    assert [key[1] for key in sorted(found)] == problem.node_prompt.tolist()
    assert ((problem.node >= 0) == problem.mask).all()
    assert (problem.node[~problem.mask] == -1).all()


@PLAIN
@given(token_problems(turns=True))
def test_turns_count_the_runs_of_the_policy(problem):
    for mask, turn in zip(problem.mask, problem.turn, strict=True):
        runs = [(mover, len(list(run))) for mover, run in itertools.groupby(mask.tolist())]
        counts = itertools.count()
        expected = [number for mover, size in runs for number in [next(counts) if mover else -1] * size]
        assert turn.tolist() == expected


@PLAIN
@given(token_problems())
def test_a_problem_is_what_its_arrays_say_and_they_do_not_change(problem):
    again = TokenProblem(
        problem.vocabulary_size, problem.prompt_probability.copy(), problem.prompt.copy(), problem.token.copy(),
        problem.mask.copy(), problem.token_probability.copy(), problem.step_reward.copy(), eos=problem.eos,
    )  # fmt: skip
    assert again.fingerprint == problem.fingerprint
    assert problem.replace(step_reward=problem.step_reward + problem.mask).fingerprint != problem.fingerprint
    for name in ("prompt", "token", "mask", "step_reward", "node", "reward", "length", "turn", "policy_index"):
        with pytest.raises(ValueError, match="read-only"):
            getattr(problem, name)[...] = 0


ASKED = TokenProblem.build(2, 2, 2, lambda x, y: x + sum(y), environment=lambda _, y: [0.75, 0.25] if y == (0,) else None)
CERTAIN = TokenProblem.build(1, 2, 1, environment=lambda _, y: [1.0] if y else None)


@pytest.mark.parametrize(
    ("problem", "changes"),
    [
        (ASKED, {"prompt_probability": [0.25, 0.75]}),
        (ASKED, {"token_probability": np.where(ASKED.token_probability < 1, 1 - ASKED.token_probability, 1.0)}),
        (ASKED, {"step_reward": 2 * ASKED.step_reward}),
        (CERTAIN, {"mask": np.ones((1, 2), dtype=bool)}),
    ],
    ids=["prompts", "environment", "rewards", "who moves"],
)
def test_every_number_that_an_expectation_depends_on_is_in_the_fingerprint(problem, changes):
    assert problem.replace(**changes).fingerprint != problem.fingerprint
    assert problem.replace(prompts=tuple("xy"[: problem.n_prompts])).fingerprint == problem.fingerprint


CORNERS = {
    "one token": lambda p: p.vocabulary_size == 1,
    "horizon one": lambda p: p.horizon == 1 and p.n_sequences > 1,
    "no end of sequence": lambda p: p.eos is None and p.horizon == 3,
    "lengths that differ": lambda p: len(set(p.length.tolist())) > 2,
    "an environment that opens": lambda p: (p.token_probability[:, 0] < 1).any(),
    "an environment that ends": lambda p: p.eos is not None and (~p.mask & (p.token == p.eos)).any(),
    "an environment that is certain": lambda p: (~p.mask & (p.token >= 0) & (p.token_probability == 1)).any(),
    "an environment that speaks twice": lambda p: (
        ~p.mask[:, :-1] & ~p.mask[:, 1:] & (p.token[:, 1:] >= 0) & (p.token_probability[:, 1:] < 1)
    ).any(),
    "two turns": lambda p: p.turn.max() == 1,
    "a prompt of probability zero": lambda p: (p.prompt_probability == 0).any(),
    "equal rewards": lambda p: p.n_sequences > 3 and len(set(p.reward.tolist())) == 1 and p.reward[0] != 0,
    "step rewards": lambda p: (p.step_reward[:, :-1] != 0).any(),
    "several prompts": lambda p: p.n_prompts == 2 and p.n_sequences > 10,
}


@pytest.mark.parametrize("corner", CORNERS)
def test_problems_reach_the_corner(corner):
    assert CORNERS[corner](find(token_problems(), CORNERS[corner], settings=FIRST))


@pytest.mark.parametrize(
    ("size", "horizon", "eos", "count"),
    [(2, 3, None, 8), (3, 3, 2, 15), (3, 3, None, 27), (1, 4, None, 1), (1, 4, 0, 1), (2, 5, 0, 6)],
)
def test_the_number_of_sequences_is_the_formula(size, horizon, eos, count):
    assert TokenProblem.build(size, horizon, 1, eos=eos).n_sequences == count
    assert TokenProblem.build(size, horizon, 1, eos=eos, max_sequences=count).n_sequences == count
    if count > 1:
        with pytest.raises(TooManySequences, match=rf"make {count:,} sequences, the limit is {count - 1}; lower the horizon"):
            TokenProblem.build(size, horizon, 1, eos=eos, max_sequences=count - 1)


def test_too_many_sequences_are_refused_before_they_are_walked():
    with pytest.raises(TooManySequences, match=r"2 prompts, 50000 tokens and horizon 1000 make more than"):
        TokenProblem.build(50_000, 1000, 2)
    with pytest.raises(TooManySequences, match=r"more than 10 sequences, the next one .* of prompt 'x'; lower"):
        TokenProblem.build(3, 4, ["x"], environment=lambda _, tokens: None, max_sequences=10)


@PLAIN
@given(token_problems())
def test_the_mdp_has_a_state_for_each_prefix_that_goes_on_and_one_end(problem):
    mdp = problem.mdp()
    prefixes = {(int(x), tuple(row[:t].tolist())) for x, row in zip(problem.prompt, problem.token, strict=True)
                for t in range(problem.horizon) if row[t] >= 0}  # fmt: skip
    assert mdp.n_states == len(prefixes) + 1
    assert mdp.terminal.tolist() == [False] * len(prefixes) + [True]
    assert (np.diff(mdp.state_ptr)[: problem.n_nodes] == problem.vocabulary_size).all()
    assert (np.diff(mdp.state_ptr)[problem.n_nodes : -1] == 1).all()


def test_states_are_called_by_their_prompt_and_tokens():
    names = TokenProblem.build(2, 2, ("ask",), environment=lambda _, y: [0.5, 0.5] if y == (1,) else None).mdp().state_names
    assert list(names) == ["ask:", "ask: 0", "ask: 1", "end"]


def test_a_finite_horizon_must_hold_the_sequences():
    assert tiny_enum().mdp(FiniteHorizon(3)).criterion == FiniteHorizon(3)
    with pytest.raises(ModelError, match="up to 3 tokens; raise its horizon"):
        tiny_enum().mdp(FiniteHorizon(2))


def broken(**changes):
    """A valid problem of four sequences with some arrays changed: two tokens, horizon two, the environment answers token 1."""
    arrays = {
        "vocabulary_size": 2,
        "prompt_probability": np.array([1.0]),
        "prompt": np.zeros(4, dtype=int),
        "token": np.array([[0, 0], [0, 1], [1, 0], [1, 1]]),
        "mask": np.array([[True, True], [True, True], [True, False], [True, False]]),
        "token_probability": np.array([[1, 1], [1, 1], [1, 0.25], [1, 0.75]]),
        "step_reward": np.zeros((4, 2)),
    }
    return TokenProblem(**arrays | changes)


FAULTS = [
    ({"vocabulary_size": 0}, "vocabulary_size is 0"),
    ({"vocabulary_size": 3}, "sequence 0, position 0: 2 of 3 tokens follow here"),
    ({"prompt_probability": [0.5]}, "prompt_probability: the probabilities sum to 0.5"),
    ({"prompt_probability": [1.5, -0.5]}, "entry 0 is 1.5"),
    ({"prompt_probability": [0.5, 0.5]}, "prompt 1 has no sequence"),
    ({"prompt": [0, 0, 0, 1]}, "sequence 3: its prompt is 1"),
    ({"prompts": ["a", "b"]}, "prompts has 2 names for 1"),
    ({"token": [[0, 0], [0, 1], [1, 0], [1, 2]]}, "sequence 3: position 1 is 2; tokens are 0..1"),
    ({"token": [[0, 0], [0, 1], [1, 0], [-1, 1]]}, "sequence 3: position 1 is 1, after the end"),
    ({"token": [[0, 0], [0, 1], [1, 1], [1, 0]]}, "sequence 3 is out of order at position 1"),
    ({"token": [[0, 0], [0, 1], [1, 1], [1, 1]]}, "sequence 3 repeats sequence 2"),
    ({"token": [0, 1]}, r"token has shape \(2,\)"),
    ({"token": [[0.5, 0], [0, 1], [1, 0], [1, 1]]}, "token holds float64"),
    ({"token": [[0], [1, 2]]}, "token is no array"),
    ({"eos": 2}, "eos is 2"),
    ({"eos": 0}, "sequence 0: position 0 is 0, the end of sequence, and more tokens follow"),
    ({"mask": np.ones((4, 2), dtype=bool)}, "sequence 2: position 1 has token_probability 0.25; it is one where"),
    ({"mask": np.zeros((4, 2), dtype=bool), "token_probability": np.full((4, 2), 0.5)}, "sequence 0: no token is the policy's"),
    ({"mask": np.array([[True, True], [True, True], [True, True], [True, False]]), "token_probability": np.ones((4, 2))},
     "sequence 2, position 1: some tokens here are the policy's, some the environment's"),
    ({"mask": np.ones((4, 3), dtype=bool)}, r"mask has shape \(4, 3\)"),
    ({"token_probability": np.array([[1, 1], [1, 1], [1, 0.25], [1, 0.5]])}, "sequence 2, position 1: the environ.* 0.75"),
    ({"token_probability": np.array([[1, 1], [1, 1], [1, 0.0], [1, 1.0]])}, "sequence 2: position 1 has token_probability 0.0"),
    ({"step_reward": np.array([[0, 0], [0, np.nan], [0, 0], [0, 0]])}, "sequence 1: position 1 has reward nan"),
    ({"step_reward": np.array([[0, 0], [1, 0], [0, 0], [0, 0]])}, "sequence 1: position 0 has step_reward 1.0, and another"),
    ({"step_reward": np.full((4, 2), 1e308)}, "overflow"),
]  # fmt: skip


def test_the_problem_that_the_faults_are_made_from_has_none():
    assert broken().n_sequences == 4


@pytest.mark.parametrize(("changes", "words"), FAULTS, ids=[words[:40] for _, words in FAULTS])
def test_a_fault_in_the_arrays_is_named(changes, words):
    with pytest.raises(ModelError, match=words):
        broken(**changes)


def test_padding_is_nobodys_and_earns_nothing():
    one = TokenProblem.build(2, 2, 1, eos=0)
    mask, reward = one.mask.copy(), one.step_reward.copy()
    mask[0, 1], reward[0, 1] = True, 1.0
    with pytest.raises(ModelError, match="sequence 0: position 1 is padding, and the mask"):
        one.replace(mask=mask)
    with pytest.raises(ModelError, match="sequence 0: position 1 is padding with reward 1"):
        one.replace(step_reward=reward)


def test_sequences_must_be_sorted_by_prompt_and_none_may_go_on_after_another_has_ended():
    bandit = TokenProblem.bandit([[0.0, 1.0], [1.0, 0.0]])
    with pytest.raises(ModelError, match="sequence 1 of prompt 0 comes after one of prompt 1"):
        bandit.replace(prompt=[1, 0, 0, 1])
    with pytest.raises(ModelError, match="sequence 0 is the beginning of another one"):
        TokenProblem(
            2, np.ones(1), np.zeros(3, int), np.array([[0, -1], [0, 0], [1, -1]]),
            np.array([[1, 0], [1, 1], [1, 0]], dtype=bool), np.ones((3, 2)), np.zeros((3, 2)),
        )  # fmt: skip


BUILD_FAULTS = [
    ({"vocabulary_size": 0}, "vocabulary_size is 0"),
    ({"horizon": 1.5}, "horizon is 1.5"),
    ({"prompts": 0}, "prompts is 0"),
    ({"prompts": []}, "prompts is empty"),
    ({"eos": 2}, "eos is 2"),
    ({"max_sequences": -1}, "max_sequences is -1"),
    ({"reward": lambda x, y: float("inf")}, r"reward\('q', \(0, 0\)\) is inf"),
    ({"reward": lambda x, y: "high"}, r"reward\('q', \(0, 0\)\) is 'high', no number"),
    ({"step_reward": lambda x, y: None}, r"step_reward\('q', \(1,\)\) is None"),
    ({"environment": lambda x, y: [1.0] if y else None}, r"environment\('q', \(0,\)\) has shape \(1,\)"),
    ({"environment": lambda x, y: [0.5, 0.4] if y else None}, r"environment\('q', \(0,\)\): the probabilities sum to 0.9"),
    ({"environment": lambda x, y: [1.5, -0.5] if y else None}, "entry 0 is 1.5"),
    ({"environment": lambda x, y: [np.nan, 1.0] if y else None}, "entry 0 is nan"),
    ({"environment": lambda x, y: "tool"}, r"environment\('q', \(\)\) is no array"),
    ({"environment": lambda x, y: [0.5, 0.5]}, "sequence 0: no token is the policy's"),
    ({"prompt_probability": [0.5, 0.5]}, "prompts has 1 names for 2"),
]


@pytest.mark.parametrize(("changes", "words"), BUILD_FAULTS, ids=[words[:40] for _, words in BUILD_FAULTS])
def test_a_fault_in_the_functions_is_named(changes, words):
    arguments = {"vocabulary_size": 2, "horizon": 2, "prompts": ["q"]} | changes
    with pytest.raises(ModelError, match=words):
        TokenProblem.build(**arguments)


@pytest.mark.parametrize("reward", [[], [[[1.0]]], ["a"], [np.inf]])
def test_a_bandit_needs_a_table_of_rewards(reward):
    with pytest.raises(ModelError, match="reward"):
        TokenProblem.bandit(reward)


def test_a_bandit_is_the_problem_of_horizon_one():
    table = [[0.0, 1.0, 2.0], [5.0, 4.0, 3.0]]
    built = TokenProblem.build(3, 1, 2, lambda x, y: table[x][y[0]])
    assert TokenProblem.bandit(table).fingerprint == built.fingerprint


def test_the_tiny_problem_is_what_it_says():
    problem = tiny_enum()
    assert (problem.n_sequences, problem.n_nodes, problem.horizon) == (30, 14, 3)
    assert set(problem.reward) == {0.0, 1.0}
    assert set(problem.length[problem.reward == 1]) == set(problem.length[(problem.reward == 0)]) - {1} == {2, 3}
    np.testing.assert_allclose(prompt_reward(problem, np.zeros((14, 3))), [13 / 27, 4 / 27], rtol=1e-14)


def test_the_bandit_has_its_best_arm_where_it_says():
    problem = softmax_bandit(arms=4, contexts=3)
    np.testing.assert_array_equal(problem.reward.reshape(3, 4).argmax(axis=1), [3, 0, 1])


@pytest.mark.parametrize("scratchpad", [False, True])
@pytest.mark.parametrize(("digits", "base"), [(1, 2), (2, 3), (3, 2)])
def test_exactly_the_sums_are_right_in_a_chain_of_digits(digits, base, scratchpad):
    problem = digit_chain(digits, base, scratchpad)
    for s in range(problem.n_sequences):
        prompt, tokens = problem.text(s)
        said = tokens[:-1] if tokens[-1] == base else ()
        assert problem.reward[s] == (bool(said) and (sum(prompt) - said[-1]) % base == 0)
    uniform = prompt_reward(problem, np.zeros((problem.n_nodes, base + 1)))
    assert (uniform > 0).all()


@pytest.mark.parametrize(
    "make",
    [
        lambda: tiny_enum(1), lambda: tiny_enum(horizon=1), lambda: softmax_bandit(1), lambda: softmax_bandit(contexts=0),
        lambda: tool_turns(1), lambda: tool_turns(reliability=1.0), lambda: tool_turns(cheap=-1), lambda: digit_chain(0),
        lambda: digit_chain(base=1), lambda: digit_chain(30, 10),
    ],
)  # fmt: skip
def test_instances_refuse_what_is_out_of_range(make):
    with pytest.raises(ModelError):
        make()
