"""Lines of astrochem about the generator, conservation, speed, memory and interruptions."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from astrochem_small import worst_total
from engine import REPOSITORY, Bench, environment
from numpy.typing import NDArray
from platform_checks import Case, base_run, pytest_lines

from sciml.astrochem import AstroEmulator
from sciml.astrochem.physics.constants import PHYSICS
from sciml.astrochem.physics.species import default_species, initial_abundances

FORMATS = {"float32": 1e-6, "float64": 1e-12}  # largest relative error of an element's total
LARGE = 6e9  # bytes
RESIDENT = 1.5 * 2**20  # KiB
VOLATILE = {"created", "cpu_s_per_tracer_step"}  # attributes that differ between equal files


def golden(bench: Bench) -> str:
    """Rates, derivatives and tracers of the golden file, conservation, and the generator's cost."""
    tests = [f"tests/astrochem/test_{name}.py" for name in ("rates", "network", "solver")]
    passed = pytest_lines(*tests)(bench)
    assert "skipped" not in passed, f"{passed}: the golden file is not there"
    out = bench.folder / "cost.h5"
    out.unlink(missing_ok=True)
    said = bench.sciml(
        "astrochem", "generate", "--out", out, "--tracers", "6", "--workers", "1", "--seed", "5"
    ).stdout
    with h5py.File(out) as file:
        cost = 1e3 * float(file["grav"].attrs["cpu_s_per_tracer_step"])
    drift, charge = (
        float(re.search(rf"{what} ([\d.e+-]+[\de])", said).group(1))  # type: ignore[union-attr]
        for what in ("element drift", "net charge")
    )
    text = f"{passed}; {cost:.1f} CPU ms a step, drift {drift:.0e}, net charge {charge:.0e}"
    assert cost <= 40, text
    assert drift <= 1e-10, text
    assert charge <= 1e-15, text
    return text


def conservation(bench: Bench, case: Case) -> str:
    """Element totals of emulated and exported states, whatever comes in."""
    best = base_run(bench, case) / "best.ckpt"
    torch.set_num_threads(1)
    text = [pytest_lines("tests/astrochem/test_projection.py")(bench)]
    for dtype, limit in FORMATS.items():
        emulator = AstroEmulator.from_checkpoint(best, dtype=getattr(torch, dtype))
        ways = {"emulator": _emulated(emulator)}
        if dtype == "float32":  # ONNX Runtime has no GELU of float64
            program = bench.folder / "full.onnx"
            for old in bench.folder.glob(f"{program.name}*"):
                old.unlink()
            bench.sciml("export", best, "--out", program, "--format", "onnx", "--what", "full")
            ways["ONNX"] = _exported(program)
        for way, advance in ways.items():
            for kind, (physics, start) in _inputs(emulator).items():
                given = start.astype(dtype)
                error = worst_total(emulator, given, advance(physics.astype(dtype), given))
                assert error <= limit, f"{way} in {dtype} is off by {error:.1e} for {kind} input"
                text.append(f"{way} {dtype} {kind} {error:.0e}")
    return ", ".join(text)


def throughput(bench: Bench) -> str:
    """Speed of the benchmark's default and small emulators, all in one run."""
    out = bench.folder / "throughput.json"
    bench.run(sys.executable, "benchmarks/astrochem_throughput.py", "--out", str(out))
    found = bench.json(out)
    own = {name: _rates(found[name]) for name in ("default", "small")}
    # the bare products are those of torch; the runtime of ONNX brings its own
    ours = [both for route, both in own["default"].items() if route != "onnx"]
    gain, large = found["solver"]["gain"], found["solver"]["gain_333"]
    text = "; ".join(
        f"{name}: "
        + ", ".join(
            f"{route} {rate:.3g} ({100 * share:.0f} %)" for route, (rate, share) in of.items()
        )
        for name, of in own.items()
    )
    text = (
        f"step + decode in cells/CPU-s (share of the bare products), lowest from 1024 cells on: "
        f"{text}; eager {gain:.0f} times the embedded solver "
        f"({1e3 * found['solver']['seconds']:.1f} CPU ms a step), {large:.0f} times one of the 333 "
        "species"
    )
    assert max(share for _, share in ours) >= 0.8, text
    assert max(rate for rate, _ in ours) >= 6e4, text
    assert own["default"].get("onnx", (6e4,))[0] >= 6e4, text
    assert max(rate for rate, _ in own["small"].values()) >= 1.6e5, text
    assert gain >= 1e3, text
    assert large >= 5e3, text
    return text


