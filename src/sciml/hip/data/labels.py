"""Names of labels in files."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Labels:
    """Names under which a file keeps its labels; ``REF_`` before the name is tried next.

    Args:
        energy_key: Total energies in eV.
        forces_key: Forces in eV/Å.
        hessian_key: Hessians in eV/Å².
    """

    energy_key: str = "energy"
    forces_key: str = "forces"
    hessian_key: str = "hessian"


USUAL = Labels()
