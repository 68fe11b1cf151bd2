"""The targets of hip, and the small run its platform checks use."""

import os
import re
import shutil
import sys
from pathlib import Path

import h5py
import torch
from engine import REPOSITORY, Bench, Check, cpu_seconds
from platform_checks import Case, platform_checks, pytest_lines

SHARED = Path(os.environ.get("SCIML_SHARED", REPOSITORY.parent / "shared")) / "data" / "hip"
SMALL = [
    "--model.net.channels=8", "--model.net.max_ell=2", "--model.net.correlation=2",
    "--model.net.radial.mlp=[16]", "--model.net.head.dim=8", "--model.net.head.mlp=[16]",
]  # fmt: skip


def small_data(bench: Bench) -> Path:
    """Twenty-seven configurations of generated molecules; made once."""
    path = bench.folder / "small.h5"
    if not path.exists():
        bench.sciml(
            "hip", "generate", "--out", path, "--molecules", "9", "--per_molecule", "3",
            "--ts_fraction", "0", "--workers", "2",
        )  # fmt: skip
    return path


def small_fit(bench: Bench) -> list[str]:
    """Two epochs of five steps; 17 training, 5 validation and 5 test configurations."""
    return [
        "-c", "configs/trainer/cpu.yaml", "-c", "configs/hip/horm_sample.yaml",
        f"--data.train={small_data(bench)}", "--data.fractions=[0.63,0.185,0.185]",
        "--data.batch_size=4", "--model.net.elements=[1,6,8]",
        "--trainer.max_epochs=2", "--trainer.check_val_every_n_epoch=1",
        *SMALL,
    ]  # fmt: skip


