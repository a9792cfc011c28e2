"""Certificates on disk: what goes in comes out, nothing damaged or hostile gets in, and nothing half-written stays."""

import io
import json
import pickle
import tracemalloc
import zipfile

import numpy as np
import pytest
from banach.mdp import MDP, AverageReward, FileFormatError, FiniteHorizon, storage, strategies
from banach.solvers import Certificate, CertificateRejected, check, solve
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.lib import format as npy

battery = settings(deadline=None, max_examples=40, derandomize=True)
ANY = (
    strategies.discounted_mdps(max_states=4, minimize=st.booleans())
    | strategies.finite_horizon_mdps(max_states=4)
    | strategies.reachability_mdps(max_states=4)
    | strategies.average_reward_mdps(max_states=4)
)


def example(criterion=None) -> tuple[MDP, Certificate]:
    rng = np.random.default_rng(0)
    transition = rng.dirichlet(np.ones(4), size=(4, 2))
    reward = rng.normal(size=(4, 2))
    problem = MDP.from_dense(transition, reward, None if criterion else 0.9, criterion=criterion)
    return problem, solve(problem, eps=1e-4).certificate


def written(tmp_path, header: dict | bytes, **members: np.ndarray | bytes):
    """A zip with a header and members as given, raw bytes among them."""
    path = tmp_path / "c.npz"
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, member in {"header": np.frombuffer(text, dtype=np.uint8), **members}.items():
            buffer = io.BytesIO()
            if isinstance(member, np.ndarray):
                npy.write_array(buffer, member)
            else:
                buffer.write(member)
            archive.writestr(f"{name}.npy", buffer.getvalue())
    return path


def parts(certificate: Certificate) -> tuple[dict, dict[str, np.ndarray]]:
    header = {"kind": "certificate", "format": storage.FORMAT, "model": certificate.fingerprint}
    return header, {"lower": certificate.lower, "upper": certificate.upper, "policy": certificate.policy}


def npy_bytes(declared: str, data: bytes) -> bytes:
    text = declared.encode() + b" " * (-(len(declared) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + data


@given(problem=ANY)
@battery
def test_a_saved_certificate_comes_back_and_is_accepted(tmp_path_factory, problem):
    path = tmp_path_factory.mktemp("certificate") / "c.npz"
    certificate = solve(problem, eps=1e-4).certificate
    certificate.save(path)
    back = Certificate.load(path)
    assert back.fingerprint == problem.fingerprint
    for name in ("lower", "upper", "policy"):
        assert np.array_equal(getattr(back, name), getattr(certificate, name))
        assert getattr(back, name).dtype == getattr(certificate, name).dtype
    assert {name: vector.tolist() for name, vector in back.witness.items()} == {
        name: vector.tolist() for name, vector in certificate.witness.items()
    }
    assert check(problem, back)


def test_a_saved_certificate_is_refused_for_another_model(tmp_path):
    problem, certificate = example()
    certificate.save(tmp_path / "c.npz")
    with pytest.raises(CertificateRejected, match="speaks of model"):
        check(problem.replace(reward=problem.reward + 1), Certificate.load(tmp_path / "c.npz"))


def test_certificates_are_read_only(tmp_path):
    _, certificate = example()
    certificate.save(tmp_path / "c.npz")
    for each in (certificate, Certificate.load(tmp_path / "c.npz")):
        with pytest.raises(ValueError, match="read-only"):
            each.lower[0] = 0.0
        with pytest.raises(TypeError):
            each.witness["more"] = each.lower


@pytest.mark.parametrize("criterion", [None, FiniteHorizon(2), AverageReward()], ids=str)
def test_no_truncation_is_read(tmp_path, criterion):
    _, certificate = example(criterion)
    path = tmp_path / "c.npz"
    certificate.save(path)
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(FileFormatError, match=r"c\.npz"):
            Certificate.load(path)


def test_a_damaged_byte_is_noticed_or_changes_nothing(tmp_path):
    problem, certificate = example()
    path = tmp_path / "c.npz"
    certificate.save(path)
    whole, unnoticed = path.read_bytes(), 0
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x10]) + whole[place + 1 :])
        try:
            back = Certificate.load(path)
        except FileFormatError:
            continue
        assert all(np.array_equal(getattr(back, name), getattr(certificate, name)) for name in ("lower", "upper", "policy"))
        assert check(problem, back)
        unnoticed += 1
    assert unnoticed < 0.5 * len(whole)  # times and attributes in the zip's own records


class Bomb:
    def __reduce__(self):
        return (pytest.fail, ("a pickle was executed",))


def test_pickles_are_never_opened(tmp_path):
    _, certificate = example()
    header, arrays = parts(certificate)
    payload = pickle.dumps(np.array([Bomb()], dtype=object))
    declared = "{'descr': '|O', 'fortran_order': False, 'shape': (1,), }"
    path = written(tmp_path, header, **arrays | {"lower": npy_bytes(declared, payload)})
    with pytest.raises(FileFormatError, match=r"only numbers are read"):
        Certificate.load(path)
    path.write_bytes(payload)
    with pytest.raises(FileFormatError):
        Certificate.load(path)