def _rates(found: dict[str, Any]) -> dict[str, tuple[float, float]]:
    """Lowest rate of every route at 1024 cells or more, and its share of the bare products."""
    bare = found["bare"]
    rates = {}
    for route, sizes in found["step + decode"].items():
        wide = {size: max(values.values()) for size, values in sizes.items() if int(size) >= 1024}
        if wide:
            share = min(rate / max(bare[size].values()) for size, rate in wide.items())
            rates[route] = (min(wide.values()), share)
    return rates


def large_file(bench: Bench) -> str:
    """A few steps of the autoencoder on a file of 6 GB, within 1.5 GiB of memory."""
    folder = bench.folder / "large"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    free = shutil.disk_usage(folder).free
    assert free > 2.2 * LARGE, f"{free / 1e9:.0f} GB are free where 14 GB are needed"
    path = folder / "large.h5"
    words = [
        "fit", "-c", "configs/trainer/cpu.yaml", "-c", "configs/astrochem/autoencoder.yaml",
        f"--data.path={path}", f"--data.store.artefacts={folder / 'artefacts'}",
        "--data.samples_per_epoch=5120", "--trainer.max_epochs=1", "--trainer.limit_val_batches=4",
        "--trainer.check_val_every_n_epoch=1", "--trainer.enable_progress_bar=false",
        f"--trainer.default_root_dir={folder}",
    ]  # fmt: skip
    bench.commands.append("sciml " + " ".join(words))
    try:
        _write_large(path)
        size = path.stat().st_size
        begin = time.monotonic()
        with (folder / "said").open("w") as said:
            process = subprocess.Popen(
                [sys.executable, "-m", "sciml", *words],
                cwd=REPOSITORY, env=environment(), stdout=said, stderr=said,
            )  # fmt: skip
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        assert process.returncode == 0, (folder / "said").read_text()[-800:]
    finally:
        shutil.rmtree(folder)
    text = (
        f"{size / 1e9:.1f} GB, 20 steps, peak {usage.ru_maxrss / 2**20:.2f} GiB, "
        f"{time.monotonic() - begin:.0f} s with reading the file"
    )
    assert size >= LARGE, text
    assert usage.ru_maxrss <= RESIDENT, text
    return text


def kill_generation(bench: Bench) -> str:
    """A generator killed in the middle goes on where it was, to the same file."""
    whole, resumed = (bench.folder / f"{name}.h5" for name in ("whole", "resumed"))
    for path in (whole, resumed):
        path.unlink(missing_ok=True)
        shutil.rmtree(path.with_name(f"{path.name}.parts"), ignore_errors=True)
    words = ["astrochem", "generate", "--tracers", "24", "--steps", "25", "--workers", "2"]
    bench.sciml(*words, "--out", whole)
    process = subprocess.Popen(
        [sys.executable, "-m", "sciml", *words, "--out", str(resumed)],
        cwd=REPOSITORY, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        start_new_session=True,
    )  # fmt: skip
    parts = resumed.with_name(f"{resumed.name}.parts")
    end = time.monotonic() + 120
    while len(list(parts.glob("0*"))) < 6:
        assert process.poll() is None, "the generator ended before it could be killed"
        assert time.monotonic() < end, "no tracer was finished within two minutes"
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)  # of a session of its own: the workers too
    process.wait()
    assert not resumed.exists()
    said = bench.sciml(*words, "--out", resumed).stdout
    count = re.search(r"(\d+) of the tracers were there", said)
    assert count, said
    assert _content(whole) == _content(resumed), "the files differ"
    assert not parts.exists()
    return f"{count.group(1)} of 24 tracers kept, all numbers and attributes equal to the last bit"


