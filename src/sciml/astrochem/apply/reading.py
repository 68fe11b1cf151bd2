"""Files of tracers as an emulator's own training files were read."""

from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path

from sciml.astrochem.apply.emulator import AstroEmulator
from sciml.astrochem.apply.evaluation import aligned
from sciml.astrochem.data.files import READING, read_table
from sciml.astrochem.data.source import Reading
from sciml.astrochem.data.table import TracerTable
from sciml.astrochem.physics.species import ELEMENTS
from sciml.core.checkpoint import data_config, read


def read_tracers(
    path: Path,
    ckpt: Path,
    emulator: AstroEmulator,
    *,
    reading: Reading = READING,
    groups: Sequence[str] | None = None,
) -> dict[str, TracerTable]:
    """The tracers of a file in the order of an emulator's species, a table for every group.

    Args:
        path: A file of any known layout.
        ckpt: The emulator's checkpoint, see `reading_of`.
        emulator: Whose species are wanted.
        reading: How the file is read; what has its default is as it was for training.
        groups: Names of the groups; all by default.

    Raises:
        FileNotFoundError: If the file is missing.
        ValueError: If it cannot be understood, has other species, or says of its conditions what
            was not so for training.
    """
    used = reading_of(ckpt, emulator, reading)
    tables = read_table(path, groups, used)
    if reading.physics_alignment is None and used.physics_alignment is not None:
        for name, table in tables.items():
            said = table.meta["attributes"].get("physics_alignment", used.physics_alignment)
            if said != used.physics_alignment:
                raise ValueError(
                    f"group {name} of {path} has the physics_alignment {said}, but the training "
                    f"files were read with {used.physics_alignment}; say which it is with "
                    "--reading.physics_alignment"
                )
    return {name: aligned(table, emulator) for name, table in tables.items()}


def reading_of(ckpt: Path, emulator: AstroEmulator, given: Reading = READING) -> Reading:
    """How files are read for an emulator: as for its training, unless something else is given.

    Args:
        ckpt: The emulator's checkpoint, for its data settings.
        emulator: For elements beside the usual nine, where the settings do not name them.
        given: What differs from the default goes before the settings.
    """
    config = data_config(read(ckpt, mapped=True), ckpt)
    stored = {} if config is None else config["init_args"].get("reading") or {}
    own = {one.name: getattr(given, one.name) for one in fields(Reading)}
    changed = {name: value for name, value in own.items() if value != getattr(READING, name)}
    reading = Reading(**{**stored, **changed})
    if reading.elements is None and not set(emulator.elements) <= set(ELEMENTS):
        return replace(reading, elements=list(emulator.elements))
    return reading
