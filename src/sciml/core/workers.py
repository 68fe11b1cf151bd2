"""Where the tasks of a fan-out run: this process, or several."""

import multiprocessing
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from types import TracebackType
from typing import Generic, Self, TypeVar

Item = TypeVar("Item")
Work = Callable[[Item, Path, int], None]


@dataclass(frozen=True, slots=True)
class Task(Generic[Item]):
    """One piece of work.

    Args:
        key: Its name.
        item: What it works on.
        path: File of the result.
        seed: Seed of its random numbers.
    """

    key: str
    item: Item
    path: Path
    seed: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """End of a task.

    Args:
        key: Its name.
        reason: Why it failed, None when the result is there.
    """

    key: str
    reason: str | None


class _Attempt:
    """Context that keeps an exception as the sentence of a failure.

    The border between one task and all others: whatever goes wrong in a task must not end a run of
    days, and is reported. Ctrl-C and exit requests pass.
    """

    reason: str | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        if not isinstance(error, Exception):
            return False
        self.reason = f"{type(error).__name__}: {error}"
        return True


def run_task(work: Work[Item], task: Task[Item]) -> Outcome:
    """Run a task into ``<path>.part``, renamed when it is complete.

    Args:
        work: Called with the item, the part and the seed.
        task: What to run.

    Returns:
        The outcome; an exception of the task is its reason.
    """
    part = task.path.with_name(task.path.name + ".part")
    with _Attempt() as attempt:
        part.unlink(missing_ok=True)
        work(task.item, part, task.seed)
        part.replace(task.path)
    return Outcome(task.key, attempt.reason)


def run_serially(work: Work[Item], tasks: list[Task[Item]]) -> Generator[Outcome]:
    """Outcomes of tasks run here, one after the other."""
    for task in tasks:
        yield run_task(work, task)


def run_in_processes(work: Work[Item], tasks: list[Task[Item]], count: int) -> Generator[Outcome]:
    """Outcomes, as they come, of tasks run by processes that are started by spawn.

    Args:
        work: Function of a module.
        tasks: What to run.
        count: Processes.

    Yields:
        One outcome a task; a process that dies is the failure of its task, and is replaced.

    Raises:
        RuntimeError: If a process ends before its first task.
    """
    waiting = deque(tasks)
    workers: dict[object, _Worker[Item]] = {}
    try:
        while waiting or workers:
            while waiting and len(workers) < count:
                worker = _Worker(work)
                workers[worker.pipe] = worker
                worker.give(waiting.popleft())
            for pipe in wait([worker.pipe for worker in workers.values()]):
                worker = workers[pipe]
                outcome = worker.receive()
                if outcome is None:
                    continue
                if waiting and worker.is_alive:
                    worker.give(waiting.popleft())
                else:
                    del workers[pipe]
                    worker.stop()
                yield outcome
    finally:
        for worker in workers.values():
            worker.stop()


class _Worker(Generic[Item]):
    """A process with its pipe; it works on one task at a time, so its death names the task."""

    def __init__(self, work: Work[Item]) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, end = context.Pipe()
        self.process = context.Process(target=_serve, args=(work, end), daemon=True)
        with _interrupts_held():
            self.process.start()
        end.close()
        self.is_alive = True
        self.is_ready = False
        self.key = ""

    def give(self, task: Task[Item]) -> None:
        self.key = task.key
        with suppress(BrokenPipeError):  # a worker that has just died is seen by `receive`
            self.pipe.send(task)

    def receive(self) -> Outcome | None:
        """Outcome of the task, None for the greeting; called when there is something to read."""
        try:
            outcome: Outcome | None = self.pipe.recv()
        except (EOFError, ConnectionResetError):
            self.process.join()
            self.is_alive = False
            return self._obituary()
        self.is_ready = True
        return outcome

    def _obituary(self) -> Outcome:
        code = self.process.exitcode
        if not self.is_ready:
            raise RuntimeError(
                f"a worker process ended with exit code {code} before it could work: see its error"
                " above; a script needs 'if __name__ == \"__main__\":' around what it runs"
            )
        hint = ", perhaps for want of memory" if code == -signal.SIGKILL else ""
        return Outcome(self.key, f"the worker process died with exit code {code}{hint}")

    def stop(self) -> None:
        self.process.terminate()
        self.process.join()
        self.pipe.close()


def _serve(work: Work[Item], pipe: Connection) -> None:
    """Loop of a worker process: tasks come through the pipe until it closes."""
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    pipe.send(None)
    while True:
        try:
            task: Task[Item] = pipe.recv()
        except EOFError:
            return
        pipe.send(run_task(work, task))


def _leave_with_parent() -> None:
    """End this process when the parent is gone, so that no two runs write the same part."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


@contextmanager
def _interrupts_held() -> Generator[None]:
    """Processes started inside never see Ctrl-C; the parent gets it afterwards and stops them."""
    if sys.platform == "win32":
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
