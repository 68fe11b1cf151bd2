"""A `MACEHIP` whose trunk is assembled from e3nn's own modules, with the same weights.

It is built as MACE builds it: one product per edge, summed over receivers by index, and dense U
tensors contracted by einsum. It serves as an independent answer and as the yardstick of speed;
the Hessian head is the one of the network itself.
Shapes: n atoms, m components, e edges, c channels, s elements, k polynomials.
"""

from copy import deepcopy
from itertools import permutations
from math import sqrt

import torch
from e3nn import o3
from torch import Tensor, nn

from sciml.hip.net import MACEHIP
from sciml.hip.net.coupling import monomials, num_components, product_basis
from sciml.hip.net.interaction import Layer
from sciml.hip.net.linear import SILU_SCALE
from sciml.hip.physics.layout import assemble
from sciml.hip.physics.radial import bessel, polynomial_cutoff
from sciml.hip.physics.rules import project

Batch = dict[str, Tensor]


class E3nnMACE(nn.Module):
    """Energy, forces, Hessian under all six rules, and the features of every layer.

    Args:
        net: Network whose weights are copied, in its dtype; the default dtype has to be the same.
    """

    def __init__(self, net: MACEHIP) -> None:
        super().__init__()
        self.cutoff, self.radial = net.cutoff, net.radial
        self.register_buffer("species", net._species)
        self.embedding = nn.Parameter(net.embedding.detach().clone())
        self.harmonics = o3.SphericalHarmonics(
            list(range(net.max_ell + 1)), normalize=True, normalization="component"
        )
        neighbors = net.num_neighbors.item()
        self.layers = nn.ModuleList(
            E3nnLayer(layer, net.max_ell, neighbors) for layer in net.layers
        )
        self.readouts = nn.ModuleList(
            _perceptron([module.weight for module in readout.children()])
            for readout in net.readouts
        )
        self.scale = deepcopy(net.scale)
        self.head = deepcopy(net.head)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        positions = batch["pos"].to(self.embedding.dtype).requires_grad_()
        species = self.species[batch["z"]]
        atoms, layers = self._trunk(positions, species, batch)
        energy, total = self.scale(atoms, species, batch)
        (gradient,) = torch.autograd.grad(energy.sum(), positions, create_graph=self.training)
        output = {"energy": energy, "total_energy": total, "forces": -gradient}
        if self.head is not None:
            positions = positions.detach()
            features = [component_major(layer, len(self.embedding[0])) for layer in layers]
            with torch.set_grad_enabled(self.training):
                hessian = assemble(*self.head(features, species, positions, batch), batch)
                output["hessian"] = project(hessian, positions, -gradient.detach(), batch)
        return output | {f"features_{index}": value for index, value in enumerate(layers)}

    def _trunk(
        self, positions: Tensor, species: Tensor, batch: Batch
    ) -> tuple[Tensor, list[Tensor]]:
        one_hot = nn.functional.one_hot(species, len(self.embedding)).to(positions.dtype)
        receivers, column = batch["nbr_mask"].nonzero(as_tuple=True)
        senders = batch["nbr"][receivers, column]
        vectors = positions[receivers] - positions[senders]
        distance = vectors.norm(dim=1)
        cutoff = polynomial_cutoff(distance, self.cutoff, self.radial.cutoff_p)[:, None]
        basis = bessel(distance, self.radial.num_bessel, self.cutoff) * cutoff
        edges = (self.harmonics(vectors), basis, senders, receivers)
        features = one_hot @ self.embedding
        energies, layers = [], []
        for layer, readout in zip(self.layers, self.readouts, strict=True):
            features = layer(features, one_hot, edges)
            layers.append(features)
            scalars = features[:, : self.embedding.shape[1]]
            energies.append(readout(scalars).squeeze(-1).double())
        return torch.stack(energies).sum(0), layers


class E3nnLayer(nn.Module):
    """One layer from e3nn's modules."""

    def __init__(self, layer: Layer, max_ell: int, num_neighbors: float) -> None:
        super().__init__()
        convolution = layer.convolution
        channels = layer.up.weight.shape[1]
        size = len(layer.mix.weight)
        self.agnostic, self.num_neighbors = layer.agnostic, num_neighbors
        incoming, middle = _irreps(channels, layer.max_in), _irreps(channels, max_ell)
        outgoing = _irreps(channels, layer.contraction.max_L)
        self.up = _linear(incoming, incoming, layer.up.weight)
        self.product = _edge_product(channels, layer.max_in, max_ell, convolution.paths)
        self.radial = _perceptron(
            [module.weight for module in convolution.radial if hasattr(module, "weight")]
            + [convolution.weight.permute(0, 2, 1).flatten(0, 1)],
        )
        mixed = self.product.irreps_out.simplify()
        self.mix = _linear(mixed, middle, list(convolution.mix))
        skip_in = middle if self.agnostic else incoming
        skip_out = middle if self.agnostic else outgoing
        self.skip = o3.FullyConnectedTensorProduct(skip_in, f"{size}x0e", skip_out)
        weight = layer.mix.weight * sqrt(size)
        with torch.no_grad():
            self.skip.weight.copy_(weight.permute(1, 2, 0, 3).flatten())
        self.contraction = EinsumContraction(layer, max_ell)
        self.down = _linear(outgoing, outgoing, layer.down.weight)

    def forward(self, features: Tensor, one_hot: Tensor, edges: tuple[Tensor, ...]) -> Tensor:
        harmonics, basis, senders, receivers = edges
        edge_messages = self.product(self.up(features)[senders], harmonics, self.radial(basis))
        zeros = edge_messages.new_zeros(len(features), edge_messages.shape[1])
        sums = zeros.index_add(0, receivers, edge_messages)
        messages = self.mix(sums) / self.num_neighbors
        if self.agnostic:
            return self.down(self.contraction(self.skip(messages, one_hot), one_hot))
        return self.down(self.contraction(messages, one_hot)) + self.skip(features, one_hot)


