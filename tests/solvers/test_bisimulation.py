"""Exact bisimulation against signatures in Fractions, against every partition there is, and against closed forms."""

import math
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import networkx
import numpy as np
import pytest
from banach.mdp import MDP, Discounted, Partition, TotalReward, instances, strategies
from banach.mdp.quotient import quotient
from banach.solvers import CertificateRejected, SolveError, coarsest_bisimulation, stability
from banach.solvers.bisimulation_masses import masses, simplest_fraction
from banach.solvers.bisimulation_tree import check_splitting_tree, distinguish, splitting_tree
from hypothesis import given, settings
from hypothesis import strategies as st

from .. import witness
from . import bisimulation_witness as slow

DATA = Path(__file__).parents[1] / "data"
FEW_ROWS = {"max_states": 4, "max_actions": 2, "tiny": 0.125, "rewards": st.sampled_from([0.0, 1.0])}
BASE = strategies.discounted_mdps(**FEW_ROWS)
ANY = [
    pytest.param("position", slow.blown_up(BASE), id="actions by position"),
    pytest.param("any", slow.blown_up(BASE, shuffle=True), id="any actions"),
]


def agree(partition, classes):
    return partition.states.tolist() == classes


@pytest.mark.parametrize(("actions", "problems"), ANY)
@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_it_is_the_partition_by_signatures(actions, problems, data):
    problem = data.draw(problems)
    assert agree(coarsest_bisimulation(problem, actions=actions), slow.coarsest(problem, actions))


@given(
    slow.blown_up(strategies.discounted_mdps(**FEW_ROWS | {"max_states": 3}), copies=2), st.sampled_from(["position", "any"])
)
@settings(max_examples=15, deadline=None)
def test_every_bisimulation_there_is_refines_it(problem, actions):
    found = coarsest_bisimulation(problem, actions=actions).states.tolist()
    assert slow.is_bisimulation(problem, found, actions)
    for classes in slow.partitions(problem.n_states) if problem.n_states <= 6 else ():
        if slow.is_bisimulation(problem, classes, actions):
            assert len(set(zip(classes, found, strict=True))) == len(set(classes))


@given(slow.blown_up(BASE, shuffle=True), st.randoms(use_true_random=False))
@settings(max_examples=20, deadline=None)
def test_names_of_actions_match_where_positions_do_not(problem, random):
    names = [random.choice("ab") for _ in range(problem.n_pairs)]
    named = problem.replace(action_names=names)
    assert agree(coarsest_bisimulation(named, actions="name"), slow.coarsest(named, "name"))


@given(slow.blown_up(BASE), st.data())
@settings(max_examples=20, deadline=None)
def test_labels_are_respected_all_or_those_that_are_asked_for(problem, data):
    bits = st.lists(st.booleans(), min_size=problem.n_states, max_size=problem.n_states)
    labelled = problem.replace(labels={"a": np.array(data.draw(bits)), "b": np.array(data.draw(bits))})
    assert agree(coarsest_bisimulation(labelled), slow.coarsest(labelled))
    only = labelled.replace(labels={"b": labelled.labels["b"]})
    assert agree(coarsest_bisimulation(labelled, labels=["b"]), slow.coarsest(only))
    assert agree(coarsest_bisimulation(labelled, labels=()), slow.coarsest(problem))


@pytest.mark.parametrize(("chains", "length"), [(1, 3), (4, 3), (6, 3), (3, 4)])
def test_a_product_of_chains_has_as_many_classes_as_there_are_multisets(chains, length):
    partition = coarsest_bisimulation(slow.product_of_chains(chains, length), actions="any")
    assert partition.n_classes == math.comb(chains + length - 1, length - 1)


@pytest.mark.parametrize("side", [1, 3, 9, 101])
def test_a_symmetric_grid_has_the_orbits_of_the_square_as_classes(side):
    half = (side + 1) // 2
    assert coarsest_bisimulation(slow.symmetric_grid(side), actions="any").n_classes == half * (half + 1) // 2


def test_named_actions_do_not_merge_mirror_images():
    grid = slow.symmetric_grid(5)
    assert coarsest_bisimulation(grid).n_classes > coarsest_bisimulation(grid, actions="any").n_classes


