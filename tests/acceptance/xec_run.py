"""Lines of xec about the detector's table, the generator, speed and inference."""

import csv
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import uproot
from engine import REPOSITORY, Bench, environment
from platform_checks import pytest_lines
from xec_small import (
    Branches,
    read_events,
    shared,
    small_checkpoint,
    small_data,
    write_events,
)
from xec_stream import repeated

ROOM = 2**20  # bytes in the unit of the texts
GEOMETRY = [
    f"tests/xec/test_{name}.py"
    for name in (
        "geometry", "coordinates", "images", "hexagon", "reflections", "solid_angle",
        "geometry_command", "statistics", "normalisation", "anchors",
    )
]  # fmt: skip
HEAD = "id,face,type,row,col,x,y,z,nx,ny,nz"
AXES = (("x", "y", "z"), ("nx", "ny", "nz"))
FACES = {0: 4092, 1: 144, 2: 144, 3: 234, 4: 73, 5: 73}  # sensors by output code
RATE, AIM = 100, 300  # events a CPU second
GENERATED = (200, 3000)
FASTER, PARAMETERS = 20, 8_000_000  # than v1; of v2
BARE, NOT_SLOWER = 0.80, 0.95  # of bare uproot; of no workers
IDS = ("run_id", "event_id")
TASKS = [
    "pred_theta", "pred_phi", "true_theta", "true_phi", "opening_angle", "pred_energy",
    "true_energy", "pred_timing", "true_timing", *(f"{kind}_{axis}" for kind in ("pred", "true")
    for axis in "uvw"), "pred_ex", "pred_ey", "pred_ez", "x_vtx", "y_vtx", "z_vtx",
]  # fmt: skip
"""Branches of the output of a network with all four tasks."""
SPREADS = [f"sig_{name}" for name in ("u", "v", "w", "energy", "timing", "direction")]
RECO = ["reco_energy", "reco_u", "reco_v", "reco_w", "reco_timing"]
SIZES, HELD = (2, 8), 1.2  # copies of a supplied file; memory of the larger over the smaller one


class Cost(NamedTuple):
    """What a command took: largest resident memory in bytes, CPU seconds, and what it said."""

    peak: int
    cpu: float
    said: str


def geometry(bench: Bench) -> str:
    """Tests of the closed forms, and the table of all sensors against the formulas."""
    passed = pytest_lines(*GEOMETRY)(bench)
    out = bench.folder / "geometry.csv"
    bench.sciml("xec", "geometry", "--out", out)
    with out.open() as file:
        head = file.readline().strip()
        rows = list(csv.DictReader(file, fieldnames=head.split(",")))
    assert head == HEAD, head
    assert [int(row["id"]) for row in rows] == list(range(len(rows))), "ids are not in order"
    counts = {face: sum(int(row["face"]) == face for row in rows) for face in FACES}
    assert counts == FACES, counts
    sipm = [row for row in rows if row["type"] == "sipm"]
    assert {int(row["face"]) for row in sipm} == {0}, "sipm outside the inner face"
    assert {row["type"] for row in rows} == {"sipm", "pmt"}, "other types"
    place, normal = (np.array([[float(row[k]) for k in n] for row in rows]) for n in AXES)
    grid = np.array([[int(row["row"]), int(row["col"])] for row in rows])
    worst = float(np.abs(place[: len(sipm)] - _inner(grid[: len(sipm)])).max())
    length = float(np.abs(np.linalg.norm(normal, axis=1) - 1).max())
    text = (
        f"{passed}; {len(rows)} sensors, {len(sipm)} sipm, faces {list(counts.values())}, inner "
        f"places within {1e4 * worst:.2f} µm, normals within {length:.0e} of 1"
    )
    assert worst <= 5e-4, text
    assert length <= 1e-6, text
    return text


def generation(bench: Bench) -> str:
    """Events a CPU second of the generator with writing: what more events cost than a few do."""
    few, many = (_generated(bench, count) for count in GENERATED)
    more = GENERATED[1] - GENERATED[0]
    rate = more / (many.cpu - few.cpu)
    text = (
        f"{rate:.0f} events a CPU-s (aim {AIM}: {'held' if rate >= AIM else 'missed'}), of "
        f"{GENERATED[1]} events in {many.cpu:.1f} CPU-s and {GENERATED[0]} in {few.cpu:.1f}, both "
        f"with the start of two processes; largest memory {many.peak / ROOM:.0f} MiB"
    )
    assert rate >= RATE, text
    return text


