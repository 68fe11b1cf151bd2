import numpy as np
import pytest

from sciml.xec.physics.images import (
    hex_ids,
    inner_image,
    legacy_outer_coarse,
    legacy_outer_fine,
    outer_centre,
    outer_coarse,
    outer_fine,
    plane_image,
)
from sciml.xec.physics.sensors import face_ids, sensors


def alpha(ids: np.ndarray) -> np.ndarray:
    x, y, _ = np.moveaxis(sensors().position[ids], -1, 0)
    return np.degrees(np.arctan2(y, -x))


def z(ids: np.ndarray) -> np.ndarray:
    return sensors().position[ids][..., 2]


def test_shapes_and_ids() -> None:
    assert inner_image().shape == (93, 44)
    assert np.array_equal(np.sort(inner_image(), axis=None), face_ids("inner"))
    for face in ("us", "ds"):
        assert plane_image(face).shape == (24, 6)
        assert np.array_equal(np.sort(plane_image(face), axis=None), face_ids(face))
    for end in ("top", "bot"):
        assert np.array_equal(hex_ids(end), face_ids(end))
    assert outer_coarse().shape == (24, 9)
    assert outer_centre().shape == (6, 5)
    both = np.union1d(outer_coarse(), outer_centre())
    assert np.array_equal(both, face_ids("outer"))


def test_twelve_sensors_are_in_the_coarse_map_and_in_the_centre_patch() -> None:
    shared = np.intersect1d(outer_coarse(), outer_centre())
    # coarse rows 10 to 13, columns 3 to 5
    listed = [4185, 4186, 4187, 4194, 4195, 4196, 4203, 4204, 4205, 4212, 4213, 4214]
    assert shared.tolist() == listed
    assert np.array_equal(outer_coarse()[10:14, 3:6].ravel(), shared)


@pytest.mark.parametrize("image", [inner_image(), outer_centre(), plane_image("us")])
def test_alpha_falls_with_the_row(image: np.ndarray) -> None:
    assert (np.diff(alpha(image), axis=0) < -1).all()
    assert np.ptp(alpha(image), axis=1) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("image", [inner_image(), outer_centre(), plane_image("ds")])
def test_z_grows_with_the_column(image: np.ndarray) -> None:
    assert (np.diff(z(image), axis=1) > 1).all()
    assert np.ptp(z(image), axis=0) == pytest.approx(0, abs=1e-9)


def test_fine_grid_has_every_sensor_with_its_number_of_cells() -> None:
    ids, cells = outer_fine()
    assert ids.shape == cells.shape == (45, 72)
    found, count = np.unique(ids, return_counts=True)
    assert np.array_equal(found, face_ids("outer"))
    centre = np.isin(found, outer_centre())
    assert (count[centre] == 6).all()
    assert (count[~centre] == 15).all()
    assert np.array_equal(cells, count[np.searchsorted(found, ids)])
    # a count of 1 in each sensor, spread over its cells, is 234 again
    assert (1 / cells).sum() == pytest.approx(234)


def test_centre_patch_lies_in_its_rows_and_columns() -> None:
    ids, cells = outer_fine()
    inside = np.zeros((45, 72), dtype=bool)
    inside[15:30, 30:42] = True
    assert np.array_equal(np.isin(ids, outer_centre()), inside)
    assert np.array_equal(cells == 6, inside)
    assert (ids[15, 30], ids[15, 32], ids[18, 30], ids[29, 41]) == (4185, 4744, 4742, 4214)


def test_fine_cells_lie_at_their_sensors() -> None:
    """Rows along z and columns along alpha: no cell is far from the sensor that provides it."""
    ids, _ = outer_fine()
    row, column = np.indices(ids.shape)
    cell_z = (row - 22) * 10.356 / 5
    cell_alpha = (35.5 - column) * 5.23 / 3
    assert abs(cell_z - z(ids)).max() < 2 * 10.356 / 5 + 0.01
    assert abs(cell_alpha - alpha(ids)).max() < 5.23 / 3 + 0.01


def test_legacy_map_is_the_wrong_one() -> None:
    assert legacy_outer_coarse().shape == (9, 24)
    assert np.array_equal(legacy_outer_coarse().ravel(), np.arange(4092, 4308))
    ids, cells = legacy_outer_fine()
    assert np.array_equal(ids[15:30, 30:42], outer_fine()[0][15:30, 30:42])
    assert np.array_equal(cells, outer_fine()[1])
    assert np.array_equal(ids[::5, ::3][:3], legacy_outer_coarse()[:3])
    # neighbouring rows of its image are up to 83 cm apart in the detector
    position = sensors().position[legacy_outer_coarse()]
    assert np.linalg.norm(np.diff(position, axis=1), axis=-1).max() > 80


def test_images_belong_to_the_caller() -> None:
    inner_image()[0, 0] = -1
    outer_fine()[0][0, 0] = -1
    assert inner_image()[0, 0] == 0
    assert outer_fine()[0][0, 0] == 4092
