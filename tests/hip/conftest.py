import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from hessian_files import spring_records, write_extxyz, write_groups, write_horm

from sciml.hip.data.packed import PackedWriter
from sciml.hip.data.record import Record
from sciml.hip.data.writer import Header


@pytest.fixture
def records() -> list[Record]:
    """Twelve molecules of springs, six formulas."""
    return spring_records()


@pytest.fixture
def lmdb_file(tmp_path: Path, records: list[Record]) -> Path:
    return write_horm(tmp_path / "springs.lmdb", records)


@pytest.fixture
def groups_file(tmp_path: Path, records: list[Record]) -> Path:
    return write_groups(tmp_path / "groups.h5", records)


@pytest.fixture
def packed_file(tmp_path: Path, records: list[Record]) -> Path:
    path = tmp_path / "packed.h5"
    with PackedWriter(path, Header(None, "springs")) as writer:
        for record in records:
            writer.add(record)
    return path


@pytest.fixture
def extxyz_file(tmp_path: Path, records: list[Record]) -> Path:
    return write_extxyz(tmp_path / "springs.extxyz", records)


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """What the first process tells the user."""
    with (
        caplog.at_level(logging.INFO, logger="lightning.pytorch"),
        caplog.at_level(logging.INFO, logger="lightning.fabric"),
    ):
        yield caplog
