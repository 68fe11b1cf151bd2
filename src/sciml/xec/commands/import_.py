"""``sciml xec import``: a checkpoint of the older training code as one of ours."""

from pathlib import Path

from sciml.core.checkpoint import save_task
from sciml.core.files import refuse_existing
from sciml.core.report import show
from sciml.xec.net.legacy import read_legacy
from sciml.xec.net.v1.imported import import_network
from sciml.xec.task import XECTask


def import_(
    old: Path,
    *,
    out: Path,
    normalisation: str = "legacy",
    outer_fine_pool: tuple[int, int] | None = None,
) -> Path:
    """Make a checkpoint of one that the older training code wrote.

    Averaged weights are taken where there are some. Sizes are read from the shapes of the weights,
    the rest from the settings in the file. The result gives the same outputs; of a pretraining or
    an inpainter it takes the encoder, and the heads are new.

    Args:
        old: Checkpoint of the older code, a .pth file.
        out: Checkpoint to make. It must not exist.
        normalisation: Preset for the values that the file does not hold: legacy, legacy5 (both
            sentinels -5), mae or tuned.
        outer_fine_pool: Cells of the outer face's fine grid that were pooled, along z and along
            the angle, if the file does not tell.

    Returns:
        The checkpoint.
    """
    refuse_existing(out)
    file = read_legacy(old)
    made = import_network(file, normalisation=normalisation, outer_fine_pool=outer_fine_pool)
    # the time of emission, the only one that the older code knew
    save_task(XECTask(net=made.net, timing_reference="vertex").eval(), out)
    show(made.match.table(f"{file.kind} from {old.name}"))
    for note in made.notes:
        print(note)
    print(f"XECTask for {', '.join(made.net.tasks)} in {out}")
    return out
