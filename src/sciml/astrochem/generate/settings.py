"""What a run of the generator computes for every tracer."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from sciml.astrochem.generate.backend import Chemistry
from sciml.astrochem.generate.checks import check_network
from sciml.astrochem.generate.histories import Family
from sciml.astrochem.generate.network import Network, read_network
from sciml.astrochem.generate.solver import EmbeddedChemistry
from sciml.astrochem.generate.uclchem import OPTIONS, UclchemChemistry, require_uclchem

Backend = Literal["embedded", "uclchem"]
FILES = ("network", "network_species")
LIBRARIES = ("sciml", "numpy", "scipy")  # whose versions may change a number
LIMITS = ("cpu_limit",)  # tracers that fail by them are tried again


@dataclass(frozen=True, slots=True)
class Settings:
    """Histories, starts and solver of a set.

    Args:
        family: Family of the histories.
        steps: Steps of a tracer; those of the table for the family csv.
        dt: Length of a step in years; that of the table for the family csv.
        evolved_fraction: Share of the tracers that start from evolved chemistry instead of atoms.
        backend: What integrates the chemistry.
        network: Table of reactions for the embedded backend, its own by default.
        network_species: Table of species of that network.
        zeta: Cosmic-ray ionisation in units of 1.3e-17 s⁻¹.
        cpu_limit: CPU seconds that UCLCHEM may use for a step.

    Raises:
        ValueError: If a number is out of its range, or the settings contradict each other.
    """

    family: Family = "grav"
    steps: int = 100
    dt: float = 1e4
    evolved_fraction: float = 0.3
    backend: Backend = "embedded"
    network: Path | None = None
    network_species: Path | None = None
    zeta: float = 1.0
    cpu_limit: float = 60.0

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"steps is {self.steps}; give at least 1")
        for name, value in (("dt", self.dt), ("zeta", self.zeta), ("cpu_limit", self.cpu_limit)):
            if not 0 < value < float("inf"):
                raise ValueError(f"{name} is {value:g}; give a positive number")
        if not 0 <= self.evolved_fraction <= 1:
            raise ValueError(
                f"evolved_fraction is {self.evolved_fraction:g}; give a number from 0 to 1"
            )
        if self.backend == "uclchem" and (self.network or self.network_species):
            raise ValueError(
                "UCLCHEM has its network compiled in; leave --network and --network_species out or"
                " give --backend embedded"
            )

    def as_json(self) -> dict[str, Any]:
        """Plain values, to be compared with those of an earlier run.

        The files of a network are left out: what counts is what is in them. So are limits, which
        no finished tracer depends on.
        """
        left_out = {*FILES, *LIMITS}
        return {name: value for name, value in asdict(self).items() if name not in left_out}


@contextmanager
def open_chemistry(settings: Settings) -> Iterator[Chemistry]:
    """The backend that settings name.

    Args:
        settings: Of the run.

    Yields:
        The backend; its process, where it has one, ends with the context.

    Raises:
        MissingPackageError: If the backend is not installed.
        ValueError: If the network is wrong.
    """
    if settings.backend == "embedded":
        yield EmbeddedChemistry(
            checked_network(settings.network, settings.network_species), settings.zeta
        )
        return
    with UclchemChemistry(settings.cpu_limit, settings.zeta) as chemistry:
        yield chemistry


def describe_chemistry(settings: Settings) -> dict[str, str | float | None]:
    """Attributes of a file: what computed it. Checks that it can be used.

    Args:
        settings: Of the run.

    Returns:
        Plain values, among them ``generator`` and ``network_sha256``.

    Raises:
        MissingPackageError: If the backend is not installed.
        ValueError: If the network is wrong.
    """
    made: dict[str, str | float | None] = {"zeta": settings.zeta}
    made |= {f"{name}_version": version(name) for name in LIBRARIES}
    if settings.backend == "embedded":
        network = checked_network(settings.network, settings.network_species)
        return {"generator": "embedded", "network_sha256": network.sha256, **made}
    uclchem = require_uclchem()
    options = ", ".join(f"{name} {value}" for name, value in OPTIONS.items())
    return {
        "generator": "uclchem",
        "network_sha256": None,
        "uclchem_version": uclchem,
        "uclchem_options": options,
        **made,
    }


@cache
def checked_network(network: Path | None, species: Path | None) -> Network:
    """A network that was read and checked once in this process.

    Args:
        network: Table of reactions, the embedded one by default.
        species: Table of species.
    """
    found = read_network(network, species)
    check_network(found)
    return found
