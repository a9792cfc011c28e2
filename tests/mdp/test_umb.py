"""UMB files: what Storm wrote means here what it means there, and the other way round."""

import gzip
import io
import json
import lzma
import tarfile
import tracemalloc
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import umbi
import umbi.ats
import umbi.umb
from banach.mdp import MDP, Discounted, FileFormatError, ModelError, TotalReward, strategies
from hypothesis import given, settings
from hypothesis import strategies as st

DATA = Path(__file__).parent.parent / "data"
LEAST = TotalReward(minimize=True)


def limit_value(model: MDP) -> float:
    """Value iteration from zero until nothing moves, at the initial states. For problems where it converges to the value."""
    matrix, reward, state_ptr = model.to_sparse()
    better = np.minimum if model.criterion.minimize else np.maximum
    value, acting = model.terminal_value.copy(), ~model.terminal
    for _ in range(20_000):
        before = value.copy()
        value[acting] = better.reduceat(reward + matrix @ value, state_ptr[:-1][acting])
        if np.abs(value - before).max() < 1e-13:
            break
    return float(model.initial @ value)


PUBLISHED = [
    ("die", {"target": "six"}, Fraction(1, 6)),
    ("die", {"target": "done", "reward": "coin_flips"}, Fraction(11, 3)),
    ("two_dice", {"target": "seven"}, Fraction(1, 6)),
    ("two_dice", {"target": "twelve", "criterion": LEAST}, Fraction(1, 36)),
    ("consensus_2_2", {"target": ["finished", "all_coins_equal_1"], "criterion": LEAST}, Fraction(49, 128)),
    ("consensus_2_2", {"target": "finished", "reward": "steps"}, Fraction(75)),
    ("consensus_2_2", {"target": "finished", "reward": "steps", "criterion": LEAST}, Fraction(48)),
    ("csma_2_2", {"target": "all_delivered", "avoid": "collision_max_backoff"}, Fraction(7, 8)),
    ("csma_2_2", {"target": "all_delivered", "reward": "time"}, Fraction(227630345357, 3221225472)),
    ("csma_2_2", {"target": "all_delivered", "reward": "time", "criterion": LEAST}, Fraction(53954981353, 805306368)),
    ("firewire_3", {"target": "elected", "reward": "time"}, Fraction(299)),
    ("firewire_3", {"target": "elected", "reward": "time", "criterion": LEAST}, Fraction(553, 4)),
    ("firewire_3", {"target": "elected", "reward": "time_sending"}, Fraction(18)),
    ("leader_sync_3_5", {"target": "elected", "reward": "num_rounds"}, Fraction(25, 24)),
]


@pytest.mark.parametrize(("name", "question", "exact"), PUBLISHED)
def test_files_that_storm_wrote_have_the_published_values(name, question, exact):
    assert limit_value(MDP.from_umb(DATA / f"{name}.umb", **question)) == pytest.approx(float(exact), rel=1e-9)


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("die", (13, 13, 20)),
        ("two_dice", (169, 254, 436)),
        ("consensus_2_2", (272, 400, 492)),
        ("csma_2_2", (1038, 1054, 1282)),
        ("firewire_3", (4093, 5519, 5585)),
        ("leader_sync_3_5", (273, 273, 397)),
    ],
)
def test_a_file_has_the_states_choices_and_branches_that_storm_counted(name, sizes):
    reward = {"firewire_3": "time"}.get(name)
    model = MDP.from_umb(DATA / f"{name}.umb", 0.9, reward=reward)
    assert (model.n_states, model.n_pairs, model.n_transitions) == sizes


def test_labels_initial_states_and_action_names_are_kept():
    model = MDP.from_umb(DATA / "csma_2_2.umb", 0.9)
    assert set(model.labels) == {"all_delivered", "collision_max_backoff", "deadlock", "one_delivered"}
    assert {name: int(states.sum()) for name, states in model.labels.items()}["one_delivered"] == 179
    assert np.flatnonzero(model.initial).tolist() == [0]
    assert {"send1", "send2", "time", "cd"} < set(model.action_names)


