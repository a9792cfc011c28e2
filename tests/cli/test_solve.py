"""`banach solve`, `banach check` and `banach instances`: what they print, save and refuse."""

import json
import os
import signal
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from banach.cli import terminal
from banach.cli.main import main
from banach.mdp import MDP, instances
from banach.solvers import Certificate, check

DATA = Path(__file__).parents[1] / "data"


@pytest.fixture
def banach(capsys):
    """Runs the command; returns exit code, stdout and stderr."""

    def run(*words):
        try:
            code = main([str(word) for word in words])
        except SystemExit as left:
            code = left.code
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


@pytest.fixture
def document(banach):
    """Runs the command with --json and returns what it printed."""

    def run(*words):
        code, out, err = banach(*words, "--json")
        assert code == 0, err
        return json.loads(out)

    return run


def test_the_bracket_at_the_start_contains_the_exact_rational_value(document):
    facts = document("solve", "riverswim:discount=0.9")
    exact = document("solve", "riverswim:discount=0.9", "--eps", "1e-9")
    assert facts["initial"]["lower"] <= exact["initial"]["lower"] < exact["initial"]["upper"] <= facts["initial"]["upper"]


def test_howards_toymaker_is_worth_what_howard_printed(document):
    exact = instances.CATALOGUE["howard_toymaker"].answer()
    facts = document("solve", "howard_toymaker")
    assert Fraction(facts["initial"]["lower"]) <= exact <= Fraction(facts["initial"]["upper"])


def test_a_solve_says_method_reason_work_and_that_the_proof_holds(banach):
    code, out, err = banach("solve", "howard_toymaker")
    assert (code, err) == (0, "")
    for word in ("method", "sweeps", "proof", "holds", "in state 0"):
        assert word in out


def test_the_sense_can_be_turned_round(document):
    most = document("solve", "howard_toymaker")["initial"]["lower"]
    least = document("solve", "howard_toymaker", "--minimize")["initial"]["upper"]
    assert least < most


@pytest.mark.parametrize(
    ("words", "criterion"),
    [
        (["--discount", "0.5"], {"name": "Discounted", "discount": 0.5, "minimize": False}),
        (["--horizon", "3"], {"name": "FiniteHorizon", "horizon": 3, "discount": 1.0, "minimize": False}),
        (["--horizon", "3", "--discount", "0.5"], {"name": "FiniteHorizon", "horizon": 3, "discount": 0.5, "minimize": False}),
        (["--average-reward", "--minimize"], {"name": "AverageReward", "minimize": True}),
    ],
)
def test_the_words_name_the_criterion(document, words, criterion):
    assert document("solve", "howard_toymaker", *words)["criterion"] == criterion


def test_a_horizon_of_nothing_is_worth_nothing(document):
    facts = document("solve", "howard_toymaker", "--horizon", "0")
    assert facts["greatest"]["upper"] == facts["least"]["lower"] == 0


def test_a_method_and_its_settings_are_used(document):
    facts = document("solve", "riverswim", "--method", "modified-policy-iteration:sweeps=3")
    assert facts["method"] == "modified-policy-iteration:sweeps=3"


def test_taxi_of_gymnasium_is_solved_and_its_saved_proof_passes(document, tmp_path):
    proof = tmp_path / "taxi.npz"
    facts = document("solve", "gym:Taxi", "--discount", "0.99", "--save-certificate", proof)
    assert facts["states"] >= 500
    assert facts["certificate"] == str(proof)
    assert document("check", "gym:Taxi", proof, "--discount", "0.99")["proved"]


def test_nature_hinders_helps_and_reaches_further_where_she_is_let(document, tmp_path):
    """A forest whose rows may move by 0.4: the published value; the saved proof passes."""
    proof = tmp_path / "p.npz"
    worst = document("solve", "forest", "--robust", "l1:0.4", "--save-certificate", proof)
    assert worst["initial"]["lower"] <= 15.876 + 1e-9
    assert worst["initial"]["upper"] >= 15.876 - 1e-9
    assert document("check", "forest", proof, "--robust", "l1:0.4")["proved"]
    nominal = document("solve", "forest")["initial"]["lower"]
    best = document("solve", "forest", "--optimistic", "l1:0.4")["initial"]
    far = document("solve", "forest", "--optimistic", "l1:0.4", "--everywhere")["initial"]
    assert worst["initial"]["upper"] < nominal < best["lower"]
    assert best["upper"] < far["lower"]


