"""PRISM's explicit files: read as PRISM means them, refused by line."""

from pathlib import Path

import numpy as np
import pytest
from banach.mdp import MDP, Discounted, FileFormatError, ModelError, TotalReward, strategies
from hypothesis import given, settings

CHAIN = """3 5
0 1 0.5
0 2 0.5
1 0 1/4
1 1 0.75
2 2 1
"""
DECISIONS = """3 4 6
0 0 1 0.5 go
0 0 2 0.5 go
0 1 0 1 stay
1 0 0 0.25 back
1 0 1 0.75 back
2 0 2 1
"""
LABELS = '0="init" 1="goal" 2="dead lock"\n0: 0\n2: 1 2\n'
STATES = "(s,ok)\n0:(0,true)\n1:(1,false)\n2:(7,true)\n"


def write(folder: Path, **files: str) -> Path:
    """model.tra, model.lab, ...; returns the .tra file."""
    for suffix, text in files.items():
        (folder / f"model.{suffix}").write_text(text)
    return folder / "model.tra"


def test_a_markov_chain_is_read(tmp_path):
    model = MDP.from_prism(write(tmp_path, tra=CHAIN, lab=LABELS), target="goal")
    assert model.to_sparse()[0].toarray().tolist() == [[0, 0.5, 0.5], [0.25, 0.75, 0]]
    assert model.terminal_value.tolist() == [0, 0, 1]
    assert model.criterion == TotalReward()
    assert model.action_names is None


def test_an_mdp_is_read_with_the_names_of_its_actions(tmp_path):
    model = MDP.from_prism(write(tmp_path, tra=DECISIONS, srew="3 0\n"), 0.9)
    assert model.to_sparse()[0].toarray().tolist() == [[0, 0.5, 0.5], [1, 0, 0], [0.25, 0.75, 0], [0, 0, 1]]
    assert model.state_ptr.tolist() == [0, 2, 3, 4]
    assert model.action_names == ("go", "stay", "back", "")
    assert model.criterion == Discounted(0.9)


def test_labels_and_the_initial_state_are_kept(tmp_path):
    model = MDP.from_prism(write(tmp_path, tra=DECISIONS, lab=LABELS), target="goal", criterion=TotalReward(minimize=True))
    assert {name: states.tolist() for name, states in model.labels.items()} == {
        "goal": [False, False, True],
        "dead lock": [False, False, True],
    }
    assert model.initial.tolist() == [1, 0, 0]


def test_several_initial_states_are_equally_likely(tmp_path):
    model = MDP.from_prism(write(tmp_path, tra=CHAIN, lab='0="init" 1="goal"\n0: 0\n1: 0\n2: 1\n'), target="goal")
    assert model.initial.tolist() == [0.5, 0.5, 0]


def test_states_are_named_by_their_variables(tmp_path):
    model = MDP.from_prism(write(tmp_path, tra=CHAIN, lab=LABELS, sta=STATES), target="goal")
    assert model.state_names == ("s=0,ok=true", "s=1,ok=false", "s=7,ok=true")


def test_comments_blank_lines_windows_ends_and_any_order_are_read(tmp_path):
    lines = DECISIONS.splitlines()
    shuffled = ["# by hand", lines[0], "", *reversed(lines[1:]), ""]
    (tmp_path / "model.tra").write_bytes("\r\n".join(shuffled).encode())
    write(tmp_path, lab=LABELS)
    found = MDP.from_prism(tmp_path / "model.tra", target="goal")
    (tmp_path / "model.tra").write_text(DECISIONS)
    assert found.fingerprint == MDP.from_prism(tmp_path / "model.tra", target="goal").fingerprint


def test_state_and_transition_rewards_add_up_to_the_expected_reward(tmp_path):
    path = write(tmp_path, tra=DECISIONS, srew="3 2\n0 1.5\n2 8\n", trew="3 4 2\n0 0 1 4\n1 0 1 -1\n")
    assert MDP.from_prism(path, 0.9).reward.tolist() == [1.5 + 2, 1.5, -0.75, 8]


def test_transition_rewards_of_a_chain_have_no_choice(tmp_path):
    path = write(tmp_path, tra=CHAIN, rew="3 2\n0 1 4\n0 2 6\n")
    assert MDP.from_prism(path, 0.9).reward.tolist() == [5, 0, 0]


