import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
import torch
from fan_out_tasks import Unloadable, draw, draw_or_die, draw_or_fail, tell_threads
from hypothesis import given, settings
from hypothesis import strategies as st

from sciml.core.parallel import FAILURES, Tally, available_cores, derive_seed, fan_out, progress_bar

KEYS = st.lists(
    st.text("abc019_-", min_size=1, max_size=4).filter(lambda k: k[0] != "-"), unique=True
)
ITEMS = {f"task{number}": number for number in range(6)}


def contents(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir() if path.name != FAILURES}


@given(keys=KEYS, bad=st.sets(st.integers(0, 5)), done=st.sets(st.integers(0, 5)))
@settings(max_examples=40, deadline=None)
def test_finished_keys_are_skipped_and_failures_are_alone(
    keys: list[str], bad: set[int], done: set[int]
) -> None:
    items = {key: -1 if place in bad - done else place for place, key in enumerate(keys)}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for place, key in enumerate(keys):
            if place in done:
                (folder / key).write_text("earlier")
        result = fan_out(draw_or_fail, items, folder, backend="serial", seed=7)
        failed = [key for place, key in enumerate(keys) if place in bad - done]
        assert list(result.failures) == failed
        assert list(result.paths) == [key for key in keys if key not in failed]
        assert result.skipped == len([p for p in range(len(keys)) if p in done])
        for place, key in enumerate(keys):
            if key in result.paths:
                text = result.paths[key].read_text()
                expected = random.Random(derive_seed(7, key)).random()
                assert text == ("earlier" if place in done else f"{place} {expected}")


def test_processes_make_the_same_files_as_one_process(tmp_path: Path) -> None:
    fan_out(draw, ITEMS, tmp_path / "serial", backend="serial", seed=3)
    backwards = dict(reversed(ITEMS.items()))
    fan_out(draw, backwards, tmp_path / "two", backend="processes", workers=2, seed=3)
    assert contents(tmp_path / "serial") == contents(tmp_path / "two")
    fan_out(draw, ITEMS, tmp_path / "other", backend="serial", seed=4)
    assert contents(tmp_path / "serial") != contents(tmp_path / "other")


def test_a_failure_is_written_down_and_tried_again(tmp_path: Path) -> None:
    items = {"good": 1, "bad": -1}
    result = fan_out(draw_or_fail, items, tmp_path, backend="serial")
    reason = "ArithmeticError: item -1 is negative"
    assert result.failures == {"bad": reason}
    assert json.loads((tmp_path / FAILURES).read_text()) == {"key": "bad", "reason": reason}
    again = fan_out(draw_or_fail, items | {"bad": 2}, tmp_path, backend="serial")
    assert again.skipped == 1
    assert list(again.paths) == ["good", "bad"]
    assert not (tmp_path / FAILURES).exists()
    assert not list(tmp_path.glob("*.part"))


def test_a_killed_worker_is_the_failure_of_its_key_alone(tmp_path: Path) -> None:
    result = fan_out(draw_or_die, ITEMS, tmp_path, workers=2)
    assert list(result.failures) == ["task3"]
    assert "exit code -9" in result.failures["task3"]
    assert sorted(result.paths) == sorted(set(ITEMS) - {"task3"})


def test_a_worker_that_cannot_start_ends_the_run(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="exit code 3 before it could work"):
        fan_out(Unloadable(), ITEMS, tmp_path, workers=1)


def test_tasks_have_one_thread(tmp_path: Path) -> None:
    before = os.environ.get("MKL_NUM_THREADS"), torch.get_num_threads()
    fan_out(tell_threads, {"a": 0}, tmp_path / "here", backend="serial")
    fan_out(tell_threads, {"a": 0}, tmp_path / "there", workers=1)
    assert contents(tmp_path / "here") == contents(tmp_path / "there") == {"a": "1 1"}
    assert (os.environ.get("MKL_NUM_THREADS"), torch.get_num_threads()) == before