def test_a_budget_for_all_actions_of_a_state_makes_policies_randomise(document, tmp_path):
    proof = tmp_path / "p.npz"
    asked = ("howard_toymaker", "--robust", "l1:0.6", "--rectangular", "s")
    found = document("solve", *asked, "--save-certificate", proof)
    assert document("check", asked[0], proof, *asked[1:])["proved"]
    assert found["nature"]["rectangular"] == "s"
    weights = found["initial_states"][0]["weights"]
    assert sum(weights.values()) == pytest.approx(1)
    assert len([weight for weight in weights.values() if weight > 0.01]) > 1
    apart = document("solve", *asked[:3])
    assert "weights" not in apart["initial_states"][0]
    assert apart["initial"]["upper"] <= found["initial"]["lower"] + 1e-5


def test_robust_costs_are_greater(document):
    nominal = document("solve", "machine_replacement")["initial"]["upper"]
    assert document("solve", "machine_replacement", "--robust", "l1:0.2")["initial"]["lower"] > nominal


def test_a_set_of_two_numbers_is_spelled_by_their_names(document):
    found = document("solve", "forest", "--robust", "cressie-read:order=2,radius=0.02")["initial"]
    same = document("solve", "forest", "--robust", "chi-square:0.04")["initial"]
    assert found["lower"] <= same["upper"]
    assert same["lower"] <= found["upper"]


def test_settings_reach_the_gymnasium_environment(document):
    slippery = document("solve", "gym:FrozenLake-v1", "--discount", "0.9")
    dry = document("solve", "gym:FrozenLake-v1:is_slippery=false", "--discount", "0.9")
    assert slippery["initial"]["upper"] < dry["initial"]["lower"]


def test_a_model_that_storm_wrote_is_solved_and_its_saved_proof_passes(document, tmp_path):
    words = (DATA / "die.umb", "--target", "done", "--reward", "coin_flips")
    proof = tmp_path / "die.npz"
    facts = document("solve", *words, "--save-certificate", proof)
    assert Fraction(facts["initial"]["lower"]) <= Fraction(11, 3) <= Fraction(facts["initial"]["upper"])
    assert document("check", DATA / "die.umb", proof, *words[1:])["proved"]


def test_a_saved_model_is_the_named_instance(document, tmp_path):
    path = tmp_path / "toys.npz"
    document("instances", "howard_toymaker:discount=0.7", "--save", path)
    assert MDP.load(path).fingerprint == instances.make("howard_toymaker:discount=0.7").fingerprint
    assert document("solve", path)["fingerprint"] == document("solve", "howard_toymaker:discount=0.7")["fingerprint"]


def test_the_bracket_of_a_random_start_contains_the_mean_of_every_vector_between_the_bounds(document, tmp_path):
    rng = np.random.default_rng(3)
    initial = rng.dirichlet(np.ones(50))
    model = instances.make("garnet:states=50").replace(initial=initial)
    path, proof = tmp_path / "model.npz", tmp_path / "proof.npz"
    model.save(path)
    facts = document("solve", path, "--save-certificate", proof)
    certificate = Certificate.load(proof)
    weights = [Fraction(p) for p in initial.tolist()]
    for end, vector, beyond in (("lower", certificate.lower, -1), ("upper", certificate.upper, 1)):
        exact = sum(p * Fraction(v) for p, v in zip(weights, vector.tolist(), strict=True))
        assert 0 <= beyond * (Fraction(facts["initial"][end]) - exact) <= Fraction(1e-12)


def test_the_saved_certificate_is_the_one_that_was_checked(document, tmp_path):
    proof = tmp_path / "proof.npz"
    document("solve", "howard_toymaker", "--save-certificate", proof)
    assert check(instances.make("howard_toymaker"), Certificate.load(proof))


