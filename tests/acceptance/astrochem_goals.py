"""Accuracy of astrochem: the trained models beside their rivals, with the same budget.

Every model is trained on one thread, autoencoder and emulator together in at most `BUDGET` CPU
seconds, and judged with its last weights on whole tracers it has never seen.
"""

import csv
import os
import shutil
from pathlib import Path

import numpy as np
import torch
from astrochem_small import logger, worst_total
from engine import REPOSITORY, Bench, cpu_seconds
from numpy.typing import NDArray

from sciml.astrochem import AstroEmulator
from sciml.astrochem.apply.training import training_of
from sciml.astrochem.data.files import read_table
from sciml.astrochem.data.table import TracerTable
from sciml.astrochem.metrics import paired_bootstrap, separation

SHARED = Path(os.environ.get("SCIML_SHARED", REPOSITORY.parent / "shared")) / "data" / "astrochem"
SETS = {
    "embedded": (["embedded_train.h5"], "embedded_train.h5", "train"),
    "uclchem": (["uclchem_grav.h5", "uclchem_extra.h5"], "uclchem_grav.h5", "val"),
}  # files to train on, file and group to judge on
BUDGET = 900  # CPU seconds
STAGES = ("autoencoder", "flowmap")
REFERENCE = ("reference_ae", "reference_emulator")
HALF = "00:00:04:00"  # each stage of the reference, more than ours take: days, hours, minutes, s
FAMILIES = ("collapse", "turbulent", "hotcore", "shock", "static")
RIVALS = ("knn", "dmd", "mean", "persistence")


def check_embedded(bench: Bench, seed: int) -> str:
    """Default models on the set of the embedded network: accuracy, stability, totals and cost.

    ``unstable`` counts a tracer that misses a species by 3 dex at any one step, such as the first
    ice in a cloud of atoms; it is reported. A tracer diverges if it does not come back.
    """
    spent = train(bench, "embedded", seed)
    checkpoint = model(bench, "embedded", seed)
    found = metrics_of_test(bench, checkpoint)
    emulator, unseen = _with_unseen(checkpoint)
    worst, lost = _worst_total(emulator, unseen), _diverged(emulator, unseen)
    rivals = ", ".join(f"{name} {found[f'test/{name}_mae_dex']:.2f}" for name in RIVALS)
    dex, twofold = found["test/rollout_mae_dex"], found["test/rollout_frac_2x"]
    unstable, coded = found["test/rollout_unstable"], found["test/reconstruction_mae_dex"]
    text = (
        f"mae_dex {dex:.4f} (autoencoder {coded:.4f}), within a factor of two "
        f"{100 * twofold:.1f} %, diverged {lost}, unstable {unstable:.3f}, totals within "
        f"{worst:.1e}; {rivals}; {spent:.0f} CPU-s"
    )
    assert dex <= 0.09, text
    assert coded <= 0.03, text
    assert worst <= 1e-6, text
    assert twofold >= 0.95, text
    assert lost == 0, text
    assert found["test/rollout_nonfinite"] == 0, text
    assert spent <= BUDGET, text
    return text


def check_reference(bench: Bench, name: str) -> str:
    """The original recipe with the same budget, with its best weights: reported, no limit."""
    spent = train_reference(bench, name)
    own = judged(bench, name, reference(bench, name))["metrics"]
    dex = own["emulator"]["mae_dex"]
    return (
        f"mae_dex {dex:.3f} (autoencoder {own['reconstruction']['mae_dex']:.3f}), within a factor "
        f"of two {100 * own['emulator']['frac_2x']:.0f} %; {spent:.0f} CPU-s"
    )