def test_target_states_lose_their_choices_and_are_worth_one():
    model = MDP.from_umb(DATA / "die.umb", target="six")
    assert np.array_equal(model.terminal, model.labels["six"])
    assert model.terminal_value.sum() == 1
    assert not model.reward.any()


def test_with_a_reward_the_target_itself_is_worth_nothing():
    model = MDP.from_umb(DATA / "die.umb", target="done", reward="coin_flips")
    assert not model.terminal_value.any()
    assert model.reward.tolist() == [1.0] * 7


def test_the_only_reward_is_taken_where_there_is_no_target():
    assert MDP.from_umb(DATA / "die.umb", 0.5).reward.sum() == 7


@pytest.mark.parametrize(
    ("name", "question", "message"),
    [
        ("die", {"target": "seven"}, "there is no label 'seven'; the labels are deadlock, done, five"),
        ("die", {"target": ["six", "five"]}, "no state carries 'six' and 'five'"),
        ("die", {"target": "deadlock"}, "no state carries 'deadlock'"),
        ("die", {"target": []}, "no state carries an empty list"),
        ("die", {"target": "six", "reward": "time"}, "there is no reward 'time'; the rewards are 'coin_flips'"),
        ("die", {"avoid": "six"}, "avoid='six' needs target="),
        ("die", {"target": "six", "avoid": "seven"}, "there is no label 'seven'"),
        ("die", {"discount": 0.5, "criterion": Discounted(0.5)}, "exactly one of discount"),
        (
            "firewire_3",
            {},
            r"say what to optimise: reward=\.\.\. \(there are 'time', 'time_sending'\), or target=\.\.\. \(labels: 'deadlock'",
        ),
    ],
)
def test_a_question_that_does_not_fit_is_refused_with_what_there_is(name, question, message):
    with pytest.raises(ModelError, match=message):
        MDP.from_umb(DATA / f"{name}.umb", **question)


@settings(deadline=None, max_examples=40)
@given(
    strategies.discounted_mdps()
    | strategies.finite_horizon_mdps()
    | strategies.total_reward_mdps()
    | strategies.average_reward_mdps()
    | strategies.reachability_mdps()
)
def test_a_model_written_and_read_has_the_same_fingerprint(tmp_path_factory, model):
    path = tmp_path_factory.getbasetemp() / "model.umb"
    model.to_umb(path)
    again = MDP.from_umb(path)
    assert again.fingerprint == model.fingerprint
    assert np.array_equal(again.initial, model.initial) if model.initial is not None else again.initial is None


def named() -> MDP:
    return MDP(
        state_ptr=np.array([0, 2, 3, 3]),
        row_ptr=np.array([0, 2, 3, 4]),
        successor=np.array([0, 1, 2, 0]),
        probability=np.array([0.25, 0.75, 1.0, 1.0]),
        reward=np.array([1.0, 2.0, 3.0]),
        criterion=TotalReward(),
        terminal=np.array([False, False, True]),
        terminal_value=np.array([0.0, 0.0, 5.0]),
        initial=np.array([0.3, 0.7, 0.0]),
        labels={"Goal / 1": np.array([False, False, True]), "label-0": np.array([True, False, True]), "äöü": np.zeros(3, bool)},
        action_names=["stay", "leave", "stay"],
    )


def test_names_labels_and_an_uneven_initial_distribution_come_back(tmp_path):
    named().to_umb(tmp_path / "x.umb")
    again = MDP.from_umb(tmp_path / "x.umb")
    assert again.action_names == named().action_names
    assert list(again.initial) == [0.3, 0.7, 0.0]
    assert set(again.labels) == set(named().labels)
    assert all(np.array_equal(states, again.labels[name]) for name, states in named().labels.items())


