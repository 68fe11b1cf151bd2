import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from lightning.pytorch import Trainer
from torch import Tensor, nn
from torch.utils.data import Dataset

from sciml.core.data import DataModule, Split
from sciml.core.metrics import global_mean
from sciml.core.optim import Optim
from sciml.hip.data.batch import collate
from sciml.hip.data.record import Record
from sciml.hip.loss import HIPLoss
from sciml.hip.metrics import HIPMetrics
from sciml.hip.net.base import HIPNet
from sciml.hip.physics.blocks import MeanBlocks, PriorFit, frame_blocks, pair_geometry, sum_rule
from sciml.hip.physics.layout import assemble
from sciml.hip.physics.statistics import HessianStatistics
from sciml.hip.task import HIPTask

Batch = dict[str, Tensor]
STIFFNESS, LENGTH = 3.0, 1.5  # eV/Å² and Å of the springs that make the labels


class Springs(HIPNet):
    """A spring between every pair, and a head of one stiffness along the pair.

    Args:
        head: Whether there is a Hessian head.
    """

    def __init__(self, head: bool = True) -> None:
        super().__init__((1, 6), 4.0)
        self.save_hyperparameters()
        self.stiffness = nn.Parameter(torch.ones(1, 1))
        self.head = nn.Parameter(torch.ones(1)) if head else None
        self.register_buffer("e0", torch.zeros(2, dtype=torch.float64))

    def forward(self, batch: Batch, hessian: bool = True, forces: bool = True) -> Batch:
        grad = torch.is_grad_enabled()
        with torch.enable_grad():
            positions = batch["pos"].float().requires_grad_()
            distance, direction = pair_geometry(positions, batch)
            energies = self.stiffness[0] * (distance - LENGTH).square() / 2
            energy = energies.new_zeros(len(batch["ptr"]) - 1)
            energy = energy.index_add(0, batch["batch"][batch["pair_i"]], energies)
            pull = torch.autograd.grad(energy.sum(), positions, create_graph=grad)[0]
        constants = torch.zeros_like(energy, dtype=torch.float64).index_add(
            0, batch["batch"], self.e0[self.species(batch["z"])]
        )
        output = {"energy": energy.double(), "forces": -pull}
        output["total_energy"] = output["energy"] + constants
        if hessian and self.head is not None:
            stiff = self.head.expand(len(distance))
            pair = frame_blocks(-stiff, 0 * stiff, direction)
            output["hessian"] = assemble(pair, sum_rule(pair, batch), batch)
        return output if grad else {name: value.detach() for name, value in output.items()}

    def set_statistics(self, stats: HessianStatistics) -> None:
        self.e0.copy_(stats.e0)


def spring_records(count: int, seed: int, labelled: bool = True) -> list[Record]:
    rng = np.random.default_rng(seed)
    net = Springs()
    nn.init.constant_(net.stiffness, STIFFNESS)
    nn.init.constant_(net.head, STIFFNESS)
    made = []
    for index in range(count):
        size = int(rng.integers(2, 6))
        record = Record(rng.choice([1, 6], size), rng.normal(size=(size, 3)), identifier=index)
        truth = {k: v.detach() for k, v in net(collate([record], 4.0)).items()}
        if labelled:
            record.energy = float(truth["energy"]) - 10.0 * size
            record.forces = truth["forces"].double().numpy()
            record.hessian = truth["hessian"][0].double().numpy()
        made.append(record)
    return made


