"""Batched projections equal the laws' own, row by row, in float64."""

import numpy as np
import pytest
import torch
from banach.cuda.projection import categorical_projection, quantile_projection
from banach.mdp.law import Law
from banach.solvers.projected_laws import Categorical, Quantiles
from hypothesis import given, settings
from hypothesis import strategies as st

SHAPES = st.tuples(st.integers(1, 5), st.integers(1, 9), st.integers(2, 12), st.integers(0, 10**6))


def batch(rows, atoms, seed):
    """Laws with repeated atoms, atoms without weight, and atoms beyond [-4, 4]; atoms are eighths, weights 30ths."""
    rng = np.random.default_rng(seed)
    y = rng.integers(-40, 41, (rows, atoms)) / 8
    p = rng.multinomial(30, np.ones(atoms) / atoms, rows) / 30
    return torch.tensor(y), torch.tensor(p)


def on_grid(law, grid):
    found = np.zeros(len(grid))
    found[np.searchsorted(grid, law.atoms)] = law.weights
    return found


@settings(max_examples=60, deadline=None)
@given(SHAPES)
def test_the_categorical_projection_is_that_of_each_law(shape):
    rows, atoms, points, seed = shape
    y, p = batch(rows, atoms, seed)
    found = categorical_projection(y, p, torch.tensor(np.linspace(-4, 4, points)))
    for n in range(rows):
        wanted = Categorical(points).project(Law.of(y[n].tolist(), p[n].tolist()), (-4, 4))
        np.testing.assert_allclose(found[n].numpy(), on_grid(wanted, np.linspace(-4, 4, points)), rtol=0, atol=1e-14)


@settings(max_examples=60, deadline=None)
@given(SHAPES)
def test_the_quantile_projection_is_that_of_each_law(shape):
    rows, atoms, quantiles, seed = shape
    y, p = batch(rows, atoms, seed)
    found = quantile_projection(y, p, quantiles)
    for n in range(rows):
        wanted = Quantiles(quantiles).project(Law.of(y[n].tolist(), p[n].tolist()), (-4, 4))
        assert Law.of(found[n].tolist()).atoms.tolist() == wanted.atoms.tolist()
        np.testing.assert_allclose(Law.of(found[n].tolist()).weights, wanted.weights, rtol=0, atol=1e-14)
        assert (found[n].diff() >= 0).all()


def test_a_grid_may_be_uneven():
    grid = torch.tensor([-3.0, -1.0, 0.0, 4.0], dtype=torch.float64)
    found = categorical_projection(torch.tensor([[-2.0, 1.0, 9.0]]).double(), torch.tensor([[0.25, 0.5, 0.25]]).double(), grid)
    assert found.tolist() == [[0.125, 0.125, 0.375, 0.375]]


def test_weights_are_divided_by_their_sum():
    atoms = torch.tensor([[0.0, 1.0]], dtype=torch.float64)
    weights = torch.tensor([[0.5, 0.5 + 5e-10]], dtype=torch.float64)
    assert categorical_projection(atoms, weights, atoms[0]).sum() == 1.0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_levels_at_jumps_are_taken_for_them(dtype):
    """Sums of 1/(2M) miss the levels (2m - 1)/(2M) by rounding; the atoms are those of exact arithmetic all the same."""
    for quantiles in range(1, 60):
        atoms = torch.arange(2 * quantiles, dtype=dtype)[None]
        found = quantile_projection(atoms, torch.full_like(atoms, 1 / (2 * quantiles)), quantiles)
        assert found[0].tolist() == list(range(0, 2 * quantiles, 2))


@pytest.mark.parametrize("wrong", ["atom", "infinite", "negative", "heavy", "weight"])
def test_a_row_that_is_no_law_comes_out_as_nan_and_spoils_no_other(wrong):
    atoms, weights = torch.tensor([[0.0, 1.0]] * 3).double(), torch.full((3, 2), 0.5).double()
    {"atom": atoms, "infinite": atoms}.get(wrong, weights)[1] = {
        "atom": torch.tensor([0.0, torch.nan]),
        "infinite": torch.tensor([0.0, torch.inf]),
        "negative": torch.tensor([-0.5, 1.5]),
        "heavy": torch.tensor([0.5, 0.6]),
        "weight": torch.tensor([0.5, torch.nan]),
    }[wrong].double()
    for found in (categorical_projection(atoms, weights, atoms[0]), quantile_projection(atoms, weights, 2)):
        assert found[1].isnan().all()
        assert found[0].isfinite().all()
        assert torch.equal(found[0], found[2])


def test_projections_carry_no_gradient():
    atoms = torch.tensor([[0.0, 1.0]], requires_grad=True)
    weights = torch.full((1, 2), 0.5)
    assert not categorical_projection(atoms, weights, torch.tensor([0.0, 1.0])).requires_grad
    assert not quantile_projection(atoms, weights, 2).requires_grad


def test_no_laws_are_no_trouble():
    none = torch.empty(0, 3)
    assert categorical_projection(none, none, torch.tensor([0.0, 1.0])).shape == (0, 2)
    assert quantile_projection(none, none, 4).shape == (0, 4)


LAW = {"atoms_NA": torch.zeros(1, 2), "weights_NA": torch.full((1, 2), 0.5)}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"atoms_NA": torch.zeros(1, 3)}, r"\(1, 3\) and weights_NA \(1, 2\)"),
        ({"atoms_NA": torch.zeros(1, 0), "weights_NA": torch.zeros(1, 0)}, "at least one atom"),
        ({"atoms_NA": torch.zeros(1, 2).double()}, "float32 or float64 for both"),
        ({"grid_M": torch.tensor([0.0])}, "at least two points"),
        ({"grid_M": torch.tensor([0.0, 1.0]).double()}, "float64"),
        ({"grid_M": torch.tensor([0.0, 0.0, 1.0])}, "does not increase strictly"),
        ({"grid_M": torch.tensor([0.0, torch.inf])}, "finite points"),
    ],
)
def test_what_does_not_fit_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        categorical_projection(**(LAW | {"grid_M": torch.tensor([0.0, 1.0])} | change))


@pytest.mark.parametrize("quantiles", [0, True, 2.0])
def test_a_number_of_quantiles_that_is_none_is_refused(quantiles):
    with pytest.raises(ValueError, match="whole number"):
        quantile_projection(**LAW, quantiles=quantiles)
