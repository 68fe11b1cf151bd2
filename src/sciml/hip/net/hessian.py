"""Hessian blocks from the features of both atoms of a pair.

Shapes: n atoms, p pairs i < j, c channels of the trunk, d channels of the head, s elements,
h units of the last hidden layer.
"""

from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, silu

from sciml.hip.net.base import Batch, Constant
from sciml.hip.net.coupling import clebsch_gordan
from sciml.hip.net.settings import HessianHead
from sciml.hip.physics.blocks import PRIOR_FUNCTIONS, fitted_blocks, pair_geometry, sum_rule
from sciml.hip.physics.radial import bessel, polynomial_cutoff
from sciml.hip.physics.statistics import HessianStatistics

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
SIZE, REACH = 3.0, 1.5  # eV/Å² and Å: blocks are about SIZE/(1 + (r/REACH)⁴)
OUTPUT_GAIN = 0.1  # of the initial weights of the last layers
CUTOFF_POWER = 5
NORM_FLOOR = 1e-6  # added to mean squares


class Nodes(NamedTuple):
    """Scalars ``(n, d)``, vectors ``(n, 3, d)`` and traceless tensors ``(n, 5, d)`` of atoms."""

    scalars: Tensor
    vectors: Tensor
    tensors: Tensor


class Pairs(NamedTuple):
    """Direction u ``(p, 3)``; v_i, v_j, T_iu, T_ju ``(p, 3, 4d)``; T_i, T_j ``(p, 5, 2d)``."""

    direction: Tensor
    vectors: Tensor
    tensors: Tensor


class Coefficients(NamedTuple):
    """Of I and uuᵀ ``(p, 2)``; of the terms ``(p, 13, d)``; of v_i v_iᵀ, v_j v_jᵀ ``(p, 2, d)``."""

    isotropic: Tensor
    terms: Tensor
    squares: Tensor


class PairHead(nn.Module):
    """Cartesian 3×3 blocks of all pairs and of all atoms.

    A block is a sum of outer products of the direction of the pair and of vectors and tensors of
    both atoms; their coefficients are an MLP of all invariants of the pair. Blocks are evaluated
    from i to j and from j to i, ``B_ij = ½(M_ij + M_jiᵀ)``: the order of atoms does not matter
    and the antisymmetric part of a block is free.

    Args:
        channels: Channels c of the trunk.
        max_L: Highest angular order of the trunk's features, 2 or more.
        num_layers: Layers of the trunk.
        num_elements: Elements s of the trunk.
        settings: Size and options.

    Raises:
        ValueError: The trunk has no tensors (max_L below 2).
    """

    prior: Tensor

    def __init__(
        self, channels: int, max_L: int, num_layers: int, num_elements: int, settings: HessianHead
    ) -> None:
        super().__init__()
        if max_L < 2:
            raise ValueError(
                f"model.net.max_L is {max_L}, but the Hessian head needs features up to l = 2; "
                "set max_L to 2 or more, or head to null"
            )
        self.settings = settings
        self.nodes = NodeProjection(channels, num_layers, settings)
        self.coefficients = PairCoefficients(num_elements, settings)
        self.onsite = OnsiteBlocks(num_elements, settings) if "node" in settings.diag else None
        self.basis = Constant(clebsch_gordan(1, 1, 2))
        prior = torch.zeros(num_elements, num_elements, PRIOR_FUNCTIONS, 2)
        self.register_buffer("prior", prior if settings.prior else None)

    def set_statistics(self, statistics: HessianStatistics) -> None:
        """Take over the pair prior, unless the settings leave it out.

        Args:
            statistics: Of the training split, for the elements of the trunk.
        """
        if self.settings.prior:
            self.prior.copy_(statistics.prior)

    def forward(
        self, features: list[Tensor], species: Tensor, positions: Tensor, batch: Batch
    ) -> tuple[Tensor, Tensor]:
        """Blocks of all pairs i < j and of all atoms.

        Args:
            features: Of every layer of the trunk, each ``(n, (max_L + 1)², c)``.
            species: Index of every atom into the elements, shape ``(n,)``.
            positions: Coordinates in Å, shape ``(n, 3)``.
            batch: Molecules with the keys ``batch``, ``pair_i`` and ``pair_j``.

        Returns:
            Blocks ``H_ij`` in eV/Å², shape ``(p, 3, 3)``, and symmetric blocks ``H_ii`` in eV/Å²,
            shape ``(n, 3, 3)``.
        """
        if self.settings.detach:
            features = [layer.detach() for layer in features]
        nodes = Nodes(*(part.to(positions.dtype) for part in self.nodes(features)))
        pair = self._pair_blocks(nodes, species, positions, batch)
        diagonal = sum_rule(pair, batch)
        if self.onsite is not None:
            onsite = self.settings.out_scale * self.onsite(nodes, species, self.basis.value)
            diagonal = diagonal + onsite if "sumrule" in self.settings.diag else onsite
        return pair, diagonal

    def _pair_blocks(
        self, nodes: Nodes, species: Tensor, positions: Tensor, batch: Batch
    ) -> Tensor:
        distance, direction = pair_geometry(positions, batch)
        pairs = _gather(nodes, direction, self.basis.value, batch)
        coefficients = self.coefficients(nodes.scalars, species, distance, pairs, batch)
        coefficients = Coefficients(*(part.to(positions.dtype) for part in coefficients))
        scale = self.settings.out_scale / 2 * SIZE / (1 + (distance / REACH) ** 4)
        blocks = scale[:, None, None] * _contract(pairs, coefficients, self.basis.value)
        if self.settings.prior:
            own = self.prior[species[batch["pair_i"]], species[batch["pair_j"]]]
            blocks = blocks + fitted_blocks(distance, direction, own)
        if self.settings.r_max is not None:
            envelope = polynomial_cutoff(distance, self.settings.r_max, CUTOFF_POWER)
            blocks = blocks * envelope[:, None, None]
        return blocks


