import numpy as np
import pytest

from sciml.xec.physics.coordinates import emission_angles, to_uvw, to_xyz
from sciml.xec.physics.reflections import reflection
from sciml.xec.physics.sensors import face_ids, sensors

SIGNS = {"z": (1.0, 1.0, -1.0), "y": (1.0, -1.0, 1.0), "zy": (1.0, -1.0, -1.0)}


@pytest.mark.parametrize("mirror", SIGNS)
def test_positions_and_normals_are_mirrored(mirror: str) -> None:
    p, table = reflection(mirror), sensors()
    assert table.position[p] == pytest.approx(table.position * SIGNS[mirror], abs=1e-3)  # 10 µm
    assert table.normal[p] == pytest.approx(table.normal * SIGNS[mirror], abs=1e-9)


@pytest.mark.parametrize("mirror", SIGNS)
def test_each_is_its_own_inverse(mirror: str) -> None:
    p = reflection(mirror)
    assert p.dtype == np.int64
    assert np.array_equal(np.sort(p), np.arange(4760))
    assert np.array_equal(p[p], np.arange(4760))


def test_both_together_are_one_after_the_other() -> None:
    z, y = reflection("z"), reflection("y")
    assert np.array_equal(reflection("zy"), z[y])
    assert np.array_equal(reflection("zy"), y[z])


def test_faces_are_exchanged() -> None:
    swapped = {"z": ("us", "ds"), "y": ("top", "bot")}
    for mirror, (one, other) in swapped.items():
        p = reflection(mirror)
        assert np.array_equal(np.sort(p[face_ids(one)]), face_ids(other))
        rest = [face for face in ("inner", "outer", "us", "top") if face != one]
        for face in rest:
            assert np.array_equal(np.sort(p[face_ids(face)]), face_ids(face))


def test_local_coordinates_and_angles_change_their_sign() -> None:
    uvw, direction = np.array([3.0, -20.0, 5.0]), np.array([-0.8, 0.36, 0.48])
    for mirror, axis, angle in (("z", 0, 0), ("y", 1, 1)):
        changed = uvw.copy()
        changed[axis] *= -1
        assert to_uvw(to_xyz(uvw) * SIGNS[mirror]) == pytest.approx(changed)
        before, after = emission_angles(direction), emission_angles(direction * SIGNS[mirror])
        wanted = before.copy()
        wanted[angle] = 180 - before[0] if angle == 0 else -before[1]
        assert after == pytest.approx(wanted)