def test_progress_counts_every_task(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    seen: list[Tally] = []
    fan_out(
        draw_or_fail, {"a": 1, "b": 2, "c": -3}, tmp_path, backend="serial", progress=seen.append
    )
    assert seen == [Tally(3, 1, 0, 0), Tally(3, 1, 1, 0), Tally(3, 1, 1, 1)]


def test_progress_bar_counts_what_is_done(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich draws on terminals only
    monkeypatch.setenv("COLUMNS", "120")
    with progress_bar("tasks") as show:
        show(Tally(3, 1, 1, 1))
    shown = capsys.readouterr().err
    assert "2/2" in shown  # one of three was there before
    assert "1 failed" in shown


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("backend", ["serial", "processes"])
def test_a_stop_keeps_finished_keys_and_leaves_no_process(
    tmp_path: Path, stop: type[BaseException], backend: str
) -> None:
    def interrupt(tally: Tally) -> None:
        if tally.finished == 2:
            if stop is KeyboardInterrupt:
                raise KeyboardInterrupt
            os.kill(os.getpid(), signal.SIGTERM)

    handler = signal.getsignal(signal.SIGTERM)
    with pytest.raises(stop):
        fan_out(draw, ITEMS, tmp_path, backend=backend, workers=1, progress=interrupt)
    assert signal.getsignal(signal.SIGTERM) is handler
    assert not multiprocessing.active_children()
    result = fan_out(draw, ITEMS, tmp_path, backend="serial")
    assert 2 <= result.skipped < 6
    fan_out(draw, ITEMS, tmp_path / "whole", backend="serial")
    assert (
        contents(tmp_path / "whole").items()
        <= {path.name: path.read_text() for path in tmp_path.glob("task*")}.items()
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_workers_leave_with_their_parent(tmp_path: Path, number: signal.Signals) -> None:
    script = f"""
import signal
from pathlib import Path
from fan_out_tasks import linger
from sciml.core.parallel import fan_out
if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # off in a shell's background jobs
    fan_out(linger, {{"a": 0, "b": 1, "c": 1}}, Path({str(tmp_path)!r}), workers=2)
"""
    (tmp_path / "run.py").write_text(script)
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent)}
    with subprocess.Popen(
        [sys.executable, tmp_path / "run.py"],
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as parent:
        wait_for(lambda: len(list(tmp_path.glob("[bc].[0-9]*"))) == 2)
        workers = {int(path.suffix[1:]) for path in tmp_path.glob("[abc].[0-9]*")}
        if number == signal.SIGINT:  # as a terminal does: to the whole group
            os.killpg(parent.pid, number)
        else:
            parent.send_signal(number)
        _, errors = parent.communicate(timeout=30)
    wait_for(lambda: not any(is_running(worker) for worker in workers))
    assert parent.returncode != 0
    # the script's own; a worker that is caught while it starts may add another
    assert ("Traceback" in errors) == (number == signal.SIGINT)
    assert (tmp_path / "a").read_text() == "done"
    assert not (tmp_path / "b").exists()


def wait_for(fact) -> None:
    end = time.monotonic() + 60
    while not fact():
        assert time.monotonic() < end
        time.sleep(0.05)


def is_running(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


@pytest.mark.parametrize("key", ["", "a/b", "../a", ".hidden", "x.part", FAILURES, "a b"])
def test_a_key_must_be_a_file_name(tmp_path: Path, key: str) -> None:
    with pytest.raises(ValueError, match="cannot name a result file"):
        fan_out(draw, {key: 1}, tmp_path / "none", backend="serial")
    assert not (tmp_path / "none").exists()


def test_workers_must_be_positive(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="workers is 0"):
        fan_out(draw, ITEMS, tmp_path, workers=0)


def test_seeds_differ_by_key_and_by_run() -> None:
    seeds = {derive_seed(seed, key) for seed in range(10) for key in ("a", "b", "10", "1")}
    assert len(seeds) == 40
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert available_cores() >= 1
