"""Terms of the Hessian block of a pair and their coefficients.

Shapes: n atoms, p pairs i < j, d channels of the head, h units of a hidden layer, s elements.
"""

from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, silu

from sciml.core.task import full_precision
from sciml.hip.net.base import Batch, Constant
from sciml.hip.net.settings import HessianHead
from sciml.hip.physics.blocks import pair_geometry
from sciml.hip.physics.radial import bessel

# With vectors v, symmetric tensors T and u = (x_j - x_i)/r, a pair block has these terms, each
# with one coefficient a channel:
#    0-3   p uᵀ with p = v_i, v_j, T_iu, T_ju      8-9    T_i, T_j
#    4-7   u pᵀ with the same p                    10-12  v_i v_jᵀ, v_j v_iᵀ, T_iu(T_ju)ᵀ
# and, by itself, v_i v_iᵀ, which is v_j v_jᵀ when read from j. The block from j to i, transposed,
# has the other terms in this order, with a minus where u stands an odd number of times:
TERMS = (5, 4, 7, 6, 1, 0, 3, 2, 9, 8, 10, 11, 12)
TERM_SIGNS = (-1.0, -1.0, 1.0, 1.0, -1.0, -1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0)
# Likewise for the invariants v_i·v_j, u·v_i, u·v_j, uᵀT_iu, uᵀT_ju, of which the first has no u:
INVARIANTS = (0, 2, 1, 4, 3)
INVARIANT_SIGNS = (1.0, -1.0, -1.0, 1.0, 1.0)

EMBEDDING = 8  # numbers that describe an element
OUTPUT_GAIN = 0.1  # of the initial weights of the last layers


class Nodes(NamedTuple):
    """Features of atoms.

    Args:
        scalars: Shape ``(n, d)``.
        vectors: v, shape ``(n, 3, d)``.
        tensors: Components of the symmetric traceless T, shape ``(n, 5, d)``.
    """

    scalars: Tensor
    vectors: Tensor
    tensors: Tensor


class Pairs(NamedTuple):
    """What is known of pairs of atoms.

    Args:
        distance: Distances r in Å, shape ``(p,)``.
        direction: Unit vectors u from i to j, shape ``(p, 3)``.
        vectors: v_i, v_j, T_iu and T_ju side by side, shape ``(p, 3, 4d)``.
        tensors: T_i and T_j side by side, shape ``(p, 5, 2d)``.
    """

    distance: Tensor
    direction: Tensor
    vectors: Tensor
    tensors: Tensor


class Coefficients(NamedTuple):
    """Coefficients of ``M_ij + M_jiᵀ``.

    Args:
        isotropic: Of I and uuᵀ, shape ``(p, 2)``.
        terms: Of the terms above, shape ``(p, 13, d)``.
        squares: Of v_i v_iᵀ and v_j v_jᵀ, shape ``(p, 2, d)``.
    """

    isotropic: Tensor
    terms: Tensor
    squares: Tensor


class PairCoefficients(nn.Module):
    """MLP of the invariants of a pair, from both of its ends.

    What depends on one atom enters the first layer once an atom instead of once a pair.

    Args:
        num_elements: Elements s of the trunk.
        settings: Size and options of the head.
    """

    def __init__(self, num_elements: int, settings: HessianHead) -> None:
        super().__init__()
        self.settings = settings
        self.dim = dim = settings.dim
        widths = settings.mlp
        kinds = len(INVARIANTS) if settings.directional else 1
        self.embedding = nn.Embedding(num_elements, EMBEDDING)
        self.near = nn.Linear(EMBEDDING + dim, widths[0])
        self.far = nn.Linear(EMBEDDING + dim, widths[0], bias=False)
        self.radial = nn.Linear(settings.num_basis, widths[0], bias=False)
        self.invariants = nn.Linear(kinds * dim, widths[0], bias=False)
        self.hidden = nn.ModuleList(nn.Linear(*sizes) for sizes in pairwise(widths))
        self.isotropic = output_layer(widths[-1], 2)
        self.terms = output_layer(widths[-1], len(TERMS) * dim)
        self.squares = output_layer(widths[-1], dim)
        self.swap_terms = Constant(_signed_permutation(TERMS, TERM_SIGNS))
        swap = _signed_permutation(INVARIANTS[:kinds], INVARIANT_SIGNS[:kinds])
        self.swap_invariants = Constant(swap)

    def forward(self, scalars: Tensor, species: Tensor, pairs: Pairs, batch: Batch) -> Coefficients:
        """Coefficients of all pairs.

        Args:
            scalars: Of all atoms, shape ``(n, d)``.
            species: Index of every atom into the elements, shape ``(n,)``.
            pairs: Geometry and features of all pairs.
            batch: Molecules with the keys ``pair_i`` and ``pair_j``.
        """
        ends = torch.stack([batch["pair_i"], batch["pair_j"]], dim=1)
        atoms = torch.cat([scalars, self.embedding(species)], dim=1)
        near = self.near(atoms).index_select(0, ends.flatten())
        far = self.far(atoms).index_select(0, ends.flip(1).flatten())
        hidden = silu((near + far).unflatten(0, (-1, 2)) + self._from_both_ends(pairs))
        for layer in self.hidden:
            hidden = silu(layer(hidden))
        isotropic = self.isotropic(hidden).sum(1)
        return Coefficients(isotropic, self._summed_terms(hidden), self.squares(hidden))

    def _from_both_ends(self, pairs: Pairs) -> Tensor:
        """Share of distance and invariants in the first layer, shape ``(p, 2, h)``."""
        radial, invariants = self._invariants(pairs)
        weight = self.invariants.weight
        swapped = self.swap_invariants.value @ weight.unflatten(1, (-1, self.dim))
        both = torch.cat([weight, swapped.flatten(1)])
        share: Tensor = linear(invariants, both).unflatten(1, (2, -1))
        share = share + self.radial(radial)[:, None]
        return share

    def _invariants(self, pairs: Pairs) -> tuple[Tensor, Tensor]:
        first, second, _ = pairs.vectors.split([self.dim, self.dim, 2 * self.dim], dim=2)
        invariants = (first * second).sum(1)
        with full_precision(invariants.device):
            radial = bessel(pairs.distance, self.settings.num_basis, self.settings.r_basis)
            if self.settings.directional:
                along = (pairs.direction[:, None] @ pairs.vectors).squeeze(1)
                invariants = torch.cat([invariants, along], dim=1)
        return radial, invariants

    def _summed_terms(self, hidden: Tensor) -> Tensor:
        """Coefficients of the shared terms from both ends, ``(p, 13, d)``."""
        weight = self.terms.weight.unflatten(0, (len(TERMS), -1))
        bias = self.terms.bias.unflatten(0, (len(TERMS), -1))
        swap = self.swap_terms.value
        both = torch.cat([weight, torch.einsum("kl,ldh->kdh", swap, weight)], dim=2)
        summed = linear(hidden.flatten(1), both.flatten(0, 1), (bias + swap @ bias).flatten())
        terms: Tensor = summed.unflatten(1, (len(TERMS), -1))
        return terms


