"""Symmetric contraction: equivariant polynomials in the features of one atom.

Shapes: n atoms, c channels, s elements, k polynomials, q monomials.
"""

from dataclasses import dataclass
from functools import reduce

import torch
from torch import Tensor, nn

from sciml.core.task import full_precision
from sciml.hip.net.base import Constant
from sciml.hip.net.coupling import (
    degree_of_component,
    monomial_rank,
    monomials,
    num_components,
    product_basis,
)
from sciml.hip.net.linear import Groups

MAX_CORRELATION = 4


class SymmetricContraction(nn.Module):
    """Equivariant polynomials up to some number of factors, weighted by element and channel.

    All are folded into ``B_M = Σ_i A_i Σ_q T_(i,M),q z_q``: z are the monomials in ``[1, A]`` with
    one factor less than the largest number, none of them before i, and ``T = Σ_k w_k U_k`` is made
    once a step, or once for all while evaluating. Everything splits by the parity of M and the
    degree of i. Channels come first, because each has matrices of its own.

    Args:
        channels: Channels c, which do not mix.
        max_ell: Largest degree of the input.
        max_L: Largest degree of the output.
        correlation: Largest number of factors, 1 to 4.
        num_elements: Elements s, which have weights of their own.
    """

    def __init__(
        self, channels: int, max_ell: int, max_L: int, correlation: int, num_elements: int
    ) -> None:
        super().__init__()
        if not 1 <= correlation <= MAX_CORRELATION:
            raise ValueError(
                f"model.net.correlation is {correlation}; it is 1 to {MAX_CORRELATION}"
            )
        self.max_L, self.correlation = max_L, correlation
        inner = InnerMonomials.of(max_ell, correlation - 1)
        self._sizes = [len(factors) for factors in inner.factors]
        degree = degree_of_component(max_L)
        order = torch.cat([(degree % 2 == 0).nonzero(), (degree % 2 == 1).nonzero()]).flatten()
        self.register_buffer("_factors", torch.cat(inner.factors).T.contiguous(), persistent=False)
        self.register_buffer("_place", order.argsort(), persistent=False)
        self._factors: Tensor
        self._place: Tensor
        parities = range(min(max_L, 1) + 1)
        folds = [Fold(inner, max_L, correlation, parity) for parity in parities]
        self.folds = nn.ModuleList(folds)
        self.weights = nn.ParameterList(
            torch.randn(num_elements, len(fold.alike), channels) / fold.alike[:, None]
            for fold in folds
        )
        self._tables: dict[int, list[list[Tensor]]] = {}
        self._folded_from: list[Tensor] = []
        self._frozen = False

    def train(self, mode: bool = True) -> "SymmetricContraction":
        """Switch the mode and forget what was folded for evaluation."""
        self._tables, self._folded_from, self._frozen = {}, [], False
        return super().train(mode)

    def freeze(self) -> None:
        """Fold the weights of all elements now and, while evaluating, never look at them again."""
        self.eval()
        for element in range(len(self.weights[0])):
            self._table(element)
        self._frozen = True

    def forward(self, features: Tensor, groups: Groups) -> Tensor:
        """Evaluate the polynomials; while evaluating the weights get no gradient.

        Args:
            features: A, ordered by element, shape ``(c, (max_ell + 1)², n)``.
            groups: Atoms of every element.

        Returns:
            B, shape ``(c, (max_L + 1)², n)``.
        """
        with full_precision(features.device):
            features = features.to(self.weights[0])
            if not (self.training or self._frozen):
                self._forget_old_tables()
            parts = [
                self._evaluate(columns, self._table(element))
                for element, columns in groups.split(features, 2)
            ]
            return groups.join(parts, 2).index_select(1, self._place)

    def _evaluate(self, features: Tensor, tables: list[list[Tensor]]) -> Tensor:
        """Polynomials of the atoms of one element, even components first."""
        one = torch.ones_like(features[:, :1])
        extended = torch.cat([one, features], dim=1)
        factors = [extended.index_select(1, factor) for factor in self._factors]
        inner = reduce(torch.mul, factors) if factors else one
        columns = inner.split(self._sizes, dim=1)
        results = []
        for parity, table in enumerate(tables):
            rows = [
                matrix @ columns[(parity + ell) % 2][:, : matrix.shape[2]]
                for ell, matrix in enumerate(table)
            ]
            by_outer = torch.cat(rows, dim=1).unflatten(1, (features.shape[1], -1))
            results.append((by_outer * features.unsqueeze(2)).sum(1))
        return torch.cat(results, dim=1)

    def _table(self, element: int) -> list[list[Tensor]]:
        """Matrices T of one element by the parity of M and the degree of i."""
        pairs = zip(self.folds, self.weights, strict=True)
        if self.training:
            return [fold(weight[element]) for fold, weight in pairs]
        if element not in self._tables:
            with torch.no_grad():
                self._tables[element] = [fold(weight[element]) for fold, weight in pairs]
        return self._tables[element]

    def _forget_old_tables(self) -> None:
        """Drop the tables when a weight changed, in whatever way, or moved."""
        kept = self._folded_from
        same = len(kept) == len(self.weights) and all(
            old.dtype == new.dtype and old.device == new.device and torch.equal(old, new)
            for old, new in zip(kept, self.weights, strict=True)
        )
        if not same:
            self._tables = {}
            self._folded_from = [weight.detach().clone() for weight in self.weights]


