"""The losses that are trained are those of which the bounds speak: autograd's expectations against exact rationals."""

import numpy as np
import pytest
from banach.bounds.group_objectives import right_or_wrong, standardised
from banach.bounds.objective_divergences import token_loss_slope
from banach.bounds.policy_gradients import by_length
from banach.bounds.token_evidence import TokenEvidence
from banach.llm import Aggregation, Divergence, Given, ObjectiveSpec, PolicyGradient, objective
from banach.mdp.instances_token import tiny_enum, tool_turns
from flint import fmpq

from .exact_gradient import expected_gradient

SUM = Aggregation("sequence-mean-token-sum")
TINY = tiny_enum()
EVIDENCE = TokenEvidence(TINY)
RISING, MIXED = EVIDENCE.policies["rising"], EVIDENCE.policies["mixed"]


def floats(table):
    return np.array([[float(x.mid()) if hasattr(x, "mid") else float(x) for x in row] for row in table])


def logits(policy):
    return np.log(floats(policy))


@pytest.mark.parametrize(("name", "share"), [("rloo", 1.0), ("reinforce", 1.0), ("dr_grpo", 0.5 / 3)])
def test_a_loss_ascends_the_exact_gradient(name, share):
    spec = objective(name, **({"budget": 3} if name == "dr_grpo" else {}))
    found = expected_gradient(spec, TINY, logits(RISING), size=1 if name == "reinforce" else 2)
    assert found == pytest.approx(share * floats(EVIDENCE.gradient(RISING)), abs=1e-14)


def test_a_loss_on_a_problem_with_a_tool_ascends_the_exact_gradient():
    problem = tool_turns(horizon=3)
    evidence = TokenEvidence(problem)
    policy = evidence.policies["rising"]
    found = expected_gradient(objective("reinforce"), problem, logits(policy))
    assert found == pytest.approx(floats(evidence.gradient(policy)), abs=1e-14)


@pytest.mark.parametrize("size", [2, 3])
def test_grpo_ascends_what_the_groups_of_kinds_say(size):
    spec = objective("grpo", beta=0.0, ddof=0, aggregation=SUM)
    found = expected_gradient(spec, TINY, logits(RISING), size=size)
    coefficient, _ = EVIDENCE.groups(RISING, size, standardised, right_or_wrong(EVIDENCE))
    assert found == pytest.approx(floats(EVIDENCE.ascent(RISING, coefficient)), abs=1e-14)


def test_a_mean_over_tokens_ascends_what_the_shelf_says():
    spec = objective("reinforce", aggregation=Aggregation("sequence-mean-token-mean"))
    found = expected_gradient(spec, TINY, logits(MIXED))
    assert found == pytest.approx(floats(by_length(EVIDENCE, MIXED, fmpq(0))), abs=1e-14)


@pytest.mark.parametrize("estimator", ["k2", "k3"])
def test_an_estimator_in_the_loss_descends_what_the_shelf_says(estimator):
    spec = ObjectiveSpec("penalty", Given(), PolicyGradient(), aggregation=SUM, divergence=Divergence(1.0, estimator))
    zero = np.zeros((TINY.n_sequences, TINY.horizon))
    found = expected_gradient(spec, TINY, logits(RISING), reference=logits(MIXED), advantage_BT=zero)
    assert found == pytest.approx(-floats(token_loss_slope(EVIDENCE, RISING, MIXED, estimator)), abs=1e-14)
