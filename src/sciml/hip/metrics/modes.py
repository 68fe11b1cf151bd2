"""Errors of eigenvalues, normal modes and what follows from them (b molecules, k modes).

Every quantity is one number per molecule; its metric is the mean over the molecules for which the
label defines it.
"""

import torch
from torch import Tensor

from sciml.core.metrics import Term
from sciml.hip.metrics.errors import molecule_mean
from sciml.hip.physics.layout import largest_molecule
from sciml.hip.physics.vibrations import (
    Modes,
    frequencies,
    negative_modes,
    normal_modes,
    plain_eigenvalues,
    zero_point_energy,
)

Batch = dict[str, Tensor]
Values = dict[str, tuple[Tensor, Tensor]]
"""By name: one number per molecule and whether it is defined, both of shape ``(b,)``."""

CHARACTERS = ("minimum", "saddle", "higher")  # 0, 1 and more negative modes
CONFUSION_NAMES = tuple(f"confusion_{true}_as_{seen}" for true in CHARACTERS for seen in CHARACTERS)
MODE_NAMES = (
    "eigenvalue_mae",
    "modes_mae",
    "lambda1_mae",
    "lambda2_mae",
    "cos_v1",
    "cos_v2",
    "cos2_v1_plane",
    "overlap_error",
    "frequency_mae",
    "frequency_mae_400_4000",
    "zpe_mae",
    "negative_agreement",
)
CHARACTER_NAMES = ("ts_precision", "ts_recall", *CONFUSION_NAMES)

FINGERPRINT = (400.0, 4000.0)  # cm⁻¹, range of true frequencies of frequency_mae_400_4000
DEGENERATE = 0.01  # largest |λ₁ − λ₂| / |λ₁| of the label for which its two modes form a plane
MILLI = 1e3  # meV per eV


def mode_values(prediction: Batch, batch: Batch, negative: float) -> tuple[Values, Values]:
    """Errors of eigenvalues and modes, and the stationary-point characters, of every molecule.

    - ``eigenvalue_mae``: of the plain Hessian in eV/Å², mean over the 3N eigenvalues in order.
    - ``modes_mae``, ``lambda1_mae``, ``lambda2_mae``: of all, the lowest and the second lowest
      eigenvalue of the mass-weighted Hessian without rigid motions, in eV/Å²/amu.
    - ``cos_v1``, ``cos_v2``: overlap ``|v·vᵗ|`` of the two lowest modes with the true ones.
    - ``cos2_v1_plane``: ``(v₁·v₁ᵗ)² + (v₁·v₂ᵗ)²`` where the true λ₁ and λ₂ are within 1 %.
    - ``overlap_error``: ``‖|VᵀVᵗ| − I‖`` in the Frobenius norm.
    - ``frequency_mae``, ``frequency_mae_400_4000``: in cm⁻¹, over all modes and over those whose
      true frequency is in that range.
    - ``zpe_mae``: of the zero-point energy in meV.
    - ``negative_agreement``: 1 where the numbers of negative modes agree, else 0.

    A predicted Hessian that is not finite gives NaN.

    Args:
        prediction: Output of the network with ``hessian`` in eV/Å².
        batch: Molecules with their labels.
        negative: Eigenvalue in eV/Å²/amu below which a mode is negative.

    Returns:
        The errors, and ``negative_true`` and ``negative_seen``, the numbers of negative modes.
    """
    finite = prediction["hessian"].isfinite().all((1, 2))
    predicted = torch.where(finite[:, None, None], prediction["hessian"], 0).double()
    label = batch["hessian"].double()
    labelled = batch["w_hessian"] > 0
    true, seen = normal_modes(label, batch), normal_modes(predicted, batch)
    plain = plain_eigenvalues(predicted, batch["ptr"]) - plain_eigenvalues(label, batch["ptr"])
    always = torch.ones_like(labelled)
    values = {
        "eigenvalue_mae": (plain.abs().nanmean(1), always),
        **_eigenpair_values(true, seen),
        **_frequency_values(true, seen),
    }
    counts = negative_modes(true, negative), negative_modes(seen, negative)
    values["negative_agreement"] = ((counts[0] == counts[1]).double(), always)
    errors = {
        name: (torch.where(finite, value, torch.nan), defined & labelled)
        for name, (value, defined) in values.items()
    }
    negatives = {
        "negative_true": (counts[0], labelled),
        "negative_seen": (torch.where(finite, counts[1], -1), labelled),
    }
    return errors, negatives


