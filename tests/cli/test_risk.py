"""`banach risk`: what it prints, proves and refuses."""

import json

import numpy as np
import pytest
from banach.cli.main import main
from banach.mdp import MDP, FiniteHorizon, instances
from banach.mdp.outcome import OutcomeMDP
from banach.solvers import cvar_bracket, optimal_cvar


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


def test_it_says_interval_policy_proof_and_histogram(banach):
    code, out, err = banach("risk", "machine_ten", "--cvar", "0.1", "--points", "400", "--episodes", "500")
    assert (code, err) == (0, "")
    assert "10 states, rewards by outcome" in out
    assert "mean of the worst 10 %  [-" in out
    assert "the best of all policies from state 0" in out
    assert "proof                   holds: " in out
    assert "first action 0; begins with stock " in out
    assert out.count("\n") == 7 + 12
    assert "########################################" in out


def test_the_document_holds_the_same_interval_as_the_library(banach):
    words = ("risk", "machine_ten:discount=0.8", "--cvar", "0.25", "--points", "300", "--episodes", "200", "--json")
    facts = json.loads(banach(*words)[1])
    model = OutcomeMDP(*instances.with_outcomes("machine_ten", discount=0.8))
    found = cvar_bracket(model, 0.25, points=300)
    assert facts["cvar"] == {"lower": found.lower, "upper": found.upper}
    assert facts["fingerprint"] == model.fingerprint
    assert facts["policy"]["stock"] == -found.at
    assert facts["risk_neutral"]["lower"] <= facts["cvar"]["upper"]
    assert sum(facts["sampled"]["counts"]) == 200
    low, high = model.returns_within()
    again = found.stock.returns(0, -found.at, 200, np.random.default_rng(0), eps=1e-3 * (high - low))
    assert facts["sampled"]["mean"] == again.mean()
    assert facts["proof"]["holds"]
    assert json.loads(banach(*words)[1])["sampled"] == facts["sampled"]  # equal seeds, equal samples


def test_the_exact_optimum_over_a_horizon_lies_in_the_printed_interval(banach, tmp_path):
    problem = instances.riverswim(discount=1).replace(criterion=instances.riverswim().criterion)
    problem.save(tmp_path / "river.npz")
    words = ("risk", tmp_path / "river.npz", "--horizon", "4", "--discount", "1", "--cvar", "0.5", "--state", "4", "--json")
    facts = json.loads(banach(*words, "--points", "500", "--episodes", "10")[1])
    loaded = MDP.load(tmp_path / "river.npz")
    assert facts["rewards"] == "expected, earned for certain"
    exact = optimal_cvar(loaded.replace(criterion=FiniteHorizon(4)), 0.5, state=4).value
    assert facts["cvar"]["lower"] <= exact <= facts["cvar"]["upper"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("risk", "riverswim", "--cvar", "1.5"), "level is 1.5"),
        (("risk", "riverswim", "--cvar", "0.5", "--state", "6"), "--state 6 is not one of 0..5"),
        (("risk", "riverswim", "--cvar", "0.5", "--episodes", "0"), "at least one"),
        (("risk", "riverswim", "--cvar", "0.5", "--robust", "l1:0.1"), "nature"),
        (("risk", "riverswim", "--cvar", "0.5", "--average-reward"), "finite-horizon"),
        (("risk", "riverswim", "--cvar", "0.5", "--minimize"), "negated"),
        (("risk", "riverswim"), "required: --cvar"),
    ],
)
def test_what_makes_no_sense_is_told_in_one_line(banach, words, said):
    code, out, err = banach(*words)
    assert (code, out) == (2, "")
    assert said in err
    assert err.count("\n") == 1
