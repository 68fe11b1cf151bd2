"""From the features of an atom to its energy, before scale and shift."""

from torch import Tensor, nn

from sciml.hip.net.linear import Linear, scaled_silu


class LinearReadout(nn.Module):
    """Linear map of the scalars, for all layers but the last.

    Args:
        channels: Channels c.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.linear = Linear(channels, 1)

    def forward(self, scalars: Tensor) -> Tensor:
        """Map scalars of shape ``(n, c)`` to ``(n,)``."""
        energy: Tensor = self.linear(scalars)
        return energy.squeeze(-1)


class MLPReadout(nn.Module):
    """One hidden layer on the scalars of the last layer.

    Args:
        channels: Channels c.
        hidden: Width of the hidden layer.
    """

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.hidden = Linear(channels, hidden)
        self.linear = Linear(hidden, 1)

    def forward(self, scalars: Tensor) -> Tensor:
        """Map scalars of shape ``(n, c)`` to ``(n,)``."""
        energy: Tensor = self.linear(scaled_silu(self.hidden(scalars)))
        return energy.squeeze(-1)
