from pathlib import Path

import pytest
import torch
import torch.multiprocessing as mp
from ranks import PARTS, gradient_of, reduce_share

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


@pytest.mark.ddp
def test_two_processes_with_unequal_graphs_equal_one(tmp_path: Path) -> None:
    mp.spawn(reduce_share, args=(str(tmp_path),), nprocs=len(PARTS))
    results = [torch.load(tmp_path / f"{rank}.pt") for rank in range(len(PARTS))]
    gradient, mean = gradient_of(0, 9)
    for result in results:
        torch.testing.assert_close(result["gradient"], gradient, rtol=1e-12, atol=0)
        assert result["metric"].item() == pytest.approx(4.0)  # mean of 0..8
        assert result["ids"] == list(range(9))
    average = torch.stack([result["mean"] for result in results]).mean(0)
    torch.testing.assert_close(average, mean, rtol=1e-12, atol=0)
