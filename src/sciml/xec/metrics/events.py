"""Numbers of every event, kept until the end of an evaluation."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torchmetrics import Metric


class EventTable(Metric):
    """Columns of numbers, a row for every event of every rank.

    Percentiles of parts cannot be averaged to that of all, so the rows are kept: some 100 bytes an
    event.

    Args:
        names: Columns.
    """

    full_state_update = False
    rows: list[Tensor]

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__()
        self.names = tuple(names)
        self.add_state("rows", [], dist_reduce_fx="cat")

    def update(self, columns: Mapping[str, Tensor]) -> None:
        """Add the events of a batch.

        Args:
            columns: One number for each event by name, ``(b,)``; columns that are left out are
                not a number.
        """
        size = len(next(iter(columns.values())))
        empty = torch.full((size,), torch.nan, dtype=torch.float64, device=self.device)
        parts = [
            columns[name].detach().double() if name in columns else empty for name in self.names
        ]
        self.rows.append(torch.stack(parts, 1))

    def compute(self) -> Tensor:
        """All rows, float64 ``(n, columns)``, in the order of the ranks."""
        return self.rows if isinstance(self.rows, Tensor) else torch.cat(self.rows)

    def columns(self) -> dict[str, Tensor]:
        """All columns by name, float64 ``(n,)``."""
        rows: Tensor = self.compute().reshape(-1, len(self.names))  # one number comes as a scalar
        return dict(zip(self.names, rows.unbind(1), strict=True))