def copies(model, times):
    n, k, z = model.n_states, model.n_pairs, model.n_transitions
    return MDP(
        np.concatenate([[0], *(model.state_ptr[1:] + i * k for i in range(times))]),
        np.concatenate([[0], *(model.row_ptr[1:] + i * z for i in range(times))]),
        np.concatenate([model.successor + i * n for i in range(times)]),
        np.tile(model.probability, times), np.tile(model.reward, times), model.criterion,
    )  # fmt: skip


@pytest.mark.parametrize("actions", ["position", "any"])
def test_copies_of_a_garnet_are_merged_and_nothing_else(actions):
    model = copies(instances.garnet(states=300, actions=3, successors=4), 4)
    partition = coarsest_bisimulation(model, actions=actions)
    assert partition.states.tolist() == list(range(300)) * 4
    assert stability(model, partition)


def test_without_chance_and_choice_it_is_the_coarsest_partition_of_an_automaton():
    """Against Moore's rounds over a networkx graph with one labelled edge a node."""
    random = np.random.default_rng(5)
    n = 400
    graph = networkx.DiGraph((s, int(j)) for s, j in enumerate(random.integers(0, n // 8, n)))
    reward = random.integers(0, 3, n).astype(float)
    successor = np.array([next(graph.successors(s)) for s in range(n)])
    model = MDP(np.arange(n + 1), np.arange(n + 1), successor, np.ones(n), reward, Discounted(0.5))
    colour = {s: int(reward[s]) for s in graph}
    while True:
        finer = slow.numbered([(colour[s], colour[next(graph.successors(s))]) for s in range(n)])
        if max(finer) == len(set(colour.values())) - 1:
            break
        colour = dict(enumerate(finer))
    assert agree(coarsest_bisimulation(model), slow.numbered([colour[s] for s in range(n)]))


STORM = [  # stormpy 2.0.0 on the models that it wrote: strong bisimulation, all labels; a reward or none
    ("die", None, (13, 13, 20)),
    ("two_dice", None, (77, 97, 183)),
    ("consensus_2_2", None, (144, 191, 237)),
    ("csma_2_2", None, (241, 246, 312)),
    ("firewire_3", None, (1274, 1467, 1488)),
    ("firewire_3", "time", (1961, 2368, 2389)),
    ("leader_sync_3_5", None, (8, 8, 9)),
]


@pytest.mark.parametrize(("name", "reward", "sizes"), STORM)
def test_storm_finds_as_many_states_choices_and_transitions(name, reward, sizes):
    model = MDP.from_umb(DATA / f"{name}.umb", 0.9, reward=reward or ("time" if name == "firewire_3" else None))
    if reward is None:
        model = model.replace(reward=np.zeros(model.n_pairs))
    partition = coarsest_bisimulation(model, actions="any")
    small = quotient(model, partition).model
    assert (small.n_states, small.n_pairs, small.n_transitions) == sizes
    assert stability(model, partition)
    assert check_splitting_tree(model, partition, splitting_tree(model, partition, actions="any"), actions="any")


def test_floats_are_taken_as_they_are_and_fractions_for_what_they_mean():
    """0.1 + 0.2 is not 0.3, as a float; as a fraction it is."""
    rows = [[0.1, 0.2, 0.7], [0.3, 0.0, 0.7], [0.2, 0.1, 0.7]]
    model = MDP(
        np.array([0, 1, 2, 3, 4, 4]), np.array([0, 3, 6, 9, 10]), np.array([3, 3, 4, 3, 3, 4, 3, 3, 4, 3]),
        np.array([*np.ravel(rows), 1.0]), np.array([0.0, 0.0, 0.0, 1.0]), TotalReward(),
        terminal=np.array([0, 0, 0, 0, 1], dtype=bool),
    )  # fmt: skip
    floats, fractions = coarsest_bisimulation(model), coarsest_bisimulation(model, rational=True)
    assert floats.states.tolist() == [0, 1, 0, 2, 3]
    assert fractions.states.tolist() == [0, 0, 0, 1, 2]
    assert stability(model, floats)
    assert stability(model, fractions, rational=True)
    found = stability(model, fractions)
    gap = abs(Fraction(0.1) + Fraction(0.2) - Fraction(0.3))
    assert not found
    assert gap <= Fraction(found.probability) <= gap * Fraction(101, 100)


@given(st.integers(1, 10**6), st.integers(1, 10**6))
@settings(max_examples=200)
def test_the_simplest_fraction_is_the_one_that_was_meant(p, q):
    fraction = Fraction(min(p, q), max(p, q))
    assert simplest_fraction(float(fraction)) == fraction


@given(st.floats(0, 1))
@settings(max_examples=200)
def test_the_simplest_fraction_rounds_to_the_float_and_nothing_of_smaller_denominator_does(p):
    found = simplest_fraction(p)
    assert float(found) == p
    for q in range(1, min(found.denominator, 50)):
        assert float(Fraction(round(Fraction(p) * q), q)) != p


@given(slow.blown_up(BASE, shuffle=True), st.sampled_from(["position", "any"]), st.data())
@settings(max_examples=40, deadline=None)
def test_stability_measures_what_classes_really_differ_by(problem, actions, data):
    """Of the coarsest partition nothing; of a coarser one the exact distances."""
    partition = coarsest_bisimulation(problem, actions=actions)
    assert stability(problem, partition)
    joined = data.draw(st.permutations(range(partition.n_classes)))[:2]
    states = np.where(np.isin(partition.states, joined), -1, partition.states)
    try:
        coarser = Partition.by_position(problem, states)
        found = stability(problem, coarser)
    except ValueError:
        return
    table = [row for rows in witness.rows(problem) for row in rows]
    first = {}
    reward = probability = Fraction(0)
    for k, c in enumerate(coarser.pairs.tolist()):
        (r0, row0), (r1, row1) = table[first.setdefault(c, k)], table[k]
        reward = max(reward, abs(r0 - r1))
        mass = np.zeros(coarser.n_classes, dtype=object)
        for j, p in row0.items():
            mass[coarser.states[j]] += p
        for j, p in row1.items():
            mass[coarser.states[j]] -= p
        probability = max(probability, sum(abs(m) for m in mass))
    assert reward <= Fraction(found.reward) <= reward * Fraction(1 + 2**-50)
    assert probability <= Fraction(found.probability) <= probability * Fraction(1 + 2**-40)


def test_probabilities_too_small_for_the_grid_are_compared_as_fractions():
    tiny = 2.0**-130
    model = MDP(
        np.array([0, 1, 2, 3]), np.array([0, 2, 4, 5]), np.array([0, 2, 1, 2, 2]), np.array([1.0, tiny, 1.0, 3 * tiny, 1.0]),
        np.array([0.0, 0.0, 1.0]), Discounted(0.5),
    )  # fmt: skip
    partition = coarsest_bisimulation(model)
    assert masses(model, rational=False).error == pytest.approx(3 * tiny)
    assert partition.states.tolist() == [0, 0, 1]
    assert stability(model, partition).probability == pytest.approx(2 * tiny)


@pytest.mark.parametrize(("parts", "differ"), [([2.0**-64, 2.0**-64], False), ([2.0**-64, 2.0**-65], True), ([2.0**-62], True)])
def test_what_is_finer_than_the_grid_is_still_compared_exactly(parts, differ):
    """Two loops that leak: one with probability 2^-63, the other in these parts."""
    sizes = [2, 1 + len(parts), 1]
    model = MDP(
        np.arange(4), np.concatenate(([0], np.cumsum(sizes))), np.array([0, 2, 1, *[2] * len(parts), 2]),
        np.array([1.0, 2.0**-63, 1.0, *parts, 1.0]), np.array([0.0, 0.0, 1.0]), Discounted(0.5),
    )  # fmt: skip
    found = stability(model, Partition(np.array([0, 0, 1]), np.array([0, 0, 1])))
    assert (found.probability > 0) == differ
    assert abs(Fraction(2.0**-63) - sum(map(Fraction, parts))) <= Fraction(found.probability) <= Fraction(1, 2**60)


@pytest.mark.parametrize(("actions", "problems"), ANY)
@given(data=st.data())
@settings(max_examples=30, deadline=None)
def test_a_tree_of_splits_proves_that_no_class_can_be_merged(actions, problems, data):
    problem = data.draw(problems)
    partition = coarsest_bisimulation(problem, actions=actions)
    tree = splitting_tree(problem, partition, actions=actions)
    assert tree.discrete
    assert check_splitting_tree(problem, partition, tree, actions=actions) <= max(partition.n_classes - 1, 0)
    for first in range(problem.n_states):
        for second in range(first):
            if partition.states[first] != partition.states[second]:
                assert distinguish(problem, partition, tree, first, second, actions=actions)


def test_a_partition_that_is_finer_than_need_be_has_no_tree():
    model = copies(instances.garnet(states=6, actions=2, successors=2), 2)
    finest = Partition(np.arange(12), np.arange(24))
    assert stability(model, finest)
    tree = splitting_tree(model, finest)
    assert not tree.discrete
    with pytest.raises(CertificateRejected, match="nothing tells classes"):
        check_splitting_tree(model, finest, tree)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: replace(t, members=((*t.members[0],), (), *t.members[2:])), "make it up"),
        (lambda t: replace(t, splitter=tuple(min(s, 0) for s in t.splitter)), "look alike"),
        (lambda t: replace(t, splitter=(-1, *(len(t.members) for _ in t.splitter[1:]))), "before"),
        (lambda t: replace(t, members=((0,), *t.members[1:])), "root"),
    ],
    ids=["a part left out", "a splitter that does not split", "a splitter from later", "another root"],
)
def test_a_wrong_tree_is_rejected(change, message):
    model = slow.symmetric_grid(5)
    partition = coarsest_bisimulation(model, actions="any")
    tree = splitting_tree(model, partition, actions="any")
    with pytest.raises(CertificateRejected, match=message):
        check_splitting_tree(model, partition, change(tree), actions="any")


