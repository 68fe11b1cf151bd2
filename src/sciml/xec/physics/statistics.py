"""What the training events say that networks are set up with."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from sciml.xec.physics.moments import DEPTH_TERMS, PLACE_TERMS

USUAL_LOG_DEPTH = 1.3  # about the mean of ln(w + 0.5 cm)


@dataclass(frozen=True)
class EventStatistics:
    """Constants of the conventional estimates, fitted once on training events.

    Args:
        face_weights: GeV for a photon on each face, in the order of `FACES`, float32 ``(6,)``.
        walk: Delay in ns of a sensor with one photo-electron, which falls with the root of their
            number, and a delay of all.
        depth: Median depth w of the first interaction in cm.
        events: Training events they come from.
        place: Factors of `place_terms` that correct the centroid in u and v, float32
            ``(2, PLACE_TERMS)``; by default none does.
        depth_line: Factors of `depth_terms`, float32 ``(DEPTH_TERMS,)``; by default a constant.
    """

    face_weights: NDArray[np.float32]
    walk: tuple[float, float]
    depth: float
    events: int
    place: NDArray[np.float32] = field(default_factory=lambda: np.zeros((2, PLACE_TERMS), "f4"))
    depth_line: NDArray[np.float32] = field(default_factory=lambda: _usual_depth_line())


def _usual_depth_line() -> NDArray[np.float32]:
    line = np.zeros(DEPTH_TERMS, np.float32)
    line[0] = USUAL_LOG_DEPTH
    return line
