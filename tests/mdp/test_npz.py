"""The library's own files: what goes in comes out, and nothing else gets in."""

import io
import json
import pickle
import tracemalloc
import zipfile

import numpy as np
import pytest
from banach.mdp import MDP, AverageReward, Discounted, FileFormatError, FiniteHorizon, ModelError, TotalReward, strategies
from banach.mdp.storage import write_arrays
from hypothesis import given, settings
from hypothesis import strategies as st


def small(criterion=None) -> MDP:
    return MDP(
        state_ptr=np.array([0, 2, 3, 3]),
        row_ptr=np.array([0, 2, 3, 4]),
        successor=np.array([0, 1, 2, 0]),
        probability=np.array([0.25, 0.75, 1.0, 1.0]),
        reward=np.array([1.0, 2.0, 3.0]),
        criterion=criterion or Discounted(0.9),
        terminal=np.array([False, False, True]),
        terminal_value=np.array([0.0, 0.0, 5.0]),
        initial=np.array([0.5, 0.5, 0.0]),
        labels={"goal": np.array([False, False, True]), "läuft/..\x00": np.array([True, True, False])},
        state_names=["home", "Straße", ""],
        action_names=["stay", "\ud800", "walk"],
    )


def same(left: MDP, right: MDP) -> bool:
    return (
        left.fingerprint == right.fingerprint
        and (left.initial is None) == (right.initial is None)
        and (left.initial is None or np.array_equal(left.initial, right.initial))
        and dict(left.labels).keys() == dict(right.labels).keys()
        and all(np.array_equal(states, right.labels[name]) for name, states in left.labels.items())
        and (left.state_names, left.action_names) == (right.state_names, right.action_names)
    )


def test_everything_comes_back(tmp_path):
    small().save(tmp_path / "model.npz")
    assert same(MDP.load(tmp_path / "model.npz"), small())


ANY = (
    strategies.discounted_mdps()
    | strategies.finite_horizon_mdps()
    | strategies.total_reward_mdps()
    | strategies.average_reward_mdps()
    | strategies.reachability_mdps()
)


@settings(deadline=None, max_examples=60)
@given(ANY)
def test_the_fingerprint_survives(tmp_path_factory, model):
    path = tmp_path_factory.mktemp("npz") / "model.npz"
    model.save(path)
    assert same(MDP.load(path), model)


@pytest.mark.parametrize(
    "criterion",
    [
        Discounted(0.1 + 0.2, minimize=True),
        FiniteHorizon(10**30, 1.0),
        FiniteHorizon(0, 0.0, minimize=True),
        TotalReward(minimize=True),
    ],
)
def test_every_criterion_comes_back_exactly(tmp_path, criterion):
    small(criterion).save(tmp_path / "model.npz")
    assert MDP.load(tmp_path / "model.npz").criterion == criterion


def test_average_reward_comes_back(tmp_path):
    model = MDP(np.array([0, 1]), np.array([0, 1]), np.array([0]), np.ones(1), np.ones(1), AverageReward())
    model.save(tmp_path / "model.npz")
    assert same(MDP.load(tmp_path / "model.npz"), model)


def test_a_file_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "model.npz"
    small().save(path)
    before = path.read_bytes()

    def fails(*_args, **_words):
        raise KeyboardInterrupt

    monkeypatch.setattr("banach.mdp.storage.npy.write_array", fails)
    with pytest.raises(KeyboardInterrupt):
        small(TotalReward()).save(path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["model.npz"]


def test_a_folder_in_the_way_leaves_nothing_behind(tmp_path):
    (tmp_path / "model.npz").mkdir()
    with pytest.raises(OSError, match=r"model\.npz"):
        small().save(tmp_path / "model.npz")
    assert [file.name for file in tmp_path.iterdir()] == ["model.npz"]


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileFormatError, match=r"nowhere\.npz: no such file"):
        MDP.load(tmp_path / "nowhere.npz")


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> bytes:
    path = tmp_path_factory.mktemp("saved") / "model.npz"
    small().save(path)
    return path.read_bytes()


