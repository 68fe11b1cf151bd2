"""The default network (b events, d numbers a token)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from sciml.xec.net.base import Batch, XECNet, choose_normalisation
from sciml.xec.net.spaces import Space
from sciml.xec.net.v2 import channels as inputs
from sciml.xec.net.v2.faces import FaceTokens
from sciml.xec.net.v2.fusion import FusionLayer
from sciml.xec.net.v2.window import Window
from sciml.xec.physics.anchors import DEPTH_OFFSET, NANO, Anchors, Conventional
from sciml.xec.physics.coordinates import local_frame
from sciml.xec.physics.statistics import EventStatistics

HEAD = 64  # numbers of an attention head
LOCAL = ("uvwFI", "energy")  # whose heads also see the summary directly
UNITS = {"uvwFI": (0.5, 0.5, 0.5), "energy": (0.05,), "timing": (0.2,)}
"""What a unit of a head is worth: cm and ln cm; ln GeV; ns."""


class XECv2(XECNet):
    """Corrections to conventional estimates, from all faces and a window at full resolution.

    The tensor contract is that of `XECNet`, with these differences: ``energy`` is trained as
    ``ln E`` and the depth as ``ln(w + 0.5 cm)``; ``timing`` is that of the first interaction,
    absolute (``time_min`` is added back); ``angleVec`` among `nll_tasks` is ``(b, 4)``, a unit
    vector and the logarithm of the concentration of a von Mises-Fisher distribution.

    Every sensor gives its light, how much later it fired than the estimates expect, and two flags.
    The inner face becomes 12 x 6 tokens, the others 21; a window of 20 x 20 sensors around the
    brightest spot four more. One query a task collects what its head needs.

    Args:
        tasks: Names of the quantities to give: uvwFI, energy, timing, angleVec, n_gamma.
        nll_tasks: Those that come with uncertainties.
        normalisation: Of the light: the name of a preset, or values that differ from ``v2``.
        width: Numbers a token d, a multiple of 32.
        layers: Layers of the transformer.
        expansion: Width of its hidden layers in units of d.
        channels: Channels of the inner face, of the window and of the hexagonal faces.
        blocks: ConvNeXt blocks of the inner face and of the window.
        hidden: Width of the heads.
        window_tokens: Tokens of the window.
        drop_path_rate: Share of events a block is skipped for in training.
    """

    def __init__(
        self,
        tasks: Sequence[str] = ("uvwFI", "energy", "timing", "angleVec"),
        nll_tasks: Sequence[str] = ("uvwFI", "energy", "timing", "angleVec"),
        normalisation: dict[str, float | str] | str = "v2",
        *,
        width: int = 128,
        layers: int = 3,
        expansion: int = 2,
        channels: tuple[int, int, int] = (32, 64, 16),
        blocks: tuple[int, int] = (1, 2),
        hidden: int = 256,
        window_tokens: int = 4,
        drop_path_rate: float = 0.0,
    ) -> None:
        super().__init__(tasks, nll_tasks)
        self.save_hyperparameters()
        if "angle" in self.tasks:
            raise ValueError("XECv2 gives directions as unit vectors; write angleVec for angle")
        if width % 32 or width < 32:
            raise ValueError(f"model.net.width is {width}; give a multiple of 32")
        self.normalisation = choose_normalisation(normalisation, "v2")
        self.conventional = Conventional(self.normalisation.npho_threshold)
        self.faces = FaceTokens(width, channels[0], blocks[0], channels[2], drop_path_rate)
        self.window = Window(channels[1], blocks[1], width, window_tokens, drop_path_rate)
        self.queries = nn.Parameter(0.02 * torch.randn(len(self.tasks), width))
        self.summary = nn.Linear(inputs.SUMMARY, width)
        self.layers = nn.ModuleList(
            FusionLayer(width, max(1, width // HEAD), expansion, drop_path_rate)
            for _ in range(layers)
        )
        self.norm = nn.LayerNorm(width)
        self.heads = nn.ModuleDict(
            {
                name: nn.Sequential(
                    nn.Linear(width + (inputs.SUMMARY if name in LOCAL else 0), hidden),
                    nn.GELU(),
                    _last(hidden, self.width(name), name),
                )
                for name in self.tasks
            }
        )

    def set_statistics(self, statistics: EventStatistics) -> None:
        self.conventional.set_statistics(statistics)

    def width(self, task: str) -> int:
        return 4 if task == "angleVec" and task in self.nll_tasks else super().width(task)

    def space(self, task: str) -> Space:
        offsets = {"uvwFI": (None, None, DEPTH_OFFSET), "energy": (0.0,)}
        return Space(offsets[task]) if task in offsets else super().space(task)

    def no_decay(self) -> set[str]:
        return super().no_decay() | {"queries", "faces.hex_node", "faces.kind.weight"}

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        anchors = self.conventional(batch["npho"], batch["relative_time"])
        tokens, numbers = self.encode(anchors)
        found = {}
        for place, name in enumerate(self.tasks):
            seen = tokens[:, place]
            head = self.heads[name](torch.cat([seen, numbers], 1) if name in LOCAL else seen)
            found[name] = self._anchored(name, head, anchors, batch)
        return found

    def encode(self, anchors: Anchors) -> tuple[Tensor, Tensor]:
        """What the heads read: a token for every task, and the summary of the event.

        Args:
            anchors: Of the events.

        Returns:
            ``(b, tasks, d)`` and ``(b, numbers)``.
        """
        x = inputs.channels(anchors, self.normalisation).to(self.queries.dtype)
        window = self.window(x, anchors.place)
        numbers = inputs.summary(anchors, self.conventional.centre(anchors.place)).to(
            self.queries.dtype
        )
        queries = self.queries + self.summary(numbers)[:, None]
        state = torch.cat([queries, self.faces(x), window], 1)
        for layer in self.layers[:-1]:
            state = layer(state)
        return self.norm(self.layers[-1](state, len(self.tasks))), numbers

    def _anchored(self, task: str, head: Tensor, anchors: Anchors, batch: Batch) -> Tensor:
        """Output of a head in the space it is trained in, in float32 or better."""
        head = head.to(anchors.light.dtype)
        if task == "n_gamma":
            return head
        if task == "angleVec":
            frame = local_frame(torch.cat([anchors.spot, anchors.depth[:, None]], 1))
            unit = torch.einsum("bk,bkx->bx", normalize(head[:, :3], dim=1), frame)
            return torch.cat([unit, head[:, 3:]], 1)
        units = head.new_tensor(UNITS[task])
        mean = head[:, : len(units)] * units
        if task == "uvwFI":
            depth = (anchors.depth + DEPTH_OFFSET).log()
            mean = mean + torch.cat([anchors.spot, depth[:, None]], 1)
        elif task == "energy":
            mean = mean + anchors.energy[:, None].log()
        else:
            start = NANO * batch["time_min"].to(mean) + anchors.time
            mean = mean + start[:, None]
        spread = head[:, len(units) :]
        return torch.cat([mean, spread + 2 * units.log()], 1) if spread.shape[1] else mean


def _last(hidden: int, width: int, task: str) -> nn.Linear:
    """A layer that gives the estimates themselves at first, and directions away from the axis."""
    layer = nn.Linear(hidden, width)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    if task == "angleVec":
        with torch.no_grad():
            layer.bias[0] = 1.0
    return layer
