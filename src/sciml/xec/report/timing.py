"""Figure of the errors of the time."""

from sciml.xec.report.fits import fit_core
from sciml.xec.report.panels import bias_against, distribution, width_against
from sciml.xec.report.plate import Plate, lay_out
from sciml.xec.report.resolution import Columns


def timing_plate(columns: Columns, title: str) -> Plate:
    """Errors of the time: distribution with its core, widths, and medians against the place.

    Args:
        columns: Of the events.
        title: Heading.
    """
    panels = [distribution(columns, "timing", [fit_core])]
    panels += [width_against(columns, "timing", variable) for variable in ("energy", "w")]
    panels += [bias_against(columns, "timing", variable) for variable in ("energy", "u", "v")]
    return lay_out(panels, title)