def check_uclchem(bench: Bench, seed: int) -> str:
    """Default models on the 333-species set, ahead of its rivals on every redrawing of tracers.

    The limit of 0.23 dex is that of the issue; 0.18 is its goal.
    """
    spent = train(bench, "uclchem", seed)
    found = judged(bench, "uclchem", model(bench, "uclchem", seed))
    own, knn = found["metrics"]["emulator"], found["mae_dex_minus_baseline"]["knn"]
    if not reference(bench, "uclchem").exists():
        train_reference(bench, "uclchem")
    if not errors_of(bench, reference(bench, "uclchem")):
        judged(bench, "uclchem", reference(bench, "uclchem"))
    ours = errors_of(bench, model(bench, "uclchem", seed))
    other = errors_of(bench, reference(bench, "uclchem"))
    assert ours.keys() == other.keys()
    pairs = np.array([(ours[tracer], other[tracer]) for tracer in sorted(ours)])
    gap = paired_bootstrap(pairs[:, 0], pairs[:, 1])
    rivals = {model: round(values["mae_dex"], 2) for model, values in found["metrics"].items()}
    text = (
        f"mae_dex {own['mae_dex']:.3f} (goal 0.18, x > 1e-12: {own['mae_dex_major']:.3f}), within "
        f"a factor of two {100 * own['frac_2x']:.0f} %, last step {own['last_step_dex']:.2f}, "
        f"unstable {own['unstable']:.2f}; minus"
        f" knn {knn['mean']:.2f} [{knn['low']:.2f}, {knn['high']:.2f}], minus reference "
        f"{gap.mean:.2f} [{gap.low:.2f}, {gap.high:.2f}]; {rivals}; {spent:.0f} CPU-s"
    )
    assert own["mae_dex"] <= 0.23, text
    assert own["nonfinite"] == 0, text
    assert knn["high"] < 0, text
    assert gap.high < 0, text
    assert spent <= BUDGET, text
    return text


def check_long(bench: Bench) -> str:
    """Rollouts three times as long as the training tracers, finite and in their family.

    The supplied set ends at lower densities than the family `grav` may reach, so the limit is on a
    model trained on a set of the same generator; that of the supplied set is reported, once over
    all tracers and once over those within its ranges.
    """
    data = generated(bench, "grav", tracers=12, steps=298)
    own = _judge_long(bench, trained_on_own(bench), data, "own")
    supplied = _judge_long(bench, trained(bench), data, "supplied")
    found = own["all"]
    text = (
        f"trained on the same family: mae_dex {found['mae_dex']:.3f}, last step "
        f"{found['last_step_dex']:.3f}, knn {own['knn']['mae_dex']:.2f}; trained on the supplied "
        f"set: {supplied['all']['mae_dex']:.3f}, {supplied['inside']['mae_dex']:.3f} over the "
        f"{supplied['inside']['tracers']:.0f} of 12 within its ranges; 298 steps"
    )
    assert found["nonfinite"] == supplied["all"]["nonfinite"] == 0, text
    assert found["mae_dex"] <= 0.25, text
    return text


def trained_on_own(bench: Bench) -> Path:
    """The default model trained on a generated set of 120 tracers of 100 steps."""
    path = bench.folder / "own" / STAGES[-1] / "checkpoints" / "last.ckpt"
    if not path.exists():
        data = generated(bench, "grav", tracers=120, steps=100, seed=78)
        _train(bench, path.parents[2], "embedded", [f"--data.path={data}"])
    return path


