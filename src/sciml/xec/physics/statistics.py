"""What the training events say that networks are set up with."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class EventStatistics:
    """Constants of the conventional estimates, fitted once on training events.

    Args:
        face_weights: GeV for a photon on each face, in the order of `FACES`, float32 ``(6,)``.
        walk: Delay in ns of a sensor with one photo-electron, which falls with the root of their
            number, and a delay of all.
        depth: Median depth w of the first interaction in cm.
        events: Training events they come from.
    """

    face_weights: NDArray[np.float32]
    walk: tuple[float, float]
    depth: float
    events: int
