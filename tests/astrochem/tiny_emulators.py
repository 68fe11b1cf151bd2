"""Untrained emulators of ten species whose decoded states stay within their range."""

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from lightning.pytorch import Trainer

from sciml.astrochem.data import SequenceData
from sciml.astrochem.data.table import TracerTable, make_table
from sciml.astrochem.data.writer import write_groups
from sciml.astrochem.net import FlowMap, LatentAutoregressive, PcaResidualAutoencoder
from sciml.astrochem.task import EmulatorTask

SPECIES = ("#CO", "#H2O", "C", "C+", "CO", "E-", "H", "H2", "H2O", "O")
ELEMENTS = ("H", "C", "O")
# atoms of H, C and O, by hand
ATOMS = np.array(
    [
        *[[0, 1, 1], [2, 0, 1], [0, 1, 0], [0, 1, 0], [0, 1, 1]],
        *[[0, 0, 0], [1, 0, 0], [2, 0, 0], [2, 0, 1], [0, 0, 1]],
    ]
)
BASE = np.array([1e-6, 1e-5, 1e-6, 1e-4, 6e-5, 1e-4, 0.1, 0.45, 1e-7, 3e-4])  # a cloud
LATENTS = 4
STEP = 1e4  # yr


def tiny_task(
    seed: int = 0, *, dt_input: bool = False, autoregressive: bool = False
) -> EmulatorTask:
    """An emulator with random weights and the ranges of a collapse."""
    torch.manual_seed(seed)
    autoencoder = PcaResidualAutoencoder(len(SPECIES), LATENTS, encoder_dim=8, decoder_dims=(8, 8))
    net = (
        LatentAutoregressive(LATENTS, hidden=8)
        if autoregressive
        else FlowMap(LATENTS, hidden=8, blocks=1, dt_input=dt_input)
    )
    with torch.no_grad():
        for parameter in [*autoencoder.parameters(), *net.parameters()]:
            parameter.add_(0.1 * torch.randn_like(parameter))
    autoencoder.center.copy_(torch.from_numpy(1 + np.log10(BASE) / 20))
    task = EmulatorTask(net, autoencoder, list(SPECIES), list(ELEMENTS))
    if isinstance(net, FlowMap):
        net.dt_ref.fill_(STEP)
        task.domain.dt.fill_(STEP)
        net.physics_mean.copy_(torch.tensor([4.0, 0.0, 1.0, 1.3]))
        net.physics_std.copy_(torch.tensor([1.0, 0.3, 0.5, 0.2]))
    task.domain.physics_range.copy_(torch.tensor([[1e2, 0.1, 0.5, 7.0], [1e7, 10.0, 100.0, 130.0]]))
    return task.eval()


def write_checkpoint(task: EmulatorTask, path: Path, data: SequenceData | None = None) -> Path:
    """The file that a run of Lightning would leave, without an optimizer."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what a trainer says about this machine
        trainer = Trainer(
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
    trainer.strategy.connect(task)
    task.trainer = trainer
    trainer.save_checkpoint(path, weights_only=True)
    if data is not None:
        content = torch.load(path, weights_only=True)
        torch.save(content | {"datamodule_hyper_parameters": dict(data.hparams)}, path)
    return path


def tracers(
    lengths: Sequence[int] = (6, 9, 6, 4), seed: int = 0, species: Sequence[str] = SPECIES
) -> TracerTable:
    """Tracers whose abundances wander at random and conserve nothing."""
    rng = np.random.default_rng(seed)
    physics, start = histories(len(lengths), max(lengths), seed)
    order = [SPECIES.index(name) for name in species]
    values = []
    for place, length in enumerate(lengths):
        walk = np.cumsum(rng.normal(0, 0.1, (length, len(SPECIES))), axis=0)
        own = np.clip(start[place] * 10 ** (walk - walk[0]), 1e-20, 1)
        values.append(np.concatenate([physics[place, :length], own[:, order]], axis=1))
    time = np.concatenate([STEP * np.arange(length) for length in lengths])
    return make_table(np.concatenate(values), time, lengths, species)


def write_tracers(path: Path, **groups: TracerTable) -> Path:
    """A file of the domain's own layout."""
    write_groups(path, groups, dt_yr=STEP, generator="test", elements=ELEMENTS)
    return path


def histories(tracers: int = 5, steps: int = 7, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Conditions ``(b, t, 4)`` within the ranges and initial abundances ``(b, S)``."""
    rng = np.random.default_rng(seed)
    low, high = np.log10([[1e2, 0.1, 0.5, 7.0], [1e7, 10.0, 100.0, 130.0]])
    physics = 10 ** (low + (high - low) * rng.uniform(0.05, 0.95, (tracers, steps, 4)))
    return physics, BASE * 10 ** rng.normal(0, 0.2, (tracers, len(SPECIES)))
