"""Hessian blocks as functions of element pair and distance, fitted without a network.

Shapes: b molecules, n atoms, m atoms in the largest molecule, p pairs i < j, s elements.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from sciml.hip.physics.layout import assemble, pair_blocks

PRIOR_FUNCTIONS = 24
PRIOR_RANGE = (0.7, 6.0)  # Å, centres of the first and last Gaussian
PRIOR_RIDGE = 1e-2  # added to the normal equations, whose functions are at most 1
DISTANCE_BINS = (1.2, 1.6, 2.5, 3.5, 5.0, 6.0)  # Å, edges between the bins of the mean blocks


def element_index(z: Tensor, elements: Sequence[int]) -> Tensor:
    """Position of every atom's element in a table of elements.

    Args:
        z: Atomic numbers, shape ``(n,)``.
        elements: Atomic numbers of the table, ascending.

    Returns:
        Indices, shape ``(n,)``.

    Raises:
        ValueError: An atomic number has no entry in the table.
    """
    table = torch.tensor(elements, device=z.device)
    index = torch.searchsorted(table, z).clamp(max=len(elements) - 1)
    unknown = z[table[index] != z]
    if len(unknown):
        raise ValueError(
            f"element {int(unknown[0])} is not among the elements {list(elements)} of the model; "
            "add it to the elements and train again, or leave these molecules out"
        )
    return index


def pair_geometry(positions: Tensor, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Distance and direction from i to j of all pairs.

    Args:
        positions: Coordinates in Å, shape ``(n, 3)``.
        batch: Molecules with the keys ``pair_i`` and ``pair_j``.

    Returns:
        Distances in Å, shape ``(p,)``, and unit vectors, shape ``(p, 3)``.
    """
    offsets = positions[batch["pair_j"]] - positions[batch["pair_i"]]
    distance = offsets.norm(dim=1)
    return distance, offsets / distance[:, None]


def pair_frame(blocks: Tensor, direction: Tensor) -> tuple[Tensor, Tensor]:
    """Stiffness of blocks along and across their pair: ``k = uᵀBu``, ``g = ½(tr B - k)``.

    Args:
        blocks: Blocks in eV/Å², shape ``(p, 3, 3)``.
        direction: Unit vectors u, shape ``(p, 3)``.

    Returns:
        k and g in eV/Å², both of shape ``(p,)``.
    """
    along = torch.einsum("pa,pab,pb->p", direction, blocks, direction)
    return along, (blocks.diagonal(dim1=1, dim2=2).sum(1) - along) / 2


def frame_blocks(along: Tensor, across: Tensor, direction: Tensor) -> Tensor:
    """Blocks ``k uuᵀ + g (I - uuᵀ)``, the inverse of `pair_frame`.

    Args:
        along: k in eV/Å², shape ``(p,)``.
        across: g in eV/Å², shape ``(p,)``.
        direction: Unit vectors u, shape ``(p, 3)``.

    Returns:
        Symmetric blocks in eV/Å², shape ``(p, 3, 3)``.
    """
    outer = direction[:, :, None] * direction[:, None, :]
    unit = torch.eye(3, dtype=outer.dtype, device=outer.device)
    return (along - across)[:, None, None] * outer + across[:, None, None] * unit


def sum_rule(pair: Tensor, batch: dict[str, Tensor]) -> Tensor:
    """Diagonal blocks that balance the pair blocks, ``-Σ_{j≠i} ½(B_ij + B_ijᵀ)``.

    Args:
        pair: Blocks of the pairs i < j in eV/Å², shape ``(p, 3, 3)``.
        batch: Molecules with the keys ``batch``, ``pair_i`` and ``pair_j``.

    Returns:
        Symmetric blocks in eV/Å², shape ``(n, 3, 3)``.
    """
    symmetric = (pair + pair.mT) / -2
    diagonal = pair.new_zeros(batch["batch"].shape[0], 3, 3)
    return diagonal.index_add(0, batch["pair_i"], symmetric).index_add(
        0, batch["pair_j"], symmetric
    )


