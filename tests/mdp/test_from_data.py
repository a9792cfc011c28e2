"""Sets from samples: coverage by enumeration of every sample, limits, order, and what is refused."""

import itertools
import math

import numpy as np
import pytest
from banach.mdp import ModelError
from banach.mdp.ambiguity import from_data
from banach.mdp.ambiguity.from_data import credible, empirical

CONFIDENCE = {
    name: getattr(from_data, name) for name in ("weissman", "types", "hoeffding", "empirical_bernstein", "clopper_pearson")
}
every_set = pytest.mark.parametrize("build", CONFIDENCE.values(), ids=CONFIDENCE.keys())
ROWS = [[0.2, 0.3, 0.5], [0.01, 0.01, 0.98], [1 / 3, 1 / 3, 1 / 3], [0.0, 0.4, 0.6], [0.001, 0.499, 0.5]]


def samples(n, m):
    """Every vector of m counts of sum n."""
    for bars in itertools.combinations(range(n + m - 1), m - 1):
        ends = (-1, *bars, n + m - 1)
        yield np.diff(ends) - 1


def probability(counts, row):
    coefficient = math.factorial(int(counts.sum()))
    for k in counts:
        coefficient //= math.factorial(int(k))
    return coefficient * math.prod(p ** int(k) for p, k in zip(row, counts, strict=True))


def failure(build, row, n, delta):
    """Probability over all samples that the set misses the true row."""
    row, missed = np.array(row), 0.0
    for counts in samples(n, len(row)):
        if not build(counts, delta).contains(empirical(counts), row, tolerance=1e-12):
            missed += probability(counts, row)
    return missed


@every_set
@pytest.mark.parametrize("row", ROWS, ids=str)
@pytest.mark.parametrize("delta", [0.05, 0.4])
def test_of_all_samples_no_more_than_delta_miss_the_true_row(build, row, delta):
    for n in (1, 2, 5, 12):
        assert failure(build, row, n, delta) <= delta


@pytest.mark.parametrize("n", [3, 17, 60])
def test_clopper_pearson_is_nearly_attained_by_binomials(n):
    worst = max(failure(from_data.clopper_pearson, [p, 1 - p], n, 0.2) for p in np.linspace(0.01, 0.5, 30))
    assert 0.02 < worst <= 0.2


@every_set
def test_more_samples_and_more_doubt_make_smaller_sets(build):
    row, value = np.array([0.2, 0.3, 0.5]), np.array([1.0, 3.0, -2.0])

    def least(n, delta):
        counts = np.round(n * row)
        return build(counts, delta).worst(empirical(counts), value).value

    assert np.all(np.diff([least(n, 0.1) for n in (10, 40, 160, 640, 10**6)]) >= 0)
    assert np.all(np.diff([least(40, delta) for delta in (1e-9, 1e-3, 0.1, 0.5)]) >= 0)
    assert least(10**8, 0.1) == pytest.approx(row @ value, abs=5e-3)


@every_set
def test_without_samples_every_row_is_possible(build):
    nothing = np.zeros(3)
    chosen = build(nothing, 0.1)
    np.testing.assert_array_equal(empirical(nothing), np.full(3, 1 / 3))
    for corner in np.eye(3):
        assert chosen.contains(empirical(nothing), corner)
    assert chosen.worst(empirical(nothing), np.array([4.0, -1.0, 2.0])).value == pytest.approx(-1.0, abs=1e-9)


@every_set
def test_a_sure_successor_stays_sure(build):
    for counts in ([0], [7]):
        chosen = build(np.array(counts), 0.1)
        assert chosen.worst(empirical(np.array(counts)), np.array([3.0])).value == pytest.approx(3.0)


def test_known_radii():
    counts = np.array([2, 3, 5])
    assert from_data.weissman(counts, 0.1).radius == pytest.approx(math.sqrt(0.2 * math.log(60)))
    assert from_data.types(counts, 0.1).radius == pytest.approx(math.log(math.comb(12, 2) / 0.1) / 10)
    assert from_data.hoeffding(counts, 0.1).radius == pytest.approx(math.sqrt(math.log(60) / 20))
    assert from_data.weissman(np.full(2000, 1), 0.1).radius == pytest.approx(
        math.sqrt(1e-3 * (2000 * math.log(2) - math.log(0.1)))
    )
    pearson = from_data.clopper_pearson(np.array([0, 10]), 0.1)
    assert pearson.upper[0] == pytest.approx(1 - 0.025**0.1)


def test_credible_balls_hold_the_posterior_mass_they_claim():
    generator, missed, trials, delta = np.random.default_rng(1), 0, 1500, 0.1
    for _ in range(trials):
        row = generator.dirichlet(np.ones(3))
        mean, ball = credible(generator.multinomial(6, row), delta, generator, draws=99)
        missed += not ball.contains(mean, row)
    # Exactly 0.1 misses are expected; a Chernoff bound makes 0.15 a chance below 1e-8.
    assert missed / trials <= 0.15
    assert missed / trials >= 0.05


def test_a_credible_ball_of_too_few_draws_is_everything():
    mean, ball = credible(np.array([3, 1]), 0.01, np.random.default_rng(0), draws=50)
    np.testing.assert_allclose(mean, [4 / 6, 2 / 6])
    assert ball.radius == 2.0


@pytest.mark.parametrize(
    ("counts", "delta", "fault"),
    [
        ([1, -1], 0.1, "entry 1 is -1"),
        ([1, 0.5], 0.1, "entry 1 is 0.5"),
        ([[1, 2]], 0.1, "one count for each entry"),
        ([], 0.1, "one count for each entry"),
        ([1, 2], 0.0, r"outside \(0, 1\)"),
        ([1, 2], np.nan, r"outside \(0, 1\)"),
    ],
)
def test_what_is_no_sample_is_refused(counts, delta, fault):
    for build in (*CONFIDENCE.values(), lambda c, d: credible(c, d, np.random.default_rng(0))):
        with pytest.raises(ModelError, match=fault):
            build(np.array(counts), delta)


@pytest.mark.parametrize(("settings", "fault"), [({"prior": 0.0}, "prior"), ({"draws": 0}, "draws"), ({"draws": 2.5}, "draws")])
def test_what_no_posterior_has_is_refused(settings, fault):
    with pytest.raises(ModelError, match=fault):
        credible(np.array([1, 2]), 0.1, np.random.default_rng(0), **settings)
