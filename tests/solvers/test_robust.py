"""Robust problems solved: published values, saddle points, slow iteration, Storm's interval engine; every bracket proved."""

from fractions import Fraction

import numpy as np
import pytest
from banach.mdp import MDP, Discounted, FiniteHorizon, RobustMDP, instances, strategies
from banach.mdp.ambiguity import L1, Contamination, CVaR, LInfinity, SRectangular, TotalVariation
from banach.solvers import (
    Anderson,
    GaussSeidel,
    ModifiedPolicyIteration,
    PartialPolicyIteration,
    PolicyIteration,
    RankOne,
    RationalPolicyIteration,
    RobustPolicyIteration,
    SolveError,
    ValueIteration,
    solve,
)
from banach.solvers.exact_ambiguity import exact_sigma
from hypothesis import given, settings
from hypothesis import strategies as st

METHODS = [
    ValueIteration(),
    GaussSeidel(),
    ModifiedPolicyIteration(5),
    Anderson(),
    RobustPolicyIteration(),
    PartialPolicyIteration(),
]


def comfortable(model):
    """A width that rounding allows."""
    return (
        1e-6
        * (1 + float(np.abs(model.reward).max(initial=0)) + float(np.abs(model.terminal_value).max()))
        / (1 - model.discount)
    )


def table(rows, discount):
    """A robust problem's parts from {(state, action): [(successor, probability, reward)]}: model and transition rewards."""
    states = sorted({s for s, _ in rows})
    counts = [sum(1 for s, _ in rows if s == state) for state in states]
    entries = [entry for key in sorted(rows) for entry in rows[key]]
    row_ptr = np.concatenate(([0], np.cumsum([len(rows[key]) for key in sorted(rows)])))
    successor, probability, reward = (np.array(column) for column in zip(*entries, strict=True))
    model = MDP(
        np.concatenate(([0], np.cumsum(counts))),
        row_ptr,
        successor.astype(np.int32),
        probability.astype(float),
        np.zeros(len(rows)),
        Discounted(discount),
    )
    return model, reward.astype(float)


def riverswim_six():
    rows = {(s, 0): [(max(s - 1, 0), 1.0, 5.0 if s == 0 else 0.0)] for s in range(6)}
    rows |= {(s, 1): [(s - 1, 0.1, 0.0), (s, 0.6, 0.0), (s + 1, 0.3, 0.0)] for s in range(1, 5)}
    rows[0, 1] = [(0, 0.7, 0.0), (1, 0.3, 0.0)]
    rows[5, 1] = [(4, 0.7, 0.0), (5, 0.3, 10000.0)]
    return table(rows, 0.95)


def machine_ten():
    worth = {7: -20.0, 8: -10.0, 9: -2.0}

    def row(*entries):
        return [(j, p, worth.get(j, 0.0)) for j, p in entries]

    rows = {(s, 0): row((s + 1, 0.8), (s, 0.2)) for s in range(7)}
    rows |= {(s, 1): row((s + 1, 0.3), (9, 0.6), (8, 0.1)) for s in range(7)}
    rows |= {(7, 0): row((7, 1.0)), (7, 1): row((7, 0.3), (9, 0.6), (8, 0.1))}
    rows |= {(8, 0): row((8, 1.0)), (8, 1): row((9, 0.6), (8, 0.4)), (9, 0): row((0, 0.8), (9, 0.2)), (9, 1): row((9, 1.0))}
    return table(rows, 0.9)


PUBLISHED = [
    (riverswim_six, 0.1, [2543.488339, 3078.959568, 4048.44432, 5482.439238, 7497.033924, 10284.113667]),
    (riverswim_six, 0.5, [100, 95, 90.25, 85.7375, 138.81302, 656.460631]),
    (machine_ten, 0.1, [-7.154602, -8.089844, -9.14734, -10.343071, -11.695106, -13.512186, -20.242113, -20.242113, -15.132624,
                        -6.876589]),
]  # fmt: skip


@pytest.mark.parametrize(("build", "radius", "value"), PUBLISHED, ids=["riverswim 0.1", "riverswim 0.5", "machine"])
@pytest.mark.parametrize("method", [None, *METHODS], ids=str)
def test_published_values(build, radius, value, method):
    model, gain = build()
    answer = solve(RobustMDP(model, L1(radius), transition_reward=gain), method, eps=1e-7)
    assert answer.value == pytest.approx(value, abs=6e-7)


@pytest.mark.parametrize(("radius", "value"), [(0.0, [26.244, 29.484, 33.484]), (0.2, [20.736, 23.616, 27.616])])
def test_a_forest_that_may_burn_anywhere(radius, value):
    forest = instances.make("forest:states=3,discount=0.9")
    answer = solve(RobustMDP(forest, L1(radius, support="all")), eps=1e-9)
    assert answer.value == pytest.approx(value, abs=1e-8)


