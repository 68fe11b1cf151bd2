"""What each of two processes computes in the test of metrics over several processes."""

import torch
import torch.distributed as dist

from sciml.astrochem.metrics import AbundanceMetrics

SPECIES, ELEMENTS = ("C", "C+", "CO", "E-", "O"), ("C", "O")
PARTS = ((0, 2), (2, 7))  # tracers of each process


def measure(first: int, last: int) -> AbundanceMetrics:
    """Metrics of some of seven tracers of unequal lengths."""
    generator = torch.Generator().manual_seed(0)
    true = 10 ** (20 * torch.rand(7, 6, 5, generator=generator, dtype=torch.float64) - 20)
    noise = torch.randn(true.shape, generator=generator, dtype=torch.float64)
    valid = torch.arange(6) < torch.arange(1, 8).clamp(max=6)[:, None]
    metrics = AbundanceMetrics(SPECIES, ELEMENTS)
    part = slice(first, last)
    metrics.update((true * 10**noise)[part], true[part], valid[part])
    return metrics


def measure_share(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=len(PARTS)
    )
    torch.save(measure(*PARTS[rank]).compute(), f"{folder}/{rank}.pt")
    dist.destroy_process_group()
