"""What a set of molecules is like: counts, energies, forces, Hessians, vibrations.

Shapes: b molecules, n atoms, p pairs.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from ase.data import chemical_symbols
from numpy.typing import NDArray

from sciml.hip.data.batch import Batch
from sciml.hip.data.energies import CompositionFit, reference_energies
from sciml.hip.data.record import HEAVIEST, Record, formula
from sciml.hip.physics.blocks import DISTANCE_BINS, distance_bin, pair_geometry
from sciml.hip.physics.layout import diagonal_blocks, pair_blocks
from sciml.hip.physics.vibrations import negative_modes, normal_modes

FREQUENT = 10  # formulas that are listed


class Survey:
    """Running numbers over batches of molecules; memory does not grow with their count.

    Args:
        declared_e0: Reference energies the files declare in eV; fitted when None.
        modes: Count negative vibrational modes, one eigenvalue problem a molecule.
    """

    def __init__(self, declared_e0: dict[int, float] | None, modes: bool = True) -> None:
        self.declared_e0 = declared_e0
        self.modes = modes
        self.labels: Counter[str] = Counter()
        self.sizes: Counter[int] = Counter()
        self.elements: Counter[int] = Counter()
        self.formulas: Counter[str] = Counter()
        self.kinds: Counter[str] = Counter()
        self.reactions: Counter[int] = Counter()
        self.negative: Counter[int] = Counter()
        self.neighbors = self.force_squares = self.largest_force = 0.0
        self.force_components = 0
        self.hessian_mean = 0.0  # sum over molecules of the mean |entry|
        self._blocks = _BlockSums()
        self._energies = _EnergyMoments()

    def update(self, records: Sequence[Record], batch: Batch) -> None:
        """Add molecules.

        Args:
            records: The molecules.
            batch: The same, collated.
        """
        self.formulas.update(formula(record.numbers) for record in records)
        self.kinds.update(record.config_type for record in records)
        self.reactions.update(record.reaction for record in records)
        self.sizes.update((batch["ptr"][1:] - batch["ptr"][:-1]).tolist())
        self.elements.update(batch["z"].tolist())
        self.neighbors += float(batch["nbr_mask"].sum())
        for name in ("energy", "forces", "hessian"):
            self.labels[name] += int((batch[f"w_{name}"] > 0).sum())
        self._energies.update(batch)
        forces = batch["forces"][(batch["w_forces"] > 0)[batch["batch"]]]
        if len(forces):
            self.force_squares += float(forces.square().sum())
            self.force_components += forces.numel()
            self.largest_force = max(self.largest_force, float(forces.norm(dim=1).max()))
        self._add_hessians(batch)

    def result(self) -> dict[str, Any]:
        """Everything as plain values, ready for JSON; energies in eV, lengths in Å."""
        sizes = np.array(list(self.sizes.elements()))
        fit = self._energies.fit
        e0 = reference_energies("auto", self.declared_e0, fit)
        seen = sorted(self.elements)
        return {
            "records": len(sizes),
            "labels": dict(self.labels),
            "atoms": _spread(sizes),
            "elements": {chemical_symbols[z]: self.elements[z] for z in seen},
            "formulas": {
                "different": len(self.formulas),
                "most_frequent": dict(self.formulas.most_common(FREQUENT)),
            },
            "reactions": len([reaction for reaction in self.reactions if reaction >= 0]),
            "config_types": len(self.kinds),
            "neighbors_per_atom": self.neighbors / max(int(sizes.sum()), 1),
            "e0": {
                "from": "the file" if self.declared_e0 else "least squares",
                "ev": {chemical_symbols[z]: float(e0[z]) for z in seen} if fit.used else {},
                "determined": fit.rank,
            },
            "interaction_energy_per_atom": self._energies.per_atom(e0),
            "forces": {
                "rms_component": (self.force_squares / max(self.force_components, 1)) ** 0.5,
                "largest": self.largest_force,
            },
            "hessian": {
                "mean_abs": self.hessian_mean / max(self.labels["hessian"], 1),
                **self._blocks.result(),
            },
            "negative_modes": {str(count): self.negative[count] for count in sorted(self.negative)},
        }

    def _add_hessians(self, batch: Batch) -> None:
        labelled = batch["w_hessian"] > 0
        if not bool(labelled.any()):
            return
        atoms = (batch["ptr"][1:] - batch["ptr"][:-1]).double()
        means = batch["hessian"].abs().sum((1, 2)) / (9 * atoms.square())
        self.hessian_mean += float(means[labelled].sum())
        self._blocks.update(batch, labelled)
        if self.modes:
            counts = negative_modes(normal_modes(batch["hessian"], batch))
            self.negative.update(counts[labelled].tolist())


class _BlockSums:
    """Mean |entry| of blocks on the diagonal and by distance, and their antisymmetric share."""

    def __init__(self) -> None:
        bins = len(DISTANCE_BINS) + 1
        self.sums = torch.zeros(bins + 1, dtype=torch.float64)  # the last one: diagonal blocks
        self.counts = torch.zeros(bins + 1, dtype=torch.float64)
        self.antisymmetric = 0.0

    def update(self, batch: Batch, labelled: torch.Tensor) -> None:
        pairs = labelled[batch["batch"][batch["pair_i"]]]
        blocks = pair_blocks(batch["hessian"], batch)[pairs]
        place = distance_bin(pair_geometry(batch["pos"], batch)[0][pairs])
        self.sums.index_add_(0, place, blocks.abs().mean((1, 2)))
        self.counts.index_add_(0, place, torch.ones(len(place), dtype=torch.float64))
        diagonal = diagonal_blocks(batch["hessian"], batch)[labelled[batch["batch"]]]
        self.sums[-1] += diagonal.abs().mean((1, 2)).sum()
        self.counts[-1] += len(diagonal)
        self.antisymmetric += float((blocks - blocks.mT).abs().mean((1, 2)).sum()) / 2

    def result(self) -> dict[str, Any]:
        means = (self.sums / self.counts.clamp(min=1)).tolist()
        edges = [0.0, *DISTANCE_BINS]
        names = [f"{low:g}-{high:g}" for low, high in zip(edges, DISTANCE_BINS, strict=False)]
        names.append(f">{DISTANCE_BINS[-1]:g}")
        seen = self.counts > 0
        off_diagonal = float(self.sums[:-1].sum())
        return {
            "diagonal": means[-1],
            "by_distance": {
                name: mean
                for name, mean, there in zip(names, means, seen.tolist(), strict=False)
                if there
            },
            "antisymmetric_share": self.antisymmetric / off_diagonal if off_diagonal else 0.0,
        }


class _EnergyMoments:
    """Second moments of energy and composition per atom: any reference energies can follow."""

    def __init__(self) -> None:
        self.fit = CompositionFit(tuple(range(HEAVIEST + 1)))
        width = HEAVIEST + 2
        self.first: NDArray[np.float64] = np.zeros(width)
        self.second: NDArray[np.float64] = np.zeros((width, width))

    def update(self, batch: Batch) -> None:
        cells = batch["batch"] * (HEAVIEST + 1) + batch["z"]
        molecules = len(batch["ptr"]) - 1
        counts = torch.bincount(cells, minlength=molecules * (HEAVIEST + 1)).double()
        labelled = batch["w_energy"] > 0
        composition = counts.view(molecules, -1)[labelled].numpy()
        energies = batch["energy"][labelled].numpy()
        self.fit.update(composition, energies)
        rows = np.concatenate([energies[:, None], -composition], axis=1)
        rows /= composition.sum(1, keepdims=True)
        self.first += rows.sum(0)
        self.second += rows.T @ rows

    def per_atom(self, e0: NDArray[np.float64]) -> dict[str, float]:
        """Mean and standard deviation of the energy without e0, per atom."""
        if not self.fit.used:
            return {}
        direction = np.concatenate([[1.0], e0])
        mean = float(self.first @ direction) / self.fit.used
        square = float(direction @ self.second @ direction) / self.fit.used
        return {"mean": mean, "std": max(square - mean**2, 0.0) ** 0.5}


def _spread(values: NDArray[np.int64]) -> dict[str, float]:
    return {"least": int(values.min()), "mean": float(values.mean()), "most": int(values.max())}
