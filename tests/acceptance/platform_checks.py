"""The checks every domain has to pass, on a small run of its own."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from engine import REPOSITORY, Bench, Check, environment
from torch import Tensor

PROGRAMS = ("onnx", "aoti")
STATE = ("state_dict", "raw_state", "ema", "optimizer_states", "lr_schedulers")


@dataclass
class Case:
    """A small run of a domain.

    Args:
        fit: Flags of a run of two epochs and about ten steps with an odd test set, given the
            scratch folder; makes the data when they are missing.
        metric: Monitored metric of the run.
        verbs: Verbs of the domain that the help has to list.
        wrong: Commands that must be refused, with a word the sentence has to hold.
        parts: Parts of the network to export.
    """

    fit: Callable[[Bench], list[str]]
    metric: str
    verbs: list[str]
    wrong: Callable[[Bench], dict[str, tuple[list[str], str]]]
    parts: list[str]


def platform_checks(case: Case) -> dict[str, Check]:
    """The acceptance list of the platform for one domain.

    Args:
        case: The domain's small run.
    """
    return {
        "1 help under 5 s, lists all verbs": lambda b: check_help(b, case),
        "2 validate reproduces the stored metric": lambda b: check_validate(b, case),
        "3 typed learning rate wins over the checkpoint": lambda b: check_typed(b, case),
        "4 exact resume, 0 workers": lambda b: check_resume(b, case, workers=0),
        "4 exact resume, 2 workers": lambda b: check_resume(b, case, workers=2),
        "4 exact resume, 2 processes": lambda b: check_resume(b, case, workers=0, processes=2),
        "5 SIGUSR1 in training": lambda b: check_signal(b, case, "training"),
        "5 SIGUSR1 in validation": lambda b: check_signal(b, case, "validating"),
        "6 averaging leaves index buffers alone": lambda b: check_buffers(b, case),
        "7 one and two processes agree": lambda b: check_processes(b, case),
        "8 errors in one line": lambda b: check_errors(b, case),
        "9 checkpoints open safely": lambda b: check_checkpoints(b, case),
        "10 export agrees at three sizes": lambda b: check_export(b, case),
        "11 rules, types, style": check_rules,
    }


def check_help(bench: Bench, case: Case) -> str:
    """Start-up time and completeness of the help."""
    times = []
    for _ in range(3):
        start = time.perf_counter()
        text = bench.sciml("--help").stdout
        times.append(time.perf_counter() - start)
    missing = [
        verb for verb in ["fit", "validate", "test", "predict", *case.verbs] if verb not in text
    ]
    assert not missing, f"not in the help: {missing}"
    assert min(times) < 5, f"{min(times):.1f} s"
    return f"{min(times):.1f} s (best of 3)"


def base_run(bench: Bench, case: Case, workers: int = 0, processes: int = 1) -> Path:
    """The uninterrupted run with a checkpoint after every step; made once.

    Returns:
        Folder of its checkpoints.
    """
    name = f"base_{workers}_{processes}"
    folder = bench.folder / name / "checkpoints"
    if not (folder / "finished").exists():
        fit(bench, case, name, workers, processes)
        (folder / "finished").touch()
    return folder


def fit(
    bench: Bench, case: Case, name: str, workers: int, processes: int, *more: str, **kwargs: Any
) -> Path:
    """One training run in a folder of its own.

    Returns:
        Folder of its checkpoints.
    """
    flags = run_flags(bench, case, name, workers, processes)
    bench.sciml("fit", *flags, *more, **kwargs)
    return bench.folder / name / "checkpoints"


def run_flags(bench: Bench, case: Case, name: str, workers: int, processes: int) -> list[str]:
    """Flags of a run that keeps the checkpoint of every step."""
    folder = bench.folder / name
    folder.mkdir(parents=True, exist_ok=True)
    overlay = folder / "overlay.yaml"
    callbacks = [
        {
            "class_path": "ModelCheckpoint",
            "init_args": {
                "dirpath": str(folder / "checkpoints"),
                "filename": "{step}",
                "monitor": None,  # what the experiment monitors would be kept: lists are merged
                "every_n_train_steps": 1,
                "save_top_k": -1,
                "save_last": True,
            },
        },
        {
            "class_path": "ModelCheckpoint",
            "init_args": {
                "dirpath": str(folder / "checkpoints"),
                "filename": "best",
                "monitor": case.metric,
                "enable_version_counter": False,
            },
        },
    ]
    trainer = {
        "callbacks": callbacks,
        "logger": {
            "class_path": "CSVLogger",
            "init_args": {"save_dir": str(folder), "name": "csv", "version": "run"},
        },
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "log_every_n_steps": 1,
    }
    overlay.write_text(yaml.safe_dump({"trainer": trainer}))
    flags = [*case.fit(bench), "-c", str(overlay), f"--data.num_workers={workers}"]
    if processes > 1:
        flags += ["--trainer.strategy=ddp", f"--trainer.devices={processes}"]
    return flags


def state(path: Path) -> dict[str, Any]:
    """What a resumed run has to reproduce to the last bit."""
    content = torch.load(path, weights_only=True)
    return {key: content[key] for key in STATE if key in content}


def same(left: Any, right: Any) -> bool:
    """Whether two nested states are equal to the last bit."""
    if isinstance(left, Tensor):
        return bool(torch.equal(left, right))
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    if isinstance(left, list | tuple):
        return len(left) == len(right) and all(same(a, b) for a, b in zip(left, right, strict=True))
    return bool(left == right)


def metrics_of(folder: Path) -> dict[str, float]:
    """The last value of every column a CSV logger wrote."""
    values: dict[str, float] = {}
    with (folder / "metrics.csv").open() as file:
        for row in csv.DictReader(file):
            values |= {key: float(value) for key, value in row.items() if value}
    return values


def check_validate(bench: Bench, case: Case) -> str:
    """A checkpoint alone gives its own validation metric again."""
    best = base_run(bench, case) / "best.ckpt"
    content = torch.load(best, weights_only=True)
    states = [s for s in content["callbacks"].values() if s.get("monitor") == case.metric]
    stored = float(states[0]["current_score"])
    out = bench.folder / "validate"
    logger = ["--trainer.logger=CSVLogger", f"--trainer.logger.save_dir={out}"]
    logger += ["--trainer.logger.name=csv", "--trainer.logger.version=run"]
    bench.sciml("validate", "--ckpt_path", best, *logger)
    found = metrics_of(out / "csv" / "run")[case.metric]
    bench.sciml("test", "--ckpt_path", best, *logger)
    assert abs(found - stored) <= 1e-6 * max(abs(stored), 1), f"{found} against {stored}"
    return f"{case.metric} {found:.8f}, stored {stored:.8f}; test runs from the checkpoint alone"


def check_typed(bench: Bench, case: Case) -> str:
    """A learning rate on the command line beats the one in the checkpoint."""
    start = checkpoints(base_run(bench, case))[2]
    folder = fit(
        bench, case, "typed", 0, 1, "--ckpt_path", str(start), "--model.optim.lr=1e-5",
        "--model.optim.schedule=constant", "--model.optim.warmup=0",
    )  # fmt: skip
    content = torch.load(folder / "last.ckpt", weights_only=True)
    optimizer = content["optimizer_states"][0]
    parts = optimizer.get("parts", [optimizer])  # muon has two
    rates = {group["lr"] for part in parts for group in part["param_groups"]}
    assert rates == {1e-5}, f"learning rates {rates}"
    assert content["hyper_parameters"]["optim"]["lr"] == 1e-5
    return "optimizer and hyper-parameters hold 1e-5"


def checkpoints(folder: Path) -> list[Path]:
    """Checkpoints of single steps in order."""
    found = [path for path in folder.glob("step=*.ckpt") if path.stem.split("=")[1].isdigit()]
    return sorted(found, key=lambda path: int(path.stem.split("=")[1]))


def check_resume(bench: Bench, case: Case, workers: int, processes: int = 1) -> str:
    """Resuming from every checkpoint ends in the same bits."""
    folder = base_run(bench, case, workers, processes)
    expected = state(folder / "last.ckpt")
    starts = [*checkpoints(folder)[:-1], folder / "best.ckpt"]
    wrong = []
    for start in starts:
        name = f"resume_{workers}_{processes}"
        resumed = fit(bench, case, name, workers, processes, f"--ckpt_path={start}")
        if not same(expected, state(resumed / "last.ckpt")):
            wrong.append(start.stem)
    assert not wrong, f"differs after {wrong}"
    return f"bit-identical from each of {len(starts)} checkpoints"


def check_signal(bench: Bench, case: Case, when: str) -> str:
    """A signal saves, requeues once and exits with 0; the next start ends in the same bits."""
    expected = base_run(bench, case)
    name = f"signal_{when}"
    folder = bench.folder / name
    for old in [
        *folder.glob("checkpoints/*.ckpt"),
        *folder.glob("marks/*"),
        *folder.glob("scontrol*"),
    ]:
        old.unlink()
    flags = run_flags(bench, case, name, 0, 1)
    overlay = Path(flags[flags.index(str(folder / "overlay.yaml"))])
    settings = yaml.safe_load(overlay.read_text())
    quiet = json.loads(json.dumps(settings))
    announce = {"folder": str(folder / "marks"), "batch": 2, "epoch": 0}
    settings["trainer"]["callbacks"].append(
        {"class_path": "announce.Announce", "init_args": announce}
    )
    overlay.write_text(yaml.safe_dump(settings))
    calls = fake_scontrol(folder)
    env = environment({"PATH": f"{folder}:{os.environ['PATH']}", "SLURM_JOB_ID": "4711"})
    env["SLURM_JOB_NAME"] = "interactive"  # Lightning then leaves SLURM's own launch alone
    words = [sys.executable, "-m", "sciml", "fit", *flags]
    bench.commands.append("sciml fit … and SIGUSR1 while " + when)
    process = subprocess.Popen(words, cwd=REPOSITORY, env=env, text=True, stderr=subprocess.PIPE)
    wait_for(folder / "marks" / when, process)
    process.send_signal(signal.SIGUSR1)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, f"exit {process.returncode}: {errors[-500:]}"
    assert calls.read_text().splitlines() == ["requeue 4711"], calls.read_text()
    last = folder / "checkpoints" / "last.ckpt"
    step = torch.load(last, weights_only=True)["global_step"]
    overlay.write_text(yaml.safe_dump(quiet))
    bench.sciml("fit", *flags, f"--ckpt_path={last}")
    assert same(state(expected / "last.ckpt"), state(last)), "resumed run differs"
    assert same(state(expected / "best.ckpt"), state(folder / "checkpoints" / "best.ckpt"))
    return f"saved at step {step}, requeued once, resumed bit-identical, best checkpoint too"


def fake_scontrol(folder: Path) -> Path:
    """A ``scontrol`` that writes down what it was asked.

    Returns:
        File of the calls.
    """
    calls = folder / "scontrol.calls"
    script = folder / "scontrol"
    script.write_text(f'#!/bin/sh\necho "$@" >> "{calls}"\n')
    script.chmod(0o755)
    return calls


def wait_for(mark: Path, process: subprocess.Popen[str], seconds: float = 120) -> None:
    """Wait until a file appears while a process lives."""
    end = time.monotonic() + seconds
    while not mark.exists():
        assert process.poll() is None, "the run ended before the signal could be sent"
        assert time.monotonic() < end, f"{mark.name} did not come within {seconds} s"
        time.sleep(0.05)


def check_buffers(bench: Bench, case: Case) -> str:
    """A thousand averaged steps leave every integer and boolean buffer as it is."""
    from sciml.cli import main
    from sciml.core.checkpoint import load

    torch.set_num_threads(1)
    os.chdir(REPOSITORY)
    flags = run_flags(bench, case, "long", 0, 1)
    more = ["--ema.decay=0.9999", "--trainer.max_steps=1000", "--trainer.max_epochs=-1"]
    bench.commands.append("sciml fit … " + " ".join(more))
    cli = main(["fit", *flags, *more, "--trainer.limit_val_batches=0"])
    live = dict(cli.model.named_buffers())  # the average is in place when training has ended
    fresh = dict(load(base_run(bench, case) / "last.ckpt").named_buffers())
    names = [name for name, value in fresh.items() if not value.is_floating_point()]
    wrong = [name for name in names if not torch.equal(fresh[name], live[name])]
    assert names, "the task has no integer buffers"
    assert not wrong, f"changed: {wrong}"
    shutil.rmtree(bench.folder / "long")
    return f"{len(names)} integer buffers unchanged after 1000 steps at decay 0.9999"


def check_processes(bench: Bench, case: Case) -> str:
    """Test metrics do not depend on the number of processes."""
    best = base_run(bench, case) / "best.ckpt"
    found = []
    for processes in (1, 2):
        out = bench.folder / f"processes_{processes}"
        flags = ["--trainer.logger=CSVLogger", f"--trainer.logger.save_dir={out}"]
        flags += ["--trainer.logger.name=csv", "--trainer.logger.version=run"]
        if processes > 1:
            flags += ["--trainer.strategy=ddp", f"--trainer.devices={processes}"]
        bench.sciml("test", "--ckpt_path", best, "--trainer.accelerator=cpu", *flags)
        found.append(metrics_of(out / "csv" / "run"))
    one, two = found
    names = [n for n in one if n.startswith("test/") and "milliseconds" not in n]
    worst = max(names, key=lambda n: abs(one[n] - two[n]) / max(abs(one[n]), 1e-12))
    gap = abs(one[worst] - two[worst]) / max(abs(one[worst]), 1e-12)
    assert gap <= 1e-6, f"{worst}: {one[worst]} against {two[worst]}"
    return f"{len(names)} test metrics, largest relative difference {gap:.1e}"


def check_errors(bench: Bench, case: Case) -> str:
    """Every wrong command gives one sentence, exit code 2 and no traceback."""
    wrong = case.wrong(bench)
    bad = []
    for name, (words, needed) in wrong.items():
        done = bench.sciml(*words, expect=None)
        lines = [line for line in done.stderr.splitlines() if line.startswith("sciml: ")]
        clean = "Traceback" not in done.stderr and len(lines) == 1
        if done.returncode != 2 or not clean or needed not in lines[0]:
            bad.append(f"{name} ({done.returncode}): {done.stderr[-300:]}")
    assert not bad, "; ".join(bad)
    return f"{len(wrong)} kinds of bad input, each one sentence and exit code 2"


def check_checkpoints(bench: Bench, case: Case) -> str:
    """Every checkpoint opens without code; one that names a foreign class is refused."""
    folder = base_run(bench, case)
    files = [*checkpoints(folder), folder / "best.ckpt", folder / "last.ckpt"]
    for path in files:
        content = torch.load(path, weights_only=True)
    content["hyper_parameters"]["_class_path"] = "os.path.Foreign"
    foreign = bench.folder / "foreign.ckpt"
    torch.save(content, foreign)
    done = bench.sciml("test", "--ckpt_path", foreign, expect=2)
    assert "not part of sciml" in done.stderr, done.stderr
    return f"{len(files)} checkpoints open with weights_only=True; a foreign class is refused"


def check_export(bench: Bench, case: Case) -> str:
    """Every part as every kind of program says what the network says, at three sizes."""
    best = base_run(bench, case) / "best.ckpt"
    folder = bench.folder / "programs"
    shutil.rmtree(folder, ignore_errors=True)
    worst = []
    for part in case.parts:
        for kind in PROGRAMS:
            out = folder / f"{part}_{kind}{'.onnx' if kind == 'onnx' else '.pt2'}"
            bench.sciml("export", best, "--out", out, "--format", kind, "--what", part)
            found = bench.json(out.with_name(f"{out.name}.json"))
            assert len(found["errors"]) == 3, found["errors"]
            error = max(value for size in found["errors"].values() for value in size.values())
            assert error <= found["tolerance"], f"{part} as {kind} is off by {error:.1e}"
            worst.append(f"{part} {kind} {error:.0e}")
    shutil.rmtree(folder)
    return "largest relative error: " + ", ".join(worst)


def pytest_lines(*words: str) -> Check:
    """A check that runs tests.

    Args:
        words: Files of tests, and flags of pytest.
    """

    def check(bench: Bench) -> str:
        out = bench.run(sys.executable, "-m", "pytest", "-q", *words)
        return out.strip().splitlines()[-1]

    return check


def check_rules(bench: Bench) -> str:
    """Imports between rooms, lint and types."""
    python = sys.executable
    bench.run(python, "-m", "pytest", "-q", "tests/style")
    bench.run(python, "-m", "ruff", "check", ".")
    bench.run(python, "-m", "mypy")
    return "style tests, ruff and mypy strict pass"
