"""What every network of the domain promises, and the parts all of them share.

Shapes: b molecules, n atoms, m atoms in the largest molecule, k neighbours, p pairs, s elements.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Literal

import torch
from ase.data import chemical_symbols
from lightning.pytorch.core.mixins.hparams_mixin import HyperparametersMixin
from torch import Tensor, nn

from sciml.hip.physics.layout import pad_by_molecule
from sciml.hip.physics.statistics import HessianStatistics

Batch = dict[str, Tensor]


class HIPNet(nn.Module, HyperparametersMixin, ABC):
    """Map molecules to energy, forces and Hessian.

    The batch, as `sciml.hip.data.batch.collate` makes it; labels are not read:

    - ``z (n,)`` int64 atomic numbers, ``pos (n, 3)`` float64 coordinates in Å
    - ``batch (n,)`` int64 molecule of every atom, ascending; ``ptr (b + 1,)`` int64 first atom of
      every molecule and the total
    - ``nbr (n, k)`` int64 index of the neighbours within `cutoff`, real ones first;
      ``nbr_mask (n, k)`` bool whether they are real
    - ``pair_i, pair_j (p,)`` int64 all pairs i < j of atoms of the same molecule
    - ``atoms (b, m)`` int64, only in exported programs: index of the atoms of every molecule, n
      beyond its last. Then no step depends on values, and nothing is checked

    The output, in the dtype of the parameters but for the energies; F = -∂E/∂x:

    - ``energy (b,)`` float64 interaction energy in eV, without the energies of the elements
    - ``total_energy (b,)`` float64 energy in eV
    - ``forces (n, 3)`` eV/Å
    - ``hessian (b, 3m, 3m)`` eV/Å², symmetric, zero beyond the atoms of a molecule; row
      ``3i + a`` and column ``3j + b`` hold ∂²E/∂x_ia∂x_jb. Only networks with a head have it.

    Outputs carry a graph while training with gradients enabled, and are detached otherwise.
    A concrete network calls ``save_hyperparameters`` with plain values only.

    Args:
        elements: Atomic numbers the network knows, ascending.
        cutoff: Radius of the neighbour table in Å.
    """

    def __init__(self, elements: Sequence[int], cutoff: float) -> None:
        super().__init__()
        numbers = tuple(int(number) for number in elements)
        if not numbers or list(numbers) != sorted(set(numbers)) or numbers[0] < 1:
            raise ValueError(
                f"model.net.elements is {list(elements)}; give atomic numbers in ascending order"
            )
        if cutoff <= 0:
            raise ValueError(f"model.net.r_max is {cutoff} Å; it has to be positive")
        self.elements = numbers
        self.cutoff = float(cutoff)
        table = torch.full((len(chemical_symbols),), -1)
        table[list(numbers)] = torch.arange(len(numbers))
        self.register_buffer("_species", table, persistent=False)
        self._species: Tensor

    @abstractmethod
    def forward(self, batch: Batch, hessian: bool = True, forces: bool = True) -> Batch:
        """Predict; what is not asked for is not computed.

        Args:
            batch: Molecules.
            hessian: Whether to predict Hessians, if the network can.
            forces: Whether to return forces.

        Raises:
            ValueError: If a molecule holds an element the network does not know.
        """

    @abstractmethod
    def set_statistics(self, stats: HessianStatistics) -> None:
        """Fill the buffers that come from the training data.

        Args:
            stats: Statistics of the training split.

        Raises:
            ValueError: If they are of other elements than the network's.
        """

    def trained_elements(self) -> tuple[int, ...]:
        """Those of `elements` that the network can be asked about; here all of them."""
        return self.elements

    def freeze(self) -> None:
        """Go to evaluation for good, so that a program can be exported; `train` undoes it."""
        self.eval()

    def no_decay(self) -> set[str]:
        """Names of the parameters that weight decay leaves alone; here those of one axis."""
        return {name for name, parameter in self.named_parameters() if parameter.ndim < 2}

    def species(self, z: Tensor) -> Tensor:
        """Position of every atom's element among `elements`.

        Args:
            z: Atomic numbers, shape ``(n,)``.

        Raises:
            ValueError: If one of them is not among the elements.
        """
        index = self._species[z]
        if bool((index < 0).any()):
            number = int(z[index < 0][0])
            known = ", ".join(chemical_symbols[element] for element in self.elements)
            raise ValueError(
                f"element {chemical_symbols[number]} (Z = {number}) is not among those of the "
                f"network ({known}); list it in model.net.elements and train again"
            )
        return index


class Constant(nn.Module):
    """Exact numbers in the dtype and on the device of the network, not part of its state.

    A cast starts from the float64 numbers, so that nothing is lost on the way.

    Args:
        exact: The numbers in float64.
    """

    def __init__(self, exact: Tensor) -> None:
        super().__init__()
        self.exact = exact.clone(memory_format=torch.contiguous_format)  # with a storage of its own
        self.register_buffer("value", self.exact.to(torch.get_default_dtype()), persistent=False)
        self.value: Tensor

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Constant":
        super()._apply(fn, recurse)
        self.value = self.exact.to(self.value)
        return self

    def forward(self) -> Tensor:
        """The numbers."""
        return self.value

    def extra_repr(self) -> str:
        """Shape of the numbers."""
        return str(tuple(self.exact.shape))


class EnergyScale(nn.Module):
    """From what the network computes for an atom to energies of molecules.

    ``e_int = Σ_i (scale · e_i + shift)`` and ``total = e_int + Σ_i E0_zi``, both in float64: total
    energies of some 10⁴ eV do not go through float32, so the buffers stay float64 in every cast.

    Args:
        num_elements: Number of elements s.
    """

    e0: Tensor
    scale: Tensor
    shift: Tensor

    def __init__(self, num_elements: int) -> None:
        super().__init__()
        self.register_buffer("e0", torch.zeros(num_elements, dtype=torch.float64))
        self.register_buffer("scale", torch.ones((), dtype=torch.float64))
        self.register_buffer("shift", torch.zeros((), dtype=torch.float64))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "EnergyScale":
        exact = {name: value for name, value in self._buffers.items() if value is not None}
        super()._apply(fn, recurse)
        for name, value in exact.items():
            self._buffers[name] = value.to(self.get_buffer(name).device)
        return self

    def set(
        self,
        stats: HessianStatistics,
        scaling: Literal["rms_forces", "std", "none"],
        shift: Literal["mean", "none"],
    ) -> None:
        """Take over the statistics.

        Args:
            stats: Statistics of the training split; a zero spread counts as 1.
            scaling: Which of them is the scale.
            shift: Which of them is the shift.
        """
        spread = {"rms_forces": stats.forces_rms, "std": stats.energy_std, "none": 1.0}[scaling]
        self.e0.copy_(stats.e0)
        self.scale.fill_(spread or 1.0)
        self.shift.fill_(stats.energy_mean if shift == "mean" else 0.0)

    def forward(self, atoms: Tensor, species: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """Interaction and total energy of every molecule.

        Args:
            atoms: Readout of every atom, shape ``(n,)``.
            species: Index of its element, shape ``(n,)``.
            batch: Molecules with the keys ``z``, ``batch`` and ``ptr``.

        Returns:
            Both energies in eV, float64, shape ``(b,)``.

        Raises:
            ValueError: If an element was not in the training data.
        """
        energy = atoms.double() * self.scale + self.shift
        constants = self.e0[species]
        if "atoms" not in batch and bool(constants.isnan().any()):
            number = int(batch["z"][constants.isnan()][0])
            raise ValueError(
                f"element {chemical_symbols[number]} (Z = {number}) has no reference energy: the "
                "network was trained without it"
            )
        columns = torch.stack([energy, constants], dim=-1)
        sums = pad_by_molecule(columns, batch).sum(1)
        return sums[:, 0], sums.sum(1)


def centered(batch: Batch) -> Tensor:
    """Coordinates relative to the mean of each molecule, which float32 can hold well.

    Args:
        batch: Molecules with the keys ``pos``, ``batch`` and ``ptr``.

    Returns:
        Coordinates in Å, float64, shape ``(n, 3)``.
    """
    positions = batch["pos"].double()
    sums = pad_by_molecule(positions, batch).sum(1)
    means = sums / batch["ptr"].diff()[:, None]
    return positions - means.index_select(0, batch["batch"])


def without_inference(batch: Batch) -> Batch:
    """The batch with copies of tensors made in inference mode, which no graph may hold.

    Args:
        batch: Molecules.
    """
    return {key: value.clone() if value.is_inference() else value for key, value in batch.items()}
