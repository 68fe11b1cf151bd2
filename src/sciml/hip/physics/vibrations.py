"""Normal modes of batches of molecules, in float64.

Shapes: b molecules, n atoms, m atoms in the largest molecule, k modes of the molecule with most.
"""

from dataclasses import dataclass

import torch
from ase.data import atomic_masses
from torch import Tensor

from sciml.core.graph import pad_by_graph
from sciml.hip.physics.constants import INVERSE_CM, WAVENUMBER
from sciml.hip.physics.layout import entry_mask
from sciml.hip.physics.rules import center, inverse_norm, rotations, translations

MASSES = torch.tensor(atomic_masses, dtype=torch.float64)  # amu, standard weights (IUPAC) of ASE
RANK_TOLERANCE = 1e-5  # smallest singular value of a rigid motion, relative to the largest
NEGATIVE_MODE = -1e-6  # eV/Å²/amu, eigenvalues below count as negative


@dataclass
class Modes:
    """Vibrations of b molecules.

    Args:
        eigenvalues: Of the mass-weighted Hessian in eV/Å²/amu, ascending, NaN beyond the number
            of vibrations of the molecule, shape ``(b, k)``.
        vectors: Mass-weighted unit eigenvectors in columns, orthogonal to all rigid motions, zero
            beyond the number of vibrations and beyond the atoms, shape ``(b, 3m, k)``.
        counts: Number of vibrations, ``3N - 6``, ``3N - 5`` when linear, 0 for an atom, shape
            ``(b,)``.
    """

    eigenvalues: Tensor
    vectors: Tensor
    counts: Tensor


def masses(z: Tensor) -> Tensor:
    """Standard atomic weights in amu, shape ``(n,)``, of atomic numbers of the same shape."""
    return MASSES.to(z.device)[z]


def mass_weighted(hessian: Tensor, batch: dict[str, Tensor], weights: Tensor) -> Tensor:
    """Symmetrised ``M^-½ H M^-½``.

    Args:
        hessian: Padded Hessians in eV/Å², shape ``(b, 3m, 3m)``.
        batch: Molecules with the keys ``batch`` and ``ptr``.
        weights: Masses of the atoms in amu, shape ``(n,)``.

    Returns:
        Padded matrices in eV/Å²/amu, float64, shape ``(b, 3m, 3m)``.
    """
    scale = pad_by_graph(weights.double().rsqrt(), batch["batch"], batch["ptr"])
    scale = scale.repeat_interleave(3, dim=1)
    symmetric = (hessian.double() + hessian.double().mT) / 2
    return scale[:, :, None] * symmetric * scale[:, None, :]


def rigid_basis(batch: dict[str, Tensor], weights: Tensor) -> Tensor:
    """Orthonormal basis of the mass-weighted translations and rotations.

    The rank comes from singular values, after the translations are scaled to unit norm and the
    rotations by one common length: 6, 5 for linear molecules in any direction, 3 for atoms.

    Args:
        batch: Molecules with the keys ``pos`` (Å), ``batch`` and ``ptr``.
        weights: Masses of the atoms in amu, shape ``(n,)``.

    Returns:
        Columns, zero beyond the rank, shape ``(b, 3m, 6)``, or ``(b, 3, 3)`` for atoms only.
    """
    weights = weights.double()
    offsets = center(batch["pos"].double(), weights, batch)
    turns = rotations(offsets * weights.sqrt()[:, None], batch)
    turns = turns * inverse_norm(turns.flatten(1)[..., None])
    motions = torch.cat([translations(weights.sqrt(), batch), turns], dim=2)
    left, singular, _ = torch.linalg.svd(motions, full_matrices=False)
    moving: Tensor = singular > RANK_TOLERANCE * singular[:, :1]
    return torch.where(moving[:, None, :], left, 0.0)


def normal_modes(hessian: Tensor, batch: dict[str, Tensor], weights: Tensor | None = None) -> Modes:
    """Eigenpairs of the mass-weighted Hessian in the space of the vibrations.

    The rigid motions and the padding are given one eigenvalue above all others, so that one
    batched eigenvalue decomposition separates them exactly.

    Args:
        hessian: Padded Hessians in eV/Å², shape ``(b, 3m, 3m)``.
        batch: Molecules with the keys ``z``, ``pos`` (Å), ``batch`` and ``ptr``.
        weights: Masses of the atoms in amu, shape ``(n,)``; the standard weights by default.

    Returns:
        Vibrations of every molecule.
    """
    weights = masses(batch["z"]) if weights is None else weights
    basis = rigid_basis(batch, weights)
    matrix = mass_weighted(hessian, batch, weights)
    projector = torch.eye(matrix.shape[1], dtype=matrix.dtype, device=matrix.device)
    projector = projector - basis @ basis.mT
    atoms = entry_mask(batch["ptr"])
    counts = atoms.sum(1) - (basis.square().sum(1) > 0).sum(1)
    matrix = projector @ matrix @ projector
    above = 1 + 2 * matrix.abs().sum(2).amax(1)  # the largest row sum bounds every eigenvalue
    away = basis @ basis.mT + torch.diag_embed((~atoms).to(matrix.dtype))
    values, vectors = torch.linalg.eigh(matrix + above[:, None, None] * away)
    most = int(counts.max())
    present = torch.arange(most, device=counts.device) < counts[:, None]
    return Modes(
        values[:, :most].masked_fill(~present, torch.nan),
        vectors[:, :, :most] * present[:, None, :],
        counts,
    )


def wavenumber(eigenvalue: Tensor) -> Tensor:
    """Wavenumber ``sign(λ) 521.4709 √|λ|`` in cm⁻¹, negative for an imaginary frequency.

    Args:
        eigenvalue: Of a mass-weighted Hessian in eV/Å²/amu, any shape.
    """
    return WAVENUMBER * eigenvalue.sign() * eigenvalue.abs().sqrt()


def frequencies(modes: Modes) -> Tensor:
    """Wavenumbers of all vibrations in cm⁻¹ as `wavenumber` has them, shape ``(b, k)``."""
    return wavenumber(modes.eigenvalues)


def zero_point_energy(modes: Modes) -> Tensor:
    """Half the quanta of all real vibrations in eV, shape ``(b,)``."""
    quanta = INVERSE_CM * frequencies(modes)
    return quanta.nan_to_num().clamp(min=0).sum(1) / 2


def negative_modes(modes: Modes, threshold: float = NEGATIVE_MODE) -> Tensor:
    """Number of eigenvalues below a threshold.

    Args:
        modes: Vibrations of b molecules.
        threshold: In eV/Å²/amu.

    Returns:
        Counts, int64, shape ``(b,)``.
    """
    return (modes.eigenvalues < threshold).sum(1)


def plain_eigenvalues(hessian: Tensor, ptr: Tensor) -> Tensor:
    """Eigenvalues of Hessians without masses or projection.

    Args:
        hessian: Padded Hessians in eV/Å², shape ``(b, 3m, 3m)``.
        ptr: First atom of every molecule and the total, shape ``(b + 1,)``.

    Returns:
        Eigenvalues in eV/Å², float64, ascending, NaN beyond ``3N``, shape ``(b, 3m)``.
    """
    atoms = entry_mask(ptr)
    symmetric = (hessian.double() + hessian.double().mT) / 2
    above = 1 + 2 * symmetric.abs().sum(2).amax(1)
    padding = torch.diag_embed((~atoms).to(symmetric.dtype))
    values: Tensor = torch.linalg.eigvalsh(symmetric + above[:, None, None] * padding)
    return values.masked_fill(~atoms, torch.nan)
