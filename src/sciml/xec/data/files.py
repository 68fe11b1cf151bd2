"""Which files a user means: a file, a folder, a pattern, a list of them, or a file with a list."""

import glob
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

SUFFIX = ".root"


def find_files(paths: str | Path | Sequence[str | Path], flag: str) -> list[Path]:
    """The data files that are meant, each once, in the order of their names.

    A folder stands for the ``.root`` files in it, ``@list`` or a ``.txt`` file for the lines of a
    text file: names, folders or patterns, relative to the folder of that file; ``#`` begins a
    comment.

    Args:
        paths: What the user gave; ``~`` is the home folder.
        flag: Where it was given, such as ``--data.train``, for the error message.

    Raises:
        FileNotFoundError: If something named is missing, or nothing matches; names the flag.
    """
    given = [paths] if isinstance(paths, str | Path) else list(paths)
    found: dict[str, Path] = {}
    for one in given:
        for path in _expand(str(one), Path(), flag):
            found.setdefault(os.path.realpath(path), path)
    if not found:
        raise FileNotFoundError(f"no files are named; set {flag}")
    return sorted(found.values())


def _expand(word: str, folder: Path, flag: str) -> Iterator[Path]:
    if word.startswith("@"):
        yield from _listed(_place(word[1:], folder), flag)
        return
    path = _place(word, folder)
    if path.is_file():
        yield from _listed(path, flag) if path.suffix == ".txt" else [path]
    elif path.is_dir():
        inside = [file for file in path.iterdir() if file.suffix == SUFFIX and file.is_file()]
        if not inside:
            raise FileNotFoundError(f"the folder {path} has no {SUFFIX} files; see {flag}")
        yield from inside
    elif glob.has_magic(str(path)):
        matches = [Path(match) for match in glob.iglob(str(path), recursive=True)]
        matches = [match for match in matches if match.is_file()]
        if not matches:
            raise FileNotFoundError(f"no file matches {path}; see {flag}")
        yield from matches
    else:
        raise FileNotFoundError(f"{path} is missing; see {flag}")


def _listed(path: Path, flag: str) -> Iterator[Path]:
    if not path.is_file():
        raise FileNotFoundError(f"the list of files {path} is missing; see {flag}")
    lines = [line.split("#")[0].strip() for line in path.read_text(encoding="utf-8").splitlines()]
    words = [line for line in lines if line]
    if not words:
        raise FileNotFoundError(f"the list {path} names no files; see {flag}")
    for word in words:
        yield from _expand(word, path.parent, flag)


def _place(word: str, folder: Path) -> Path:
    return folder / Path(word).expanduser()
