"""Errors of energies, forces and Hessians (b molecules, n atoms, p pairs, m most atoms).

Functions return sums and counts by metric name. Molecules without a label count nowhere; the
weights of labels do not weight a metric.
"""

import torch
from torch import Tensor

from sciml.core.metrics import Term
from sciml.hip.physics.layout import diagonal_blocks, pair_blocks
from sciml.hip.physics.rules import rule_residuals

Batch = dict[str, Tensor]

DISTANCES = (1.2, 1.6, 2.5, 3.5, 5.0)  # Å, borders between the ranges of pairs
RANGE_NAMES = tuple(
    f"hessian_mae_{name}"
    for name in ("below_1.2", "1.2_1.6", "1.6_2.5", "2.5_3.5", "3.5_5", "above_5")
)
ENERGY_NAMES = ("energy_mae", "energy_rmse", "energy_mae_atom", "energy_rmse_atom")
FORCES_NAMES = ("forces_mae", "forces_rmse", "forces_relative")
HESSIAN_NAMES = (
    "hessian_mae",
    "hessian_mae_entry",
    "hessian_rmse_entry",
    "hessian_mae_diagonal",
    "hessian_mae_offdiagonal",
    *RANGE_NAMES,
)
RULE_NAMES = ("hessian_asymmetry", "hessian_translation", "hessian_rotation")
ROOTS = ("energy_rmse", "energy_rmse_atom", "forces_rmse", "hessian_rmse_entry")


def molecule_mean(values: Tensor, kept: Tensor) -> Term:
    """Sum and count over molecules.

    Args:
        values: One number per molecule, shape ``(b,)``.
        kept: Molecules that count, booleans, shape ``(b,)``.
    """
    return torch.where(kept, values, 0).sum(), kept.sum()


def energy_terms(prediction: Batch, batch: Batch) -> dict[str, Term]:
    """``energy_mae``, ``energy_rmse`` in eV a molecule, and both per atom (``…_atom``).

    Args:
        prediction: Output of the network with ``total_energy`` in eV.
        batch: Molecules with their labels.
    """
    error = energy_errors(prediction, batch)
    per_atom = error / batch["ptr"].diff()
    kept = batch["w_energy"] > 0
    return {
        "energy_mae": molecule_mean(error.abs(), kept),
        "energy_rmse": molecule_mean(error.square(), kept),
        "energy_mae_atom": molecule_mean(per_atom.abs(), kept),
        "energy_rmse_atom": molecule_mean(per_atom.square(), kept),
    }


def forces_terms(prediction: Batch, batch: Batch) -> dict[str, Term]:
    """``forces_mae`` and ``forces_rmse`` per component in eV/Å, and ``forces_relative``.

    ``forces_relative`` is the sum of absolute errors over that of absolute labels: 1 for zero
    forces.

    Args:
        prediction: Output of the network with ``forces`` in eV/Å.
        batch: Molecules with their labels.
    """
    kept = (batch["w_forces"] > 0)[batch["batch"]]
    label = batch["forces"].double()[kept]
    error = prediction["forces"].double()[kept] - label
    count = torch.tensor(error.numel(), device=error.device)
    return {
        "forces_mae": (error.abs().sum(), count),
        "forces_rmse": (error.square().sum(), count),
        "forces_relative": (error.abs().sum(), label.abs().sum()),
    }


