import math

import numpy as np
import pytest
import torch

from sciml.xec.physics.coordinates import (
    emission_angles,
    emission_direction,
    in_fiducial,
    in_volume,
    local_frame,
    opening_angle,
    to_uvw,
    to_xyz,
)
from sciml.xec.physics.sensors import face_ids, sensors

RNG = np.random.default_rng(0)
PLACES = RNG.uniform([-33, -71, -0.1], [33, 71, 41], (500, 3))  # u, v, w in cm
DIRECTIONS = RNG.normal(size=(500, 3))
DIRECTIONS /= np.linalg.norm(DIRECTIONS, axis=1, keepdims=True)


def test_local_coordinates_of_known_places() -> None:
    # R = 64.97: on the surface in the middle, 1 cm behind it at 30 degrees, and along z
    xyz = [[-64.97, 0, 0], [-65.97 * math.cos(math.pi / 6), 65.97 / 2, 7], [-64.97, 0, -3]]
    uvw = [[0, 0, 0], [7, 64.97 * math.pi / 6, 1], [-3, 0, 0]]
    assert to_uvw(np.array(xyz)) == pytest.approx(np.array(uvw), abs=1e-12)
    assert to_xyz(np.array(uvw)) == pytest.approx(np.array(xyz), abs=1e-12)


def test_local_coordinates_come_back() -> None:
    assert to_uvw(to_xyz(PLACES)) == pytest.approx(PLACES, abs=1e-10)
    xyz = to_xyz(PLACES)
    assert to_xyz(to_uvw(xyz)) == pytest.approx(xyz, abs=1e-10)


def test_inner_sensors_have_no_depth() -> None:
    uvw = to_uvw(sensors().position[face_ids("inner")])
    assert uvw[:, 2] == pytest.approx(0, abs=1e-10)
    # u and v of the first sensor: 21.5 columns and 46 rows from the middle
    first = [-21.5 * 1.5097721, 64.97 * math.radians(46 * 1.3496771), 0]
    assert uvw[0] == pytest.approx(first, abs=1e-10)


def test_emission_angles_of_known_directions() -> None:
    axes = np.array([[-1.0, 0, 0], [0, 1, 0], [0, 0, 1], [0, -1, 0], [1, 0, 0]])
    angles = emission_angles(axes)
    assert angles[:, 0] == pytest.approx([90, 90, 0, 90, 90])
    assert angles[[0, 1, 3], 1] == pytest.approx([0, 90, -90])
    assert abs(angles[4, 1]) == pytest.approx(180)
    tilted = emission_direction(np.array([60.0, 30.0]))
    # (-sin 60 cos 30, sin 60 sin 30, cos 60)
    assert tilted == pytest.approx([-0.75, math.sqrt(3) / 4, 0.5])


def test_emission_angles_come_back() -> None:
    assert emission_direction(emission_angles(DIRECTIONS)) == pytest.approx(DIRECTIONS, abs=1e-12)
    lengths = RNG.uniform(0.1, 9, (500, 1))
    assert emission_angles(lengths * DIRECTIONS) == pytest.approx(emission_angles(DIRECTIONS))


def test_emission_angles_agree_with_the_definition() -> None:
    x, y, z = DIRECTIONS.T
    assert emission_angles(DIRECTIONS)[:, 0] == pytest.approx(np.degrees(np.arccos(z)), abs=1e-9)
    assert emission_angles(DIRECTIONS)[:, 1] == pytest.approx(np.degrees(np.arctan2(y, -x)))


@pytest.mark.parametrize("angle", [0.0, 1e-7, 1e-3, 31.0, 90.0, 179.9999, 180.0])
def test_opening_angle_is_accurate_everywhere(angle: float) -> None:
    a = np.array([0.6, 0.0, 0.8])
    across = np.array([0.0, 1.0, 0.0])
    b = a * math.cos(math.radians(angle)) + across * math.sin(math.radians(angle))
    assert opening_angle(a, b) == pytest.approx(angle, abs=1e-12, rel=1e-9)
    small = opening_angle(torch.tensor(a, dtype=torch.float32), torch.tensor(b).float())
    assert small.item() == pytest.approx(angle, abs=2e-5)


