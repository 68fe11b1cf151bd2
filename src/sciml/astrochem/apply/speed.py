"""How fast an emulator and the solver it replaces are."""

import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch

from sciml.astrochem.apply.emulator import CHUNK, AstroEmulator
from sciml.astrochem.apply.inputs import few, pieces, species_columns
from sciml.astrochem.data.table import TracerTable
from sciml.astrochem.generate.settings import Settings, open_chemistry
from sciml.astrochem.physics.species import initial_abundances

BATCHES = (1, 1024, 65_536)
WARM_UP = 2  # calls before the clock starts


class Speed(NamedTuple):
    """Cells advanced in a second.

    Args:
        what: ``step``, ``step + decode`` or ``step + decode + project``.
        batch: Cells of a call.
        per_second: Cells in a second of the clock.
        per_cpu_second: Cells in a second of a CPU, all threads counted.
        threads: Threads that torch may use.
    """

    what: str
    batch: int
    per_second: float
    per_cpu_second: float
    threads: int


@torch.inference_mode()
def measure_speed(
    emulator: AstroEmulator, batches: Sequence[int] = BATCHES, seconds: float = 0.3
) -> list[Speed]:
    """Time steps of random cells, with and without decoding all species.

    Args:
        emulator: What is timed.
        batches: Cells of a call.
        seconds: Time spent on every number.
    """
    generator = torch.Generator().manual_seed(0)
    low, high = emulator.task.domain.physics_range.log10()
    atoms = torch.from_numpy(initial_abundances(emulator.species))[None].to(emulator.device)
    start = emulator.encode(atoms)
    task, found, size = emulator.task, [], few(emulator.device)
    for batch in batches:
        draw = torch.rand((batch, 4), generator=generator, dtype=torch.float64)
        physics = 10 ** (low + (high - low) * draw.to(low))
        physics = physics.to(emulator.device, emulator.dtype)
        latent = start.expand(batch, -1).contiguous()
        totals = task.projection.totals(emulator.decode(start)).expand(batch, -1)

        state = torch.empty_like(latent)
        abundance = latent.new_empty(batch, len(emulator.species))

        def step() -> None:
            for part in pieces(batch, size):  # noqa: B023
                state[part] = task.net.step(latent[part], physics[part], None, physics[part])  # noqa: B023

        def decode() -> None:
            for part in pieces(batch, size):  # noqa: B023
                new = task.net.step(latent[part], physics[part], None, physics[part])  # noqa: B023
                abundance[part] = task.scaler.unscale(task.autoencoder.decode(new))  # noqa: B023

        def project() -> None:
            decode()
            for part in pieces(batch, CHUNK):  # noqa: B023
                task.projection.project(abundance[part], totals[part])  # noqa: B023

        works = {"step": step, "step + decode": decode, "step + decode + project": project}
        for what, work in works.items():
            wall, cpu = _rate(work, seconds, emulator.device)
            found.append(Speed(what, batch, batch * wall, batch * cpu, torch.get_num_threads()))
    return found


def _rate(work: Callable[[], object], seconds: float, device: torch.device) -> tuple[float, float]:
    """Calls in a second of the clock and of the CPU."""

    def finish() -> None:
        work()
        if device.type == "cuda":  # a call returns before the device has done its work
            torch.cuda.synchronize(device)

    for _ in range(WARM_UP):
        finish()
    calls, begin, used = 0, time.perf_counter(), time.process_time()
    while time.perf_counter() - begin < seconds:
        finish()
        calls += 1
    return calls / (time.perf_counter() - begin), calls / (time.process_time() - used)


def solver_seconds(
    emulator: AstroEmulator, table: TracerTable, steps: int = 24, seed: int = 0
) -> tuple[float, str] | None:
    """CPU seconds of the solver for a step of a tracer, and how they are known.

    The embedded network is timed on rows of the table where the emulator has its species; for other
    networks it is what the generator wrote into the file.

    Args:
        emulator: Says which network it is.
        table: Tracers in the order of its species.
        steps: Rows that are timed.
        seed: Chooses the rows.

    Returns:
        None if nothing is known.
    """
    attributes = table.meta.get("attributes", {})
    with open_chemistry(Settings()) as chemistry:
        if set(chemistry.species) != set(emulator.species):
            stored = attributes.get("cpu_s_per_tracer_step")
            return None if stored is None else (float(stored), "as the file says")
        columns = species_columns(emulator.species, chemistry.species)
        last = table.ptr[:, 1] + table.ptr[:, 2] - 1
        rows = np.setdiff1d(np.arange(len(table)), last)
        chosen = np.random.default_rng(seed).choice(rows, min(steps, len(rows)), replace=False)
        values = table.values[chosen].astype(np.float64)
        dt = table.time[chosen + 1] - table.time[chosen]
        begin = time.process_time()
        for row, length in zip(values, dt.tolist(), strict=True):  # a solver takes one at a time
            chemistry.advance(row[4:][columns], row[:4], length)
        return (time.process_time() - begin) / len(chosen), "embedded solver, timed here"
