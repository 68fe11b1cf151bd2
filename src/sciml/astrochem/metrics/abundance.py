"""All metrics of one split, fed batch by batch (b tracers, t steps, S species, E elements)."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torchmetrics import Metric

from sciml.astrochem.metrics.errors import (
    TWOFOLD,
    dex_errors,
    diverged,
    element_errors,
    finite,
    last_valid,
)
from sciml.astrochem.metrics.histogram import LogHistogram
from sciml.astrochem.physics.species import parse_species, stoichiometric_matrix

MAX_STEPS = 16_384  # 256 KiB of sums
MAJOR = 1e-12  # true abundance above which a species counts as major
PIECE = 1 << 21  # abundances handled at once: some 150 MB of temporaries
SUMS = ("dex", "bias", "square", "relative", "twofold", "major", "major_count")


class AbundanceMetrics(Metric):
    """Errors of predicted abundances, every mean over rows and species unless said otherwise.

    A row is a step of a tracer. Abundances are clipped to ``[lo, hi]`` before ratios are taken,
    element totals are not. With ``e = log10(x̂/x)`` in dex and ``r = |x̂ - x|/x``:

    - ``mae_dex``, ``rmse_dex`` of e; ``mae_dex_major`` where the true x > 1e-12; ``frac_2x`` the
      share with ``|e| ≤ log10 2``; ``worst_species_dex`` the largest mean of a species;
      ``mae_dex_<phase>`` for gas, surface, bulk, ice (those present) and ions (whatever is
      charged, electrons too).
    - ``mean_rel`` of r, ``std_rel`` and ``max_rel`` of the means of the species; ``median_rel``
      and ``p95_rel`` from a histogram of log10 r with bins of 0.01 dex.
    - ``elem_rel_mean``, ``elem_rel_max`` of ``|x̂ A / x A - 1|`` over rows and elements.
    - ``first_step_dex`` at the first step, ``last_step_dex`` at the last one of every tracer.
    - ``unstable`` the share of tracers with ``|e| > 3`` of a species with x > 1e-10 at any step;
      ``nonfinite`` the number of predictions that are NaN or infinite, which count as ``lo``.

    Only sums, counts and one maximum are kept, in float64, so batches and ranks of any size merge
    exactly.

    Args:
        species: Names in the order of the abundances.
        elements: Elements to count; those that no species holds are left out.
        lo: Abundance below which nothing is distinguished.
        hi: Abundance above which nothing is distinguished.
        max_steps: Longest history that may come.
    """

    full_state_update = False
    matrix: Tensor
    phases: Tensor
    rows: Tensor
    sums: Tensor
    steps: Tensor
    ends: Tensor
    tracers: Tensor
    nonfinite: Tensor
    elements: Tensor
    element_max: Tensor
    histogram: Tensor

    def __init__(
        self,
        species: Sequence[str],
        elements: Sequence[str],
        lo: float = 1e-20,
        hi: float = 1.0,
        max_steps: int = MAX_STEPS,
    ) -> None:
        super().__init__()
        self.lo, self.hi, self.max_steps = lo, hi, max_steps
        self.species = tuple(species)
        matrix = torch.from_numpy(stoichiometric_matrix(list(species), list(elements)))
        self.register_buffer("matrix", matrix[:, matrix.sum(0) > 0], persistent=False)
        groups = phase_masks(species, elements)
        self.phase_names = tuple(groups)
        self.register_buffer("phases", torch.stack(list(groups.values())), persistent=False)
        self.bins = LogHistogram()
        count = len(self.species)
        for name, shape in {
            "rows": (),
            "sums": (len(SUMS), count),
            "steps": (2, max_steps),  # sum of row means, rows
            "ends": (2,),  # sum of row means at the last steps, tracers
            "tracers": (2,),  # diverged, all
            "nonfinite": (),
            "elements": (2,),  # sum, count
            "histogram": (len(self.bins),),
        }.items():
            zeros = torch.zeros(shape, dtype=torch.float64)
            self.add_state(name, zeros, dist_reduce_fx="sum")
        largest = torch.zeros((), dtype=torch.float64)
        self.add_state("element_max", largest, dist_reduce_fx="max")

    @torch.no_grad()
    def update(self, predicted: Tensor, true: Tensor, valid: Tensor) -> None:
        """Add a batch.

        Args:
            predicted: Abundances per H nucleus, ``(b, t, S)``; rows alone come with t = 1.
            true: Same shape, finite.
            valid: Steps that exist, booleans ``(b, t)``.

        Raises:
            ValueError: If shapes disagree or the histories are longer than ``max_steps``.
        """
        self._check(predicted, true, valid)
        size = max(1, PIECE // max(1, true[0].numel())) if len(true) else 1
        # pieces bound the memory of the float64 temporaries; most batches are one piece
        for begin in range(0, len(true), size):
            part = slice(begin, begin + size)
            self._add(predicted[part], true[part], valid[part])

    def compute(self) -> dict[str, Tensor]:
        """Every metric by full name, float64 scalars; those without any entry are left out."""
        means = dict(zip(SUMS, self.sums / self.rows, strict=True))
        middle, high = self.bins.quantiles(self.histogram, (0.5, 0.95))
        values = {
            "mean_rel": means["relative"].mean(),
            "std_rel": means["relative"].std(correction=0),
            "max_rel": means["relative"].max(),
            "median_rel": middle,
            "p95_rel": high,
            "mae_dex": means["dex"].mean(),
            "rmse_dex": means["square"].mean().sqrt(),
            "mae_dex_major": means["major"].sum() / means["major_count"].sum(),
            "frac_2x": means["twofold"].mean(),
            "worst_species_dex": means["dex"].max(),
            "elem_rel_mean": self.elements[0] / self.elements[1],
            "elem_rel_max": self.element_max.clone(),
            **{
                f"mae_dex_{name}": means["dex"][mask].mean()
                for name, mask in zip(self.phase_names, self.phases, strict=True)
            },
            "first_step_dex": self.steps[0, 0] / self.steps[1, 0],
            "last_step_dex": self.ends[0] / self.ends[1],
            "unstable": self.tracers[0] / self.tracers[1],
            "nonfinite": self.nonfinite.clone(),
        }
        return {name: v for name, v in values.items() if not v.isnan()}

    def per_species(self) -> dict[str, Tensor]:
        """Means over rows of every species, float64 ``(S,)``.

        Returns:
            ``mae_dex``, ``bias_dex`` (mean of the signed error), ``mean_rel`` and ``frac_2x``.
            They are those of this process alone; of all after `sync`.
        """
        names = {
            "mae_dex": "dex",
            "bias_dex": "bias",
            "mean_rel": "relative",
            "frac_2x": "twofold",
        }
        means = dict(zip(SUMS, self.sums / self.rows, strict=True))
        return {name: means[column] for name, column in names.items()}

    def per_step(self) -> Tensor:
        """``mae_dex`` at every step, from the first to the last that came, float64 ``(T,)``."""
        came = self.steps[1] > 0
        length = int(came.nonzero().max()) + 1 if bool(came.any()) else 0
        return self.steps[0, :length] / self.steps[1, :length]

    def _add(self, predicted: Tensor, true: Tensor, valid: Tensor) -> None:
        clean, bad = finite(predicted, self.lo)
        signed = dex_errors(clean, true, self.lo, self.hi)
        error = signed.abs()
        relative = (10.0**signed - 1).abs()
        major = (true > MAJOR).double()
        terms = (error, signed, error.square(), relative, error <= TWOFOLD, error * major, major)
        kept = valid[..., None].double()
        self.rows += valid.sum()
        self.sums += torch.stack([(term * kept).sum((0, 1)) for term in terms])
        self.nonfinite += (bad & valid[..., None]).sum()
        self.histogram += self.bins.count(relative[valid])
        self._add_steps(error.mean(-1), valid)
        exists = valid.any(1)
        self.tracers += torch.stack([diverged(error, true, valid).sum(), exists.sum()])
        gap, there = element_errors(clean[valid], true[valid], self.matrix)
        self.elements += torch.stack([gap.sum(), there.sum()])
        if gap.numel():
            self.element_max = torch.maximum(self.element_max, gap.max())

    def _add_steps(self, error: Tensor, valid: Tensor) -> None:
        length = valid.shape[1]
        self.steps[:, :length] += torch.stack([(error * valid).sum(0), valid.sum(0)])
        exists = valid.any(1)
        last = last_valid(valid).clamp(min=0)
        ends = error.gather(1, last[:, None])[:, 0]
        self.ends += torch.stack([(ends * exists).sum(), exists.sum()])

    def _check(self, predicted: Tensor, true: Tensor, valid: Tensor) -> None:
        wanted = (*valid.shape, len(self.species))
        if predicted.shape != true.shape or true.shape != wanted or valid.dim() != 2:
            raise ValueError(
                f"abundances of shape {tuple(predicted.shape)} and {tuple(true.shape)} do not fit "
                f"steps of shape {tuple(valid.shape)} and {len(self.species)} species; give "
                "(b, t, S), (b, t, S) and (b, t)"
            )
        if valid.shape[1] > self.max_steps:
            raise ValueError(
                f"histories of {valid.shape[1]} steps do not fit max_steps {self.max_steps}; "
                "raise it, or cut the histories"
            )


def phase_masks(species: Sequence[str], elements: Sequence[str]) -> Mapping[str, Tensor]:
    """Which species belong to a phase: gas, surface, bulk, ice and ions, where there are any.

    Ions are whatever is charged, so they belong to the gas too.

    Args:
        species: Names.
        elements: Elements they are made of.

    Returns:
        Booleans ``(S,)`` by name.
    """
    parsed = [parse_species(name, tuple(elements)) for name in species]
    masks = {
        phase: torch.tensor([one.phase == phase for one in parsed])
        for phase in ("gas", "surface", "bulk", "ice")
    }
    masks["ions"] = torch.tensor([one.charge != 0 for one in parsed])
    return {name: mask for name, mask in masks.items() if bool(mask.any())}