def test_with_a_target_rewards_count_only_where_they_are_asked_for(tmp_path):
    path = write(tmp_path, tra=CHAIN, lab=LABELS, srew="3 1\n0 3\n")
    probability = MDP.from_prism(path, target="goal")
    assert (probability.reward.tolist(), probability.terminal_value.tolist()) == ([0, 0], [0, 0, 1])
    expected = MDP.from_prism(path, target="goal", rewards=[tmp_path / "model.srew"])
    assert (expected.reward.tolist(), expected.terminal_value.tolist()) == ([3, 0], [0, 0, 0])


def test_one_reward_of_several_is_chosen_by_number_or_name(tmp_path):
    path = write(tmp_path, tra=CHAIN, lab=LABELS)
    (tmp_path / "model1.srew").write_text('# Reward structure "steps"\n# State rewards\n3 1\n0 3\n')
    (tmp_path / "model2.srew").write_text("3 1\n1 5\n")
    assert MDP.from_prism(path, reward="2", target="goal").reward.tolist() == [0, 5]
    assert MDP.from_prism(path, reward="steps", target="goal").reward.tolist() == [3, 0]
    with pytest.raises(ModelError, match=r"of 'cost'; there are model1\.srew, model2\.srew"):
        MDP.from_prism(path, reward="cost", target="goal")


def test_avoided_states_end_the_run_for_nothing(tmp_path):
    lab = '0="init" 1="goal" 2="bad"\n0: 0\n1: 2\n2: 1\n'
    model = MDP.from_prism(write(tmp_path, tra=CHAIN, lab=lab), target="goal", avoid="bad")
    assert model.terminal.tolist() == [False, True, True]
    assert model.terminal_value.tolist() == [0, 0, 1]


def test_a_question_is_needed(tmp_path):
    with pytest.raises(
        ModelError, match=r"say what to optimise: rewards=\[file, \.\.\.\], or target=\.\.\. \(labels: goal, dead lock\)"
    ):
        MDP.from_prism(write(tmp_path, tra=CHAIN, lab=LABELS))


def test_an_unknown_label_is_refused_with_those_there_are(tmp_path):
    with pytest.raises(ModelError, match=r"no label 'end'; the labels are dead lock, goal"):
        MDP.from_prism(write(tmp_path, tra=CHAIN, lab=LABELS), target="end")