def test_an_experiment_says_what_to_do_and_what_comes_out():
    """Three states on the way to a prize: they differ by how far it is."""
    model = MDP(np.arange(5), np.arange(5), np.array([1, 2, 3, 3]), np.ones(4), np.array([0.0, 0.0, 1.0, 0.0]), Discounted(0.5))
    partition = coarsest_bisimulation(model)
    said = distinguish(model, partition, splitting_tree(model, partition), 0, 1)
    assert "with probability" in said[0]
    assert "reward" in said[-1]
    with pytest.raises(SolveError, match="one class"):
        distinguish(model, partition, splitting_tree(model, partition), 0, 0)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"actions": "all"}, "no way to match"),
        ({"actions": "name"}, "no names"),
        ({"labels": ["gaol"]}, "no label 'gaol'"),
        ({"within": -1.0}, "number >= 0"),
        ({"within": math.nan}, "number >= 0"),
        ({"rational": True}, "no fractions|no table"),
    ],
)
def test_impossible_requests_are_refused(words, message):
    with pytest.raises(SolveError, match=message):
        coarsest_bisimulation(instances.garnet(states=30), **words)


def test_a_partition_of_another_model_is_refused():
    small, large = slow.symmetric_grid(3), slow.symmetric_grid(5)
    partition = coarsest_bisimulation(small)
    with pytest.raises(CertificateRejected, match="the partition is of 9 states"):
        stability(large, partition)
    with pytest.raises(ValueError, match="the partition is of 9 states"):
        quotient(large, partition)


@given(slow.blown_up(BASE), st.sampled_from([1e-25, 0.01, 0.3]), st.booleans())
@settings(max_examples=60, deadline=None)
def test_within_windows_members_differ_by_no_more_in_any_one_class(problem, within, rational):
    partition = coarsest_bisimulation(problem, actions="any", within=within, rational=rational)
    table = [row for rows in witness.rows(problem) for row in rows]
    masses_of: dict[int, list] = {}
    for k, (reward, row) in enumerate(table):
        mass = np.zeros(partition.n_classes, dtype=object)
        for j, p in row.items():
            mass[partition.states[j]] += p
        masses_of.setdefault(int(partition.pairs[k]), []).append([reward, *mass])
    for rows in masses_of.values():
        for column in zip(*rows, strict=True):
            assert max(column) - min(column) <= Fraction(within) + Fraction(1, 2**48 if rational else 2**60)