def mode_terms(errors: Values, negatives: Values) -> dict[str, Term]:
    """Sums and counts of `mode_values`, and of the stationary-point characters.

    ``confusion_<true>_as_<predicted>`` is the share of all molecules; ``ts_precision`` the share of
    predicted first-order saddle points that are ones, ``ts_recall`` that of true ones found.

    Args:
        errors: First result of `mode_values`.
        negatives: Second result of `mode_values`.
    """
    terms = {name: molecule_mean(value, defined) for name, (value, defined) in errors.items()}
    (true, labelled), (seen, _) = negatives["negative_true"], negatives["negative_seen"]
    is_true = [_has_character(true, order) & labelled for order in range(3)]
    is_seen = [_has_character(seen, order) & labelled for order in range(3)]
    for row, of_true in zip(CHARACTERS, is_true, strict=True):
        for column, of_seen in zip(CHARACTERS, is_seen, strict=True):
            both = (of_true & of_seen).sum()
            terms[f"confusion_{row}_as_{column}"] = (both, labelled.sum())
    found = (is_true[1] & is_seen[1]).sum()
    terms["ts_precision"] = (found, is_seen[1].sum())
    terms["ts_recall"] = (found, is_true[1].sum())
    return terms


def first_molecules(batch: Batch, hessian: Tensor, count: int) -> tuple[Batch, Tensor]:
    """What the analysis of modes needs of the first molecules of a batch.

    Args:
        batch: Molecules with their labels.
        hessian: Predicted Hessians in eV/Å², shape ``(b, 3m, 3m)``.
        count: Number of molecules to keep, at least 1.

    Returns:
        The smaller batch and predicted Hessians, padded to its own largest molecule.
    """
    ptr = batch["ptr"][: count + 1]
    atoms, size = int(ptr[-1]), 3 * largest_molecule(ptr)
    part = {name: batch[name][:atoms] for name in ("z", "pos", "batch")}
    part |= {"ptr": ptr, "w_hessian": batch["w_hessian"][:count]}
    return part | {"hessian": batch["hessian"][:count, :size, :size]}, hessian[:count, :size, :size]


def _has_character(negatives: Tensor, order: int) -> Tensor:
    return negatives >= 2 if order == 2 else negatives == order


def _eigenpair_values(true: Modes, seen: Modes) -> Values:
    error = (seen.eigenvalues - true.eigenvalues).abs()
    overlap = (seen.vectors.mT @ true.vectors).abs()
    present = ~true.eigenvalues.isnan()
    some = true.counts > 0
    values: Values = {
        "modes_mae": (_mean_over(error, present), some),
        "overlap_error": ((overlap - torch.diag_embed(present.double())).norm(dim=(1, 2)), some),
    }
    for mode in range(2):
        defined = true.counts > mode
        values[f"lambda{mode + 1}_mae"] = (_entry(error, mode), defined)
        values[f"cos_v{mode + 1}"] = (_entry(overlap.diagonal(dim1=1, dim2=2), mode), defined)
    first, second = _entry(true.eigenvalues, 0), _entry(true.eigenvalues, 1)
    close = (second - first).abs() < DEGENERATE * first.abs()
    plane = overlap[:, :1, :2].square().sum((1, 2))
    values["cos2_v1_plane"] = (plane, close & (true.counts > 1))
    return values


def _frequency_values(true: Modes, seen: Modes) -> Values:
    label = frequencies(true)
    error = (frequencies(seen) - label).abs()
    present = ~label.isnan()
    inside = present & (label >= FINGERPRINT[0]) & (label <= FINGERPRINT[1])
    zpe = MILLI * (zero_point_energy(seen) - zero_point_energy(true)).abs()
    return {
        "frequency_mae": (_mean_over(error, present), present.any(1)),
        "frequency_mae_400_4000": (_mean_over(error, inside), inside.any(1)),
        "zpe_mae": (zpe, present.any(1)),
    }


def _mean_over(values: Tensor, kept: Tensor) -> Tensor:
    return torch.where(kept, values, 0).sum(1) / kept.sum(1).clamp(min=1)


def _entry(values: Tensor, mode: int) -> Tensor:
    """Value of one mode, NaN where no molecule of the batch has that many."""
    if values.shape[1] > mode:
        return values[:, mode]
    return values.new_full((len(values),), torch.nan)
