"""Emulators as plain functions of tensors, for programs that leave Python.

Shapes: b cells, S species, L latents, E elements.
"""

from torch import Tensor, nn

from sciml.astrochem.net.base import AutoencoderNet, EmulatorNet
from sciml.astrochem.physics.projection import ElementProjection
from sciml.astrochem.physics.scaling import AbundanceScaler


class Encoder(nn.Module):
    """Latents of abundances.

    Args:
        autoencoder: Network.
        scaler: Of the abundances.
    """

    def __init__(self, autoencoder: AutoencoderNet, scaler: AbundanceScaler) -> None:
        super().__init__()
        self.autoencoder = autoencoder
        self.scaler = scaler

    def forward(self, abundance: Tensor) -> Tensor:
        """Latents ``(b, L)``.

        Args:
            abundance: Per H nucleus, not scaled, ``(b, S)``.
        """
        return self.autoencoder.encode(self.scaler.scale(abundance))


class Decoder(nn.Module):
    """Abundances of latents.

    Args:
        autoencoder: Network.
        scaler: Of the abundances.
    """

    def __init__(self, autoencoder: AutoencoderNet, scaler: AbundanceScaler) -> None:
        super().__init__()
        self.autoencoder = autoencoder
        self.scaler = scaler

    def forward(self, latent: Tensor) -> Tensor:
        """Abundances per H nucleus, ``(b, S)``.

        Args:
            latent: ``(b, L)``.
        """
        return self.scaler.unscale(self.autoencoder.decode(latent))


class Step(nn.Module):
    """Latents one step later.

    Inputs that the network does not know are left out from the end.

    Args:
        net: Emulator.
    """

    def __init__(self, net: EmulatorNet) -> None:
        super().__init__()
        self.net = net

    def forward(
        self,
        latent: Tensor,
        phys: Tensor,
        phys_before: Tensor | None = None,
        dt: Tensor | None = None,
    ) -> Tensor:
        """Latents ``(b, L)``.

        Args:
            latent: ``(b, L)``.
            phys: Conditions that act during the step, in physical units, ``(b, 4)``.
            phys_before: Those of the step before, ``(b, 4)``.
            dt: Length of the step in years, ``(b,)``.
        """
        return self.net.step(latent, phys, dt, phys_before)


class Full(nn.Module):
    """Abundances one step later with the element totals of those before.

    The projection runs in float64, whatever the type of the network.

    Args:
        step: From latents to those one step later.
        encoder: From abundances to latents.
        decoder: From latents to abundances.
        projection: Keeps the elements.
    """

    def __init__(
        self, step: Step, encoder: Encoder, decoder: Decoder, projection: ElementProjection
    ) -> None:
        super().__init__()
        self.step = step
        self.encoder = encoder
        self.decoder = decoder
        self.projection = projection

    def forward(
        self,
        abundance: Tensor,
        phys: Tensor,
        phys_before: Tensor | None = None,
        dt: Tensor | None = None,
    ) -> Tensor:
        """Abundances per H nucleus, ``(b, S)``.

        Args:
            abundance: Per H nucleus, not scaled, ``(b, S)``.
            phys: Conditions that act during the step, in physical units, ``(b, 4)``.
            phys_before: Those of the step before, ``(b, 4)``.
            dt: Length of the step in years, ``(b,)``.
        """
        latent = self.step(self.encoder(abundance), phys, phys_before, dt)
        totals = self.projection.totals(abundance)
        projected: Tensor = self.projection(self.decoder(latent), totals)
        return projected


class Timed(nn.Module):
    """A step for a network that knows its length but no earlier conditions.

    Args:
        whole: `Step` or `Full`.
    """

    def __init__(self, whole: Step | Full) -> None:
        super().__init__()
        self.whole = whole

    def forward(self, state: Tensor, phys: Tensor, dt: Tensor) -> Tensor:
        """Latents or abundances one step later.

        Args:
            state: Those before it.
            phys: Conditions that act during the step, in physical units, ``(b, 4)``.
            dt: Length of the step in years, ``(b,)``.
        """
        advanced: Tensor = self.whole(state, phys, None, dt)
        return advanced
