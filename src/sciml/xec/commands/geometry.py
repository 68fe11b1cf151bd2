"""``sciml xec geometry``: the table and a drawing of all sensors."""

from pathlib import Path

import matplotlib.pyplot as plt

from sciml.core.files import write_text
from sciml.core.report import house_style
from sciml.xec.physics.constants import FACES
from sciml.xec.physics.sensors import Sensors, face_ids, sensors
from sciml.xec.report.detector import detector_figure

HEAD = "id,face,type,row,col,x,y,z,nx,ny,nz"
PICTURES = (".pdf", ".png", ".svg")


def geometry(*, out: Path, figure: Path | None = None) -> Path:
    """Write where all 4760 sensors are.

    The table has id, face (output code: 0 inner, 1 us, 2 ds, 3 outer, 4 top, 5 bot), type (sipm or
    pmt), row and column in the grid of the face, position in cm and the normal into the xenon.

    Args:
        out: CSV file to write.
        figure: Drawing of the unrolled detector to write as well, .pdf, .png or .svg.

    Returns:
        The table's path; a summary is printed.
    """
    if figure is not None and figure.suffix.lower() not in PICTURES:
        raise ValueError(f"{figure} is no picture; end --figure with {', '.join(PICTURES)}")
    write_text(out, table(sensors()))
    counts = ", ".join(f"{len(face_ids(face))} {face}" for face in FACES)
    print(f"{out}: {counts}")
    if figure is not None:
        figure.parent.mkdir(parents=True, exist_ok=True)
        part = figure.with_name(f".{figure.stem}.part{figure.suffix}")
        with house_style():
            drawn = detector_figure()
            drawn.savefig(part, dpi=300)
            plt.close(drawn)
        part.replace(figure)
        print(f"{figure}: the unrolled detector")
    return out


def table(detector: Sensors) -> str:
    """The sensors as CSV, lengths to 0.1 µm.

    Args:
        detector: What to write.
    """
    lines = [HEAD]
    # 0 is added for zeros without a sign
    position, normals = detector.position.round(5) + 0.0, detector.normal.round(9) + 0.0
    columns = (detector.face, detector.pmt, detector.row, detector.col)
    for number, (face, pmt, row, col) in enumerate(zip(*columns, strict=True)):
        place = ",".join(f"{value:.5f}" for value in position[number])
        normal = ",".join(f"{value:.9f}" for value in normals[number])
        kind = "pmt" if pmt else "sipm"
        lines.append(f"{number},{face},{kind},{row},{col},{place},{normal}")
    return "\n".join(lines) + "\n"
