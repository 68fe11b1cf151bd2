"""MACE with a head for Hessians.

Shapes: b molecules, n atoms, m atoms in the largest molecule, c channels, s elements.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from sciml.core.task import full_precision
from sciml.hip.net.arrangement import Arrangement, arrange, edge_features, one_block
from sciml.hip.net.base import Batch, EnergyScale, HIPNet, centered, without_inference
from sciml.hip.net.contraction import SymmetricContraction
from sciml.hip.net.convolution import Edges
from sciml.hip.net.hessian import PairHead
from sciml.hip.net.interaction import Layer
from sciml.hip.net.linear import select_rows
from sciml.hip.net.readout import LinearReadout, MLPReadout
from sciml.hip.net.settings import (
    HessianHead,
    Interaction,
    Radial,
    Readout,
    as_group,
    plain_arguments,
)
from sciml.hip.physics.harmonics import MAX_ELL
from sciml.hip.physics.layout import assemble
from sciml.hip.physics.rules import project, project_translation
from sciml.hip.physics.statistics import HessianStatistics


class Trunk(NamedTuple):
    """Energies in eV ``(b,)``; features ``(n, (max_L + 1)², c)`` of every layer; elements ``(n,)``.

    The last layer of a network without a head has scalars only.
    """

    energy: Tensor
    total_energy: Tensor
    features: list[Tensor]
    species: Tensor


class MACEHIP(HIPNet):
    """MACE: messages, symmetric contractions, and a head that gives Hessians without derivatives.

    The tensor contract is that of `HIPNet`. With ``head: null`` it is a plain network of energy
    and forces, which keeps only scalars in its last layer.
    Source: Batatia et al., arXiv:2206.07697; Hessian head: arXiv:2509.21624.

    Args:
        elements: Atomic numbers the network knows, ascending.
        channels: Channels c of every degree.
        max_L: Largest degree of the features of an atom.
        max_ell: Largest degree of the spherical harmonics and of messages, up to 3.
        num_interactions: Number of layers.
        correlation: Largest number of messages multiplied with each other, 1 to 4.
        r_max: Radius in Å within which atoms send messages.
        radial: How a message depends on the distance.
        interaction: How an atom takes up its messages.
        readout: How features become the energy of an atom.
        head: How pairs of atoms become Hessians; null for a network without.
        rules: Exact rules that Hessians obey: ``six`` those of translation and rotation,
            ``translation`` the former alone, or ``none``. May be changed after training.
    """

    def __init__(
        self,
        elements: Sequence[int] = (1, 6, 7, 8),
        channels: int = 128,
        max_L: int = 2,
        *,
        max_ell: int = 3,
        num_interactions: int = 2,
        correlation: int = 3,
        r_max: float = 5.0,
        radial: Radial = Radial(),
        interaction: Interaction = Interaction(),
        readout: Readout = Readout(),
        head: HessianHead | None = HessianHead(),
        rules: Literal["six", "translation", "none"] = "six",
    ) -> None:
        arguments = plain_arguments(locals())
        super().__init__(elements, r_max)
        self.save_hyperparameters(arguments)
        if not 0 <= max_L <= max_ell <= MAX_ELL or num_interactions < 1 or channels < 1:
            raise ValueError(
                f"model.net has channels {channels}, num_interactions {num_interactions}, max_L "
                f"{max_L} and max_ell {max_ell}; the first two are positive and "
                f"max_L <= max_ell <= {MAX_ELL}"
            )
        self.max_ell, self.rules = max_ell, rules
        self.radial = as_group(Radial, radial)
        self.readout = as_group(Readout, readout)
        self.head_settings = None if head is None else as_group(HessianHead, head)
        size = len(self.elements)
        self.embedding = nn.Parameter(torch.randn(size, channels))
        updates = as_group(Interaction, interaction)
        self.layers = nn.ModuleList()
        for index in range(num_interactions):
            only_scalars = head is None and index == num_interactions - 1
            layer = Layer(
                channels,
                (max_L if index else 0, max_ell, 0 if only_scalars else max_L),
                correlation,
                num_elements=size,
                radial=self.radial,
                update=updates.rest if index else updates.first,
            )
            self.layers.append(layer)
        self._widest = 2 * max_L + 1 if num_interactions > 1 else 1
        self.readouts = nn.ModuleList(LinearReadout(channels) for _ in self.layers[1:])
        self.readouts.append(MLPReadout(channels, self.readout.mlp_dim))
        self.register_buffer("num_neighbors", torch.ones(()))
        self.num_neighbors: Tensor
        self.scale = EnergyScale(size)
        self.head = None
        if self.head_settings is not None:
            self.head = PairHead(channels, max_L, num_interactions, size, self.head_settings)
            if self.head_settings.detach:  # only the head reads the odd degrees of the last layer
                layer.contraction.weights[1].requires_grad_(False)

    def set_statistics(self, stats: HessianStatistics) -> None:
        if tuple(stats.elements) != self.elements:
            raise ValueError(
                f"the statistics are of the elements {list(stats.elements)}, the network has "
                f"{list(self.elements)}; set model.net.elements to the former"
            )
        self.num_neighbors.fill_(max(stats.num_neighbors, 1.0))
        self.scale.set(stats, self.readout.scaling, self.readout.shift)
        if self.head is not None:
            self.head.set_statistics(stats)

    def trained_elements(self) -> tuple[int, ...]:
        known = self.scale.e0.isfinite().tolist()
        return tuple(z for z, is_known in zip(self.elements, known, strict=True) if is_known)

    def freeze(self) -> None:
        super().freeze()
        for module in self.modules():
            if isinstance(module, SymmetricContraction):
                module.freeze()

    def no_decay(self) -> set[str]:
        spared = ("embedding", "readouts.", "convolution.radial.", "convolution.weight")
        return super().no_decay() | {
            name
            for name, _ in self.named_parameters()
            if any(part in name for part in spared) and not name.startswith("head.")
        }

    def forward(self, batch: Batch, hessian: bool = True, forces: bool = True) -> Batch:
        if torch.is_inference_mode_enabled():  # it has no graphs, which forces need
            with torch.inference_mode(False):
                return self.forward(without_inference(batch), hessian, forces)
        head = self.head if hessian else None
        keep_graph = self.training and torch.is_grad_enabled()
        slope = forces or (head is not None and self.rules == "six")
        positions = centered(batch).requires_grad_(slope)
        with torch.set_grad_enabled(slope or keep_graph):
            trunk = self.trunk(positions, batch)
            output = {"energy": trunk.energy, "total_energy": trunk.total_energy}
            if slope:
                exact = _forces(trunk.energy, positions, keep_graph)
                output["forces"] = exact.to(self.embedding.dtype)
        if head is not None:
            with torch.set_grad_enabled(keep_graph):
                given = positions.detach()
                rounded = given.to(self.embedding.dtype)
                pair, diagonal = head(trunk.features, trunk.species, rounded, batch)
                free = assemble(pair, diagonal, batch)
                output["hessian"] = self._obey_rules(free, given, output, batch)
        if not forces:
            output.pop("forces", None)
        return output if keep_graph else {key: value.detach() for key, value in output.items()}

    def trunk(self, positions: Tensor, batch: Batch) -> Trunk:
        """Energies, differentiable in the positions, and the features behind them.

        While evaluating, the weights of the symmetric contractions get no gradient.

        Args:
            positions: Coordinates in Å, shape ``(n, 3)``; in float64, because the rounding of
                float32 would be the largest error of the forces.
            batch: Molecules.

        Raises:
            ValueError: If a molecule holds an element the network does not know.
        """
        species, arrangement = self._arrange(batch)
        edges = self._edges(positions, arrangement)
        features = self.embedding.index_select(0, select_rows(species, arrangement.order))[:, None]
        energies, layers = [], []
        for layer, readout in zip(self.layers, self.readouts, strict=True):
            features = layer(features, edges, arrangement.groups, self.num_neighbors)
            layers.append(select_rows(features, arrangement.place))
            with full_precision(positions.device):
                energies.append(readout(layers[-1][:, 0].to(self.embedding)).double())
        energy, total_energy = self.scale(torch.stack(energies).sum(0), species, batch)
        return Trunk(energy, total_energy, layers, species)

    def _arrange(self, batch: Batch) -> tuple[Tensor, Arrangement]:
        if "atoms" in batch:
            species = self._species[batch["z"]]
            return species, one_block(batch, species, len(self.elements))
        species = self.species(batch["z"])
        return species, arrange(batch, species, self._widest * self.embedding[0].nbytes)

    def _edges(self, positions: Tensor, arrangement: Arrangement) -> Edges:
        with full_precision(positions.device):
            ordered = select_rows(positions, arrangement.order)
            harmonics, radial, envelope = edge_features(
                ordered, arrangement, self.max_ell, self.cutoff, self.radial
            )
        dtype = self.embedding.dtype
        return Edges(
            senders=arrangement.senders,
            blocks=arrangement.blocks,
            slot=arrangement.slot,
            harmonics=harmonics.to(dtype),
            radial=radial.to(dtype),
            envelope=envelope.to(dtype),
        )

    def _obey_rules(
        self, hessian: Tensor, positions: Tensor, output: Batch, batch: Batch
    ) -> Tensor:
        if self.rules == "translation":
            return project_translation(hessian, batch)
        if self.rules == "none":
            return hessian
        forces = output["forces"]
        if self.head_settings is not None and self.head_settings.rules_detach_forces:
            forces = forces.detach()
        return project(hessian, positions, forces, batch)


def _forces(energy: Tensor, positions: Tensor, keep_graph: bool) -> Tensor:
    with full_precision(positions.device):
        (gradient,) = torch.autograd.grad(energy.sum(), positions, create_graph=keep_graph)
    return -gradient