class NodeProjection(nn.Module):
    """Normalised features of all chosen layers, mixed to the channels of the head.

    Args:
        channels: Channels c of the trunk.
        num_layers: Layers of the trunk.
        settings: Size and options of the head.
    """

    def __init__(self, channels: int, num_layers: int, settings: HessianHead) -> None:
        super().__init__()
        self.layers = settings.layers
        width = channels * num_layers if settings.layers == "concat" else channels
        self.mix = nn.ModuleList(nn.Linear(width, settings.dim, bias=False) for _ in range(3))
        mixture = torch.zeros(num_layers) if settings.layers == "softmax" else None
        self.register_parameter("mixture", None if mixture is None else nn.Parameter(mixture))

    def forward(self, features: list[Tensor]) -> Nodes:
        """Scalars, vectors and tensors of the head.

        Args:
            features: Of every layer, each ``(n, (max_L + 1)², c)``.
        """
        combined = self._combine([layer[:, :9] for layer in features])
        scalars, vectors, tensors = (
            mix(_normalized(part))
            for mix, part in zip(self.mix, combined.split([1, 3, 5], dim=1), strict=True)
        )
        return Nodes(scalars.squeeze(1), vectors, tensors)

    def _combine(self, features: list[Tensor]) -> Tensor:
        if self.layers == "concat":
            return torch.cat(features, dim=2)
        if self.layers == "last":
            return features[-1]
        if self.layers == "mean":
            return torch.stack(features).mean(0)
        assert isinstance(self.mixture, Tensor)
        share = torch.softmax(self.mixture, dim=0)
        return torch.einsum("t,tnmc->nmc", share, torch.stack(features))


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
        self.isotropic = _output_layer(widths[-1], 2)
        self.terms = _output_layer(widths[-1], len(TERMS) * dim)
        self.squares = _output_layer(widths[-1], dim)
        self.swap_terms = Constant(_signed_permutation(TERMS, TERM_SIGNS))
        swap = _signed_permutation(INVARIANTS[:kinds], INVARIANT_SIGNS[:kinds])
        self.swap_invariants = Constant(swap)

    def forward(
        self, scalars: Tensor, species: Tensor, distance: Tensor, pairs: Pairs, batch: Batch
    ) -> Coefficients:
        """Coefficients of ``M_ij + M_jiᵀ``.

        Args:
            scalars: Of all atoms, shape ``(n, d)``.
            species: Index of every atom into the elements, shape ``(n,)``.
            distance: Of all pairs in Å, shape ``(p,)``.
            pairs: Directions, vectors and tensors of all pairs.
            batch: Molecules with the keys ``pair_i`` and ``pair_j``.
        """
        ends = torch.stack([batch["pair_i"], batch["pair_j"]], dim=1)
        atoms = torch.cat([scalars, self.embedding(species)], dim=1)
        radial = self.radial(bessel(distance, self.settings.num_basis, self.settings.r_basis))
        hidden = self.near(atoms)[ends] + self.far(atoms)[ends.flip(1)] + radial[:, None]
        hidden = silu(hidden + self._from_both_ends(pairs))
        for layer in self.hidden:
            hidden = silu(layer(hidden))
        isotropic = self.isotropic(hidden).sum(1)
        return Coefficients(isotropic, self._summed_terms(hidden), self.squares(hidden))

    def _from_both_ends(self, pairs: Pairs) -> Tensor:
        """Share of the invariants in the first layer ``(p, 2, h)``."""
        first, second, _ = pairs.vectors.split([self.dim, self.dim, 2 * self.dim], dim=2)
        invariants = (first * second).sum(1)
        if self.settings.directional:
            along = (pairs.direction[:, None] @ pairs.vectors).squeeze(1)
            invariants = torch.cat([invariants, along], dim=1)
        weight = self.invariants.weight
        swapped = self.swap_invariants.value @ weight.unflatten(1, (-1, self.dim))
        both = torch.cat([weight, swapped.flatten(1)])
        share: Tensor = linear(invariants, both).unflatten(1, (2, -1))
        return share

    def _summed_terms(self, hidden: Tensor) -> Tensor:
        """Coefficients of the shared terms from both ends, ``(p, 13, d)``."""
        weight = self.terms.weight.unflatten(0, (len(TERMS), -1))
        bias = self.terms.bias.unflatten(0, (len(TERMS), -1))
        swap = self.swap_terms.value
        both = torch.cat([weight, torch.einsum("kl,ldh->kdh", swap, weight)], dim=2)
        summed = linear(hidden.flatten(1), both.flatten(0, 1), (bias + swap @ bias).flatten())
        terms: Tensor = summed.unflatten(1, (len(TERMS), -1))
        return terms


