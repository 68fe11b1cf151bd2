import math

import numpy as np
import pytest
import torch

from sciml.xec.physics.coordinates import to_xyz
from sciml.xec.physics.elliptic import carlson
from sciml.xec.physics.sensors import face_ids, sensors
from sciml.xec.physics.solid_angle import disc, rectangle, sensor_solid_angles, shadowed

RNG = np.random.default_rng(0)
RAYS = 1_000_000
PLACES = to_xyz(RNG.uniform([-23, -67, 0.3], [23, 67, 38], (12, 3)))
ONE_OF_EACH = [10, 2046, 4100, 4195, 4350, 4500, 4600, 4700]


def rays(axis: np.ndarray, cosine: float) -> np.ndarray:
    """Directions spread evenly over the cone around an axis."""
    along = RNG.uniform(cosine, 1, RAYS)
    turn = RNG.uniform(0, 2 * math.pi, RAYS)
    across = np.sqrt(1 - along**2)
    first = np.linalg.svd(axis[None])[2][1:]  # two directions normal to the axis
    sides = across[:, None] * (np.cos(turn)[:, None] * first[0] + np.sin(turn)[:, None] * first[1])
    return along[:, None] * axis + sides


def monte_carlo(point: np.ndarray, number: int) -> float:
    """Fraction of all directions from a point that end on the active area of a sensor."""
    table = sensors()
    middle, normal = table.position[number], table.normal[number]
    reach = 2.25 if number >= 4092 else math.hypot(0.615, 0.615)
    away = np.linalg.norm(middle - point)
    cosine = math.sqrt(1 - (reach / away) ** 2) if away > reach else -1.0
    direction = rays((middle - point) / away, cosine)
    speed = direction @ normal
    length = ((middle - point) @ normal) / np.where(speed == 0, 1.0, speed)
    hit = point + length[:, None] * direction - middle
    if number >= 4092:
        inside = np.linalg.norm(hit, axis=1) < 2.25
    else:  # chips of 0.59 cm on either side of a gap of 0.05 cm, along z and around the axis
        tangent = np.array([-normal[1], normal[0], 0.0])
        sides = abs(np.stack([hit[:, 2], hit @ tangent]))
        inside = ((sides > 0.025) & (sides < 0.615)).all(0)
    return float(np.mean(inside & (length > 0)) * (1 - cosine) / 2)


@pytest.mark.parametrize("number", [10, 4195, 4500, 4700])
@pytest.mark.parametrize(("height", "aside"), [(0.3, 0.4), (1.5, 2.25), (6.0, 3.0)])
def test_solid_angles_are_those_of_a_million_rays(number: int, height: float, aside: float) -> None:
    normal = sensors().normal[number]
    across = np.cross(normal, [0.3, 0.5, 0.7])
    across *= aside / np.linalg.norm(across)
    point = sensors().position[number] + height * normal + across
    wanted = monte_carlo(point, number)
    for points in (point[None], torch.from_numpy(point[None])):
        found = sensor_solid_angles(points, [number], shadow=False)
        assert float(found[0, 0]) == pytest.approx(wanted, rel=0.01)


def test_far_sensors_are_small_flat_areas() -> None:
    table = sensors()
    step = PLACES[:, None] - table.position
    distance = np.linalg.norm(step, axis=-1)
    cosine = (step * table.normal).sum(-1) / distance
    area = np.where(table.pmt, math.pi * 2.25**2, 4 * 0.59**2)
    flat = area * cosine / (4 * math.pi * distance**2)
    far = (distance > np.where(table.pmt, 45.0, 12.0)) & (cosine > 0.2)
    found = sensor_solid_angles(PLACES, shadow=False)
    assert np.count_nonzero(far) > 5000
    assert found[far] == pytest.approx(flat[far], rel=0.01)


def test_rectangles_and_discs_by_hand() -> None:
    one = np.ones(1)
    # a face of a cube seen from its middle, and from the middle of the opposite face
    assert rectangle((-one, one), (-one, one), one) == pytest.approx(1 / 6, rel=1e-14)
    far = math.asin(1 / 5) / math.pi  # side 1, height 1: 4 asin(1/5) steradian
    assert rectangle((-one / 2, one / 2), (-one / 2, one / 2), one) == pytest.approx(far)
    on_axis = (1 - 1 / math.sqrt(2)) / 2
    assert disc(2.0, 2 * one, 0 * one) == pytest.approx(on_axis, rel=1e-14)
    # touching the plane: half of the sphere inside the rim, a quarter on it, nothing outside
    close = disc(2.0, 1e-9 * np.ones(3), np.array([1.0, 2.0, 3.0]))
    assert close == pytest.approx([0.5, 0.25, 0.0], abs=1e-8)


@pytest.mark.parametrize("kind", ["array", "tensor"])
def test_discs_are_smooth_across_their_rim(kind: str) -> None:
    step = np.array([-1e-3, -1e-5, -1e-8, 0, 1e-8, 1e-5, 1e-3])
    height, distance = np.full(7, 0.5), 2.25 + step
    if kind == "array":
        found = disc(2.25, height, distance)
    else:
        found = disc(2.25, torch.from_numpy(height), torch.from_numpy(distance)).numpy()
    slope = (found[-1] - found[0]) / 0.002
    assert found == pytest.approx(found[3] + slope * step, abs=1e-7)