def test_a_label_called_terminal_keeps_its_own_meaning(tmp_path):
    model = named().replace(labels={"terminal": np.array([True, False, False])})
    model.to_umb(tmp_path / "x.umb")
    again = MDP.from_umb(tmp_path / "x.umb")
    assert again.fingerprint == model.fingerprint
    assert {name: states.tolist() for name, states in again.labels.items()} == {"terminal": [True, False, False]}


def test_our_own_file_can_be_asked_other_questions(tmp_path):
    named().to_umb(tmp_path / "x.umb")
    assert MDP.from_umb(tmp_path / "x.umb", 0.5).criterion == Discounted(0.5)
    reached = MDP.from_umb(tmp_path / "x.umb", target="terminal")
    assert (reached.reward == 0).all()
    assert reached.terminal_value.tolist() == [0, 0, 1]


def test_arrival_in_a_terminal_state_pays_its_value_for_other_readers(tmp_path):
    named().to_umb(tmp_path / "x.umb")
    model = MDP.from_umb(tmp_path / "x.umb", reward="reward", target="terminal")
    assert model.reward.tolist() == [1, 7, 3]


def test_writing_twice_gives_the_same_bytes(tmp_path):
    for name in ("x.umb", "y.umb"):
        named().to_umb(tmp_path / name)
    assert (tmp_path / "x.umb").read_bytes() == (tmp_path / "y.umb").read_bytes()


def test_umbi_reads_and_validates_what_we_write(tmp_path):
    named().to_umb(tmp_path / "x.umb")
    explicit = umbi.umb.read(tmp_path / "x.umb", strict=True)
    assert explicit.branch_to_probability == [0.25, 0.75, 1.0, 1.0, 1.0]
    ats = umbi.ats.read(tmp_path / "x.umb")
    assert (ats.num_states, ats.num_choices, ats.num_branches) == (3, 4, 5)
    assert next(choice.action for choice in ats.choices) == 0


def test_storm_finds_our_value_in_what_we_write(tmp_path):
    stormpy = pytest.importorskip("stormpy")
    exact = {"die": 11 / 3, "consensus_2_2": 75.0, "csma_2_2": 227630345357 / 3221225472}
    for name, target in (("die", "done"), ("consensus_2_2", "finished"), ("csma_2_2", "all_delivered")):
        reward = {"die": "coin_flips", "consensus_2_2": "steps", "csma_2_2": "time"}[name]
        model = MDP.from_umb(DATA / f"{name}.umb", target=target, reward=reward)
        model.to_umb(tmp_path / f"{name}.umb")
        assert storm_value(stormpy, tmp_path / f"{name}.umb", 'R{"reward"}max=? [C]') == pytest.approx(exact[name], rel=1e-5)


def test_storm_finds_reachability_in_the_terminal_values_we_write(tmp_path):
    stormpy = pytest.importorskip("stormpy")
    model = MDP.from_umb(DATA / "consensus_2_2.umb", target=["finished", "all_coins_equal_1"], criterion=LEAST)
    model.to_umb(tmp_path / "x.umb")
    assert storm_value(stormpy, tmp_path / "x.umb", 'Pmin=? [F "terminal"]') == pytest.approx(49 / 128, rel=1e-5)


@pytest.mark.parametrize("name", ["die", "two_dice", "consensus_2_2", "csma_2_2"])
def test_our_reading_is_storms_own_matrix(name):
    stormpy = pytest.importorskip("stormpy")
    storm = stormpy.build_model_from_umb(str(DATA / f"{name}.umb"))
    model = MDP.from_umb(DATA / f"{name}.umb", 0.9)
    entries = [
        (row, entry.column, entry.value) for row in range(storm.nr_choices) for entry in storm.transition_matrix.get_row(row)
    ]
    matrix = model.to_sparse()[0].tocoo()
    assert list(zip(*(part.tolist() for part in (*matrix.coords, matrix.data)), strict=True)) == entries


