"""Parts of autoencoders and emulators as programs (b cells, S species, L latents)."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from sciml.astrochem.net.base import AutoencoderNet, EmulatorNet
from sciml.astrochem.net.export import Decoder, Encoder, Full, Step, Timed
from sciml.astrochem.physics.constants import PHYSICS, PHYSICS_UNITS
from sciml.astrochem.physics.scaling import AbundanceScaler
from sciml.astrochem.physics.species import initial_abundances
from sciml.core.export.ports import ExportInputs, Port, Sample

if TYPE_CHECKING:
    from sciml.astrochem.task.emulator import EmulatorTask

FORMATS = ("pt2", "onnx", "aoti", "torchscript")
CODER_PARTS = ("encoder", "decoder")
EMULATOR_PARTS = ("step", "full", *CODER_PARTS)
CELLS = {"traced": 5, "smaller": 1, "larger": 257}
TRACE = (-14.0, -6.0)  # log10 of the abundances of species that a cloud does not start with
SPREAD = 0.3  # standard deviation of the logarithms of all others, and of latents


def coder_inputs(
    what: str,
    net: AutoencoderNet,
    scaler: AbundanceScaler,
    *,
    species: Sequence[str],
    elements: Sequence[str],
) -> ExportInputs:
    """Tensors of `Encoder` or `Decoder`, with samples.

    Args:
        what: ``encoder`` or ``decoder``.
        net: Autoencoder.
        scaler: Of the abundances.
        species: Names in the order of the abundances.
        elements: Elements that are counted, in their order.
    """
    ports = {
        "abundance": Port("abundance", ("b", len(species)), "per H nucleus", "abundances"),
        "latent": Port("latent", ("b", net.latent_dim), "", "latents"),
    }
    source, target = ("abundance", "latent") if what == "encoder" else ("latent", "abundance")
    samples = {}
    for size, cells in CELLS.items():
        generator = torch.Generator().manual_seed(cells)
        abundance = _abundances(species, cells, generator).to(_dtype(net))
        with torch.no_grad():
            latent = net.encode(scaler.scale(abundance))
            values = {"abundance": abundance, "latent": latent}
            if what == "decoder":
                values["abundance"] = scaler.unscale(net.decode(latent))
        samples[size] = Sample({source: values[source]}, {target: values[target]})
    return ExportInputs(
        inputs=(ports[source],),
        outputs=(ports[target],),
        samples=samples,
        metadata=_chemistry(scaler, species, elements) | {"latents": net.latent_dim},
        measures={"abundance": scaler.scale},
    )


def coder_module(what: str, net: AutoencoderNet, scaler: AbundanceScaler) -> nn.Module:
    """`Encoder` or `Decoder`.

    Args:
        what: ``encoder`` or ``decoder``.
        net: Autoencoder.
        scaler: Of the abundances.
    """
    return Encoder(net, scaler) if what == "encoder" else Decoder(net, scaler)


def emulator_inputs(what: str, task: "EmulatorTask") -> ExportInputs:
    """Tensors of a step of latents or of abundances, with samples.

    Args:
        what: ``step`` or ``full``.
        task: The emulator.
    """
    state = "latent" if what == "step" else "abundance"
    ports = {
        "latent": Port("latent", ("b", task.net.state_dim), "", "latents"),
        "abundance": Port("abundance", ("b", len(task.species)), "per H nucleus", "abundances"),
        "phys": Port("phys", ("b", 4), ", ".join(PHYSICS_UNITS), "conditions during the step"),
        "phys_before": Port("phys_before", ("b", 4), ", ".join(PHYSICS_UNITS), "those before it"),
        "dt": Port("dt", ("b",), "yr", "length of the step"),
    }
    names = [state, "phys", *_optional(task.net)]
    after = f"{state}_next"
    samples = {size: _sample(task, what, names, cells) for size, cells in CELLS.items()}
    return ExportInputs(
        inputs=tuple(ports[name] for name in names),
        outputs=(replace(ports[state], name=after, meaning=f"{ports[state].meaning} after it"),),
        samples=samples,
        metadata=_chemistry(task.scaler, task.species, task.elements) | _conditions(task),
        measures={"abundance_next": task.scaler.scale},
    )


def emulator_module(what: str, task: "EmulatorTask") -> nn.Module:
    """`Step` or `Full`, with the inputs that the network knows.

    Args:
        what: ``step`` or ``full``.
        task: The emulator.
    """
    step = Step(task.net)
    coders = (Encoder(task.autoencoder, task.scaler), Decoder(task.autoencoder, task.scaler))
    whole = step if what == "step" else Full(step, *coders, task.projection)
    return Timed(whole) if _optional(task.net) == ["dt"] else whole


def _optional(net: EmulatorNet) -> list[str]:
    """Inputs besides state and conditions, in their order."""
    known = {"phys_before": net.phys_delta, "dt": net.dt_input}
    return [name for name, is_known in known.items() if is_known]


def _sample(task: "EmulatorTask", what: str, names: list[str], cells: int) -> Sample:
    generator = torch.Generator().manual_seed(cells)
    dtype = _dtype(task.net)

    def uniform(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator, dtype=torch.float64)

    abundance = _abundances(task.species, cells, generator).to(dtype)
    low, high = task.domain.physics_range.double().log10()
    phys = 10 ** (low + (high - low) * uniform(cells, 4))
    length = task.domain.step() or 1.0
    values = {
        "abundance": abundance,
        "phys": phys.to(dtype),
        "phys_before": (phys * 10 ** (0.2 * uniform(cells, 4) - 0.1)).to(dtype),
        "dt": (length * 10 ** (uniform(cells) - 0.5)).to(dtype),
    }
    with torch.no_grad():
        values["latent"] = task.autoencoder.encode(task.scaler.scale(abundance))
        given = [values[name] if name in names else None for name in ("dt", "phys_before")]
        advanced = task.net.step(values["latent"], values["phys"], *given)
        inputs = {name: values[name] for name in names}
        if what == "step":
            return Sample(inputs, {"latent_next": advanced})
        decoded = task.scaler.unscale(task.autoencoder.decode(advanced))
        found = task.project(decoded[:, None], abundance)[:, 0]
        return Sample(inputs, {"abundance_next": found.to(dtype)})


def _abundances(species: Sequence[str], cells: int, generator: torch.Generator) -> Tensor:
    """Clouds some way from their start: random, but with plausible totals of the elements."""
    start = torch.from_numpy(initial_abundances(species))
    noise = torch.randn(cells, len(species), generator=generator, dtype=torch.float64)
    part = torch.rand(cells, len(species), generator=generator, dtype=torch.float64)
    trace = 10 ** (TRACE[0] + (TRACE[1] - TRACE[0]) * part)
    return torch.maximum(start * 10 ** (SPREAD * noise), trace).clamp(max=1.0)


def _chemistry(
    scaler: AbundanceScaler, species: Sequence[str], elements: Sequence[str]
) -> dict[str, Any]:
    limits = list(scaler.range())
    return {"species": list(species), "elements": list(elements), "abundance_range": limits}


def _conditions(task: "EmulatorTask") -> dict[str, Any]:
    low, high = task.domain.physics_range.tolist()
    ranges = dict(zip(PHYSICS, map(list, zip(low, high, strict=True)), strict=True))
    return {
        "net": type(task.net).__name__,
        "latents": task.net.state_dim,
        "conserves_charge": bool(task.keeps_charge),
        "conditions": list(PHYSICS),
        "condition_units": list(PHYSICS_UNITS),
        "condition_ranges": ranges,
        "dt_yr": task.domain.step(),
    }


def _dtype(net: nn.Module) -> torch.dtype:
    return next(net.parameters()).dtype
