"""Figures in the house style, their way to the loggers, and tables on the terminal."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
from lightning.pytorch.loggers import Logger, MLFlowLogger, TensorBoardLogger, WandbLogger
from lightning.pytorch.utilities import rank_zero_only
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

STYLE = Path(__file__).with_name("report.mplstyle")


@contextmanager
def house_style() -> Iterator[None]:
    """Draw inside this block with the look that all figures of the application share."""
    with mpl.rc_context():
        plt.style.use(str(STYLE))
        yield


def log_figure(loggers: Sequence[Logger], name: str, figure: Figure, step: int) -> None:
    """Send a figure to every logger that takes one and close it.

    Args:
        loggers: The trainer's loggers.
        name: Key, such as ``val/forces``.
        figure: Matplotlib figure.
        step: Optimizer step it belongs to.
    """
    _send(loggers, name, figure, step)
    plt.close(figure)


@rank_zero_only
def _send(loggers: Sequence[Logger], name: str, figure: Figure, step: int) -> None:
    for logger in loggers:
        if isinstance(logger, TensorBoardLogger):
            logger.experiment.add_figure(name, figure, global_step=step, close=False)
        elif isinstance(logger, WandbLogger):
            logger.log_image(name, [figure], step=step)
        elif isinstance(logger, MLFlowLogger):
            file = f"{name.replace('/', '_')}_{step}.png"
            logger.experiment.log_figure(logger.run_id, figure, file)


def metric_table(
    title: str,
    columns: Sequence[str],
    rows: Mapping[str, Sequence[str]],
    *,
    head: str = "metric",
) -> Table:
    """A terminal table of metrics, one row a quantity.

    Args:
        title: Heading.
        columns: Heads after the first column, such as the model and its baselines.
        rows: Cells of every quantity.
        head: Head of the first column.
    """
    table = Table(title=title, title_justify="left")
    table.add_column(head, no_wrap=True, min_width=max(map(len, rows), default=0))
    for column in columns:
        table.add_column(column, justify="right")
    for name, cells in rows.items():
        table.add_row(name, *cells)
    return table


@rank_zero_only
def show(table: Table) -> None:
    """Print a table once, from the first process."""
    console = Console()
    if not console.is_terminal:  # a log file has no width of its own
        console = Console(width=120)
    console.print(table)