@pytest.mark.parametrize("shape", ["(99999999999,)", "(4, 4)", "(-4,)", "(3,)", "(2**60, 2**60)", "(5,)"])
def test_shapes_that_lie_about_their_bytes_are_refused_without_their_memory(tmp_path, shape):
    _, certificate = example()
    header, arrays = parts(certificate)
    declared = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}"
    path = written(tmp_path, header, **arrays | {"lower": npy_bytes(declared, certificate.lower.tobytes())})
    tracemalloc.start()
    with pytest.raises(FileFormatError):
        Certificate.load(path)
    assert tracemalloc.get_traced_memory()[1] < 2**22
    tracemalloc.stop()


def test_a_zip_bomb_is_refused_without_its_memory(tmp_path):
    _, certificate = example()
    header, arrays = parts(certificate)
    path = written(tmp_path, header, **arrays | {"lower": np.zeros(40_000_000)})
    tracemalloc.start()
    with pytest.raises(FileFormatError):
        Certificate.load(path)
    assert tracemalloc.get_traced_memory()[1] < 2**22
    tracemalloc.stop()


HEADERS = {
    "not json": b"\xff{",
    "a list": b"[1, 2]",
    "null": b"null",
    "deeply nested": b"[" * 100_000,
    "no kind": {"format": storage.FORMAT, "model": "x"},
    "a checkpoint": {"kind": "checkpoint", "format": storage.FORMAT, "model": "x"},
    "another format": {"kind": "certificate", "format": storage.FORMAT + 1, "model": "x"},
    "no model": {"kind": "certificate", "format": storage.FORMAT},
}


@pytest.mark.parametrize("header", HEADERS)
def test_wrong_headers_are_refused(tmp_path, header):
    _, certificate = example()
    path = written(tmp_path, HEADERS[header], **parts(certificate)[1])
    with pytest.raises(FileFormatError, match=r"c\.npz"):
        Certificate.load(path)


def test_a_model_that_is_no_fingerprint_fits_no_problem(tmp_path):
    problem, certificate = example()
    header, arrays = parts(certificate)
    with pytest.raises(CertificateRejected, match="speaks of model"):
        check(problem, Certificate.load(written(tmp_path, header | {"model": {"a": 1}}, **arrays)))


@pytest.mark.parametrize("name", ["lower", "upper", "policy"])
def test_a_missing_array_is_named(tmp_path, name):
    _, certificate = example()
    header, arrays = parts(certificate)
    del arrays[name]
    with pytest.raises(FileFormatError, match=name):
        Certificate.load(written(tmp_path, header, **arrays))


@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("lower", np.full(4, np.nan)),
        ("lower", np.zeros((2, 2))),
        ("lower", np.array(1.0)),
        ("upper", np.zeros(4, dtype=np.int64)),
        ("upper", np.zeros(0)),
        ("policy", np.zeros(4)),
        ("policy", np.full(4, 2**62)),
        ("policy", np.zeros(4, dtype=bool)),
        ("policy", np.full(4, 2**64 - 1, dtype=np.uint64)),
        ("witness_extra", np.full(4, np.inf)),
    ],
    ids=lambda x: x if isinstance(x, str) else f"{x.dtype}{x.shape}",
)
def test_readable_files_with_arrays_that_do_not_fit_are_rejected_by_the_checker(tmp_path, name, array):
    problem, certificate = example()
    header, arrays = parts(certificate)
    forged = Certificate.load(written(tmp_path, header, **arrays | {name: array}))
    with pytest.raises(CertificateRejected):
        check(problem, forged)


def test_a_model_file_is_no_certificate_and_a_certificate_no_model(tmp_path):
    problem, certificate = example()
    problem.save(tmp_path / "m.npz")
    certificate.save(tmp_path / "c.npz")
    with pytest.raises(FileFormatError, match=r"holds a mdp, not a certificate"):
        Certificate.load(tmp_path / "m.npz")
    with pytest.raises(FileFormatError, match=r"holds a certificate, not a mdp"):
        MDP.load(tmp_path / "c.npz")


def test_places_without_a_file_are_refused(tmp_path):
    (tmp_path / "empty.npz").touch()
    for path in (tmp_path / "nothing.npz", tmp_path, tmp_path / "empty.npz"):
        with pytest.raises(FileFormatError):
            Certificate.load(path)


def test_a_save_that_fails_half_way_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    problem, certificate = example()
    path = tmp_path / "c.npz"
    certificate.save(path)
    before, calls = path.read_bytes(), []
    genuine = storage.npy.write_array

    def full(handle, array, **how):
        calls.append(array)
        if len(calls) == 3:
            raise OSError(28, "No space left on device")
        genuine(handle, array, **how)

    monkeypatch.setattr(storage.npy, "write_array", full)
    with pytest.raises(OSError, match="No space left"):
        solve(problem, eps=1e-2).certificate.save(path)
    assert path.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == ["c.npz"]


def test_saving_into_a_folder_that_does_not_exist_says_so(tmp_path):
    with pytest.raises(OSError, match="nowhere"):
        example()[1].save(tmp_path / "nowhere" / "c.npz")