def _judge_long(
    bench: Bench, checkpoint: Path, data: Path, name: str
) -> dict[str, dict[str, float]]:
    out = bench.folder / f"evaluate_long_{name}"
    shutil.rmtree(out, ignore_errors=True)
    bench.sciml(
        "astrochem", "evaluate", checkpoint, "--data", data, "--out", out, "--speed", "false",
        "--baselines", "persistence,knn",
    )  # fmt: skip
    metrics = bench.json(out / "summary.json")["groups"]["grav"]["metrics"]
    with (out / "grav_tracers.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if float(row["outside"]) == 0]
    inside = float(np.mean([float(row["mae_dex"]) for row in rows]))
    return {
        "all": metrics["emulator"],
        "knn": metrics["knn"],
        "inside": {"mae_dex": inside, "tracers": float(len(rows))},
    }


def check_extrapolation(bench: Bench) -> str:
    """Other families are told apart from unseen tracers of the training family, and stay sane."""
    emulator, unseen = _with_unseen(trained(bench))
    inside = _scores(emulator, unseen)
    text, wrong = [], []
    for family in FAMILIES:
        table = read_table(generated(bench, family, tracers=8, steps=100))[family]
        area = separation(inside, _scores(emulator, table))
        worst = _worst_total(emulator, table)
        text.append(f"{family} {area:.2f} ({_error(emulator, table):.2f} dex)")
        wrong += [f"{family} AUROC {area:.2f}"] if area < 0.9 else []
        wrong += [f"{family} totals off by {worst:.1e}"] if not worst <= 1e-6 else []
    assert not wrong, f"{'; '.join(wrong)} ({', '.join(text)})"
    return f"AUROC {', '.join(text)}; outputs finite, positive, element totals within 1e-6"


def train(bench: Bench, name: str, seed: int) -> float:
    """Both stages of the default models, from the beginning.

    Returns:
        CPU seconds of both.
    """
    folder = bench.folder / f"{name}_{seed}"
    return _train(bench, folder, name, [f"--seed_everything={seed}", f"--data.seed={seed}"])


def _train(bench: Bench, folder: Path, name: str, given: list[str]) -> float:
    shutil.rmtree(folder, ignore_errors=True)
    begin = cpu_seconds()
    flags: list[str] = []
    for stage in STAGES:
        _fit(bench, folder, name, stage, [*given, *flags])
        flags = [f"--model.autoencoder={folder / stage / 'checkpoints' / 'last.ckpt'}"]
    return cpu_seconds() - begin


def train_reference(bench: Bench, name: str) -> float:
    """Both stages of the original recipe within the same time.

    Returns:
        CPU seconds of both.
    """
    folder = bench.folder / f"{name}_reference"
    shutil.rmtree(folder, ignore_errors=True)
    begin = cpu_seconds()
    flags: list[str] = []
    for stage in REFERENCE:
        limit = [f"--trainer.max_time={HALF}", "--seed_everything=0"]
        _fit(bench, folder, name, stage, [*limit, *flags])
        flags = [f"--model.autoencoder={folder / stage / 'checkpoints' / 'best.ckpt'}"]
    return cpu_seconds() - begin


def model(bench: Bench, name: str, seed: int) -> Path:
    """Last weights of a default model."""
    return bench.folder / f"{name}_{seed}" / STAGES[-1] / "checkpoints" / "last.ckpt"


def reference(bench: Bench, name: str) -> Path:
    """Best weights of the original recipe."""
    return bench.folder / f"{name}_reference" / REFERENCE[-1] / "checkpoints" / "best.ckpt"


def trained(bench: Bench) -> Path:
    """The default model of the embedded network; trained if it is not there."""
    path = model(bench, "embedded", 0)
    if not path.exists():
        train(bench, "embedded", 0)
    return path


def metrics_of_test(bench: Bench, checkpoint: Path) -> dict[str, float]:
    """Metrics of ``sciml test``."""
    folder = checkpoint.parents[1]
    bench.sciml("test", "--ckpt_path", checkpoint, *logger(folder, "test_run"))
    found: dict[str, float] = bench.json(folder / "test_run" / "test" / "summary.json")["metrics"]
    return found


def judged(bench: Bench, name: str, checkpoint: Path) -> dict[str, dict[str, dict[str, float]]]:
    """What ``sciml astrochem evaluate`` says of the tracers that were not trained on."""
    _, file, group = SETS[name]
    out = checkpoint.parents[1] / "evaluate"
    shutil.rmtree(out, ignore_errors=True)
    bench.sciml(
        "astrochem", "evaluate", checkpoint, "--data", SHARED / file, "--groups", group,
        "--out", out, "--speed", "false",
    )  # fmt: skip
    groups: dict[str, dict[str, dict[str, dict[str, float]]]]
    groups = bench.json(out / "summary.json")["groups"]
    return groups[group]


def errors_of(bench: Bench, checkpoint: Path) -> dict[int, float]:
    """mae_dex of every tracer that `judged` wrote, empty before that."""
    files = list((checkpoint.parents[1] / "evaluate").glob("*_tracers.csv"))
    if not files:
        return {}
    with files[0].open() as file:
        return {int(row["tracer"]): float(row["mae_dex"]) for row in csv.DictReader(file)}


def generated(bench: Bench, family: str, tracers: int, steps: int, seed: int = 77) -> Path:
    """Tracers of a family; made once."""
    path = bench.folder / f"{family}_{steps}_{seed}.h5"
    if not path.exists():
        bench.sciml(
            "astrochem", "generate", "--out", path, "--family", family, "--seed", str(seed),
            "--tracers", str(tracers), "--steps", str(steps),
        )  # fmt: skip
    return path


def _fit(bench: Bench, folder: Path, name: str, stage: str, flags: list[str]) -> None:
    paths = [SHARED / file for file in SETS[name][0]]
    for path in paths:
        assert path.exists(), f"{path} is not there"
    bench.sciml(
        "fit", "-c", "configs/trainer/cpu.yaml", "-c", f"configs/astrochem/{stage}.yaml",
        f"--data.path=[{','.join(map(str, paths))}]",
        f"--data.store.artefacts={bench.folder / 'artefacts'}",
        "--trainer.enable_progress_bar=false", *logger(folder, stage), *flags,
    )  # fmt: skip


def _with_unseen(checkpoint: Path) -> tuple[AstroEmulator, TracerTable]:
    """An emulator and the validation tracers of its set, on one thread."""
    torch.set_num_threads(1)
    os.chdir(REPOSITORY)
    emulator = AstroEmulator.from_checkpoint(checkpoint)
    training = training_of(checkpoint, emulator)
    assert training is not None
    assert training.validation is not None
    return emulator, training.validation


def _scores(emulator: AstroEmulator, table: TracerTable) -> NDArray[np.float32]:
    """Extrapolation score of every tracer; all have the same length."""
    physics, abundances = _histories(table)
    return emulator.extrapolation_score(physics[:, :-1], abundances[:, 0]).score


def _error(emulator: AstroEmulator, table: TracerTable) -> float:
    """Mean absolute error in dex over whole histories."""
    physics, abundances = _histories(table)
    found = emulator.emulate(physics[:, :-1], abundances[:, 0])
    ratio = np.log10(np.clip(found, 1e-20, 1)) - np.log10(np.clip(abundances[:, 1:], 1e-20, 1))
    return float(np.abs(ratio).mean())


def _diverged(emulator: AstroEmulator, table: TracerTable) -> int:
    """Tracers that are over 3 dex off in a species above 1e-10 at their last step."""
    physics, abundances = _histories(table)
    found, true = emulator.emulate(physics[:, :-1], abundances[:, 0])[:, -1], abundances[:, -1]
    off = np.abs(np.log10(np.maximum(found, 1e-20)) - np.log10(np.maximum(true, 1e-20)))
    return int(((off > 3) & (true > 1e-10)).any(1).sum())


def _worst_total(emulator: AstroEmulator, table: TracerTable) -> float:
    """Largest relative error of an element's total over whole histories."""
    physics, abundances = _histories(table)
    found = emulator.emulate(physics[:, :-1], abundances[:, 0])
    return worst_total(emulator, abundances[:, :1], found) if found.min() > 0 else float("inf")


def _histories(table: TracerTable) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    rows = table.ptr[:, 1, None] + np.arange(table.ptr[0, 2])
    return table.physics[rows], table.abundances[rows]
