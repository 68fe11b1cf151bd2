"""Cells a second of untrained emulators, beside the bare matrix products of the same shapes.

Every number is of CPU seconds, so of one thread, the best of several repeats in turn. Cells are
advanced in pieces that fit into the cache, as `CellStepper` does. Run from the root of the
repository on an idle machine:

    python benchmarks/astrochem_throughput.py --threads 1
"""

import argparse
import copy
import json
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.data import DataLoader, Dataset

from sciml.astrochem import (
    AbundanceData,
    AstroEmulator,
    EmulatorTask,
    FlowMap,
    PcaResidualAutoencoder,
    SequenceData,
)
from sciml.astrochem.apply.inputs import few, pieces
from sciml.astrochem.data.module import Store
from sciml.astrochem.data.sequence import Windows
from sciml.astrochem.data.table import make_table
from sciml.astrochem.data.writer import write_groups
from sciml.astrochem.generate.histories import draw_history
from sciml.astrochem.generate.settings import Settings, open_chemistry
from sciml.astrochem.physics.species import ELEMENTS, default_species, initial_abundances
from sciml.core.export.formats import FORMATS
from sciml.core.export.program import export
from sciml.core.extras import MissingPackageError

Run = Callable[[], object]
Program = Callable[..., Tensor]
CONFIGS = Path(__file__).resolve().parents[1] / "configs" / "astrochem"
SMALL = {"hidden": 128, "blocks": 2, "members": 1}
PARTS = ("step", "step + decode")
SOLVER_333 = 0.08  # CPU s of UCLCHEM for a step of 1e4 years of its 333 species, at least
DT = 1e4  # yr


def main() -> None:
    """Measure and print."""
    options = _options()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    print(f"{options.threads} thread(s), pieces of {options.chunk} cells; cells a CPU second")
    found: dict[str, Any] = {"threads": options.threads, "chunk": options.chunk}
    for name, settings in {"default": {}, "small": SMALL}.items():
        task = _untrained(default_species(), settings)
        count = sum(parameter.numel() for parameter in task.net.parameters())
        print(f"\n{name}: {len(task.species)} species, {count} parameters of the emulator")
        found[name] = _cells(task, options)
    if "solver" not in options.skip:
        found["solver"] = _against_the_solver(options, found)
    if "rollout" not in options.skip:
        found["rollout"] = _rollouts(_untrained(default_species(), {}))
    if "training" not in options.skip:
        found["training"] = _training(_untrained(default_species(), {}))
    if options.out:
        options.out.write_text(json.dumps(found, indent=2) + "\n")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    kinds = ("eager", "compiled", "onnx", "aoti")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 1024, 65536])
    parser.add_argument("--backends", nargs="*", default=kinds, choices=kinds)
    parser.add_argument("--skip", nargs="*", default=[], choices=("solver", "rollout", "training"))
    cells = few(torch.device("cpu"))
    parser.add_argument("--chunk", type=int, default=cells, help="cells advanced at once")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, help="write the numbers as JSON")
    return parser.parse_args()


def _untrained(species: Sequence[str], settings: Mapping[str, Any]) -> EmulatorTask:
    """Networks of the sizes of the shipped experiments."""
    coder, net = (
        yaml.safe_load((CONFIGS / f"{name}.yaml").read_text())["model"]["init_args"]["net"]
        for name in ("autoencoder", "flowmap")
    )
    autoencoder = PcaResidualAutoencoder(len(species), **coder["init_args"])
    flow = FlowMap(**net["init_args"] | dict(settings))
    task = EmulatorTask(flow, autoencoder, list(species), list(ELEMENTS))
    task.domain.physics_range.copy_(torch.tensor([[1e2, 0.1, 0.5, 7.0], [1e7, 10.0, 1e3, 130.0]]))
    return task.eval()


# what is timed