class OnsiteBlocks(nn.Module):
    """Symmetric blocks of single atoms, ``d₀I + Σ d T_i + Σ d' v_i v_iᵀ``.

    Args:
        num_elements: Elements s of the trunk.
        settings: Size and options of the head.
    """

    def __init__(self, num_elements: int, settings: HessianHead) -> None:
        super().__init__()
        self.dim = settings.dim
        self.embedding = nn.Embedding(num_elements, EMBEDDING)
        widths = (EMBEDDING + settings.dim, *settings.mlp)
        self.hidden = nn.ModuleList(nn.Linear(*sizes) for sizes in pairwise(widths))
        self.output = _output_layer(widths[-1], 1 + 2 * settings.dim)

    def forward(self, nodes: Nodes, species: Tensor, basis: Tensor) -> Tensor:
        """Blocks of all atoms in eV/Å², shape ``(n, 3, 3)``.

        Args:
            nodes: Features of all atoms.
            species: Index of every atom into the elements, shape ``(n,)``.
            basis: Traceless symmetric matrices, shape ``(3, 3, 5)``.
        """
        hidden = torch.cat([nodes.scalars, self.embedding(species)], dim=1)
        for layer in self.hidden:
            hidden = silu(layer(hidden))
        coefficients = self.output(hidden).to(nodes.vectors.dtype)
        isotropic, tensor, square = coefficients.split([1, self.dim, self.dim], dim=1)
        traceless = (nodes.tensors @ tensor[:, :, None]).squeeze(2)
        unit = torch.eye(3, dtype=basis.dtype, device=basis.device)
        outer = (nodes.vectors * square[:, None]) @ nodes.vectors.mT
        outer = (outer + outer.mT) / 2  # symmetric to the last bit
        blocks: Tensor = isotropic[:, :, None] * unit + traceless_part(traceless, basis) + outer
        return blocks


def traceless_part(components: Tensor, basis: Tensor) -> Tensor:
    """Symmetric traceless matrices ``(..., 3, 3)`` of five components ``(..., 5)``."""
    return torch.einsum("abm,...m->...ab", basis, components)


def _gather(nodes: Nodes, direction: Tensor, basis: Tensor, batch: Batch) -> Pairs:
    ends = batch["pair_i"], batch["pair_j"]
    contraction = torch.einsum("abm,pb->pam", basis, direction)
    vectors = [nodes.vectors[end] for end in ends]
    tensors = [nodes.tensors[end] for end in ends]
    turned = [contraction @ tensor for tensor in tensors]
    return Pairs(direction, torch.cat(vectors + turned, dim=2), torch.cat(tensors, dim=2))


def _contract(pairs: Pairs, coefficients: Coefficients, basis: Tensor) -> Tensor:
    """Sum of all terms of the blocks, shape ``(p, 3, 3)``."""
    u = pairs.direction
    with_u, tensor, products = coefficients.terms.split([8, 2, 3], dim=1)
    sides = pairs.vectors @ with_u.unflatten(1, (2, 4)).flatten(2).mT
    left, right = sides.unbind(2)
    isotropic, along = coefficients.isotropic.split(1, dim=1)
    blocks: Tensor = isotropic[:, :, None] * torch.eye(3, dtype=u.dtype, device=u.device)
    blocks = blocks + (left + along * u)[:, :, None] * u[:, None] + u[:, :, None] * right[:, None]
    traceless = (pairs.tensors @ tensor.flatten(1)[:, :, None]).squeeze(2)
    blocks = blocks + traceless_part(traceless, basis)
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


def _normalized(features: Tensor) -> Tensor:
    """Features ``(n, 2l + 1, c)`` of root mean square 1 an atom; scalars of mean 0, too."""
    if features.shape[1] == 1:
        features = features - features.mean(2, keepdim=True)
    square = features.square().mean((1, 2), keepdim=True)
    return features * (square + NORM_FLOOR).rsqrt()


def _output_layer(width: int, count: int) -> nn.Linear:
    """Last layer whose first blocks are small beside the prior."""
    layer = nn.Linear(width, count)
    with torch.no_grad():
        layer.weight.mul_(OUTPUT_GAIN)
        layer.bias.mul_(OUTPUT_GAIN)
    return layer


def _signed_permutation(order: tuple[int, ...], signs: tuple[float, ...]) -> Tensor:
    """Matrix whose row k has its sign in column ``order[k]``."""
    return torch.eye(len(order), dtype=torch.float64)[list(order)] * torch.tensor(signs)[:, None]