def hessian_terms(prediction: Batch, batch: Batch) -> dict[str, Term]:
    """Errors of the Hessian in eV/Å².

    ``hessian_mae`` averages molecules, each the mean over its 9N² entries; ``hessian_mae_entry``
    and ``hessian_rmse_entry`` average entries. ``hessian_mae_diagonal`` looks at the blocks
    ``H_ii``, ``hessian_mae_offdiagonal`` at those of pairs, ``hessian_mae_1.2_1.6`` and the like
    at pairs within a range of distances in Å.

    Args:
        prediction: Output of the network with ``hessian`` in eV/Å².
        batch: Molecules with their labels.
    """
    kept = batch["w_hessian"] > 0
    error = torch.where(kept[:, None, None], prediction["hessian"] - batch["hessian"], 0).double()
    entries = (3 * batch["ptr"].diff()).square() * kept
    absolute = error.abs()
    diagonal = diagonal_blocks(absolute, batch)
    terms = {
        "hessian_mae": molecule_mean(hessian_errors(prediction, batch), kept),
        "hessian_mae_entry": (absolute.sum(), entries.sum()),
        "hessian_rmse_entry": (error.square().sum(), entries.sum()),
        "hessian_mae_diagonal": (diagonal.sum(), 9 * kept[batch["batch"]].sum()),
    }
    return {**terms, **_pair_terms(absolute, batch, kept)}


def rule_terms(prediction: Batch, batch: Batch) -> dict[str, Term]:
    """Residuals of the predicted Hessians alone, labels or not, in eV/Å² (rotation: eV/Å).

    ``hessian_asymmetry`` is the mean ``|H − Hᵀ|``, ``hessian_translation`` and
    ``hessian_rotation`` the mean residual of the exact rules with the predicted forces.

    Args:
        prediction: Output of the network with ``hessian`` and ``forces``.
        batch: Molecules.
    """
    values = rule_errors(prediction, batch)
    every = torch.ones_like(batch["w_hessian"], dtype=torch.bool)
    return {name: molecule_mean(value, every) for name, value in values.items()}


def energy_errors(prediction: Batch, batch: Batch) -> Tensor:
    """Signed error of the energy of every molecule in eV, shape ``(b,)``."""
    return prediction["total_energy"].double() - batch["energy"].double()


def forces_errors(prediction: Batch, batch: Batch) -> Tensor:
    """Mean absolute error of the force components of every molecule in eV/Å, shape ``(b,)``."""
    error = (prediction["forces"].double() - batch["forces"].double()).abs().sum(-1)
    summed = error.new_zeros(len(batch["ptr"]) - 1).index_add(0, batch["batch"], error)
    return summed / (3 * batch["ptr"].diff())


def hessian_errors(prediction: Batch, batch: Batch) -> Tensor:
    """Mean absolute error of the Hessian entries of every molecule in eV/Å², shape ``(b,)``."""
    error = (prediction["hessian"].double() - batch["hessian"].double()).abs().sum((1, 2))
    return error / (3 * batch["ptr"].diff()).square()


def rule_errors(prediction: Batch, batch: Batch) -> dict[str, Tensor]:
    """Values behind `rule_terms` of every molecule, each of shape ``(b,)``."""
    hessian = prediction["hessian"].double()
    asymmetry = (hessian - hessian.mT).abs().sum((1, 2)) / (3 * batch["ptr"].diff()).square()
    residuals = rule_residuals(hessian, batch["pos"], prediction["forces"], batch)
    return dict(zip(RULE_NAMES, (asymmetry, residuals[:, 0], residuals[:, 1]), strict=True))


def _pair_terms(absolute: Tensor, batch: Batch, kept: Tensor) -> dict[str, Term]:
    i, j = batch["pair_i"], batch["pair_j"]
    present = kept[batch["batch"][i]].long()
    sums = pair_blocks(absolute, batch).sum((1, 2))
    distance = (batch["pos"][j] - batch["pos"][i]).norm(dim=-1)
    borders = torch.tensor(DISTANCES, dtype=distance.dtype, device=distance.device)
    slot = torch.bucketize(distance, borders, right=True)
    ranges = len(RANGE_NAMES)
    by_range = sums.new_zeros(ranges).index_add(0, slot, sums)
    counts = torch.zeros(ranges, dtype=torch.long, device=sums.device).index_add(0, slot, present)
    terms = {name: (by_range[k], 9 * counts[k]) for k, name in enumerate(RANGE_NAMES)}
    return {"hessian_mae_offdiagonal": (sums.sum(), 9 * present.sum()), **terms}
