"""Tasks that the tests of the fan-out give to processes; quick to import."""

import os
import random
import signal
import time
from pathlib import Path


def draw(item: int, part: Path, seed: int) -> None:
    """Write a random number that depends on item and seed alone."""
    part.write_text(f"{item} {random.Random(seed).random()}")


def draw_or_fail(item: int, part: Path, seed: int) -> None:
    part.write_text("half")
    if item < 0:
        raise ArithmeticError(f"item {item} is negative")
    draw(item, part, seed)


def draw_or_die(item: int, part: Path, seed: int) -> None:
    if item == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    draw(item, part, seed)


def tell_threads(item: int, part: Path, seed: int) -> None:
    part.write_text(f"{os.environ['OMP_NUM_THREADS']} {os.environ['MKL_NUM_THREADS']}")


def linger(item: int, part: Path, seed: int) -> None:
    part.with_suffix(f".{os.getpid()}").touch()
    time.sleep(0.0 if item == 0 else 60.0)
    part.write_text("done")


class Unloadable:
    """A function that ends the process that unpickles it."""

    def __reduce__(self) -> tuple[object, ...]:
        return os._exit, (3,)

    def __call__(self, item: int, part: Path, seed: int) -> None:
        """Never called."""
