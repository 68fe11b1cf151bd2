"""Coupling coefficients and the basis of equivariant polynomials."""

from itertools import combinations_with_replacement, permutations
from math import factorial

import pytest
import torch
from e3nn.o3 import wigner_3j

from sciml.core.symmetry import random_reflection, random_rotation, wigner_d
from sciml.hip.net.coupling import (
    clebsch_gordan,
    coupling_paths,
    monomial_rank,
    monomials,
    num_components,
    product_basis,
)


def _multiplicity(max_ell: int, number: int, degree: int) -> int:
    """How often degree L of parity (-1)^L occurs among symmetric products, by counting states."""
    states = [(ell, m) for ell in range(max_ell + 1) for m in range(-ell, ell + 1)]
    count = {degree: 0, degree + 1: 0}
    for product in combinations_with_replacement(states, number):
        projection = sum(m for _, m in product)
        if projection in count and sum(ell for ell, _ in product) % 2 == degree % 2:
            count[projection] += 1
    return count[degree] - count[degree + 1]


def _values(max_ell: int, number: int, degree: int, features: torch.Tensor) -> torch.Tensor:
    """Values of all basis polynomials, shape ``(samples, k, 2L + 1)``."""
    factors = monomials(num_components(max_ell), number).factors
    basis = product_basis(max_ell, number, degree, (-1) ** degree)
    return torch.einsum("kmx,nx->nkm", basis, features[:, factors].prod(-1))


def test_coefficients_are_3j_symbols_with_component_normalisation() -> None:
    for path in coupling_paths(2, 3):
        ours = clebsch_gordan(*path)
        expected = wigner_3j(*path, dtype=torch.float64) * (2 * path[2] + 1) ** 0.5
        torch.testing.assert_close(ours, expected, atol=1e-13, rtol=0)
        assert ours.square().sum().item() == pytest.approx(2 * path[2] + 1)


def test_paths_obey_triangle_and_parity() -> None:
    paths = coupling_paths(2, 3)
    assert len(paths) == len(set(paths)) == 17  # hip.md §4.2
    assert sum(2 * third + 1 for *_, third in paths) == 71
    for first, second, third in paths:
        assert abs(first - second) <= third <= first + second
        assert (first + second + third) % 2 == 0
    assert coupling_paths(0, 2) == [(0, 0, 0), (0, 1, 1), (0, 2, 2)]


def test_monomials_are_listed_once_with_their_number_of_orders() -> None:
    listed = monomials(4, 3)
    assert len(listed) == 20  # C(4 + 3 - 1, 3)
    for factors, orders in zip(listed.factors.tolist(), listed.orderings.tolist(), strict=True):
        assert orders == len(set(permutations(factors)))
    assert torch.equal(monomial_rank(listed.factors, 4), torch.arange(20))
    assert monomials(4, 0).factors.shape == (1, 0)


@pytest.mark.parametrize(("degree", "counts"), [(0, (1, 4, 8)), (1, (1, 3, 12)), (2, (1, 5, 14))])
def test_counts_of_the_default_basis(degree: int, counts: tuple[int, ...]) -> None:
    # hip.md §4.3, harmonics up to l = 3
    found = tuple(len(product_basis(3, number, degree, (-1) ** degree)) for number in (1, 2, 3))
    assert found == counts


@pytest.mark.parametrize("max_ell", [1, 2, 3])
@pytest.mark.parametrize("number", [1, 2, 3, 4])
@pytest.mark.parametrize("degree", [0, 1, 2])
def test_basis_spans_all_equivariant_polynomials(max_ell: int, number: int, degree: int) -> None:
    basis = product_basis(max_ell, number, degree, (-1) ** degree)
    assert len(basis) == _multiplicity(max_ell, number, degree)
    if len(basis):
        assert torch.linalg.matrix_rank(basis.flatten(1), rtol=1e-8) == len(basis)


@pytest.mark.parametrize("number", [1, 2, 3, 4])
@pytest.mark.parametrize("degree", [0, 1, 2])
def test_polynomials_are_equivariant(number: int, degree: int) -> None:
    features = torch.randn(3, 16, dtype=torch.float64)
    still = _values(3, number, degree, features)
    for matrix in (random_rotation(0), random_reflection(1)):
        turned = _values(3, number, degree, features @ wigner_d(matrix, 3).T)
        action = wigner_d(matrix, degree)[degree**2 :, degree**2 :]
        torch.testing.assert_close(turned, still @ action.T, atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize("number", [2, 3])
def test_polynomials_are_orthonormal_as_symmetric_tensors(number: int) -> None:
    for degree in range(3):
        basis = product_basis(3, number, degree, (-1) ** degree)
        # the packed coefficient is the tensor's entry times its number of orders
        entries = basis / monomials(16, number).orderings.sqrt()
        gram = torch.einsum("kmx,lmx->kl", entries, entries)
        expected = (2 * degree + 1) * torch.eye(len(basis), dtype=torch.float64)
        torch.testing.assert_close(gram, expected, atol=1e-12, rtol=0)


def test_orderings_sum_to_the_number_of_tuples() -> None:
    assert monomials(5, 4).orderings.sum() == 5**4
    assert monomials(5, 4).orderings.max() == factorial(4)