SETS = [L1(0.3), TotalVariation(0.1, support="all"), LInfinity(0.1), CVaR(0.4), Contamination(0.2)]


@pytest.mark.parametrize("ambiguity", SETS, ids=str)
@settings(max_examples=15, deadline=None)
@given(model=strategies.discounted_mdps(max_states=5), optimistic=st.booleans())
def test_all_methods_prove_overlapping_brackets(ambiguity, model, optimistic):
    problem = RobustMDP(model, ambiguity, optimistic=optimistic)
    eps = comfortable(model)
    proofs = [solve(problem, method, eps=eps).certificate for method in (None, *METHODS)]
    assert max(proof.width for proof in proofs) <= eps
    assert (np.max([proof.lower for proof in proofs], axis=0) <= np.min([proof.upper for proof in proofs], axis=0)).all()


@pytest.mark.parametrize("ambiguity", SETS, ids=str)
@settings(max_examples=40, deadline=None)
@given(
    model=strategies.discounted_mdps(max_states=4),
    optimistic=st.booleans(),
    scale=st.sampled_from([1.0, 1e-9, 1e9]),
    data=st.data(),
)
def test_the_operators_enclosure_holds_in_exact_arithmetic(ambiguity, data, model, optimistic, scale):
    model = model.negated() if model.criterion.minimize else model
    problem = RobustMDP(model, ambiguity, optimistic=optimistic)
    entries = st.floats(-5, 5).map(lambda x: scale * x)
    value = np.array(data.draw(st.lists(entries, min_size=model.n_states, max_size=model.n_states)))
    policy, lower, upper = problem.operator.blank_policy(), np.empty_like(value), np.empty_like(value)
    problem.operator.enclose(value, policy, lower, upper)
    table_, side = problem.problem, -1 if optimistic else 1
    for s in np.flatnonzero(~model.terminal):
        worths = []
        for k in range(table_.state_ptr[s], table_.state_ptr[s + 1]):
            row = slice(int(table_.row_ptr[k]), int(table_.row_ptr[k + 1]))
            z = [side * Fraction(model.discount) * Fraction(float(x)) for x in value[table_.successor[row]]]
            ends = [side * end for end in exact_sigma(problem.set_of(k), table_.probability[row], z)]
            worths.append((Fraction(float(table_.reward[k])) + min(ends), Fraction(float(table_.reward[k])) + max(ends)))
        assert Fraction(float(lower[s])) <= worths[policy[s]][0]
        assert max(high for _, high in worths) <= Fraction(float(upper[s]))


@pytest.mark.parametrize("ambiguity", SETS, ids=str)
@settings(max_examples=20, deadline=None)
@given(model=strategies.discounted_mdps(max_states=5), optimistic=st.booleans())
def test_policy_and_natures_rows_are_a_saddle(ambiguity, model, optimistic):
    """Against nature's rows no policy, and against the policy no rows, is better for the one who chooses."""
    model = model.negated() if model.criterion.minimize else model
    problem = RobustMDP(model, ambiguity, optimistic=optimistic)
    eps = comfortable(model) / 10
    answer = solve(problem, eps=eps)
    chain = problem.operator.frozen(answer.policy, answer.value)
    margin = 4 * eps / (1 - model.discount)
    np.testing.assert_allclose(solve(chain, eps=eps).value, answer.value, atol=margin)
    if not optimistic:
        everyone = everything_frozen(problem, answer.value)
        assert (solve(everyone, eps=eps).value <= answer.value + margin).all()


def everything_frozen(problem, value):
    """The ordinary problem with nature's rows at a vector for every pair."""
    nominal = problem.problem
    counts = np.diff(nominal.state_ptr)
    probability = nominal.probability.copy()
    for choice in range(int(counts.max(initial=0))):
        policy = np.where(counts > 0, np.minimum(choice, counts - 1), -1).astype(np.int32)
        chain = problem.operator.frozen(policy, value)
        for s in np.flatnonzero(counts > choice):
            pair = nominal.state_ptr[s] + choice
            row = chain.state_ptr[s]
            probability[nominal.row_ptr[pair] : nominal.row_ptr[pair + 1]] = chain.probability[
                chain.row_ptr[row] : chain.row_ptr[row + 1]
            ]
    return nominal.replace(probability=probability)


@settings(max_examples=25, deadline=None)
@given(strategies.discounted_mdps(max_states=4), st.sampled_from([0.0, 0.1, 0.5, 1.0]), st.sampled_from([0.1, 0.4]))
def test_the_robust_value_falls_with_the_radius(model, radius, more):
    model = model.negated() if model.criterion.minimize else model
    eps = comfortable(model)
    near, far = (solve(RobustMDP(model, L1(psi)), eps=eps).certificate for psi in (radius, radius + more))
    assert (far.lower <= near.upper).all()
    kind = solve(RobustMDP(model, L1(radius), optimistic=True), eps=eps).certificate
    assert (near.lower <= kind.upper).all()


