r"""Searching for laws that show that a functional does not meet a condition which dynamic programming needs.

mixtures    K nu_i >= K nu'_i, i = 1, 2, and yet K(mixture of nu) < K(mixture of nu')
discount    K law(X) >= K law(X'), and yet K law(g X) < K law(g X')

All pairs of small laws on few integer atoms are tried in exact rationals; what is found is a proof, what is not found is none.

Avila Pires et al. 2025, arXiv 2501.13028.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import Any

from .law import Law, Number, mixture

HALF = Fraction(1, 2)


def small_laws(atoms: Sequence[int] = (-2, -1, 0, 1, 2)) -> list[Law]:
    """Points and fair coins on the atoms, exact."""
    points = [Law.point(Fraction(x)) for x in atoms]
    return points + [Law.of([x, y], exact=True) for x, y in itertools.combinations(atoms, 2)]


def mixture_counterexample(functional: Any, laws: Sequence[Law] | None = None) -> tuple[Law, Law, Law] | None:
    """Laws nu, nu', mu with K nu >= K nu', and K(half nu, half mu) < K(half nu', half mu); None where none was found."""
    laws = small_laws() if laws is None else laws
    mixed = [[functional(mixture([HALF, HALF], [one, two])) for two in laws] for one in laws]
    for (i, nu), (k, other) in _ordered(functional, laws):
        for mu in range(len(laws)):
            if mixed[i][mu] < mixed[k][mu]:
                return nu, other, laws[mu]
    return None


def discount_counterexample(functional: Any, discount: Number, laws: Sequence[Law] | None = None) -> tuple[Law, Law] | None:
    """Laws nu, nu' with K nu >= K nu' whose order turns round when both are scaled; None where none was found."""
    laws = small_laws() if laws is None else laws
    scaled = [functional(law.affine(0, discount)) for law in laws]
    for (i, nu), (k, other) in _ordered(functional, laws):
        if scaled[i] < scaled[k]:
            return nu, other
    return None


def _ordered(functional: Any, laws: Sequence[Law]) -> Iterator[tuple[tuple[int, Law], tuple[int, Law]]]:
    values = [functional(law) for law in laws]
    for i, k in itertools.permutations(range(len(laws)), 2):
        if values[i] >= values[k]:
            yield (i, laws[i]), (k, laws[k])
