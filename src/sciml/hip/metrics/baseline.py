"""What is known without training, measured on the same molecules as the network."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sciml.core.metrics import Term
from sciml.hip.metrics.errors import energy_terms, forces_terms, hessian_errors, molecule_mean
from sciml.hip.physics.blocks import (
    DISTANCE_BINS,
    PRIOR_FUNCTIONS,
    element_index,
    mean_block_hessian,
    prior_hessian,
)
from sciml.hip.physics.statistics import HessianStatistics

Batch = dict[str, Tensor]

BASELINE_NAMES = (
    "energy_mae_constants",
    "energy_mae_atom_constants",
    "forces_mae_zero",
    "hessian_mae_zero",
    "hessian_mae_blocks",
    "hessian_mae_prior",
)


class Baselines(nn.Module):
    """Predictions without a network, kept as buffers so that they travel in the checkpoint.

    Args:
        elements: Atomic numbers, ascending.
    """

    constants: Tensor
    prior: Tensor
    mean_blocks: Tensor

    def __init__(self, elements: Sequence[int]) -> None:
        super().__init__()
        self.elements = tuple(elements)
        one = torch.zeros(len(self.elements), dtype=torch.float64)
        pairs = torch.zeros(len(one), len(one), dtype=torch.float64)
        self.register_buffer("constants", one)
        self.register_buffer("prior", pairs.new_zeros(*pairs.shape, PRIOR_FUNCTIONS, 2))
        bins = len(DISTANCE_BINS) + 1
        self.register_buffer("mean_blocks", pairs.new_zeros(*pairs.shape, bins, 2))

    def set_statistics(self, statistics: HessianStatistics) -> None:
        """Take over the training split's constants, mean blocks and pair prior.

        Args:
            statistics: Of the same elements.
        """
        self.constants.copy_(statistics.e0_fit)
        self.prior.copy_(statistics.prior)
        self.mean_blocks.copy_(statistics.mean_blocks)

    def terms(self, batch: Batch) -> dict[str, Term]:
        """Sum and count of the baselines' errors.

        ``energy_mae_constants`` (eV) and ``energy_mae_atom_constants`` (eV per atom) use one
        energy per element, ``forces_mae_zero`` (eV/Å) and ``hessian_mae_zero`` (eV/Å²) predict
        zero, ``hessian_mae_blocks`` the mean training blocks and ``hessian_mae_prior`` the pair
        prior.

        Args:
            batch: Molecules with their labels.
        """
        energy = energy_terms({"total_energy": self._composition_energy(batch)}, batch)
        forces = forces_terms({"forces": torch.zeros_like(batch["forces"])}, batch)
        hessians = {
            "zero": torch.zeros_like(batch["hessian"]),
            "blocks": mean_block_hessian(batch, self.elements, self.mean_blocks),
            "prior": prior_hessian(batch, self.elements, self.prior),
        }
        labelled = batch["w_hessian"] > 0
        return {
            "energy_mae_constants": energy["energy_mae"],
            "energy_mae_atom_constants": energy["energy_mae_atom"],
            "forces_mae_zero": forces["forces_mae"],
            **{
                f"hessian_mae_{name}": molecule_mean(
                    hessian_errors({"hessian": hessian}, batch), labelled
                )
                for name, hessian in hessians.items()
            },
        }

    def _composition_energy(self, batch: Batch) -> Tensor:
        of_atom = self.constants[element_index(batch["z"], self.elements)]
        return of_atom.new_zeros(len(batch["ptr"]) - 1).index_add(0, batch["batch"], of_atom)
