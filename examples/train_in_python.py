"""Train, save, load and use a Hessian potential without the command line.

A short run on the CPU for the manner, not for the result: ``python examples/train_in_python.py``
"""

import argparse
from pathlib import Path

import torch
from ase import Atoms
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor

import sciml
from sciml.core.ema import EMA
from sciml.core.optim import Optim
from sciml.core.seed import StepSeed
from sciml.hip import MACEHIP, HessianData, HIPTask
from sciml.hip.data.batch import collate
from sciml.hip.data.record import Record
from sciml.hip.generate.dataset import generate_dataset
from sciml.hip.generate.molecules import parse_smiles
from sciml.hip.generate.sample import Settings
from sciml.hip.net import HessianHead

MOLECULES = ("O", "N", "C", "CO", "CN", "C=O", "C#N", "NO", "OO", "C=C")


def make_data(path: Path, configurations: int, workers: int) -> None:
    """Generate a small data set with GFN2-xTB, unless it is there.

    Args:
        path: HDF5 file.
        configurations: Geometries of every molecule.
        workers: Processes.
    """
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        molecules = [parse_smiles(smiles) for smiles in MOLECULES]
        generate_dataset(path, molecules, Settings(per_molecule=configurations), workers=workers)


def train(data_file: Path, folder: Path, epochs: int) -> Path:
    """Train with the callbacks that the command line uses, too.

    Args:
        data_file: Molecules.
        folder: Where the run is kept.
        epochs: Length of the training.

    Returns:
        The best checkpoint.
    """
    net = MACEHIP(channels=16, max_ell=2, correlation=2, head=HessianHead(dim=16))
    task = HIPTask(net, Optim(lr=5e-3, schedule="cosine", warmup=0.05))
    data = HessianData(
        str(data_file), fractions=(0.8, 0.2, 0.0), e0="average", batch_size=4, num_workers=0
    )
    best = ModelCheckpoint(folder / "checkpoints", "best", monitor="val/hessian_mae")
    trainer = Trainer(
        accelerator="cpu",
        devices=1,
        max_epochs=epochs,
        log_every_n_steps=1,
        gradient_clip_val=5.0,
        inference_mode=False,  # forces are derivatives, in evaluation too
        use_distributed_sampler=False,  # the loaders divide the data themselves
        default_root_dir=folder,
        enable_progress_bar=False,
        callbacks=[EMA(0.9), StepSeed(), best],
    )
    trainer.fit(task, data)
    return Path(best.best_model_path)


def predict(checkpoint: Path, atoms: Atoms) -> dict[str, Tensor]:
    """Energy, forces and Hessian of one molecule.

    Args:
        checkpoint: File of a run.
        atoms: The molecule.

    Returns:
        ``total_energy (1,)`` in eV, ``forces (n, 3)`` in eV/Å, ``hessian (1, 3n, 3n)`` in eV/Å².
    """
    task = sciml.load(checkpoint)
    assert isinstance(task, HIPTask)
    batch = collate([Record(atoms.numbers, atoms.positions)], cutoff=task.net.cutoff)
    prediction: dict[str, Tensor] = task(batch)
    return prediction


def main() -> None:
    """Run everything in turn."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("data/hip/python.h5"))
    parser.add_argument("--out", type=Path, default=Path("lightning_logs/python"))
    parser.add_argument("--configurations", type=int, default=8)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=10)
    chosen = parser.parse_args()

    make_data(chosen.data, chosen.configurations, chosen.workers)
    checkpoint = train(chosen.data, chosen.out, chosen.epochs)

    water = Atoms("OH2", [(0.0, 0.0, 0.0), (0.0, 0.76, 0.59), (0.0, -0.76, 0.59)])
    prediction = predict(checkpoint, water)
    print(f"checkpoint {checkpoint}")
    print(f"energy of water {prediction['total_energy'].item():.3f} eV")
    print(f"largest force {prediction['forces'].abs().max():.3f} eV/Å")
    print(f"eigenvalues of its Hessian {torch.linalg.eigvalsh(prediction['hessian'][0])} eV/Å²")


if __name__ == "__main__":
    main()