class EinsumContraction(nn.Module):
    """Symmetric contraction with dense U tensors, from the largest number of factors down."""

    def __init__(self, layer: Layer, max_ell: int) -> None:
        super().__init__()
        ours = layer.contraction
        self.max_ell, self.max_L = max_ell, ours.max_L
        correlation = ours.correlation
        starts = [0, 0]
        for degree in range(ours.max_L + 1):
            for number in range(1, correlation + 1):
                tensor = dense_basis(max_ell, number, degree).to(ours.weights[0])
                start = starts[degree % 2]
                starts[degree % 2] = stop = start + tensor.shape[-1]
                self.register_buffer(f"u_{degree}_{number}", tensor)
                weight = ours.weights[degree % 2][:, start:stop].detach().clone()
                self.register_parameter(f"w_{degree}_{number}", nn.Parameter(weight))
        self.correlation = correlation

    def forward(self, features: Tensor, one_hot: Tensor) -> Tensor:
        x = torch.cat(_blocks(features, self.max_ell), dim=2)
        return torch.cat(
            [self._degree(x, one_hot, degree).flatten(1) for degree in range(self.max_L + 1)], dim=1
        )

    def _degree(self, x: Tensor, one_hot: Tensor, degree: int) -> Tensor:
        """Result ``(n, c, 2·degree + 1)``."""
        u, w = self._tensors(degree, self.correlation)
        out = torch.einsum("...ik,ekc,bci,be->bc...", u, w, x, one_hot)
        for number in range(self.correlation - 1, 0, -1):
            u, w = self._tensors(degree, number)
            out = out + torch.einsum("...k,ekc,be->bc...", u, w, one_hot)
            out = torch.einsum("bc...i,bci->bc...", out, x)
        return out

    def _tensors(self, degree: int, number: int) -> tuple[Tensor, Tensor]:
        name = f"{degree}_{number}"
        return self.get_buffer(f"u_{name}"), self.get_parameter(f"w_{name}")


def dense_basis(max_ell: int, number: int, degree: int) -> Tensor:
    """Basis of equivariant polynomials as symmetric tensors ``(2L + 1, i₁, …, i_ν, k)``."""
    basis = product_basis(max_ell, number, degree, (-1) ** degree)
    count = num_components(max_ell)
    listed = monomials(count, number)
    dense = torch.zeros(*basis.shape[:2], *[count] * number, dtype=torch.float64)
    for slots in permutations(range(number)):
        index = tuple(listed.factors[:, slot] for slot in slots)
        dense[(slice(None), slice(None), *index)] = basis / listed.orderings
    return dense.movedim(0, -1)


def degree_major(features: Tensor) -> Tensor:
    """Features ``(n, m, c)`` in the flat order of e3nn: degree, channel, component."""
    size = round(sqrt(features.shape[1]))
    parts = [features[:, ell**2 : (ell + 1) ** 2].mT.flatten(1) for ell in range(size)]
    return torch.cat(parts, dim=1)


def component_major(flat: Tensor, channels: int) -> Tensor:
    """The inverse of `degree_major`."""
    max_ell = round(sqrt(flat.shape[1] // channels)) - 1
    return torch.cat(_blocks(flat, max_ell), dim=2).mT


def _blocks(flat: Tensor, max_ell: int) -> list[Tensor]:
    """Every degree of flat features as ``(n, c, 2l + 1)``."""
    channels = flat.shape[1] // num_components(max_ell)
    sizes = [(2 * ell + 1) * channels for ell in range(max_ell + 1)]
    return [part.unflatten(1, (channels, -1)) for part in flat.split(sizes, dim=1)]


def _irreps(channels: int, max_ell: int) -> o3.Irreps:
    return o3.Irreps([(channels, (ell, (-1) ** ell)) for ell in range(max_ell + 1)])


def _linear(incoming: o3.Irreps, outgoing: o3.Irreps, weights: Tensor | list[Tensor]) -> o3.Linear:
    linear = o3.Linear(incoming, outgoing)
    with torch.no_grad():
        linear.weight.copy_(torch.cat([weight.flatten() for weight in weights]))
    return linear


def _edge_product(
    channels: int, max_in: int, max_ell: int, paths: list[tuple[int, int, int]]
) -> o3.TensorProduct:
    middle = o3.Irreps([(channels, (third, (-1) ** third)) for _, _, third in paths])
    instructions = [
        (first, second, index, "uvu", True) for index, (first, second, _) in enumerate(paths)
    ]
    return o3.TensorProduct(
        _irreps(channels, max_in),
        _irreps(1, max_ell),
        middle,
        instructions,
        shared_weights=False,
        internal_weights=False,
    )


def _perceptron(weights: list[Tensor]) -> nn.Sequential:
    """Linear maps without biases and scaled SiLU between them."""
    layers: list[nn.Module] = []
    for weight in weights:
        linear = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
        linear.weight = nn.Parameter(weight.detach() / sqrt(weight.shape[1]))
        layers += [linear, _Activation()]
    return nn.Sequential(*layers[:-1])


class _Activation(nn.Module):
    def forward(self, values: Tensor) -> Tensor:
        return SILU_SCALE * nn.functional.silu(values)
