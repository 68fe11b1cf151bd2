"""Numbers a training set lends to a network (s elements)."""

from dataclasses import dataclass, field

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