class _Products(TorchDispatchMode):
    """Writes down the matrix products of a computation on a number of cells."""

    def __init__(self, cells: int) -> None:
        super().__init__()
        self.cells = cells
        self.shapes: list[tuple[int, int]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in {torch.ops.aten.mm.default, torch.ops.aten.addmm.default}:
            left, right = args[-2:]
            if len(left) == self.cells:
                self.shapes.append((left.shape[1], right.shape[1]))
        return func(*args, **(kwargs or {}))


def _eager(task: EmulatorTask, part: str) -> Program:
    def run(latent: Tensor, phys: Tensor, before: Tensor) -> Tensor:
        latent = task.net.step(latent, phys, None, before)
        if part == "step":
            return latent
        return task.scaler.unscale(task.autoencoder.decode(latent))

    return run


def _exported(task: EmulatorTask, part: str, kind: str, folder: Path) -> Program:
    """The programs of ``sciml export``, one after the other."""
    programs = []
    for what in ("step", "decoder")[: PARTS.index(part) + 1]:
        path = folder / f"{what}_{kind}{FORMATS[kind].suffix}"
        if not path.exists():
            export(task, path, kind, what=what)  # type: ignore[arg-type]
        programs.append(FORMATS[kind].open(path))

    def run(latent: Tensor, phys: Tensor, before: Tensor) -> Tensor:
        values = programs[0]((latent, phys, before)[: 2 + getattr(task.net, "phys_delta", False)])
        for program in programs[1:]:
            values = program(values)
        return values[0]

    return run


def _bare(shapes: Sequence[tuple[int, int]], batch: int, chunk: int) -> Run:
    """The products alone, from buffers into buffers that are there already."""
    rows = min(batch, chunk)
    widest = max(max(shape) for shape in shapes)
    source, target = torch.randn(rows * widest), torch.empty(rows * widest)
    weights = [torch.randn(shape) for shape in shapes]

    def calls(n: int) -> list[tuple[Tensor, Tensor, Tensor]]:
        sides = ((source[: n * len(w)].view(n, -1), w) for w in weights)
        return [(left, w, target[: n * w.shape[1]].view(n, -1)) for left, w in sides]

    sizes = [part.stop - part.start for part in pieces(batch, rows)]
    prepared = {n: calls(n) for n in set(sizes)}

    def run() -> None:
        for n in sizes:
            for left, right, out in prepared[n]:
                torch.mm(left, right, out=out)

    return run


def _in_pieces(program: Program, cells: tuple[Tensor, ...], chunk: int, width: int) -> Run:
    """A program on all cells, a piece at a time, into one result."""
    out = torch.empty(len(cells[0]), width)

    def run() -> None:
        for part in pieces(len(out), chunk):
            out[part] = program(*(values[part] for values in cells))

    return run


# the parts of the report


def _cells(task: EmulatorTask, options: argparse.Namespace) -> dict[str, Any]:
    """Rates of step and step + decode by backend, batch and way."""
    found: dict[str, Any] = {part: {kind: {} for kind in options.backends} for part in PARTS}
    found["bare"], found["bare step"] = {}, {}
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        programs = _programs(task, options.backends, Path(folder))
        for batch in options.batches:
            runs: dict[tuple[str, str, str], Run] = {}
            cells = _random_cells(task, batch)
            ways = (
                {"pieces": options.chunk, "whole": batch}
                if batch > options.chunk
                else {"pieces": options.chunk}
            )
            for part in PARTS:
                width = task.net.state_dim if part == "step" else len(task.species)
                for way, chunk in ways.items():
                    runs["bare", part, way] = _bare(_shapes(task, part), batch, chunk)
                    for kind in ("eager",) if way == "whole" else programs:
                        if kind in programs:
                            program = programs[kind][part]
                            runs[kind, part, way] = _in_pieces(program, cells, chunk, width)
            for (kind, part, way), seconds in _best(runs, options.repeats).items():
                bare = "bare" if part != "step" else "bare step"
                place = found[bare] if kind == "bare" else found[part][kind]
                place.setdefault(str(batch), {})[way] = batch / seconds
            _report(found, batch, list(programs))
    return found


def _programs(
    task: EmulatorTask, kinds: Iterable[str], folder: Path
) -> dict[str, dict[str, Program]]:
    """Step and step + decode by every backend that this machine has."""
    programs = {}
    for kind in kinds:
        try:
            if kind in {"eager", "compiled"}:
                made = {part: _eager(task, part) for part in PARTS}
                if kind == "compiled":
                    made = {part: torch.compile(run, dynamic=False) for part, run in made.items()}
                    for run in made.values():  # compiled here, so that what is missing shows
                        run(*_random_cells(task, 1))
            else:
                made = {part: _exported(task, part, kind, folder) for part in PARTS}
        except (MissingPackageError, ValueError, RuntimeError) as error:
            print(f"without {kind}: {str(error).splitlines()[0]}")
            continue
        programs[kind] = made
    return programs


def _shapes(task: EmulatorTask, part: str) -> list[tuple[int, int]]:
    cells = 7
    with torch.inference_mode(False), torch.enable_grad(), _Products(cells) as products:
        _eager(task, part)(*_random_cells(task, cells))
    return products.shapes


def _random_cells(task: EmulatorTask, batch: int) -> tuple[Tensor, Tensor, Tensor]:
    """Latents and conditions, now and before."""
    low, high = task.domain.physics_range.log10()
    phys = (10 ** (low + (high - low) * torch.rand(batch, 4, dtype=low.dtype))).float()
    return torch.randn(batch, task.net.state_dim), phys, phys.clone()


def _report(found: Mapping[str, Any], batch: int, kinds: Sequence[str]) -> None:
    size = str(batch)
    for part in PARTS:
        bare = max(found["bare" if part != "step" else "bare step"][size].values())
        cells = [f"{kind} {_numbers(found[part][kind][size], bare)}" for kind in kinds]
        print(f"{batch:>6} cells, {part:14} bare {bare:9.3g}; " + "; ".join(cells))


def _numbers(rates: Mapping[str, float], bare: float) -> str:
    whole = f" (all at once {rates['whole']:.3g})" if "whole" in rates else ""
    return f"{rates['pieces']:.3g} = {100 * rates['pieces'] / bare:.0f} %{whole}"


def _against_the_solver(options: argparse.Namespace, found: Mapping[str, Any]) -> dict[str, float]:
    """The embedded network's solver on whole histories, and an emulator of its species."""
    steps = 100
    histories = [draw_history("grav", steps, np.random.default_rng(number)) for number in range(3)]
    with open_chemistry(Settings()) as chemistry, torch.inference_mode():
        species = chemistry.species

        def solve() -> None:
            for history in histories:
                x = chemistry.atoms()
                for conditions in history:
                    x = chemistry.advance(x, conditions, DT)

        task = _untrained(species, {})
        cells = _random_cells(task, 1024)
        emulate = _in_pieces(_eager(task, PARTS[1]), cells, options.chunk, len(species))
        best = _best({"solver": solve, "emulator": emulate}, options.repeats)
    seconds, rate = best["solver"] / (steps * len(histories)), 1024 / best["emulator"]
    print(
        f"\nembedded solver {1e3 * seconds:.1f} CPU ms a step; step + decode of its "
        f"{len(species)} species {rate:.3g} a CPU second: {rate * seconds:.0f} times as fast"
    )
    result = {"seconds": seconds, "rate": rate, "gain": rate * seconds}
    wide = found["default"][PARTS[1]].get("eager", {}).get("1024")
    if wide:
        result["gain_333"] = max(wide.values()) * SOLVER_333
        print(f"333 species: {result['gain_333']:.0f} times a solver of {SOLVER_333} CPU s a step")
    return result


def _rollouts(task: EmulatorTask) -> dict[str, float]:
    """Histories of 100 steps: latents alone, and abundances projected on the elements."""
    emulator, steps = AstroEmulator(task), 100
    start = torch.from_numpy(initial_abundances(task.species))
    runs, tracers = {}, {"rollout": 1024, "emulate, projected": 64}
    for what, count in tracers.items():
        phys = _random_cells(task, count * steps)[1].view(count, steps, 4)
        call = emulator.rollout if what == "rollout" else emulator.emulate
        runs[what] = partial(call, phys, start.expand(count, -1))
    seconds = _best(runs, 2)
    found = {what: count * steps / seconds[what] for what, count in tracers.items()}
    print("\n100 steps: " + ", ".join(f"{what} {rate:.3g}" for what, rate in found.items()))
    return found


class _Single(Dataset[dict[str, Tensor]]):
    """The samples of a data set one by one.

    Args:
        samples: The data set.
    """

    def __init__(self, samples: Any) -> None:
        self.samples = samples

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: Any) -> dict[str, Tensor]:
        sample: dict[str, Tensor] = self.samples[index]
        return sample


