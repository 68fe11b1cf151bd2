"""Figure of the errors of the direction."""

from sciml.xec.report.panels import bias_against, distribution, width_against
from sciml.xec.report.plate import Plate, lay_out
from sciml.xec.report.resolution import Columns


def angle_plate(columns: Columns, title: str) -> Plate:
    """Errors of the direction: distributions of opening angle, θ and φ, and against the angles.

    Args:
        columns: Of the events.
        title: Heading.
    """
    panels = [distribution(columns, name) for name in ("direction", "theta", "phi")]
    panels += [width_against(columns, "direction", "energy")]
    panels += [bias_against(columns, name, name) for name in ("theta", "phi")]
    panels += [width_against(columns, "direction", name) for name in ("theta", "phi")]
    return lay_out(panels, title, across=4)
