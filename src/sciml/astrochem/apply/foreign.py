"""Weights of the original project in our networks (S species, L latents)."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from sciml.astrochem.net import LatentAutoregressive, TiedAutoencoder
from sciml.astrochem.physics.constants import HI, LO, PHYSICS
from sciml.astrochem.task import AutoencoderTask, EmulatorTask
from sciml.core.checkpoint import DAMAGE
from sciml.core.task import Task

Weights = dict[str, Tensor]
WRAPPERS = ("state_dict", "model_state_dict", "model")  # keys under which files keep weights
PREFIXES = ("_orig_mod.", "module.", "model.")
STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


@dataclass(frozen=True)
class Scales:
    """What the original keeps outside its weights.

    Args:
        lo: Abundance that scales to 0.
        hi: Abundance that scales to 1.
        density: Smallest and largest density in H nuclei per cm³.
        radfield: Smallest and largest field in Habing.
        av: Smallest and largest visual extinction in mag.
        temperature: Smallest and largest temperature in K.
        latents: Smallest and largest latent, one pair for all.
    """

    lo: float = LO
    hi: float = HI
    density: tuple[float, float] = (68481.0, 1284211415.0)
    radfield: tuple[float, float] = (1e-4, 26.0)
    av: tuple[float, float] = (0.1, 6914.0)
    temperature: tuple[float, float] = (13.0, 133.0)
    latents: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        for name, pair in zip(PHYSICS, self.conditions(), strict=True):
            if not 0 < pair[0] < pair[1]:
                raise ValueError(
                    f"the range of {name} is {pair[0]:g} to {pair[1]:g}; give 0 < a < b"
                )
        if self.latents is not None and not self.latents[0] < self.latents[1]:
            raise ValueError(f"the latents range from {self.latents[0]:g} to {self.latents[1]:g}")

    def conditions(self) -> tuple[tuple[float, float], ...]:
        """Ranges of the conditions in the order of all arrays."""
        return self.density, self.radfield, self.av, self.temperature


def read_weights(path: Path) -> Weights:
    """Tensors by name, opened without running code, without the prefixes of wrappers.

    Args:
        path: File that torch wrote.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it holds anything but tensors and plain values, or no tensors.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}; give the weights of the original project")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except DAMAGE as error:
        raise ValueError(
            f"{path} cannot be opened without running its code; save the network's state_dict() "
            "with torch.save"
        ) from error
    for key in WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    tensors = content.items() if isinstance(content, Mapping) else ()
    weights = {_bare(str(name)): value for name, value in tensors if isinstance(value, Tensor)}
    if not weights:
        raise ValueError(
            f"{path} holds no tensors; save the network's state_dict() with torch.save"
        )
    return weights


def match(theirs: Weights, own: nn.Module, path: Path) -> dict[str, str]:
    """Which of their tensors belongs to each of ours, by kind, shape and order.

    Weights, biases and statistics of a normalisation are kept together: it is recognised by its
    running mean. Normalisations of one size are taken in the order of the file.

    Args:
        theirs: Tensors by name.
        own: Network to be filled.
        path: Named in errors.

    Returns:
        Names of theirs by ours.

    Raises:
        ValueError: If a tensor of ours has no counterpart, or one of theirs is no copy or
            transpose of one that is used.
    """
    waiting: dict[tuple[str, tuple[int, ...]], list[str]] = {}
    for name, value in theirs.items():
        waiting.setdefault((_kind(name, theirs), tuple(value.shape)), []).append(name)
    wanted = own.state_dict()
    pairs = {}
    for name, value in wanted.items():
        found = waiting.get((_kind(name, wanted), tuple(value.shape)), [])
        if not found:
            raise ValueError(
                f"{path} has no tensor for {name} of shape {tuple(value.shape)}; it is not of a "
                f"{type(own).__name__} of these sizes"
            )
        pairs[name] = found.pop(0)
    rest = [name for names in waiting.values() for name in names]
    unused = [name for name in rest if not _is_told_twice(name, theirs, pairs.values())]
    if unused:
        raise ValueError(
            f"{path} holds more than a {type(own).__name__} of these sizes, such as {unused[0]} of "
            f"shape {tuple(theirs[unused[0]].shape)}; it is of another network"
        )
    return pairs