class Fold(nn.Module):
    """From weights to the matrices T of all components M of one parity.

    Args:
        inner: Columns of the matrices.
        max_L: Largest degree of M.
        correlation: Largest number of factors.
        parity: 0 for the even degrees of M, 1 for the odd ones.
    """

    def __init__(self, inner: "InnerMonomials", max_L: int, correlation: int, parity: int) -> None:
        super().__init__()
        bases = {
            (degree, number): product_basis(inner.max_ell, number, degree, (-1) ** degree)
            for degree in range(parity, max_L + 1, 2)
            for number in range(1, correlation + 1)
        }
        counts = torch.tensor([len(basis) for basis in bases.values()])
        self.alike = torch.repeat_interleave(counts, counts)
        outputs = sum(2 * degree + 1 for degree in range(parity, max_L + 1, 2))
        full = self._scatter(bases, inner, outputs, parity)
        self.parts = nn.ModuleList()
        for ell in range(inner.max_ell + 1):
            columns = inner.reach[(parity + ell) % 2][ell]
            rows = full[:, ell**2 : (ell + 1) ** 2, :, :columns]
            self.parts.append(Constant(rows.flatten(1, 2)))

    def forward(self, weight: Tensor) -> list[Tensor]:
        """Matrices of every degree of i.

        Args:
            weight: Weights of one element, shape ``(k, c)``.

        Returns:
            One matrix ``(c, (2l + 1)·outputs, q)`` for every l; the rows run over i, then M.
        """
        basis: list[Tensor] = [part() for part in self.parts]
        return [(weight.T @ part.flatten(1)).unflatten(1, part.shape[1:]) for part in basis]

    @staticmethod
    def _scatter(
        bases: dict[tuple[int, int], Tensor], inner: "InnerMonomials", outputs: int, parity: int
    ) -> Tensor:
        """Coefficients by polynomial, first factor i, component M and monomial of the others."""
        count = num_components(inner.max_ell)
        sizes = (
            sum(map(len, bases.values())),
            count,
            outputs,
            max(inner.reach[0] + inner.reach[1]),
        )
        full = torch.zeros(sizes, dtype=torch.float64)
        start = 0
        for (degree, number), basis in bases.items():
            # components of the lower degrees of the same parity come first
            row = sum(2 * lower + 1 for lower in range(parity, degree, 2))
            target = full[start : start + len(basis), :, row : row + basis.shape[1]]
            factors = monomials(count, number).factors
            used = (basis != 0).flatten(0, 1).any(0)
            first, column = factors[used, 0], inner.column_of(factors[used, 1:])
            target.transpose(1, 2)[:, :, first, column] = basis[..., used]
            start += len(basis)
        return full


@dataclass(frozen=True)
class InnerMonomials:
    """Monomials of one degree in ``[1, A]``, by parity and with late factors first.

    Args:
        max_ell: Largest degree l of A.
        factors: Factors of the even and of the odd ones, each of shape ``(q, degree)``; 0 stands
            for the constant.
        reach: For both parities, how many of them have no factor of a degree below l, by l.
        columns: Place among those of its parity of every monomial in the order of `monomials`.
    """

    max_ell: int
    factors: tuple[Tensor, Tensor]
    reach: tuple[list[int], list[int]]
    columns: Tensor

    @staticmethod
    def of(max_ell: int, degree: int) -> "InnerMonomials":
        """List them.

        Args:
            max_ell: Largest degree l of A.
            degree: Number of factors.
        """
        ells = torch.cat([torch.tensor([max_ell + 1]), degree_of_component(max_ell)])
        listed = monomials(len(ells), degree).factors
        lowest = ells[listed].amin(-1) if degree else torch.tensor([max_ell + 1])
        odd = torch.where(listed > 0, ells[listed], 0).sum(-1) % 2
        columns = torch.zeros_like(lowest)
        factors, reach = [], []
        for parity in (0, 1):
            own = (odd == parity).nonzero().flatten()
            own = own[lowest[own].argsort(descending=True, stable=True)]
            columns[own] = torch.arange(len(own))
            factors.append(listed[own])
            reach.append([int((lowest[own] >= ell).sum()) for ell in range(max_ell + 1)])
        return InnerMonomials(max_ell, (factors[0], factors[1]), (reach[0], reach[1]), columns)

    def column_of(self, factors: Tensor) -> Tensor:
        """Column of products of components.

        Args:
            factors: Ascending components, shape ``(..., any number up to the degree)``.
        """
        degree = self.factors[0].shape[1]
        ones = torch.zeros(*factors.shape[:-1], degree - factors.shape[-1], dtype=torch.int64)
        padded = torch.cat([ones, factors + 1], dim=-1)
        return self.columns[monomial_rank(padded, num_components(self.max_ell) + 1)]
