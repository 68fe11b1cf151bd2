"""What a network learns from its training set before training: one pass over the records."""

from collections.abc import Iterator, Mapping

import numpy as np
import torch
from lightning.pytorch.utilities import rank_zero_info
from numpy.typing import NDArray

from sciml.hip.data.batch import Batch, collate
from sciml.hip.data.energies import CompositionFit, element_name, reference_energies
from sciml.hip.data.source import Source
from sciml.hip.physics.blocks import MeanBlocks, PriorFit, element_index
from sciml.hip.physics.statistics import HessianStatistics

BATCH = 32  # records that are in memory together


def measure(
    source: Source,
    indices: NDArray[np.int64],
    e0: str | Mapping[int, float],
    cutoff: float,
) -> HessianStatistics:
    """Statistics of some records, read in order and never all in memory.

    Args:
        source: Where they are.
        indices: Their numbers.
        e0: How reference energies are found; see `reference_energies`.
        cutoff: Radius of the neighbour table in Å.

    Raises:
        ValueError: If a record is bad or an element has no reference energy.
    """
    elements = tuple(sorted({z for index in indices for z in set(source.numbers(index).tolist())}))
    sums = _Sums(elements)
    prior, means = PriorFit(elements), MeanBlocks(elements)
    for batch in _batches(source, indices, cutoff):
        sums.update(batch)
        prior.update(batch)
        means.update(batch)
    fit = sums.fit()
    if fit.used > 0 and fit.rank < len(elements):
        names = ", ".join(element_name(number) for number in elements)
        rank_zero_info(
            f"the compositions of the training molecules determine {fit.rank} combinations of the "
            f"energies of {names}; of all fits the one with the smallest energies is taken"
        )
    energies = reference_energies(e0, source.declared_e0, fit)
    interaction = sums.interaction_per_atom(energies)
    return HessianStatistics(
        elements=elements,
        e0=torch.from_numpy(energies),
        e0_fit=torch.from_numpy(fit.solve()),
        num_neighbors=sums.neighbors / max(sums.atoms, 1),
        forces_rms=(sums.squares / max(sums.components, 1)) ** 0.5,
        energy_std=float(interaction.std()) if len(interaction) else 0.0,
        energy_mean=float(interaction.mean()) if len(interaction) else 0.0,
        prior=prior.solve(),
        mean_blocks=means.solve(),
        counts=dict(sums.counts),
    )


def _batches(source: Source, indices: NDArray[np.int64], cutoff: float) -> Iterator[Batch]:
    for start in range(0, len(indices), BATCH):
        records = [source[index] for index in indices[start : start + BATCH].tolist()]
        yield collate(records, cutoff)


class _Sums:
    """Running sums over batches; compositions and energies are kept, a few numbers a record."""

    def __init__(self, elements: tuple[int, ...]) -> None:
        self.elements = elements
        self.atoms = self.components = 0
        self.neighbors = self.squares = 0.0
        self.counts = {"energy": 0, "forces": 0, "hessian": 0}
        self._compositions: list[NDArray[np.float64]] = []
        self._energies: list[NDArray[np.float64]] = []

    def update(self, batch: Batch) -> None:
        molecules = len(batch["ptr"]) - 1
        self.atoms += len(batch["z"])
        self.neighbors += float(batch["nbr_mask"].sum())
        for name in self.counts:
            self.counts[name] += int((batch[f"w_{name}"] > 0).sum())
        forces = batch["forces"][batch["w_forces"][batch["batch"]] > 0]
        self.squares += float(forces.square().sum())
        self.components += forces.numel()
        composition = torch.zeros(molecules, len(self.elements), dtype=torch.float64)
        ones = torch.ones(len(batch["z"]), dtype=torch.float64)
        place = (batch["batch"], element_index(batch["z"], self.elements))
        composition.index_put_(place, ones, accumulate=True)
        labelled = batch["w_energy"] > 0
        self._compositions.append(composition[labelled].numpy())
        self._energies.append(batch["energy"][labelled].numpy())

    def fit(self) -> CompositionFit:
        """Least squares of the total energies on the compositions."""
        fit = CompositionFit(self.elements)
        for composition, energies in zip(self._compositions, self._energies, strict=True):
            fit.update(composition, energies)
        return fit

    def interaction_per_atom(self, e0: NDArray[np.float64]) -> NDArray[np.float64]:
        """Energy without the reference energies, per atom, in eV, of every labelled record."""
        composition = np.concatenate([np.zeros((0, len(self.elements))), *self._compositions])
        energies = np.concatenate([np.zeros(0), *self._energies])
        per_atom: NDArray[np.float64] = (energies - composition @ e0) / composition.sum(1)
        return per_atom
