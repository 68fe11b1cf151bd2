"""The network that older checkpoints hold (b events, t faces, d numbers a token)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sciml.xec.net.base import OUTPUTS, Batch, XECNet, choose_normalisation
from sciml.xec.net.v1.encoder import XECEncoder
from sciml.xec.net.v1.faces import Layout, OuterMode


class XECv1(XECNet):
    """A token for each face from shared ConvNeXt blocks, a transformer over them, and heads.

    The tensor contract is that of `XECNet`. It reads counts and relative times only: its
    ``timing`` is not anchored to ``time_min``. Heads exist for all tasks, as in older
    checkpoints; those that are not among `tasks` are neither run nor trained.

    Args:
        tasks: Names of the quantities to give.
        nll_tasks: Those of them that come with the logarithms of their variances.
        normalisation: Of counts and times: the name of a preset, or all values that differ from
            those of ``legacy`` by name.
        layout: ``legacy`` has the wrong map of the outer face and the wrong hexagonal graph of
            older checkpoints, ``v2`` the right ones.
        outer_mode: The outer face as one ``finegrid``, or ``split`` into its coarse map and its
            centre patch.
        outer_fine_pool: Cells of the fine grid pooled into one, along z and along the angle.
        encoder_dim: Numbers a token d, a multiple of 32.
        dim_feedforward: Width of the linear layers of the transformer; by default ``4 d``.
        num_fusion_layers: Layers of the transformer.
        hidden_dim: Width of the heads.
        drop_path_rate: Share of events a convolution block is skipped for in training.
    """

    def __init__(
        self,
        tasks: Sequence[str] = ("angle", "energy", "timing", "uvwFI"),
        nll_tasks: Sequence[str] = (),
        normalisation: dict[str, float | str] | str = "legacy",
        *,
        layout: Layout = "legacy",
        outer_mode: OuterMode = "finegrid",
        outer_fine_pool: tuple[int, int] | None = None,
        encoder_dim: int = 1024,
        dim_feedforward: int | None = None,
        num_fusion_layers: int = 2,
        hidden_dim: int = 256,
        drop_path_rate: float = 0.0,
    ) -> None:
        super().__init__(tasks, nll_tasks)
        self.save_hyperparameters()
        self.normalisation = choose_normalisation(normalisation)
        self.backbone = XECEncoder(
            self.normalisation,
            layout=layout,
            outer_mode=outer_mode,
            outer_fine_pool=outer_fine_pool,
            encoder_dim=encoder_dim,
            dim_feedforward=dim_feedforward,
            num_fusion_layers=num_fusion_layers,
            drop_path_rate=drop_path_rate,
        )
        size = self.backbone.pos_embed.numel()
        heads = {name: _head(size, hidden_dim, self.width(name)) for name in OUTPUTS}
        self.heads = nn.ModuleDict(heads)
        for name in set(OUTPUTS) - set(self.tasks):  # several processes wait for every gradient
            self.heads[name].requires_grad_(False)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        return self.predict(self.encode(self.normalise(batch)))

    def normalise(self, batch: Batch) -> Tensor:
        """What the encoder sees of a batch.

        Args:
            batch: Raw values; see `XECNet`.

        Returns:
            Normalised counts and times in the dtype of the parameters, ``(b, 4760, 2)``.
        """
        npho, time = batch["npho"], batch["relative_time"]
        pair = self.normalisation.npho(npho), self.normalisation.time(npho, time)
        return torch.stack(pair, -1).to(self.backbone.pos_embed)

    def encode(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Tokens of the faces.

        Args:
            x: Normalised counts and times, ``(b, 4760, 2)``.
            mask: True or 1 where a sensor is hidden, ``(b, 4760)``.

        Returns:
            ``(b, t, d)``, in the order of `XECEncoder`.
        """
        tokens: Tensor = self.backbone(x, mask)
        return tokens

    def predict(self, tokens: Tensor) -> dict[str, Tensor]:
        """Outputs of the heads.

        Args:
            tokens: What `encode` returns.

        Returns:
            Output by task, as of `forward`.
        """
        flat = tokens.flatten(1)
        return {name: self.heads[name](flat) for name in self.tasks}

    def no_decay(self) -> set[str]:
        return super().no_decay() | {"backbone.pos_embed"}


def _head(size: int, hidden: int, width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(size, hidden),
        nn.LayerNorm(hidden),
        nn.GELU(),
        nn.Dropout(0.2),
        nn.Linear(hidden, hidden),
        nn.GELU(),
        nn.Linear(hidden, width),
    )
