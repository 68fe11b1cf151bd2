"""Losses of energy, forces and Hessian (b molecules, n atoms, m atoms in the largest molecule).

Every term is a sum and a count, which the task divides over all ranks. A label of weight zero
enters neither the sum nor the count; other weights multiply the error of their molecule.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from sciml.core.graph import pad_by_graph
from sciml.core.metrics import Term
from sciml.hip.physics.layout import entry_mask
from sciml.hip.physics.vibrations import masses, normal_modes

Batch = dict[str, Tensor]
Kind = Literal["mae", "mse", "huber"]
ForcesKind = Literal["l2norm", "mae", "mse", "huber", "conditional_huber"]


@dataclass(frozen=True)
class Huber:
    """Errors that turn from quadratic to linear.

    Args:
        delta: Error at which they turn, in the unit of the quantity (per atom for energies).
        thresholds: Ascending label forces in eV/Å that separate the ranges of the conditional form.
        factors: Factor on `delta` in every range, one more than `thresholds`.
    """

    delta: float = 0.01
    thresholds: tuple[float, ...] = (100.0, 200.0, 300.0)
    factors: tuple[float, ...] = (1.0, 0.7, 0.4, 0.1)

    def __post_init__(self) -> None:
        if len(self.factors) != len(self.thresholds) + 1:
            raise ValueError(
                f"loss.huber has {len(self.thresholds)} thresholds and {len(self.factors)} "
                "factors; give one factor more than thresholds"
            )


@dataclass(frozen=True)
class EigenTerms:
    """Which eigenpairs of the true Hessian the eigen loss looks at.

    Args:
        lowest: Number of lowest eigenpairs of every term; 0 takes all.
        alpha: Weight of every term.
        mass_weighted: Take mass-weighted Hessians without rigid motions (eV/Å²/amu).
    """

    lowest: tuple[int, ...] = (8,)
    alpha: tuple[float, ...] = (1.0,)
    mass_weighted: bool = False

    def __post_init__(self) -> None:
        if len(self.lowest) != len(self.alpha):
            raise ValueError(
                f"loss.eigen_terms has {len(self.lowest)} entries in lowest and "
                f"{len(self.alpha)} in alpha; give as many of each"
            )


@dataclass(frozen=True)
class HIPLoss:
    """Weighted sum of the losses, and the form of each.

    Args:
        energy: Weight of the energy error per atom in eV.
        forces: Weight of the forces error in eV/Å.
        hessian: Weight of the Hessian error in eV/Å².
        eigen: Weight of the Hessian error in the basis of the true eigenvectors in eV/Å².
        consistency: Weight of the disagreement in eV/Å² between the Hessian head and the change
            of the forces along one random direction; needs no labels.
        energy_kind: Form of the energy loss.
        forces_kind: Form of the forces loss; ``l2norm`` is the length of an atom's error.
        hessian_kind: Form of the Hessian loss.
        hessian_reduction: ``molecule`` averages molecules of any size alike, ``entry`` all entries.
        huber: Settings of the Huber forms.
        eigen_terms: Eigenpairs of the eigen loss.
        consistency_step: Length in Å of the displacement of the consistency loss.
    """

    energy: float = 1.0
    forces: float = 5.0
    hessian: float = 5.0
    eigen: float = 0.0
    consistency: float = 0.0
    energy_kind: Kind = "mae"
    forces_kind: ForcesKind = "l2norm"
    hessian_kind: Kind = "mae"
    hessian_reduction: Literal["molecule", "entry"] = "molecule"
    huber: Huber = Huber()
    eigen_terms: EigenTerms = EigenTerms()
    consistency_step: float = 0.005

    def __post_init__(self) -> None:
        for name, weight in self.weights.items():
            if weight < 0:
                raise ValueError(f"loss.{name} is {weight}; a weight is zero or positive")
        if self.consistency_step <= 0:
            raise ValueError(f"loss.consistency_step is {self.consistency_step} Å; it is positive")

    @property
    def weights(self) -> dict[str, float]:
        """Weight of every term, by its name."""
        return {
            "energy": self.energy,
            "forces": self.forces,
            "hessian": self.hessian,
            "eigen": self.eigen,
            "consistency": self.consistency,
        }

    @property
    def needs_hessian(self) -> bool:
        """Whether a term looks at predicted Hessians."""
        return self.hessian > 0 or self.eigen > 0 or self.consistency > 0

    def terms(self, prediction: Batch, batch: Batch) -> dict[str, Term]:
        """Sum and count of every labelled term with a weight above zero.

        Args:
            prediction: Output of the network.
            batch: Molecules with their labels.

        Returns:
            Terms by name; the consistency term is separate (`consistency_loss`).
        """
        terms: dict[str, Term] = {}
        if self.energy > 0:
            terms["energy"] = energy_loss(prediction, batch, self.energy_kind, self.huber.delta)
        if self.forces > 0:
            terms["forces"] = forces_loss(prediction, batch, self.forces_kind, self.huber)
        if self.hessian > 0:
            form = (self.hessian_kind, self.hessian_reduction, self.huber.delta)
            terms["hessian"] = hessian_loss(prediction, batch, *form)
        if self.eigen > 0:
            terms["eigen"] = eigen_loss(prediction, batch, self.eigen_terms)
        return terms


def energy_loss(prediction: Batch, batch: Batch, kind: Kind, delta: float) -> Term:
    """Error of the energy per atom, summed over molecules; the difference is taken in float64.

    Args:
        prediction: Output of the network with ``total_energy`` in eV.
        batch: Molecules with ``energy`` in eV and ``w_energy``.
        kind: Form of the loss.
        delta: Turning point of the Huber form in eV per atom.
    """
    weight = batch["w_energy"]
    atoms = batch["ptr"].diff()
    error = (prediction["total_energy"].double() - batch["energy"].double()) / atoms
    return (_penalty(error, kind, delta) * weight).sum(), (weight > 0).sum()


def forces_loss(prediction: Batch, batch: Batch, kind: ForcesKind, huber: Huber) -> Term:
    """Error of the forces, summed over atoms; all forms but ``l2norm`` average components.

    Args:
        prediction: Output of the network with ``forces`` in eV/Å.
        batch: Molecules with ``forces`` in eV/Å and ``w_forces``.
        kind: Form of the loss.
        huber: Turning points of the Huber forms in eV/Å.
    """
    label = batch["forces"].to(prediction["forces"])
    error = prediction["forces"] - label
    weight = batch["w_forces"][batch["batch"]].to(error)
    if kind == "l2norm":
        per_atom = torch.linalg.vector_norm(error, dim=-1)
    elif kind == "conditional_huber":
        borders = error.new_tensor(huber.thresholds)
        size = torch.linalg.vector_norm(label, dim=-1)
        factor = error.new_tensor(huber.factors)[torch.bucketize(size, borders, right=True)]
        per_atom = _huber(error, huber.delta * factor[:, None]).mean(-1)
    else:
        per_atom = _penalty(error, kind, huber.delta).mean(-1)
    return (per_atom * weight).sum(), (weight > 0).sum()


def hessian_loss(
    prediction: Batch,
    batch: Batch,
    kind: Kind,
    reduction: Literal["molecule", "entry"],
    delta: float,
) -> Term:
    """Error of the Hessian over all 9N² entries of every labelled molecule.

    Args:
        prediction: Output of the network with ``hessian`` in eV/Å².
        batch: Molecules with ``hessian`` in eV/Å² and ``w_hessian``.
        kind: Form of the loss.
        reduction: Whether molecules or entries are counted.
        delta: Turning point of the Huber form in eV/Å².
    """
    error = prediction["hessian"] - batch["hessian"].to(prediction["hessian"])
    weight = batch["w_hessian"].to(error)
    entries = (3 * batch["ptr"].diff()).square()
    summed = _penalty(error, kind, delta).sum((1, 2))
    labelled = weight > 0
    if reduction == "entry":
        return (summed * weight).sum(), (entries * labelled).sum()
    return (summed / entries * weight).sum(), labelled.sum()


def eigen_loss(prediction: Batch, batch: Batch, settings: EigenTerms) -> Term:
    """Error of the Hessian in the basis of the lowest true eigenvectors, per molecule.

    ``mean_kl |v_kᵀ H v_l − λ_k δ_kl|`` with eigenpairs (λ, v) of the label; no gradient passes
    through the eigen-decomposition.

    Args:
        prediction: Output of the network with ``hessian`` in eV/Å².
        batch: Molecules with ``hessian`` in eV/Å² and ``w_hessian``.
        settings: Which eigenpairs.
    """
    hessian = prediction["hessian"]
    values, vectors, real = _true_eigenpairs(batch, settings.mass_weighted)
    values, vectors = values.to(hessian), vectors.to(hessian)
    error = (vectors.mT @ hessian @ vectors - torch.diag_embed(values)).abs()
    per_molecule = hessian.new_zeros(len(hessian))
    for count, alpha in zip(settings.lowest, settings.alpha, strict=True):
        kept = real & (torch.arange(real.shape[1], device=real.device) < (count or real.shape[1]))
        inside = kept[:, :, None] & kept[:, None, :]
        mean = (error * inside).sum((1, 2)) / inside.sum((1, 2)).clamp(min=1)
        per_molecule = per_molecule + alpha * mean
    weight = batch["w_hessian"].to(hessian)
    return (per_molecule * weight).sum(), (weight > 0).sum()


def consistency_loss(
    prediction: Batch, displaced_forces: Tensor, direction: Tensor, batch: Batch, step: float
) -> Term:
    """Disagreement of the Hessian head with the slope of the forces along a direction.

    ``‖H d − (F(x) − F(x + ε d))/ε‖₁ / 3N`` per molecule: it ties the head to the energy surface
    in both ways and needs no labels.

    Args:
        prediction: Output of the network at x with ``hessian`` in eV/Å² and ``forces`` in eV/Å.
        displaced_forces: Forces at ``x + ε d`` in eV/Å, shape ``(n, 3)``.
        direction: Unit direction d of every molecule, shape ``(n, 3)``.
        batch: Molecules at x.
        step: Length ε of the displacement in Å.
    """
    slope = (prediction["forces"] - displaced_forces) / step
    along = torch.stack([direction.to(slope), slope], dim=-1)
    padded = pad_by_graph(along, batch["batch"], batch["ptr"]).flatten(1, 2)
    error = (prediction["hessian"] @ padded[..., :1]).squeeze(-1) - padded[..., 1]
    per_molecule = error.abs().sum(1) / (3 * batch["ptr"].diff())
    return per_molecule.sum(), torch.tensor(len(per_molecule), device=slope.device)


def random_directions(batch: Batch) -> Tensor:
    """One direction per molecule, uniform on the unit sphere of its 3N coordinates.

    Args:
        batch: Molecules.

    Returns:
        Directions without unit, shape ``(n, 3)``.
    """
    return _unit(torch.randn_like(batch["pos"]), batch)


def fixed_directions(batch: Batch) -> Tensor:
    """One direction per molecule that looks random but depends on its atoms' order alone.

    Evaluation uses it: the loss of a molecule is the same in any batch and on any rank.

    Args:
        batch: Molecules.

    Returns:
        Directions without unit, shape ``(n, 3)``.
    """
    local = torch.arange(len(batch["batch"]), device=batch["ptr"].device)
    local = local - batch["ptr"][batch["batch"]]
    axes = torch.arange(3, device=local.device)
    return _unit(torch.sin(1.0 + 10.0 * (3 * local[:, None] + axes).to(batch["pos"])), batch)


def _unit(direction: Tensor, batch: Batch) -> Tensor:
    squares = direction.new_zeros(len(batch["ptr"]) - 1)
    squares = squares.index_add(0, batch["batch"], direction.square().sum(-1))
    return direction / squares.sqrt()[batch["batch"], None]


def displace(batch: Batch, direction: Tensor, step: float) -> Batch:
    """The molecules moved along a direction, with the neighbours they had.

    Args:
        batch: Molecules; the step is too short for the smooth cutoff to notice old neighbours.
        direction: Direction of every atom, shape ``(n, 3)``.
        step: Factor on the direction in Å.
    """
    return {**batch, "pos": batch["pos"] + step * direction.to(batch["pos"])}


def _true_eigenpairs(batch: Batch, mass_weighted: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Eigenvalues ``(b, k)``, vectors ``(b, 3m, k)`` to probe a Hessian with, and which are real.

    Mass-weighted eigenvectors come divided by the root of the masses, so that they probe the
    Hessian itself.
    """
    if mass_weighted:
        modes = normal_modes(batch["hessian"], batch)
        scale = pad_by_graph(masses(batch["z"]).rsqrt(), batch["batch"], batch["ptr"])
        vectors = modes.vectors * scale.repeat_interleave(3, dim=1)[:, :, None]
        return modes.eigenvalues.nan_to_num(), vectors, ~modes.eigenvalues.isnan()
    label, real = batch["hessian"].double(), entry_mask(batch["ptr"])
    above = 1 + 2 * label.abs().sum(2).amax(1)  # sorts the padding behind every true eigenvalue
    padding = torch.diag_embed((~real).to(label.dtype))
    values, vectors = torch.linalg.eigh(label + above[:, None, None] * padding)
    return values * real, vectors * real[:, None, :], real


def _penalty(error: Tensor, kind: Kind, delta: float) -> Tensor:
    if kind == "mae":
        return error.abs()
    if kind == "mse":
        return error.square()
    return _huber(error, error.new_tensor(delta))


def _huber(error: Tensor, delta: Tensor) -> Tensor:
    size = error.abs()
    return torch.where(size < delta, 0.5 * size.square(), delta * (size - 0.5 * delta))
