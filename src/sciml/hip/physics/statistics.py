"""Numbers a training set lends to a network (s elements)."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor


@dataclass
class HessianStatistics:
    """What a training split says before any training; the tensors are float64 on the CPU.

    Args:
        elements: Atomic numbers, ascending; the order of every axis s.
        e0: Energy of each element in eV that is taken off before the network, shape ``(s,)``.
        e0_fit: Least-squares energy of each element in eV over the training compositions, shape
            ``(s,)``; alone it is the baseline of per-element constants.
        num_neighbors: Mean number of neighbours within the cutoff.
        forces_rms: Root mean square of the force components in eV/Å.
        energy_std: Standard deviation of the interaction energy per atom in eV.
        prior: Coefficients of the pair prior in eV/Å², ``[..., 0]`` along the bond and ``[..., 1]``
            across it, shape ``(s, s, 24, 2)``, symmetric in the elements; zeros without Hessians.
        mean_blocks: Mean training block along and across the bond in eV/Å² by element pair and
            distance bin, shape ``(s, s, 7, 2)``, symmetric in the elements.
        energy_mean: Mean interaction energy per atom in eV.
        counts: Records that entered, by label: ``energy``, ``forces``, ``hessian``.
    """

    elements: tuple[int, ...]
    e0: Tensor
    e0_fit: Tensor
    num_neighbors: float
    forces_rms: float
    energy_std: float
    prior: Tensor
    mean_blocks: Tensor
    energy_mean: float = 0.0
    counts: dict[str, int] = field(default_factory=dict)

    def among(self, elements: Sequence[int]) -> "HessianStatistics":
        """The same statistics on the axes of a network that may know more elements.

        Args:
            elements: Atomic numbers of the network, ascending. One that the training data lack
                gets NaN as its energies and zeros elsewhere.

        Raises:
            ValueError: If the training data hold an element that the network does not know.
        """
        foreign = [number for number in self.elements if number not in elements]
        if foreign:
            raise ValueError(
                f"the training molecules hold the elements {list(self.elements)}, the network "
                f"knows {list(elements)}; set --model.net.elements "
                f"{sorted({*elements, *foreign})}"
            )
        place = torch.tensor([list(elements).index(number) for number in self.elements])
        size = len(elements)
        energies = torch.full((2, size), torch.nan, dtype=torch.float64)
        energies[:, place] = torch.stack([self.e0, self.e0_fit])
        prior = self.prior.new_zeros(size, size, *self.prior.shape[2:])
        blocks = self.mean_blocks.new_zeros(size, size, *self.mean_blocks.shape[2:])
        prior[place[:, None], place] = self.prior
        blocks[place[:, None], place] = self.mean_blocks
        return replace(
            self,
            elements=tuple(elements),
            e0=energies[0],
            e0_fit=energies[1],
            prior=prior,
            mean_blocks=blocks,
        )
