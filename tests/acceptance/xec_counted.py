"""Faults of the data that xec works with: counted, reported, and every result finite."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
from engine import Bench
from platform_checks import metrics_of
from xec_small import (
    REAL,
    Branches,
    quiet,
    read_events,
    small_checkpoint,
    small_data,
    small_fit,
    write_events,
)

from sciml.xec.physics.constants import FACES, INVALID
from sciml.xec.physics.sensors import face_ids

SHARE = 0.01  # of the readings that are no number
EACH = 4  # events with a certain face dead
LEAST = 9  # columns of results: four tasks


def check_not_finite(bench: Bench) -> str:
    """NaN and infinities among the readings: counted by check and by training, which works."""
    folder = bench.folder / "damaged"
    branches = read_events(small_data(bench))
    rng = np.random.default_rng(0)
    planted = {}
    for name, bad in (("npho", np.nan), ("relative_time", np.inf)):
        hit = rng.random(branches[name].shape) < SHARE
        branches[name] = np.where(hit, np.float32(bad), branches[name])
        planted[name] = int(hit.sum())
    path = write_events(folder / "not_finite.root", branches)
    told = json.loads(bench.sciml("xec", "check", path, "--json", "true").stdout)["branches"]
    counted = {name: told[name]["nan"] + told[name]["infinite"] for name in planted}
    assert counted == planted, f"check counts {counted}, planted are {planted}"
    shutil.rmtree(folder / "not_finite", ignore_errors=True)
    words = [*small_fit(bench), f"--data.train={path}", *quiet(folder, "not_finite")]
    words += ["--trainer.log_every_n_steps=1"]
    done = bench.sciml("fit", *words)
    profile = re.search(
        r"epoch \d+: .* (\d+) readings NaN or infinite.*", done.stdout + done.stderr
    )
    assert profile, f"fit does not tell how many there are: {done.stderr[-500:]}"
    assert int(profile[1]) == sum(planted.values()), f"{profile[0]}; planted {planted}"
    metrics = metrics_of(folder / "not_finite")
    wrong = [name for name, value in metrics.items() if not np.isfinite(value)]
    assert not wrong, f"not finite after training: {wrong}"
    assert metrics["train/skipped"] == 0, f"{metrics['train/skipped']:.0f} steps were skipped"
    return (
        f"{planted} planted, as many counted by check; fit says: {profile[0]}; {len(metrics)} "
        f"metrics, all finite, val/score {metrics['val/score']:.3f}"
    )


def check_dead_faces(bench: Bench) -> str:
    """Events with a face fully dead, each of the six in turn: all results are finite."""
    whole = read_events(small_data(bench))
    branches = {name: values[: EACH * len(FACES)].copy() for name, values in whole.items()}
    for number, face in enumerate(FACES):
        rows = slice(EACH * number, EACH * (number + 1))
        for name in ("npho", "relative_time"):
            branches[name][rows, face_ids(face)] = INVALID
    path = write_events(bench.folder / "damaged" / "dead_faces.root", branches)
    return f"{EACH} events of each face, {', '.join(FACES)}: {_judged(bench, path)[0]}"


def check_dead_file(bench: Bench) -> str:
    """A file whose upstream face is dead throughout: named by check, all results are finite."""
    folder, ids = bench.folder / "damaged", face_ids("us")
    branches = read_events(small_data(bench, "test"))
    branches["npho"][:, ids] = branches["relative_time"][:, ids] = INVALID
    path = write_events(folder / "dead_us.root", branches)
    told = json.loads(bench.sciml("xec", "check", path, "--json", "true").stdout)["dead"]
    assert told == ids.tolist(), f"check names {len(told)} dead channels where {len(ids)} are"
    bench.sciml(
        "test", "--ckpt_path", small_checkpoint(bench), f"--data.test={path}",
        *quiet(folder, "dead_us_run"),
    )  # fmt: skip
    found = bench.json(folder / "dead_us_run" / "test" / "summary.json")["metrics"]
    wrong = [name for name, value in found.items() if value is None or not np.isfinite(value)]
    assert not wrong, f"not finite: {wrong}"
    return (
        f"check names the {len(told)} channels; test gives {len(found)} finite metrics; "
        f"{_judged(bench, path)[0]}"
    )


def check_no_truth(bench: Bench) -> str:
    """Files without truth are predicted all the same; that training refuses them is line 8."""
    branches = read_events(small_data(bench), *REAL)
    said, columns = _judged(bench, write_events(bench.folder / "damaged" / "real.root", branches))
    true = [name for name in columns if name.startswith("true_") or name.endswith("_vtx")]
    wrong = [name for name in true if not np.isnan(columns[name]).all()]
    assert len(true) >= LEAST, f"only {', '.join(true)} among {', '.join(columns)}"
    assert not wrong, f"truths where there are none: {wrong}"
    return f"{said}; its {len(true)} columns of truths are NaN throughout"


def _judged(bench: Bench, path: Path) -> tuple[str, Branches]:
    """Results of prediction and of inference, which are finite for every event."""
    best, count = small_checkpoint(bench), len(read_events(path, "event")["event"])
    table, out = path.with_suffix(".npz"), path.with_name(f"{path.stem}_infer.root")
    for old in (table, out):
        old.unlink(missing_ok=True)
    words = [f"--data.predict={path}", f"--predictions.out={table}"]
    bench.sciml("predict", "--ckpt_path", best, *words)
    with np.load(table) as file:
        predicted = _finite("predict", dict(file), count)
    bench.sciml("xec", "infer", path, "--ckpt", best, "--out", out)
    columns = read_events(out, tree="val_tree")
    inferred = _finite("infer", columns, count)
    return f"{predicted} columns of predict, {inferred} of infer finite, {count} events", columns


def _finite(verb: str, columns: Branches, count: int) -> int:
    """Number of columns of results, all finite and of so many events."""
    results = [name for name in columns if name.startswith(("pred_", "sig_"))]
    assert len(results) >= LEAST, f"{verb} gives only {', '.join(columns)}"
    short = [name for name in results if len(columns[name]) != count]
    assert not short, f"{verb} gives {len(columns[short[0]])} of {count} events"
    wrong = [name for name in results if not np.isfinite(columns[name]).all()]
    assert not wrong, f"{verb} gives numbers that are not finite: {wrong}"
    return len(results)
