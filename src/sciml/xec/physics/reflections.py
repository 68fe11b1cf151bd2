"""Mirror images of the detector, which map every sensor to another one."""

import functools
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from sciml.xec.physics.constants import SENSORS
from sciml.xec.physics.hexagon import hex_grid
from sciml.xec.physics.images import (
    hex_ids,
    inner_image,
    outer_centre,
    outer_coarse,
    plane_image,
)

Ids = NDArray[np.int64]
Mirror = Literal["z", "y", "zy"]


@functools.cache
def reflection(mirror: Mirror) -> Ids:
    """The sensor at the mirror image of every sensor; readings of a mirrored event are ``x[p]``.

    Args:
        mirror: Coordinates that change their sign. With z, u and the z component of directions do
            and the upstream and downstream faces are exchanged; with y, v and the azimuth do and
            top and bottom are exchanged.

    Returns:
        Permutation p, its own inverse, int64 ``(4760,)``: ``position[p]`` is the mirrored
        position.
    """
    if mirror == "zy":
        return _frozen(reflection("z")[reflection("y")])
    image = np.empty(SENSORS, dtype=np.int64)
    # the centre patch comes last: the coarse map holds some of its sensors, mirrored the same way
    axis = 1 if mirror == "z" else 0
    for ids in (inner_image(), outer_coarse(), outer_centre()):
        image[ids] = np.flip(ids, axis)
    us, ds, top, bottom = plane_image("us"), plane_image("ds"), hex_ids("top"), hex_ids("bot")
    if mirror == "z":
        image[us], image[ds] = ds, us
        rows, columns = hex_grid()
        backwards = np.lexsort((-columns, rows))
        image[top], image[bottom] = top[backwards], bottom[backwards]
    else:
        image[us], image[ds] = us[::-1], ds[::-1]
        image[top], image[bottom] = bottom, top
    return _frozen(image)


def _frozen(ids: Ids) -> Ids:
    ids.setflags(write=False)
    return ids