def test_local_frame_is_made_of_the_derivatives_of_the_place() -> None:
    frame, step = local_frame(PLACES), 1e-4
    stretch = (PLACES[:, 2] + 64.97) / 64.97  # a cm of v is longer behind the surface
    for row, axis in enumerate((2, 1, 0)):
        shift = step * np.eye(3)[axis]
        slope = (to_xyz(PLACES + shift) - to_xyz(PLACES - shift)) / (2 * step)
        slope /= stretch[:, None] if axis == 1 else 1
        assert frame[:, row] == pytest.approx(slope, abs=1e-7)
    identity = np.broadcast_to(np.eye(3), frame.shape)
    assert frame @ frame.swapaxes(1, 2) == pytest.approx(identity, abs=1e-12)


def test_fiducial_volume() -> None:
    uvw = np.array([[0, 0, 0], [23.9, 0, 1], [-23.8, 67.8, 1], [0, -67.9, 1], [0, 0, -1e-3]])
    assert in_fiducial(uvw).tolist() == [True, False, True, False, False]
    deep = np.array([[0.0, 0, 38.5], [0, 0, 38.6]])
    assert in_fiducial(deep).tolist() == [True, True]
    assert in_fiducial(deep, depth=38.5).tolist() == [True, False]


def test_active_volume() -> None:
    inside = [[0.0, 0, 0.01], [33.5, 0, 0.01], [46, 0, 36.0], [0, 71.1, 5], [0, -71.1, 5]]
    outside = [[0.0, 0, -0.01], [33.7, 0, 0.01], [46.2, 0, 36.0], [0, 71.3, 5], [0, 0, 41.31]]
    assert in_volume(to_xyz(np.array(inside))).all()
    assert not in_volume(to_xyz(np.array(outside))).any()
    behind = np.array([[80.0, 0, 0], [0, 90, 0]])  # the other side of the axis, and above
    assert not in_volume(behind).any()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_tensors_and_arrays_give_the_same_and_keep_their_type(dtype: str) -> None:
    uvw = PLACES.astype(dtype)
    xyz, angles = to_xyz(uvw), emission_angles(DIRECTIONS.astype(dtype))
    for function, values in (
        (to_uvw, xyz),
        (to_xyz, uvw),
        (emission_angles, DIRECTIONS.astype(dtype)),
        (emission_direction, angles),
        (local_frame, uvw),
        (in_fiducial, uvw),
        (in_volume, xyz),
    ):
        array, tensor = function(values), function(torch.from_numpy(values))
        assert isinstance(tensor, torch.Tensor)
        wanted = "bool" if function in (in_fiducial, in_volume) else dtype
        assert (str(array.dtype), str(tensor.dtype)) == (wanted, f"torch.{wanted}")
        assert tensor.numpy() == pytest.approx(array, abs=1e-4 if dtype == "float32" else 1e-11)
    a = DIRECTIONS.astype(dtype)
    tensor = opening_angle(torch.from_numpy(a[:-1]), torch.from_numpy(a[1:]))
    assert tensor.dtype == getattr(torch, dtype)
    assert tensor.numpy() == pytest.approx(opening_angle(a[:-1], a[1:]), abs=1e-4)


def test_coordinates_can_be_differentiated() -> None:
    xyz = torch.tensor(to_xyz(PLACES[:5]), requires_grad=True)
    assert torch.autograd.gradcheck(to_uvw, (xyz,))
    direction = torch.tensor(DIRECTIONS[:5], requires_grad=True)
    assert torch.autograd.gradcheck(emission_angles, (direction,))
    other = torch.tensor(DIRECTIONS[5:10])
    assert torch.autograd.gradcheck(lambda a: opening_angle(a, other), (direction,))