def _inputs(emulator: AstroEmulator) -> dict[str, tuple[NDArray[np.float64], ...]]:
    """Conditions and abundances of 64 cells, in range and far from any chemistry."""
    rng = np.random.default_rng(0)
    species = len(emulator.species)
    low, high = np.log10([emulator.ranges[name] for name in PHYSICS]).T
    inside = 10 ** rng.uniform(low, high, (64, 4))
    cloud = initial_abundances(emulator.species) * 10 ** rng.normal(0, 0.2, (64, species))
    absurd = 10 ** rng.uniform(-30, 0, (64, species))
    absurd[0] = 1.0
    absurd[1, 0] = 1.0
    return {
        "in-range": (inside, np.clip(cloud, 1e-30, 1)),
        "absurd": (10 ** rng.uniform(-12, 12, (64, 4)), absurd),
    }


def _emulated(
    emulator: AstroEmulator,
) -> Callable[[NDArray[np.float64], NDArray[np.float64]], NDArray[np.float64]]:
    def advance(physics: NDArray[np.float64], start: NDArray[np.float64]) -> NDArray[np.float64]:
        return emulator.emulate(physics[:, None], start)[:, 0]

    return advance


def _exported(
    program: Path,
) -> Callable[[NDArray[np.float64], NDArray[np.float64]], NDArray[np.float64]]:
    import onnxruntime

    session = onnxruntime.InferenceSession(program, providers=["CPUExecutionProvider"])

    def advance(physics: NDArray[np.float64], start: NDArray[np.float64]) -> NDArray[np.float64]:
        given = {"abundance": start, "phys": physics, "phys_before": physics}
        found: NDArray[np.float64] = session.run(None, given)[0]
        return found

    return advance


def _write_large(path: Path) -> None:
    """Tracers of 298 rows of the 333 species that wander at random, until the file is large."""
    species = default_species()
    rng = np.random.default_rng(0)
    rows, width = 298, 5 + len(species)
    count = int(LARGE / (4 * rows * width)) + 1
    steps = np.arange(rows)
    base = np.log10(np.maximum(initial_abundances(species), 1e-14)).astype(np.float32)
    labels = ("time", "density", "rad_field", "av", "temperature", *species)
    with h5py.File(path, "w") as file:
        attributes = {"format": "sciml-astrochem-1", "dt_yr": 1e4, "generator": "test"}
        file.attrs.update({**attributes, "physics_alignment": "interval"})
        group = file.create_group("train")
        group["columns"] = np.array([label.encode() for label in labels])
        data = group.create_dataset("data", (count * rows, width), "f4")
        group["tracer_id"] = np.repeat(np.arange(count), rows)
        group["tracer_ptr"] = np.stack(
            [np.arange(count), rows * np.arange(count), np.full(count, rows)], 1
        )
        tracer = np.empty((rows, width), np.float32)
        for number in range(count):  # one at a time: all do not fit in memory
            trend = rng.normal(0, 1, width - 1).astype(np.float32)
            tracer[:, 0] = 1e4 * steps
            tracer[:, 1:5] = 10 ** (np.array([4, 0, 1, 1.3]) + np.outer(steps / rows, trend[:4]))
            tracer[:, 5:] = 10 ** np.minimum(base + np.outer(steps / rows, trend[4:]), 0)
            data[number * rows : (number + 1) * rows] = tracer


def _content(path: Path) -> dict[str, bytes]:
    """All numbers and attributes of a file but those of the moment it was made."""
    found: dict[str, bytes] = {}

    def note(name: str, item: h5py.Group | h5py.Dataset) -> None:
        if isinstance(item, h5py.Dataset):
            found[name] = item[:].tobytes()
        for key, value in item.attrs.items():
            if key not in VOLATILE:
                found[f"{name}.{key}"] = json.dumps(
                    np.asarray(value).tolist(), default=str
                ).encode()

    with h5py.File(path) as file:
        note("", file)
        file.visititems(note)
    return found