def test_contamination_with_a_dead_end_is_a_smaller_discount():
    """Nature sends a share eps of every row to a state worth nothing: the discount times 1 - eps."""
    garnet = instances.make("garnet:states=12,actions=3,successors=4,discount=0.9,seed=1")
    dead_end = garnet.n_states
    model = MDP(
        np.append(garnet.state_ptr, garnet.state_ptr[-1]), garnet.row_ptr, garnet.successor, garnet.probability,
        np.abs(garnet.reward), Discounted(0.9), np.arange(dead_end + 1) == dead_end,
    )  # fmt: skip
    robust = solve(RobustMDP(model, Contamination(0.2, support="all")), eps=1e-9).value
    plain = solve(model.replace(criterion=Discounted(0.9 * 0.8)), eps=1e-9).value
    np.testing.assert_allclose(robust, plain, atol=1e-8)


@pytest.mark.parametrize("ambiguity", [L1(0.2), SRectangular(L1(0.2))], ids=str)
def test_a_hostile_nature_raises_costs_and_a_helpful_one_lowers_them(ambiguity):
    model = instances.make("machine_replacement")
    assert model.criterion.minimize
    worst, best = (solve(RobustMDP(model, ambiguity, optimistic=kind), eps=1e-8).certificate for kind in (False, True))
    nominal = solve(model, eps=1e-8).certificate
    assert (worst.lower > nominal.upper + 0.1).all()
    assert (best.upper < nominal.lower - 0.1).all()


def test_stages_of_a_finite_horizon():
    forest = instances.make("forest:states=4,discount=0.9").replace(criterion=FiniteHorizon(6, 0.9))
    problem = RobustMDP(forest, L1(0.3))
    answer = solve(problem, eps=1e-9)
    value = forest.terminal_value.copy()
    for stage in reversed(range(6)):
        image, policy = np.empty_like(value), np.empty(4, dtype=np.int32)
        problem.operator.apply(value, image, policy)
        value = image
        np.testing.assert_allclose(answer.value[stage], value, atol=1e-9)


def test_range_of_values_shrinks_to_what_nature_leaves():
    """Rewards in [0, 1], radius rho in total variation: max - min of v_h is at most (1 - (1 - rho)^(H - h)) / rho."""
    model = instances.make("garnet:states=20,actions=3,successors=20,discount=0.9,seed=0")
    rho, horizon = 0.3, 8
    reward = np.random.default_rng(0).uniform(size=model.n_pairs)
    problem = RobustMDP(model.replace(reward=reward, criterion=FiniteHorizon(horizon)), TotalVariation(rho, support="all"))
    value = solve(problem, eps=1e-9).value
    for stage in range(horizon):
        assert value[stage].max() - value[stage].min() <= (1 - (1 - rho) ** (horizon - stage)) / rho + 1e-9


def cycling():
    """A problem whose rejected Newton steps name a policy under which the kept vector would run away."""
    rows = {
        (0, 0): [(3, 1.0, 2.0)],
        (1, 0): [(1, 0.5, 1.0), (0, 0.5, -2.0)],
        (1, 1): [(2, 3 / 7, 1.0), (1, 2 / 7, 1.0), (1, 2 / 7, -2.0)],
        (2, 0): [(3, 1.0, 2.0)],
        (2, 1): [(1, 0.5, 0.0), (1, 1 / 6, -1.0), (3, 1 / 3, 0.0)],
        (2, 2): [(1, 0.5, -1.0), (1, 1 / 6, -1.0), (3, 1 / 3, 1.0)],
        (3, 0): [(2, 1.0, 0.0)],
    }
    model, gain = table(rows, 0.99)
    reward = np.array([-1e-4, 3.0, 0.0, 0.1, 0.0, 0.0, 2.0])
    return RobustMDP(model.replace(reward=reward), L1(1.0), transition_reward=gain)


@pytest.mark.parametrize("optimistic", [False, True])
@pytest.mark.parametrize("radius", [0.5, 1.0, 1.5])
@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 2**32 - 1))
def test_policy_iterations_against_nature_take_few_rounds(optimistic, radius, seed):
    rng = np.random.default_rng(seed)
    weights = rng.integers(0, 4, size=(4, 2, 4)).astype(float)
    weights[weights.sum(axis=2) == 0] = 1.0
    reward, discount = rng.integers(-3, 4, size=(4, 2)).astype(float), rng.choice([0.9, 0.99, 0.999])
    model = MDP.from_dense(weights / weights.sum(axis=2, keepdims=True), reward, discount=float(discount), layout="sas")
    gain = rng.integers(-2, 3, size=model.n_transitions).astype(float)
    problem = RobustMDP(model, L1(radius), optimistic=optimistic, transition_reward=gain)
    for method in (RobustPolicyIteration(max_rounds=60), PartialPolicyIteration(max_rounds=60)):
        assert solve(problem, method, eps=1e-6).certificate.width <= 1e-6


