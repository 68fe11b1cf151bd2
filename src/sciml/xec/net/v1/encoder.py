"""The encoder that regression, pretraining and inpainting share (b events, t faces, d numbers)."""

import torch
from torch import Tensor, nn

from sciml.xec.net.v1.backbone import DeepHexEncoder, FaceBackbone
from sciml.xec.net.v1.faces import Layout, OuterMode, face_images
from sciml.xec.net.v1.fusion import Fusion
from sciml.xec.physics.hexagon import hex_graph, legacy_hex_graph
from sciml.xec.physics.images import hex_ids
from sciml.xec.physics.normalisation import Normalisation


class XECEncoder(nn.Module):
    """One token for each face, mixed by a transformer.

    The order of the tokens is inner, us, ds, outer, top, bot, and with ``outer_mode: split``
    inner, outer_coarse, outer_center, us, ds, top, bot.

    Args:
        normalisation: That of the inputs.
        layout: ``legacy`` has the wrong map of the outer face and the wrong hexagonal graph of
            older checkpoints, ``v2`` the right ones.
        outer_mode: The outer face as one ``finegrid``, or ``split`` into its coarse map and its
            centre patch.
        outer_fine_pool: Cells of the fine grid pooled into one, along z and along the angle.
        encoder_dim: Numbers a token d, a multiple of 32.
        dim_feedforward: Width of the linear layers of the transformer; by default ``4 d``.
        num_fusion_layers: Layers of the transformer.
        drop_path_rate: Share of events a convolution block is skipped for in training.
    """

    def __init__(
        self,
        normalisation: Normalisation,
        *,
        layout: Layout,
        outer_mode: OuterMode,
        outer_fine_pool: tuple[int, int] | None,
        encoder_dim: int,
        dim_feedforward: int | None,
        num_fusion_layers: int,
        drop_path_rate: float,
    ) -> None:
        super().__init__()
        if encoder_dim < 32 or encoder_dim % 32 or num_fusion_layers < 0:
            raise ValueError(
                f"model.net has encoder_dim {encoder_dim} and num_fusion_layers "
                f"{num_fusion_layers}; the first is a multiple of 32, the second not negative"
            )
        self.faces = face_images(layout, outer_mode, outer_fine_pool, normalisation)
        self.backbone = FaceBackbone(encoder_dim, drop_path_rate)
        self.hex_encoder = DeepHexEncoder(encoder_dim, drop_path_rate)
        hidden = 4 * encoder_dim if dim_feedforward is None else dim_feedforward
        self.fusion_transformer = Fusion(encoder_dim, hidden, num_fusion_layers)
        self.pos_embed = nn.Parameter(torch.empty(1, len(self.faces) + 2, encoder_dim))
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        graph = legacy_hex_graph() if layout == "legacy" else hex_graph()
        self.register_buffer("top_hex_indices", torch.tensor(hex_ids("top")))
        self.register_buffer("bottom_hex_indices", torch.tensor(hex_ids("bot")))
        self.register_buffer("hex_edge_index", torch.tensor(graph))
        self.top_hex_indices: Tensor
        self.bottom_hex_indices: Tensor
        self.hex_edge_index: Tensor

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Encode.

        Args:
            x: Normalised counts and times, ``(b, 4760, 2)``.
            mask: True or 1 where a sensor is hidden, ``(b, 4760)``.

        Returns:
            Tokens, ``(b, t, d)``.
        """
        mask = None if mask is None else mask.to(x)
        tokens = [self.backbone(*face(x, mask)) for face in self.faces.values()]
        tokens += self._hexagons(x, mask).unflatten(0, (2, -1)).unbind()
        fused: Tensor = self.fusion_transformer(torch.stack(tokens, 1) + self.pos_embed)
        return fused

    def _hexagons(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """Tokens of top and bottom, ``(2b, d)``."""
        faces = (self.top_hex_indices, self.bottom_hex_indices)
        nodes = torch.cat([x[:, ids] for ids in faces])
        hidden = None
        if mask is not None:
            hidden = torch.cat([mask[:, ids] for ids in faces])[..., None]
        tokens: Tensor = self.hex_encoder(nodes, self.hex_edge_index, hidden)
        return tokens