def import_autoencoder(path: Path) -> tuple[TiedAutoencoder, dict[str, str]]:
    """The tied autoencoder in a file of weights, its sizes read from their shapes.

    Args:
        path: File that torch wrote.

    Returns:
        The network, and names of theirs by ours.

    Raises:
        ValueError: If it is no tied autoencoder of three layers.
    """
    theirs = read_weights(path)
    shapes = [tuple(value.shape) for value in theirs.values() if value.dim() == 2]
    chain = shapes[:3]
    if len(chain) < 3 or chain[1][1] != chain[0][0] or chain[2][1] != chain[1][0]:
        raise ValueError(
            f"{path} is no autoencoder of three layers: its matrices are "
            f"{', '.join(map(str, shapes)) or 'none'}"
        )
    (first, species), (second, _), (latents, _) = chain
    norm = any(name.endswith("running_mean") for name in theirs)
    net = TiedAutoencoder(
        species, (first, second), latents, norm="batch" if norm else "none", noise=0.0, dropout=0.0
    )
    pairs = match(theirs, net, path)
    net.load_state_dict({name: theirs[other] for name, other in pairs.items()})
    return net.eval(), pairs


def import_emulator(path: Path, latents: int) -> tuple[LatentAutoregressive, dict[str, str]]:
    """The latent emulator in a file of weights.

    Args:
        path: File that torch wrote.
        latents: Latents L of the autoencoder.

    Returns:
        The network, and names of theirs by ours.

    Raises:
        ValueError: If it does not fit the autoencoder.
    """
    theirs = read_weights(path)
    matrices = [value.shape for value in theirs.values() if value.dim() == 2]
    if len(matrices) != 3 or matrices[0][1] != 4 + latents or matrices[2][0] != latents:
        found = ", ".join(str(tuple(shape)) for shape in matrices) or "none"
        raise ValueError(
            f"{path} is no emulator of {latents} latents and 4 conditions: its matrices are {found}"
        )
    net = LatentAutoregressive(latents, hidden=matrices[0][0], dropout=0.0, per_dimension=False)
    own = nn.ModuleDict({"body": net.body, "change": net.change})  # the scalers are not theirs
    pairs = match(theirs, own, path)
    own.load_state_dict({name: theirs[other] for name, other in pairs.items()})
    return net.eval(), pairs


def build_task(
    autoencoder: TiedAutoencoder,
    emulator: LatentAutoregressive | None,
    scales: Scales,
    species: Sequence[str],
    elements: Sequence[str],
) -> Task:
    """A task with imported networks and scalers rebuilt from numbers.

    Args:
        autoencoder: The imported autoencoder.
        emulator: The imported emulator, None for the autoencoder alone.
        scales: What the weights do not hold.
        species: Names in the order of the abundances.
        elements: Elements that are counted.

    Raises:
        ValueError: If the number of species is another one, or ranges are missing.
    """
    if len(species) != autoencoder.input_dim:
        raise ValueError(
            f"the autoencoder is for {autoencoder.input_dim} species, the list has {len(species)}; "
            "give --species the names it was trained on"
        )
    if emulator is None:
        task: AutoencoderTask | EmulatorTask = AutoencoderTask(
            autoencoder, list(species), list(elements)
        )
    else:
        if scales.latents is None:
            raise ValueError("the emulator needs the range of the latents; give --scales.latents")
        task = EmulatorTask(emulator, autoencoder, list(species), list(elements))
        low, high = (torch.full((emulator.state_dim,), value) for value in scales.latents)
        emulator.latent_scaler.set_range(low, high)
        ranges = torch.tensor(scales.conditions(), dtype=torch.float64).T
        emulator.physics_scaler.set_range(ranges)
        task.domain.physics_range.copy_(ranges)
        task.domain.latent_mean.copy_((low + high) / 2)  # all that is known of the training latents
        task.domain.latent_precision.copy_(torch.diag(4 / (high - low).square()))
        bounds = torch.cat([torch.stack([low, high]).double(), ranges.log10()], 1)
        task.domain.joint_mean.copy_(bounds.mean(0))
        task.domain.joint_precision.copy_(torch.diag(4 / (bounds[1] - bounds[0]).square()))
    task.scaler.set_limits(scales.lo, scales.hi)
    return task.eval()


def _bare(name: str) -> str:
    for prefix in PREFIXES:
        name = name.removeprefix(prefix)
    return name.replace("._orig_mod.", ".")


def _is_told_twice(name: str, theirs: Weights, used: Iterable[str]) -> bool:
    """Whether a tensor is a count of batches, or tied to one that is used."""
    value = theirs[name]
    return name.endswith("num_batches_tracked") or any(
        torch.equal(value, own) or (own.dim() == 2 and torch.equal(value, own.t()))
        for own in (theirs[other] for other in used)
    )


def _kind(name: str, every: Mapping[str, Tensor]) -> str:
    """What a tensor is: a part of a normalisation, or anything else."""
    head, _, last = name.rpartition(".")
    if last in STATISTICS:
        return last
    return f"norm {last}" if f"{head}.running_mean" in every else "other"