def prior_basis(distance: Tensor) -> Tensor:
    """Gaussians ``exp(-½((r - c)/w)²)`` whose width w is the spacing of their centres.

    Args:
        distance: Distances in Å, shape ``(p,)``.

    Returns:
        Values, shape ``(p, 24)``.
    """
    centers = torch.linspace(
        *PRIOR_RANGE, PRIOR_FUNCTIONS, dtype=distance.dtype, device=distance.device
    )
    width = (PRIOR_RANGE[1] - PRIOR_RANGE[0]) / (PRIOR_FUNCTIONS - 1)
    return torch.exp(-((distance[:, None] - centers) / width).square() / 2)


class PriorFit:
    """Ridge least squares of the pair prior, one batch at a time.

    For every unordered element pair the stiffness along and across the bond is linear in
    `prior_basis`. Only the normal equations are kept, in float64.

    Args:
        elements: Atomic numbers, ascending.
        ridge: Weight of the squared coefficients against the sum of squared errors.
    """

    def __init__(self, elements: Sequence[int], ridge: float = PRIOR_RIDGE) -> None:
        self.elements = tuple(elements)
        self.ridge = ridge
        cells = len(self.elements) ** 2
        self._normal = torch.zeros(cells, PRIOR_FUNCTIONS, PRIOR_FUNCTIONS, dtype=torch.float64)
        self._right = torch.zeros(cells, PRIOR_FUNCTIONS, 2, dtype=torch.float64)

    def update(self, batch: dict[str, Tensor]) -> None:
        """Add the labelled Hessians of a batch on the CPU, as `collate` makes it."""
        distance, stiffness, cell = _labelled_pairs(batch, self.elements)
        basis = prior_basis(distance)
        self._normal.index_add_(0, cell, basis[:, :, None] * basis[:, None, :])
        self._right.index_add_(0, cell, basis[:, :, None] * stiffness[:, None, :])

    def solve(self) -> Tensor:
        """Coefficients in eV/Å², shape ``(s, s, 24, 2)``, zero for pairs that were not seen."""
        ridge = self.ridge * torch.eye(PRIOR_FUNCTIONS, dtype=torch.float64)
        return _both_orders(torch.linalg.solve(self._normal + ridge, self._right))


class MeanBlocks:
    """Mean stiffness along and across the bond by element pair and distance bin.

    The baseline that knows nothing but the mean of the training blocks; the bins lie between
    `DISTANCE_BINS`.

    Args:
        elements: Atomic numbers, ascending.
    """

    def __init__(self, elements: Sequence[int]) -> None:
        self.elements = tuple(elements)
        cells = len(self.elements) ** 2 * (len(DISTANCE_BINS) + 1)
        self._sum = torch.zeros(cells, 2, dtype=torch.float64)
        self._count = torch.zeros(cells, dtype=torch.float64)

    def update(self, batch: dict[str, Tensor]) -> None:
        """Add the labelled Hessians of a batch on the CPU, as `collate` makes it."""
        distance, stiffness, cell = _labelled_pairs(batch, self.elements)
        cell = cell * (len(DISTANCE_BINS) + 1) + distance_bin(distance)
        self._sum.index_add_(0, cell, stiffness)
        self._count.index_add_(0, cell, torch.ones_like(distance))

    def solve(self) -> Tensor:
        """Means in eV/Å², shape ``(s, s, 7, 2)``, zero for bins that were not seen."""
        mean = self._sum / self._count.clamp(min=1)[:, None]
        return _both_orders(mean.view(len(self.elements) ** 2, -1, 2))


def distance_bin(distance: Tensor) -> Tensor:
    """Bin of `DISTANCE_BINS` of every distance in Å; an edge belongs to the bin above it."""
    edges = torch.tensor(DISTANCE_BINS, dtype=distance.dtype, device=distance.device)
    return torch.bucketize(distance, edges, right=True)


