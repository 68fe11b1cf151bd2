"""The order in which a network handles atoms and their neighbours.

Atoms of one element stand together, so that weights of an element meet contiguous rows. Receivers
stand in blocks with about as many neighbours each, so that tables of neighbours have little
padding, and with no more of them than the cache can hold.
Shapes: n atoms, e padded edges.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from sciml.hip.net.linear import Groups, Masks, Runs
from sciml.hip.net.settings import Radial
from sciml.hip.physics.harmonics import spherical_harmonics
from sciml.hip.physics.radial import bessel, polynomial_cutoff

Batch = dict[str, Tensor]
CACHE = 1 << 19  # bytes of the largest product of one block of receivers on a CPU
MEMORY = 1 << 28  # the same on other devices, which prefer few large products
FILLED = 0.75  # least share of real neighbours in a row of a block


@dataclass(frozen=True)
class Arrangement:
    """Order of the atoms and of their neighbours; None stands for the order of the batch.

    Args:
        order: Atom at every place, shape ``(n,)``.
        place: Place of every atom, shape ``(n,)``.
        groups: Places of every element.
        blocks: Number of receivers and of neighbours of every block.
        slot: Rank of every place among the receivers of all blocks, shape ``(n,)``.
        receivers: Place of the receiving atom of every edge, shape ``(e,)``; None where every atom
            receives as many.
        senders: Place of the sending atom of every edge, shape ``(e,)``.
        real: Whether the edge is not padding, shape ``(e,)``.
    """

    order: Tensor | None
    place: Tensor | None
    groups: Groups
    blocks: list[tuple[int, int]]
    slot: Tensor | None
    receivers: Tensor | None
    senders: Tensor
    real: Tensor


def arrange(batch: Batch, species: Tensor, bytes_per_edge: int) -> Arrangement:
    """Order atoms by element and receivers by their number of neighbours.

    Args:
        batch: Molecules with the keys ``nbr`` and ``nbr_mask``.
        species: Index of the element of every atom, shape ``(n,)``.
        bytes_per_edge: Memory of the features of one edge.
    """
    order = species.argsort(stable=True)
    place = order.argsort()
    degree = batch["nbr_mask"].sum(1)[order]
    ranked = degree.argsort(descending=True, stable=True)
    blocks = _blocks(degree[ranked], batch["nbr"].shape[1], bytes_per_edge)
    receivers, senders, real = [], [], []
    for places, (_, width) in zip(ranked.split([rows for rows, _ in blocks]), blocks, strict=True):
        atoms = order[places]
        receivers.append(places[:, None].expand(-1, width).flatten())
        senders.append(place[batch["nbr"][atoms, :width]].flatten())
        real.append(batch["nbr_mask"][atoms, :width].flatten())
    return Arrangement(
        order=order,
        place=place,
        groups=_groups(species[order]),
        blocks=blocks,
        slot=ranked.argsort(),
        receivers=torch.cat(receivers),
        senders=torch.cat(senders),
        real=torch.cat(real),
    )


def one_block(batch: Batch, species: Tensor, num_elements: int) -> Arrangement:
    """Leave the atoms in their order, in one block, so that no shape depends on the values.

    Args:
        batch: Molecules with the keys ``nbr`` and ``nbr_mask``.
        species: Index of the element of every atom, shape ``(n,)``.
        num_elements: Number of elements of the network.
    """
    atoms, width = batch["nbr"].shape
    elements = torch.arange(num_elements, device=species.device)
    return Arrangement(
        order=None,
        place=None,
        groups=Masks(elements[:, None] == species),
        blocks=[(atoms, width)],
        slot=None,
        receivers=None,
        senders=batch["nbr"].flatten(),
        real=batch["nbr_mask"].flatten(),
    )


def edge_features(
    positions: Tensor, arrangement: Arrangement, max_ell: int, r_max: float, radial: Radial
) -> tuple[Tensor, Tensor, Tensor]:
    """What a message knows of the vector from sender to receiver, ``x_i - x_j``.

    Args:
        positions: Coordinates in Å in the order of the arrangement, shape ``(n, 3)``.
        arrangement: Order of atoms and edges.
        max_ell: Largest degree of the spherical harmonics.
        r_max: Cutoff in Å.
        radial: Radial basis.

    Returns:
        Harmonics ``(e, (max_ell + 1)²)``, radial basis ``(e, num_bessel)`` and smooth cutoff
        ``(e, 1)``; the cutoff is zero for padding.
    """
    if arrangement.receivers is None:
        width = arrangement.blocks[0][1]
        receiving = positions[:, None].expand(-1, width, -1).flatten(0, 1)
    else:
        receiving = positions.index_select(0, arrangement.receivers)
    vectors = receiving - positions.index_select(0, arrangement.senders)
    real = arrangement.real[:, None]
    padding = vectors.new_tensor([0.0, 1.0, 0.0])  # any vector with a direction
    vectors = torch.where(real, vectors, padding)
    distance = torch.linalg.vector_norm(vectors, dim=1, keepdim=True)
    envelope = polynomial_cutoff(distance, r_max, radial.cutoff_p) * real
    basis = bessel(distance.squeeze(1), radial.num_bessel, r_max)
    if radial.apply_cutoff:
        basis = basis * envelope
    return spherical_harmonics(vectors / distance, max_ell), basis, envelope


def _groups(species: Tensor) -> Groups:
    present, counts = species.unique_consecutive(return_counts=True)
    stops = counts.cumsum(0).tolist()
    starts = [0, *stops[:-1]]
    slices = [slice(start, stop) for start, stop in zip(starts, stops, strict=True)]
    return Runs(list(zip(present.tolist(), slices, strict=True)))


def _blocks(degree: Tensor, widest: int, bytes_per_edge: int) -> list[tuple[int, int]]:
    """Receivers and neighbours of every block, for descending numbers of neighbours."""
    limit = CACHE if degree.device.type == "cpu" else MEMORY
    degrees = degree.cpu()
    blocks, start = [], 0
    while start < len(degrees):
        width = min(max(int(degrees[start]), 1), widest)
        alike = int((degrees >= FILLED * width).sum()) - start
        rows = max(1, min(alike, limit // (width * bytes_per_edge)))
        rows = min(rows, len(degrees) - start)
        blocks.append((rows, width))
        start += rows
    return blocks