def test_a_file_cut_anywhere_is_refused(tmp_path, saved):
    path = tmp_path / "cut.npz"
    for length in [*range(0, len(saved), 17), *range(len(saved) - 40, len(saved))]:
        path.write_bytes(saved[:length])
        with pytest.raises(FileFormatError, match=r"cut\.npz"):
            MDP.load(path)


@settings(deadline=None, max_examples=300)
@given(data=st.data())
def test_damaged_bytes_are_refused_or_harmless(tmp_path_factory, saved, data):
    path = tmp_path_factory.getbasetemp() / "damaged.npz"
    damaged = bytearray(saved)
    for _ in range(data.draw(st.integers(1, 3))):
        damaged[data.draw(st.integers(0, len(saved) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(damaged)
    try:
        model = MDP.load(path)
    except (FileFormatError, ModelError):
        return
    assert model.fingerprint == small().fingerprint


def npy(array, **words) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, np.asarray(array), **words)
    return buffer.getvalue()


HEADER = {"kind": "mdp", "format": 1, "criterion": {"name": "Discounted", "discount": 0.9, "minimize": False}, "labels": []}
PLAIN = {
    "state_ptr": np.array([0, 1], dtype=np.int32),
    "row_ptr": np.array([0, 1], dtype=np.int32),
    "successor": np.array([0], dtype=np.int32),
    "probability": np.ones(1),
    "reward": np.ones(1),
    "terminal": np.zeros(1, dtype=bool),
    "terminal_value": np.zeros(1),
}


def forge(path, header=None, raw=None, **arrays):
    """A file by hand. `header` replaces entries of the header, `raw` members by their bytes, None drops an array."""
    text = json.dumps(HEADER | (header or {})).encode()
    members = {"header": np.frombuffer(text, dtype=np.uint8)} | PLAIN | arrays
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, array in members.items():
            if array is not None:
                archive.writestr(f"{name}.npy", npy(array))
        for name, content in (raw or {}).items():
            archive.writestr(name, content)
    return path


def test_a_file_forged_rightly_is_read(tmp_path):
    assert MDP.load(forge(tmp_path / "x.npz")).n_states == 1


class Bomb:
    """Its unpickling would be noticed."""

    def __reduce__(self):
        return (exec, ("raise SystemExit('executed')",))


NPY = b"\x93NUMPY\x01\x00"


def npy_header(text: str) -> bytes:
    return NPY + len(text).to_bytes(2, "little") + text.encode()


@pytest.mark.parametrize(
    ("forged", "message"),
    [
        ({"reward": None}, "the model lacks 'reward'"),
        ({"surplus": np.ones(1)}, "unknown arrays surplus"),
        ({"header": {"kind": "certificate"}}, "holds a certificate, not a mdp"),
        ({"header": {"format": 2}}, "format 2; this version reads format 1"),
        ({"header": {"criterion": {"name": "Discounted"}}}, "discount"),
        ({"header": {"criterion": {"name": "Discounted", "discount": 1.5}}}, r"discount 1\.5 is not a number in \[0, 1\]"),
        ({"header": {"criterion": {"name": "Discounted", "discount": float("nan")}}}, "discount nan"),
        ({"header": {"criterion": {"name": "Discounted", "discount": "0.9"}}}, "discount='0.9'"),
        ({"header": {"criterion": {"name": "Discounted", "discount": 0.5, "minimize": 1}}}, "minimize=1"),
        ({"header": {"criterion": {"name": "Discounted", "discount": 0.5, "gain": 1}}}, "gain=1"),
        ({"header": {"criterion": {"name": "FiniteHorizon", "horizon": None}}}, "horizon=None"),
        ({"header": {"criterion": {"name": "FiniteHorizon", "horizon": -1}}}, "horizon -1"),
        ({"header": {"criterion": {"name": "os.system"}}}, "is no criterion"),
        ({"header": {"criterion": {"name": ["Discounted"]}}}, r"x\.npz"),
        ({"header": {"criterion": "Discounted(0.9)"}}, "is no criterion"),
        ({"header": {"criterion": None}}, "is no criterion"),
        ({"header": {"labels": ["goal"]}}, "the model lacks 'label_0'"),
        ({"header": {"labels": 3}}, r"x\.npz"),
        ({"header": {"labels": {}}, "label_0": np.zeros(1, dtype=bool)}, "unknown arrays label_0"),
        ({"state_names": np.zeros(2, dtype=np.uint8)}, "the model lacks 'state_names_ptr'"),
        ({"state_names": np.zeros(2, dtype=np.uint8), "state_names_ptr": np.array([0, 3])}, "offsets do not rise from 0 to 2"),
        ({"state_names": np.zeros(2, dtype=np.uint8), "state_names_ptr": np.array([], dtype=int)}, "bytes and their offsets"),
        ({"state_names": np.zeros(2), "state_names_ptr": np.array([0, 2])}, "bytes and their offsets"),
        ({"state_names": np.full(1, 255, dtype=np.uint8), "state_names_ptr": np.array([0, 1])}, "can't decode"),
        ({"raw": {"x.npy": npy(np.array([Bomb()], dtype=object), allow_pickle=True)}}, "only numbers are read"),
        ({"raw": {"x.npy": pickle.dumps(Bomb())}}, r"x\.npz"),
        ({"raw": {"x.npy": npy(np.array(["text"]))}}, "only numbers are read"),
        ({"raw": {"x.npy": npy(np.zeros(1, dtype=[("a", "f8")]))}}, "only numbers are read"),
        ({"raw": {"x.txt": b"hello"}}, "member 'x.txt' is not an array"),
        ({"raw": {"x.npy": b""}}, r"x\.npz"),
        ({"raw": {"x.npy": npy(np.zeros(3)) + b"more"}}, "truncated or too long"),
        ({"raw": {"x.npy": npy(np.zeros(3))[:-1]}}, "claims shape|truncated"),
        ({"raw": {"x.npy": b"\x93NUMPY\x03\x00" + b"\xff" * 64}}, "npy version"),
        (
            {"raw": {"x.npy": npy_header("{'descr': '<f8', 'fortran_order': False, 'shape': (999999999999,)}\n")}},
            "claims shape",
        ),
        (
            {"raw": {"x.npy": npy_header("{'descr': '<f8', 'fortran_order': False, 'shape': (-2, -1)}\n") + bytes(16)}},
            r"x\.npz",
        ),
        ({"raw": {"x.npy": npy_header("{'descr': '<f8', 'fortran_order': False, 'shape': (0, 10**30)}\n")}}, r"x\.npz"),
        ({"raw": {"x.npy": npy_header("__import__('os').system('true')\n")}}, r"x\.npz"),
        ({"raw": {"x.npy": npy_header("(" * 9000)}}, r"x\.npz"),
        ({"raw": {"x.npy": NPY + b"\xff\xff"}}, r"x\.npz"),
        (
            {"raw": {"x.npy": npy_header("{'descr': '|b1', 'fortran_order': False, 'shape': (1,)}\n") + b"\x02"}},
            "neither false nor true",
        ),
    ],
)
def test_a_file_that_is_not_what_it_says_is_refused(tmp_path, forged, message):
    with pytest.raises(FileFormatError, match=message):
        MDP.load(forge(tmp_path / "x.npz", **forged))


@pytest.mark.parametrize(
    ("forged", "message"),
    [
        ({"reward": np.full(1, np.nan)}, r"x\.npz: state 0, action 0: the reward is nan"),
        ({"probability": np.full(1, 0.5)}, r"probabilities sum to 0\.5"),
        ({"successor": np.array([7], dtype=np.int32)}, "successor 7 is not a state"),
        ({"successor": np.array([0.0])}, "successor holds float64"),
        ({"successor": np.array([2**40])}, "beyond"),
        ({"state_ptr": np.array([0, 2], dtype=np.int32)}, "state_ptr ends with 2"),
        ({"terminal": np.ones(1, dtype=bool)}, "state 0 is terminal but has actions"),
        ({"initial": np.array([np.inf])}, "initial of state 0 is inf"),
        ({"reward": np.ones((1, 1))}, "one-dimensional"),
    ],
)
def test_numbers_that_are_no_model_are_refused_naming_the_file_and_the_place(tmp_path, forged, message):
    with pytest.raises(ModelError, match=message):
        MDP.load(forge(tmp_path / "x.npz", **forged))


def test_arrays_of_another_byte_order_are_read(tmp_path):
    swapped = {name: array.astype(array.dtype.newbyteorder(">")) for name, array in PLAIN.items()}
    assert same(MDP.load(forge(tmp_path / "x.npz", **swapped)), MDP.load(forge(tmp_path / "y.npz")))


def peak_of_a_refusal(path, message) -> int:
    tracemalloc.start()
    try:
        with pytest.raises(FileFormatError, match=message):
            MDP.load(path)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def zeros_entry(archive: zipfile.ZipFile, name: str, gigabytes: float) -> None:
    block = bytes(2**24)
    with archive.open(name, "w", force_zip64=True) as member:
        member.write(npy_header(f"{{'descr': '<f8', 'fortran_order': False, 'shape': ({int(gigabytes * 2**27)},)}}\n"))
        for _ in range(int(gigabytes * 2**6)):
            member.write(block)


def test_a_bomb_is_refused_before_it_goes_off(tmp_path):
    path = forge(tmp_path / "x.npz", reward=None)
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        zeros_entry(archive, "reward.npy", 0.3)
    assert peak_of_a_refusal(path, "claims to unpack from") < 2**24


def test_a_directory_that_lies_about_sizes_costs_no_memory(tmp_path):
    path = forge(tmp_path / "x.npz")
    content = bytearray(path.read_bytes())
    place = content.rindex(b"PK\x01\x02")
    for offset in (20, 24):  # compressed and plain size in the central directory
        content[place + offset : place + offset + 4] = (2**31 - 1).to_bytes(4, "little")
    path.write_bytes(content)
    assert peak_of_a_refusal(path, "claims") < 2**24


def test_a_header_that_is_too_large_is_refused(tmp_path):
    path = tmp_path / "x.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        text = "{'descr': '|u1', 'fortran_order': False, 'shape': (70000000,)}\n"
        archive.writestr("header.npy", npy_header(text) + bytes(70_000_000))
    with pytest.raises(FileFormatError, match="claims shape"):
        MDP.load(path)


def test_a_header_nested_without_end_is_refused(tmp_path):
    path = tmp_path / "x.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("header.npy", npy(np.frombuffer(b"[" * 200_000, dtype=np.uint8)))
    with pytest.raises(FileFormatError, match="no header"):
        MDP.load(path)


def test_a_header_that_is_no_object_is_refused(tmp_path):
    path = tmp_path / "x.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("header.npy", npy(np.frombuffer(b"[1]", dtype=np.uint8)))
    with pytest.raises(FileFormatError, match="no header"):
        MDP.load(path)


def test_two_members_of_one_name_are_refused(tmp_path):
    path = forge(tmp_path / "x.npz", raw={"y.npy": npy(np.ones(1)), "z.npy": npy(np.ones(1))})
    path.write_bytes(path.read_bytes().replace(b"z.npy", b"y.npy"))
    with pytest.raises(FileFormatError, match="of the same name"):
        MDP.load(path)


def test_a_numpy_archive_of_somebody_else_is_refused(tmp_path):
    np.savez(tmp_path / "x.npz", a=np.ones(3))
    with pytest.raises(FileFormatError, match="this is not a banach file"):
        MDP.load(tmp_path / "x.npz")


def test_a_pickle_in_place_of_a_file_is_not_executed(tmp_path):
    (tmp_path / "x.npz").write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(FileFormatError, match="not a readable mdp file"):
        MDP.load(tmp_path / "x.npz")


def test_many_zeros_in_a_small_file_are_still_read(tmp_path):
    n = 2_000_000
    path = tmp_path / "x.npz"
    arrays = {"state_ptr": np.arange(n + 1), "row_ptr": np.arange(n + 1), "successor": np.zeros(n), "probability": np.ones(n)}
    ints = {name: array.astype(np.int32) for name, array in arrays.items() if name != "probability"}
    MDP(**ints, probability=arrays["probability"], reward=np.zeros(n), criterion=Discounted(0.5)).save(path)
    assert MDP.load(path).n_states == n


def test_write_arrays_raises_when_the_folder_is_missing(tmp_path):
    with pytest.raises(OSError, match="missing"):
        write_arrays(tmp_path / "missing" / "x.npz", "mdp", {}, {})
