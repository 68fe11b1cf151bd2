"""Exact rules of a Hessian from translation and rotation invariance.

Moving or turning a molecule leaves its energy, so with the gradient ``g = -F``
``H t_a = 0`` for the translations t_a and ``H (e_a × x) = e_a × g`` for the rotations.
Shapes: b molecules, n atoms, m atoms in the largest molecule.
"""

import torch
from torch import Tensor

from sciml.hip.physics.layout import pad_by_molecule


def project(hessian: Tensor, positions: Tensor, forces: Tensor, batch: dict[str, Tensor]) -> Tensor:
    """Nearest symmetric Hessian, in the Frobenius norm, that obeys all six rules.

    With Q an orthonormal basis of the rigid motions, W the required ``H Q``, ``P = I - QQᵀ`` and
    ``S = ½(QᵀW + WᵀQ)`` it is ``PHP + (PW)Qᵀ + Q(PW)ᵀ + QSQᵀ``. Computed in float64 by
    Gram-Schmidt alone, so it is differentiable and can be exported. The mean force, which no
    invariant energy has, is taken off first. Rotations that move nothing (single atoms, the axis
    of a linear molecule) are left out.

    Args:
        hessian: Padded Hessians in eV/Å², shape ``(b, 3m, 3m)``.
        positions: Coordinates in Å, shape ``(n, 3)``.
        forces: Forces in eV/Å, shape ``(n, 3)``. A rotation is left out where it moves the
            molecule by less than ``√ε`` of its size, ε the rounding of the forces: beyond, their
            noise would be magnified into the Hessian.
        batch: Molecules with the keys ``batch`` and ``ptr``.

    Returns:
        Corrected Hessians in eV/Å², shape and dtype of the input.
    """
    ones = torch.ones_like(batch["batch"], dtype=torch.float64)
    shifts = translations(ones, batch)
    turns, required = _rotation_rule(positions, forces, batch)
    size = inverse_norm(turns.detach().flatten(1)[..., None] / 2**0.5)  # Σ_a |e_a × x|² = 2|x|²
    tolerance = torch.finfo(forces.dtype).eps ** 0.5  # 1.5e-8 in float64, 3.5e-4 in float32
    turns, required = _orthonormal(turns * size, required * size, tolerance)
    basis = torch.cat([shifts, turns], dim=2)
    target = torch.cat([torch.zeros_like(shifts), required], dim=2)
    return _nearest(hessian.double(), basis, target).to(hessian.dtype)


def project_translation(hessian: Tensor, batch: dict[str, Tensor]) -> Tensor:
    """Nearest symmetric Hessian whose blocks sum to zero along every row.

    Args:
        hessian: Padded Hessians in eV/Å², shape ``(b, 3m, 3m)``.
        batch: Molecules with the keys ``batch`` and ``ptr``.

    Returns:
        Corrected Hessians in eV/Å², shape and dtype of the input.
    """
    shifts = translations(torch.ones_like(batch["batch"], dtype=torch.float64), batch)
    return _nearest(hessian.double(), shifts, torch.zeros_like(shifts)).to(hessian.dtype)


def rule_residuals(
    hessian: Tensor, positions: Tensor, forces: Tensor, batch: dict[str, Tensor]
) -> Tensor:
    """How far Hessians are from the rules of translation and of rotation.

    Args:
        hessian: Padded Hessians in eV/Å², shape ``(b, 3m, 3m)``.
        positions: Coordinates in Å, shape ``(n, 3)``.
        forces: Forces in eV/Å, shape ``(n, 3)``.
        batch: Molecules with the keys ``batch`` and ``ptr``.

    Returns:
        Mean absolute entry of ``H t_a`` in eV/Å² for unit moves of every atom, and of
        ``H (e_a × x) - e_a × g`` in eV/Å, shape ``(b, 2)``.
    """
    hessian = hessian.double()
    atoms = (batch["ptr"][1:] - batch["ptr"][:-1]).double()
    ones = torch.ones_like(batch["batch"], dtype=torch.float64)
    shifts = translations(ones, batch) * atoms.sqrt()[:, None, None]
    turns, required = _rotation_rule(positions, forces, batch)
    residuals = torch.stack([hessian @ shifts, hessian @ turns - required], dim=1)
    return residuals.abs().sum((2, 3)) / (9 * atoms)[:, None]


