"""What the checks of astrochem share: a small run, and how well totals are kept."""

from pathlib import Path
from typing import Any

import numpy as np
from engine import Bench
from numpy.typing import NDArray

from sciml.astrochem import AstroEmulator

LATENTS = 6
TINY = [f"--model.net.latent_dim={LATENTS}", "--model.net.encoder_dim=16",
        "--model.net.decoder_dims=[8,16]"]  # fmt: skip


def small_data(bench: Bench) -> Path:
    """Twenty-one tracers of eight steps; made once."""
    path = bench.folder / "small.h5"
    if not path.exists():
        bench.sciml(
            "astrochem", "generate", "--out", path, "--tracers", "21", "--steps", "8",
            "--workers", "2",
        )  # fmt: skip
    return path


def data_flags(bench: Bench, data: Path) -> list[str]:
    """Thirteen training, three validation and five test tracers, preprocessed beside the runs."""
    return [
        f"--data.path={data}", "--data.split.fractions=[0.62,0.14,0.24]",
        f"--data.store.artefacts={bench.folder / 'artefacts'}",
    ]  # fmt: skip


def autoencoder_fit(bench: Bench, data: Path, name: str) -> list[str]:
    """Two epochs of ten steps of a tiny autoencoder; its checkpoints are in a folder of its own."""
    return [
        "fit", "-c", "configs/trainer/cpu.yaml", "-c", "configs/astrochem/autoencoder.yaml",
        *data_flags(bench, data), *TINY, "--data.batch_size=16", "--data.samples_per_epoch=160",
        "--trainer.max_epochs=2", "--trainer.check_val_every_n_epoch=1",
        "--trainer.enable_progress_bar=false", *logger(bench.folder, name),
    ]  # fmt: skip


def logger(folder: Path, name: str) -> list[str]:
    """Metrics as CSV; everything of the run is in ``folder/name``."""
    return [
        "--trainer.logger=CSVLogger", f"--trainer.logger.save_dir={folder}",
        "--trainer.logger.name=", f"--trainer.logger.version={name}",
    ]  # fmt: skip


def small_autoencoder(bench: Bench) -> Path:
    """Checkpoint of the tiny autoencoder; made once."""
    path = bench.folder / "small_autoencoder" / "checkpoints" / "last.ckpt"
    if not path.exists():
        bench.sciml(*autoencoder_fit(bench, small_data(bench), "small_autoencoder"))
    return path


def small_fit(bench: Bench) -> list[str]:
    """Two epochs of five steps of a tiny flow map."""
    return [
        "-c", "configs/trainer/cpu.yaml", "-c", "configs/astrochem/flowmap.yaml",
        *data_flags(bench, small_data(bench)), f"--model.autoencoder={small_autoencoder(bench)}",
        f"--model.net.latent_dim={LATENTS}", "--model.net.hidden=8", "--model.net.blocks=1",
        "--data.window_schedule=[[0,2],[1,4]]", "--data.windows.rows_per_batch=16",
        "--data.windows.batches_per_epoch=5",
        "--trainer.max_epochs=2", "--trainer.check_val_every_n_epoch=1",
    ]  # fmt: skip


def worst_total(emulator: AstroEmulator, start: NDArray[Any], found: NDArray[Any]) -> float:
    """Largest relative error of an element's total, infinite where an abundance is impossible.

    Args:
        emulator: Whose species and elements these are.
        start: Abundances whose totals are kept, ``(..., S)``.
        found: Abundances after it, of a shape that fits.
    """
    if not np.isfinite(found).all() or found.min() < 0:
        return float("inf")
    matrix = emulator.task.matrix.double().cpu().numpy()
    wanted = start.astype(np.float64) @ matrix
    with np.errstate(divide="ignore", invalid="ignore"):
        error = np.abs(found.astype(np.float64) @ matrix / wanted - 1)
    there = wanted > 1e-15  # less of an element is left alone
    return float(np.where(there, error, 0.0).max())
