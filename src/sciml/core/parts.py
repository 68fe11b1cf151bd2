"""What a generator keeps while its file is not complete, and what it says about failures."""

import json
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from sciml.core.parallel import FAILURES, FanOut

if sys.platform != "win32":
    import fcntl

LOCK = "lock"
SETTINGS = "settings.json"
DIGEST = "_sha256"  # end of the names of settings that are checksums


def parts_of(out: Path) -> Path:
    """Folder of the finished parts of a file that is being made."""
    return out.with_name(f"{out.name}.parts")


def failures_of(out: Path) -> Path:
    """File that names what is missing in another file."""
    return out.with_name(f"{out.name}.{FAILURES}")


@contextmanager
def claim(out: Path, now: Mapping[str, Any]) -> Iterator[Path]:
    """Make the folder of the parts, or check that it belongs to the same settings.

    No other run can claim it before the context ends.

    Args:
        out: The file that is to be made.
        now: Settings as plain values. One named ``x_sha256`` is reported as "other x".

    Yields:
        The folder.

    Raises:
        ValueError: If a run with other settings was left unfinished, or another run goes on.
    """
    parts = parts_of(out)
    parts.mkdir(parents=True, exist_ok=True)
    with (parts / LOCK).open("a") as file:
        _lock(file, out)
        _check_settings(out, parts, now)
        yield parts


def _lock(file: IO[str], out: Path) -> None:
    """Lock a file until it is closed, be it by the end of the process."""
    if sys.platform == "win32":
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise ValueError(
            f"another run is making {out}; wait for its end, or give another --out"
        ) from None
    except OSError:  # some file systems of clusters have no locks
        return


def _check_settings(out: Path, parts: Path, now: Mapping[str, Any]) -> None:
    path = parts / SETTINGS
    if not path.exists():
        draft = path.with_name(f"{SETTINGS}.part")
        draft.write_text(json.dumps(now, indent=1), encoding="utf-8")
        draft.replace(path)
        return
    before = json.loads(path.read_text(encoding="utf-8"))
    differing = [name for name in now if before.get(name) != now[name]]
    if differing:
        name = differing[0]
        what = (
            f"other {name.removesuffix(DIGEST)}"
            if name.endswith(DIGEST)
            else f"{name} {before.get(name)} instead of {now[name]}"
        )
        raise ValueError(
            f"{out} was begun with {what}; repeat those settings, give another --out,"
            f" or remove {parts}"
        )


def keep_failures(out: Path, result: FanOut, names: Mapping[str, Any], noun: str) -> None:
    """Put the failures beside the file; stop when nothing else is left.

    Args:
        out: The file that is to be made.
        result: How the tasks ended.
        names: Name of what each key stands for.
        noun: What the tasks are about, one word in the singular.

    Raises:
        ValueError: If every task failed.
    """
    path = failures_of(out)
    path.unlink(missing_ok=True)
    lines = [
        json.dumps({"key": key, noun: names[key], "reason": reason})
        for key, reason in result.failures.items()
    ]
    if lines:
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    if not result.paths:
        shutil.rmtree(parts_of(out))
        reason = next(iter(result.failures.values()))
        raise ValueError(f"every {noun} failed, the first with '{reason}'; see {path}")
