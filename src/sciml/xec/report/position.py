"""Figure of the errors of the first interaction point."""

from sciml.xec.metrics.resolution import AXES
from sciml.xec.report.panels import bias_against, distribution, width_against
from sciml.xec.report.plate import Plate, lay_out
from sciml.xec.report.resolution import Columns


def position_plate(columns: Columns, title: str) -> Plate:
    """Errors of u, v and w: distributions, against the coordinate itself and against the depth.

    Args:
        columns: Of the events.
        title: Heading.
    """
    panels = [distribution(columns, axis) for axis in AXES]
    panels += [bias_against(columns, axis, axis) for axis in AXES]
    panels += [width_against(columns, axis, "w") for axis in AXES]
    return lay_out(panels, title)
