"""Formats a table of events can be written in: ROOT, CSV, Parquet.

Shapes: b events.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sciml.core.extras import need

Types = Mapping[str, np.dtype[Any]]
COMPRESSION = 3  # level of Zstandard: beyond it files shrink little and take long


class Sink(ABC):
    """A file that takes columns, some rows at a time.

    Args:
        path: The file; one that is there is replaced.
        tree: Name of the table, where the format has one.
    """

    def __init__(self, path: Path, tree: str) -> None:
        self.path = path
        self.tree = tree

    @abstractmethod
    def open(self) -> None:
        """Make the file."""

    @abstractmethod
    def begin(self, types: Types) -> None:
        """Make the table.

        Args:
            types: Of its columns.
        """

    @abstractmethod
    def append(self, columns: Mapping[str, NDArray[Any]]) -> None:
        """Write rows.

        Args:
            columns: Arrays ``(b,)``.
        """

    @abstractmethod
    def describe(self, tree: str, values: Mapping[str, float | int | str]) -> None:
        """Attach settings.

        Args:
            tree: What they are called together.
            values: Numbers and text.
        """

    @abstractmethod
    def close(self) -> None:
        """Complete the file; also when nothing was written."""


class RootSink(Sink):
    """A tree; text of other trees is bytes of fixed length."""

    def open(self) -> None:
        uproot = need("uproot", extra="xec")
        self._file = uproot.recreate(self.path, compression=uproot.ZSTD(COMPRESSION))

    def begin(self, types: Types) -> None:
        self._tree = self._file.mktree(self.tree, dict(types))

    def append(self, columns: Mapping[str, NDArray[Any]]) -> None:
        self._tree.extend(dict(columns))

    def describe(self, tree: str, values: Mapping[str, float | int | str]) -> None:
        arrays = {name: _entry(value) for name, value in values.items()}
        types = {name: np.dtype((one.dtype, one.shape[1:])) for name, one in arrays.items()}
        self._file.mktree(tree, types).extend(arrays)

    def close(self) -> None:
        self._file.close()


class _ArrowSink(Sink):
    """What both formats of pyarrow have in common."""

    def open(self) -> None:
        self._arrow = need("pyarrow", extra="xec")
        self._file = self.path.open("wb")
        self._writer: Any = None

    def append(self, columns: Mapping[str, NDArray[Any]]) -> None:
        self._writer.write_table(self._arrow.table(dict(columns)))

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
        self._file.close()

    def _schema(self, types: Types) -> Any:
        return self._arrow.schema(
            [(name, self._arrow.from_numpy_dtype(kind)) for name, kind in types.items()]
        )


class CsvSink(_ArrowSink):
    """Text with a line of names; numbers have the digits that tell them apart, nan is missing."""

    def begin(self, types: Types) -> None:
        csv = need("pyarrow.csv", extra="xec")
        options = csv.WriteOptions(quoting_header="none")
        self._writer = csv.CSVWriter(self._file, self._schema(types), write_options=options)

    def describe(self, tree: str, values: Mapping[str, float | int | str]) -> None:
        raise ValueError(f"a csv file has no place for {tree}; write ROOT or parquet")


class ParquetSink(_ArrowSink):
    """Columns in groups of rows; settings are metadata of the file."""

    def begin(self, types: Types) -> None:
        parquet = need("pyarrow.parquet", extra="xec")
        self._writer = parquet.ParquetWriter(self._file, self._schema(types), compression="zstd")

    def describe(self, tree: str, values: Mapping[str, float | int | str]) -> None:
        if self._writer is None:
            raise ValueError(f"write rows before {tree}, or name the columns at the beginning")
        self._writer.add_key_value_metadata({f"{tree}.{k}": str(v) for k, v in values.items()})


def _entry(value: float | int | str) -> NDArray[Any]:
    """A value as the one entry of a branch."""
    if isinstance(value, str):
        return np.frombuffer(value.encode() or b"\0", dtype=np.int8)[None]
    return np.asarray([value])
