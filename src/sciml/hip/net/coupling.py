"""Constants of equivariant products, built from the Wigner 3j symbols of e3nn.

Features hold the degrees l = 0…L after each other, 2l + 1 components each, and have the parity
(-1)^l throughout.
"""

from dataclasses import dataclass
from functools import cache
from itertools import combinations_with_replacement
from math import sqrt

import torch
from torch import Tensor

Path = tuple[int, int, int]
RANK_TOLERANCE = 1e-8


def num_components(max_ell: int) -> int:
    """Components of all degrees up to a largest one."""
    return (max_ell + 1) ** 2


def degree_of_component(max_ell: int) -> Tensor:
    """Degree l of every component, int64, shape ``((max_ell + 1)²,)``."""
    degrees = torch.arange(max_ell + 1)
    return torch.repeat_interleave(degrees, 2 * degrees + 1)


def coupling_paths(max_in: int, max_ell: int) -> list[Path]:
    """Products of features and spherical harmonics that keep the parity, ordered by the result.

    Args:
        max_in: Largest degree l₁ of the features.
        max_ell: Largest degree of the harmonics, l₂, and of the result, l₃.

    Returns:
        Triples (l₁, l₂, l₃).
    """
    return [
        (first, second, third)
        for third in range(max_ell + 1)
        for first in range(max_in + 1)
        for second in range(abs(first - third), min(first + third, max_ell) + 1)
        if (first + second + third) % 2 == 0
    ]


@cache
def clebsch_gordan(first: int, second: int, third: int) -> Tensor:
    """Coupling coefficients of three degrees, ``√(2l₃ + 1)`` times the 3j symbols.

    Args:
        first: Degree l₁.
        second: Degree l₂.
        third: Degree l₃.

    Returns:
        Float64 coefficients with ``Σ C² = 2l₃ + 1``, shape ``(2l₁ + 1, 2l₂ + 1, 2l₃ + 1)``.
    """
    from e3nn.o3 import wigner_3j  # takes a second, which only a network has to pay

    symbols: Tensor = wigner_3j(first, second, third, dtype=torch.float64)
    return symbols * sqrt(2 * third + 1)


@dataclass(frozen=True)
class Monomials:
    """Products of components, each with its factors in ascending order.

    Args:
        factors: Index of every factor, shape ``(monomials, degree)``.
        orderings: Number of different orders of the factors, shape ``(monomials,)``.
    """

    factors: Tensor
    orderings: Tensor

    def __len__(self) -> int:
        return len(self.factors)


@cache
def monomials(count: int, degree: int) -> Monomials:
    """All monomials of one degree in lexicographic order.

    Args:
        count: Number of components.
        degree: Number of factors.
    """
    listed = list(combinations_with_replacement(range(count), degree))
    factors = torch.tensor(listed, dtype=torch.int64).view(len(listed), degree)
    orderings = torch.ones(len(listed), dtype=torch.float64)
    run = torch.ones(len(listed), dtype=torch.float64)
    for slot in range(1, degree):
        repeated = factors[:, slot] == factors[:, slot - 1]
        run = torch.where(repeated, run + 1, torch.ones_like(run))
        orderings = orderings * (slot + 1) / run
    return Monomials(factors, orderings)


def monomial_rank(factors: Tensor, count: int) -> Tensor:
    """Place of monomials in the list of `monomials`.

    Args:
        factors: Ascending factors, shape ``(..., degree)``.
        count: Number of components.
    """
    listed = monomials(count, factors.shape[-1]).factors
    place = count ** torch.arange(factors.shape[-1] - 1, -1, -1)
    return torch.searchsorted((listed * place).sum(-1), (factors * place).sum(-1))


@cache
def product_basis(max_ell: int, degree: int, result: int, parity: int) -> Tensor:
    """Basis of the equivariant polynomials of one degree in the components of one feature.

    A polynomial of degree ν is a sum of couplings of polynomials of degree ν - 1 with the feature.
    The couplings are orthonormalised one after the other, in the norm of symmetric tensors, and
    those that depend on earlier ones are dropped; unlike the singular vectors of all of them, the
    result is the same on every machine, which weights in a checkpoint rely on.

    Args:
        max_ell: Largest degree l of the feature.
        degree: Degree ν of the polynomials.
        result: Degree L of their value under rotations.
        parity: Their sign under inversion, 1 or -1.

    Returns:
        Float64 coefficients of k polynomials on the packed monomials, of norm √(2L + 1) as
        symmetric tensors, shape ``(k, 2L + 1, monomials)``.
    """
    count = num_components(max_ell)
    if degree == 1:
        if result > max_ell or parity != (-1) ** result:
            return torch.zeros(0, 2 * result + 1, count, dtype=torch.float64)
        rows = torch.eye(count, dtype=torch.float64)[result**2 : (result + 1) ** 2]
        return rows[None]
    size = len(monomials(count, degree))
    couplings = []
    for ell in range(max_ell + 1):
        for inner in range(abs(ell - result), min(ell + result, max_ell * (degree - 1)) + 1):
            lower = product_basis(max_ell, degree - 1, inner, parity * (-1) ** ell)
            terms, factors = _multiply(lower, monomials(count, degree - 1).factors, ell, result)
            zero = terms.new_zeros(*terms.shape[:2], size)
            couplings.append(zero.index_add(2, monomial_rank(factors, count), terms))
    weight = monomials(count, degree).orderings.rsqrt()
    basis = _orthonormal(torch.cat(couplings) * weight) / weight
    return basis * sqrt(2 * result + 1)


def _multiply(polynomials: Tensor, factors: Tensor, ell: int, result: int) -> tuple[Tensor, Tensor]:
    """Couple polynomials with the components of degree `ell` of the feature.

    Args:
        polynomials: Coefficients, shape ``(k, 2·inner + 1, monomials)``.
        factors: Factors of these monomials.
        ell: Degree of the components.
        result: Degree of the result.

    Returns:
        Coefficients, shape ``(k, 2·result + 1, terms)``, and the factors of every term in
        ascending order.
    """
    inner = (polynomials.shape[1] - 1) // 2
    variables = torch.arange(ell**2, (ell + 1) ** 2)
    pairs = torch.cartesian_prod(torch.arange(len(factors)), variables)
    products = torch.cat([factors[pairs[:, 0]], pairs[:, 1:]], dim=1).sort(1).values
    symbols = clebsch_gordan(inner, ell, result)
    return torch.einsum("kax,avm->kmxv", polynomials, symbols).flatten(2), products


def _orthonormal(candidates: Tensor) -> Tensor:
    """Gram-Schmidt of the rows, each done twice; dependent rows are dropped."""
    kept: list[Tensor] = []
    for row in candidates:  # each step needs the earlier ones; there are some dozens
        for _ in range(2):
            for other in kept:
                row = row - (row * other).sum() * other
        if row.norm() > RANK_TOLERANCE:
            kept.append(row / row.norm())
    return torch.stack(kept) if kept else candidates[:0]
