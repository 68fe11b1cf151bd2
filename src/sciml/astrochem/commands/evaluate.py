"""``sciml astrochem evaluate``: full rollouts of an emulator beside all baselines."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from numpy.typing import NDArray

from sciml.astrochem.apply.emulator import AstroEmulator
from sciml.astrochem.apply.evaluation import EMULATOR, Judgement, judge
from sciml.astrochem.apply.reading import read_tracers
from sciml.astrochem.apply.speed import measure_speed, solver_seconds
from sciml.astrochem.apply.training import (
    Training,
    fit_baselines,
    training_from,
    training_of,
    unseen,
)
from sciml.astrochem.data.files import READING
from sciml.astrochem.data.source import Reading
from sciml.astrochem.data.table import TracerTable
from sciml.astrochem.metrics.comparison import paired_bootstrap, separation
from sciml.astrochem.report import (
    Track,
    comparison_table,
    species_figure,
    species_table,
    step_figure,
    step_table,
    tracer_table,
    track_figure,
)
from sciml.core.files import refuse_existing, whole_folder, write_json, write_text
from sciml.core.report import house_style, metric_table, show


def evaluate(
    ckpt: Path,
    *,
    data: Path,
    groups: str | None = None,
    baselines: str = "persistence,mean,knn,dmd",
    train: Path | None = None,
    out: Path | None = None,
    speed: bool = True,
    seed: int = 0,
    reading: Reading = READING,
) -> dict[str, Any]:
    """Roll out whole tracers from their first rows and compare with baselines.

    Tracers that the emulator or the baselines were trained on are left out. Baselines are fitted on
    the training tracers of the checkpoint's own data settings.

    Args:
        ckpt: Checkpoint of an emulator.
        data: File of tracers to judge it on, of any known layout.
        groups: Groups of the file, separated by commas; all by default.
        baselines: Which ones, separated by commas: persistence, mean, knn (conditions alone), dmd.
        train: File whose tracers the baselines are fitted on, instead of the checkpoint's settings.
        out: Folder for tables and figures; it must not exist. By default nothing is written.
        speed: Time the emulator, and the solver where it is known.
        seed: Seed of the bootstrap.
        reading: How files are read; what has its default is as it was for training.

    Returns:
        All numbers, also printed: of ``groups`` by their names, and of ``speed``.
    """
    if out is not None:
        refuse_existing(out)
    emulator = AstroEmulator.from_checkpoint(ckpt)
    own, training = _training(ckpt, emulator, train, reading)
    limits = emulator.task.scaler.range()
    rivals = fit_baselines(_names(baselines), training, limits)
    chosen = None if groups is None else _names(groups)
    read = read_tracers(data, ckpt, emulator, reading=reading, groups=chosen)
    known = [one.tracers for one in (own, training) if one is not None]
    tables = _unseen(read, known, data)
    found = {name: judge(emulator, table, rivals, name) for name, table in tables.items()}
    inside, reference = _inside(emulator, own, found)
    results = {name: _summary(one, inside, list(rivals), seed) for name, one in found.items()}
    for name, one in found.items():
        title = f"{name}: {len(one.places)} tracers, {one.steps} steps"
        show(comparison_table(title, one.metrics))
    show(_difference_table(results))
    show(_extrapolation_table(results, reference))
    summary: dict[str, Any] = {"groups": results}
    if speed:
        summary["speed"] = _show_speed(emulator, next(iter(tables.values())))
    if out is not None:
        with whole_folder(out) as folder:
            write_json(folder / "summary.json", summary)
            for name, one in found.items():
                _write(folder, emulator, tables[name], one)
        print(f"tables and figures in {out}")
    return summary


def _names(words: str) -> list[str]:
    return [word.strip() for word in words.split(",") if word.strip()]


def _training(
    ckpt: Path, emulator: AstroEmulator, train: Path | None, reading: Reading
) -> tuple[Training | None, Training | None]:
    """What the emulator was trained on, and what the baselines learn from."""
    if train is None:
        own = training_of(ckpt, emulator)
        return own, own
    given = training_from(train, ckpt, emulator, reading)
    try:
        return training_of(ckpt, emulator), given
    except FileNotFoundError as error:
        lost = str(error).partition(";")[0]
        print(f"{lost}; the emulator's own training tracers cannot be left out")
        return None, given


def _unseen(
    read: Mapping[str, TracerTable], known: Sequence[TracerTable], data: Path
) -> dict[str, TracerTable]:
    """The tracers of every group that nothing was trained on."""
    tables = {}
    for name, table in read.items():
        new = unseen(table, known)
        if len(new.ptr) < len(table.ptr):
            print(
                f"{name}: {len(table.ptr) - len(new.ptr)} of {len(table.ptr)} tracers are left "
                "out, the emulator or the baselines were trained on them"
            )
        if len(new.ptr):
            tables[name] = new
    if not tables:
        raise ValueError(f"all tracers of {data} were trained on; give --data others")
    return tables


def _inside(
    emulator: AstroEmulator, training: Training | None, found: Mapping[str, Judgement]
) -> tuple[NDArray[np.float64], str]:
    """Extrapolation scores of tracers of the training family, and what these are."""
    if training is not None and training.validation is not None:
        own = judge(emulator, training.validation, {}, "validation")
        return own.score, "the validation tracers of the checkpoint"
    first = next(iter(found.values()))
    return first.score, f"group {first.name}"


def _summary(
    one: Judgement, inside: NDArray[np.float64], rivals: Sequence[str], seed: int
) -> dict[str, Any]:
    own = one.each[EMULATOR]["mae_dex"]
    differences = {
        name: paired_bootstrap(own, one.each[name]["mae_dex"], seed=seed)._asdict()
        for name in rivals
    }
    return {
        "tracers": len(one.places),
        "steps": one.steps,
        "metrics": one.metrics,
        "mae_dex_minus_baseline": differences,
        "projection_fallbacks": one.fallbacks,
        "extrapolation": {
            "conditions_outside": float(one.outside.mean()),
            "distance": float(one.distance.mean()),
            "score": float(one.score.mean()),
            "auroc": separation(inside, one.score),
        },
    }


def _difference_table(summary: Mapping[str, Any]) -> Any:
    rivals = list(next(iter(summary.values()))["mae_dex_minus_baseline"])
    rows = {}
    for name, one in summary.items():
        intervals = one["mae_dex_minus_baseline"].values()
        rows[name] = [f"{i['mean']:+.3f} [{i['low']:+.3f}, {i['high']:+.3f}]" for i in intervals]
    title = "mae_dex minus that of the baseline, 95 % interval over tracers"
    return metric_table(title, rivals, rows, head="group")


def _extrapolation_table(summary: Mapping[str, Any], reference: str) -> Any:
    heads = ["outside", "distance", "score", "AUROC", "fall-backs"]
    rows = {}
    for name, one in summary.items():
        far = one["extrapolation"]
        cells = [f"{100 * far['conditions_outside']:.2f} %"]
        cells += [f"{far[key]:.3g}" for key in ("distance", "score", "auroc")]
        rows[name] = [*cells, str(one["projection_fallbacks"])]
    title = f"extrapolation; AUROC against {reference}"
    return metric_table(title, heads, rows, head="group")


def _show_speed(emulator: AstroEmulator, table: TracerTable) -> dict[str, Any]:
    speeds = measure_speed(emulator)
    solver = solver_seconds(emulator, table)
    rows = {
        f"{one.what}, {one.batch}": [
            f"{one.per_second:.3g}",
            f"{one.per_cpu_second:.3g}",
            "" if solver is None else f"{one.per_cpu_second * solver[0]:.3g}",
        ]
        for one in speeds
    }
    known = "" if solver is None else f"; solver {1e3 * solver[0]:.3g} CPU ms a step, {solver[1]}"
    title = f"speed, {torch.get_num_threads()} threads{known}"
    heads = ["cells/s", "cells/CPU s", "times the solver"]
    show(metric_table(title, heads, rows, head="call, cells"))
    return {
        "cells": [one._asdict() for one in speeds],
        "solver_cpu_seconds": None if solver is None else solver[0],
        "solver": None if solver is None else solver[1],
    }


def _write(out: Path, emulator: AstroEmulator, table: TracerTable, one: Judgement) -> None:
    columns = {key: values.tolist() for key, values in one.species.items()}
    write_text(out / f"{one.name}_species.csv", species_table(emulator.species, columns))
    curves = {model: np.nanmean(own, axis=0).tolist() for model, own in one.curves.items()}
    write_text(out / f"{one.name}_steps.csv", step_table(curves))
    far = {"outside": one.outside, "distance": one.distance, "score": one.score}
    every = {key: values.tolist() for key, values in (one.each[EMULATOR] | far).items()}
    write_text(
        out / f"{one.name}_tracers.csv", tracer_table(table.ptr[one.places, 0].tolist(), every)
    )
    with house_style():
        own = [name for name in one.curves if name != "unprojected"]
        drawn = {
            "steps": step_figure({name: one.curves[name] for name in own}),
            "species": species_figure(emulator.species, emulator.elements, one.species["mae_dex"]),
        }
        for title, track in _tracks(emulator, table, one).items():
            drawn[f"track_{title}"] = track_figure(track)
        for title, figure in drawn.items():
            figure.savefig(out / f"{one.name}_{title}.png")
            plt.close(figure)


def _tracks(emulator: AstroEmulator, table: TracerTable, one: Judgement) -> dict[str, Track]:
    """The best, the median and the worst tracer of a group."""
    error = one.each[EMULATOR]["mae_dex"]
    order = np.argsort(error)
    chosen = {"best": order[0], "median": order[len(order) // 2], "worst": order[-1]}
    tracks = {}
    for title, place in chosen.items():
        number, start, length = table.ptr[one.places[place]]
        rows = slice(start, start + length)
        physics, true = table.physics[rows], table.abundances[rows]
        dt = emulator.checked_dt(np.diff(table.time[rows]))
        tracks[title] = Track(
            title=f"tracer {number} of {one.name}, {title}: {error[place]:.3f} dex",
            time=table.time[rows],
            physics=physics.astype(np.float64),
            true=true.astype(np.float64),
            predicted=emulator.emulate(physics[:-1], true[0], dt).astype(np.float64),
            species=emulator.species,
        )
    return tracks
