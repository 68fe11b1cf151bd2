"""Hessian blocks from the features of atoms.

Shapes: n atoms, p pairs i < j, c channels of the trunk, d channels of the head, s elements.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from sciml.core.task import full_precision
from sciml.hip.net.base import Batch, Constant
from sciml.hip.net.coupling import clebsch_gordan
from sciml.hip.net.pairs import (
    EMBEDDING,
    Coefficients,
    Nodes,
    PairCoefficients,
    contract,
    gather_pairs,
    output_layer,
    traceless_matrices,
)
from sciml.hip.net.settings import HessianHead
from sciml.hip.physics.blocks import PRIOR_FUNCTIONS, fitted_blocks, sum_rule
from sciml.hip.physics.radial import polynomial_cutoff
from sciml.hip.physics.statistics import HessianStatistics

SIZE, REACH = 3.0, 1.5  # eV/Å² and Å: blocks are about SIZE/(1 + (r/REACH)⁴)
CUTOFF_POWER = 5
NORM_FLOOR = 1e-6  # added to mean squares


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
        if self.onsite is None:
            return pair, sum_rule(pair, batch)
        onsite = self.settings.out_scale * self.onsite(nodes, species, self.basis.value)
        if "sumrule" in self.settings.diag:
            onsite = onsite + sum_rule(pair, batch)
        return pair, onsite

    def _pair_blocks(
        self, nodes: Nodes, species: Tensor, positions: Tensor, batch: Batch
    ) -> Tensor:
        with full_precision(positions.device):
            pairs = gather_pairs(nodes, positions, self.basis.value, batch)
        coefficients = self.coefficients(nodes.scalars, species, pairs, batch)
        coefficients = Coefficients(*(part.to(positions.dtype) for part in coefficients))
        size = self.settings.out_scale * SIZE / (1 + (pairs.distance / REACH) ** 4)
        with full_precision(positions.device):
            blocks = size[:, None, None] / 2 * contract(pairs, coefficients, self.basis.value)
            if self.settings.prior:
                own = self.prior[species[batch["pair_i"]], species[batch["pair_j"]]]
                blocks = blocks + fitted_blocks(pairs.distance, pairs.direction, own)
        if self.settings.r_max is not None:
            envelope = polynomial_cutoff(pairs.distance, self.settings.r_max, CUTOFF_POWER)
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
        if self.layers == "last" or (self.layers == "concat" and len(features) == 1):
            return features[-1]
        if self.layers == "concat":
            return torch.cat(features, dim=2)
        if self.layers == "mean":
            return torch.stack(features).mean(0)
        assert isinstance(self.mixture, Tensor)
        share = torch.softmax(self.mixture, dim=0)
        return torch.einsum("t,tnmc->nmc", share, torch.stack(features))


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
        self.output = output_layer(widths[-1], 1 + 2 * settings.dim)

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
        unit = torch.eye(3, dtype=basis.dtype, device=basis.device)
        with full_precision(basis.device):
            traceless = (nodes.tensors @ tensor[:, :, None]).squeeze(2)
            outer = (nodes.vectors * square[:, None]) @ nodes.vectors.mT
            outer = (outer + outer.mT) / 2  # symmetric to the last bit
            blocks: Tensor = traceless_matrices(traceless, basis) + outer
            blocks = blocks + isotropic[:, :, None] * unit
        return blocks


def _normalized(features: Tensor) -> Tensor:
    """Features ``(n, 2l + 1, c)`` of root mean square 1 an atom; scalars of mean 0, too."""
    if features.shape[1] == 1:
        features = features - features.mean(2, keepdim=True)
    square = features.square().mean((1, 2), keepdim=True)
    return features * (square + NORM_FLOOR).rsqrt()