def storm_value(stormpy, path: Path, question: str) -> float:
    storm = stormpy.build_model_from_umb(str(path))
    found = stormpy.model_checking(storm, stormpy.parse_properties(question)[0])
    return found.get_value(storm.initial_states[0])


def test_rationals_become_the_nearest_floats(tmp_path):
    ats = chain([Fraction(1, 3), Fraction(2, 3)])
    umbi.ats.write(ats, tmp_path / "x.umb")
    model = MDP.from_umb(tmp_path / "x.umb", target="goal")
    assert model.probability.tolist() == [1 / 3, 2 / 3]


def test_rationals_of_many_digits_become_the_nearest_floats(tmp_path):
    big = 10**18 + 9
    umbi.ats.write(chain([Fraction(big // 3, big), 1 - Fraction(big // 3, big)]), tmp_path / "x.umb")
    model = MDP.from_umb(tmp_path / "x.umb", target="goal")
    assert model.probability[0] == float(Fraction(big // 3, big))


def chain(probabilities, **changes) -> umbi.ats.ExplicitAts:
    """State 0 goes to 0, 1, ... with these probabilities; the others stay; the last is the goal."""
    ats = umbi.ats.ExplicitAts()
    ats.num_players = 1
    for state in range(len(probabilities)):
        ats.add_state()
        choice = ats.add_state_choice(state)
        for target, p in enumerate(probabilities) if state == 0 else [(state, type(probabilities[0])(1))]:
            choice.add_branch(target=target, prob=p)
    ats.set_initial_states([0])
    ats.add_ap_annotation(name="goal").set_state_values([state == len(probabilities) - 1 for state in ats.states])
    for name, value in changes.items():
        setattr(ats, name, value)
    return ats


def test_state_choice_and_branch_rewards_add_up_to_the_expected_reward(tmp_path):
    ats = chain([0.25, 0.75])
    reward = ats.add_reward_annotation(name="cost")
    reward.set_state_values([1.0, 2.0])
    reward.set_choice_values([10.0, 20.0])
    reward.set_branch_values([100.0, 200.0, 300.0])
    umbi.ats.write(ats, tmp_path / "x.umb")
    assert MDP.from_umb(tmp_path / "x.umb", 0.5).reward.tolist() == [1 + 10 + 25 + 150, 2 + 20 + 300]


def test_several_initial_states_are_equally_likely(tmp_path):
    ats = chain([0.5, 0.5])
    ats.set_initial_states([0, 1])
    umbi.ats.write(ats, tmp_path / "x.umb")
    assert MDP.from_umb(tmp_path / "x.umb", target="goal").initial.tolist() == [0.5, 0.5]


def test_a_state_without_choices_ends_the_process_and_is_worth_nothing(tmp_path):
    ats = chain([0.5, 0.25, 0.25])
    ats.remove_choice(ats.get_state_choices(1)[0])
    umbi.ats.write(ats, tmp_path / "x.umb")
    model = MDP.from_umb(tmp_path / "x.umb", target="goal")
    assert model.terminal.tolist() == [False, True, True]
    assert model.terminal_value.tolist() == [0, 0, 1]


@pytest.mark.parametrize(
    ("system", "message"),
    [
        ({"time": "stochastic"}, "its time is stochastic, as in CTMC"),
        ({"time": "urgent-stochastic"}, "its time is urgent-stochastic"),
        ({"#players": 2, "player-names": ["a", "b"]}, "a game of 2 players"),
        ({"#observations": 4, "observations-apply-to": "states"}, "partially observed, with 4 observations"),
        ({"branch-probability-type": {"type": "double-interval", "size": 128}}, "its probabilities are intervals"),
    ],
)
def test_what_an_mdp_cannot_represent_is_named(tmp_path, system, message):
    with pytest.raises(FileFormatError, match=rf"x\.umb: .*{message}"):
        MDP.from_umb(repacked(tmp_path, system=system), target="six")


def members(name: str = "die") -> dict[str, bytes]:
    with tarfile.open(DATA / f"{name}.umb") as archive:
        return {info.name: archive.extractfile(info).read() for info in archive.getmembers() if info.isfile()}


def pack(path: Path, files: dict[str, bytes], compress=gzip.compress) -> Path:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    path.write_bytes(compress(buffer.getvalue()))
    return path


def repacked(folder: Path, system=None, index=None, compress=gzip.compress, **files) -> Path:
    """die.umb with entries of its index, or whole members, replaced; None drops a member."""
    content = members()
    told = json.loads(content["index.json"])
    told["transition-system"] |= system or {}
    content["index.json"] = json.dumps(told | (index or {})).encode()
    changed = content | {name.replace("__", "-") + ".bin": data for name, data in files.items()}
    return pack(folder / "x.umb", {name: data for name, data in changed.items() if data is not None}, compress)


@pytest.mark.parametrize("compress", [gzip.compress, lzma.compress, bytes], ids=["gzip", "xz", "plain"])
def test_every_compression_of_the_format_is_read(tmp_path, compress):
    path = repacked(tmp_path, compress=compress)
    assert MDP.from_umb(path, target="six").fingerprint == MDP.from_umb(DATA / "die.umb", target="six").fingerprint


def test_types_without_a_size_have_the_default_one(tmp_path):
    path = repacked(tmp_path, system={"branch-probability-type": {"type": "double"}})
    assert MDP.from_umb(path, target="six").n_states == 13


HUGE = 2**62
TWIN = {"alias": "twin", "applies-to": ["states"], "type": {"type": "bool", "size": 1}}


@pytest.mark.parametrize(
    ("forged", "message"),
    [
        ({"system": {"#states": HUGE}}, "x.umb"),
        ({"system": {"#states": 12}}, "x.umb"),
        ({"system": {"#choices": HUGE}}, "choice-to-branches.bin has 112 bytes; the index asks for"),
        ({"system": {"#branches": HUGE}}, "branch-to-target.bin has 160 bytes; the index asks for"),
        ({"system": {"#branches": HUGE}, "branch__to__target": None}, "branch-to-target.bin is missing"),
        (
            {"system": {"#branches": HUGE, "#choices": HUGE, "#states": HUGE}, "choice__to__branches": None},
            "the index asks for",
        ),
        ({"system": {"#branches": -1}}, "x.umb"),
        ({"system": {"#states": "many"}}, "x.umb"),
        ({"system": {"#initial-states": 2}}, "1 states are initial, but the index says 2"),
        ({"system": {"#choice-actions": HUGE}}, "x.umb"),
        ({"system": {"#choice-actions": 5}}, "string-mapping.bin has 16 bytes"),
        (
            {"system": {"branch-probability-type": {"type": "rational", "size": 2**31}}},
            "branch-to-probability.bin has 160 bytes",
        ),
        ({"system": {"branch-probability-type": {"type": "rational", "size": 2}}}, "no number of a whole count of words"),
        ({"system": {"branch-probability-type": {"type": "bool"}}}, "x.umb"),
        ({"system": {"branch-probability-type": None}}, "x.umb"),
        ({"index": {"format-version": 2}}, "of UMB format 2"),
        ({"index": {"annotations": {"aps": 3}}}, "x.umb"),
        ({"index": {"transition-system": {}}}, "x.umb"),
        ({"index": {"annotations": {"aps": dict.fromkeys("ab", TWIN)}}}, "two of its aps have the same name"),
        ({"branch__to__probability": None}, "branch-to-probability.bin is missing"),
        ({"branch__to__probability": b""}, "branch-to-probability.bin has 0 bytes"),
        ({"branch__to__target": np.full(20, 13, dtype="<u8").tobytes()}, "branch 0 leads to state 13, but there are 13"),
        ({"branch__to__target": np.full(20, 2**63, dtype="<u8").tobytes()}, "more than one model may have"),
        ({"branch__to__target": bytes(168)}, "branch-to-target.bin has 168 bytes; the index asks for 160"),
        ({"choice__to__branches": np.arange(14, dtype="<u8")[::-1].tobytes()}, "does not rise from 0 to 20"),
        ({"state__is__initial": b"\x01"}, "state-is-initial.bin has 1 bytes; the index asks for 8"),
        ({"state__to__choices": np.arange(13, dtype="<u8").tobytes()}, "state-to-choices.bin has 104 bytes"),
        ({"state__to__choices": np.array([0] * 12 + [0, 13], dtype="<u8").tobytes()}, "a Markov chain has a state with more"),
        ({"actions/choices/values": np.full(13, 9, dtype="<u4").tobytes()}, "choice 0 has action 9, but there are 1"),
    ],
)
def test_a_file_that_lies_is_refused_naming_the_member(tmp_path, forged, message):
    with pytest.raises(FileFormatError, match=f"x\\.umb: not a UMB model that can be read .*{message.removeprefix('x.umb')}"):
        MDP.from_umb(repacked(tmp_path, **forged), target="six")


@pytest.mark.parametrize(
    ("probability", "message"),
    [
        (np.nan, "the probability to state 1 is nan"),
        (-0.5, r"the probability to state 1 is -0\.5"),
        (0.25, r"the probabilities sum to 0\.75"),
    ],
)
def test_numbers_that_are_no_model_are_refused_naming_file_and_state(tmp_path, probability, message):
    numbers = np.frombuffer(members()["branch-to-probability.bin"]).copy()
    numbers[0] = probability
    with pytest.raises(ModelError, match=rf"x\.umb: state 0, action 0: {message}"):
        MDP.from_umb(repacked(tmp_path, branch__to__probability=numbers.tobytes()), target="six")


def test_a_file_cut_anywhere_is_refused(tmp_path):
    for compress in (gzip.compress, lzma.compress):
        content = repacked(tmp_path, compress=compress).read_bytes()
        for length in range(0, len(content), 5):
            (tmp_path / "cut.umb").write_bytes(content[:length])
            with pytest.raises(FileFormatError, match=r"cut\.umb"):
                MDP.from_umb(tmp_path / "cut.umb", target="six")


def test_a_plain_archive_cut_anywhere_before_its_end_mark_is_refused(tmp_path):
    content = repacked(tmp_path, compress=bytes).read_bytes()
    for length in range(0, len(content.rstrip(b"\0")), 251):
        (tmp_path / "cut.umb").write_bytes(content[:length])
        with pytest.raises(FileFormatError, match=r"cut\.umb"):
            MDP.from_umb(tmp_path / "cut.umb", target="six")


@settings(deadline=None, max_examples=150)
@given(data=st.data())
def test_damaged_bytes_raise_nothing_but_our_errors(tmp_path_factory, data):
    folder = tmp_path_factory.getbasetemp()
    content = bytearray(repacked(folder, compress=bytes).read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    (folder / "damaged.umb").write_bytes(content)
    try:
        MDP.from_umb(folder / "damaged.umb", target="six")
    except (FileFormatError, ModelError) as fault:
        assert "damaged.umb" in str(fault)  # noqa: PT017


def refused(path: Path, message: str) -> int:
    """Peak of the memory that the refusal took, in bytes."""
    tracemalloc.start()
    try:
        with pytest.raises(FileFormatError, match=message):
            MDP.from_umb(path, target="six")
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("compress", [lambda data: gzip.compress(data, 9), lambda data: lzma.compress(data, preset=0)])
def test_a_bomb_is_refused_within_its_limit(tmp_path, compress, monkeypatch):
    monkeypatch.setattr("banach.mdp.storage.FREE_BYTES", 2**22)
    (tmp_path / "x.umb").write_bytes(compress(bytes(2**26)))
    assert refused(tmp_path / "x.umb", "unpack to more than") < 2**25


def test_a_member_larger_than_its_archive_is_refused(tmp_path):
    content = bytearray(repacked(tmp_path, compress=bytes).read_bytes())
    header = tarfile.TarInfo("index.json")
    header.size = 2**40
    content[:512] = header.tobuf(tarfile.GNU_FORMAT)
    (tmp_path / "x.umb").write_bytes(content)
    assert refused(tmp_path / "x.umb", r"x\.umb") < 2**24


def test_an_extended_header_larger_than_its_archive_is_refused(tmp_path):
    header = tarfile.TarInfo("x")
    header.type, header.size = tarfile.XHDTYPE, 2**40
    (tmp_path / "x.umb").write_bytes(header.tobuf(tarfile.GNU_FORMAT) + repacked(tmp_path, compress=bytes).read_bytes())
    assert refused(tmp_path / "x.umb", r"x\.umb") < 2**24


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE, tarfile.GNUTYPE_SPARSE])
def test_links_devices_and_sparse_members_are_refused(tmp_path, kind):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        info = tarfile.TarInfo("index.json")
        info.type, info.linkname = kind, "/etc/passwd"
        archive.addfile(info)
    (tmp_path / "x.umb").write_bytes(buffer.getvalue())
    refused(tmp_path / "x.umb", r"x\.umb")


def test_a_member_given_twice_is_refused(tmp_path):
    files = members()
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name in ("index.json", "index.json"):
            info = tarfile.TarInfo(name)
            info.size = len(files[name])
            archive.addfile(info, io.BytesIO(files[name]))
    (tmp_path / "x.umb").write_bytes(buffer.getvalue())
    refused(tmp_path / "x.umb", "'index.json' is there twice")


@pytest.mark.parametrize(
    ("index", "message"),
    [
        (b"[" * 100_000, "recursion"),
        (b"[]", "no JSON object"),
        (b"\xff\xfe", r"x\.umb"),
        (b"", r"x\.umb"),
        (b'{"a": 1e999}', r"x\.umb"),
    ],
)
def test_an_index_that_is_none_is_refused(tmp_path, index, message):
    refused(pack(tmp_path / "x.umb", members() | {"index.json": index}), message)


def test_an_index_that_is_too_large_is_refused(tmp_path):
    refused(pack(tmp_path / "x.umb", members() | {"index.json": b" " * (2**22 + 1)}, bytes), "index.json has 4194305 bytes")


def test_labels_by_the_million_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("banach.mdp.goal.MAX_LABEL_BYTES", 100)
    refused(repacked(tmp_path), "8 labels of 13 states would take 104 bytes")


def test_what_is_no_archive_is_refused(tmp_path):
    (tmp_path / "x.umb").write_bytes(b"PK\x03\x04" + bytes(3000))
    refused(tmp_path / "x.umb", r"x\.umb")


def test_a_missing_file_is_named(tmp_path):
    refused(tmp_path / "x.umb", r"x\.umb: no such file")


def test_a_file_of_ours_with_forged_parameters_is_refused(tmp_path):
    named().to_umb(tmp_path / "ours.umb")
    with tarfile.open(tmp_path / "ours.umb") as archive:
        files = {info.name: archive.extractfile(info).read() for info in archive.getmembers()}
    index = json.loads(files["index.json"])
    plain = index["file-data"]["parameters"]
    for change in (
        {"criterion": {"name": "exec"}},
        {"criterion": {"name": "Discounted", "discount": 2.0}},
        {"terminal": "nowhere"},
        {"reward": ["reward"]},
        {"terminal_value": "nothing"},
        {"initial": [[9], [1.0]]},
        {"initial": [[0, 1], [1.0]]},
        {"initial": "x"},
    ):
        index["file-data"]["parameters"] = plain | change
        path = pack(tmp_path / "x.umb", files | {"index.json": json.dumps(index).encode()})
        with pytest.raises((FileFormatError, ModelError), match=r"x\.umb"):
            MDP.from_umb(path)
