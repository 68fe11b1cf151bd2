"""Whether data, weights and networks fit together."""

from collections.abc import Mapping, Sequence
from typing import Any

from sciml.astrochem.net.base import AutoencoderNet, EmulatorNet


def check_species(own: Sequence[str], checkpoint: Mapping[str, Any]) -> None:
    """Raise one sentence when a checkpoint is of another chemistry.

    Args:
        own: Species of the task, which are those of the data.
        checkpoint: What was read.

    Raises:
        ValueError: If species differ, or come in another order.
    """
    stored = list(checkpoint["hyper_parameters"].get("species") or [])
    if stored == list(own):
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
    if merge_steps > 1 and not getattr(net, "dt_input", False):
        raise ValueError(
            "merged steps differ in length, which the network does not see; "
            "set --model.net.dt_input true or --model.merge_steps 1"
        )
