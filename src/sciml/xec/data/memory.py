"""Whether the blocks that the loaders hold fit into the memory of the machine."""

import os
import shutil
from pathlib import Path

from sciml.xec.physics.constants import SENSORS

EVENT = 2 * 4 * SENSORS + 200  # bytes: counts, times, and some numbers of the event
PREFETCH = 2  # finished blocks that wait for each worker's turn
COPIES = 3  # blocks where one is made: the one before, its chunks as they are read, and itself
GIB = 1 << 30
CGROUP = Path("/sys/fs/cgroup/memory.max")
SHARED = Path("/dev/shm")


def check_memory(rows: int, workers: int, processes: int = 1) -> None:
    """Refuse blocks that would fill the memory.

    Args:
        rows: Events of the largest block.
        workers: Loader processes of every rank.
        processes: Ranks on this machine.

    Raises:
        ValueError: If all blocks together need more than half of the memory, or those on their way
            from the workers more than there is shared memory.
    """
    block = rows * EVENT
    waiting = workers * PREFETCH * block * processes
    whole = waiting + (max(workers, 1) * COPIES + 1) * block * processes
    advice = "lower --data.chunksize, --data.chunks_per_block or --data.num_workers"
    if whole > total_memory() / 2:
        raise ValueError(
            f"blocks of {rows} events take {whole / GIB:.1f} GiB in {workers} workers of "
            f"{processes} processes, more than half of the {total_memory() / GIB:.1f} GiB of "
            f"memory; {advice}"
        )
    shared = shared_memory()
    if waiting > shared:
        raise ValueError(
            f"blocks of {rows} events on their way from {workers} workers take "
            f"{waiting / GIB:.1f} GiB of the {shared / GIB:.1f} GiB of shared memory in {SHARED}; "
            f"enlarge it, or {advice}"
        )


def total_memory() -> int:
    """Bytes of memory that this process may use at most."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = CGROUP.read_text().strip() if CGROUP.is_file() else "max"
    return min(machine, int(limit)) if limit.isdigit() else machine


def shared_memory() -> float:
    """Bytes that processes can pass to each other through memory; infinite where all can be."""
    return shutil.disk_usage(SHARED).total if SHARED.is_dir() else float("inf")