def test_nothing_is_seen_from_behind() -> None:
    table = sensors()
    behind = table.position[ONE_OF_EACH] - 0.5 * table.normal[ONE_OF_EACH]
    found = sensor_solid_angles(behind, ONE_OF_EACH, shadow=False)
    assert np.diag(found).tolist() == [0.0] * len(ONE_OF_EACH)
    front = table.position[ONE_OF_EACH] + 0.5 * table.normal[ONE_OF_EACH]
    assert (np.diag(sensor_solid_angles(front, ONE_OF_EACH)) > 0.01).all()


def test_light_at_a_place_reaches_less_than_all_sensors() -> None:
    total = sensor_solid_angles(PLACES).sum(1)
    assert (total > 0.2).all()
    assert (total < 0.6).all()


def test_shadow_is_where_the_line_of_sight_meets_the_cylinder() -> None:
    positions = sensors().position[4092:]
    share = np.linspace(0, 1, 1001)[:, None, None]
    hidden = shadowed(PLACES, positions)
    for point, found in zip(PLACES, hidden, strict=True):
        line = point[:2] * (1 - share) + positions[:, :2] * share
        nearest = np.linalg.norm(line, axis=-1).min(0)
        clear = abs(nearest - 64.9) > 0.01
        assert np.array_equal(found[clear], nearest[clear] < 64.9)
    assert 0.02 < hidden.mean() < 0.5
    tensor = shadowed(torch.from_numpy(PLACES), torch.tensor(positions))
    assert np.array_equal(tensor.numpy(), hidden)


def test_photomultipliers_in_the_shadow_see_nothing() -> None:
    ids = np.arange(4000, 4760)
    open_, shut = (sensor_solid_angles(PLACES, ids, shadow=shadow) for shadow in (False, True))
    hidden = shadowed(PLACES, sensors().position[ids]) & sensors().pmt[ids]
    assert (shut[hidden] == 0).all()
    assert (open_[hidden] > 0).any()
    assert np.array_equal(shut[~hidden], open_[~hidden])


def test_tensors_give_what_arrays_give() -> None:
    wanted = sensor_solid_angles(PLACES)
    found = sensor_solid_angles(torch.from_numpy(PLACES))
    assert found.shape == (12, 4760)
    assert found.numpy() == pytest.approx(wanted, abs=1e-14)


def test_sensors_come_in_the_order_asked_for() -> None:
    ids = [4700, 3, 4100, 2, 4699, 3]
    everything = sensor_solid_angles(PLACES)
    assert np.array_equal(sensor_solid_angles(PLACES, ids), everything[:, ids])
    inner = face_ids("inner")
    assert np.array_equal(sensor_solid_angles(PLACES, inner), everything[:, inner])


def test_type_is_kept_and_double_precision_is_inside() -> None:
    points = PLACES.astype(np.float32)
    exact = sensor_solid_angles(points.astype(np.float64))
    for values in (points, torch.from_numpy(points)):
        found = sensor_solid_angles(values)
        assert str(found.dtype).endswith("float32")
        # float32 inside would leave nothing of the far corners of a chip
        assert np.asarray(found) == pytest.approx(exact, rel=1e-6, abs=1e-12)
    height, edge = np.full(2, 80.0, np.float32), np.full(2, 0.3, np.float32)
    assert rectangle((-edge, edge), (-edge, edge), height).dtype == np.float32
    assert disc(2.25, torch.from_numpy(height), torch.from_numpy(edge)).dtype == torch.float32


def test_derivatives_with_respect_to_the_points() -> None:
    points = torch.tensor(PLACES[:3], requires_grad=True)
    ids = [1, 2046, *ONE_OF_EACH[2:]]
    assert torch.autograd.gradcheck(lambda x: sensor_solid_angles(x, ids), (points,))
    on_axis = sensors().position[4195] + 5.0 * sensors().normal[4195]
    axis = torch.tensor(on_axis[None], requires_grad=True)
    sensor_solid_angles(axis, [4195]).sum().backward()
    assert axis.grad is not None
    assert bool(torch.isfinite(axis.grad).all())


def test_elliptic_integrals_of_tensors_are_those_of_scipy() -> None:
    y = 10 ** RNG.uniform(-18, 0, 3000)
    p = np.clip(y * 10 ** RNG.uniform(-8, 0, 3000), 1e-18, None)
    found = carlson(torch.from_numpy(y), torch.from_numpy(np.minimum(y, p)))
    for tensor, array in zip(found, carlson(y, np.minimum(y, p)), strict=True):
        assert tensor.numpy() == pytest.approx(array, rel=1e-13)
    # R_F(0, 1, 1) = pi/2 and R_J(0, 1, 1, 1) = 3 pi/4
    assert carlson(np.ones(1), np.ones(1)) == pytest.approx((math.pi / 2, 3 * math.pi / 4))


@pytest.mark.export
def test_exported_programs_have_no_arctangent_and_agree() -> None:
    class Angles(torch.nn.Module):
        def forward(self, points: torch.Tensor) -> torch.Tensor:
            return sensor_solid_angles(points, ONE_OF_EACH)

    points = torch.from_numpy(PLACES)
    batch = torch.export.Dim("batch")
    program = torch.export.export(Angles(), (points[:4],), dynamic_shapes=({0: batch},))
    assert not [node for node in program.graph.nodes if "atan" in str(node.target)]
    assert torch.allclose(program.module()(points), Angles()(points), rtol=1e-9, atol=1e-14)
