"""The metrics of a network and of its rivals side by side (b tracers, t steps, S species)."""

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from sciml.astrochem.metrics.abundance import MAX_STEPS, AbundanceMetrics

UNITS = {  # of every metric, in the order of tables
    "mae_dex": "dex",
    "rmse_dex": "dex",
    "mae_dex_major": "dex",
    "frac_2x": "",
    "mean_rel": "",
    "std_rel": "",
    "max_rel": "",
    "median_rel": "",
    "p95_rel": "",
    "worst_species_dex": "dex",
    "mae_dex_gas": "dex",
    "mae_dex_surface": "dex",
    "mae_dex_bulk": "dex",
    "mae_dex_ice": "dex",
    "mae_dex_ions": "dex",
    "first_step_dex": "dex",
    "last_step_dex": "dex",
    "elem_rel_mean": "",
    "elem_rel_max": "",
    "unstable": "",
    "nonfinite": "",
}
COMPARED = (  # what is kept of the rivals
    *("mae_dex", "mae_dex_major", "frac_2x", "median_rel", "p95_rel", "mean_rel"),
    *("first_step_dex", "last_step_dex", "worst_species_dex", "unstable"),
    *("elem_rel_mean", "elem_rel_max"),
)


class Measures(nn.Module):
    """One `AbundanceMetrics` for every prediction of the same states.

    Args:
        species: Names in the order of the abundances.
        elements: Elements to count.
        models: Names of the predictions; that of the network itself is first. The metrics of the
            others keep what tables compare.
        max_steps: Longest history that may come.
    """

    def __init__(
        self,
        species: Sequence[str],
        elements: Sequence[str],
        models: Sequence[str],
        max_steps: int = MAX_STEPS,
    ) -> None:
        super().__init__()
        self.names = tuple(models)
        self.metrics = nn.ModuleList(
            AbundanceMetrics(species, elements, max_steps=max_steps) for _ in models
        )

    def set_limits(self, lo: float, hi: float) -> None:
        """Choose the range that abundances are clipped to.

        Args:
            lo: Abundance below which nothing is distinguished.
            hi: Abundance above which nothing is distinguished.
        """
        for name in self.names:
            metrics = self.of(name)
            metrics.lo, metrics.hi = lo, hi

    def of(self, model: str) -> AbundanceMetrics:
        """The metrics of one prediction.

        Args:
            model: Its name.
        """
        found = self.metrics[self.names.index(model)]
        assert isinstance(found, AbundanceMetrics)
        return found

    def reset(self, models: Sequence[str]) -> None:
        """Forget what came.

        Args:
            models: Whose metrics.
        """
        for model in models:
            self.of(model).reset()

    def update(self, model: str, predicted: Tensor, true: Tensor, valid: Tensor) -> None:
        """Add a batch.

        Args:
            model: Whose prediction it is.
            predicted: Abundances per H nucleus, ``(b, t, S)``.
            true: Same shape.
            valid: Steps that exist, booleans ``(b, t)``.
        """
        self.of(model).update(predicted, true, valid)

    def per_species(self, model: str) -> dict[str, Tensor]:
        """`AbundanceMetrics.per_species` over all ranks; every rank has to ask.

        Args:
            model: Name of the prediction.
        """
        metrics = self.of(model)
        with metrics.sync_context():
            return metrics.per_species()

    def per_step(self, model: str) -> Tensor:
        """`AbundanceMetrics.per_step` over all ranks; every rank has to ask.

        Args:
            model: Name of the prediction.
        """
        metrics = self.of(model)
        with metrics.sync_context():
            return metrics.per_step()

    def compute(self, split: str, prefixes: Mapping[str, str]) -> dict[str, Tensor]:
        """Metrics by full name, ``<split>/<prefix><metric>``.

        Args:
            split: ``val`` or ``test``.
            prefixes: What stands before the metrics of every model to ask.
        """
        values = {}
        for model, prefix in prefixes.items():
            for name, value in self.of(model).compute().items():
                if model == self.names[0] or name in COMPARED:
                    values[f"{split}/{prefix}{name}"] = value
        return values


def by_model(
    values: Mapping[str, float], split: str, prefixes: Mapping[str, str]
) -> dict[str, dict[str, float]]:
    """Metrics of every model without split and prefix.

    Args:
        values: Numbers by full name.
        split: ``val`` or ``test``.
        prefixes: What stands before the metrics of every model, by its name.
    """
    return {
        model: {name: values[key] for name in UNITS if (key := f"{split}/{prefix}{name}") in values}
        for model, prefix in prefixes.items()
    }