def _training(task: EmulatorTask) -> dict[str, dict[str, float]]:
    """Batches and training steps a CPU second with batched and with single fetches."""
    found: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as name, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = _tracers(Path(name), task.species)
        store = Store(artefacts=f"{name}/artefacts")
        rows = AbundanceData(str(path), batch_size=256, store=store)
        windows = SequenceData(
            str(path), window_schedule=[[0, 6]], store=store, windows=Windows(rows_per_batch=1024)
        )
        steps = {"autoencoder": _autoencoder_step(task), "emulator": _emulator_step(task)}
        for (what, step), data in zip(steps.items(), (rows, windows), strict=True):
            dataset = data.dataset("train")
            order = list(data.batches("train", len(dataset)))[:8]  # type: ignore[arg-type]
            loaders = {
                "batched": data.loader("train"),
                "single": DataLoader(_Single(dataset), batch_sampler=order),
            }
            runs: dict[str, Run] = {}
            for kind, loader in loaders.items():
                runs[f"{kind} fetch"] = partial(_go, loader, len(order), lambda batch: None)
                runs[f"{kind} training"] = partial(_go, loader, len(order), step)
            best = _best(runs, 3)
            found[what] = {kind: len(order) / seconds for kind, seconds in best.items()}
            cells = ", ".join(f"{kind} {rate:.3g}" for kind, rate in found[what].items())
            print(f"\n{what}, batches a CPU second: {cells}")
    return found


