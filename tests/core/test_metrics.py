from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from sciml.core.metrics import Means, gather_rows, global_mean, world_size


def test_global_mean_without_processes_is_the_mean() -> None:
    mean = global_mean(torch.tensor([6.0, 1.0]), torch.tensor([4, 2]))
    assert mean.tolist() == [1.5, 0.5]
    assert world_size() == 1
    assert gather_rows([{"a": 1.0}]) == [{"a": 1.0}]


def test_global_mean_over_nothing_is_zero_and_keeps_the_graph() -> None:
    weight = torch.tensor(3.0, requires_grad=True)
    mean = global_mean(weight * 0.0, torch.tensor(0))
    mean.backward()
    assert mean.item() == 0.0
    assert weight.grad is not None
    assert weight.grad.item() == 0.0


def test_counts_keep_their_values_and_take_no_gradient() -> None:
    count = torch.tensor(2.0, requires_grad=True)
    global_mean(torch.tensor(4.0, requires_grad=True), count).backward()
    assert count.grad is None


def test_means_of_unequal_batches() -> None:
    values = torch.arange(10.0)
    means = Means(["mean", "root", "absent"], roots=["root"])
    for part in (values[:1], values[1:8], values[8:]):
        count = torch.tensor(len(part))
        means.update({"mean": (part.sum(), count), "root": (part.square().sum(), count)})
    result = means.compute()
    assert set(result) == {"mean", "root"}  # a quantity without any label is not reported
    assert result["mean"].item() == pytest.approx(4.5)
    assert result["root"].item() == pytest.approx((285 / 10) ** 0.5)  # Σ k² for k < 10 is 285
    means.reset()
    means.update({"mean": (torch.tensor(1.0), torch.tensor(1))})
    assert set(means.compute()) == {"mean"}


def test_an_unknown_name_is_an_error() -> None:
    with pytest.raises(KeyError, match="other"):
        Means(["mean"]).update({"other": (torch.tensor(1.0), torch.tensor(1))})


PARTS = ((0, 2), (2, 9))  # two graphs on the first process, seven on the second


def _worker(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=len(PARTS)
    )
    gradient, mean = _gradient(*PARTS[rank])
    dist.all_reduce(gradient)  # DDP averages gradients over the processes
    means = Means(["mean"])
    means.update({"mean": (torch.tensor(float(sum(range(*PARTS[rank])))), _count(*PARTS[rank]))})
    rows = gather_rows([{"id": float(i)} for i in range(*PARTS[rank])])
    torch.save(
        {
            "gradient": gradient / len(PARTS),
            "mean": mean,
            "metric": means.compute()["mean"],
            "ids": [row["id"] for row in rows],
        },
        f"{folder}/{rank}.pt",
    )
    dist.destroy_process_group()


def _count(first: int, last: int) -> torch.Tensor:
    return torch.tensor(last - first)


def _gradient(first: int, last: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Gradient of two means, one over graphs and one over their unequal numbers of atoms."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(9, 4, generator=generator, dtype=torch.float64)
    atoms = torch.arange(1, 10)
    weight = torch.ones(4, dtype=torch.float64, requires_grad=True)
    errors = (inputs @ weight).square()[first:last]
    sums = torch.stack([errors.sum(), (errors * atoms[first:last]).sum()])
    counts = torch.stack([_count(first, last), atoms[first:last].sum()])
    mean = global_mean(sums, counts)
    mean.sum().backward()
    assert weight.grad is not None
    return weight.grad, mean.detach()


@pytest.mark.ddp
def test_two_processes_with_unequal_graphs_equal_one(tmp_path: Path) -> None:
    mp.spawn(_worker, args=(str(tmp_path),), nprocs=len(PARTS))
    results = [torch.load(tmp_path / f"{rank}.pt") for rank in range(len(PARTS))]
    gradient, mean = _gradient(0, 9)
    for result in results:
        torch.testing.assert_close(result["gradient"], gradient, rtol=1e-12, atol=0)
        assert result["metric"].item() == pytest.approx(4.0)  # mean of 0..8
        assert result["ids"] == list(range(9))
    average = torch.stack([result["mean"] for result in results]).mean(0)
    torch.testing.assert_close(average, mean, rtol=1e-12, atol=0)
