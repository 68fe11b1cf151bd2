"""Files and folders that are there as a whole or not at all."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def refuse_existing(out: Path) -> None:
    """Stop before something that a user made would be overwritten.

    Args:
        out: Where something is to be made.

    Raises:
        ValueError: If there is something.
    """
    if out.exists():
        raise ValueError(f"{out} exists; give another --out or remove it")


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file atomically.

    Args:
        path: Final place; its folder is made.
        content: Plain values.
    """
    write_text(path, json.dumps(content, indent=2) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a file beside its place and rename it.

    Args:
        path: Final place; its folder is made.
        text: Content.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)


@contextmanager
def whole_folder(out: Path) -> Iterator[Path]:
    """A folder beside its place that gets its name once everything is in it.

    Args:
        out: Final place.

    Yields:
        The folder to fill; it is removed if the block fails.
    """
    part = out.with_name(f".{out.name}.{os.getpid()}.part")
    part.mkdir(parents=True)
    try:
        yield part
        part.rename(out)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def part_of(path: Path) -> Path:
    """Where a file is written until it is complete.

    Args:
        path: Final place.
    """
    return path.with_name(f"{path.name}.part")


def complete(path: Path) -> None:
    """Give a written part its final name, after the disk has it, so that no cut power empties it.

    Args:
        path: Final place; its `part_of` is there.

    Raises:
        OSError: If the disk refuses; the part stays.
    """
    part = part_of(path)
    _sync(part)
    part.replace(path)
    _sync(path.parent)


def _sync(path: Path) -> None:
    if path.is_dir() and os.name == "nt":  # which cannot open a folder
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
