"""Whether data, weights and networks fit together."""

from collections.abc import Sequence

from lightning.pytorch import Trainer

from sciml.astrochem.net.base import AutoencoderNet, EmulatorNet
from sciml.astrochem.physics.scaling import AbundanceScaler
from sciml.astrochem.physics.statistics import ChemistryStatistics


def check_species(own: Sequence[str], stored: Sequence[str]) -> None:
    """Raise one sentence when a checkpoint is of another chemistry.

    Args:
        own: Species of the task, which are those of the data.
        stored: Species of the checkpoint.

    Raises:
        ValueError: If species differ, or come in another order.
    """
    if list(stored) == list(own):
        return
    missing = [name for name in stored if name not in own]
    extra = [name for name in own if name not in stored]
    parts = [f"{len(stored)} species in the checkpoint, {len(own)} in the data"]
    parts += [f"not in the data: {', '.join(missing[:5])}"] if missing else []
    parts += [f"not in the checkpoint: {', '.join(extra[:5])}"] if extra else []
    raise ValueError(
        f"the checkpoint was trained on another chemistry ({'; '.join(parts)}); "
        "give --data.path or --data.test a file with the same species"
    )


def check_scaling(scaler: AbundanceScaler, trainer: Trainer) -> None:
    """Raise one sentence when the data of a run are scaled in another way than its weights expect.

    Args:
        scaler: Of the task.
        trainer: Its data module is asked, if it has one of tracers.

    Raises:
        ValueError: If the ranges differ.
    """
    data = trainer.datamodule  # type: ignore[attr-defined]
    if not (hasattr(data, "lo") and hasattr(data, "hi")):
        return
    lo, hi = scaler.range()
    if abs(lo / data.lo - 1) > 1e-6 or abs(hi / data.hi - 1) > 1e-6:
        raise ValueError(
            f"the data are scaled from {data.lo:g} to {data.hi:g}, the autoencoder was trained "
            f"from {lo:g} to {hi:g}; set --data.lo {lo:g} --data.hi {hi:g}"
        )


def check_steps(net: EmulatorNet, statistics: ChemistryStatistics) -> None:
    """Raise one sentence when steps differ in length and the emulator cannot tell.

    Args:
        net: Emulator.
        statistics: Of the training tracers.

    Raises:
        ValueError: If it takes no length and not all steps have the same one.
    """
    if not (statistics.constant_dt or net.dt_input):
        raise ValueError(
            f"the steps of the training tracers differ in length (median {statistics.dt:g} yr), "
            "which the network does not see; use FlowMap with --model.net.dt_input true, or "
            "tracers with steps of one length"
        )


def check_sizes(
    net: EmulatorNet, autoencoder: AutoencoderNet, species: int, merge_steps: int
) -> None:
    """Raise one sentence when networks do not fit together.

    Args:
        net: Emulator.
        autoencoder: Whose latents it advances.
        species: Number of species.
        merge_steps: Most intervals of a training step.

    Raises:
        ValueError: If a size differs, or the emulator cannot tell steps of different lengths.
    """
    if autoencoder.input_dim != species:
        raise ValueError(f"the autoencoder is for {autoencoder.input_dim} species, not {species}")
    if net.state_dim != autoencoder.latent_dim:
        raise ValueError(
            f"the emulator advances {net.state_dim} latents but the autoencoder has "
            f"{autoencoder.latent_dim}; set --model.net.latent_dim {autoencoder.latent_dim}"
        )
    if merge_steps > 1 and not net.dt_input:
        raise ValueError(
            "merged steps differ in length, which the network does not see; "
            "set --model.net.dt_input true or --model.merge_steps 1"
        )
