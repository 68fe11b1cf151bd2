"""Quantum-chemistry methods: energy, forces and Hessian of one neutral molecule of n atoms."""

import importlib.metadata
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import numpy as np
from ase.data import chemical_symbols, ground_state_magnetic_moments
from numpy.typing import NDArray

from sciml.core.extras import need, require
from sciml.core.units import BOHR, HARTREE, HARTREE_PER_BOHR, HARTREE_PER_BOHR2

Array = NDArray[np.float64]

XTB = {"gfn2-xtb": "GFN2-xTB", "gfn1-xtb": "GFN1-xTB", "ipea1-xtb": "IPEA1-xTB"}
STEP = 0.005  # Å; the error of the differences is ∝ step², that of the noise ∝ 1/step
ACCURACY = 0.1  # of tblite; Hessians within 2e-4 eV/Å² of converged ones
GRID_LEVEL = 5  # of pyscf; coarser grids break the translational rule by 0.1 eV/Å² and more


class NotConvergedError(RuntimeError):
    """The electronic structure of a geometry did not converge."""


@dataclass(frozen=True, slots=True)
class Labels:
    """What a method says about one geometry.

    Args:
        energy: Total energy in eV.
        forces: Forces in eV/Å, shape ``(n, 3)``.
        hessian: Symmetric second derivatives in eV/Å², shape ``(3n, 3n)``.
    """

    energy: float
    forces: Array
    hessian: Array


class Engine(ABC):
    """A method, set up for the atoms of one molecule.

    Positions come in Å; energies are in eV, forces in eV/Å, Hessians in eV/Å².
    """

    @abstractmethod
    def energy_forces(self, positions: Array) -> tuple[float, Array]:
        """Total energy and forces.

        Args:
            positions: Coordinates in Å, shape ``(n, 3)``.

        Returns:
            Energy in eV and forces in eV/Å, shape ``(n, 3)``.

        Raises:
            NotConvergedError: If the electronic structure does not converge.
        """

    @abstractmethod
    def labels(self, positions: Array) -> Labels:
        """Energy, forces and Hessian; they depend on nothing computed before.

        Args:
            positions: Coordinates in Å, shape ``(n, 3)``.

        Returns:
            The labels.

        Raises:
            NotConvergedError: If the electronic structure does not converge.
        """


class TBLiteEngine(Engine):
    """Extended tight binding of tblite; Hessians are central differences of analytic gradients.

    Args:
        method: One of the names in `XTB`.
        numbers: Atomic numbers.
        unpaired: Unpaired electrons.
        step: Displacement of the differences in Å.
        accuracy: tblite's accuracy, a factor on its convergence thresholds.
    """

    def __init__(
        self,
        method: str,
        numbers: Sequence[int],
        unpaired: int,
        *,
        step: float = STEP,
        accuracy: float = ACCURACY,
    ) -> None:
        self._interface = need("tblite.interface", extra="qm")
        self._method, self._numbers, self._unpaired = method, np.array(numbers), unpaired
        self._step, self._accuracy = step, accuracy
        self._calculator: Any = None
        self._previous: Any = None

    def energy_forces(self, positions: Array) -> tuple[float, Array]:
        if self._calculator is None:
            self._start(positions)
        self._calculator.update(positions=positions / BOHR)
        try:
            self._previous = self._calculator.singlepoint(self._previous)
        except RuntimeError as error:  # tblite has one class of error for all it refuses
            self._previous = None
            raise NotConvergedError(str(error)) from error
        gradient = self._previous.get("gradient") * HARTREE_PER_BOHR
        return float(self._previous.get("energy")) * HARTREE, -gradient

    def labels(self, positions: Array) -> Labels:
        self._start(positions)
        energy, forces = self.energy_forces(positions)
        rows = np.empty((positions.size, positions.size))
        for row in range(positions.size):  # each difference restarts from its neighbour's density
            move = np.zeros(positions.size)
            move[row] = self._step
            _, ahead = self.energy_forces(positions + move.reshape(-1, 3))
            _, behind = self.energy_forces(positions - move.reshape(-1, 3))
            rows[row] = (behind - ahead).ravel() / (2 * self._step)
        return Labels(energy, forces, (rows + rows.T) / 2)

    def _start(self, positions: Array) -> None:
        self._calculator = self._interface.Calculator(
            XTB[self._method], self._numbers, positions / BOHR, uhf=self._unpaired
        )
        self._calculator.set("verbosity", 0)
        self._calculator.set("accuracy", self._accuracy)
        self._previous = None