def wrong_commands(bench: Bench) -> dict[str, tuple[list[str], str]]:
    """Bad input of every kind, with a word its sentence has to hold."""
    data = small_data(bench)
    flags = small_fit(bench)
    fit = ["fit", *flags]
    damaged = bench.folder / "damaged"
    damaged.mkdir(exist_ok=True)
    cut = damaged / "cut.h5"
    cut.write_bytes(data.read_bytes()[: data.stat().st_size // 2])
    nan = damaged / "nan.h5"
    shutil.copy(data, nan)
    with h5py.File(nan, "r+") as file:
        file["energy"][3] = float("nan")
    checkpoint = bench.folder / "base_0_1" / "checkpoints" / "last.ckpt"
    other = damaged / "other.ckpt"
    content = torch.load(checkpoint, weights_only=True)
    content["hyper_parameters"]["_class_path"] = "sciml.hip.HessianData"
    torch.save(content, other)
    broken = damaged / "broken.ckpt"
    broken.write_bytes(checkpoint.read_bytes()[:20000])
    commands = {
        "verb": (["fitt"], "did you mean fit"),
        "domain verb": (["hip", "generat"], "did you mean generate"),
        "flag": ([*fit, "--model.optm.lr=1"], "did you mean --model.optim.lr"),
        "verb's flag": (["hip", "stats", str(data), "--jsn=true"], "did you mean --json"),
        "class": ([*fit, "--model.net.class_path=MACEHP"], "did you mean MACEHIP"),
        "choice": ([*fit, "--model.optim.name=adamx"], "did you mean adam"),
        "number": ([*fit, "--data.batch_size=many"], "whole number"),
        "config": (["fit", "-c", "configs/hip/horm_sampl.yaml"], "did you mean hip/horm_sample"),
        "missing file": ([*fit, "--data.train=no/such.h5"], "no/such.h5"),
        "truncated HDF5": ([*fit, f"--data.train={cut}"], "truncated"),
        "NaN label": ([*fit, f"--data.train={nan}"], "record 3"),
        "wrong key": ([*fit, "--data.labels.hessian_key=hess", "--data.labels.energy_key=e",
                       "--data.labels.forces_key=f"], "found"),
        "element": ([*fit, "--model.net.elements=[1,6]"], "elements"),
        "other class": (["test", f"--ckpt_path={other}"], "no task"),
        "broken checkpoint": (["test", f"--ckpt_path={broken}"], "not a readable checkpoint"),
        "missing checkpoint": (["test", "--ckpt_path=no.ckpt"], "no checkpoint at"),
        "shape": (["test", f"--ckpt_path={checkpoint}", "--model.net.channels=16"], "shape"),
        "finished output": (["hip", "generate", f"--out={data}"], "exists"),
        "no value": (["hip", "generate", "--out", "--molecules", "3"], "--out"),
    }  # fmt: skip
    lmdb = SHARED / "horm80.lmdb"
    if lmdb.exists():
        short = damaged / "cut.lmdb"
        short.write_bytes(lmdb.read_bytes()[: lmdb.stat().st_size // 3])
        commands["truncated LMDB"] = ([*fit, f"--data.train={short}"], "truncated")
    return commands


def learn_horm(bench: Bench, file: str, split: str) -> str:
    """Real Hessians: error at the best checkpoint beside the baselines.

    The limit on the Hessian error holds for the random split only; a formula split is reported.
    """
    source = SHARED / file
    assert source.exists(), f"{source} is not there"
    name = f"horm_{Path(file).suffix[1:]}_{split}"
    folder = bench.folder / name
    spent = cpu_seconds()
    bench.sciml(
        "fit", "-c", "configs/trainer/cpu.yaml", "-c", "configs/hip/horm_sample.yaml",
        f"--data.train={source}", f"--data.split={split}", "--trainer.enable_progress_bar=false",
        "--trainer.logger=CSVLogger", f"--trainer.logger.save_dir={folder}",
        "--trainer.logger.name=csv", "--trainer.logger.version=run",
    )  # fmt: skip
    spent = cpu_seconds() - spent
    best = folder / "csv" / "run" / "checkpoints" / "best.ckpt"
    bench.sciml(
        "test", "--ckpt_path", best, "--trainer.logger=CSVLogger",
        f"--trainer.logger.save_dir={folder}", "--trainer.logger.name=csv",
        "--trainer.logger.version=test",
    )  # fmt: skip
    found = bench.json(folder / "csv" / "test" / "test" / "summary.json")["metrics"]
    names = [
        *("hessian_mae", "hessian_mae_zero", "hessian_mae_prior", "cos_v1"),
        *("forces_mae", "forces_mae_zero", "energy_mae_atom", "energy_mae_atom_constants"),
    ]
    text = ", ".join(f"{name} {found[f'test/{name}']:.3f}" for name in names)
    text = f"{text}; {spent:.0f} CPU-s"
    if split == "random":
        assert found["test/hessian_mae"] <= 0.40, text
        assert found["test/forces_mae"] <= found["test/forces_mae_zero"], text
        assert found["test/energy_mae_atom"] <= found["test/energy_mae_atom_constants"], text
        assert spent <= 600, text
    return text


def speed(bench: Bench) -> str:
    """A training step against the same network made of e3nn's products."""
    out = bench.run(sys.executable, "benchmarks/hip_speed.py")
    ratio = re.search(r"training.*?([\d.]+)\s*(?:×|x)", out)
    assert ratio, out[-500:]
    assert float(ratio.group(1)) >= 3, out[-500:]
    return " | ".join(line.strip() for line in out.strip().splitlines()[-6:])


def demo(bench: Bench) -> str:
    """The demo on data of its own making."""
    out = bench.run(sys.executable, "examples/hip_demo.py")
    lines = [line for line in out.splitlines() if "│" in line][-6:]
    return "; ".join(re.sub(r"\s+", " ", line.strip("│ ").replace("│", ":")) for line in lines)


CASE = Case(
    small_fit,
    "val/hessian_mae",
    ["generate", "convert", "stats"],
    wrong_commands,
    ["energy", "forces", "hessian"],
)


def checks() -> dict[str, Check]:
    """All lines of hip in their order."""
    return {
        **platform_checks(CASE),
        "hip horm80.lmdb, random": lambda b: learn_horm(b, "horm80.lmdb", "random"),
        "hip horm80.h5, random": lambda b: learn_horm(b, "horm80.h5", "random"),
        "hip horm80.lmdb, formula": lambda b: learn_horm(b, "horm80.lmdb", "formula"),
        "hip symmetry, rules, forces": pytest_lines(
            "tests/hip/test_symmetry.py", "tests/hip/test_rules.py", "tests/hip/test_net.py"
        ),
        "hip speed against e3nn": speed,
        "hip demo": demo,
    }
