"""One molecule with its labels, as every reader returns it."""

import math
from collections import Counter
from dataclasses import dataclass

import numpy as np
from ase.data import chemical_symbols
from numpy.typing import NDArray

ASYMMETRY_LIMIT = 0.5  # eV/Å²; six times the largest seen in HORM (0.078, DFT grid)
HEAVIEST = len(chemical_symbols) - 1  # atomic number of the last element with a name
_ADVICE = "repair or remove it, or set its weight to 0 to leave the label out"


@dataclass(slots=True)
class Record:
    """A molecule and what is known of it; a label that was not computed is None.

    Args:
        numbers: Atomic numbers, int64 ``(n,)``.
        positions: Coordinates in Å, float64 ``(n, 3)``.
        energy: Total energy in eV.
        forces: Forces in eV/Å, float64 ``(n, 3)``.
        hessian: Symmetric second derivatives in eV/Å², float64 ``(3n, 3n)``.
        weight: Factor on every loss of this molecule.
        energy_weight: Further factor on its energy loss; 0 means no label.
        forces_weight: Further factor on its forces loss; 0 means no label.
        hessian_weight: Further factor on its Hessian loss; 0 means no label.
        config_type: Free label of the kind of geometry or of the molecule.
        identifier: Number that names the record in tables and predictions.
        reaction: Number of the reaction the geometry belongs to, -1 when unknown.
        head: Level of theory the labels belong to.
    """

    numbers: NDArray[np.int64]
    positions: NDArray[np.float64]
    energy: float | None = None
    forces: NDArray[np.float64] | None = None
    hessian: NDArray[np.float64] | None = None
    weight: float = 1.0
    energy_weight: float = 1.0
    forces_weight: float = 1.0
    hessian_weight: float = 1.0
    config_type: str = "Default"
    identifier: int = 0
    reaction: int = -1
    head: int = 0


def checked(record: Record, where: str) -> Record:
    """The record with its Hessian made square and symmetric, after every check that is cheap.

    Args:
        record: As read; the Hessian in any shape with 9n² numbers in row-major order.
        where: Name of the record for messages, such as ``record 5 of val.h5``.

    Returns:
        The same object, arrays int64 and float64, the Hessian ``(H + Hᵀ)/2``; a label that is
        absent has the weight 0, and one with the weight 0 is dropped.

    Raises:
        ValueError: If a shape does not fit the number of atoms, a number is not finite, the
            Hessian is further than `ASYMMETRY_LIMIT` from symmetric or the head is not 0.
    """
    atoms = len(record.numbers)
    if atoms == 0 or record.numbers.min() < 1 or record.numbers.max() > HEAVIEST:
        raise ValueError(f"{where}: atomic numbers must be between 1 and {HEAVIEST}; repair it")
    if record.head != 0:
        raise ValueError(
            f"{where} belongs to head {record.head}; this version trains one level of theory: "
            "keep the records of head 0"
        )
    _settle_weights(record)
    record.numbers = np.ascontiguousarray(record.numbers, dtype=np.int64)
    record.positions = _array(record.positions, (atoms, 3), "positions", where)
    if record.energy is not None and not math.isfinite(record.energy):
        raise ValueError(f"{where}: the energy is {record.energy}; {_ADVICE}")
    if record.forces is not None:
        record.forces = _array(record.forces, (atoms, 3), "forces", where)
    if record.hessian is not None:
        size = 3 * atoms
        matrix = _array(record.hessian, (size, size), "Hessian", where)
        if asymmetry(matrix) > ASYMMETRY_LIMIT:
            raise ValueError(
                f"{where}: the Hessian and its transpose differ by {asymmetry(matrix):.3g} eV/Å², "
                f"more than {ASYMMETRY_LIMIT}; check its order of rows and its unit"
            )
        record.hessian = (matrix + matrix.T) / 2
    return record


def asymmetry(hessian: NDArray[np.float64]) -> float:
    """Largest ``|H - Hᵀ|`` in eV/Å² of a square matrix."""
    return float(np.abs(hessian - hessian.T).max())


def formula(numbers: NDArray[np.int64]) -> str:
    """Hill formula of a molecule, such as ``C2H6O``.

    Args:
        numbers: Atomic numbers, shape ``(n,)``.
    """
    counts = Counter(chemical_symbols[number] for number in numbers.tolist())
    first = ["C", "H"] if "C" in counts else []
    order = [symbol for symbol in first if symbol in counts]
    order += sorted(symbol for symbol in counts if symbol not in order)
    return "".join(f"{symbol}{counts[symbol] if counts[symbol] > 1 else ''}" for symbol in order)


def _settle_weights(record: Record) -> None:
    # a label that is not there weighs nothing, and one that weighs nothing is not there
    record.energy = record.energy if record.energy_weight else None
    record.forces = record.forces if record.forces_weight else None
    record.hessian = record.hessian if record.hessian_weight else None
    record.energy_weight = 0.0 if record.energy is None else record.energy_weight
    record.forces_weight = 0.0 if record.forces is None else record.forces_weight
    record.hessian_weight = 0.0 if record.hessian is None else record.hessian_weight


def _array(
    values: NDArray[np.float64], shape: tuple[int, ...], name: str, where: str
) -> NDArray[np.float64]:
    expected = math.prod(shape)
    if values.size != expected:
        raise ValueError(
            f"{where}: the {name} has {values.size} numbers where {shape[0]} × {shape[1]} = "
            f"{expected} are expected; repair or remove the record"
        )
    values = np.ascontiguousarray(values, dtype=np.float64).reshape(shape)
    if not np.isfinite(values).all():
        raise ValueError(f"{where}: a number of the {name} is not finite; {_ADVICE}")
    return values
