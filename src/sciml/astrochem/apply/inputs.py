"""Checks of what users hand to an emulator (b tracers, t steps, S species)."""

from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

import torch
from numpy.typing import NDArray
from torch import Tensor

from sciml.astrochem.data.columns import shorten
from sciml.astrochem.physics.constants import PHYSICS, PHYSICS_UNITS
from sciml.astrochem.physics.species import canonical_name

Array = Tensor | NDArray[Any]
Kind = TypeVar("Kind", Tensor, NDArray[Any])
"""Results are of the kind of the first argument."""


def like(example: Kind, values: Tensor) -> Kind:
    """A result as the kind of array that came in.

    Args:
        example: NumPy array or tensor.
        values: The result.
    """
    if isinstance(example, Tensor):
        return values.to(example.device)
    return values.cpu().numpy()


def few(device: torch.device) -> int:
    """Rows at once where nothing is projected: on a CPU what is between two layers stays in cache.

    Args:
        device: What computes.
    """
    return 512 if device.type == "cpu" else 65_536


def pieces(count: int, size: int) -> Iterator[slice]:
    """Slices of at most ``size`` that cover ``count`` rows.

    Args:
        count: Rows.
        size: Largest piece, at least 1.

    Raises:
        ValueError: If the size is not positive.
    """
    if size < 1:
        raise ValueError(f"chunk is {size}; it has to be at least 1")
    return (slice(begin, min(begin + size, count)) for begin in range(0, count, size))


def as_tensor(values: Array, name: str, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Numbers as a tensor of the emulator.

    Args:
        values: NumPy array or tensor.
        name: What it is called in errors.
        device: Where it goes.
        dtype: Its type.

    Raises:
        ValueError: If a number is NaN or infinite.
    """
    tensor = torch.as_tensor(values)
    if not bool(torch.isfinite(tensor).all()):
        bad = (~torch.isfinite(tensor)).nonzero()[0].tolist()
        raise ValueError(f"{name}{bad} is not finite; correct the input")
    return tensor.to(device, dtype)


def check_physics(physics: Tensor) -> None:
    """Raise unless conditions are positive, ``(..., 4)``.

    Args:
        physics: Density, field, Av and temperature in physical units.

    Raises:
        ValueError: If the last dimension is not 4 or a number is not positive.
    """
    if physics.dim() == 0 or physics.shape[-1] != len(PHYSICS):
        raise ValueError(
            f"conditions of shape {tuple(physics.shape)} do not end in {len(PHYSICS)} columns; "
            f"give {', '.join(f'{n} ({u})' for n, u in zip(PHYSICS, PHYSICS_UNITS, strict=True))}"
        )
    if not bool((physics > 0).all()):
        place = (physics <= 0).nonzero()[0].tolist()
        raise ValueError(
            f"{PHYSICS[place[-1]]} is {physics[tuple(place)].item():g} at {place[:-1]}; conditions "
            "have to be positive"
        )


def check_abundance(abundance: Tensor, species: Sequence[str]) -> None:
    """Raise unless abundances belong to the species and are not negative, ``(..., S)``.

    Args:
        abundance: Per H nucleus.
        species: Names in their order.

    Raises:
        ValueError: If the last dimension is not S or a number is negative.
    """
    if abundance.dim() == 0 or abundance.shape[-1] != len(species):
        raise ValueError(
            f"abundances of shape {tuple(abundance.shape)} do not end in the {len(species)} "
            "species of the emulator; bring them into the order of its attribute species"
        )
    if bool((abundance < 0).any()):
        place = (abundance < 0).nonzero()[0].tolist()
        raise ValueError(
            f"the abundance of {species[place[-1]]} is {abundance[tuple(place)].item():g} at "
            f"{place[:-1]}; abundances cannot be negative"
        )


def as_histories(physics: Tensor, abundance: Tensor) -> tuple[Tensor, Tensor, bool]:
    """Conditions ``(b, t, 4)`` and starts ``(b, S)`` of what may be one tracer.

    Args:
        physics: ``(t, 4)`` or ``(b, t, 4)``.
        abundance: ``(S,)`` or ``(b, S)``.

    Returns:
        Both with their batch, and whether neither had one.

    Raises:
        ValueError: If the numbers of tracers differ.
    """
    if physics.dim() not in {2, 3} or abundance.dim() not in {1, 2}:
        raise ValueError(
            f"conditions of shape {tuple(physics.shape)} and abundances of shape "
            f"{tuple(abundance.shape)} are no histories; give (t, 4) or (b, t, 4) and (S) or (b, S)"
        )
    single = physics.dim() == 2 and abundance.dim() == 1
    histories = physics if physics.dim() == 3 else physics[None]
    starts = abundance if abundance.dim() == 2 else abundance[None]
    count = max(len(histories), len(starts)) if len(histories) and len(starts) else 0
    if {len(histories), len(starts)} - {1, count}:
        raise ValueError(
            f"{len(histories)} histories do not fit {len(starts)} initial states; give one for "
            "every tracer, or one for all"
        )
    return (
        histories.expand(count, -1, -1),
        starts.expand(count, -1),
        single,
    )


def step_lengths(
    dt: float | Array, shape: tuple[int, ...], device: torch.device, dtype: torch.dtype
) -> Tensor:
    """Lengths of steps in years.

    Args:
        dt: One number, one for every step, or one for every tracer and step.
        shape: Of the result.
        device: Where it goes.
        dtype: Its type.

    Raises:
        ValueError: If a length is not positive or the shape does not fit.
    """
    lengths = (
        as_tensor(dt, "dt", device, dtype)
        if not isinstance(dt, float | int)
        else (torch.tensor(float(dt), device=device, dtype=dtype))
    )
    if not bool((lengths > 0).all()):
        raise ValueError("a step is not longer than 0 yr; dt has to be positive")
    if any(a not in {1, b} for a, b in zip(lengths.shape[::-1], shape[::-1], strict=False)) or (
        lengths.dim() > len(shape)
    ):
        raise ValueError(f"dt of shape {tuple(lengths.shape)} does not fit steps {tuple(shape)}")
    return lengths.expand(shape)


def species_columns(given: Sequence[str], wanted: Sequence[str]) -> list[int]:
    """Where the species of an emulator are among those of a table.

    Names agree as they are, else in canonical spelling.

    Args:
        given: Names of the table.
        wanted: Names of the emulator.

    Returns:
        Column of every wanted species.

    Raises:
        ValueError: If a species of either is not one of the other; names them.
    """
    if set(given) != set(wanted):
        given = [canonical_name(name) for name in given]
        wanted = [canonical_name(name) for name in wanted]
    missing = [name for name in wanted if name not in given]
    extra = [name for name in given if name not in wanted]
    if missing or extra:
        parts = [f"it lacks {shorten(missing)}"] if missing else []
        parts += [f"the emulator does not know {shorten(extra)}"] if extra else []
        raise ValueError(
            f"the table has other species than the emulator: {' and '.join(parts)}; use data of "
            "the same network"
        )
    return [given.index(name) for name in wanted]