def _generated(bench: Bench, count: int) -> Cost:
    out = bench.folder / "generated"
    path = out / "events_0000.root"
    path.unlink(missing_ok=True)
    words = ["--events", str(count), "--files", "1", "--seed", "5", "--workers", "1"]
    cost = _cost(bench, ["xec", "generate", "--out", str(out), *words])
    path.unlink()
    return cost


def speed(bench: Bench) -> str:
    """Events a CPU second of v2 and v1, taking turns in one run at batch 64."""
    found = _benchmark(bench, "speed")["networks"]
    one, two = found["v1"], found["v2"]
    ratios = {what: two[what] / one[what] for what in ("training", "inference")}
    text = (
        ", ".join(
            f"{what} {two[what]:.0f} over {one[what]:.1f} events a CPU-s (× {ratio:.1f})"
            for what, ratio in ratios.items()
        )
        + f"; {two['parameters']:,} parameters, v1 {one['parameters']:,}"
    )
    assert min(ratios.values()) >= FASTER, text
    assert two["parameters"] <= PARAMETERS, text
    return text


def loader(bench: Bench) -> str:
    """Events a second of the loader beside bare reading of the same two branches.

    Two workers count as not slower from 95 % of the rate without any; two free cores are needed.
    """
    found = _benchmark(bench, "loader")["loader"]
    bare, none, two = (found[name] for name in ("uproot", "0 workers", "2 workers"))
    text = (
        f"bare uproot {bare:.0f} events a second, 0 workers {none:.0f} ({100 * none / bare:.0f} %),"
        f" 2 workers {two:.0f} ({100 * two / none:.0f} % of 0 workers); load of the machine "
        f"{os.getloadavg()[0]:.1f}"
    )
    assert none >= BARE * bare, text
    assert two >= NOT_SLOWER * none, text
    return text


def inference(bench: Bench) -> str:
    """Tables of inference: names, types, number of events, equal in every format, small memory."""
    folder, checkpoint = bench.folder / "inference", small_checkpoint(bench)
    path = _with_reco(small_data(bench, "test"), folder / "events.root")
    tables = {}
    for kind in ("root", "csv", "parquet"):
        out = folder / f"table.{kind}"
        out.unlink(missing_ok=True)
        words = ["--ckpt", str(checkpoint), "--out", str(out), "--format", kind]
        bench.sciml("xec", "infer", path, *words)
        tables[kind] = _table(out)
    root, events = tables["root"], read_events(path)
    _check_types(folder / "table.root")
    for kind, table in tables.items():
        assert table.keys() == root.keys(), f"{kind} has {', '.join(table)}"
        for name, values in table.items():
            assert len(values) == len(events["event"]), f"{len(values)} rows of {kind}"
            same = np.array_equal(values.astype("f8"), root[name].astype("f8"), equal_nan=True)
            assert same, f"{name} of {kind} differs from that of root"
    for name, values in _expected(events).items():
        worst = float(np.abs(root[name].astype("f8") - values).max())
        assert worst <= 1e-4 * max(1.0, float(np.abs(values).max())), f"{name} is off by {worst}"
    return (
        f"{len(root)} branches, {len(events['event'])} events, root, csv and parquet equal; "
        f"{_inference_memory(bench, checkpoint)}"
    )


def _inference_memory(bench: Bench, checkpoint: Path) -> str:
    """Memory of inference on a file and on one four times as large."""
    out, peaks, counts = bench.folder / "inference" / "many.root", [], []
    for times in SIZES:
        path = repeated(bench, shared("train_000.root"), times)
        out.unlink(missing_ok=True)
        try:
            words = ["xec", "infer", str(path), "--ckpt", str(checkpoint), "--out", str(out)]
            peaks.append(_cost(bench, words).peak)
            counts.append(len(read_events(out, "event_id", tree="val_tree")["event_id"]))
            expected = len(read_events(path, "event")["event"])
            assert counts[-1] == expected, f"{counts[-1]} of {expected} events"
        finally:
            path.unlink()
            out.unlink(missing_ok=True)
    text = ", ".join(
        f"{peak / ROOM:.0f} MiB for {count} events"
        for peak, count in zip(peaks, counts, strict=True)
    )
    assert peaks[1] <= HELD * peaks[0], text
    return text


