"""Geometries away from a minimum of one molecule of n atoms: heated, or on the way to react."""

from collections.abc import Callable, Sequence

import numpy as np
from ase.data import covalent_radii
from numpy.typing import NDArray
from scipy.optimize import minimize

from sciml.hip.generate.search import Minimum
from sciml.hip.physics.constants import BOLTZMANN

Array = NDArray[np.float64]
Pair = tuple[int, int]

STIFF = 0.02  # eV/Å²/amu (74 cm⁻¹); softer modes are no oscillators and stay where they are
BONDED = 1.25  # of the sum of the covalent radii, longest bond
REACH = 4.0  # Å, atoms farther apart do not form a bond


def heat(minimum: Minimum, temperature: float, rng: np.random.Generator) -> Array:
    """Geometry drawn from the classical harmonic distribution at a temperature.

    Mode k is displaced by ``q_k ~ N(0, kT/λ_k)``, modes with λ below 0.02 eV/Å²/amu not at all.

    Args:
        minimum: The minimum with its vibrations.
        temperature: In K.
        rng: Source of the draws.

    Returns:
        Coordinates in Å, shape ``(n, 3)``.
    """
    stiff = minimum.eigenvalues > STIFF
    width = np.sqrt(BOLTZMANN * temperature / minimum.eigenvalues[stiff])
    moves = np.tensordot(rng.normal(size=len(width)) * width, minimum.displacements[stiff], axes=1)
    heated: Array = minimum.positions + moves
    return heated


def between(start: Array, end: Array, fraction: float) -> Array:
    """Geometry between two, whose distances follow a line as closely as they can.

    The image dependent pair potential of a single image: ``Σ (d - d_target)² / d⁴`` is minimised
    from the straight line between the geometries.

    Source: Smidstrup, Pedersen, Stokbro, Jónsson, J. Chem. Phys. 140, 214106 (2014), eq. 5 to 7.

    Args:
        start: Coordinates in Å, shape ``(n, 3)``.
        end: Coordinates in Å of the same atoms, shape ``(n, 3)``; turned and shifted onto `start`.
        fraction: Place between them, 0 the start and 1 the end.

    Returns:
        Coordinates in Å, shape ``(n, 3)``.
    """
    end = superimpose(end, start)
    line = (1 - fraction) * start + fraction * end
    rows, columns = np.triu_indices(len(start), 1)
    lengths = [np.linalg.norm(x[rows] - x[columns], axis=1) for x in (start, end)]
    target = (1 - fraction) * lengths[0] + fraction * lengths[1]

    def misfit(flat: Array) -> tuple[float, Array]:
        x = flat.reshape(-1, 3)
        vectors = x[rows] - x[columns]
        distance = np.maximum(np.linalg.norm(vectors, axis=1), 0.1)
        error = distance - target
        slope = 2 * error / distance**4 - 4 * error**2 / distance**5
        pull = vectors * (slope / distance)[:, None]
        gradient = np.zeros_like(x)
        np.add.at(gradient, rows, pull)
        np.add.at(gradient, columns, -pull)
        return float((error**2 / distance**4).sum()), gradient.ravel()

    found = minimize(misfit, line.ravel(), jac=True, method="L-BFGS-B", options={"maxiter": 200})
    path: Array = found.x.reshape(-1, 3)
    return path


def superimpose(positions: Array, onto: Array) -> Array:
    """Positions turned and shifted to lie on others with the least squared distance.

    Source: Kabsch, Acta Cryst. A32, 922 (1976).

    Args:
        positions: Coordinates in Å, shape ``(n, 3)``.
        onto: Coordinates in Å of the same atoms, shape ``(n, 3)``.

    Returns:
        Coordinates in Å, shape ``(n, 3)``.
    """
    center = onto.mean(0)
    moved, fixed = positions - positions.mean(0), onto - center
    left, _, right = np.linalg.svd(moved.T @ fixed)
    left[:, -1] *= np.sign(np.linalg.det(left @ right))
    turned: Array = moved @ left @ right + center
    return turned


