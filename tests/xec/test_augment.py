import numpy as np
import pytest
import torch
from gammas import gammas

from sciml.xec.physics.anchors import Conventional
from sciml.xec.physics.constants import INVALID, SENSORS
from sciml.xec.physics.coordinates import to_uvw
from sciml.xec.task.augment import Augment, augment


def test_nothing_changes_by_default() -> None:
    batch = gammas(3)
    out = augment(batch, Augment())
    assert out.keys() == batch.keys()
    assert all(torch.equal(out[name], values) for name, values in batch.items())


def test_mirror_images_move_the_light_and_the_truth_together() -> None:
    torch.manual_seed(0)
    batch = gammas(40)
    out = augment(batch, Augment(reflections=True))
    found = Conventional()(out["npho"], out["relative_time"]).uv
    before = Conventional()(batch["npho"], batch["relative_time"]).uv
    signs = out["uvw"][:, :2] / batch["uvw"][:, :2]
    torch.testing.assert_close(found, before * signs, atol=1e-3, rtol=1e-4)
    torch.testing.assert_close(to_uvw(out["xyz"]), out["uvw"], atol=1e-4, rtol=1e-5)
    direction = out["xyz"] / out["xyz"].norm(dim=1, keepdim=True)  # the vertex is the origin
    torch.testing.assert_close(out["direction"], direction)
    kinds = {tuple(row) for row in signs.round().int().tolist()}
    assert kinds == {(1, 1), (-1, 1), (1, -1), (-1, -1)}
    assert torch.equal(out["energy"], batch["energy"])


def test_gains_and_clocks_change_live_sensors_alone() -> None:
    torch.manual_seed(0)
    batch = gammas(30)
    batch["npho"][:, :50] = INVALID
    out = augment(batch, Augment(gain=0.03, time=0.05))
    assert torch.equal(out["npho"][:, :50], batch["npho"][:, :50])
    lit = (batch["npho"] > 1) & (batch["npho"] < INVALID)
    assert float((out["npho"] / batch["npho"])[lit].std()) == pytest.approx(0.03, rel=0.02)
    timed = batch["relative_time"] < INVALID
    assert torch.equal(out["relative_time"][~timed], batch["relative_time"][~timed])
    shift = 1e9 * (out["relative_time"] - batch["relative_time"])[timed]
    assert float(shift.std()) == pytest.approx(0.05, rel=0.02)


def test_photons_vary_as_if_they_were_counted_again() -> None:
    torch.manual_seed(0)
    batch = gammas(1)
    batch["npho"] = torch.full((50, SENSORS), 400.0)
    batch["npho"][:, :10] = INVALID
    batch["npho"][:, 10:20] = -3.0  # noise below zero
    batch["relative_time"] = torch.zeros(50, SENSORS)
    found = augment(batch, Augment(counting=0.5))["npho"]
    assert torch.equal(found[:, :20], batch["npho"][:, :20])
    # 48 and 64 photo-electrons of 400 photons: half the variance of counting them, in photons
    assert float(found[:, 20:4092].std()) == pytest.approx(400 * (0.5 / 48) ** 0.5, rel=0.02)
    assert float(found[:, 4092:].std()) == pytest.approx(400 * (0.5 / 64) ** 0.5, rel=0.02)
    assert float(found[:, 20:].mean()) == pytest.approx(400, rel=1e-3)


def test_all_gains_of_an_event_change_together() -> None:
    torch.manual_seed(0)
    batch = gammas(20)
    out = augment(batch, Augment(gain_all=0.05))
    ratio = (out["npho"] / batch["npho"]).numpy()
    assert np.nanstd(ratio, axis=1).max() < 1e-5
    assert 0.95 <= np.nanmin(ratio) < 0.99
    assert 1.01 < np.nanmax(ratio) <= 1.05


def test_dead_sensors_have_neither_light_nor_time() -> None:
    torch.manual_seed(0)
    batch = gammas(20)
    out = augment(batch, Augment(dead=0.1, dead_pattern=100))
    dead = out["npho"] > 9e9
    assert torch.equal(out["relative_time"][dead], torch.full_like(out["npho"][dead], INVALID))
    assert 0.08 < dead.float().mean() < 0.13
    assert dead.all(0).sum() <= 100
    assert torch.equal(out["npho"][~dead], batch["npho"][~dead])


def test_draws_follow_the_seed() -> None:
    how = Augment(True, 0.1, 0.1, counting=0.1, time=0.1, dead=0.1, dead_pattern=10)
    found = []
    for _ in range(2):
        torch.manual_seed(3)
        found.append(augment(gammas(4), how))
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])


@pytest.mark.parametrize("given", [{"gain": -0.1}, {"dead": 1.0}, {"dead_pattern": 4760}])
def test_wrong_settings_are_named(given: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"model\.augment\."):
        Augment(**given)  # type: ignore[arg-type]