def test_a_rejected_step_costs_sweeps_and_no_more():
    problem = cycling()
    answer = solve(problem, RobustPolicyIteration(max_rounds=60), eps=1e-6)
    np.testing.assert_allclose(answer.value, solve(problem, ValueIteration(), eps=1e-6).value, atol=2e-6)


def test_methods_that_need_an_affine_policy_say_so():
    problem = RobustMDP(instances.make("forest"), L1(0.1))
    for method in (PolicyIteration(), RankOne(), RationalPolicyIteration()):
        with pytest.raises((SolveError, ValueError), match=r"affine|table|rows"):
            solve(problem, method)
    for method in (RobustPolicyIteration(), PartialPolicyIteration()):
        with pytest.raises(SolveError, match="robust problems"):
            solve(instances.make("forest"), method)


@pytest.mark.parametrize(
    "name",
    [
        "garnet:states=60,actions=3,successors=4,discount=0.9,seed=2",
        "garnet:states=25,actions=2,successors=6,discount=0.95,seed=5",
    ],
)
@pytest.mark.parametrize("optimistic", [False, True])
def test_storms_interval_engine_agrees(name, optimistic):
    stormpy = pytest.importorskip("stormpy")
    model = instances.make(name)
    model = model.negated() if model.criterion.minimize else model
    lower, upper = np.maximum(model.probability - 0.05, 1e-3), np.minimum(model.probability + 0.05, 1.0)
    lower = np.minimum(lower, model.probability)
    ours = solve(RobustMDP.intervals(model, lower, upper, optimistic=optimistic), eps=1e-9).value
    theirs = storm_interval_value(stormpy, model, lower, upper, optimistic)
    np.testing.assert_allclose(ours, theirs, atol=1e-8 * (1 + np.abs(ours).max()))


def storm_interval_value(stormpy, model, lower, upper, optimistic):
    """Storm's robust value iteration; discounting is an end of probability 1 - discount, rewards are raised to be positive."""
    from stormpy import environments
    from stormpy.datastructures import SparseMatrixBuilder
    from stormpy.models import SparseMdp, SparseModelComponents, SparseRewardModel, StateLabeling

    n, m, discount = model.n_states, model.n_pairs, model.discount
    assert not model.terminal.any()
    shift = max(0.0, -float(model.reward.min())) + 1.0
    kind = stormpy.Interval
    builder = SparseMatrixBuilder[kind](
        rows=m + 1, columns=n + 1, entries=model.n_transitions + m + 1, has_custom_row_grouping=True, row_groups=n + 1
    )
    for state in range(n):
        builder.new_row_group(int(model.state_ptr[state]))
        for pair in range(model.state_ptr[state], model.state_ptr[state + 1]):
            row = np.arange(model.row_ptr[pair], model.row_ptr[pair + 1])
            for entry in row[np.argsort(model.successor[row])]:
                bounds = kind(discount * lower[entry], discount * upper[entry])
                builder.add_next_value(pair, int(model.successor[entry]), bounds)
            builder.add_next_value(pair, n, kind(1 - discount, 1 - discount))
    builder.new_row_group(m)
    builder.add_next_value(m, n, kind(1.0, 1.0))
    labels = StateLabeling(n + 1)
    for label, state in (("init", 0), ("end", n)):
        labels.add_label(label)
        labels.add_label_to_state(label, state)
    rewards = SparseRewardModel[kind](
        optional_state_action_reward_vector=[kind(r, r) for r in [*(model.reward + shift).tolist(), 0.0]]
    )
    parts = SparseModelComponents[kind](transition_matrix=builder.build(), state_labeling=labels, reward_models={"r": rewards})
    environment = environments.Environment()
    environment.solver().min_max().precision = stormpy.Rational(1e-12)
    environment.solver().min_max().relative_termination_criterion = False
    modes = stormpy.UncertaintyResolutionMode
    found = stormpy.model_checking(
        SparseMdp[kind](parts), stormpy.parse_property('R{"r"}max=? [F "end"]'), environment=environment,
        uncertainty_resolution_mode=modes.COOPERATIVE if optimistic else modes.ROBUST,
    )  # fmt: skip
    return np.array(found.get_value_vector())[:n] - shift / (1 - discount)
