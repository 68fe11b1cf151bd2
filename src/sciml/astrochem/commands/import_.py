"""``sciml astrochem import``: weights of the original project as a checkpoint."""

from collections.abc import Mapping
from pathlib import Path

from sciml.astrochem.apply.foreign import (
    Scales,
    build_task,
    import_autoencoder,
    import_emulator,
)
from sciml.astrochem.physics.species import ELEMENTS, default_species, present_elements
from sciml.core.checkpoint import save_task
from sciml.core.files import refuse_existing
from sciml.core.report import metric_table, show

SCALES = Scales()


def import_(
    autoencoder: Path,
    *,
    out: Path,
    emulator: Path | None = None,
    species: Path | None = None,
    scales: Scales = SCALES,
) -> Path:
    """Make a checkpoint of weights that the original project saved.

    Tensors are matched by shape and order; what the weights do not hold comes from the arguments.
    With an emulator the result is one of EmulatorTask, else of AutoencoderTask.

    Args:
        autoencoder: Weights of the tied autoencoder, a state_dict saved by torch.
        out: Checkpoint to make. It must not exist.
        emulator: Weights of the latent emulator.
        species: Names of the species in their order, one a line; by default the 333 of the
            three-phase network.
        scales: Ranges that the original keeps outside its weights; by default those of its set.

    Returns:
        The checkpoint.
    """
    refuse_existing(out)
    if species is not None and not species.is_file():
        raise FileNotFoundError(f"no file {species}; check --species")
    names = default_species() if species is None else tuple(species.read_text().split())
    elements = present_elements(names, ELEMENTS)
    net, pairs = import_autoencoder(autoencoder)
    _show_pairs(f"autoencoder from {autoencoder.name}", pairs)
    step = None
    if emulator is not None:
        step, own = import_emulator(emulator, net.latent_dim)
        _show_pairs(f"emulator from {emulator.name}", own)
    task = build_task(net, step, scales, names, elements)
    save_task(task, out)
    print(f"{type(task).__name__} of {len(names)} species in {out}")
    return out


def _show_pairs(title: str, pairs: Mapping[str, str]) -> None:
    rows = {own: [other] for own, other in pairs.items()}
    show(metric_table(title, ["in the file"], rows, head="tensor"))
