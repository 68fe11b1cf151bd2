"""Events a second of XECv2 beside XECv1, and of the loader beside bare uproot.

The networks take turns in one run with the same events and as many threads; training is a whole
step with losses and optimizer. The loader reads one file epoch after epoch with 0 and with 2
workers, and takes turns with uproot reading the same two branches. Medians of the repeats, of CPU
seconds for the networks and of the clock for the loader. Run from the root of the repository on an
idle machine:

    python benchmarks/xec_throughput.py --data train_000.root
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median

import torch
import uproot
from torch import Tensor

from sciml.core.files import write_json
from sciml.core.optim import Optim
from sciml.xec import RootStream, XECNet, XECTask, XECv1, XECv2
from sciml.xec.data import Reading
from sciml.xec.generate.dataset import Plan, generate_dataset
from sciml.xec.generate.settings import Settings
from sciml.xec.task.quantities import needed

Batch = dict[str, Tensor]
Run = Callable[[], object]
TASKS = ("uvwFI", "energy", "timing")  # that both networks give
EVENTS = 1024  # generated where no file is given
BRANCHES = ("npho", "relative_time")


def main() -> None:
    """Measure, print, and write a JSON file if one is named."""
    options = _options()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        path = options.data or _generated(Path(folder))
        networks, loader = _networks(path, options), _loader(path, options)
    _report(networks, loader, options)
    if options.out:
        write_json(options.out, {"networks": networks, "loader": loader})


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="ROOT file; by default one is generated")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, help="JSON file for the numbers")
    return parser.parse_args()


def _generated(folder: Path) -> Path:
    plan = Plan(events=EVENTS, files=1)
    (path,) = generate_dataset(folder / "data", Settings(), plan, runner="serial").paths
    return path


def _networks(path: Path, options: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Events a CPU second in training and inference, and numbers of parameters."""
    data = RootStream(train=str(path), batch_size=options.batch)
    batch = next(iter(data.loader("train")))
    nets: dict[str, XECNet] = {"v1": XECv1(TASKS), "v2": XECv2(TASKS, TASKS)}
    nets["v2"].set_statistics(data.statistics())
    steps = {name: _step(net, batch) for name, net in nets.items()}
    infers = {name: _infer(net, batch) for name, net in nets.items()}
    training = _seconds(steps, options.repeats, time.process_time)
    inference = _seconds(infers, options.repeats, time.process_time)
    return {
        name: {
            "parameters": sum(p.numel() for p in net.parameters()),
            "training": options.batch / training[name],
            "inference": options.batch / inference[name],
        }
        for name, net in nets.items()
    }


def _step(net: XECNet, batch: Batch) -> Run:
    task = XECTask(net, Optim())
    assert set(needed(net.tasks, task.timing_reference)) <= batch.keys()
    optimizer = torch.optim.AdamW([p for p in net.parameters() if p.requires_grad])

    def run() -> None:
        net.train()
        terms = task._terms(net(batch), batch)
        loss = torch.stack([total / count for total, count in terms.values()]).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return run


def _infer(net: XECNet, batch: Batch) -> Run:
    def run() -> None:
        net.eval()
        with torch.inference_mode():
            net(batch)

    return run


def _loader(path: Path, options: argparse.Namespace) -> dict[str, float]:
    """Events a second of an epoch."""
    with tempfile.TemporaryDirectory() as cache:
        loaders = {
            workers: RootStream(
                train=str(path),
                batch_size=options.batch,
                num_workers=workers,
                reading=Reading(cache=cache),
            ).loader("train")
            for workers in (0, 2)
        }
        events = sum(loaders[0].blocks.source.chunk_rows)
        runs: dict[str, Run] = {"uproot": lambda: _bare(path)}
        for workers, loader in loaders.items():
            runs[f"{workers} workers"] = lambda loader=loader: sum(1 for _ in loader)  # type: ignore[misc]
        seconds = _seconds(runs, options.repeats, time.perf_counter)
        for loader in loaders.values():
            loader.close()
    return {name: events / value for name, value in seconds.items()}


def _bare(path: Path) -> None:
    with uproot.open(path) as file:
        for _ in file["tree"].iterate(BRANCHES, step_size=512, library="np"):
            pass


def _seconds(runs: Mapping[str, Run], repeats: int, clock: Callable[[], float]) -> dict[str, float]:
    """Median of the repeats of runs that take turns, after one each to warm up."""
    found: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(repeats + 1):
        for name, run in runs.items():
            begin = clock()
            run()
            if turn:
                found[name].append(clock() - begin)
    return {name: median(values) for name, values in found.items()}


def _report(
    networks: Mapping[str, Mapping[str, float]],
    loader: Mapping[str, float],
    options: argparse.Namespace,
) -> None:
    print(f"batch {options.batch}, {options.threads} thread(s), events a CPU second")
    for name, values in networks.items():
        print(name, json.dumps({key: round(value, 1) for key, value in values.items()}))
    for what in ("training", "inference"):
        print(
            f"{what}: v2 is {networks['v2'][what] / networks['v1'][what]:.1f} times as fast as v1"
        )
    bare = loader["uproot"]
    for name, value in loader.items():
        print(f"{name}: {value:.0f} events a second, {100 * value / bare:.0f} % of bare uproot")


if __name__ == "__main__":
    main()
