"""Ends of validations and tests: metrics logged, shown, drawn and written; losses logged."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.trainer.states import TrainerFn
from matplotlib.figure import Figure
from rich.table import Table
from torch import Tensor

from sciml.core.files import write_json
from sciml.core.metrics import Term, global_mean, weighted_sum
from sciml.core.provenance import peak_memory_mib
from sciml.core.report import log_figure, metric_table, show


class Evaluation(LightningModule):
    """What every task does with its losses and metrics; the base of `sciml.core.task.Task`.

    Args:
        figure_every_n_epochs: Epochs between two drawings of the validation figures.
    """

    def __init__(self, figure_every_n_epochs: int) -> None:
        super().__init__()
        self.figure_every_n_epochs = figure_every_n_epochs
        self._values: dict[str, float] = {}  # of the last validation or test
        self._measured_at = self._shown_at = -1  # optimizer steps

    # what a concrete task may fill in

    def forget(self, split: str) -> None:
        """Reset what is measured of ``val`` or ``test``; called before its first batch."""

    def measured(self, split: str) -> dict[str, Tensor]:
        """Metrics of ``val`` or ``test`` after its last batch, equal on all ranks, by full name.

        They are logged, shown and written for the task. By default there are none, and a task
        logs by itself.
        """
        return {}

    def in_progress_bar(self, split: str) -> set[str]:
        """Names of the metrics that the progress bar shows."""
        return set()

    def table(self, title: str, values: Mapping[str, float], split: str) -> Table:
        """The metrics as a table, with baselines beside them where there are some.

        Args:
            title: Its heading.
            values: What `measured` returned, as numbers.
            split: ``val`` or ``test``.
        """
        return metric_table(title, [""], {name: [f"{v:.4g}"] for name, v in values.items()})

    def figures(self, split: str) -> dict[str, Figure]:
        """Figures of ``val`` or ``test`` by name; asked on the first rank only."""
        return {}

    def write_test(self, folder: Path) -> dict[str, Any]:
        """Write further tables of a test; every rank calls it, the first one writes.

        Args:
            folder: Made if anything is written to it.

        Returns:
            Entries of ``summary.json`` besides the metrics.
        """
        return {}

    # losses

    def log_loss(
        self, terms: Mapping[str, Term], weights: Mapping[str, float], size: int
    ) -> Tensor:
        """Log ``train/loss`` and ``train/loss_<term>``, and return the loss.

        Args:
            terms: Sum and count of every term on this rank; the means are over all ranks.
            weights: Weight of every term.
            size: Samples of the batch.
        """
        sums = torch.stack([total.double() for total, _ in terms.values()])
        counts = torch.stack([count.double() for _, count in terms.values()])
        means = dict(zip(terms, global_mean(sums, counts).unbind(), strict=True))
        loss = weighted_sum(means, weights)
        logged = {"train/loss": loss} | {f"train/loss_{k}": v for k, v in means.items()}
        many = self.trainer.world_size > 1
        values = {name: value.detach() for name, value in logged.items()}
        self.log_dict(values, batch_size=size, sync_dist=many)
        return loss

    # ends of validations and tests

    def on_validation_epoch_start(self) -> None:
        self.forget("val")

    def on_test_epoch_start(self) -> None:
        self.forget("test")

    def on_validation_epoch_end(self) -> None:
        first = not self._values
        values = self._log_measured("val")
        if self.trainer.sanity_checking:
            return
        self._values = values
        if first or self.trainer.state.fn != TrainerFn.FITTING:
            self._show("val")
        if self.draws_figures():
            self._log_figures("val")

    def on_fit_end(self) -> None:
        if self._shown_at < self._measured_at:
            self._show("val")

    def on_test_epoch_end(self) -> None:
        self._values = self._log_measured("test")
        folder = Path(self.trainer.log_dir or self.trainer.default_root_dir) / "test"
        if self._values and not self.trainer.fast_dev_run:  # type: ignore[attr-defined]
            more = self.write_test(folder)
            if self.trainer.is_global_zero:
                summary = {"peak_memory_mib": peak_memory_mib(), "metrics": self._values}
                write_json(folder / "summary.json", more | summary)
        self._show("test")
        self._log_figures("test")

    def _log_measured(self, split: str) -> dict[str, float]:
        self._measured_at = self.trainer.global_step
        values = self.measured(split)
        # equal on all ranks already; averaging them again only tells Lightning so
        many = self.trainer.world_size > 1
        shown = self.in_progress_bar(split)
        for name, value in values.items():
            self.log(name, value, prog_bar=name in shown, sync_dist=many, batch_size=1)
        return {name: float(value) for name, value in values.items()}

    def _show(self, split: str) -> None:
        self._shown_at = self._measured_at
        if not self._values:
            return
        fitting = self.trainer.state.fn == TrainerFn.FITTING
        title = f"{split} after {self._measured_at} steps" if fitting else split
        show(self.table(title, self._values, split))

    # figures

    def _log_figures(self, split: str) -> None:
        if self.trainer.is_global_zero and self.trainer.loggers:
            for name, figure in self.figures(split).items():
                self.log_figure(f"{split}/{name}", figure)

    def draws_figures(self) -> bool:
        """Whether figures are due: at the first validation of every so many epochs."""
        every, between = self.figure_every_n_epochs, self.trainer.check_val_every_n_epoch or 1
        if self.trainer.sanity_checking or not every:
            return False
        return self.current_epoch % every < between

    def log_figure(self, name: str, figure: Figure) -> None:
        """Send a figure to every logger of the run and close it.

        Args:
            name: Key, such as ``val/forces``.
            figure: Matplotlib figure.
        """
        log_figure(self.trainer.loggers, name, figure, step=self.global_step)