def translations(weights: Tensor, batch: dict[str, Tensor]) -> Tensor:
    """Unit columns that move every atom along x, y and z.

    Args:
        weights: Length of the move of every atom before normalisation, shape ``(n,)``.
        batch: Molecules with the keys ``batch`` and ``ptr``.

    Returns:
        Orthonormal columns, zero beyond a molecule, shape ``(b, 3m, 3)``.
    """
    padded = pad_by_molecule(weights, batch)
    unit = padded / padded.square().sum(1, keepdim=True).sqrt()
    axes = torch.eye(3, dtype=unit.dtype, device=unit.device)
    return (unit[:, :, None, None] * axes).flatten(1, 2)


def rotations(vectors: Tensor, batch: dict[str, Tensor]) -> Tensor:
    """Columns ``e_a × v_i`` of a vector on every atom, for the axes x, y and z.

    Args:
        vectors: Positions, or gradients, shape ``(n, 3)``.
        batch: Molecules with the keys ``batch`` and ``ptr``.

    Returns:
        Columns in the unit of the vectors, zero beyond a molecule, shape ``(b, 3m, 3)``.
    """
    axes = torch.eye(3, dtype=vectors.dtype, device=vectors.device)
    turned = torch.linalg.cross(axes[None], vectors[:, None], dim=2).mT
    return pad_by_molecule(turned, batch).flatten(1, 2)


def center(vectors: Tensor, weights: Tensor, batch: dict[str, Tensor]) -> Tensor:
    """Vectors less their weighted mean over the molecule.

    Args:
        vectors: One vector an atom, shape ``(n, 3)``.
        weights: Positive weight of every atom, shape ``(n,)``.
        batch: Molecules with the keys ``batch`` and ``ptr``.

    Returns:
        Vectors of weighted mean zero, shape ``(n, 3)``.
    """
    columns = torch.cat([vectors * weights[:, None], weights[:, None]], dim=1)
    sums = pad_by_molecule(columns, batch).sum(1)
    return vectors - (sums[:, :3] / sums[:, 3:])[batch["batch"]]


def inverse_norm(columns: Tensor, tolerance: float = 0.0) -> Tensor:
    """Factor that normalises columns, zero for those that are shorter than a tolerance.

    Its gradient is finite for zero columns, too.

    Args:
        columns: Vectors along the last two axes but one, shape ``(b, 3m, c)``.
        tolerance: Shortest column that counts, in the unit of the columns.

    Returns:
        ``1/norm`` or zero, shape ``(b, 1, c)``.
    """
    square = columns.square().sum(1, keepdim=True)
    long = square > tolerance**2
    return torch.where(long, torch.where(long, square, 1.0).rsqrt(), 0.0)


def _rotation_rule(
    positions: Tensor, forces: Tensor, batch: dict[str, Tensor]
) -> tuple[Tensor, Tensor]:
    """Rotations U about the centroid and the ``H U`` that invariance requires."""
    ones = torch.ones_like(batch["batch"], dtype=torch.float64)
    gradient = -center(forces.double(), ones, batch)
    return rotations(center(positions.double(), ones, batch), batch), rotations(gradient, batch)


def _orthonormal(columns: Tensor, images: Tensor, tolerance: float) -> tuple[Tensor, Tensor]:
    """Orthonormalise columns and apply the same column operations to their images.

    Gram-Schmidt, done twice for each column, that always takes the longest column that is left:
    so a linear molecule along an axis behaves as along any other direction.
    """
    basis: list[Tensor] = []
    targets: list[Tensor] = []
    for _ in range(columns.shape[2]):
        longest = columns.square().sum(1).argmax(1)
        pick = torch.nn.functional.one_hot(longest, columns.shape[2]).to(columns.dtype)[..., None]
        unit, image = columns @ pick, images @ pick
        for done, done_image in zip(basis * 2, targets * 2, strict=True):
            overlap = done.mT @ unit
            unit, image = unit - done * overlap, image - done_image * overlap
        scale = inverse_norm(unit, tolerance)
        unit, image = unit * scale, image * scale
        overlap = unit.mT @ columns
        columns, images = columns - unit @ overlap, images - image @ overlap
        basis.append(unit)
        targets.append(image)
    return torch.cat(basis, dim=2), torch.cat(targets, dim=2)


def _nearest(hessian: Tensor, basis: Tensor, target: Tensor) -> Tensor:
    """Nearest symmetric matrix H with ``H Q = W`` for the orthonormal columns Q."""
    hessian = (hessian + hessian.mT) / 2
    image = hessian @ basis
    within = basis.mT @ target
    symmetric = (within + within.mT) / 2
    inner = (basis.mT @ image + symmetric) / 2
    correction = (target - basis @ within - image + basis @ inner) @ basis.mT
    return hessian + (correction + correction.mT)  # in this order exactly symmetric
