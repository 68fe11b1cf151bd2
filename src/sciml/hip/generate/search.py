"""Steps to minima and saddle points of one molecule of n atoms on the surface of an engine."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from sciml.hip.generate.engines import Engine, Labels, NotConvergedError
from sciml.hip.physics.vibrations import masses, normal_modes, rigid_basis

Array = NDArray[np.float64]

TRUST = 0.2  # Å, longest step
CONVERGED = 1e-3  # eV/Å, largest force component at a minimum
FRESH = 25  # steps after which a minimisation asks for a new Hessian
CURVED = -2e-3  # eV/Å²/amu (23 cm⁻¹ imaginary), a lower eigenvalue is a saddle
SADDLES = 5  # relaxations that may end at a saddle, each is left by a longer push
SOFT = 0.3  # eV/Å², least curvature a minimisation starts with
RIGID = 1e6  # eV/Å², put on the rigid motions to part them from the internal ones


@dataclass(frozen=True, slots=True)
class Minimum:
    """A minimum with its labels and vibrations.

    Args:
        positions: Coordinates in Å, shape ``(n, 3)``.
        labels: Energy, forces and Hessian.
        eigenvalues: Of the mass-weighted Hessian in eV/Å²/amu, ascending, shape ``(k,)``.
        displacements: Moves of the atoms in Å a unit (Å√amu) of each mode, shape ``(k, n, 3)``.
    """

    positions: Array
    labels: Labels
    eigenvalues: Array
    displacements: Array


def rfo_step(
    gradient: Array, hessian: Array, positions: Array, *, uphill: int = 0, trust: float = TRUST
) -> Array:
    """Rational-function step in the space without translations and rotations.

    Along the `uphill` lowest modes the step climbs, along all others it descends; each group has
    the shift of its own eigenvalue problem ``[[H, g], [gᵀ, 0]]``.

    Source: Banerjee, Adams, Simons, Shepard, J. Phys. Chem. 89, 52 (1985).

    Args:
        gradient: In eV/Å, shape ``(n, 3)``.
        hessian: In eV/Å², shape ``(3n, 3n)``.
        positions: Coordinates in Å, shape ``(n, 3)``.
        uphill: 0 towards a minimum, 1 towards a saddle point.
        trust: Longest step in Å, over all coordinates together.

    Returns:
        Move in Å, shape ``(n, 3)``.
    """
    atoms = _batch(np.ones(len(positions), dtype=np.int64), positions)
    rigid = rigid_basis(atoms, torch.ones(len(positions), dtype=torch.float64))[0].numpy()
    projector = np.eye(positions.size) - rigid @ rigid.T
    values, vectors = np.linalg.eigh(projector @ hessian @ projector + RIGID * rigid @ rigid.T)
    internal = values < RIGID / 2
    values, vectors = values[internal], vectors[:, internal]
    slope = vectors.T @ gradient.ravel()
    climbing = np.arange(len(values)) < uphill
    move = np.zeros_like(slope)
    for group, end in ((climbing, -1), (~climbing, 0)):
        if group.any():
            bordered = np.diag(np.append(values[group], 0.0))
            bordered[-1, :-1] = bordered[:-1, -1] = slope[group]
            shift = np.linalg.eigvalsh(bordered)[end]
            move[group] = -slope[group] / _away_from_zero(values[group] - shift)
    length = float(np.linalg.norm(move))
    step: Array = (vectors @ move).reshape(-1, 3) * min(1.0, trust / max(length, 1e-12))
    return step


def bfgs_update(hessian: Array, step: Array, change: Array) -> Array:
    """Hessian after a step towards a minimum; kept where the curvature along it is negative.

    Args:
        hessian: Before, in eV/Å², shape ``(3n, 3n)``.
        step: In Å, shape ``(n, 3)``.
        change: Of the gradient in eV/Å, shape ``(n, 3)``.

    Returns:
        After, in eV/Å², shape ``(3n, 3n)``.
    """
    s, y = step.ravel(), change.ravel()
    image = hessian @ s
    if s @ y <= 1e-8 or s @ image <= 1e-8:
        return hessian
    updated: Array = hessian + np.outer(y, y) / (s @ y) - np.outer(image, image) / (s @ image)
    return updated


def bofill_update(hessian: Array, step: Array, change: Array) -> Array:
    """Hessian after a step towards a saddle point, which may be indefinite.

    Source: Bofill, J. Comput. Chem. 15, 1 (1994).

    Args:
        hessian: Before, in eV/Å², shape ``(3n, 3n)``.
        step: In Å, shape ``(n, 3)``.
        change: Of the gradient in eV/Å, shape ``(n, 3)``.

    Returns:
        After, in eV/Å², shape ``(3n, 3n)``.
    """
    s = step.ravel()
    error = change.ravel() - hessian @ s
    along, length, size = s @ error, s @ s, error @ error
    if length < 1e-12 or size < 1e-12:
        return hessian
    rank_one = np.outer(error, error) / along if abs(along) > 1e-12 else np.zeros_like(hessian)
    cross = (np.outer(error, s) + np.outer(s, error)) / length
    powell = cross - along / length**2 * np.outer(s, s)
    weight = along**2 / (size * length)
    updated: Array = hessian + weight * rank_one + (1 - weight) * powell
    return updated


def find_minimum(
    engine: Engine, numbers: NDArray[np.int64], positions: Array, steps: int = 300
) -> Minimum:
    """Relax a geometry until it is a minimum; from a saddle it goes on downhill.

    Args:
        engine: The surface.
        numbers: Atomic numbers, shape ``(n,)``.
        positions: Start in Å, shape ``(n, 3)``.
        steps: Most steps of one relaxation.

    Returns:
        The minimum.

    Raises:
        NotConvergedError: If there is none within the steps or after five saddles.
    """
    for push in range(1, SADDLES + 1):
        positions = _relax(engine, positions, steps)
        labels = engine.labels(positions)
        values, displacements = vibrations(numbers, positions, labels.hessian)
        if len(values) == 0 or values[0] > CURVED:
            return Minimum(positions, labels, values, displacements)
        downhill = displacements[0] / np.linalg.norm(displacements[0])
        downhill = downhill * (1.0 if (downhill * labels.forces).sum() >= 0 else -1.0)
        positions = positions + push * TRUST * downhill
    raise NotConvergedError("the relaxation ends at a saddle point again and again")


def climb(engine: Engine, positions: Array, steps: int, *, nearest: float) -> Array:
    """Take P-RFO steps towards a saddle point with one exact Hessian and Bofill's updates.

    Args:
        engine: The surface.
        positions: Start in Å, shape ``(n, 3)``.
        steps: How many; fewer where a saddle point is reached or two atoms come too close.
        nearest: Distance in Å that no pair of atoms goes below.

    Returns:
        Coordinates in Å, shape ``(n, 3)``.

    Raises:
        NotConvergedError: If the electronic structure of a step does not converge.
    """
    if steps == 0:
        return positions
    labels = engine.labels(positions)
    hessian, forces = labels.hessian, labels.forces
    for _ in range(steps):
        step = rfo_step(-forces, hessian, positions, uphill=1)
        if np.abs(forces).max() < CONVERGED or closest(positions + step) < nearest:
            break
        positions = positions + step
        before, (_, forces) = forces, engine.energy_forces(positions)
        hessian = bofill_update(hessian, step, before - forces)
    return positions


def vibrations(numbers: NDArray[np.int64], positions: Array, hessian: Array) -> tuple[Array, Array]:
    """Normal modes without translations and rotations.

    Args:
        numbers: Atomic numbers, shape ``(n,)``.
        positions: Coordinates in Å, shape ``(n, 3)``.
        hessian: In eV/Å², shape ``(3n, 3n)``.

    Returns:
        Eigenvalues in eV/Å²/amu, ascending, shape ``(k,)``, and displacements of the atoms a unit
        of each mode in 1/√amu, shape ``(k, n, 3)``.
    """
    batch = _batch(numbers, positions)
    modes = normal_modes(torch.from_numpy(hessian)[None], batch)
    unit = modes.vectors[0].T.reshape(-1, len(numbers), 3).numpy()
    return modes.eigenvalues[0].numpy(), unit / masses(batch["z"]).sqrt().numpy()[:, None]


def closest(positions: Array) -> float:
    """Smallest distance between two of the positions, shape ``(n, 3)``, in their unit."""
    rows, columns = np.triu_indices(len(positions), 1)
    if len(rows) == 0:
        return float("inf")
    return float(np.linalg.norm(positions[rows] - positions[columns], axis=1).min())


def _relax(engine: Engine, positions: Array, steps: int) -> Array:
    labels = engine.labels(positions)
    energy, forces, hessian = labels.energy, labels.forces, _bowl(labels.hessian)
    trust = TRUST
    for count in range(1, steps + 1):
        if np.abs(forces).max() < CONVERGED:
            return positions
        if count % FRESH == 0:
            hessian = _bowl(engine.labels(positions).hessian)
        step = rfo_step(-forces, hessian, positions, trust=trust)
        trial_energy, trial_forces = engine.energy_forces(positions + step)
        hessian = bfgs_update(hessian, step, forces - trial_forces)
        if trial_energy > energy + 1e-6:  # eV, more than the noise of the energy: a shorter step
            trust = max(trust / 4, 1e-4)
            continue
        positions, energy, forces = positions + step, trial_energy, trial_forces
        trust = min(trust * 1.5, TRUST)
    raise NotConvergedError(f"the relaxation did not converge in {steps} steps")


def _bowl(hessian: Array) -> Array:
    """The Hessian with every curvature positive, so that far from a minimum steps go downhill."""
    values, vectors = np.linalg.eigh(hessian)
    positive: Array = (vectors * np.maximum(np.abs(values), SOFT)) @ vectors.T
    return positive


def _away_from_zero(values: Array) -> Array:
    return np.where(np.abs(values) < 1e-9, 1e-9, values)


def _batch(numbers: NDArray[np.int64], positions: Array) -> dict[str, torch.Tensor]:
    return {
        "z": torch.from_numpy(numbers),
        "pos": torch.from_numpy(positions),
        "batch": torch.zeros(len(numbers), dtype=torch.int64),
        "ptr": torch.tensor([0, len(numbers)]),
    }