def prior_blocks(batch: dict[str, Tensor], elements: Sequence[int], coefficients: Tensor) -> Tensor:
    """Blocks of the pair prior for all pairs.

    Args:
        batch: Molecules with the keys ``z``, ``pos`` (Å), ``pair_i`` and ``pair_j``.
        elements: Atomic numbers of the table, ascending.
        coefficients: Of `PriorFit.solve` in eV/Å², shape ``(s, s, 24, 2)``.

    Returns:
        Blocks in eV/Å², shape ``(p, 3, 3)``.
    """
    distance, direction = pair_geometry(batch["pos"], batch)
    species = element_index(batch["z"], elements)
    own = coefficients[species[batch["pair_i"]], species[batch["pair_j"]]]
    return fitted_blocks(distance, direction, own)


def fitted_blocks(distance: Tensor, direction: Tensor, coefficients: Tensor) -> Tensor:
    """Blocks whose stiffness is linear in `prior_basis`.

    Args:
        distance: Distances in Å, shape ``(p,)``.
        direction: Unit vectors, shape ``(p, 3)``.
        coefficients: Of every pair, along and across, in eV/Å², shape ``(p, 24, 2)``.

    Returns:
        Symmetric blocks in eV/Å², shape ``(p, 3, 3)``.
    """
    along, across = torch.einsum("pk,pkc->cp", prior_basis(distance), coefficients)
    return frame_blocks(along, across, direction)


def prior_hessian(
    batch: dict[str, Tensor], elements: Sequence[int], coefficients: Tensor
) -> Tensor:
    """Hessians of the pair prior with diagonal blocks by the sum rule.

    Args:
        batch: Molecules, as `collate` makes them.
        elements: Atomic numbers of the table, ascending.
        coefficients: Of `PriorFit.solve` in eV/Å², shape ``(s, s, 24, 2)``.

    Returns:
        Padded Hessians in eV/Å², shape ``(b, 3m, 3m)``.
    """
    pair = prior_blocks(batch, elements, coefficients)
    return assemble(pair, sum_rule(pair, batch), batch)


def mean_block_hessian(batch: dict[str, Tensor], elements: Sequence[int], table: Tensor) -> Tensor:
    """Hessians of mean training blocks with diagonal blocks by the sum rule.

    Args:
        batch: Molecules, as `collate` makes them.
        elements: Atomic numbers of the table, ascending.
        table: Of `MeanBlocks.solve` in eV/Å², shape ``(s, s, 7, 2)``.

    Returns:
        Padded Hessians in eV/Å², shape ``(b, 3m, 3m)``.
    """
    distance, direction = pair_geometry(batch["pos"], batch)
    species = element_index(batch["z"], elements)
    first, second = species[batch["pair_i"]], species[batch["pair_j"]]
    along, across = table[first, second, distance_bin(distance)].unbind(1)
    pair = frame_blocks(along, across, direction)
    return assemble(pair, sum_rule(pair, batch), batch)


def _labelled_pairs(
    batch: dict[str, Tensor], elements: Sequence[int]
) -> tuple[Tensor, Tensor, Tensor]:
    """Distance, (along, across) and cell of the unordered element pair, where labelled."""
    distance, direction = pair_geometry(batch["pos"], batch)
    stiffness = torch.stack(pair_frame(pair_blocks(batch["hessian"], batch), direction), dim=1)
    species = element_index(batch["z"], elements)
    first, second = species[batch["pair_i"]], species[batch["pair_j"]]
    cell = torch.minimum(first, second) * len(elements) + torch.maximum(first, second)
    labelled = (batch["w_hessian"] > 0)[batch["batch"][batch["pair_i"]]]
    return distance[labelled], stiffness[labelled], cell[labelled]


def _both_orders(table: Tensor) -> Tensor:
    """Table ``(s·s, ...)`` filled for first <= second only, as symmetric ``(s, s, ...)``."""
    size = int(len(table) ** 0.5)
    square = table.view(size, size, *table.shape[1:])
    order = torch.arange(size)
    low = torch.minimum(order[:, None], order)
    high = torch.maximum(order[:, None], order)
    return square[low, high]