@settings(deadline=None, max_examples=40)
@given(strategies.average_reward_mdps())
def test_a_model_written_by_hand_is_read_back(tmp_path_factory, model):
    folder = tmp_path_factory.mktemp("prism")
    matrix, reward, state_ptr = model.to_sparse()
    table, pairs = matrix.toarray(), np.repeat(np.arange(model.n_states), np.diff(state_ptr))
    cells = [
        (int(pairs[k]), int(k - state_ptr[pairs[k]]), int(j), float(table[k, j]))
        for k, j in zip(*np.nonzero(table), strict=True)
    ]
    lines = "".join(f"{s} {c} {j} {p!r}\n" for s, c, j, p in cells)
    earned = "".join(f"{s} {c} {j} {float(reward[state_ptr[s] + c])!r}\n" for s, c, j, p in cells)
    head = f"{model.n_states} {model.n_pairs} {len(cells)}\n"
    path = write(folder, tra=head + lines, trew=head + earned)
    again = MDP.from_prism(path, criterion=model.criterion)
    assert (again.to_sparse()[0].toarray() == table).all()
    assert np.allclose(again.reward, reward, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("tra", "message"),
    [
        ("", "the file is empty"),
        ("# nothing\n\n", "the file is empty"),
        ("dtmc\n0 1 1\n", "line 1: the header must be 2 or 3 counts, not 'dtmc'"),
        ("1 2 3 4\n", "line 1: the header must be 2 or 3 counts"),
        ("3 -5\n", "line 1: '-5' is not a whole number"),
        ("3 5.0\n", "line 1: '5.0' is not a whole number"),
        ("3 " + "9" * 50 + "\n", "line 1: '999.*' is not a whole number"),
        (CHAIN.replace("3 5", "3 6"), "the header says 6 transitions, but 5 follow"),
        (CHAIN.replace("3 5", "4611686018427387 5"), "the header says 4611686018427387 states; each needs a transition"),
        (CHAIN.replace("3 5", "0 5"), "the header says 0 states"),
        (CHAIN.replace("3 5", "4 5"), "state 3 has no actions"),
        (CHAIN.replace("3 5", "2 5"), "line 6: state 2 is not below 2"),
        (CHAIN.replace("2 2 1", "2 3 1"), "line 6: successor 3 is not below 3"),
        (CHAIN.replace("2 2 1", "3 2 1"), "line 6: state 3 is not below 3"),
        (CHAIN.replace("2 2 1", "2 2"), "line 6: expected 3 numbers and perhaps an action, not '2 2'"),
        (CHAIN.replace("2 2 1", "2 x 1"), "line 6: 'x' is not a whole number"),
        (CHAIN.replace("2 2 1", "2 -2 1"), "line 6: '-2' is not a whole number"),
        (CHAIN.replace("2 2 1", "2 2 one"), "line 6: 'one' is not a number"),
        (CHAIN.replace("2 2 1", "2 2 1/0"), "line 6: '1/0' is not a number"),
        (CHAIN.replace("2 2 1", "2 2 nan"), "line 6: the probability is nan"),
        (CHAIN.replace("2 2 1", "2 2 1e999"), "line 6: the probability is inf"),
        (CHAIN.replace("2 2 1", "2 2 -1"), "line 6: the probability is -1.0"),
        (CHAIN.replace("2 2 1", "2 2 1.5"), "line 6: the probability is 1.5"),
        (CHAIN.replace("2 2 1", "0 2 0.5"), "line 6: the same transition stands in line 3 as well"),
        (CHAIN.replace("2 2 1", "2 2 0.9"), "state 2, action 0: the probabilities sum to 0.9"),
        (DECISIONS.replace("3 4 6", "3 5 6"), "the header says 5 choices, but 4 follow"),
        (DECISIONS.replace("2 0 2 1", "2 1 2 1"), "line 7: choice 1 of state 2 comes where 0 should"),
        (DECISIONS.replace("0 1 0 1", "0 2 0 1"), "line 4: choice 2 of state 0 comes where 1 should"),
        (DECISIONS.replace("0 0 2 0.5 go", "0 0 2 0.5 fly"), "line 3: one choice has the actions 'go' and 'fly'"),
        (DECISIONS.replace("0 0 2 0.5 go", "0 0 2 0.5"), "line 3: one choice has the actions 'go' and ''"),
        (CHAIN.replace("0 1 0.5", "0 1_0 0.5"), "line 2: '1_0' is not a whole number"),
        (CHAIN.replace("0 1 0.5", "0 ١ 0.5"), "line 2: '١' is not a whole number"),
    ],
)
def test_a_wrong_transition_file_is_refused_by_line(tmp_path, tra, message):
    with pytest.raises((FileFormatError, ModelError), match=rf"model\.tra.*{message}"):
        MDP.from_prism(write(tmp_path, tra=tra, srew="0 0\n"), rewards=[])


@pytest.mark.parametrize(
    ("lab", "message"),
    [
        ("", "the file is empty"),
        ("#DECLARATION\ninit\n", "line 2: expected different labels"),
        ("0: 0\n", "line 1: expected different labels"),
        ('0="a" 0="b"\n', "line 1: expected different labels"),
        ('0="a" 1="a"\n', "line 1: expected different labels"),
        ('0="a" b\n', "line 1: expected different labels"),
        ('0="a"\n3: 0\n', "line 2: expected 'state: labels' with a state below 3"),
        ('0="a"\n0 0\n', "line 2: '0 0' is not a whole number"),
        ('0="a"\n0\n', "line 2: expected 'state: labels'"),
        ('0="a"\n0: 1\n', "line 2: label 1 is not declared in the first line"),
        ('0="a"\n0: a\n', "line 2: 'a' is not a whole number"),
    ],
)
def test_a_wrong_label_file_is_refused_by_line(tmp_path, lab, message):
    with pytest.raises(FileFormatError, match=rf"model\.lab.*{message}"):
        MDP.from_prism(write(tmp_path, tra=CHAIN, lab=lab), target="a")


