"""``sciml xec infer``: the events of files through a trained network."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch

from sciml.core.files import refuse_existing
from sciml.core.parallel import progress_bar
from sciml.xec.apply.infer import Streaming, Summary
from sciml.xec.apply.infer import infer as infer_files
from sciml.xec.apply.reconstructor import Reconstructor
from sciml.xec.data.branches import Units
from sciml.xec.data.dead import listed_channels
from sciml.xec.data.files import find_files
from sciml.xec.data.index import UNITS, OnBadFile
from sciml.xec.data.writer import Format

PERCENTILES = (50, 90, 99)


def infer(
    files: str | list[str],
    *,
    ckpt: Path,
    out: Path,
    format: Format | None = None,
    tree: str = "tree",
    batch_size: int = 256,
    events: int | None = None,
    dead: list[int] | Path | None = None,
    units: Units = UNITS,
    on_bad_file: OnBadFile = "fail",
    threads: int | None = None,
) -> Summary:
    """Reconstruct events: one table with what the network gives, the truths and run and event.

    Architecture, normalisation, calibration and averaged weights are those of the checkpoint. A
    run that was stopped goes on when it is repeated, with the first file that was not finished.

    Args:
        files: ROOT files: file, folder, pattern in quotes, or @list with a name a line.
        ckpt: Checkpoint of sciml fit or sciml xec import.
        out: Table to make, .root with the tree val_tree, .csv or .parquet. It must not exist.
        format: root, csv or parquet, where the suffix does not tell.
        tree: Name of the files' tree.
        batch_size: Events that the network sees at once.
        events: Only so many, the first ones of the files.
        dead: Channels to treat as dead: ids such as [17,4200], or a file of them: an id on each
            line, .npz with the array dead, or .root with a branch dead.
        units: Factors for files in other units.
        on_bad_file: fail, or skip a file that cannot be used.
        threads: Threads of the network; by default what torch chooses.

    Returns:
        What was made, also printed.

    Raises:
        FileNotFoundError: If a file is missing.
        ValueError: If a setting or a file is wrong; says which and why.
    """
    if threads is not None and threads < 1:
        raise ValueError(f"threads is {threads}; give at least 1")
    refuse_existing(out)
    streaming = Streaming(tree, batch_size, events, units, on_bad_file)
    paths = find_files(files, "FILES")
    channels = () if dead is None else listed_channels(dead, tree)
    reconstructor = Reconstructor.from_checkpoint(ckpt, channels)
    with progress_bar("events") as bar, _threads(threads):
        summary = infer_files(
            reconstructor, paths, out, streaming=streaming, format=format, progress=bar
        )
    print(described(summary))
    return summary


def described(summary: Summary) -> str:
    """A summary as lines of text.

    Args:
        summary: Of a run.
    """
    counts, lines = summary.counts, []
    lines.append(f"{summary.path}: events: {counts['events']}, files: {summary.files}")
    if summary.resumed:
        lines.append(f"{summary.resumed} of the files were finished by an earlier run")
    if summary.latency:
        times = zip(PERCENTILES, np.percentile(summary.latency, PERCENTILES), strict=True)
        lines.append(
            f"{summary.made} events in {summary.seconds:.1f} s "
            f"({summary.made / summary.seconds:.0f} a second); network, ms a batch: "
            + ", ".join(f"p{share} {ms:.1f}" for share, ms in times)
        )
    lines.append(
        f"{counts['invalid']} invalid photon counts, {counts['infinite']} readings NaN or "
        f"infinite, {counts['unknown']} events with a result that is not finite"
    )
    if summary.bad:
        lines.append(f"{len(summary.bad)} files left out: {'; '.join(summary.bad)}")
    return "\n".join(lines)


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