def react(
    numbers: NDArray[np.int64],
    positions: Array,
    conformers: Sequence[Array],
    rng: np.random.Generator,
) -> Array:
    """Geometry on the way to another conformer, or to a broken or a formed bond.

    Which of the three is drawn with equal chances among those that the molecule has; so is the
    place on the way, between 0.2 and 0.8 to a conformer and 0.3 and 1 to a changed bond.

    Args:
        numbers: Atomic numbers, shape ``(n,)``.
        positions: Where the way begins in Å, shape ``(n, 3)``.
        conformers: Other conformers in Å, shape ``(n, 3)`` each.
        rng: Source of the draws.

    Returns:
        Coordinates in Å, shape ``(n, 3)``.
    """
    bonds, gaps = bonded_pairs(numbers, positions)
    ways: list[Callable[[], Array]] = []
    if len(conformers):
        ways.append(lambda: between(positions, rng.choice(list(conformers)), rng.uniform(0.2, 0.8)))
    if bonds:
        ways.append(lambda: between(positions, _break(positions, bonds, rng), rng.uniform(0.3, 1)))
    if gaps:
        ways.append(
            lambda: between(positions, _form(numbers, positions, gaps, rng), rng.uniform(0.3, 1))
        )
    return ways[rng.integers(len(ways))]()


def bonded_pairs(numbers: NDArray[np.int64], positions: Array) -> tuple[list[Pair], list[Pair]]:
    """Pairs i < j of atoms with a bond, and pairs without one that could form it.

    Args:
        numbers: Atomic numbers, shape ``(n,)``.
        positions: Coordinates in Å, shape ``(n, 3)``.

    Returns:
        Bonds: pairs within 1.25 of the sum of the covalent radii. Gaps: other pairs within 4 Å.
    """
    rows, columns = np.triu_indices(len(numbers), 1)
    distance = np.linalg.norm(positions[rows] - positions[columns], axis=1)
    limit = BONDED * (covalent_radii[numbers[rows]] + covalent_radii[numbers[columns]])
    is_bond = distance < limit
    is_gap = ~is_bond & (distance < REACH)
    pairs = np.stack([rows, columns], axis=1)
    bonds, gaps = (list(map(tuple, pairs[chosen].tolist())) for chosen in (is_bond, is_gap))
    return bonds, gaps


def _break(positions: Array, bonds: list[Pair], rng: np.random.Generator) -> Array:
    """Stretch one bond to 1.6 to 2.4 times its length; what hangs on its end goes with it."""
    i, j = bonds[rng.integers(len(bonds))]
    others = [bond for bond in bonds if bond != (i, j)]
    fragment = _reachable(j, others)
    movers = [j] if i in fragment else sorted(fragment)  # in a ring the atom alone
    stretched = positions.copy()
    stretched[movers] += (rng.uniform(1.6, 2.4) - 1) * (positions[j] - positions[i])
    return stretched


def _form(
    numbers: NDArray[np.int64], positions: Array, gaps: list[Pair], rng: np.random.Generator
) -> Array:
    """Bring two atoms to 1 to 1.3 times the length of a bond; the lighter one moves more."""
    i, j = gaps[rng.integers(len(gaps))]
    vector = positions[j] - positions[i]
    length = float(np.linalg.norm(vector))
    bond = rng.uniform(1.0, 1.3) * (covalent_radii[numbers[i]] + covalent_radii[numbers[j]])
    move = (length - min(bond, length)) / length * vector
    share = numbers[j] / (numbers[i] + numbers[j])
    closer = positions.copy()
    closer[i] += share * move
    closer[j] -= (1 - share) * move
    return closer


def _reachable(start: int, bonds: list[Pair]) -> set[int]:
    """Atoms that bonds connect to one of them, itself included."""
    found, border = {start}, [start]
    while border:  # a graph of some ten atoms
        atom = border.pop()
        linked = {other for bond in bonds if atom in bond for other in bond} - found
        found |= linked
        border += linked
    return found