@pytest.mark.parametrize(
    ("sta", "message"),
    [
        ("s\n0:(0)\n", "line 1: expected the variables' names"),
        ("(s)\n0:(0)\n1:(1)\n", "2 states are described, but there are 3"),
        ("(s)\n0:(0)\n0:(1)\n", "line 3: state 0 is given twice"),
        ("(s)\n3:(0)\n", "line 2: state 3 is given twice or not below 3"),
        ("(s)\n0:(0,1)\n", r"line 2: expected 'state:\(values\)' with 1 values"),
        ("(s)\n0 (0)\n", r"line 2: '0 \(0\)' is not a whole number"),
        ("(s)\n0:0\n", "line 2: expected"),
        ("(s)\nx:(0)\n", "line 2: 'x' is not a whole number"),
    ],
)
def test_a_wrong_state_file_is_refused_by_line(tmp_path, sta, message):
    with pytest.raises(FileFormatError, match=rf"model\.sta.*{message}"):
        MDP.from_prism(write(tmp_path, tra=CHAIN, lab=LABELS, sta=sta), target="goal")


@pytest.mark.parametrize(
    ("rew", "message"),
    [
        ("", "the file is empty"),
        ("4 0\n", "the header says 4 states, but the model has 3"),
        ("3 2\n0 1\n", "the header says 2 rewards, but 1 follow"),
        ("3 1\n3 1\n", "line 2: state 3 is not below 3"),
        ("3 1\n0 nan\n", "line 2: the reward is nan"),
        ("3 1\n0 inf\n", "line 2: the reward is inf"),
        ("3 1\n0 much\n", "line 2: 'much' is not a number"),
        ("3 4 1\n0 0 0 1 5\n", "line 2: expected 2 or 4 numbers"),
        ("3 2\n0 1\n0 0 1 5\n", "line 3: expected 2 numbers, not '0 0 1 5'"),
        ("3 4 1\n0 0 0 1\n", "line 2: the model has no such transition"),
        ("3 4 1\n0 2 0 1\n", "line 2: the model has no such transition"),
        ("3 4 1\n2 1 0 1\n", "line 2: the model has no such transition"),
        ("3 4 1\n0 0 7 1\n", "line 2: successor 7 is not below 3"),
    ],
)
def test_a_wrong_reward_file_is_refused_by_line(tmp_path, rew, message):
    with pytest.raises(FileFormatError, match=rf"model\.rew.*{message}"):
        MDP.from_prism(write(tmp_path, tra=DECISIONS, rew=rew), 0.9)


def test_a_file_that_is_no_text_is_refused(tmp_path):
    (tmp_path / "model.tra").write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(FileFormatError, match=r"model\.tra: not a text file"):
        MDP.from_prism(tmp_path / "model.tra", rewards=[])


@pytest.mark.parametrize("words", [{"labels": "no.lab"}, {"states": "no.sta"}, {"rewards": ["no.srew"]}])
def test_a_file_that_is_asked_for_and_missing_is_named(tmp_path, words):
    path = write(tmp_path, tra=CHAIN, lab=LABELS)
    with pytest.raises(FileFormatError, match=r"no\.\w+: no such file"):
        MDP.from_prism(path, target="goal", **words)


def test_a_missing_transition_file_is_named(tmp_path):
    with pytest.raises(FileFormatError, match=r"model\.tra: no such file"):
        MDP.from_prism(tmp_path / "model.tra", target="goal")


def test_labels_by_the_million_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("banach.mdp.goal.MAX_LABEL_BYTES", 8)
    with pytest.raises(FileFormatError, match=r"model\.lab: 3 labels of 3 states would take 9 bytes"):
        MDP.from_prism(write(tmp_path, tra=CHAIN, lab=LABELS), target="goal")


def test_a_file_cut_anywhere_is_refused_or_asked_for_more(tmp_path):
    for length in range(len(DECISIONS) - 3):
        with pytest.raises((FileFormatError, ModelError), match=r"model\.tra"):
            MDP.from_prism(write(tmp_path, tra=DECISIONS[:length]), rewards=[])
