"""``sciml xec display``: one event as a picture of the detector."""

import re
from pathlib import Path

import numpy as np

from sciml.core.report import house_style
from sciml.xec.commands.plots import read_events
from sciml.xec.data.branches import Arrays, Units, branches_of, invalidate, quantities
from sciml.xec.data.index import UNITS, FileIndex, Indexing, look_at
from sciml.xec.data.root import RootFile
from sciml.xec.metrics.resolution import AXES, VECTOR
from sciml.xec.physics.constants import INVALID_FROM
from sciml.xec.report.display import display_figure, event_layers

PICTURES = (".pdf", ".png", ".svg")
READINGS = ("npho", "relative_time")
SHOWN = (*READINGS, "run", "event", "direction", "energy", "timing", "uvw")
NAMED = re.compile(r"(-?\d+):(-?\d+)")


def display(
    file: Path,
    *,
    out: Path,
    event: str = "0",
    predictions: Path | None = None,
    tree: str = "tree",
    units: Units = UNITS,
) -> Path:
    """Draw the photon counts and the hit times of an event on the unrolled detector.

    Dead channels are hatched; true and reconstructed places of the first interaction are marked on
    the inner face.

    Args:
        file: ROOT file with the event.
        out: Picture to write, .pdf, .png or .svg.
        event: Run and event number such as 2001:17, or the number of the entry in the file, from 0.
        predictions: What to mark as reconstructed: a file of sciml xec infer or sciml predict
            (.root, .csv, .parquet, .npz), or the folder of the tables of a validation.
        tree: Name of the file's tree.
        units: Factors for files in other units.

    Returns:
        The picture's path.

    Raises:
        FileNotFoundError: If a file is missing.
        ValueError: If a file cannot be read, or does not have the event.
    """
    if out.suffix.lower() not in PICTURES:
        raise ValueError(f"{out} is no picture; end --out with {', '.join(PICTURES)}")
    shown, entry = read_event(file, event, tree, units)
    run, number = int(shown["run"][0]), int(shown["event"][0])
    numbers = truths(shown)
    if predictions is not None:
        numbers |= reconstructed(predictions, run, number)
    npho = shown["npho"][0]
    figure = display_figure(
        event_layers(npho, shown["relative_time"][0]),
        numbers,
        title=f"{file.name}, entry {entry}: run {run} event {number}",
        dead=np.flatnonzero(npho > INVALID_FROM),
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    part = out.with_name(f".{out.stem}.part{out.suffix}")
    with house_style():
        figure.savefig(part, dpi=200)
    part.replace(out)
    print(f"{out}: run {run} event {number}, entry {entry} of {file}")
    return out


def read_event(path: Path, event: str, tree: str, units: Units) -> tuple[Arrays, int]:
    """Readings and truths of one event.

    Args:
        path: ROOT file.
        event: Run and event, or the entry.
        tree: Name of its tree.
        units: Factors.

    Returns:
        Arrays ``(1, ...)`` by quantity, and the entry. Run and event are -1 if they are not known.

    Raises:
        ValueError: If the file does not have the event, or has it more than once.
    """
    index = look_at(path, Indexing(tree=tree))
    file = RootFile(path, tree)
    try:
        entry = _entry(index, file, event)
        raw = file.read(branches_of(index.layout, SHOWN), entry, entry + 1)
    finally:
        file.close()
    for name in READINGS:
        invalidate(raw[index.layout[name]])
    found = quantities(raw, index.layout, SHOWN, units)
    return {"run": np.array([-1]), "event": np.array([-1])} | found, entry


def truths(shown: Arrays) -> dict[str, float]:
    """True numbers with the names of the task; the time is that of the emission.

    Args:
        shown: Of `read_event`.
    """
    parts = {"uvw": AXES, "direction": VECTOR, "energy": ("energy",), "timing": ("timing",)}
    return {
        f"true_{name}": float(value)
        for key, names in parts.items()
        if key in shown
        for name, value in zip(names, shown[key].reshape(-1), strict=True)
    }


def reconstructed(path: Path, run: int, event: int) -> dict[str, float]:
    """Numbers of an event that are known in a file of predictions.

    Args:
        path: File or folder.
        run: Its run.
        event: Its number in the run.

    Raises:
        ValueError: If the event is not in there exactly once.
    """
    columns = read_events(path)
    if any(name not in columns for name in ("run", "event")):
        raise ValueError(f"{path} does not tell the run and the number of its events")
    places = np.flatnonzero((columns["run"] == run) & (columns["event"] == event))
    if len(places) != 1:
        raise ValueError(f"{path} has event {run}:{event} {len(places)} times; once is needed")
    found = {name: float(values[places[0]]) for name, values in columns.items()}
    return {name: value for name, value in found.items() if np.isfinite(value)}


def _entry(index: FileIndex, file: RootFile, event: str) -> int:
    named = NAMED.fullmatch(event.strip())
    if named is None:
        if not event.strip().isdecimal():
            raise ValueError(f"'{event}' is no event; give --event run:event or a number from 0")
        if int(event) >= index.entries:
            raise ValueError(f"{index.path} has entries 0 to {index.entries - 1}, not {event}")
        return int(event)
    layout = index.layout
    if any(name not in layout for name in ("run", "event")):
        raise ValueError(f"{index.path} has no branches run and event; give the entry's number")
    raw = file.read(branches_of(layout, ("run", "event")), 0, index.entries)
    run, number = (raw[layout[name]].reshape(-1) for name in ("run", "event"))
    places = np.flatnonzero((run == int(named[1])) & (number == int(named[2])))
    if len(places) == 1:
        return int(places[0])
    if not len(places):
        raise ValueError(f"{index.path} has no event {event}")
    listed = ", ".join(map(str, places[:5].tolist()))
    raise ValueError(f"{index.path} has event {event} {len(places)} times; give an entry: {listed}")
