"""What every sensor tells the network (b events, c channels)."""

import torch
from torch import Tensor

from sciml.xec.net.convnext import EPS
from sciml.xec.physics.anchors import Anchors
from sciml.xec.physics.moments import COUNT, NARROWEST
from sciml.xec.physics.normalisation import Normalisation

CHANNELS = 4  # light, lateness, whether it has a time, whether it is alive
BRIGHTER = 4.0  # the normalised light is multiplied by, so that most sensors have values near 1
SUMMARY = 12 + 4 * COUNT  # numbers of `summary`
LATEST = 3.0  # in units of a nanosecond; later or earlier is not told apart


def channels(anchors: Anchors, normalisation: Normalisation) -> Tensor:
    """Channels of all sensors, ``(b, c, 4760)``; a dead one has zeros.

    Args:
        anchors: Of the events.
        normalisation: Of the light.
    """
    light = BRIGHTER * normalisation.npho(anchors.light)
    late = anchors.late.clamp(-LATEST, LATEST)
    flags = anchors.timed.to(light.dtype), anchors.alive.to(light.dtype)
    return torch.stack([light * flags[1], late, *flags], 1)


def summary(anchors: Anchors, centre: Tensor) -> Tensor:
    """Numbers about the whole event, of order 1, ``(b, 72)``.

    Args:
        anchors: Of the events.
        centre: u and v of the brightest sensor in cm, ``(b, 2)``.
    """
    total = anchors.faces.sum(1, keepdim=True).clamp(min=1)
    peak = anchors.light.amax(1, keepdim=True).clamp(min=1)
    return torch.cat(
        [
            anchors.uv / 30,
            (anchors.uv - centre) / 2,
            2 * (anchors.moments.centre - (anchors.uv - centre)[:, None]).flatten(1),
            anchors.moments.width.clamp(min=NARROWEST).log().flatten(1),
            anchors.energy[:, None].clamp(min=EPS).log() + 3,
            anchors.faces / total,
            peak.log() / 5 - 1,
        ],
        1,
    )
