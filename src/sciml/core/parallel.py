"""Many independent tasks, each with a file as its result, on one or several processes."""

import hashlib
import json
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import FrameType
from typing import Literal

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from sciml.core.workers import Item, Outcome, Task, Work, run_in_processes, run_serially

Backend = Literal["serial", "processes"]
FAILURES = "failures.jsonl"
_KEY = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*")
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


@dataclass(frozen=True, slots=True)
class Tally:
    """How far a fan-out is, given to the progress callback after every task.

    Args:
        total: Tasks in all.
        skipped: Tasks that an earlier run had finished.
        finished: Tasks finished now.
        failed: Tasks that failed now.
    """

    total: int
    skipped: int
    finished: int = 0
    failed: int = 0


@dataclass(slots=True)
class FanOut:
    """Outcome of a fan-out.

    Args:
        paths: Result file of every key that is finished, in the order of the items.
        skipped: How many of them an earlier run had finished.
        failures: Reason of every key that failed, in the order of the items.
    """

    paths: dict[str, Path]
    skipped: int = 0
    failures: dict[str, str] = field(default_factory=dict)


def fan_out(
    work: Work[Item],
    items: Mapping[str, Item],
    folder: Path,
    *,
    backend: Backend = "processes",
    workers: int | None = None,
    seed: int = 0,
    progress: Callable[[Tally], None] | None = None,
) -> FanOut:
    """Run one task for every item; each leaves the file ``folder/<key>``.

    A task gets its item, the path ``<key>.part`` to write to, and a seed made of the run's seed
    and its key, so that neither the order nor the number of workers changes a result. The part
    is renamed once the task returns: whatever ends a run, a file without ``.part`` is complete,
    and the next run skips it. A task that raises, or whose process dies, is a failure of its key
    alone: the reason goes to ``failures.jsonl`` in the folder, and the next run tries it again.
    Every task runs with one thread; in this process, libraries that were loaded before and are
    not torch keep theirs.

    Args:
        work: Function of a module (processes import it by name); called with item, part, seed.
        items: What the tasks work on, by key. A key is part of a file name.
        folder: Where the results are kept; made when missing.
        backend: ``serial`` runs in this process; ``processes`` starts workers by spawn, so a script
            that calls this needs the usual ``if __name__ == "__main__":``.
        workers: Processes; by default one for every core this process may use.
        seed: Seed of the run.
        progress: Called at the start and after every task.

    Returns:
        The result files, and the failures with their reasons.

    Raises:
        ValueError: If a key cannot be a file name, or `workers` is below 1.
    """
    check_workers(workers)
    _check_keys(items)
    folder.mkdir(parents=True, exist_ok=True)
    paths = {key: folder / key for key in items}
    tasks = [
        Task(key, item, paths[key], derive_seed(seed, key))
        for key, item in items.items()
        if not paths[key].exists()
    ]
    tally = Tally(len(items), skipped=len(items) - len(tasks))
    with _one_thread(), _terminable():
        if backend == "serial":
            outcomes = run_serially(work, tasks)
        else:
            outcomes = run_in_processes(work, tasks, min(workers or available_cores(), len(tasks)))
        with closing(outcomes):
            failures = _collect(outcomes, tally, folder / FAILURES, progress)
    finished = {key: path for key, path in paths.items() if key not in failures}
    ordered = {key: failures[key] for key in items if key in failures}
    return FanOut(finished, tally.skipped, ordered)


def derive_seed(seed: int, key: str) -> int:
    """Seed of a task, a whole number below 2⁶³ made of the run's seed and the key."""
    digest = hashlib.sha256(f"{seed}:{key}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def available_cores() -> int:
    """Cores that this process may use."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def check_workers(workers: int | None) -> None:
    """Check a number of processes, where nothing has been written yet.

    Raises:
        ValueError: If it is below 1.
    """
    if workers is not None and workers < 1:
        raise ValueError(f"workers is {workers}; give at least 1")


@contextmanager
def progress_bar(title: str) -> Generator[Callable[[Tally], None]]:
    """Progress bar on the terminal's error stream with tasks done, failures and time left.

    Shows nothing when the stream is not a terminal.

    Args:
        title: What is counted.

    Yields:
        Callback for `fan_out`.
    """
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[failed]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(elapsed_when_finished=False),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        line = bar.add_task(title, total=None, failed="")

        def show(tally: Tally) -> None:
            done = tally.finished + tally.failed
            failed = f"[red]{tally.failed} failed[/red]" if tally.failed else ""
            bar.update(line, total=tally.total - tally.skipped, completed=done, failed=failed)

        yield show


@contextmanager
def _one_thread() -> Generator[None]:
    """One thread a task, in this process and in those it starts."""
    before = {name: os.environ.get(name) for name in _THREADS}
    os.environ.update(dict.fromkeys(_THREADS, "1"))
    torch = sys.modules.get("torch")
    threads = torch.get_num_threads() if torch else 1
    if torch:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
        if torch:
            torch.set_num_threads(threads)


@contextmanager
def _terminable() -> Generator[None]:
    """Let SIGTERM unwind the stack as Ctrl-C does, so that the workers are stopped."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def leave(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _collect(
    outcomes: Iterable[Outcome],
    tally: Tally,
    path: Path,
    progress: Callable[[Tally], None] | None,
) -> dict[str, str]:
    """Reasons of the failures, also appended to a file as they come."""
    failures: dict[str, str] = {}
    path.unlink(missing_ok=True)
    if progress:
        progress(tally)
    for outcome in outcomes:
        if outcome.reason is None:
            tally = replace(tally, finished=tally.finished + 1)
        else:
            failures[outcome.key] = outcome.reason
            tally = replace(tally, failed=len(failures))
            with path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"key": outcome.key, "reason": outcome.reason}) + "\n")
        if progress:
            progress(tally)
    return failures


def _check_keys(items: Mapping[str, Item]) -> None:
    for key in items:
        if not _KEY.fullmatch(key) or key.endswith(".part") or key == FAILURES:
            raise ValueError(f"'{key}' cannot name a result file; use letters, digits and _ . + -")
