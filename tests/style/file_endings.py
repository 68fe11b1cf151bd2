"""Text files end with one newline, and no line ends with blanks; given files are checked."""

import sys
from collections.abc import Iterable
from pathlib import Path


def complaints(paths: Iterable[Path]) -> list[str]:
    """What is wrong, one line a fault; files that are not UTF-8 text are passed over."""
    found = []
    for path in paths:
        try:
            text = path.read_bytes().decode()
        except UnicodeDecodeError:
            continue
        if "\0" in text or not text:
            continue
        if path.suffix == ".csv":  # whose lines may end either way, RFC 4180
            text = text.replace("\r\n", "\n")
        for number, line in enumerate(text.split("\n"), start=1):
            if line != line.rstrip():
                found.append(f"{path}:{number}: blanks at the end of the line")
        if not text.endswith("\n"):
            found.append(f"{path}: no newline at the end")
        if text.endswith("\n\n"):
            found.append(f"{path}: empty lines at the end")
    return found


if __name__ == "__main__":
    sys.exit("\n".join(complaints(map(Path, sys.argv[1:]))) or 0)