class SpringData(DataModule):
    """Random molecules held together by springs.

    Args:
        labelled: Whether the training molecules carry labels.
        r_max: Radius of the neighbour tables in Å.
    """

    def __init__(self, labelled: bool = True, r_max: float = 4.0) -> None:
        super().__init__(batch_size=4, num_workers=0)
        self.save_hyperparameters()
        self.labelled = labelled
        self.r_max = r_max

    def dataset(self, split: Split) -> Dataset[Any]:
        if split == "train":
            return spring_records(12, 1, self.labelled)  # type: ignore[return-value]
        return spring_records(7, 2)  # type: ignore[return-value]

    @property
    def collate(self) -> Any:
        return collate_springs

    def statistics(self) -> HessianStatistics:
        batch = collate(spring_records(12, 1), 4.0)
        prior, blocks = PriorFit((1, 6)), MeanBlocks((1, 6))
        prior.update(batch)
        blocks.update(batch)
        e0 = torch.full((2,), -10.0, dtype=torch.float64)
        return HessianStatistics(
            (1, 6), e0, e0, 1.0, 1.0, 1.0, prior.solve(), blocks.solve(), counts={}
        )


def collate_springs(records: list[Record]) -> Batch:
    return collate(records, 4.0)


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
    ("net", "data", "settings", "words"),
    [
        (Springs(), SpringData(r_max=3.0), {}, "--data.batching.r_max 4.0"),
        (Springs(head=False), SpringData(), {}, "--model.loss.hessian 0"),
        (Springs(), SpringData(), {"precision": "bf16-true"}, "trainer.precision bf16-true"),
    ],
)
def test_what_cannot_work_is_refused_in_a_sentence(
    net: Springs, data: SpringData, settings: dict[str, Any], words: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=words):
        trainer(tmp_path, max_epochs=1, **settings).fit(HIPTask(net), data)


def test_a_network_without_head_trains_on_energy_and_forces(tmp_path: Path) -> None:
    run = trainer(tmp_path, max_epochs=1)
    run.fit(HIPTask(Springs(head=False), loss=HIPLoss(hessian=0)), SpringData())
    assert "val/forces_mae" in run.callback_metrics
    assert "val/hessian_mae" not in run.callback_metrics
    assert "val/score" in run.callback_metrics


PARTS = (slice(0, 2), slice(2, 7))  # molecules of the two processes


def _share(part: slice) -> tuple[list[Tensor], dict[str, float]]:
    """Gradients of the training loss, and the metrics, of some of seven molecules."""
    torch.manual_seed(0)
    chosen = spring_records(7, 3)
    chosen[0].hessian = None  # the counts of the ranks differ by label, too
    batch = collate(chosen[part], 4.0)
    task = HIPTask(Springs().double())
    prediction = task(batch)
    terms = task.loss.terms(prediction, batch)
    sums = torch.stack([total.double() for total, _ in terms.values()])
    counts = torch.stack([count for _, count in terms.values()])
    task._weighted(dict(zip(terms, global_mean(sums, counts).unbind(), strict=True))).backward()
    metrics = HIPMetrics("val")
    metrics.update({k: v.detach() for k, v in prediction.items()}, batch)
    values = {name: value.item() for name, value in metrics.compute().items()}
    return [p.grad for p in task.parameters() if p.grad is not None], values


def _worker(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    store = f"file://{folder}/store"
    dist.init_process_group("gloo", init_method=store, rank=rank, world_size=len(PARTS))
    gradients, values = _share(PARTS[rank])
    for gradient in gradients:
        dist.all_reduce(gradient)
        gradient /= len(PARTS)
    torch.save({"gradients": gradients, "values": values}, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.ddp
@pytest.mark.slow
def test_two_processes_give_the_gradients_and_metrics_of_one(tmp_path: Path) -> None:
    mp.spawn(_worker, args=(str(tmp_path),), nprocs=len(PARTS))
    gradients, values = _share(slice(0, 7))
    for rank in range(len(PARTS)):
        result = torch.load(tmp_path / f"{rank}.pt")
        torch.testing.assert_close(result["gradients"], gradients, rtol=1e-6, atol=1e-9)
        assert result["values"].keys() == values.keys()
        for name, value in values.items():
            assert result["values"][name] == pytest.approx(value, rel=1e-9, abs=1e-12), name