class PySCFEngine(Engine):
    """Hartree-Fock and density functional theory of pyscf with analytic Hessians.

    Molecules with unpaired electrons are treated without the restriction to equal orbitals.

    Args:
        functional: ``rhf``, or an exchange-correlation functional that pyscf knows.
        basis: Basis set.
        numbers: Atomic numbers.
        unpaired: Unpaired electrons.
    """

    def __init__(self, functional: str, basis: str, numbers: Sequence[int], unpaired: int) -> None:
        self._pyscf = need("pyscf", extra="qm")
        self._functional, self._basis = functional, basis
        self._symbols = [chemical_symbols[number] for number in numbers]
        self._unpaired = unpaired
        self._density: Any = None

    def energy_forces(self, positions: Array) -> tuple[float, Array]:
        field = self._converge(positions)
        gradient = field.nuc_grad_method().kernel()
        return float(field.e_tot) * HARTREE, -gradient * HARTREE_PER_BOHR

    def labels(self, positions: Array) -> Labels:
        self._density = None
        field = self._converge(positions)
        gradient = field.nuc_grad_method().kernel()
        blocks = field.Hessian().kernel()
        hessian = blocks.transpose(0, 2, 1, 3).reshape(positions.size, positions.size)
        hessian = (hessian + hessian.T) / 2 * HARTREE_PER_BOHR2
        return Labels(float(field.e_tot) * HARTREE, -gradient * HARTREE_PER_BOHR, hessian)

    def _converge(self, positions: Array) -> Any:
        from pyscf import dft, gto, scf

        atoms = list(zip(self._symbols, (positions / BOHR).tolist(), strict=True))
        molecule = gto.M(atom=atoms, unit="Bohr", basis=self._basis, spin=self._unpaired, verbose=0)
        restricted = self._unpaired == 0
        if self._functional == "rhf":
            field = scf.RHF(molecule) if restricted else scf.UHF(molecule)
        else:
            field = dft.RKS(molecule) if restricted else dft.UKS(molecule)
            field.xc = self._functional
            field.grids.level = GRID_LEVEL
        field.conv_tol = 1e-10
        field.kernel(dm0=self._density)
        if not field.converged:
            self._density = None
            raise NotConvergedError(f"the SCF did not converge in {field.max_cycle} cycles")
        self._density = field.make_rdm1()
        return field


def make_engine(method: str, numbers: Sequence[int], unpaired: int | None = None) -> Engine:
    """Set up a method for the atoms of a molecule.

    Args:
        method: Name as `check_method` takes it.
        numbers: Atomic numbers.
        unpaired: Unpaired electrons; by default 0 or 1, as the number of electrons is even or odd.

    Returns:
        The engine.
    """
    if unpaired is None:
        unpaired = sum(numbers) % 2
    if method in XTB:
        return TBLiteEngine(method, numbers, unpaired)
    functional, basis = _split(method)
    return PySCFEngine(functional, basis, numbers, unpaired)


def check_method(method: str, elements: Sequence[int]) -> str:
    """Check that a method exists, is installed, and knows the elements.

    Args:
        method: One of the names in `XTB`, or ``pyscf:<functional>/<basis>``.
        elements: Atomic numbers that occur.

    Returns:
        The level of theory in words, for the attributes of a file.

    Raises:
        ValueError: If it is unknown or lacks an element.
        MissingPackageError: If its package is not installed.
    """
    if method in XTB:
        require("tblite", extra="qm")
        if max(elements) > 86:
            raise ValueError(f"{method} has no {chemical_symbols[max(elements)]}: it ends at Rn")
        version = importlib.metadata.version("tblite")
        return (
            f"{XTB[method]} (tblite {version}, accuracy {ACCURACY}), "
            f"central differences of gradients, step {STEP} Å"
        )
    functional, basis = _split(method)
    need("pyscf", extra="qm")
    _check_pyscf(functional, basis, elements)
    version = importlib.metadata.version("pyscf")
    grid = "" if functional == "rhf" else f", grid level {GRID_LEVEL}"
    return f"{functional}/{basis} (pyscf {version}{grid}), analytic Hessians"


def isolated_atom(method: str, number: int) -> float:
    """Energy in eV of a free atom in its ground state's spin.

    Args:
        method: Name as `check_method` takes it.
        number: Atomic number.

    Returns:
        Total energy in eV.
    """
    unpaired = round(ground_state_magnetic_moments[number])
    energy, _ = make_engine(method, [number], unpaired).energy_forces(np.zeros((1, 3)))
    return energy


def _split(method: str) -> tuple[str, str]:
    program, _, level = method.partition(":")
    functional, _, basis = level.partition("/")
    if program == "pyscf" and functional and basis:
        return functional, basis
    known = [*XTB, "pyscf:rhf/6-31g*", "pyscf:wb97x/6-31g*"]
    close = get_close_matches(method.lower(), known, n=1)
    hint = f"; did you mean {close[0]}?" if close else ""
    raise ValueError(
        f"unknown method '{method}': the methods are {', '.join(XTB)} and"
        f" pyscf:<functional>/<basis>, such as pyscf:rhf/6-31g*{hint}"
    )


def _check_pyscf(functional: str, basis: str, elements: Sequence[int]) -> None:
    from pyscf.dft import libxc
    from pyscf.gto import basis as basis_sets

    if functional != "rhf":
        try:
            libxc.parse_xc(functional)
        except KeyError as error:
            raise ValueError(f"pyscf knows no functional '{functional}'") from error
    for number in elements:
        symbol = chemical_symbols[number]
        try:
            basis_sets.load(basis, symbol)
        except (KeyError, RuntimeError) as error:
            raise ValueError(f"pyscf has no basis '{basis}' for {symbol}") from error
