import math

import numpy as np
import pytest
import torch
from gammas import START, gammas
from torch import Tensor

from sciml.xec.physics.anchors import Anchors, Conventional
from sciml.xec.physics.constants import INNER, INVALID, LIGHT, RADIUS
from sciml.xec.physics.reflections import reflection
from sciml.xec.physics.sensors import sensors
from sciml.xec.physics.statistics import EventStatistics


def tensors(anchors: Anchors) -> list[Tensor]:
    """All numbers of the estimates."""
    return [*anchors._replace(moments=anchors.uv), *anchors.moments]  # type: ignore[list-item, arg-type]


def conventional(dtype: torch.dtype = torch.float64) -> Conventional:
    module = Conventional()
    weights = np.array([1e-7, 2e-7, 3e-7, 4e-7, 5e-7, 6e-7], np.float32)
    module.set_statistics(EventStatistics(weights, (4.0, 0.0), 4.0, 10))
    return module.to(dtype)


def test_estimates_are_those_of_slow_formulas() -> None:
    batch = gammas(4)
    batch["npho"][0, 5] = INVALID
    batch["relative_time"][1, 77] = torch.nan
    found = conventional()(batch["npho"], batch["relative_time"])
    table = sensors()
    for event in range(4):
        n = batch["npho"][event].double().numpy()
        n = np.where(n > 9e9, 0.0, n)
        alive = batch["npho"][event].numpy() < 9e9
        image, live = n[:INNER].reshape(93, 44), alive[:INNER].reshape(93, 44)
        best, place = -1.0, (0, 0)
        for row in range(93):
            for col in range(44):
                part = (slice(max(0, row - 1), row + 2), slice(max(0, col - 1), col + 2))
                mean = image[part][live[part]].sum() / live[part].sum()
                if mean > best:
                    best, place = mean, (row, col)
        assert found.place[event].tolist() == list(place)
        middle = table.position[place[0] * 44 + place[1]]
        sums = np.zeros(3)
        for sensor in range(INNER):
            x, y, z = table.position[sensor]
            v = RADIUS * math.atan2(y, -x)
            v0 = RADIUS * math.atan2(middle[1], -middle[0])
            if abs(z - middle[2]) < 6 and abs(v - v0) < 6:
                weight = n[sensor] ** 1.5
                sums += weight * np.array([z, v, 1])
        np.testing.assert_allclose(found.uv[event], sums[:2] / sums[2], rtol=1e-5, atol=1e-5)
        faces = [n[table.face == code].sum() for code in range(6)]
        np.testing.assert_allclose(found.faces[event], faces, rtol=1e-12)
        np.testing.assert_allclose(
            found.energy[event], np.dot(faces, np.arange(1, 7) * 1e-7), rtol=1e-6
        )


def test_time_of_the_interaction_is_found_without_noise() -> None:
    batch = gammas(6)
    module = conventional()
    module.walk.zero_()
    found = module(batch["npho"], batch["relative_time"])
    flight = batch["xyz"].double().norm(dim=1) / LIGHT
    estimate = 1e9 * batch["time_min"].double() + found.time
    # the light comes from the true depth, the estimate takes it from 3 cm
    assert (estimate - START - flight).abs().max() < 0.4
    assert found.late[found.timed].abs().max() < 3


@pytest.mark.parametrize(("mirror", "sign"), [("z", (-1, 1)), ("y", (1, -1)), ("zy", (-1, -1))])
def test_a_mirrored_event_has_mirrored_estimates(mirror: str, sign: tuple[int, int]) -> None:
    batch, module = gammas(4), conventional()
    order = torch.tensor(reflection(mirror))  # type: ignore[arg-type]
    weights = module.face_weights.clone()
    if "z" in mirror:
        weights[[1, 2]] = weights[[2, 1]]
    if "y" in mirror:
        weights[[4, 5]] = weights[[5, 4]]
    before = module(batch["npho"], batch["relative_time"])
    module.face_weights.copy_(weights)
    after = module(batch["npho"][:, order], batch["relative_time"][:, order])
    torch.testing.assert_close(after.uv, before.uv * torch.tensor(sign), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(after.energy, before.energy, rtol=1e-12, atol=0.0)
    torch.testing.assert_close(after.time, before.time, rtol=0.0, atol=1e-6)


def test_dead_and_dark_events_stay_finite() -> None:
    batch = gammas(3)
    batch["npho"][0] = INVALID
    batch["npho"][1] = 0.0
    batch["npho"][2, :INNER] = INVALID
    found = conventional()(batch["npho"], batch["relative_time"])
    for values in tensors(found):
        assert torch.isfinite(values.double()).all()
    assert not found.alive[0].any()
    assert not found.timed[:2].any()


def test_mixed_precision_leaves_the_estimates_alone() -> None:
    batch, module = gammas(2), conventional(torch.float32)
    plain = module(batch["npho"], batch["relative_time"])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = module(batch["npho"], batch["relative_time"])
    for one, other in zip(tensors(plain), tensors(mixed), strict=True):
        assert torch.equal(one, other)
