"""One layer: messages, symmetric contraction, update.

Shapes: n atoms, c channels.
"""

from math import sqrt

import torch
from torch import Tensor, nn

from sciml.hip.net.contraction import SymmetricContraction
from sciml.hip.net.convolution import Convolution, Edges
from sciml.hip.net.linear import DegreeLinear, ElementLinear, Groups
from sciml.hip.net.settings import Radial, Update


class Layer(nn.Module):
    """From the features of the atoms to new ones that see one cutoff further.

    ``h' = Lin(B(A)) + sc``: A are the messages per mean neighbour, B their symmetric contraction.
    ``agnostic`` mixes A by a matrix of the element and has no sc; in ``residual`` sc is h, mixed by
    a matrix of the element.

    Args:
        channels: Channels c.
        degrees: Largest degree of the input, the messages and the output.
        correlation: Largest number of factors of the contraction.
        num_elements: Number of elements.
        radial: How messages depend on the distance.
        update: Form of the layer.
    """

    def __init__(
        self,
        channels: int,
        degrees: tuple[int, int, int],
        correlation: int,
        *,
        num_elements: int,
        radial: Radial,
        update: Update,
    ) -> None:
        super().__init__()
        max_in, max_ell, max_out = degrees
        self.max_in = max_in
        self.up = DegreeLinear(max_in, channels, channels)
        self.convolution = Convolution(channels, max_in, max_ell, radial)
        self.contraction = SymmetricContraction(
            channels, max_ell, max_out, correlation, num_elements
        )
        self.down = DegreeLinear(max_out, channels, channels)
        self.agnostic = update == "agnostic"
        self.kept = (1 + (max_ell if self.agnostic else min(max_in, max_out))) ** 2
        self.mix = ElementLinear(num_elements, round(sqrt(self.kept)) - 1, channels, channels)

    def forward(
        self, features: Tensor, edges: Edges, groups: Groups, num_neighbors: Tensor
    ) -> Tensor:
        """Update the features.

        Args:
            features: Atoms ordered by element, shape ``(n, (max_in + 1)², c)``.
            edges: Neighbours of all atoms.
            groups: Atoms of every element.
            num_neighbors: Mean number of neighbours, which messages are divided by.

        Returns:
            Shape ``(n, (max_out + 1)², c)``.
        """
        messages = self.convolution(self.up(features).contiguous(), edges) / num_neighbors
        if self.agnostic:
            messages = self.mix(messages, groups)
        products = self.contraction(messages.permute(2, 1, 0).contiguous(), groups)
        updated: Tensor = self.down(products.permute(2, 1, 0))
        if self.agnostic:
            return updated
        own: Tensor = self.mix(features[:, : self.kept], groups)
        if own.shape[1] == updated.shape[1]:
            return updated + own
        return torch.cat([updated[:, : self.kept] + own, updated[:, self.kept :]], dim=1)
