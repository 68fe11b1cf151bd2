"""One task of the generator: all configurations of one molecule of n atoms (k of them)."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sciml.hip.data.record import Record
from sciml.hip.generate.engines import (
    Engine,
    Labels,
    NotConvergedError,
    isolated_atom,
    make_engine,
)
from sciml.hip.generate.geometries import heat, react, superimpose
from sciml.hip.generate.molecules import Molecule, embed
from sciml.hip.generate.search import Minimum, climb, closest, find_minimum

Array = NDArray[np.float64]

MINIMUM, THERMAL, REACTION = "minimum", "thermal", "reaction"
CONFORMERS = 6  # tried for the ways from one to another
DISTINCT = 0.3  # Å, root mean square distance of a conformer that is another one
CLIMB = 20  # most P-RFO steps of a reaction-like structure


@dataclass(frozen=True, slots=True)
class Settings:
    """What is computed for every molecule.

    Args:
        method: Method as `check_method` takes it.
        per_molecule: Configurations: one minimum, the others displaced from it.
        ts_fraction: Share of them that is reaction-like.
        temperatures: In K, taken in turn by the heated configurations.
        fmax: Largest force component in eV/Å of a configuration that is kept.
        nearest: Smallest distance in Å of two atoms of a configuration that is kept.
        tries: Draws for a configuration before it is given up.
    """

    method: str = "gfn2-xtb"
    per_molecule: int = 12
    ts_fraction: float = 0.2
    temperatures: tuple[float, ...] = (300.0, 1000.0, 2500.0)
    fmax: float = 50.0
    nearest: float = 0.4
    tries: int = 10

    def __post_init__(self) -> None:
        if self.per_molecule < 1:
            raise ValueError(f"per_molecule is {self.per_molecule}; give at least 1")
        if not 0 <= self.ts_fraction <= 1:
            raise ValueError(f"ts_fraction is {self.ts_fraction}; give a number from 0 to 1")

    def kinds(self) -> list[str]:
        """Kind of every configuration of a molecule, the minimum first."""
        displaced = self.per_molecule - 1
        reactions = min(round(self.ts_fraction * self.per_molecule), displaced)
        return [MINIMUM] + [THERMAL] * (displaced - reactions) + [REACTION] * reactions

    def as_json(self) -> dict[str, Any]:
        """Plain values, to be compared with those of an earlier run."""
        return asdict(self) | {"temperatures": list(self.temperatures)}


@dataclass(frozen=True, slots=True)
class Job:
    """A molecule and what to compute for it.

    Args:
        molecule: The molecule.
        settings: The same for all molecules.
    """

    molecule: Molecule
    settings: Settings


@dataclass(frozen=True, slots=True)
class Sample:
    """What a task leaves of a molecule.

    Args:
        records: Its configurations.
        kinds: Kind of each.
        dropped: Drawn configurations that were not kept, by reason.
        e0: Energy in eV of the free atom of each of its elements.
    """

    records: list[Record]
    kinds: list[str]
    dropped: dict[str, int]
    e0: dict[int, float]


class _DroppedError(Exception):
    """A drawn configuration is not kept; the message is the reason."""


def sample_molecule(job: Job, part: Path, seed: int) -> None:
    """Compute all configurations of a molecule into a file that `read_sample` reads.

    The numbers drawn for a configuration come from the seed and its place alone.

    Args:
        job: What to compute.
        part: The file to write.
        seed: Seed of the embedding and of the draws.

    Raises:
        NotConvergedError: If the molecule has no minimum or an atom has no energy.
        ValueError: If the SMILES cannot be embedded.
    """
    molecule, settings = job.molecule, job.settings
    numbers = molecule.numbers
    e0 = {
        element: isolated_atom(settings.method, element)
        for element in sorted(set(numbers.tolist()))
    }
    if molecule.positions is None:
        conformers = embed(molecule.name, seed, CONFORMERS)
    else:
        conformers = [molecule.positions]
    engine = make_engine(settings.method, numbers.tolist())
    minimum = find_minimum(engine, numbers, conformers[0])
    others = _distinct(conformers[1:], minimum)
    dropped: Counter[str] = Counter()
    kept = [(MINIMUM, minimum.positions, minimum.labels)]
    for place, kind in enumerate(settings.kinds()[1:], start=1):
        rng = np.random.default_rng([seed, place])
        temperature = settings.temperatures[(place - 1) % len(settings.temperatures)]
        for _ in range(settings.tries):
            try:
                if kind == THERMAL:
                    positions = heat(minimum, temperature, rng)
                else:
                    positions = _reaction(engine, job, minimum, others, rng)
                kept.append((kind, positions, _labels(engine, positions, settings)))
                break
            except _DroppedError as reason:
                dropped[str(reason)] += 1
    _write(part, numbers, kept, dropped, e0)


def read_sample(path: Path, name: str) -> Sample:
    """Configurations that `sample_molecule` wrote.

    Args:
        path: The file.
        name: Label of every record.

    Returns:
        The sample.
    """
    with np.load(path) as file:
        data = {key: file[key] for key in file.files}
    records = [
        Record(data["numbers"], positions, float(energy), forces, hessian, config_type=name)
        for positions, energy, forces, hessian in _rows(data)
    ]
    return Sample(
        records,
        kinds=data["kinds"].tolist(),
        dropped=dict(zip(data["reasons"].tolist(), data["counts"].tolist(), strict=True)),
        e0=dict(zip(data["elements"].tolist(), data["e0"].tolist(), strict=True)),
    )


def _rows(data: dict[str, Any]) -> Iterator[tuple[Array, float, Array, Array]]:
    return zip(data["positions"], data["energy"], data["forces"], data["hessian"], strict=True)


def _distinct(conformers: list[Array], minimum: Minimum) -> list[Array]:
    def apart(positions: Array) -> float:
        offsets = superimpose(positions, minimum.positions) - minimum.positions
        return float(np.sqrt((offsets**2).sum(1).mean()))

    return [positions for positions in conformers if apart(positions) > DISTINCT]


def _reaction(
    engine: Engine, job: Job, minimum: Minimum, others: list[Array], rng: np.random.Generator
) -> Array:
    nearest = job.settings.nearest
    start = react(job.molecule.numbers, minimum.positions, others, rng)
    steps = int(rng.integers(CLIMB + 1))
    if closest(start) < nearest:
        raise _DroppedError(_too_close(job.settings))
    try:
        return climb(engine, start, steps, nearest=nearest)
    except NotConvergedError:
        raise _DroppedError("not converged") from None


def _labels(engine: Engine, positions: Array, settings: Settings) -> Labels:
    """Labels of a configuration that is worth keeping; the cheap checks come first."""
    if closest(positions) < settings.nearest:
        raise _DroppedError(_too_close(settings))
    try:
        _, forces = engine.energy_forces(positions)
        if not np.abs(forces).max() <= settings.fmax:
            raise _DroppedError(f"a force above {settings.fmax:g} eV/Å")
        return engine.labels(positions)
    except NotConvergedError:
        raise _DroppedError("not converged") from None


def _too_close(settings: Settings) -> str:
    return f"atoms closer than {settings.nearest:g} Å"


def _write(
    part: Path,
    numbers: NDArray[np.int64],
    kept: list[tuple[str, Array, Labels]],
    dropped: Counter[str],
    e0: dict[int, float],
) -> None:
    with part.open("wb") as file:
        np.savez(
            file,
            numbers=numbers,
            kinds=np.array([kind for kind, _, _ in kept]),
            positions=np.array([positions for _, positions, _ in kept]),
            energy=np.array([labels.energy for _, _, labels in kept]),
            forces=np.array([labels.forces for _, _, labels in kept]),
            hessian=np.array([labels.hessian for _, _, labels in kept]),
            reasons=np.array(list(dropped), dtype=str),
            counts=np.array(list(dropped.values()), dtype=np.int64),
            elements=np.array(list(e0)),
            e0=np.array(list(e0.values())),
        )
