"""A network of springs, molecules held together by springs, and a process that trains on some."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.utils.data import Dataset

from sciml.core.data import DataModule, Split
from sciml.core.metrics import global_mean, weighted_sum
from sciml.hip.data.batch import collate
from sciml.hip.data.record import Record
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

    def files(self) -> list[Path]:
        return []

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


PARTS = (slice(0, 2), slice(2, 7))  # molecules of the two processes


def share(part: slice) -> tuple[list[Tensor], dict[str, float]]:
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
    means = dict(zip(terms, global_mean(sums, counts).unbind(), strict=True))
    weighted_sum(means, task.loss.weights).backward()
    metrics = HIPMetrics("val")
    metrics.update({k: v.detach() for k, v in prediction.items()}, batch)
    values = {name: value.item() for name, value in metrics.compute().items()}
    return [p.grad for p in task.parameters() if p.grad is not None], values


def train_on_share(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    store = f"file://{folder}/store"
    dist.init_process_group("gloo", init_method=store, rank=rank, world_size=len(PARTS))
    gradients, values = share(PARTS[rank])
    for gradient in gradients:
        dist.all_reduce(gradient)
        gradient /= len(PARTS)
    torch.save({"gradients": gradients, "values": values}, f"{folder}/{rank}.pt")
    dist.destroy_process_group()