def traceless_matrices(components: Tensor, basis: Tensor) -> Tensor:
    """Symmetric traceless matrices of their components.

    Args:
        components: Shape ``(..., 5)``.
        basis: Traceless symmetric matrices, shape ``(3, 3, 5)``.

    Returns:
        Matrices, shape ``(..., 3, 3)``.
    """
    return torch.einsum("abm,...m->...ab", basis, components)


def gather_pairs(nodes: Nodes, positions: Tensor, basis: Tensor, batch: Batch) -> Pairs:
    """Geometry and features of all pairs.

    Args:
        nodes: Features of all atoms.
        positions: Coordinates in Å, shape ``(n, 3)``.
        basis: Traceless symmetric matrices, shape ``(3, 3, 5)``.
        batch: Molecules with the keys ``pair_i`` and ``pair_j``.
    """
    distance, direction = pair_geometry(positions, batch)
    ends = batch["pair_i"], batch["pair_j"]
    vectors = [nodes.vectors.index_select(0, end) for end in ends]
    tensors = [nodes.tensors.index_select(0, end) for end in ends]
    contraction = torch.einsum("abm,pb->pam", basis, direction)
    vectors += [contraction @ tensor for tensor in tensors]
    return Pairs(distance, direction, torch.cat(vectors, dim=2), torch.cat(tensors, dim=2))


def contract(pairs: Pairs, coefficients: Coefficients, basis: Tensor) -> Tensor:
    """Sum of all terms of the blocks.

    Args:
        pairs: Geometry and features of all pairs.
        coefficients: Of all terms.
        basis: Traceless symmetric matrices, shape ``(3, 3, 5)``.

    Returns:
        Blocks ``M_ij + M_jiᵀ`` in the unit of the coefficients, shape ``(p, 3, 3)``.
    """
    u = pairs.direction
    with_u, tensor, products = coefficients.terms.split([8, 2, 3], dim=1)
    sides = pairs.vectors @ with_u.unflatten(1, (2, 4)).flatten(2).mT
    left, right = sides.unbind(2)
    isotropic, along = coefficients.isotropic.split(1, dim=1)
    blocks: Tensor = isotropic[:, :, None] * torch.eye(3, dtype=u.dtype, device=u.device)
    blocks = blocks + (left + along * u)[:, :, None] * u[:, None] + u[:, :, None] * right[:, None]
    traceless = (pairs.tensors @ tensor.flatten(1)[:, :, None]).squeeze(2)
    blocks = blocks + traceless_matrices(traceless, basis)
    blocks = blocks + _outer_products(pairs.vectors, products, coefficients.squares)
    return blocks


def _outer_products(vectors: Tensor, products: Tensor, squares: Tensor) -> Tensor:
    """Terms of two vectors, gathered by their left factor v_i, v_j or T_iu."""
    first, second, turned, last = vectors.chunk(4, dim=2)
    of_first, of_second = squares.split(1, dim=1)
    first_second, second_first, turned_last = products.split(1, dim=1)
    right = [
        of_first * first + first_second * second,
        second_first * first + of_second * second,
        turned_last * last,
    ]
    return torch.cat([first, second, turned], dim=2) @ torch.cat(right, dim=2).mT


def output_layer(width: int, count: int) -> nn.Linear:
    """Last layer, whose first blocks are small beside the prior.

    Args:
        width: Units of the layer before.
        count: Number of coefficients.
    """
    layer = nn.Linear(width, count)
    with torch.no_grad():
        layer.weight.mul_(OUTPUT_GAIN)
        layer.bias.mul_(OUTPUT_GAIN)
    return layer


def _signed_permutation(order: tuple[int, ...], signs: tuple[float, ...]) -> Tensor:
    """Matrix whose row k has its sign in column ``order[k]``."""
    return torch.eye(len(order), dtype=torch.float64)[list(order)] * torch.tensor(signs)[:, None]
