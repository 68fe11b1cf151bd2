"""Tables of events written as they come, under their name only when they are whole.

Shapes: b events.
"""

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sciml.core.extras import require
from sciml.core.files import complete, part_of, refuse_existing
from sciml.xec.data.sinks import CsvSink, ParquetSink, RootSink, Sink

Format = Literal["root", "csv", "parquet"]
Values = NDArray[Any] | Tensor
FLUSH = 4096  # rows that are collected for a basket or a group of rows
SINKS: dict[str, type[Sink]] = {"root": RootSink, "csv": CsvSink, "parquet": ParquetSink}
PACKAGES = {"root": "uproot", "csv": "pyarrow", "parquet": "pyarrow"}


class EventWriter:
    """Context that appends rows to the table of a new file; memory does not grow with them.

    Everything goes to ``<path>.part``; leaving the context without an exception completes that
    file, syncs it to disk and renames it, and an exception removes it.

    Args:
        path: The file to make; its folder is made.
        columns: Type of every column, such as ``{"run_id": "i4", "pred_energy": "f4"}``; by default
            what is written first tells them.
        tree: Name of the tree of a ROOT file.
        format: root, csv or parquet; by default what the suffix says.
        overwrite: Replace a file that is there.

    Raises:
        ValueError: If the file exists, or its suffix tells no format.
        MissingPackageError: If the package that writes the format is not installed.
    """

    def __init__(
        self,
        path: Path,
        columns: Mapping[str, str] | None = None,
        *,
        tree: str = "val_tree",
        format: Format | None = None,
        overwrite: bool = False,
    ) -> None:
        kind = format or path.suffix.removeprefix(".")
        if kind not in SINKS:
            raise ValueError(f"{path} ends on no known format; use .root, .csv or .parquet")
        if not overwrite:
            refuse_existing(path)
        require(PACKAGES[kind], extra="xec")
        self.path = path
        self.rows = 0
        self._part = part_of(path)
        self._sink = SINKS[kind](self._part, tree)
        self._types = {name: np.dtype(kind) for name, kind in (columns or {}).items()}
        self._held: list[dict[str, NDArray[Any]]] = []
        self._waiting = 0

    def write(self, rows: Mapping[str, Values]) -> None:
        """Append rows; a column of real numbers that is left out becomes NaN.

        Args:
            rows: Columns ``(b,)`` or ``(b, 1)`` of equal lengths.

        Raises:
            ValueError: If columns are unknown, differ in length, or do not fit their type.
        """
        arrays = {name: self._column(name, values) for name, values in rows.items()}
        lengths = {len(values) for values in arrays.values()}
        if len(lengths) != 1:
            raise ValueError(f"the columns {', '.join(arrays)} of {self.path} differ in length")
        if not self._types:
            self._types = {name: values.dtype for name, values in arrays.items()}
            self._sink.begin(self._types)
        unknown = [name for name in arrays if name not in self._types]
        if unknown:
            raise ValueError(
                f"{self.path} was begun without a column '{unknown[0]}'; "
                f"its columns are {', '.join(self._types)}"
            )
        count = lengths.pop()
        self._held.append(
            {
                name: self._fitted(name, arrays.get(name), kind, count)
                for name, kind in self._types.items()
            }
        )
        self.rows += count
        self._waiting += count
        if self._waiting >= FLUSH:
            self._flush()

    def describe(self, tree: str, values: Mapping[str, float | int | str]) -> None:
        """Attach settings: a tree of one entry, where text is an array of int8, or metadata.

        Args:
            tree: What they are called together.
            values: Numbers and text.

        Raises:
            ValueError: If the format has no place for them.
        """
        self._sink.describe(tree, values)

    def _column(self, name: str, values: Values) -> NDArray[Any]:
        if isinstance(values, Tensor):
            values = values.detach().cpu()
            values = (values.float() if values.dtype == torch.bfloat16 else values).numpy()
        array = np.asarray(values)
        if array.ndim > 2 or (array.ndim == 2 and array.shape[1] != 1) or not array.ndim:
            raise ValueError(
                f"column '{name}' of {self.path} has the shape {array.shape}; give one number a row"
            )
        if array.dtype.kind not in "fiub":
            raise ValueError(f"column '{name}' of {self.path} holds {array.dtype}; give numbers")
        # a copy: the loader may fill the memory of a batch again
        return array.reshape(-1).astype("f4" if array.dtype == np.float16 else array.dtype)

    def _fitted(
        self, name: str, values: NDArray[Any] | None, kind: np.dtype[Any], count: int
    ) -> NDArray[Any]:
        if values is None and kind.kind == "f":
            return np.full(count, np.nan, kind)
        if values is None:
            raise ValueError(f"column '{name}' of {self.path} holds {kind} and cannot be left out")
        if kind.kind in "iu":
            if values.dtype.kind not in "iub":
                raise ValueError(f"column '{name}' of {self.path} holds {kind}, not {values.dtype}")
            bounds = np.iinfo(kind)
            beyond = values[(values < bounds.min) | (values > bounds.max)]
            if len(beyond):
                raise ValueError(f"column '{name}' of {self.path} holds {kind}, not {beyond[0]}")
        return values.astype(kind, copy=False)

    def _flush(self) -> None:
        if self._held:
            names = self._held[0]
            self._sink.append({n: np.concatenate([one[n] for one in self._held]) for n in names})
        self._held, self._waiting = [], 0

    def __enter__(self) -> Self:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._sink.open()
        if self._types:
            self._sink.begin(self._types)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with ExitStack() as undo:
            undo.callback(self._part.unlink, missing_ok=True)
            with ExitStack() as closing:
                closing.callback(self._sink.close)
                if kind is None:
                    self._flush()
            if kind is None:
                complete(self.path)
                undo.pop_all()
