"""What each of two processes computes in the test of global means."""

import torch
import torch.distributed as dist

from sciml.core.metrics import Means, gather_rows, global_mean

PARTS = ((0, 2), (2, 9))  # two graphs on the first process, seven on the second


def reduce_share(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=len(PARTS)
    )
    gradient, mean = gradient_of(*PARTS[rank])
    dist.all_reduce(gradient)  # DDP averages gradients over the processes
    means = Means(["mean"])
    means.update({"mean": (torch.tensor(float(sum(range(*PARTS[rank])))), count_of(*PARTS[rank]))})
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


def count_of(first: int, last: int) -> torch.Tensor:
    return torch.tensor(last - first)


def gradient_of(first: int, last: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Gradient of two means, one over graphs and one over their unequal numbers of atoms."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(9, 4, generator=generator, dtype=torch.float64)
    atoms = torch.arange(1, 10)
    weight = torch.ones(4, dtype=torch.float64, requires_grad=True)
    errors = (inputs @ weight).square()[first:last]
    sums = torch.stack([errors.sum(), (errors * atoms[first:last]).sum()])
    counts = torch.stack([count_of(first, last), atoms[first:last].sum()])
    mean = global_mean(sums, counts)
    mean.sum().backward()
    assert weight.grad is not None
    return weight.grad, mean.detach()
