"""The detector against the table of its closed forms, written out sensor by sensor."""

import math
from collections.abc import Iterator

import numpy as np
import pytest

from sciml.xec.physics.constants import FACES, HARDWARE
from sciml.xec.physics.coordinates import in_volume
from sciml.xec.physics.sensors import (
    face_ids,
    hardware_to_output,
    output_to_hardware,
    sensors,
)

Vector = tuple[float, float, float]
CENTRE = [  # rows of the centre patch, alpha falls downwards, z grows to the right
    [4185, 4742, 4186, 4743, 4187],
    [4744, 4745, 4746, 4747, 4748],
    [4194, 4749, 4195, 4750, 4196],
    [4203, 4751, 4204, 4752, 4205],
    [4753, 4754, 4755, 4756, 4757],
    [4212, 4758, 4213, 4759, 4214],
]
COUNTS = {"inner": 4092, "us": 144, "ds": 144, "outer": 234, "top": 73, "bot": 73}


def place(radius: float, alpha: float, z: float) -> Vector:
    a = math.radians(alpha)
    return -radius * math.cos(a), radius * math.sin(a), z


def towards(alpha: float, radial: float, along: float) -> Vector:
    a = math.radians(alpha)
    return -radial * math.cos(a), radial * math.sin(a), along


def inner() -> Iterator[tuple[int, Vector, Vector]]:
    for row in range(93):
        for col in range(44):
            alpha = (46 - row) * 1.3496771
            z = (col - 21.5) * 1.5097721
            yield row * 44 + col, place(64.97, alpha, z), towards(alpha, 1, 0)


def outer() -> Iterator[tuple[int, Vector, Vector]]:
    for row in range(24):
        for col in range(9):
            alpha = (11.5 - row) * 5.23
            where = place(106.27, alpha, (col - 4) * 10.356)
            yield 4092 + row * 9 + col, where, towards(alpha, -1, 0)
    for row, ids in enumerate(CENTRE):
        for col, number in enumerate(ids):
            alpha = (2.5 - row) * 5.23 * 2 / 3
            yield number, place(106.27, alpha, (col - 2) * 6.2), towards(alpha, -1, 0)


def sides() -> Iterator[tuple[int, Vector, Vector]]:
    for start, sign in ((4308, -1), (4452, 1)):
        for row in range(24):
            for col in range(6):
                alpha = (11.5 - row) * 5.23
                where = place(69.53 + 6.684 * col, alpha, sign * (35.1547 + 2.3369 * col))
                facing = towards(alpha, 2.3369 / 7.0808, -sign * 6.684 / 7.0808)
                yield start + row * 6 + col, where, facing


def ends() -> Iterator[tuple[int, Vector, Vector]]:
    for start, sign in ((4596, 1), (4669, -1)):
        number = start
        for row, width in enumerate((11, 12, 11, 12, 13, 14)):
            for col in range(width):
                where = place(68.27 + 6.91 * row, sign * 62.76, (col - (width - 1) / 2) * 6.12)
                a = math.radians(62.76)
                yield number, where, (-math.sin(a), -sign * math.cos(a), 0)
                number += 1


def test_positions_and_normals_are_those_of_the_table() -> None:
    position, normal = np.full((2, 4760, 3), np.nan)
    for maker in (inner, outer, sides, ends):
        for number, where, facing in maker():
            position[number], normal[number] = where, facing
    assert sensors().position == pytest.approx(position, abs=1e-9)
    assert sensors().normal == pytest.approx(normal, abs=1e-5)  # the table has five digits


def test_numbers_of_sensors() -> None:
    assert {face: len(face_ids(face)) for face in FACES} == COUNTS
    assert np.concatenate([face_ids(face) for face in FACES]).size == 4760
    assert np.count_nonzero(sensors().pmt) == 668
    assert np.array_equal(np.nonzero(~sensors().pmt)[0], face_ids("inner"))


def test_face_ids_grow_and_lie_where_the_table_says() -> None:
    for face, first, last in (
        ("inner", 0, 4091),
        ("us", 4308, 4451),
        ("ds", 4452, 4595),
        ("outer", 4092, 4759),
        ("top", 4596, 4668),
        ("bot", 4669, 4741),
    ):
        ids = face_ids(face)
        assert (ids[0], ids[-1]) == (first, last)
        assert (np.diff(ids) > 0).all()
    with pytest.raises(ValueError, match="no face 'left'; there are inner, us, ds, outer, top"):
        face_ids("left")


def test_no_two_sensors_share_a_place() -> None:
    position = sensors().position
    assert len(np.unique(position.round(3), axis=0)) == 4760
    near = np.linalg.norm(position[4092:, None] - position[None, 4092:], axis=-1)
    np.fill_diagonal(near, np.inf)
    assert near.min() > 2 * 2.25  # photocathodes do not overlap


def test_normals_are_unit_vectors_into_the_xenon() -> None:
    table = sensors()
    assert np.linalg.norm(table.normal, axis=1) == pytest.approx(1, abs=1e-12)
    assert in_volume(table.position + 0.1 * table.normal).all()
    assert not in_volume(table.position - 0.1 * table.normal).any()


def test_both_codes_of_the_faces() -> None:
    # output code and hardware code of one sensor of each face, from the table
    for number, output, hardware in (
        (0, 0, 0),
        (4308, 1, 2),
        (4452, 2, 3),
        (4092, 3, 1),
        (4759, 3, 1),
        (4596, 4, 4),
        (4669, 5, 5),
    ):
        assert sensors().face[number] == output
        assert sensors().hardware[number] == hardware
    codes = np.arange(6)
    assert output_to_hardware(codes).tolist() == [0, 2, 3, 1, 4, 5] == list(HARDWARE)
    assert hardware_to_output(codes).tolist() == [0, 3, 1, 2, 4, 5]
    assert np.array_equal(hardware_to_output(output_to_hardware(codes)), codes)
    assert np.array_equal(hardware_to_output(sensors().hardware), sensors().face)


@pytest.mark.parametrize("wrong", [-1, 6])
def test_unknown_code_of_a_face_is_refused(wrong: int) -> None:
    for convert in (hardware_to_output, output_to_hardware):
        with pytest.raises(ValueError, match=f"{wrong} is the code of no face; give 0 to 5"):
            convert(np.array([0, wrong]))


def test_rows_and_columns_are_those_of_the_grids() -> None:
    table = sensors()
    grids = {4091: (92, 43), 4092: (0, 0), 4307: (23, 8), 4185: (10, 3), 4214: (13, 5)}
    grids |= {4451: (23, 5), 4452: (0, 0), 4596: (0, 0), 4606: (0, 10), 4607: (1, 0)}
    grids |= {4741: (5, 13), 4742: (0, 1), 4744: (1, 0), 4759: (5, 3)}
    for number, (row, col) in grids.items():
        assert (table.row[number], table.col[number]) == (row, col), number


def test_the_tables_cannot_be_changed() -> None:
    for values in vars(sensors()).values():
        with pytest.raises(ValueError, match="read-only"):
            values[0] = 0
    assert sensors().position.dtype == np.float64
    assert sensors().face.dtype == sensors().row.dtype == np.int64
