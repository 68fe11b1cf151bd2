"""Lines of xec about the stream: order, ranks and memory."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from engine import REPOSITORY, Bench, environment
from platform_checks import pytest_lines
from xec_small import quiet, read_events, shared, small_data, small_fit, write_events

ROOM = 2**20  # bytes in the unit of the texts
TESTS = "tests/xec/test_data_"
ORDER = [f"{TESTS}{name}.py" for name in ("module", "source", "training", "root", "index")]
EPOCHS = 10
GROWTH, SLACK = 0.05, 50 * ROOM  # from the second epoch to the last, whichever is more
TIMES, BOUND = 20, 1.2  # how much larger the file, and how much more memory it may take
SMALL_BLOCKS = ["--chunksize", "200", "--chunks_per_block", "2"]  # four of a supplied file
LARGEST = 3e9  # bytes on the disk
PATIENCE = 300  # s, for a run of seconds


def stream_order(bench: Bench) -> str:
    """Order, resumption, ranks and workers, as the tests of the stream state them."""
    return pytest_lines(*ORDER, "tests/core/test_stream.py")(bench)


def two_processes(bench: Bench) -> str:
    """Two processes with two workers each train and validate on one small file, and end."""
    data, folder = small_data(bench), bench.folder / "one_file"
    words = [
        sys.executable, "-m", "sciml", "fit", *small_fit(bench),
        f"--data.train={data}", f"--data.val={data}", "--data.num_workers=2",
        "--trainer.strategy=ddp", "--trainer.devices=2", *quiet(bench.folder, folder.name),
    ]  # fmt: skip
    bench.commands.append(" ".join(words[2:]))
    begin = time.monotonic()
    process = subprocess.Popen(
        words, cwd=REPOSITORY, env=environment(), stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        _, errors = process.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)  # of a session of its own: the workers too
        process.wait()
        raise AssertionError(f"did not end within {PATIENCE} s") from None
    assert process.returncode == 0, f"exit {process.returncode}: {errors[-500:]}"
    events = len(read_events(data, "event")["event"])
    return f"{events} events of one file, two processes, ended in {time.monotonic() - begin:.0f} s"


def flat_memory(bench: Bench) -> str:
    """Ten epochs of a file hold no more memory than two of them.

    In blocks that are small beside the allowance: between epochs a block more or less is held.
    """
    text, wrong = [], []
    for workers in (0, 2):
        words = [*SMALL_BLOCKS, "--epochs", str(EPOCHS), "--workers", str(workers)]
        found = _measured(bench, shared("train_000.root"), *words)
        early, late = found["held"][1], found["held"][-1]
        text.append(
            f"{workers} workers: {_mib(early)} MiB after 2 epochs, {_mib(late)} after {EPOCHS} "
            f"({found['events']} events), peak {_mib(found['peak'])}"
        )
        if late - early > max(GROWTH * early, SLACK):
            wrong.append(f"{workers} workers grow by {_mib(late - early)} MiB")
    summary = "; ".join(text)
    assert not wrong, f"{', '.join(wrong)} | {summary}"
    return summary


def bounded_memory(bench: Bench) -> str:
    """A pass over a file twenty times as large takes hardly more memory."""
    small = shared("train_000.root")
    large = repeated(bench, small, TIMES)
    try:
        size = large.stat().st_size
        assert size <= LARGEST, f"{size / 1e9:.1f} GB"
        text, wrong = [], []
        for workers in (0, 2):
            words = [*SMALL_BLOCKS, "--workers", str(workers)]
            before, after = (_measured(bench, path, *words) for path in (small, large))
            assert after["events"] == TIMES * before["events"], f"{after} where {before} was"
            ratio = after["peak"] / before["peak"]
            text.append(
                f"{workers} workers: {_mib(before['peak'])} MiB at most for {before['events']} "
                f"events, {_mib(after['peak'])} for {after['events']} (× {ratio:.2f})"
            )
            wrong += [f"× {ratio:.2f} with {workers} workers"] if ratio > BOUND else []
    finally:
        large.unlink()
    summary = f"{'; '.join(text)}; {size / 1e6:.0f} MB"
    assert not wrong, f"{', '.join(wrong)} | {summary}"
    return summary


def repeated(bench: Bench, path: Path, times: int) -> Path:
    """A file with the events of another one, so many times; the caller removes it."""
    out = bench.folder / f"{path.stem}_{times}.root"
    return write_events(out, read_events(path), times=times, basket=200)


def _measured(bench: Bench, path: Path, *words: str) -> dict[str, Any]:
    script = REPOSITORY / "tests" / "acceptance" / "xec_memory.py"
    said = bench.run(sys.executable, str(script), str(path), *words)
    found: dict[str, Any] = json.loads(said.strip().splitlines()[-1])
    return found


def _mib(size: float) -> str:
    return f"{size / ROOM:.0f}"