def _tracers(folder: Path, species: Sequence[str]) -> Path:
    rng = np.random.default_rng(0)
    count, rows = 40, 101
    values = 10 ** rng.uniform(-20, 0, (count * rows, 4 + len(species)))
    time_of = np.tile(DT * np.arange(rows), count)
    table = make_table(values.astype(np.float32), time_of, [rows] * count, tuple(species))
    write_groups(folder / "tracers.h5", {"train": table}, dt_yr=DT, generator="test", seed=0)
    return folder / "tracers.h5"


def _go(loader: Iterable[Any], count: int, step: Callable[[Any], object]) -> None:
    for _, batch in zip(range(count), loader, strict=False):
        step(batch)


def _autoencoder_step(task: EmulatorTask) -> Callable[[dict[str, Tensor]], None]:
    net = copy.deepcopy(task.autoencoder).requires_grad_(True).train()

    def predict(batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        return net(batch["abundance"]), batch["abundance"]

    return _optimised(task, net, predict)


def _emulator_step(task: EmulatorTask) -> Callable[[dict[str, Tensor]], None]:
    def predict(batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        latent = task.net.rollout(task.autoencoder.encode(batch["x0"]), batch["phys"])
        return task.autoencoder.decode(latent.flatten(0, 1)), batch["target"].flatten(0, 1)

    return _optimised(task, task.net, predict)


def _optimised(
    task: EmulatorTask,
    net: nn.Module,
    predict: Callable[[dict[str, Tensor]], tuple[Tensor, Tensor]],
) -> Callable[[dict[str, Tensor]], None]:
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-5)

    def step(batch: dict[str, Tensor]) -> None:
        terms = task.loss.terms(*predict(batch), task.scaler.limits, task.matrix)
        total, count = terms["huber"]
        optimizer.zero_grad()
        (total / count).backward()
        optimizer.step()

    return step


def _best(runs: Mapping[Any, Run], repeats: int, shortest: float = 0.1) -> dict[Any, float]:
    """Least CPU seconds of a call, all in turn after one round of warming up.

    Args:
        runs: What is called.
        repeats: Rounds.
        shortest: Seconds that a measurement has to take at least; short calls are repeated.
    """
    calls = {}
    for name, run in runs.items():
        run()
        calls[name] = max(1, round(shortest / max(_seconds(run, 1), 1e-9)))
    best = dict.fromkeys(runs, float("inf"))
    for _ in range(repeats):
        for name, run in runs.items():
            best[name] = min(best[name], _seconds(run, calls[name]) / calls[name])
    return best


def _seconds(run: Run, calls: int) -> float:
    begin = time.process_time()
    for _ in range(calls):
        run()
    return time.process_time() - begin


if __name__ == "__main__":
    main()
