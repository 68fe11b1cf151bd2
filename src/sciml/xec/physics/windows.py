"""Square windows of the inner face (b events, c channels)."""

import torch
from torch import Tensor
from torch.nn.functional import pad

from sciml.xec.physics.constants import INNER_SHAPE

SIZE = 20  # sensors along each side of a window
HALF = SIZE // 2


def cut(inner: Tensor, place: Tensor) -> Tensor:
    """Windows of the inner face, with zeros beyond its edges.

    Args:
        inner: Channels of its sensors, ``(b, c, 4092)``.
        place: Row and column of the sensor at row and column 10 of each window, int64 ``(b, 2)``.

    Returns:
        ``(b, c, 20, 20)``.
    """
    b, c = inner.shape[:2]
    wide = INNER_SHAPE[1] + SIZE
    image = pad(inner.view(b, c, *INNER_SHAPE), (HALF, HALF, HALF, HALF)).flatten(2)
    steps = torch.arange(SIZE, device=inner.device)
    rows, columns = place[:, :1] + steps, place[:, 1:] + steps
    ids = (rows[:, :, None] * wide + columns[:, None]).flatten(1)
    return image.gather(2, ids[:, None].expand(-1, c, -1)).view(b, c, SIZE, SIZE)
