"""Memory of a loader of ROOT files, measured in a process of its own.

Prints as JSON how much this process and its workers hold after every epoch, and at most.
"""

import argparse
import json
import multiprocessing
import os
import tempfile
from pathlib import Path

from sciml.xec.data import Reading, RootStream


def main() -> None:
    """Iterate epochs of the training events and print what they take."""
    options = _options()
    with tempfile.TemporaryDirectory() as cache:
        data = RootStream(
            train=options.file,
            batch_size=64,
            chunksize=options.chunksize,
            chunks_per_block=options.chunks_per_block,
            num_workers=options.workers,
            reading=Reading(cache=cache),
        )
        loader = data.loader("train")
        held, events = [], 0
        for epoch in range(options.epochs):
            loader.set_epoch(epoch)
            events += sum(len(batch["npho"]) for batch in loader)
            held.append(_of_all("VmRSS"))
        peak = _of_all("VmHWM")
        loader.close()
    print(json.dumps({"held": held, "peak": peak, "events": events}))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file")
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--chunksize", type=int, default=512)
    parser.add_argument("--chunks_per_block", type=int, default=4)
    return parser.parse_args()


def _of_all(line: str) -> int:
    """Bytes of this process and its living workers; what they share is counted for each."""
    pids = [os.getpid(), *(child.pid for child in multiprocessing.active_children())]
    return sum(_bytes(Path(f"/proc/{pid}/status"), line) for pid in pids)


def _bytes(status: Path, line: str) -> int:
    fields = dict(one.split(":", 1) for one in status.read_text().splitlines())
    return int(fields[line].split()[0]) << 10


if __name__ == "__main__":
    main()
