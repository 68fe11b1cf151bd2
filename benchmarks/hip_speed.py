"""Cost of training and inference of MACE-HIP, beside the same network assembled from e3nn.

Both have the same weights and the same Hessian head, and take turns in one run; times are CPU
seconds, the median over the repeats. Run from the root of the repository on an idle machine:

    python benchmarks/hip_speed.py --channels 128 --batch 8
"""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

import numpy as np
import torch
from torch import Tensor, nn

from sciml.hip.data.batch import collate
from sciml.hip.data.files import open_source
from sciml.hip.data.record import Record
from sciml.hip.net import MACEHIP

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "hip"))
from oracle import E3nnMACE
from samples import ELEMENTS, random_molecule

Batch = dict[str, Tensor]
SIZES = (8, 21)  # fewest and most atoms, as in the molecules of HORM
CUTOFF = 5.0  # Å


def main() -> None:
    """Measure and print."""
    options = _options()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    records = _records(options)
    batch, single = collate(records, CUTOFF), collate(records[:1], CUTOFF)
    net = MACEHIP(ELEMENTS, channels=options.channels)
    net.num_neighbors.fill_(batch["nbr_mask"].sum() / len(batch["z"]))
    reference = E3nnMACE(net)
    print(
        f"{options.channels} channels, {len(records)} molecules, {len(batch['z'])} atoms, "
        f"{int(batch['nbr_mask'].sum())} edges, {options.threads} thread(s)\n"
        f"parameters: {_count(net)}, of these {_count(net.head)} in the head"
    )
    _compare(net, reference, batch)
    runs = [lambda: _train(net, batch), lambda: _train(reference, batch)]
    _report("training step", 1, *_alternate(runs, options.repeats))
    net.eval()
    reference.eval()
    _infer("batch", net, reference, batch, options.repeats)
    _infer("single", net, reference, single, options.repeats)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--channels", type=int, default=128)
    parser.add_argument("--batch", type=int, default=8, help="molecules in a batch")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--data", type=Path, help="file with molecules instead of random ones")
    return parser.parse_args()


def _records(options: argparse.Namespace) -> list[Record]:
    rng = np.random.default_rng(0)
    if options.data is None:
        sizes = rng.integers(SIZES[0], SIZES[1] + 1, options.batch)
        return [random_molecule(int(size), seed) for seed, size in enumerate(sizes)]
    source = open_source(options.data)
    chosen = rng.permutation(len(source))[: options.batch]
    return [source[int(index)] for index in chosen]


def _train(net: nn.Module, batch: Batch) -> None:
    """Forward, loss on energy, forces and Hessian, and backward to all weights."""
    output = net(batch)
    loss = (output["energy"] - batch["energy"]).abs().mean()
    loss = loss + (output["forces"] - batch["forces"]).norm(dim=1).mean()
    loss = loss + (output["hessian"] - batch["hessian"]).abs().mean()
    loss.backward()
    for parameter in net.parameters():
        parameter.grad = None


def _infer(name: str, net: MACEHIP, reference: nn.Module, batch: Batch, repeats: int) -> None:
    count = len(batch["ptr"]) - 1
    full, plain, other = _alternate(
        [lambda: net(batch), lambda: net(batch, hessian=False), lambda: reference(batch)], repeats
    )
    _report(f"E+F+H per molecule, {name}", count, full, other)
    print(f"{'':32}{full / plain:.2f} times the cost of E+F")


def _alternate(runs: Sequence[Callable[[], object]], repeats: int) -> list[float]:
    """Median CPU seconds of every run, all of them in turn after one round of warming up."""
    seconds: list[list[float]] = [[] for _ in runs]
    for _ in range(repeats + 1):
        for run, measured in zip(runs, seconds, strict=True):
            start = time.process_time()
            run()
            measured.append(time.process_time() - start)
    return [median(measured[1:]) for measured in seconds]


def _report(name: str, count: int, ours: float, other: float) -> None:
    print(
        f"{name:32}{1e3 * ours / count:8.1f} ms, e3nn {1e3 * other / count:8.1f} ms, "
        f"ratio {other / ours:.2f}"
    )


def _compare(net: MACEHIP, reference: nn.Module, batch: Batch) -> None:
    """Stop unless both networks say the same."""
    ours, other = net(batch), reference(batch)
    for name in ("energy", "forces", "hessian"):
        difference = ((ours[name] - other[name]).norm() / other[name].norm()).item()
        print(f"{name}: relative difference {difference:.1e}")
        if not difference < 1e-4:  # float32
            raise SystemExit(f"{name} differs from that of the e3nn assembly")


def _count(module: nn.Module | None) -> int:
    return 0 if module is None else sum(parameter.numel() for parameter in module.parameters())


if __name__ == "__main__":
    main()