def _with_reco(source: Path, path: Path) -> Path:
    """The same events with conventional results, which are the truths moved by a little."""
    events = read_events(source)
    more = {
        "energyReco": events["energyTruth"] * np.float32(1.01),
        "timeReco": events["timeTruth"] + np.float32(0.1),
        "uvwRecoFI": events["uvwTruth"] + np.float32(0.2),
    }
    return write_events(path, events | more)


def _expected(events: Branches) -> Branches:
    """What the table has to repeat of the file; the time is that of the interaction."""
    flight = np.linalg.norm(events["xyzTruth"] - events["xyzVTX"], axis=1) / 29.979  # cm/ns
    found = {
        "run_id": events["run"],
        "event_id": events["event"],
        "true_energy": events["energyTruth"],
        "true_timing": events["timeTruth"] + flight,
        "true_theta": events["emiAng"][:, 0],
        "true_phi": events["emiAng"][:, 1],
        "reco_energy": events["energyReco"],
        "reco_timing": events["timeReco"],
    }
    for place, axis in enumerate("uvw"):
        found[f"true_{axis}"] = events["uvwTruth"][:, place]
        found[f"reco_{axis}"] = events["uvwRecoFI"][:, place]
    for place, axis in enumerate("xyz"):
        found[f"{axis}_vtx"] = events["xyzVTX"][:, place]
    return found


def _check_types(path: Path) -> None:
    with uproot.open(path) as file:
        assert file.keys(cycle=False)[0] == "val_tree", file.keys()
        tree = file["val_tree"]
        types = {one.name: np.dtype(one.interpretation.numpy_dtype) for one in tree.branches}
    expected = dict.fromkeys(IDS, "i4") | dict.fromkeys([*TASKS, *SPREADS, *RECO], "f4")
    found = {name: f"{kind.kind}{kind.itemsize}" for name, kind in types.items()}
    missing = [name for name in expected if name not in found]
    other = [name for name in found if name not in expected]
    wrong = [f"{n} {found[n]}" for n in expected if n in found and found[n] != expected[n]]
    assert not missing, f"no branches {', '.join(missing)}; there are {', '.join(found)}"
    assert not other, f"further branches {', '.join(other)}"
    assert not wrong, f"other types: {', '.join(wrong)}"


def _table(path: Path) -> Branches:
    if path.suffix == ".root":
        return read_events(path, tree="val_tree")
    if path.suffix == ".parquet":
        import pyarrow.parquet

        columns = pyarrow.parquet.read_table(path)
        return {name: columns[name].to_numpy() for name in columns.column_names}
    found = np.genfromtxt(path, delimiter=",", names=True, dtype=None, encoding="utf-8")
    types = {name: "f4" if kind.kind == "f" else "i4" for name, kind in _kinds(found)}
    return {name: found[name].astype(kind) for name, kind in types.items()}


def _kinds(found: np.ndarray[Any, Any]) -> list[tuple[str, np.dtype[Any]]]:
    return [(name, found.dtype[name]) for name in found.dtype.names or ()]


def _inner(grid: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Places of the sensors of the inner face in cm, by the formulas of the detector."""
    alpha = np.radians((46 - grid[:, 0]) * 1.3496771)
    z = (grid[:, 1] - 21.5) * 1.5097721
    return np.stack([-64.97 * np.cos(alpha), 64.97 * np.sin(alpha), z], axis=1)


def _benchmark(bench: Bench, name: str) -> Any:
    out = bench.folder / f"{name}.json"
    script = ["benchmarks/xec_throughput.py", "--data", str(shared("train_000.root"))]
    bench.run(sys.executable, *script, "--out", str(out))
    return bench.json(out)


def _cost(bench: Bench, words: list[str]) -> Cost:
    """Run a command of the application and measure its process; it has to succeed."""
    bench.commands.append("sciml " + " ".join(words))
    process = subprocess.Popen(
        [sys.executable, "-m", "sciml", *words], cwd=REPOSITORY, env=environment(),
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    said = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, said[-800:]
    return Cost(usage.ru_maxrss << 10, usage.ru_utime + usage.ru_stime, said)