@pytest.mark.parametrize("field", ["lower", "upper"])
def test_a_corrupted_certificate_is_refused_in_one_line(banach, tmp_path, field):
    model, proof = instances.make("riverswim"), tmp_path / "proof.npz"
    banach("solve", "riverswim", "--save-certificate", proof)
    good = Certificate.load(proof)
    vectors = {"lower": good.lower.copy(), "upper": good.upper.copy()}
    vectors[field][2] += 1.0 if field == "lower" else -1.0
    Certificate(vectors["lower"], vectors["upper"], good.policy, model).save(proof)
    code, out, err = banach("check", "riverswim", proof)
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert "state 2" in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["solve", "nowhere"], "no instance 'nowhere'"),
        (["solve", "garnet:stats=3"], "did you mean states"),
        (["solve", "missing.npz"], "missing.npz: no such file"),
        (["solve", "missing.umb"], "missing.umb: no such file"),
        (["solve", "riverswim", "--eps", "0"], "must be a positive number"),
        (["solve", "riverswim", "--eps", "1e-300"], "asked for 1e-300"),
        (["solve", "riverswim", "--discount", "1"], "discount 1 has no discounted value"),
        (["solve", "riverswim", "--discount", "nan"], "is not a number in"),
        (["solve", "riverswim", "--horizon", "-1"], "horizon -1"),
        (["solve", "riverswim", "--horizon", "3", "--total-reward"], "--horizon and --total-reward ask for different things"),
        (["solve", "riverswim", "--target", "goal"], "ask something of a .umb or .tra file"),
        (["solve", "forest", "--robust", "ball:1"], "no ambiguity set is called 'ball'"),
        (["solve", "forest", "--robust", "l1:wide"], "'wide' is no number"),
        (["solve", "forest", "--robust", "cressie-read:1"], "given by radius and order"),
        (["solve", "forest", "--robust", "l1:-1"], "radius -1"),
        (["solve", "forest", "--robust", "l2:0.1", "--rectangular", "s"], "no s-rectangular solver"),
        (["solve", "forest", "--rectangular", "s"], "add --robust SET"),
        (["solve", "forest", "--robust", "l1:1", "--optimistic", "l1:1"], "give one of them"),
        (["solve", "forest", "--everywhere"], "add --robust SET"),
        (["solve", "gym:Taxi"], "does not say what to optimise"),
        (["solve", "gym:Nothing-v0", "--discount", "0.9"], "Nothing"),
        (["solve", "gym:CartPole-v1", "--discount", "0.9"], "no table"),
        (["solve", "gym:FrozenLake-v1:shape=round", "--discount", "0.9"], "shape"),
        (["solve", "riverswim", "--save-certificate", "/nowhere/proof.npz"], "No such file or directory"),
        (["check", "riverswim", "missing.npz"], "missing.npz: no such file"),
        (["instances", "--save", "x.npz"], "--save needs the NAME"),
        (["solve"], "required: MODEL; see banach solve --help"),
        (["dance"], "invalid choice: 'dance'"),
        (["solve", "riverswim", "--eps", "small"], "invalid float value"),
    ],
)
def test_an_error_is_one_line_on_stderr_and_exit_code_2(banach, words, message):
    code, out, err = banach(*words)
    assert (code, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1


def test_the_instances_are_listed_with_their_titles(banach, document):
    out = banach("instances")[1]
    assert len(out.splitlines()) == len(instances.CATALOGUE)
    assert {row["name"] for row in document("instances")["instances"]} == set(instances.CATALOGUE)


def test_an_instance_tells_parameters_source_and_exact_value(banach, document):
    assert "2020/91" in banach("instances", "howard_toymaker")[1]
    facts = document("instances", "howard_toymaker:discount=0.5")
    assert facts["parameters"] == {"discount": 0.5}
    assert facts["exact"] == str(instances.CATALOGUE["howard_toymaker"].answer(discount=0.5))


@pytest.mark.parametrize("words", [[], ["solve"], ["check"], ["instances"]])
def test_help_teaches_with_examples(banach, words):
    code, out, _ = banach(*words, "--help")
    assert code == 0
    assert "examples:" in out


def test_an_interrupted_solve_says_so_exits_130_and_leaves_no_file(banach, tmp_path, monkeypatch):
    @contextmanager
    def interrupting(_):
        yield lambda *_: signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(terminal, "bracket_progress", interrupting)
    code, out, err = banach("solve", "riverswim:states=1000", "--save-certificate", tmp_path / "proof.npz")
    assert (code, out, err) == (130, "", "banach: interrupted\n")
    assert os.listdir(tmp_path) == []
