import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.multiprocessing as mp
from lightning.pytorch import Trainer
from springs import PARTS, STIFFNESS, SpringData, Springs, share, spring_records, train_on_share
from torch import nn

from sciml.core.optim import Optim
from sciml.hip.data.batch import collate
from sciml.hip.loss import HIPLoss
from sciml.hip.task import HIPTask


def trainer(folder: Path, **settings: Any) -> Trainer:
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False}
    return Trainer(
        accelerator="cpu",
        devices=1,
        default_root_dir=folder,
        inference_mode=False,
        use_distributed_sampler=False,
        log_every_n_steps=1,
        **(quiet | {"enable_checkpointing": False} | settings),
    )


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Trainer, HIPTask, Path]:
    folder = tmp_path_factory.mktemp("fit")
    task = HIPTask(Springs(), Optim(lr=0.1), HIPLoss(consistency=1.0), eig_val_samples=4)
    run = trainer(folder, max_epochs=40, check_val_every_n_epoch=20)
    run.fit(task, SpringData())
    run.save_checkpoint(folder / "last.ckpt")
    return run, task, folder


def test_fit_finds_the_springs_and_logs_every_promised_metric(
    fitted: tuple[Trainer, HIPTask, Path],
) -> None:
    run, task, _ = fitted
    assert task.net.stiffness.item() == pytest.approx(STIFFNESS, rel=0.02)  # type: ignore[union-attr]
    assert task.net.head.item() == pytest.approx(STIFFNESS, rel=0.02)  # type: ignore[union-attr]
    promised = (
        "loss loss_consistency score hessian_mae hessian_mae_zero hessian_mae_blocks "
        "hessian_mae_prior forces_mae forces_mae_zero energy_mae energy_mae_atom "
        "energy_mae_atom_constants eigenvalue_mae cos_v1 negative_agreement zpe_mae"
    )
    for name in promised.split():
        assert torch.isfinite(run.callback_metrics[f"val/{name}"]), name
    assert "train/loss_hessian" in run.callback_metrics
    assert run.callback_metrics["val/score"] < 0.5
    assert task.val_metrics.seen == 4  # of the seven, as asked


def test_consistency_alone_trains_the_head_without_hessian_labels(tmp_path: Path) -> None:
    task = HIPTask(Springs(), Optim(lr=0.1), HIPLoss(hessian=0, consistency=1.0))
    nn.init.constant_(task.net.stiffness, STIFFNESS)  # type: ignore[arg-type]
    before = task.net.head.item()  # type: ignore[union-attr]
    trainer(tmp_path, max_epochs=10, limit_val_batches=0).fit(task, SpringData(labelled=False))
    assert task.net.head.item() > before  # type: ignore[union-attr]


def test_test_needs_the_checkpoint_alone_and_writes_every_molecule(
    fitted: tuple[Trainer, HIPTask, Path], tmp_path: Path
) -> None:
    run, _, folder = fitted
    fresh, again = HIPTask(Springs(), loss=HIPLoss(consistency=1.0)), trainer(tmp_path)
    again.test(
        fresh, SpringData(), ckpt_path=folder / "last.ckpt", weights_only=True, verbose=False
    )
    summary = json.loads((tmp_path / "test" / "summary.json").read_text())
    values = summary["metrics"]
    for name in ("hessian_mae", "hessian_mae_prior", "energy_mae_atom_constants", "loss"):
        expected = run.callback_metrics[f"val/{name}"].item()  # the same seven molecules
        assert values[f"test/{name}"] == pytest.approx(expected, rel=1e-6), name
    with (tmp_path / "test" / "molecules.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["id"]) for row in rows] == list(range(7))
    assert summary["molecules"] == 7
    for name in ("hessian_mae", "eigenvalue_mae", "zpe_mae"):
        cells = [float(row[name]) for row in rows if row[name]]
        assert np.mean(cells) == pytest.approx(values[f"test/{name}"], rel=1e-6), name


def test_predict_returns_flat_hessians_in_order(tmp_path: Path) -> None:
    task = HIPTask(Springs())
    chosen = spring_records(3, 5)
    output = task.predict_step(collate(chosen, 4.0), 0)
    start = 0
    for row, record in enumerate(chosen):
        entries = (3 * len(record.numbers)) ** 2
        alone = task.predict_step(collate([record], 4.0), 0)
        torch.testing.assert_close(output["hessian"][start : start + entries], alone["hessian"])
        assert output["atoms"][row] == len(record.numbers)
        start += entries
    assert start == len(output["hessian"])
    assert not any(value.requires_grad for value in output.values())


def test_training_without_any_label_is_a_quiet_zero(tmp_path: Path) -> None:
    task = HIPTask(Springs(), loss=HIPLoss(eigen=1.0))
    run = trainer(tmp_path, max_epochs=1, limit_val_batches=0)
    run.fit(task, SpringData(labelled=False))
    assert run.callback_metrics["train/loss"].item() == 0.0
    assert task.skipped == 0


@pytest.mark.parametrize(
    ("task", "data", "precision", "words"),
    [
        (HIPTask(Springs()), SpringData(r_max=3.0), "32-true", "--data.batching.r_max 4.0"),
        (HIPTask(Springs(head=False)), SpringData(), "32-true", "--model.loss.hessian 0"),
        (HIPTask(Springs(), loss=HIPLoss(hessian=0)), SpringData(), "32-true", "net.head null"),
        (HIPTask(Springs()), SpringData(), "bf16-true", "trainer.precision bf16-true"),
    ],
)
def test_what_cannot_work_is_refused_in_a_sentence(
    task: HIPTask, data: SpringData, precision: Any, words: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=words):
        trainer(tmp_path, max_epochs=1, precision=precision).fit(task, data)


def test_a_network_without_head_trains_on_energy_and_forces(tmp_path: Path) -> None:
    run = trainer(tmp_path, max_epochs=1)
    run.fit(HIPTask(Springs(head=False), loss=HIPLoss(hessian=0)), SpringData())
    assert "val/forces_mae" in run.callback_metrics
    assert "val/hessian_mae" not in run.callback_metrics
    assert "val/score" in run.callback_metrics


@pytest.mark.ddp
@pytest.mark.slow
def test_two_processes_give_the_gradients_and_metrics_of_one(tmp_path: Path) -> None:
    mp.spawn(train_on_share, args=(str(tmp_path),), nprocs=len(PARTS))
    gradients, values = share(slice(0, 7))
    for rank in range(len(PARTS)):
        result = torch.load(tmp_path / f"{rank}.pt")
        torch.testing.assert_close(result["gradients"], gradients, rtol=1e-6, atol=1e-9)
        assert result["values"].keys() == values.keys()
        for name, value in values.items():
            assert result["values"][name] == pytest.approx(value, rel=1e-9, abs=1e-12), name
