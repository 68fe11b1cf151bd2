"""What the checks of xec share: generated events, files made of them, a small run."""

import os
from pathlib import Path
from typing import Any

import uproot
from engine import REPOSITORY, Bench
from numpy.typing import NDArray

Branches = dict[str, NDArray[Any]]
SHARED = Path(os.environ.get("SCIML_SHARED", REPOSITORY.parent / "shared")) / "data" / "xec"
COUNTS = {"train": 101, "val": 31, "test": 37}  # odd: two processes cannot share them evenly
SEEDS = {"train": 11, "val": 12, "test": 13}
SMALL = [
    "--model.net.width=32", "--model.net.layers=1", "--model.net.channels=[8,8,8]",
    "--model.net.blocks=[1,1]", "--model.net.hidden=16", "--model.optim.warmup=2",
]  # fmt: skip
REAL = ("npho", "relative_time", "time_min_used", "run", "event")  # what files without truth have


def small_data(bench: Bench, split: str = "train") -> Path:
    """Generated events of a split; made once."""
    folder = bench.folder / "small" / split
    path = folder / "events_0000.root"
    if not path.exists():
        bench.sciml(
            "xec", "generate", "--out", folder, "--events", str(COUNTS[split]), "--files", "1",
            "--seed", str(SEEDS[split]), "--workers", "1",
        )  # fmt: skip
    return path


def small_fit(bench: Bench) -> list[str]:
    """Two epochs of five or six steps; the training events come in four blocks."""
    return [
        "-c", "configs/trainer/cpu.yaml", "-c", "configs/xec/regressor.yaml",
        *(f"--data.{split}={small_data(bench, split)}" for split in COUNTS),
        "--data.batch_size=20", "--data.chunksize=4",
        f"--data.reading.cache={bench.folder / 'cache'}",
        "--trainer.max_epochs=2", "--trainer.check_val_every_n_epoch=1", *SMALL,
    ]  # fmt: skip


def quiet(folder: Path, name: str) -> list[str]:
    """Metrics as CSV, no bars; everything of the run is in ``folder/name``."""
    return [
        "--trainer.logger=CSVLogger", f"--trainer.logger.save_dir={folder}",
        "--trainer.logger.name=", f"--trainer.logger.version={name}",
        "--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false",
    ]  # fmt: skip


def shared(name: str) -> Path:
    """A supplied file."""
    path = SHARED / name
    assert path.exists(), f"{path} is not there"
    return path


def small_checkpoint(bench: Bench) -> Path:
    """Best weights of the small run; made once."""
    path = bench.folder / "small_run" / "checkpoints" / "best.ckpt"
    if not path.exists():
        bench.sciml("fit", *small_fit(bench), *quiet(bench.folder, "small_run"))
    return path


def read_events(path: Path, *names: str, tree: str = "tree") -> Branches:
    """Branches of a file by name, by default all."""
    with uproot.open(path) as file:
        branches = file[tree]
        return {name: branches[name].array(library="np") for name in names or branches.keys()}


def write_events(
    path: Path, branches: Branches, *, tree: str = "tree", times: int = 1, basket: int = 20
) -> Path:
    """A file of branches, so many times one after the other."""
    path.parent.mkdir(parents=True, exist_ok=True)
    types = {name: (values.dtype, values.shape[1:]) for name, values in branches.items()}
    count = len(next(iter(branches.values())))
    with uproot.recreate(path, compression=uproot.ZSTD(1)) as file:
        written = file.mktree(tree, types)
        for _ in range(times):
            for start in range(0, count, basket):
                part = slice(start, start + basket)
                written.extend({name: values[part] for name, values in branches.items()})
    return path
