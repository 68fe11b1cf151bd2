"""From sensors to the images of the faces (b events, h rows, w columns)."""

import math
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, max_pool2d

from sciml.xec.physics.images import (
    COARSE_SPREAD,
    inner_image,
    legacy_outer_coarse,
    legacy_outer_fine,
    outer_centre,
    outer_coarse,
    outer_fine,
    plane_image,
)
from sciml.xec.physics.normalisation import Normalisation

Layout = Literal["legacy", "v2"]
OuterMode = Literal["finegrid", "split"]


class Face(NamedTuple):
    """Counts and times ``(b, 2, h, w)``, and the mask ``(b, 1, h, w)`` if there is one."""

    image: Tensor
    mask: Tensor | None


class SensorImage(nn.Module):
    """A face that is a grid of sensors.

    Args:
        ids: Sensor of every pixel, int64 ``(h, w)``.
    """

    def __init__(self, ids: NDArray[np.int64]) -> None:
        super().__init__()
        self.register_buffer("ids", torch.tensor(ids), persistent=False)
        self.ids: Tensor

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Face:
        """Arrange.

        Args:
            x: Normalised counts and times, ``(b, 4760, 2)``.
            mask: 1 where a sensor is hidden, ``(b, 4760)``.
        """
        return Face(_pixels(x, self.ids), None if mask is None else _pixels(mask, self.ids))


class FineGrid(nn.Module):
    """The outer face with its coarse sensors and its denser centre on one grid of 45×72 cells.

    The count of a sensor is shared among its cells. Layout ``legacy`` divides the normalised
    count and hides cells as the coarse map alone would have it, and pooled counts are means;
    layout ``v2`` divides the photons and adds up those of a pooled cell. Pooled times are means
    of the valid ones, and a pooled cell is hidden if any of its cells is.

    Args:
        layout: Which map of the face, and how counts are shared.
        pool: Cells pooled into one, along z and along the angle; null for none. What does not
            fill a pooled cell at the end of an axis is left out.
        normalisation: That of the inputs.
    """

    def __init__(
        self, layout: Layout, pool: tuple[int, int] | None, normalisation: Normalisation
    ) -> None:
        super().__init__()
        legacy = layout == "legacy"
        ids, cells = legacy_outer_fine() if legacy else outer_fine()
        if pool is not None and not all(1 <= n <= m for n, m in zip(pool, ids.shape, strict=True)):
            raise ValueError(
                f"model.net.outer_fine_pool is {list(pool)}; give two numbers from 1 to "
                f"{ids.shape[0]} and {ids.shape[1]}"
            )
        hidden_by = (
            np.kron(legacy_outer_coarse(), np.ones(COARSE_SPREAD, np.int64)) if legacy else ids
        )
        self.pool = None if pool is None else (int(pool[0]), int(pool[1]))
        self.layout, self.normalisation = layout, normalisation
        for name, values in {"ids": ids, "cells": cells, "hidden_by": hidden_by}.items():
            self.register_buffer(name, torch.tensor(values), persistent=False)
        self.ids: Tensor
        self.cells: Tensor
        self.hidden_by: Tensor

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Face:
        """Arrange; see `SensorImage`."""
        pixels = _pixels(x, self.ids)
        count, time = pixels[:, :1], pixels[:, 1:]
        count = self._legacy_count(count) if self.layout == "legacy" else self._count(count)
        hidden = None if mask is None else _pixels(mask, self.hidden_by)
        if self.pool is None:
            return Face(torch.cat([count, time], 1), hidden)
        hidden = None if hidden is None else max_pool2d(hidden, self.pool)
        return Face(torch.cat([count, self._pooled_time(time, self.pool)], 1), hidden)

    def _legacy_count(self, count: Tensor) -> Tensor:
        count = count / self.cells
        return count if self.pool is None else avg_pool2d(count, self.pool)

    def _count(self, count: Tensor) -> Tensor:
        sentinel = self.normalisation.sentinel_npho
        valid = count != sentinel
        photons = self.normalisation.inverse_npho(count).where(valid, 0) / self.cells
        if self.pool is not None:
            photons = math.prod(self.pool) * avg_pool2d(photons, self.pool)  # their sum
            valid = max_pool2d(valid.to(count), self.pool) > 0
        return self.normalisation.npho(photons).where(valid, sentinel)

    def _pooled_time(self, time: Tensor, pool: tuple[int, int]) -> Tensor:
        sentinel = self.normalisation.sentinel_time
        valid = time != sentinel
        share = avg_pool2d(valid.to(time), pool)
        mean = avg_pool2d(time.where(valid, 0), pool) / share.where(share > 0, 1)
        return mean.where(share > 0, sentinel)


def face_images(
    layout: Layout,
    outer_mode: OuterMode,
    pool: tuple[int, int] | None,
    normalisation: Normalisation,
) -> nn.ModuleDict:
    """Makers of the images of the rectangular faces, in the order of their tokens.

    Args:
        layout: ``legacy`` has the wrong map of the outer face of older checkpoints.
        outer_mode: The outer face as one ``finegrid``, or ``split`` into the coarse map and the
            centre patch.
        pool: Cells of the fine grid that are pooled; null for none.
        normalisation: That of the inputs.

    Raises:
        ValueError: If what is to be pooled does not exist.
    """
    inner = SensorImage(inner_image())
    sides = {"us": SensorImage(plane_image("us")), "ds": SensorImage(plane_image("ds"))}
    if outer_mode == "finegrid":
        outer = FineGrid(layout, pool, normalisation)
        return nn.ModuleDict({"inner": inner, **sides, "outer": outer})
    if pool is not None:
        raise ValueError(
            "model.net.outer_fine_pool pools the fine grid, which outer_mode 'split' does not "
            "have; set it to null"
        )
    coarse = SensorImage(legacy_outer_coarse() if layout == "legacy" else outer_coarse().T)
    centre = SensorImage(outer_centre().T)
    return nn.ModuleDict({"inner": inner, "outer_coarse": coarse, "outer_center": centre, **sides})


def _pixels(values: Tensor, ids: Tensor) -> Tensor:
    """Values ``(b, 4760, c)`` or ``(b, 4760)`` as images ``(b, c, h, w)``, c = 1 for the latter."""
    picked = values[:, ids]
    return picked.permute(0, 3, 1, 2) if picked.ndim == 4 else picked[:, None]
