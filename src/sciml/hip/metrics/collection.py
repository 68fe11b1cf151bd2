"""All metrics of one split, fed batch by batch (b molecules)."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from sciml.core.metrics import Means, Term, world_size
from sciml.hip.metrics.baseline import BASELINE_NAMES, Baselines
from sciml.hip.metrics.errors import (
    ENERGY_NAMES,
    FORCES_NAMES,
    HESSIAN_NAMES,
    ROOTS,
    RULE_NAMES,
    energy_errors,
    energy_terms,
    forces_errors,
    forces_terms,
    hessian_errors,
    hessian_terms,
    rule_errors,
    rule_terms,
)
from sciml.hip.metrics.modes import (
    CHARACTER_NAMES,
    MODE_NAMES,
    Values,
    first_molecules,
    mode_terms,
    mode_values,
)
from sciml.hip.physics.constants import WAVENUMBER

Batch = dict[str, Tensor]
IMAGINARY = -0.5214709  # cm⁻¹, the wavenumber of -1e-6 eV/Å²/amu


class HIPMetrics(nn.Module):
    """Errors of energy, forces, Hessian and normal modes, beside those of the baselines.

    Names and units are those of `errors`, `modes` and `baseline`, behind ``<split>/``. Only sums
    and counts are kept, so batches and ranks of any size merge exactly.

    Args:
        split: Prefix of every name.
        mode_samples: Largest number of molecules whose modes are analysed until `reset`; null
            analyses all. Every rank takes the first ``⌈mode_samples / ranks⌉`` of its share.
        imaginary_below: Frequency in cm⁻¹ below which a mode counts as negative.
    """

    def __init__(
        self, split: str, mode_samples: int | None = None, imaginary_below: float = IMAGINARY
    ) -> None:
        super().__init__()
        self.split = split
        self.mode_samples = mode_samples
        self.negative = -((imaginary_below / WAVENUMBER) ** 2)
        self.seen = 0
        names = ENERGY_NAMES + FORCES_NAMES + HESSIAN_NAMES + RULE_NAMES
        names += MODE_NAMES + CHARACTER_NAMES + BASELINE_NAMES
        self.means = Means(names, roots=ROOTS)

    @torch.no_grad()
    def update(
        self, prediction: Batch, batch: Batch, baselines: Baselines | None = None
    ) -> dict[str, Tensor]:
        """Add a batch.

        Args:
            prediction: Output of the network; without ``hessian`` only energy and forces count.
            batch: Molecules with their labels.
            baselines: What to measure beside the network.

        Returns:
            Errors of every molecule, float64 of shape ``(b,)``, NaN where there is no label or
            where modes were not analysed.
        """
        terms: dict[str, Term] = {
            **energy_terms(prediction, batch),
            **forces_terms(prediction, batch),
        }
        rows = _label_rows(prediction, batch)
        if baselines is not None:
            terms |= baselines.terms(batch)
        if "hessian" in prediction:
            terms |= hessian_terms(prediction, batch) | rule_terms(prediction, batch)
            rows |= _hessian_rows(prediction, batch)
            analysed = self._modes(prediction["hessian"], batch)
            if analysed is not None:
                terms |= mode_terms(*analysed)
                rows |= _mode_rows(*analysed, molecules=len(batch["ptr"]) - 1)
        self.means.update(terms)
        return rows

    def compute(self) -> dict[str, Tensor]:
        """Every metric that had a label, over all ranks, float64 scalars by full name."""
        return {f"{self.split}/{name}": value for name, value in self.means.compute().items()}

    def reset(self) -> None:
        """Forget everything."""
        self.seen = 0
        self.means.reset()

    def _modes(self, hessian: Tensor, batch: Batch) -> tuple[Values, Values] | None:
        count = len(batch["ptr"]) - 1
        if self.mode_samples is not None:
            count = min(count, -(-self.mode_samples // world_size()) - self.seen)
        if count <= 0:
            return None
        part, predicted = first_molecules(batch, hessian, count)
        self.seen += int((part["w_hessian"] > 0).sum())
        return mode_values({"hessian": predicted}, part, self.negative)


def score(values: Mapping[str, Tensor], split: str) -> Tensor | None:
    """One number for choosing checkpoints: errors of Hessian and forces over their baselines.

    ``½ (hessian_mae / hessian_mae_prior + forces_mae / forces_mae_zero)``, without unit: 1 is what
    is known without a network, and neither quantity can be bought with the other. A quantity
    without labels drops out.

    Args:
        values: Metrics of the split with their baselines.
        split: Prefix of the names.

    Returns:
        The score, or None without labels of both.
    """
    pairs = (("hessian_mae", "hessian_mae_prior"), ("forces_mae", "forces_mae_zero"))
    ratios = [
        values[f"{split}/{name}"] / values[f"{split}/{baseline}"]
        for name, baseline in pairs
        if f"{split}/{name}" in values and f"{split}/{baseline}" in values
    ]
    return torch.stack(ratios).mean() if ratios else None


def _label_rows(prediction: Batch, batch: Batch) -> dict[str, Tensor]:
    return {
        "energy_error": _where(batch["w_energy"], energy_errors(prediction, batch)),
        "forces_mae": _where(batch["w_forces"], forces_errors(prediction, batch)),
    }


def _hessian_rows(prediction: Batch, batch: Batch) -> dict[str, Tensor]:
    error = _where(batch["w_hessian"], hessian_errors(prediction, batch))
    return {"hessian_mae": error, **rule_errors(prediction, batch)}


def _mode_rows(errors: Values, negatives: Values, molecules: int) -> dict[str, Tensor]:
    rows = {}
    for name, (value, defined) in (errors | negatives).items():
        rows[name] = torch.full((molecules,), torch.nan, dtype=torch.float64, device=value.device)
        rows[name][: len(value)] = torch.where(defined, value.double(), torch.nan)
    return rows


def _where(weight: Tensor, values: Tensor) -> Tensor:
    return torch.where(weight > 0, values, torch.nan)
