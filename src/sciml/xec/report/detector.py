"""A figure of the detector with the numbers of its sensors."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.figure import Figure

from sciml.xec.physics.constants import INNER, SENSORS
from sciml.xec.physics.images import inner_image, outer_centre
from sciml.xec.physics.sensors import sensors
from sciml.xec.report.unrolled import draw_unrolled, outlines

# light tones of the house's colours, in the order of the faces
TONES = ("#BFDBEC", "#F4D7BF", "#BFE6DB", "#F2DDE9", "#F9E7BF", "#D5ECFA")
LABELLED_ROWS = (*range(0, 90, 10), 92)  # of the inner face, whose cells are too small for numbers


def detector_figure() -> Figure:
    """All sensors coloured by face, photomultipliers with their ids."""
    figure, axes = plt.subplots(figsize=(9.0, 9.4))
    tones = ListedColormap(TONES)
    norm = Normalize(-0.5, len(TONES) - 0.5)
    cells = draw_unrolled(axes, sensors().face.astype(np.float64), norm=norm, cmap=tones)
    cells.set(edgecolors="white", linewidths=0.3)
    middles = outlines().mean(1)
    for number in range(INNER, SENSORS):  # a text of its own each
        x, y = middles[number]
        size = 3.0 if number in outer_centre() else 3.8  # points
        axes.text(x, y, str(number), fontsize=size, ha="center", va="center")
    _label_rows(axes)
    return figure


def _label_rows(axes: Axes) -> None:
    """First and last id of some rows beside the inner face."""
    for row in LABELLED_ROWS:
        for column, corner, side, shift in ((0, 2, "left", 0.6), (-1, 0, "right", -0.6)):
            number = inner_image()[row, column]
            x, y = outlines()[number, corner, 0], outlines()[number].mean(0)[1]
            axes.text(x + shift, y, str(number), fontsize=4.5, ha=side, va="center")
